//! `auth/<mount>/`: AppRoles, their secret IDs, and logging in with them.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;
use vaultrs::api::auth::approle::requests::{
    DeleteAppRoleRequest, DeleteSecretIDAccessorRequest, GenerateNewSecretIDRequest, ListRolesRequest,
    ListSecretIDRequest, LoginWithApproleRequest, ReadAppRoleRequest, ReadRoleIDRequest,
    ReadSecretIDAccessorRequest, SetAppRoleRequest,
};

use crate::token::{Auth, auth, seconds};
use crate::{Reply, Retry, Target, VaultClient, VaultError, clock, found, keys};

/// A role's settings, as far as Vaultcrew sets them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Role {
    /// Whether a login takes a secret ID at all.
    pub bind_secret_id: bool,
    /// The policies of its tokens.
    #[serde(deserialize_with = "or_empty")]
    pub token_policies: Vec<String>,
    /// How long a token lives without renewal.
    #[serde(deserialize_with = "seconds")]
    pub token_ttl: Duration,
    /// How long a token lives at most.
    #[serde(deserialize_with = "seconds")]
    pub token_max_ttl: Duration,
    /// For how long each renewal grants, past every maximum; zero for a token with a maximum.
    #[serde(deserialize_with = "seconds")]
    pub token_period: Duration,
    /// How often a token can be used; zero without limit.
    pub token_num_uses: u64,
    /// How long a secret ID lives; zero for ever.
    #[serde(deserialize_with = "seconds")]
    pub secret_id_ttl: Duration,
    /// How often a secret ID can be used; zero without limit.
    pub secret_id_num_uses: u64,
    /// From where its secret IDs may be used; everywhere where empty.
    #[serde(deserialize_with = "networks")]
    pub secret_id_bound_cidrs: Vec<String>,
    /// From where its tokens may be used; everywhere where empty.
    #[serde(deserialize_with = "networks")]
    pub token_bound_cidrs: Vec<String>,
    /// Whether its tokens lack the `default` policy.
    pub token_no_default_policy: bool,
}

impl Default for Role {
    /// Vault's own defaults: logins by secret ID, no limits.
    fn default() -> Self {
        Self {
            bind_secret_id: true,
            token_policies: Vec::new(),
            token_ttl: Duration::ZERO,
            token_max_ttl: Duration::ZERO,
            token_period: Duration::ZERO,
            token_num_uses: 0,
            secret_id_ttl: Duration::ZERO,
            secret_id_num_uses: 0,
            secret_id_bound_cidrs: Vec::new(),
            token_bound_cidrs: Vec::new(),
            token_no_default_policy: false,
        }
    }
}

/// A secret ID that was just made. The server never shows it again.
#[derive(Clone, Debug, Deserialize)]
pub struct IssuedSecretId {
    /// The secret ID.
    pub secret_id: SecretString,
    /// By which it can be looked up and destroyed without being known.
    pub secret_id_accessor: String,
    /// How long it lives; zero for ever.
    #[serde(deserialize_with = "seconds")]
    pub secret_id_ttl: Duration,
}

/// `POST auth/<mount>/login`, sent once: five refusals can lock a role.
pub async fn login(
    client: &VaultClient,
    mount: &str,
    role_id: &SecretString,
    secret_id: &SecretString,
    by: Instant,
) -> Result<Auth, VaultError> {
    let request = LoginWithApproleRequest {
        mount: mount.to_owned(),
        role_id: role_id.expose_secret().to_owned(),
        secret_id: secret_id.expose_secret().to_owned(),
    };
    auth(&client.call(Target::Leader, request, Retry::Never, by).await?)
}

/// The names of all roles.
pub async fn role_names(client: &VaultClient, mount: &str, by: Instant) -> Result<Vec<String>, VaultError> {
    let request = ListRolesRequest { mount: mount.to_owned() };
    keys(client.call(Target::Leader, request, Retry::Idempotent, by).await)
}

/// The settings of a role, or `None` where there is none of that name.
pub async fn read_role(
    client: &VaultClient,
    mount: &str,
    name: &str,
    by: Instant,
) -> Result<Option<Role>, VaultError> {
    let request = ReadAppRoleRequest { mount: mount.to_owned(), role_name: name.to_owned() };
    let reply = found(client.call(Target::Leader, request, Retry::Idempotent, by).await)?;
    reply.as_ref().map(Reply::data).transpose()
}

/// Creates a role, or sets these settings of an existing one.
pub async fn write_role(
    client: &VaultClient,
    mount: &str,
    name: &str,
    role: &Role,
    by: Instant,
) -> Result<(), VaultError> {
    let in_seconds = |span: Duration| Some(format!("{}s", span.as_secs()));
    let request = SetAppRoleRequest {
        mount: mount.to_owned(),
        role_name: name.to_owned(),
        bind_secret_id: Some(role.bind_secret_id),
        token_policies: Some(role.token_policies.clone()),
        token_ttl: in_seconds(role.token_ttl),
        token_max_ttl: in_seconds(role.token_max_ttl),
        token_period: in_seconds(role.token_period),
        token_num_uses: Some(role.token_num_uses),
        secret_id_ttl: in_seconds(role.secret_id_ttl),
        secret_id_num_uses: Some(role.secret_id_num_uses),
        secret_id_bound_cidrs: Some(role.secret_id_bound_cidrs.clone()),
        token_bound_cidrs: Some(role.token_bound_cidrs.clone()),
        token_no_default_policy: Some(role.token_no_default_policy),
        ..SetAppRoleRequest::default()
    };
    client.call(Target::Leader, request, Retry::Idempotent, by).await.and_then(Reply::done)
}

/// Deletes a role and all its secret IDs; one that is gone already is done. Tokens live on.
pub async fn delete_role(
    client: &VaultClient,
    mount: &str,
    name: &str,
    by: Instant,
) -> Result<(), VaultError> {
    let request = DeleteAppRoleRequest { mount: mount.to_owned(), role_name: name.to_owned() };
    found(client.call(Target::Leader, request, Retry::Idempotent, by).await)?.map_or(Ok(()), Reply::done)
}

/// The `role_id` of a role.
pub async fn role_id(
    client: &VaultClient,
    mount: &str,
    name: &str,
    by: Instant,
) -> Result<SecretString, VaultError> {
    #[derive(Deserialize)]
    struct RoleId {
        role_id: SecretString,
    }
    let request = ReadRoleIDRequest { mount: mount.to_owned(), role_name: name.to_owned() };
    let reply = client.call(Target::Leader, request, Retry::Idempotent, by).await?;
    reply.data::<RoleId>().map(|data| data.role_id)
}

/// Issues a secret ID, by a request that is sent once: one whose answer is lost stays behind as a stray.
///
/// `metadata` is shown by its look-up.
pub async fn issue_secret_id(
    client: &VaultClient,
    mount: &str,
    name: &str,
    metadata: &BTreeMap<String, String>,
    by: Instant,
) -> Result<IssuedSecretId, VaultError> {
    let request = GenerateNewSecretIDRequest {
        mount: mount.to_owned(),
        role_name: name.to_owned(),
        // The API takes a JSON object inside a string. A map of strings is always JSON.
        metadata: Some(serde_json::to_string(metadata).unwrap_or_default()),
        ..GenerateNewSecretIDRequest::default()
    };
    client.call(Target::Leader, request, Retry::Never, by).await?.data()
}

/// The accessors of a role's secret IDs; some may belong to expired ones.
pub async fn secret_id_accessors(
    client: &VaultClient,
    mount: &str,
    name: &str,
    by: Instant,
) -> Result<Vec<String>, VaultError> {
    let request = ListSecretIDRequest { mount: mount.to_owned(), role_name: name.to_owned() };
    keys(client.call(Target::Leader, request, Retry::Idempotent, by).await)
}

/// A living secret ID as its accessor shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretIdStatus {
    /// How long it was to live when it was issued; zero for ever.
    pub ttl: Duration,
    /// How long it lives from now on, by the server's own clock; `None` for ever.
    pub remaining: Option<Duration>,
    /// What its issuer noted.
    pub metadata: BTreeMap<String, String>,
}

/// Looks a secret ID up by its accessor; `None` where it has expired or is gone.
pub async fn look_up_accessor(
    client: &VaultClient,
    mount: &str,
    name: &str,
    accessor: &str,
    by: Instant,
) -> Result<Option<SecretIdStatus>, VaultError> {
    #[derive(Deserialize)]
    struct Found {
        expiration_time: String,
        #[serde(deserialize_with = "seconds")]
        secret_id_ttl: Duration,
        metadata: Option<BTreeMap<String, String>>,
    }
    let request = ReadSecretIDAccessorRequest {
        mount: mount.to_owned(),
        role_name: name.to_owned(),
        secret_id_accessor: accessor.to_owned(),
    };
    let reply = match found(client.call(Target::Leader, request, Retry::Idempotent, by).await)? {
        // An expired one that the server has yet to clear away answers 204.
        Some(reply) if !reply.body.is_empty() => reply,
        _ => return Ok(None),
    };
    let data: Found = reply.data()?;
    let (ttl, metadata) = (data.secret_id_ttl, data.metadata.unwrap_or_default());
    if ttl.is_zero() {
        return Ok(Some(SecretIdStatus { ttl, remaining: None, metadata }));
    }
    let expires = clock::rfc3339(&data.expiration_time)
        .ok_or_else(|| reply.unexpected("an expiration_time that is no RFC 3339 time".to_owned()))?;
    let now = clock::of_answer(&reply.headers).ok_or_else(|| {
        reply.unexpected("no Date header, by which the expiration would be told".to_owned())
    })?;
    let remaining = expires.duration_since(now).unwrap_or_default();
    Ok((!remaining.is_zero()).then_some(SecretIdStatus { ttl, remaining: Some(remaining), metadata }))
}

/// Destroys a secret ID by its accessor. One that is gone already is done, though the server answers 500.
pub async fn destroy_accessor(
    client: &VaultClient,
    mount: &str,
    name: &str,
    accessor: &str,
    by: Instant,
) -> Result<(), VaultError> {
    let request = DeleteSecretIDAccessorRequest {
        mount: mount.to_owned(),
        role_name: name.to_owned(),
        secret_id_accessor: accessor.to_owned(),
    };
    match client.call(Target::Leader, request, Retry::Never, by).await {
        Err(VaultError::Unexpected { status: 500, messages, .. })
            if messages.iter().any(|message| message.contains("failed to find accessor entry")) =>
        {
            Ok(())
        }
        result => found(result)?.map_or(Ok(()), Reply::done),
    }
}

/// Vault writes an empty list as `null` in some versions.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Networks with their prefix: the server writes that of a single host in some lists and not in others.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let with_prefix = |network: String| match network.contains('/') {
        true => network,
        false if network.contains(':') => network + "/128",
        false => network + "/32",
    };
    Ok(or_empty(deserializer)?.into_iter().map(with_prefix).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_was_written() {
        let role: Role = serde_json::from_str(
            r#"{"bind_secret_id":true,"token_period":0,"token_num_uses":0,"token_policies":null,"token_ttl":3600,"token_max_ttl":14400,"secret_id_ttl":3600,
                "secret_id_num_uses":0,"secret_id_bound_cidrs":["10.0.0.1/32"],
                "token_bound_cidrs":["10.0.0.1","fd00::1","172.20.0.0/16"],"token_no_default_policy":false}"#,
        )
        .unwrap();
        assert_eq!(role.token_bound_cidrs, ["10.0.0.1/32", "fd00::1/128", "172.20.0.0/16"]);
        assert_eq!((role.token_ttl, role.token_policies.len()), (Duration::from_hours(1), 0));
    }
}
