//! `sys/policy/`: ACL policies, as HCL text.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::time::Instant;
use vaultrs::api::sys::requests::{
    CreatePolicyRequest, DeletePolicyRequest, ListPoliciesRequest, ReadPolicyRequest,
};

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError, found, listing, offered};

/// The text of a policy, or `None` where there is none of that name.
pub async fn read(client: &VaultClient, name: &str, by: Instant) -> Result<Option<String>, VaultError> {
    #[derive(Deserialize)]
    struct Policy {
        rules: String,
    }
    let request = ReadPolicyRequest { name: name.to_owned() };
    let reply = found(client.call(Target::Leader, request, Retry::Idempotent, by).await)?;
    reply.map(|reply| reply.data::<Policy>().map(|policy| policy.rules)).transpose()
}

/// Creates or replaces a policy.
pub async fn write(client: &VaultClient, name: &str, text: &str, by: Instant) -> Result<(), VaultError> {
    let request = CreatePolicyRequest { name: name.to_owned(), policy: text.to_owned() };
    client.call(Target::Leader, request, Retry::Idempotent, by).await.and_then(Reply::done)
}

/// The names of all policies.
pub async fn names(client: &VaultClient, by: Instant) -> Result<Vec<String>, VaultError> {
    #[derive(Deserialize)]
    struct Names {
        policies: Vec<String>,
    }
    let reply = client.call(Target::Leader, ListPoliciesRequest {}, Retry::Idempotent, by).await?;
    reply.json::<Names>().map(|names| names.policies)
}

/// The texts of all policies by their names, in one answer (`LIST sys/policies/detailed/acl`); `None` where the
/// server has no such thing, as HashiCorp Vault, or it is not this token's to have.
pub async fn all(client: &VaultClient, by: Instant) -> Result<Option<BTreeMap<String, String>>, VaultError> {
    #[derive(Deserialize)]
    struct Policy {
        policy: String,
    }
    let request = Plain::list("sys/policies/detailed/acl");
    let reply = offered(client.call(Target::Leader, request, Retry::Idempotent, by).await)?;
    let Some(policies) = reply.map(|reply| listing::<Policy>(&reply)).transpose()?.flatten() else {
        return Ok(None);
    };
    Ok(Some(policies.into_iter().map(|(name, policy)| (name, policy.policy)).collect()))
}

/// Deletes a policy; one that is gone already is done.
pub async fn delete(client: &VaultClient, name: &str, by: Instant) -> Result<(), VaultError> {
    let request = DeletePolicyRequest { name: name.to_owned() };
    found(client.call(Target::Leader, request, Retry::Idempotent, by).await)?.map_or(Ok(()), Reply::done)
}
