//! `sys/`: initialising, unsealing, who is active.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use vaultrs::api::sys::requests::UnsealRequest;

use crate::endpoint::Plain;
use crate::{Connection, Reply, Retry, Target, VaultClient, VaultError};

/// `GET sys/seal-status`, which answers before and after unsealing, with or without a token.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct SealStatus {
    /// Whether there is anything to unseal. A raft node that has yet to join says `false`.
    pub initialized: bool,
    /// Whether the node is sealed.
    pub sealed: bool,
    /// `shamir` where shares unseal it; another type unseals itself.
    #[serde(rename = "type")]
    pub seal_type: String,
    /// The threshold: how many shares unseal it.
    #[serde(rename = "t")]
    pub threshold: usize,
    /// How many shares there are.
    #[serde(rename = "n")]
    pub shares: usize,
    /// How many shares the node holds of the current attempt.
    pub progress: usize,
    /// The server's version.
    #[serde(default)]
    pub version: String,
    /// The connection that the answer came by.
    #[serde(skip)]
    pub connection: Option<Connection>,
}

impl SealStatus {
    /// Whether key shares are what unseals it; another seal does so by itself.
    #[must_use]
    pub fn is_unsealed_by_shares(&self) -> bool {
        self.seal_type == "shamir"
    }
}

/// Reads the seal status of the node with this index.
pub async fn seal_status(client: &VaultClient, node: usize, by: Instant) -> Result<SealStatus, VaultError> {
    let reply = client.call(Target::Node(node), Plain::get("sys/seal-status"), Retry::Never, by).await?;
    Ok(SealStatus { connection: reply.connection, ..reply.json()? })
}

/// `POST sys/init`, sent once and never again by itself.
///
/// The answer holds the key shares and the root token: it is given as it came, to be stored before it is read.
/// Nobody can ask for it again, so that it is waited for longer than for anything else.
///
/// A server that unseals itself makes recovery keys, and refuses to be asked for shares of another kind.
pub async fn init(
    client: &VaultClient,
    node: usize,
    by_shares: bool,
    shares: u8,
    threshold: u8,
) -> Result<Reply, VaultError> {
    const PATIENCE: Duration = Duration::from_mins(2);
    let client = client.with_timeout(PATIENCE);
    let body = if by_shares {
        json!({ "secret_shares": shares, "secret_threshold": threshold })
    } else {
        json!({ "recovery_shares": shares, "recovery_threshold": threshold })
    };
    client.call(Target::Node(node), Plain::post("sys/init", body), Retry::Never, client.soon()).await
}

/// `PUT sys/unseal` with one key share, base64 or hex as the server gave it.
pub async fn unseal(
    client: &VaultClient,
    node: usize,
    share: &SecretString,
    by: Instant,
) -> Result<SealStatus, VaultError> {
    let request = UnsealRequest { key: Some(share.expose_secret().to_owned()), ..UnsealRequest::default() };
    client.call(Target::Node(node), request, Retry::Never, by).await?.json()
}

/// `PUT sys/unseal` with `reset`: the node forgets the shares of an unfinished attempt.
pub async fn reset_unseal(client: &VaultClient, node: usize, by: Instant) -> Result<SealStatus, VaultError> {
    let request = UnsealRequest { reset: Some(true), ..UnsealRequest::default() };
    client.call(Target::Node(node), request, Retry::Never, by).await?.json()
}

/// `GET sys/leader`: whether this node is the active one.
pub async fn is_leader(client: &VaultClient, node: usize, by: Instant) -> Result<bool, VaultError> {
    #[derive(Deserialize)]
    struct Leader {
        ha_enabled: bool,
        // OpenBao leaves it out where there is one node alone.
        #[serde(default)]
        is_self: bool,
    }
    let leader: Leader = client.send(node, &Plain::get("sys/leader"), by).await?.json()?;
    Ok(leader.is_self || !leader.ha_enabled)
}

/// Waits until the active node answers and is unsealed.
pub async fn unsealed(client: &VaultClient, by: Instant) -> Result<(), VaultError> {
    // Many paths answer while sealed; this one never does, and denies whoever comes without a good token.
    let request = Plain::get("auth/token/lookup-self");
    match client.call(Target::Leader, request, Retry::Idempotent, by).await {
        Ok(_) | Err(VaultError::Denied { .. } | VaultError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// `GET sys/health` of the active node: whether it is there and unsealed. It needs no token, and no audit device records
/// it; an answer that says neither, as in a namespace that does not have the path, is one.
pub async fn active(client: &VaultClient, by: Instant) -> Result<(), VaultError> {
    match client.call(Target::Leader, Plain::get("sys/health"), Retry::Idempotent, by).await {
        Err(VaultError::Unexpected { request, status: 503, .. }) => Err(VaultError::Sealed { request }),
        Err(error) if error.is_transient() => Err(error),
        _ => Ok(()),
    }
}

/// Waits until Vault was out of reach and is back. Whatever was asked before is lost then: a network that came back
/// brings no answer to what it swallowed. A server that is there and slow is not taken for one that was away.
///
/// It is asked once a second, and not in the first.
pub async fn came_back(client: &VaultClient) {
    const EVERY: Duration = Duration::from_secs(1);
    /// No server that is there takes as long to say so.
    const AWAY_AFTER: Duration = Duration::from_secs(2);
    let client = client.without_retries().with_timeout(AWAY_AFTER);
    let mut asked = JoinSet::new();
    let (mut next, mut was_away) = (Instant::now() + EVERY, false);
    loop {
        tokio::select! {
            // The one before may have no answer yet: a network that is back brings the next one's.
            () = tokio::time::sleep_until(next) => {
                next += EVERY;
                let client = client.clone();
                asked.spawn(async move { active(&client, client.soon()).await });
            }
            Some(answer) = asked.join_next() => match answer {
                Ok(Err(VaultError::Unreachable { .. })) => was_away = true,
                _ if was_away => return,
                _ => {}
            }
        }
    }
}
