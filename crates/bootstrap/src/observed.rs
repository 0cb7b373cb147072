//! What there is in Vault.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use vault_client::approle::Role;
use vault_client::kv2::{Metadata, Secret};
use vault_client::mounts::Mount;
use vault_client::{VaultClient, VaultError, kv2, mounts};

use crate::applied::Applied;
use crate::args::Prune;
use crate::audit::Audit;
use crate::concurrent::for_each;
use crate::desired::Desired;
use crate::ledger::Ledger;
use crate::listed::Listed;
use crate::mark::{MARK, Mark};
use crate::merge::Values;
use crate::plan::Mounts;
use crate::prune::Leftover;

/// What there is of what is desired.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The type of the engine at the KV mount, `kv2` for version 2.
    pub(crate) kv_mount: Option<String>,
    pub(crate) approle_mount: Option<ApproleMount>,
    pub(crate) services: BTreeMap<String, ObservedService>,
    pub(crate) audit: Audit,
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
    /// The record says that nothing is to be done about the secret, which was therefore not read.
    pub(crate) is_settled: bool,
}

/// The values of one secret as far as they were read.
struct SecretRead {
    newest: Option<Secret>,
    /// The version that the note names.
    noted: Option<Secret>,
    /// The version that no note names, and that may be ours all the same.
    unnoted: Option<Secret>,
}

impl Observed {
    /// Asks Vault, waiting until `by` for it to answer and to be unsealed.
    pub(crate) async fn ask(
        client: &VaultClient,
        mounts: Mounts<'_>,
        desired: &Desired,
        ledger: &Ledger,
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
        let audit = Audit::ask(client, listed.is_openbao()).await?;
        let declared = desired.names().collect();
        let leftovers = listed.leftovers(client, &declared, &desired.mark, prune.prune_secrets).await?;
        let names = desired.names().map(str::to_owned).collect();
        let services = listed.services(client, names).await?.into_iter().collect();
        let mut observed = Self { kv_mount, approle_mount, services, audit, leftovers };
        observed.read_secrets(client, mounts.kv, desired, ledger).await?;
        Ok(observed)
    }

    /// Reads the secrets that are there, save those of which the record says that nothing is to be done.
    async fn read_secrets(
        &mut self,
        client: &VaultClient,
        mount: &str,
        desired: &Desired,
        ledger: &Ledger,
    ) -> Result<(), VaultError> {
        let shared = desired.shared_generated();
        let mut reads = Vec::new();
        for service in &desired.services {
            let Some(observed) = self.services.get_mut(&service.name) else { continue };
            let Some(metadata) = &observed.metadata else { continue };
            observed.applied = Applied::read(metadata);
            let (path, noted) = (path(mount, &service.name), observed.applied.as_ref());
            // A generated value that others share is compared with theirs.
            let is_alone = service.generated.values().all(|spec| !shared.contains(spec.env_key.as_str()));
            observed.is_settled = is_alone
                && noted.is_some_and(|noted| ledger.settles(&path, metadata, noted, &service.secret));
            if !observed.is_settled {
                let noted = noted.map(|noted| noted.version);
                reads.push((service.name.clone(), noted, ledger.unnoted(&path, metadata, noted)));
            }
        }
        let read = for_each("reading secrets", reads, |(name, noted, unnoted)| {
            let (client, mount) = (client.clone(), mount.to_owned());
            async move { Ok((name.clone(), SecretRead::ask(&client, &mount, &name, noted, unnoted).await?)) }
        });
        for (name, read) in read.await? {
            if let Some(service) = self.services.get_mut(&name) {
                service.take_in(read, &path(mount, &name), ledger);
            }
        }
        Ok(())
    }
}

/// The engine's type, `kv2` for version 2.
fn kind(mount: &Mount) -> String {
    let version = mount.options.as_ref().and_then(|options| options.get("version"));
    let is_kv2 = mount.mount_type == "kv" && version.is_some_and(|version| version == "2");
    if is_kv2 { "kv2".to_owned() } else { mount.mount_type.clone() }
}

impl ObservedService {
    /// Whose its policy and its secret are, where they are bootstrap's.
    pub(crate) fn marks(&self, service: &str) -> [Option<Mark>; 2] {
        let policy = self.policy.as_ref().and_then(|policy| Mark::of_policy(service, policy));
        [policy, self.applied.as_ref().map(|applied| applied.mark.clone())]
    }

    /// Whether the policy is this stack's, or there is none.
    pub(crate) fn policy_is_ours(&self, service: &str, mark: &Mark) -> bool {
        let is_ours =
            |policy: &String| Mark::of_policy(service, policy).is_some_and(|found| mark.takes(&found));
        self.policy.as_ref().is_none_or(is_ours)
    }

    /// Whether the role is this stack's, or there is none. It is written after the policy, which carries the
    /// mark, and the note remembers one that was there before.
    pub(crate) fn role_is_ours(&self, service: &str, mark: &Mark) -> bool {
        let is_noted_foreign = self.applied.as_ref().is_some_and(|applied| applied.foreign_role);
        self.role.is_none()
            || (self.policy.is_some() && self.policy_is_ours(service, mark) && !is_noted_foreign)
    }

    /// What the secret is now, and what the last apply left: the noted version, or one that it was killed before
    /// it could note.
    fn take_in(&mut self, read: SecretRead, path: &str, ledger: &Ledger) {
        let unnoted = read.unnoted.and_then(|secret| Some((ledger.recognised(path, &secret)?, secret)));
        let (foreign, written) = match (unnoted, read.noted, &self.applied) {
            (Some((entry, secret)), ..) => (&entry.foreign, Some(secret)),
            (None, noted, Some(applied)) => (&applied.foreign, noted),
            (None, ..) => (&BTreeSet::new(), None),
        };
        self.written = written.map(|secret| {
            let mut own = secret.values;
            own.retain(|key, _| !foreign.contains(key));
            own
        });
        self.secret = read.newest;
    }
}

impl SecretRead {
    async fn ask(
        client: &VaultClient,
        mount: &str,
        name: &str,
        noted: Option<u64>,
        unnoted: Option<u64>,
    ) -> Result<Self, VaultError> {
        let newest = kv2::read(client, mount, name, None, client.soon()).await?;
        let (mut versions, newest_version) = ([None, None], newest.as_ref().map(|secret| secret.version));
        for (version, slot) in [noted, unnoted].into_iter().zip(&mut versions) {
            *slot = match version {
                None => None,
                // What is read already.
                Some(_) if version == newest_version => newest.clone(),
                Some(_) => kv2::read(client, mount, name, version, client.soon()).await?,
            };
        }
        let [noted, unnoted] = versions;
        Ok(Self { newest, noted, unnoted })
    }
}

/// A secret as messages and the record name it.
pub(crate) fn path(mount: &str, name: &str) -> String {
    format!("{mount}/{name}")
}
