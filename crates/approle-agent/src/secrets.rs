//! Reading the service's secrets from Vault.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use tokio::task::JoinSet;
use vault_client::{VaultClient, kv2};

use crate::AgentError;

/// Which secret, and which version of it; the newest where that is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretName {
    pub(crate) name: String,
    version: Option<u64>,
}

impl FromStr for SecretName {
    type Err = String;

    /// `NAME` or `NAME@VERSION`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.rsplit_once('@') {
            None => (text, None),
            Some((name, version)) => match version.parse() {
                Ok(version) if version > 0 => (name, Some(version)),
                _ => return Err("write the version behind the @ as a number from 1".to_owned()),
            },
        };
        if name.is_empty() {
            return Err("the name of a secret is empty".to_owned());
        }
        Ok(Self { name: name.to_owned(), version })
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            None => out.write_str(&self.name),
            Some(version) => write!(out, "{}@{version}", self.name),
        }
    }
}

/// The secrets that were asked for, in that order: each one's keys and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    all: Vec<Secret>,
}

#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) values: BTreeMap<String, SecretString>,
}

impl Secrets {
    /// Reads the secrets `names` below `mount`, side by side. Every one must be there and readable.
    pub(crate) async fn read(
        client: &VaultClient,
        mount: &str,
        names: &[SecretName],
    ) -> Result<Self, AgentError> {
        let mut reading = JoinSet::new();
        for (index, asked) in names.iter().enumerate() {
            let (client, mount, asked) = (client.clone(), mount.to_owned(), asked.clone());
            reading.spawn(async move {
                let read = kv2::read(&client, &mount, &asked.name, asked.version, client.soon()).await;
                (index, read)
            });
        }
        let mut read = reading.join_all().await;
        read.sort_by_key(|(index, _)| *index);
        let all = read.into_iter().zip(names).map(|((_, result), asked)| {
            let path = || format!("{mount}/{asked}");
            match result {
                Ok(Some(secret)) => Ok(Secret { name: asked.name.clone(), values: secret.values }),
                Ok(None) => Err(AgentError::Missing { path: path() }),
                Err(cause) => Err(AgentError::Read { path: path(), cause }),
            }
        });
        Ok(Self { all: all.collect::<Result<_, _>>()? })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.all.iter()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Secret> {
        self.all.iter().find(|secret| secret.name == name)
    }

    #[cfg(test)]
    pub(crate) fn of(all: &[(&str, &[(&str, &str)])]) -> Self {
        let values = |values: &[(&str, &str)]| {
            values.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect()
        };
        let secret = |(name, keys): &(&str, &[(&str, &str)])| Secret {
            name: (*name).to_owned(),
            values: values(keys),
        };
        Self { all: all.iter().map(secret).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_with_or_without_its_version() {
        let parse = |text: &str| text.parse::<SecretName>();
        assert_eq!(parse("user"), Ok(SecretName { name: "user".to_owned(), version: None }));
        assert_eq!(parse("team/a@b@3"), Ok(SecretName { name: "team/a@b".to_owned(), version: Some(3) }));
        for wrong in ["", "@3", "user@", "user@0", "user@latest", "user@-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
