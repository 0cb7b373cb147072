//! `sys/policy/`: ACL policies, as HCL text.

use serde::Deserialize;
use tokio::time::Instant;
use vaultrs::api::sys::requests::{CreatePolicyRequest, ReadPolicyRequest};

use crate::{Retry, Target, VaultClient, VaultError, found};

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
    client.call(Target::Leader, request, Retry::Idempotent, by).await.map(drop)
}
