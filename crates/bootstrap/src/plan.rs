//! The difference between what is desired and what there is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString};
use vault_client::approle::Role;
use vault_client::kv2::Written;

use crate::BootstrapError;
use crate::applied::Applied;
use crate::args::Prune;
use crate::audit::Audit;
use crate::desired::{Desired, DesiredService, policy_name};
use crate::limits;
use crate::manifest::GenerateSpec;
use crate::merge::{KeyChange, Values, merge};
use crate::observed::{Observed, ObservedService, path};
use crate::prune::Leftover;

/// What the descriptions and custom metadata of everything that bootstrap makes begin with.
pub(crate) const MARK: &str = "vaultcrew";

/// Where in Vault things go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mounts<'a> {
    pub(crate) kv: &'a str,
    pub(crate) approle: &'a str,
}

/// What somebody asked for, beside what the files say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How<'a> {
    pub(crate) overwrite: bool,
    pub(crate) prune: Prune,
    /// The file of the audit device to enable where there is none.
    pub(crate) audit_file: Option<&'a str>,
}

/// Everything that is to be done.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) enable_kv: bool,
    pub(crate) enable_approle: bool,
    pub(crate) lockout: Lockout,
    pub(crate) audit: Audit,
    /// The file of the audit device to enable.
    pub(crate) audit_file: Option<String>,
    pub(crate) services: Vec<ServicePlan>,
    /// Generated values that services share, and that differ between them.
    pub(crate) differing: Vec<Differing>,
    /// What no file declares any more, and how much of that goes.
    pub(crate) leftovers: Vec<Leftover>,
    pub(crate) prune: Prune,
}

/// A generated value that is another than that of the first service that shares it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Differing {
    pub(crate) service: String,
    /// Its name in the service's secret.
    pub(crate) key: String,
    pub(crate) first: String,
}

/// What is to be done about the user lockout of the AppRole mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lockout {
    /// It is off.
    #[default]
    Leave,
    /// It is on, or will be, at a mount that is ours.
    Disable,
    /// It is on at a mount that bootstrap did not make: somebody must decide.
    Ask,
}

/// What is to be done for one service.
#[derive(Debug)]
pub(crate) struct ServicePlan {
    pub(crate) name: String,
    /// The policy's text, where it differs, and whether there was another.
    pub(crate) policy: Option<(String, bool)>,
    /// The role, where it differs, and in which settings (none where it is new).
    pub(crate) role: Option<(Role, Vec<&'static str>)>,
    /// What differs, is not bootstrap's, and stays.
    pub(crate) foreign: Vec<String>,
    pub(crate) secret: SecretPlan,
    /// It is given a value that was generated for another service just now, which is to be written first.
    pub(crate) follows: bool,
}

/// What is to be done to a secret.
#[derive(Debug)]
pub(crate) struct SecretPlan {
    pub(crate) values: Values,
    pub(crate) changes: BTreeMap<String, KeyChange>,
    /// Whether a version is to be written, and on top of which.
    pub(crate) write_on: Option<u64>,
    /// The version that is written, or was found to be right.
    pub(crate) applied: Applied,
    /// Whether the note of it is not there yet.
    pub(crate) is_to_be_noted: bool,
    /// The version that was found to be right, where none is written.
    pub(crate) found: Option<Written>,
    /// The record says that nothing is to be done: the values were not read.
    pub(crate) is_settled: bool,
    /// What else is in the custom metadata and stays there.
    pub(crate) custom_metadata: BTreeMap<String, String>,
}

impl Plan {
    /// Computes the plan. `random` makes a value for a key that is to be generated.
    pub(crate) fn compute(
        desired: &Desired,
        observed: &Observed,
        mounts: Mounts<'_>,
        how: How<'_>,
        random: impl Fn(&GenerateSpec) -> Result<SecretString, getrandom::Error>,
    ) -> Result<Self, BootstrapError> {
        if let Some(found) = observed.kv_mount.as_ref().filter(|found| *found != "kv2") {
            return Err(BootstrapError::OtherMount {
                mount: format!("{}/", mounts.kv),
                found: found.clone(),
                wanted: "kv version 2",
            });
        }
        let approle = observed.approle_mount.as_ref();
        if let Some(found) = approle.filter(|found| found.mount_type != "approle") {
            return Err(BootstrapError::OtherMount {
                mount: format!("auth/{}/", mounts.approle),
                found: found.mount_type.clone(),
                wanted: "approle",
            });
        }
        let nothing = ObservedService::default();
        let mut generated = already_generated(desired, observed);
        let mut new = BTreeSet::new();
        let services = desired.services.iter().map(|service| {
            let observed = observed.services.get(&service.name).unwrap_or(&nothing);
            let mut follows = false;
            let plan = ServicePlan::compute(service, observed, how.overwrite, |key| {
                // Every key without a value has a way to be generated.
                let Some(spec) = service.generated.get(key) else { return Ok(SecretString::from("")) };
                if let Some(value) = generated.get(&spec.env_key) {
                    follows |= new.contains(&spec.env_key);
                    return Ok(value.clone());
                }
                let value = random(spec).map_err(BootstrapError::Random)?;
                generated.insert(spec.env_key.clone(), value.clone());
                new.insert(spec.env_key.clone());
                Ok(value)
            })?;
            Ok(ServicePlan { follows, ..plan })
        });
        let services: Vec<ServicePlan> = services.collect::<Result<_, BootstrapError>>()?;
        let too_much = services.iter().filter_map(|service| {
            let values = service.secret.values.iter();
            let sizes = values.map(|(key, value)| (key.as_str(), limits::stored(value.expose_secret())));
            limits::check(&path(mounts.kv, &service.name), sizes)
        });
        let too_much: Vec<_> = too_much.collect();
        if !too_much.is_empty() {
            return Err(BootstrapError::TooMuch(too_much));
        }
        Ok(Self {
            enable_kv: observed.kv_mount.is_none(),
            enable_approle: approle.is_none(),
            lockout: match approle {
                Some(mount) if !mount.locks_out => Lockout::Leave,
                Some(mount) if !mount.is_ours => Lockout::Ask,
                _ => Lockout::Disable,
            },
            audit: observed.audit,
            audit_file: how.audit_file.map(str::to_owned),
            services,
            differing: differing(desired, observed),
            leftovers: observed.leftovers.clone(),
            prune: how.prune,
        })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        !self.enable_kv
            && !self.enable_approle
            && self.lockout != Lockout::Disable
            && self.audit.enables(self.audit_file.as_deref()).is_none()
            && self.services.iter().all(ServicePlan::is_empty)
            && !self.leftovers.iter().any(|leftover| leftover.is_pruned(self.prune))
    }

    /// Whether the role of this service is yet to be made.
    pub(crate) fn makes_role(&self, service: &str) -> bool {
        let made =
            |plan: &ServicePlan| plan.role.as_ref().is_some_and(|(_, differences)| differences.is_empty());
        self.services.iter().any(|plan| plan.name == service && made(plan))
    }

    /// The plan in lines for people: `+` makes, `~` changes, `-` removes, `!` wants attention.
    pub(crate) fn lines(&self, mounts: Mounts<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |condition: bool, text: String| {
            if condition {
                lines.push(text);
            }
        };
        line(self.enable_kv, format!("+ secrets engine {}/ (kv version 2)", mounts.kv));
        line(self.enable_approle, format!("+ auth method auth/{}/ (approle)", mounts.approle));
        line(
            self.lockout == Lockout::Disable,
            format!("~ auth method auth/{}/: user lockout off", mounts.approle),
        );
        line(
            self.lockout == Lockout::Ask,
            format!(
                "! auth method auth/{0}/: user lockout is on, so that whoever knows a role_id can lock its service \
                 out; it is not bootstrap's mount and stays as it is. To switch it off: vault write \
                 sys/auth/{0}/tune user_lockout_config='{{\"lockout_disable\": true}}'",
                mounts.approle
            ),
        );
        lines.extend(self.audit.line(self.audit_file.as_deref()));
        for service in &self.services {
            service.lines(mounts, &mut lines);
        }
        for Differing { service, key, first } in &self.differing {
            let (path, first) = (path(mounts.kv, service), path(mounts.kv, first));
            lines.push(format!(
                "! {path} {key}: generated, and not the same as in {first}, which shares it; both stay. Take it out of \
                 the one that is wrong, and the next apply puts the other's there"
            ));
        }
        lines.extend(self.leftovers.iter().flat_map(|leftover| leftover.lines(self.prune, mounts)));
        lines
    }
}

impl ServicePlan {
    fn compute(
        service: &DesiredService,
        observed: &ObservedService,
        overwrite: bool,
        generate: impl FnMut(&str) -> Result<SecretString, BootstrapError>,
    ) -> Result<Self, BootstrapError> {
        let mut policy = (observed.policy.as_ref() != Some(&service.policy))
            .then(|| (service.policy.clone(), observed.policy.is_some()));
        let mut role = match &observed.role {
            Some(found) if *found == service.role => None,
            Some(found) => Some((service.role.clone(), differences(found, &service.role))),
            None => Some((service.role.clone(), Vec::new())),
        };
        // Somebody else's stays as it is.
        let mut foreign = Vec::new();
        if !observed.policy_is_ours() && !overwrite && policy.take().is_some() {
            foreign.push(format!("policy {}", policy_name(&service.name)));
        }
        let foreign_role = !observed.role_is_ours() && !overwrite;
        if foreign_role && role.take().is_some() {
            foreign.push(format!("role {}", service.name));
        }
        let secret = SecretPlan::compute(service, observed, foreign_role, overwrite, generate)?;
        Ok(Self { name: service.name.clone(), policy, role, foreign, secret, follows: false })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.policy.is_none() && self.role.is_none() && self.secret.is_empty()
    }

    fn lines(&self, mounts: Mounts<'_>, lines: &mut Vec<String>) {
        let name = &self.name;
        if let Some((_, existed)) = &self.policy {
            lines.push(format!("{} policy {}", if *existed { "~" } else { "+" }, policy_name(name)));
        }
        if let Some((_, differences)) = &self.role {
            let mut line = format!(
                "{} role auth/{}/role/{name}",
                if differences.is_empty() { "+" } else { "~" },
                mounts.approle
            );
            if !differences.is_empty() {
                let _ = write!(line, ": {}", differences.join(", "));
            }
            lines.push(line);
        }
        for what in &self.foreign {
            lines.push(format!(
                "! {what}: exists, is not bootstrap's, and stays as it is; --overwrite makes it what the files say"
            ));
        }
        for (key, change) in &self.secret.changes {
            let path = format!("{}/{name}", mounts.kv);
            lines.push(match change {
                KeyChange::Added => format!("+ {path} {key}"),
                KeyChange::Generated => format!("+ {path} {key} (generated)"),
                KeyChange::Changed => format!("~ {path} {key}"),
                KeyChange::Removed => format!("- {path} {key}"),
                KeyChange::Kept => {
                    format!(
                        "! {path} {key}: differs in Vault and stays as it is there; --overwrite changes it"
                    )
                }
            });
        }
        if self.secret.is_to_be_noted && self.secret.write_on.is_none() {
            lines.push(format!("~ {}/{name}: noted as applied", mounts.kv));
        }
    }
}

impl SecretPlan {
    fn compute(
        service: &DesiredService,
        observed: &ObservedService,
        foreign_role: bool,
        overwrite: bool,
        generate: impl FnMut(&str) -> Result<SecretString, BootstrapError>,
    ) -> Result<Self, BootstrapError> {
        let current = observed.metadata.as_ref().map_or(0, |metadata| metadata.current_version);
        let custom_metadata =
            observed.metadata.as_ref().map(|metadata| metadata.custom_metadata.clone()).unwrap_or_default();
        let mut plan = Self {
            values: Values::new(),
            changes: BTreeMap::new(),
            write_on: None,
            applied: Applied { foreign_role, ..observed.applied.clone().unwrap_or_default() },
            is_to_be_noted: false,
            found: None,
            custom_metadata,
            is_settled: observed.is_settled,
        };
        if !observed.is_settled {
            let now = observed.secret.as_ref();
            let values = now.map(|secret| &secret.values);
            let merged = merge(observed.written.as_ref(), &service.secret, values, overwrite, generate)?;
            // An empty secret is written too: the service's read of it must not fail.
            plan.write_on = (merged.writes() || now.is_none()).then_some(current);
            let version = if plan.write_on.is_some() { current + 1 } else { current };
            plan.applied = Applied { version, foreign: merged.foreign, foreign_role };
            let found = now.filter(|secret| plan.write_on.is_none() && secret.version == version);
            plan.found = found.map(|found| Written { version, created: found.created.clone() });
            (plan.values, plan.changes) = (merged.values, merged.changes);
        }
        plan.is_to_be_noted = observed.applied.as_ref() != Some(&plan.applied);
        Ok(plan)
    }

    fn is_empty(&self) -> bool {
        self.write_on.is_none() && !self.is_to_be_noted
    }
}

/// The values that earlier applies generated, by their .env keys: services that share a key share its value.
fn already_generated(desired: &Desired, observed: &Observed) -> Values {
    let mut values = Values::new();
    for service in &desired.services {
        let secret = observed.services.get(&service.name).and_then(|observed| observed.secret.as_ref());
        for (key, spec) in &service.generated {
            if let Some(value) = secret.and_then(|secret| secret.values.get(key)) {
                values.entry(spec.env_key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    values
}

/// Where services that share a generated value hold different ones.
fn differing(desired: &Desired, observed: &Observed) -> Vec<Differing> {
    let mut firsts: BTreeMap<&str, (&str, &SecretString)> = BTreeMap::new();
    let mut differing = Vec::new();
    for service in &desired.services {
        let secret = observed.services.get(&service.name).and_then(|observed| observed.secret.as_ref());
        for (key, spec) in &service.generated {
            let Some(value) = secret.and_then(|secret| secret.values.get(key)) else { continue };
            let (first, expected) = *firsts.entry(&spec.env_key).or_insert((&service.name, value));
            if expected.expose_secret() != value.expose_secret() {
                let (service, key, first) = (service.name.clone(), key.clone(), first.to_owned());
                differing.push(Differing { service, key, first });
            }
        }
    }
    differing
}

fn differences(found: &Role, wanted: &Role) -> Vec<&'static str> {
    let fields = [
        ("token_policies", found.token_policies == wanted.token_policies),
        ("token_ttl", found.token_ttl == wanted.token_ttl),
        ("token_max_ttl", found.token_max_ttl == wanted.token_max_ttl),
        ("token_period", found.token_period == wanted.token_period),
        ("token_num_uses", found.token_num_uses == wanted.token_num_uses),
        ("bind_secret_id", found.bind_secret_id == wanted.bind_secret_id),
        ("secret_id_ttl", found.secret_id_ttl == wanted.secret_id_ttl),
        ("secret_id_num_uses", found.secret_id_num_uses == wanted.secret_id_num_uses),
        ("secret_id_bound_cidrs", found.secret_id_bound_cidrs == wanted.secret_id_bound_cidrs),
        ("token_bound_cidrs", found.token_bound_cidrs == wanted.token_bound_cidrs),
        ("token_no_default_policy", found.token_no_default_policy == wanted.token_no_default_policy),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}
