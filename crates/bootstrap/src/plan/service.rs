//! What is to be done for one service. Pure.

use std::collections::BTreeMap;

use secrecy::SecretString;
use vault_client::approle::Role;
use vault_client::kv2::Written;

use crate::BootstrapError;
use crate::applied::Applied;
use crate::desired::{DesiredService, policy_name};
use crate::mark::Mark;
use crate::merge::{KeyChange, Values, merge};
use crate::observed::ObservedService;

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

impl ServicePlan {
    pub(super) fn compute(
        service: &DesiredService,
        observed: &ObservedService,
        mark: &Mark,
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
        if !observed.policy_is_ours(&service.name, mark) && !overwrite && policy.take().is_some() {
            foreign.push(format!("policy {}", policy_name(&service.name)));
        }
        let foreign_role = !observed.role_is_ours(&service.name, mark) && !overwrite;
        if foreign_role && role.take().is_some() {
            foreign.push(format!("role {}", service.name));
        }
        let secret = SecretPlan::compute(service, observed, (mark, foreign_role), overwrite, generate)?;
        Ok(Self { name: service.name.clone(), policy, role, foreign, secret, follows: false })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.policy.is_none() && self.role.is_none() && self.secret.is_empty()
    }
}

impl SecretPlan {
    fn compute(
        service: &DesiredService,
        observed: &ObservedService,
        (mark, foreign_role): (&Mark, bool),
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
            applied: Applied {
                foreign_role,
                mark: mark.clone(),
                ..observed.applied.clone().unwrap_or_default()
            },
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
            plan.applied = Applied { version, foreign: merged.foreign, foreign_role, mark: mark.clone() };
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
