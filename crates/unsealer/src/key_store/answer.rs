use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// The keys in an answer of the server, to `sys/init` or to the last share of a rekey.
#[derive(Deserialize)]
pub(super) struct Answer {
    keys_base64: Option<Vec<SecretString>>,
    recovery_keys_base64: Option<Vec<SecretString>>,
    root_token: Option<SecretString>,
}

/// OpenBao's newer endpoints nest their answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Nested { data: Answer },
    Flat(Answer),
}

impl Answer {
    /// The answer to `sys/init`, with a root token.
    pub(super) fn of_init(body: &[u8]) -> Result<(Self, SecretString), String> {
        let mut answer = Self::parse(body)?;
        match answer.root_token.take() {
            Some(token) if !token.expose_secret().is_empty() => Ok((answer, token)),
            _ => Err("it holds no root token".to_owned()),
        }
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        // serde_json's own words may quote a key.
        let is_json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(body);
        is_json.map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        let Ok(Body::Nested { data: answer } | Body::Flat(answer)) = serde_json::from_slice(body) else {
            return Err("it is no object with keys".to_owned());
        };
        if answer.shares().is_empty() && answer.recovery_shares().is_empty() {
            return Err("it holds no keys".to_owned());
        }
        Ok(answer)
    }

    /// The key shares, in Vault's base64.
    pub(super) fn shares(&self) -> &[SecretString] {
        self.keys_base64.as_deref().unwrap_or_default()
    }

    /// The same of a server that unseals itself.
    pub(super) fn recovery_shares(&self) -> &[SecretString] {
        self.recovery_keys_base64.as_deref().unwrap_or_default()
    }
}
