//! `sys/mounts` and `sys/auth`: which engines and auth methods there are, and making them.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use vaultrs::api::sys::requests::{
    EnableAuthRequest, EnableEngineRequest, ListAuthsRequest, ListMountsRequest,
};

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError};

/// A secrets engine or an auth method.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Mount {
    /// `kv`, `approle`, …
    #[serde(rename = "type")]
    pub mount_type: String,
    /// What its maker wrote about it.
    #[serde(default)]
    pub description: String,
    /// For `kv` its `version`.
    #[serde(default)]
    pub options: Option<BTreeMap<String, String>>,
}

impl Mount {
    /// Whether its description begins with `mark`.
    #[must_use]
    pub fn is_marked(&self, mark: &str) -> bool {
        self.description.starts_with(mark)
    }
}

/// The secrets engines by their path, which ends in `/`.
pub async fn engines(client: &VaultClient, by: Instant) -> Result<BTreeMap<String, Mount>, VaultError> {
    client.call(Target::Leader, ListMountsRequest {}, Retry::Idempotent, by).await?.data()
}

/// The auth methods by their path, which ends in `/`.
pub async fn auth_methods(client: &VaultClient, by: Instant) -> Result<BTreeMap<String, Mount>, VaultError> {
    client.call(Target::Leader, ListAuthsRequest {}, Retry::Idempotent, by).await?.data()
}

/// Enables a KV v2 engine at `mount`.
pub async fn enable_kv2(
    client: &VaultClient,
    mount: &str,
    description: &str,
    by: Instant,
) -> Result<(), VaultError> {
    let request = EnableEngineRequest {
        path: mount.to_owned(),
        engine_type: Some("kv".to_owned()),
        description: Some(description.to_owned()),
        options: Some(HashMap::from([("version".to_owned(), "2".to_owned())])),
        ..EnableEngineRequest::default()
    };
    client.call(Target::Leader, request, Retry::Idempotent, by).await.and_then(Reply::done)
}

/// Enables the AppRole method at `auth/<mount>`.
pub async fn enable_approle(
    client: &VaultClient,
    mount: &str,
    description: &str,
    by: Instant,
) -> Result<(), VaultError> {
    let request = EnableAuthRequest {
        path: mount.to_owned(),
        engine_type: Some("approle".to_owned()),
        description: Some(description.to_owned()),
        config: None,
    };
    client.call(Target::Leader, request, Retry::Idempotent, by).await.and_then(Reply::done)
}

/// Whether enabling was refused since there is something at the path by now.
#[must_use]
pub fn is_taken(error: &VaultError) -> bool {
    matches!(error, VaultError::Refused { status: 400, messages, .. }
        if messages.iter().any(|message| message.contains("path is already in use")))
}

/// Whether failed logins lock a role out on the AppRole method at `auth/<mount>`.
pub async fn lockout_enabled(client: &VaultClient, mount: &str, by: Instant) -> Result<bool, VaultError> {
    // It is set as an object, and read as flat fields that are missing where nothing was ever set.
    #[derive(Deserialize)]
    struct Tuning {
        #[serde(default)]
        user_lockout_disable: bool,
    }
    let request = Plain::get(format!("sys/auth/{mount}/tune"));
    let tuning: Tuning = client.call(Target::Leader, request, Retry::Idempotent, by).await?.data()?;
    Ok(!tuning.user_lockout_disable)
}

/// Switches the lockout off on the AppRole method at `auth/<mount>`, and ends every lock on it at once.
///
/// A secret ID is 128 random bits, which nobody guesses; with the lockout on, whoever knows a `role_id`
/// keeps its service out by five failed logins.
pub async fn disable_lockout(client: &VaultClient, mount: &str, by: Instant) -> Result<(), VaultError> {
    let body = json!({ "user_lockout_config": { "lockout_disable": true } });
    let request = Plain::post(format!("sys/auth/{mount}/tune"), body);
    client.call(Target::Leader, request, Retry::Idempotent, by).await.and_then(Reply::done)
}
