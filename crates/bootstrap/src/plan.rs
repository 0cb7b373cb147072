//! The difference between what is desired and what there is. Pure.

mod lines;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret as _, SecretString};

use crate::BootstrapError;
use crate::args::Prune;
use crate::audit::Audit;
use crate::desired::Desired;
use crate::error::OtherStack;
use crate::limits;
use crate::manifest::GenerateSpec;
use crate::merge::Values;
use crate::observed::{Observed, ObservedService, path};
use crate::prune::Leftover;

pub(crate) use service::{SecretPlan, ServicePlan};

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

impl Plan {
    /// Computes the plan. `random` makes a value for a key that is to be generated.
    pub(crate) fn compute(
        desired: &Desired,
        observed: &Observed,
        mounts: Mounts<'_>,
        how: How<'_>,
        random: impl Fn(&GenerateSpec) -> Result<SecretString, getrandom::Error>,
    ) -> Result<Self, BootstrapError> {
        check_mounts(observed, mounts)?;
        if !how.overwrite {
            check_stacks(desired, observed)?;
        }
        let nothing = ObservedService::default();
        let mut generated = already_generated(desired, observed);
        let mut new = BTreeSet::new();
        let services = desired.services.iter().map(|service| {
            let observed = observed.services.get(&service.name).unwrap_or(&nothing);
            let mut follows = false;
            let plan = ServicePlan::compute(service, observed, &desired.mark, how.overwrite, |key| {
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
        let approle = observed.approle_mount.as_ref();
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

    /// The services whose roles are yet to be made.
    pub(crate) fn new_roles(&self) -> BTreeSet<&str> {
        let is_new =
            |plan: &&ServicePlan| plan.role.as_ref().is_some_and(|(_, differences)| differences.is_empty());
        self.services.iter().filter(is_new).map(|plan| plan.name.as_str()).collect()
    }
}

fn check_mounts(observed: &Observed, mounts: Mounts<'_>) -> Result<(), BootstrapError> {
    if let Some(found) = observed.kv_mount.as_ref().filter(|found| *found != "kv2") {
        return Err(BootstrapError::OtherMount {
            mount: format!("{}/", mounts.kv),
            found: found.clone(),
            wanted: "kv version 2",
        });
    }
    match observed.approle_mount.as_ref().filter(|found| found.mount_type != "approle") {
        Some(found) => Err(BootstrapError::OtherMount {
            mount: format!("auth/{}/", mounts.approle),
            found: found.mount_type.clone(),
            wanted: "approle",
        }),
        None => Ok(()),
    }
}

/// A service has one policy, secret and role, which cannot be two stacks'.
fn check_stacks(desired: &Desired, observed: &Observed) -> Result<(), BootstrapError> {
    let others = desired.names().filter_map(|service| {
        let marks = observed.services.get(service)?.marks(service);
        let other = marks.into_iter().flatten().find(|mark| !desired.mark.takes(mark))?;
        Some(OtherStack { service: service.to_owned(), stack: other.stack? })
    });
    let others: Vec<_> = others.collect();
    if others.is_empty() { Ok(()) } else { Err(BootstrapError::OtherStack(others)) }
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
