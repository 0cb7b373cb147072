//! Making a root token from key shares: `sys/generate-root-token/` in OpenBao, `sys/generate-root/` in Vault.
//!
//! The server encodes the token with a one-time pad that it gave at the start, so that neither answer alone
//! is worth anything. Pad and token stay in memory.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError};

/// The newer endpoints first: they want a token besides the shares.
const GENERATIONS: [&str; 2] = ["sys/generate-root-token", "sys/generate-root"];

/// The servers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A generation under way.
#[derive(Debug)]
pub struct Attempt {
    endpoints: &'static str,
    nonce: String,
    pad: SecretString,
    /// How many shares it takes.
    pub required: usize,
}

#[derive(Deserialize)]
struct Progress {
    nonce: String,
    #[serde(default)]
    required: usize,
    otp: Option<SecretString>,
    #[serde(default)]
    complete: bool,
    encoded_token: Option<SecretString>,
}

/// Starts a generation. There is one at a time: one that somebody else began is refused (400).
pub async fn start(client: &VaultClient, by: Instant) -> Result<Attempt, VaultError> {
    let [newer, older] = GENERATIONS;
    match start_at(newer, client, by).await {
        Err(error) if error.is_unknown_endpoint() => start_at(older, client, by).await,
        result => result,
    }
}

async fn start_at(endpoints: &'static str, client: &VaultClient, by: Instant) -> Result<Attempt, VaultError> {
    let request = Plain::post(format!("{endpoints}/attempt"), json!({}));
    let reply = client.call(Target::Leader, request, Retry::Never, by).await?;
    let Progress { nonce, required, otp, .. } = reply.data_or_flat()?;
    let pad = otp.ok_or_else(|| reply.unexpected("no one-time pad".to_owned()))?;
    Ok(Attempt { endpoints, nonce, pad, required })
}

/// Provides one share; gives the root token once it was the last that was needed.
pub async fn provide(
    client: &VaultClient,
    attempt: &Attempt,
    share: &SecretString,
    by: Instant,
) -> Result<Option<SecretString>, VaultError> {
    let body = json!({ "nonce": attempt.nonce, "key": share.expose_secret() });
    let request = Plain::post(format!("{}/update", attempt.endpoints), body);
    let reply = client.call(Target::Leader, request, Retry::Never, by).await?;
    let Progress { complete, encoded_token, .. } = reply.data_or_flat()?;
    if !complete {
        return Ok(None);
    }
    let token = encoded_token.and_then(|encoded| decode(&encoded, &attempt.pad));
    token
        .map(Some)
        .ok_or_else(|| reply.unexpected("an encoded token that does not fit its one-time pad".to_owned()))
}

/// Whether the server says that the shares are not its own. OpenBao 2.7 says so with 500 and the cipher's own words; any
/// other failure says nothing about them.
#[must_use]
pub fn is_refusal(error: &VaultError) -> bool {
    const WRONG_KEY: &str = "message authentication failed";
    matches!(error, VaultError::Refused { .. })
        || error.messages().iter().any(|message| message.contains(WRONG_KEY))
}

/// Ends whatever generation is under way, without a token.
pub async fn cancel(client: &VaultClient, by: Instant) -> Result<(), VaultError> {
    let [newer, older] = GENERATIONS;
    let end = |endpoints: &str| Plain::delete(format!("{endpoints}/attempt"));
    match client.call(Target::Leader, end(newer), Retry::Idempotent, by).await {
        Err(error) if error.is_unknown_endpoint() => {
            client.call(Target::Leader, end(older), Retry::Idempotent, by).await.and_then(Reply::done)
        }
        result => result.and_then(Reply::done),
    }
}

fn decode(encoded: &SecretString, pad: &SecretString) -> Option<SecretString> {
    let encoded = Zeroizing::new(BASE64.decode(encoded.expose_secret()).ok()?);
    let pad = pad.expose_secret().as_bytes();
    if encoded.len() != pad.len() {
        return None;
    }
    let token: Zeroizing<Vec<u8>> =
        Zeroizing::new(encoded.iter().zip(pad).map(|(encoded, pad)| encoded ^ pad).collect());
    std::str::from_utf8(&token).ok().map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pad_uncovers_the_token() {
        // Taken from an OpenBao 2.7.2.
        let token =
            decode(&"OU9XNVVKWiFxXTdbBToIH34wJnMBUipydA0".into(), &"Ja6D82hS46Xh4pMS3FTG56b1MD".into());
        assert!(token.unwrap().expose_secret().starts_with("s."));
        assert!(decode(&"OU9X".into(), &"Ja6D".into()).is_none());
        assert!(decode(&"?".into(), &"J".into()).is_none());
    }
}
