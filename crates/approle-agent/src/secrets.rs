//! Reading the service's secrets from Vault.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinSet;
use vault_client::{VaultClient, kv2};

use crate::AgentError;

/// The keys of all secrets that were asked for, and their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    values: BTreeMap<String, SecretString>,
}

impl Secrets {
    /// Reads the secrets `names` below `mount`, side by side. Every one must be there and readable.
    pub(crate) async fn read(
        client: &VaultClient,
        mount: &str,
        names: &[String],
    ) -> Result<Self, AgentError> {
        let mut reading = JoinSet::new();
        for (index, name) in names.iter().enumerate() {
            let (client, mount, name) = (client.clone(), mount.to_owned(), name.clone());
            reading.spawn(async move {
                let path = format!("{mount}/{name}");
                let read = kv2::read(&client, &mount, &name, None, client.soon()).await;
                (index, path, read)
            });
        }
        let mut read = reading.join_all().await;
        read.sort_by_key(|(index, ..)| *index);

        let mut all = Merge::default();
        for (_, path, result) in read {
            match result {
                Ok(Some(secret)) => all.add(&path, secret.values)?,
                Ok(None) => return Err(AgentError::Missing { path }),
                Err(cause) => return Err(AgentError::Read { path, cause }),
            }
        }
        Ok(Self { values: all.values })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    #[cfg(test)]
    pub(crate) fn of(values: &[(&str, &str)]) -> Self {
        Self { values: values.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect() }
    }
}

/// Several secrets as one: a key may be in more than one, with one value.
#[derive(Default)]
struct Merge {
    values: BTreeMap<String, SecretString>,
    origins: BTreeMap<String, String>,
}

impl Merge {
    fn add(&mut self, path: &str, values: BTreeMap<String, SecretString>) -> Result<(), AgentError> {
        for (key, value) in values {
            if let Some(known) = self.values.get(&key) {
                if known.expose_secret() != value.expose_secret() {
                    let first = self.origins.remove(&key).unwrap_or_default();
                    return Err(AgentError::Ambiguous { key, first, second: path.to_owned() });
                }
                continue;
            }
            self.origins.insert(key.clone(), path.to_owned());
            self.values.insert(key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(values: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
        Secrets::of(values).values
    }

    #[test]
    fn a_shared_key_is_one_key() {
        let mut all = Merge::default();
        all.add("secret/user", secret(&[("A", "1"), ("B", "2")])).unwrap();
        all.add("secret/user_db", secret(&[("B", "2"), ("C", "3")])).unwrap();
        assert_eq!(all.values.keys().collect::<Vec<_>>(), ["A", "B", "C"]);
    }

    #[test]
    fn a_key_with_two_values_is_named_without_them() {
        let mut all = Merge::default();
        all.add("secret/user", secret(&[("B", "canary-1")])).unwrap();
        let error = all.add("secret/user_db", secret(&[("B", "canary-2")])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("key B") && text.contains("secret/user ") && text.contains("secret/user_db"),
            "{text}"
        );
        assert!(!format!("{text} {error:?} {all:?}", all = all.values).contains("canary"));
    }
}
