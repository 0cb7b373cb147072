//! Making new key shares: `sys/rotate/root/` in OpenBao, `sys/rekey/` in Vault.
//!
//! Always with verification: the server hands out the new shares, and the old ones stay good until as many of the
//! new ones as the threshold were given back to it. Whoever loses the answer has lost nothing.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError};

const GENERATIONS: [&str; 2] = ["sys/rotate/root", "sys/rekey"];

/// A rekey that waits for current shares.
#[derive(Debug)]
pub struct Attempt {
    endpoints: &'static str,
    nonce: String,
    /// How many current shares it takes.
    pub required: usize,
}

/// A rekey that waits for its own new shares.
#[derive(Debug)]
pub struct Verification {
    endpoints: &'static str,
    nonce: String,
    /// How many new shares it takes.
    pub required: usize,
}

#[derive(Deserialize)]
struct Progress {
    #[serde(default)]
    nonce: String,
    #[serde(default)]
    required: usize,
    /// The threshold of the new shares.
    #[serde(default)]
    t: usize,
    #[serde(default)]
    started: bool,
    #[serde(default)]
    complete: bool,
}

/// Begins a rekey. There is one at a time: while another one is under way it is refused (400).
pub async fn start(
    client: &VaultClient,
    shares: u8,
    threshold: u8,
    by: Instant,
) -> Result<Attempt, VaultError> {
    let [newer, older] = GENERATIONS;
    match start_at(newer, client, shares, threshold, by).await {
        Err(error) if error.is_unknown_endpoint() => {
            match start_at(older, client, shares, threshold, by).await {
                // Both are there no more than a permission is: the first answer says so.
                Err(other) if other.is_unknown_endpoint() => Err(error),
                result => result,
            }
        }
        result => result,
    }
}

async fn start_at(
    endpoints: &'static str,
    client: &VaultClient,
    shares: u8,
    threshold: u8,
    by: Instant,
) -> Result<Attempt, VaultError> {
    let body =
        json!({ "secret_shares": shares, "secret_threshold": threshold, "require_verification": true });
    let request = Plain::post(format!("{endpoints}/init"), body);
    let reply = client.call(Target::Leader, request, Retry::Never, by).await?;
    let Progress { nonce, required, .. } = reply.data_or_flat()?;
    Ok(Attempt { endpoints, nonce, required })
}

/// Provides one current share; gives the answer with the new shares, to be stored as it came, once it was the last
/// that was needed. After a wrong combination (400) the attempt stands, and waits for all of them again.
pub async fn provide(
    client: &VaultClient,
    attempt: &Attempt,
    share: &SecretString,
    by: Instant,
) -> Result<Option<Reply>, VaultError> {
    let body = json!({ "nonce": attempt.nonce, "key": share.expose_secret() });
    let request = Plain::post(format!("{}/update", attempt.endpoints), body);
    let reply = client.call(Target::Leader, request, Retry::Never, by).await?;
    let Progress { complete, .. } = reply.data_or_flat()?;
    Ok(complete.then_some(reply))
}

/// The rekey that waits for its new shares, if there is one.
pub async fn pending(client: &VaultClient, by: Instant) -> Result<Option<Verification>, VaultError> {
    for endpoints in GENERATIONS {
        let request = Plain::get(format!("{endpoints}/verify"));
        match client.call(Target::Leader, request, Retry::Idempotent, by).await {
            Ok(reply) => {
                let Progress { nonce, t, started, .. } = reply.data_or_flat()?;
                return Ok(started.then_some(Verification { endpoints, nonce, required: t }));
            }
            Err(error) if error.is_unknown_endpoint() => {}
            // There is no rekey, or one without verification.
            Err(VaultError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Gives one new share back; `true` once it was the last that was needed: from then on the new ones count.
pub async fn verify(
    client: &VaultClient,
    verification: &Verification,
    share: &SecretString,
    by: Instant,
) -> Result<bool, VaultError> {
    let body = json!({ "nonce": verification.nonce, "key": share.expose_secret() });
    let request = Plain::post(format!("{}/verify", verification.endpoints), body);
    let reply = client.call(Target::Leader, request, Retry::Never, by).await?;
    let Progress { complete, .. } = reply.data_or_flat()?;
    Ok(complete)
}

/// Ends whatever rekey is under way; the current shares stay as they are.
pub async fn cancel(client: &VaultClient, by: Instant) -> Result<(), VaultError> {
    let [newer, older] = GENERATIONS;
    let end = |endpoints: &str| Plain::delete(format!("{endpoints}/init"));
    match client.call(Target::Leader, end(newer), Retry::Idempotent, by).await {
        Err(error) if error.is_unknown_endpoint() => {
            client.call(Target::Leader, end(older), Retry::Idempotent, by).await.and_then(Reply::done)
        }
        result => result.and_then(Reply::done),
    }
}
