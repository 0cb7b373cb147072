//! What there is in Vault.

use std::collections::BTreeMap;

use tokio::time::Instant;
use vault_client::approle::Role;
use vault_client::kv2::{Metadata, Secret};
use vault_client::{VaultClient, VaultError, approle, kv2, mounts, policy};

use crate::applied::Applied;
use crate::concurrent::for_each;
use crate::desired::{Desired, policy_name};
use crate::merge::Values;
use crate::plan::MARK;

/// What there is of what is desired.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The type of the engine at the KV mount, `kv2` for version 2.
    pub(crate) kv_mount: Option<String>,
    pub(crate) approle_mount: Option<ApproleMount>,
    pub(crate) services: BTreeMap<String, ObservedService>,
}

/// The AppRole mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApproleMount {
    pub(crate) mount_type: String,
    /// Whether bootstrap made it.
    pub(crate) is_ours: bool,
    pub(crate) locks_out: bool,
}

/// One service.
#[derive(Debug, Default)]
pub(crate) struct ObservedService {
    pub(crate) policy: Option<String>,
    pub(crate) role: Option<Role>,
    pub(crate) metadata: Option<Metadata>,
    /// The newest version.
    pub(crate) secret: Option<Secret>,
    /// The note of the last apply.
    pub(crate) applied: Option<Applied>,
    /// What that apply left as the files' own.
    pub(crate) written: Option<Values>,
}

impl Observed {
    /// Asks Vault, waiting until `by` for it to answer and to be unsealed.
    pub(crate) async fn ask(
        client: &VaultClient,
        kv_mount: &str,
        approle_mount: &str,
        desired: &Desired,
        by: Instant,
    ) -> Result<Self, VaultError> {
        let engines = mounts::engines(client, by).await?;
        let kv = engines.get(&format!("{kv_mount}/")).map(|mount| {
            let version = mount.options.as_ref().and_then(|options| options.get("version"));
            if mount.mount_type == "kv" && version.is_some_and(|version| version == "2") {
                "kv2".to_owned()
            } else {
                mount.mount_type.clone()
            }
        });
        let methods = mounts::auth_methods(client, client.soon()).await?;
        let approle = match methods.get(&format!("{approle_mount}/")) {
            None => None,
            Some(mount) => Some(ApproleMount {
                mount_type: mount.mount_type.clone(),
                is_ours: mount.is_marked(MARK),
                locks_out: mounts::lockout_enabled(client, approle_mount, client.soon()).await?,
            }),
        };
        let has_kv = kv.as_deref() == Some("kv2");
        let has_approle = approle.as_ref().is_some_and(|mount| mount.mount_type == "approle");
        let names = desired.services.iter().map(|service| service.name.clone()).collect();
        let services = for_each(names, |name: String| {
            let client = client.clone();
            let (kv_mount, approle_mount) = (kv_mount.to_owned(), approle_mount.to_owned());
            async move {
                let kv_mount = has_kv.then_some(kv_mount.as_str());
                let approle_mount = has_approle.then_some(approle_mount.as_str());
                let service = ObservedService::ask(&client, kv_mount, approle_mount, &name).await?;
                Ok::<_, VaultError>((name, service))
            }
        })
        .await?;
        Ok(Self { kv_mount: kv, approle_mount: approle, services: services.into_iter().collect() })
    }
}

impl ObservedService {
    /// Whether the policy is bootstrap's, or there is none.
    pub(crate) fn policy_is_ours(&self) -> bool {
        self.policy.as_ref().is_none_or(|policy| policy.starts_with(&format!("# {MARK}")))
    }

    /// Whether the role is bootstrap's, or there is none. It is written after the policy, which carries the
    /// mark, and the note remembers one that was there before.
    pub(crate) fn role_is_ours(&self) -> bool {
        let is_noted_foreign = self.applied.as_ref().is_some_and(|applied| applied.foreign_role);
        self.role.is_none() || (self.policy.is_some() && self.policy_is_ours() && !is_noted_foreign)
    }

    async fn ask(
        client: &VaultClient,
        kv_mount: Option<&str>,
        approle_mount: Option<&str>,
        name: &str,
    ) -> Result<Self, VaultError> {
        let mut service = Self {
            policy: policy::read(client, &policy_name(name), client.soon()).await?,
            ..Self::default()
        };
        if let Some(mount) = approle_mount {
            service.role = approle::read_role(client, mount, name, client.soon()).await?;
        }
        let Some(mount) = kv_mount else { return Ok(service) };
        service.metadata = kv2::metadata(client, mount, name, client.soon()).await?;
        let Some(metadata) = &service.metadata else { return Ok(service) };
        service.secret = kv2::read(client, mount, name, None, client.soon()).await?;
        let Some(applied) = Applied::read(metadata) else { return Ok(service) };
        let is_newest = service.secret.as_ref().is_some_and(|secret| secret.version == applied.version);
        let written = if is_newest {
            service.secret.clone()
        } else {
            kv2::read(client, mount, name, Some(applied.version), client.soon()).await?
        };
        service.written = written.map(|secret| {
            let mut own = secret.values;
            own.retain(|key, _| !applied.foreign.contains(key));
            own
        });
        service.applied = Some(applied);
        Ok(service)
    }
}
