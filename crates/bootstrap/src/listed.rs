//! What there is in Vault by name: asked for all at once, so that nothing is asked for that is not there.
//!
//! OpenBao answers with the texts of all policies and the metadata of all secrets in one list each. HashiCorp Vault
//! lists their names; there each is read by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vault_client::kv2::Metadata;
use vault_client::{VaultClient, VaultError, approle, kv2, policy};

use crate::concurrent::for_each;
use crate::desired::policy_name;
use crate::observed::ObservedService;

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

    /// Reads what there is of these services.
    pub(crate) async fn services(
        self,
        client: &VaultClient,
        names: Vec<String>,
    ) -> Result<Vec<(String, ObservedService)>, VaultError> {
        let listed = Arc::new(self);
        for_each(names, |name: String| {
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
            service.read_secret(client, mount, name).await?;
        }
        Ok(service)
    }
}
