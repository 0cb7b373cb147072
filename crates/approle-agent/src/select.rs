//! From the keys of secrets to the names that a service knows them by.

use std::collections::BTreeMap;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};

use crate::AgentError;
use crate::secrets::Secrets;

/// Which keys, and under which names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// All keys where there is none.
    pub(crate) keys: Vec<Wanted>,
    /// Before every name that was not given to a key by itself.
    pub(crate) prefix: String,
    pub(crate) upper: bool,
}

/// One key that is wanted: `[SECRET:]KEY[=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    secret: Option<String>,
    key: String,
    name: Option<String>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, name) = match text.split_once('=') {
            Some((source, name)) => (source, Some(name.to_owned())),
            None => (text, None),
        };
        let (secret, key) = match source.split_once(':') {
            Some((secret, key)) => (Some(secret.to_owned()), key),
            None => (None, source),
        };
        let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if key.is_empty() || is_empty(&secret) || is_empty(&name) {
            return Err("write KEY, KEY=NAME or SECRET:KEY=NAME".to_owned());
        }
        Ok(Self { secret, key: key.to_owned(), name })
    }
}

/// Values by the names that the service knows them by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    values: BTreeMap<String, SecretString>,
    /// `SECRET:KEY` of each, for messages.
    origins: BTreeMap<String, String>,
}

impl Selection {
    /// The wanted keys under their names. One that no secret has is an error, and so is a name with two values.
    pub(crate) fn of(&self, secrets: &Secrets) -> Result<Variables, AgentError> {
        let mut variables = Variables::default();
        if self.keys.is_empty() {
            for secret in secrets.iter() {
                for (key, value) in &secret.values {
                    variables.add(self.named(key), &secret.name, key, value)?;
                }
            }
            return Ok(variables);
        }
        for wanted in &self.keys {
            let name = wanted.name.clone().unwrap_or_else(|| self.named(&wanted.key));
            let mut found = false;
            for secret in secrets.iter().filter(|secret| wanted.is_of(&secret.name)) {
                if let Some(value) = secret.values.get(&wanted.key) {
                    variables.add(name.clone(), &secret.name, &wanted.key, value)?;
                    found = true;
                }
            }
            if !found {
                let asked = secrets.iter().map(|secret| &secret.name).filter(|name| wanted.is_of(name));
                let secrets = asked.cloned().collect::<Vec<_>>().join(", ");
                return Err(AgentError::NoSuchKey { key: wanted.key.clone(), secrets });
            }
        }
        Ok(variables)
    }

    fn named(&self, key: &str) -> String {
        let name = format!("{}{key}", self.prefix);
        if self.upper { name.to_ascii_uppercase() } else { name }
    }
}

impl Wanted {
    fn is_of(&self, secret: &str) -> bool {
        self.secret.as_ref().is_none_or(|wanted| wanted == secret)
    }
}

impl Variables {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    fn add(&mut self, name: String, secret: &str, key: &str, value: &SecretString) -> Result<(), AgentError> {
        let origin = format!("{secret}:{key}");
        if let Some(known) = self.values.get(&name) {
            if known.expose_secret() != value.expose_secret() {
                let first = self.origins.remove(&name).unwrap_or_default();
                return Err(AgentError::Ambiguous { name, first, second: origin });
            }
            return Ok(());
        }
        self.origins.insert(name.clone(), origin);
        self.values.insert(name, value.clone());
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn of(values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        Self { values, origins: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::of(&[
            ("user", &[("a", "canary-1"), ("b", "canary-2")]),
            ("user_db", &[("b", "canary-2"), ("c", "canary-3"), ("d", "canary-4")]),
            ("chat", &[("d", "canary-5")]),
        ])
    }

    fn names(keys: &[&str], prefix: &str, upper: bool) -> Result<Vec<String>, AgentError> {
        let keys = keys.iter().map(|key| key.parse().unwrap()).collect();
        let variables = Selection { keys, prefix: prefix.to_owned(), upper }.of(&secrets())?;
        Ok(variables.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect())
    }

    #[test]
    fn keys_are_chosen_and_named() {
        assert_eq!(names(&["a", "c=PW"], "", false).unwrap(), ["PW=canary-3", "a=canary-1"]);
        assert_eq!(names(&["a", "c=pw"], "db_", true).unwrap(), ["DB_A=canary-1", "pw=canary-3"]);
        // A key that two secrets have with one value is one key; with two values it is to be told whose.
        assert_eq!(names(&["b"], "", false).unwrap(), ["b=canary-2"]);
        assert_eq!(names(&["chat:d", "user_db:d=e"], "", false).unwrap(), ["d=canary-5", "e=canary-4"]);
    }

    #[test]
    fn a_name_with_two_values_is_told_without_them() {
        for keys in [&[][..], &["d"], &["a=x", "c=x"]] {
            let error = names(keys, "", false).unwrap_err().to_string();
            assert!(error.contains(':') && !error.contains("canary"), "{error}");
        }
        let error = names(&[], "", false).unwrap_err().to_string();
        assert!(error.contains("user_db:d") && error.contains("chat:d"), "{error}");
    }

    #[test]
    fn a_key_that_is_not_there_is_named_with_where_it_was_looked_for() {
        let error = names(&["user:c"], "", false).unwrap_err().to_string();
        assert!(error.contains("key c") && error.contains("user") && !error.contains("chat"), "{error}");
    }

    #[test]
    fn a_key_is_written_in_one_way() {
        for wrong in ["", "=A", "KEY=", ":KEY", "user:", "user:=A"] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
    }
}
