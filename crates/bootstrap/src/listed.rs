//! What there is in Vault by name: asked for all at once, so that nothing is asked for that is not there.
//!
//! OpenBao answers with the texts of all policies and the metadata of all secrets in one list each. HashiCorp Vault
//! lists their names; there each is read by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vault_client::kv2::Metadata;
use vault_client::{VaultClient, VaultError, approle, kv2, policy};

use crate::applied::Applied;
use crate::concurrent::for_each;
use crate::desired::{policy_name, service_of_policy};
use crate::manifest::is_service_name;
use crate::mark::Mark;
use crate::observed::ObservedService;
use crate::prune::Leftover;

/// All policies, roles and secrets.
#[derive(Debug)]
pub(crate) struct Listed {
    kv_mount: Option<String>,
    approle_mount: Option<String>,
    policies: Entries<String>,
    roles: Entries<()>,
    secrets: Entries<Metadata>,
}

/// How much a list told.
#[derive(Debug)]
enum Entries<T> {
    /// All there is to know, by name.
    Whole(BTreeMap<String, T>),
    /// The names.
    Names(BTreeSet<String>),
    /// Nothing, since the token may not list: each is asked for by its name.
    Unknown,
}

impl<T: Clone> Entries<T> {
    /// Nothing is there.
    fn none() -> Self {
        Self::Whole(BTreeMap::new())
    }

    async fn ask(
        whole: impl Future<Output = Result<Option<BTreeMap<String, T>>, VaultError>>,
        names: impl Future<Output = Result<Vec<String>, VaultError>>,
    ) -> Result<Self, VaultError> {
        if let Some(entries) = whole.await? {
            return Ok(Self::Whole(entries));
        }
        match names.await {
            Ok(names) => Ok(Self::Names(names.into_iter().collect())),
            Err(VaultError::Denied { .. }) => Ok(Self::Unknown),
            Err(error) => Err(error),
        }
    }

    /// All names, in order; none where the token may not list them.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Whole(entries) => entries.keys().map(String::as_str).collect(),
            Self::Names(names) => names.iter().map(String::as_str).collect(),
            Self::Unknown => Vec::new(),
        }
    }

    fn holds(&self, name: &str) -> bool {
        match self {
            Self::Whole(entries) => entries.contains_key(name),
            Self::Names(names) => names.contains(name),
            Self::Unknown => false,
        }
    }

    /// The entry of this name, read where the list does not hold it.
    async fn entry(
        &self,
        name: &str,
        read: impl Future<Output = Result<Option<T>, VaultError>>,
    ) -> Result<Option<T>, VaultError> {
        match self {
            Self::Whole(entries) => Ok(entries.get(name).cloned()),
            Self::Names(names) if !names.contains(name) => Ok(None),
            Self::Names(_) | Self::Unknown => read.await,
        }
    }
}

impl Listed {
    /// Asks for the lists; those of a mount that is not there are empty.
    pub(crate) async fn ask(
        client: &VaultClient,
        kv_mount: Option<&str>,
        approle_mount: Option<&str>,
    ) -> Result<Self, VaultError> {
        let by = client.soon();
        let policies = Entries::ask(policy::all(client, by), policy::names(client, by)).await?;
        let roles = match approle_mount {
            Some(mount) => Entries::ask(async { Ok(None) }, approle::role_names(client, mount, by)).await?,
            None => Entries::none(),
        };
        let secrets = match kv_mount {
            Some(mount) => {
                Entries::ask(kv2::all_metadata(client, mount, by), kv2::names(client, mount, by)).await?
            }
            None => Entries::none(),
        };
        let owned = |mount: Option<&str>| mount.map(str::to_owned);
        Ok(Self { kv_mount: owned(kv_mount), approle_mount: owned(approle_mount), policies, roles, secrets })
    }

    /// Whether the server has the lists that OpenBao alone has.
    pub(crate) fn is_openbao(&self) -> bool {
        matches!(self.policies, Entries::Whole(_))
    }

    /// What bootstrap made in this stack for services that are not among the `declared`.
    ///
    /// Where the server does not tell the metadata of all secrets at once, a secret is only found beside a policy,
    /// unless they are `wanted`: there may be thousands that are none of ours.
    pub(crate) async fn leftovers(
        &self,
        client: &VaultClient,
        declared: &BTreeSet<&str>,
        mark: &Mark,
        wanted: bool,
    ) -> Result<Vec<Leftover>, VaultError> {
        let by = client.soon();
        let mut leftovers = BTreeMap::new();
        for policy_name in self.policies.names() {
            let Some(service) = service_of_policy(policy_name).filter(|name| !declared.contains(name)) else {
                continue;
            };
            let text = self.policies.entry(policy_name, policy::read(client, policy_name, by)).await?;
            if text.and_then(|text| Mark::of_policy(service, &text)).as_ref() == Some(mark) {
                let leftover = Leftover { service: service.to_owned(), policy: true, ..Leftover::default() };
                leftovers.insert(service.to_owned(), leftover);
            }
        }
        let Some(mount) = &self.kv_mount else { return Ok(leftovers.into_values().collect()) };
        let mut foreign_roles = BTreeSet::new();
        let is_undeclared = |name: &&str| !declared.contains(name) && is_service_name(name);
        for name in self.secrets.names().into_iter().filter(is_undeclared) {
            let is_told = matches!(self.secrets, Entries::Whole(_));
            if !is_told && !wanted && !leftovers.contains_key(name) {
                continue;
            }
            let metadata = self.secrets.entry(name, kv2::metadata(client, mount, name, by)).await?;
            let Some(applied) = metadata.as_ref().and_then(Applied::read) else { continue };
            if applied.mark != *mark {
                continue;
            }
            if applied.foreign_role {
                foreign_roles.insert(name);
            }
            let leftover = Leftover { service: name.to_owned(), ..Leftover::default() };
            leftovers.entry(name.to_owned()).or_insert(leftover).secret = true;
        }
        for (name, leftover) in &mut leftovers {
            leftover.role =
                leftover.policy && self.roles.holds(name) && !foreign_roles.contains(name.as_str());
        }
        Ok(leftovers.into_values().collect())
    }

    /// Reads what there is of these services, save the values of their secrets.
    pub(crate) async fn services(
        self,
        client: &VaultClient,
        names: Vec<String>,
    ) -> Result<Vec<(String, ObservedService)>, VaultError> {
        let listed = Arc::new(self);
        for_each("asking Vault about services", names, |name: String| {
            let (client, listed) = (client.clone(), Arc::clone(&listed));
            async move {
                let service = listed.service(&client, &name).await?;
                Ok((name, service))
            }
        })
        .await
    }

    async fn service(&self, client: &VaultClient, name: &str) -> Result<ObservedService, VaultError> {
        let by = client.soon();
        let policy_name = policy_name(name);
        let mut service = ObservedService {
            policy: self.policies.entry(&policy_name, policy::read(client, &policy_name, by)).await?,
            ..ObservedService::default()
        };
        if let Some(mount) = &self.approle_mount {
            // A list says of a role that it is there, and no more.
            let is_there = self.roles.entry(name, async { Ok(Some(())) }).await?.is_some();
            service.role = if is_there { approle::read_role(client, mount, name, by).await? } else { None };
        }
        if let Some(mount) = &self.kv_mount {
            service.metadata = self.secrets.entry(name, kv2::metadata(client, mount, name, by)).await?;
        }
        Ok(service)
    }
}
