//! What there is in Vault.

use std::collections::BTreeMap;

use tokio::time::Instant;
use vault_client::approle::Role;
use vault_client::kv2::{Metadata, Secret};
use vault_client::mounts::Mount;
use vault_client::{VaultClient, VaultError, kv2, mounts};

use crate::applied::Applied;
use crate::args::Prune;
use crate::desired::Desired;
use crate::listed::Listed;
use crate::merge::Values;
use crate::plan::{MARK, Mounts};
use crate::prune::Leftover;

/// What there is of what is desired.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The type of the engine at the KV mount, `kv2` for version 2.
    pub(crate) kv_mount: Option<String>,
    pub(crate) approle_mount: Option<ApproleMount>,
    pub(crate) services: BTreeMap<String, ObservedService>,
    /// What is bootstrap's and no file declares.
    pub(crate) leftovers: Vec<Leftover>,
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
        mounts: Mounts<'_>,
        desired: &Desired,
        prune: Prune,
        by: Instant,
    ) -> Result<Self, VaultError> {
        let engines = mounts::engines(client, by).await?;
        let kv_mount = engines.get(&format!("{}/", mounts.kv)).map(kind);
        let methods = mounts::auth_methods(client, client.soon()).await?;
        let approle_mount = match methods.get(&format!("{}/", mounts.approle)) {
            None => None,
            Some(mount) => Some(ApproleMount {
                mount_type: mount.mount_type.clone(),
                is_ours: mount.is_marked(MARK),
                locks_out: mounts::lockout_enabled(client, mounts.approle, client.soon()).await?,
            }),
        };
        let has_approle = approle_mount.as_ref().is_some_and(|mount| mount.mount_type == "approle");
        let listed = Listed::ask(
            client,
            (kv_mount.as_deref() == Some("kv2")).then_some(mounts.kv),
            has_approle.then_some(mounts.approle),
        )
        .await?;
        let declared = desired.names().collect();
        let leftovers = listed.leftovers(client, &declared, prune.prune_secrets).await?;
        let names = desired.names().map(str::to_owned).collect();
        let services = listed.services(client, names).await?.into_iter().collect();
        Ok(Self { kv_mount, approle_mount, services, leftovers })
    }
}

/// The engine's type, `kv2` for version 2.
fn kind(mount: &Mount) -> String {
    let version = mount.options.as_ref().and_then(|options| options.get("version"));
    let is_kv2 = mount.mount_type == "kv" && version.is_some_and(|version| version == "2");
    if is_kv2 { "kv2".to_owned() } else { mount.mount_type.clone() }
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

    /// Reads the secret: what it is now, and what the last apply left.
    pub(crate) async fn read_secret(
        &mut self,
        client: &VaultClient,
        mount: &str,
        name: &str,
    ) -> Result<(), VaultError> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        self.applied = Applied::read(metadata);
        self.secret = kv2::read(client, mount, name, None, client.soon()).await?;
        let Some(applied) = &self.applied else { return Ok(()) };
        let is_newest = self.secret.as_ref().is_some_and(|secret| secret.version == applied.version);
        let written = if is_newest {
            self.secret.clone()
        } else {
            kv2::read(client, mount, name, Some(applied.version), client.soon()).await?
        };
        self.written = written.map(|secret| {
            let mut own = secret.values;
            own.retain(|key, _| !applied.foreign.contains(key));
            own
        });
        Ok(())
    }
}
