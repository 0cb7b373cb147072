//! `auth/token/`: what a login gives, and its renewal and end.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tokio::time::Instant;
use vaultrs::api::token::requests::{RenewTokenSelfRequest, RevokeTokenSelfRequest};

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError};

/// The `auth` object of a login or a renewal.
#[derive(Clone, Debug, Deserialize)]
pub struct Auth {
    /// The token.
    pub client_token: SecretString,
    /// By which the token can be named without being known; empty for a batch token.
    #[serde(default)]
    pub accessor: String,
    /// How long the token lives from now.
    #[serde(deserialize_with = "seconds")]
    pub lease_duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// The policies that it carries, by whatever way it came by them; `default` is one of them.
    #[serde(default)]
    pub policies: Vec<String>,
}

/// `POST auth/token/renew-self`: the client's own token, by its role's TTL.
pub async fn renew_self(client: &VaultClient, by: Instant) -> Result<Auth, VaultError> {
    let request = RenewTokenSelfRequest { increment: None };
    auth(&client.call(Target::Leader, request, Retry::Never, by).await?)
}

/// Whether the client's own token is good. One that may not look itself up counts as
/// one that is not.
pub async fn is_valid(client: &VaultClient, by: Instant) -> Result<bool, VaultError> {
    match look_up_self(client, by).await {
        Ok(_) => Ok(true),
        Err(VaultError::Denied { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a token is still good for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Life {
    /// From now; zero for a token that never expires.
    #[serde(deserialize_with = "seconds")]
    pub ttl: Duration,
    /// Whether it can be renewed.
    #[serde(default)]
    pub renewable: bool,
}

/// `GET auth/token/lookup-self`: the life of the client's own token.
pub async fn look_up_self(client: &VaultClient, by: Instant) -> Result<Life, VaultError> {
    let request = Plain::get("auth/token/lookup-self");
    client.call(Target::Leader, request, Retry::Idempotent, by).await?.data()
}

/// `POST auth/token/create`: a batch token below the client's own, under some of its policies and no other. Nothing of it
/// is stored; it ends with the client's own at the latest.
pub async fn create_batch(
    client: &VaultClient,
    policies: &[&str],
    life: Duration,
    by: Instant,
) -> Result<Auth, VaultError> {
    let body = json!({
        "type": "batch",
        "policies": policies,
        "no_default_policy": true,
        "ttl": format!("{}s", life.as_secs()),
    });
    let request = Plain::post("auth/token/create", body);
    auth(&client.call(Target::Leader, request, Retry::Idempotent, by).await?)
}

/// `POST auth/token/revoke-self`: the client's own token and its leases.
pub async fn revoke_self(client: &VaultClient, by: Instant) -> Result<(), VaultError> {
    client.call(Target::Leader, RevokeTokenSelfRequest {}, Retry::Idempotent, by).await.and_then(Reply::done)
}

/// The `auth` object of an answer.
pub(crate) fn auth(reply: &Reply) -> Result<Auth, VaultError> {
    #[derive(Deserialize)]
    struct Granted {
        auth: Auth,
    }
    reply.json::<Granted>().map(|granted| granted.auth)
}

/// A duration as Vault writes it in answers: whole seconds.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}
