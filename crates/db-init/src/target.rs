//! What there is to be: the database and role that the service's secret describes.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use vault_client::{VaultClient, kv2};

use crate::DbInitError;

/// PostgreSQL cuts longer names off in silence (`NAMEDATALEN` - 1).
pub(crate) const MAX_NAME: usize = 63;

/// A service's database, as its secret describes it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) user: String,
    pub(crate) password: SecretString,
    pub(crate) database: String,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// The keys of user and password in the secret.
    pub(crate) user_key: String,
    pub(crate) password_key: String,
}

/// The secret `name`, below the mount.
pub(crate) async fn read_secret(
    client: &VaultClient,
    mount: &str,
    name: &str,
) -> Result<kv2::Secret, DbInitError> {
    let path = format!("{mount}/{name}");
    match kv2::read(client, mount, name, None, client.soon()).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(DbInitError::MissingSecret { path }),
        Err(cause) => Err(DbInitError::ReadSecret { path, cause }),
    }
}

/// The value of `key` in the secret; an empty one is none.
pub(crate) fn value(
    secret: &BTreeMap<String, SecretString>,
    mount: &str,
    name: &str,
    key: &str,
) -> Result<SecretString, DbInitError> {
    let value = secret.get(key).filter(|value| !value.expose_secret().is_empty());
    let missing = || DbInitError::MissingKey { path: format!("{mount}/{name}"), key: key.to_owned() };
    value.cloned().ok_or_else(missing)
}

impl Target {
    /// Takes the database's keys from the secret of `service`.
    pub(crate) fn of(
        service: &str,
        mount: &str,
        secret: &BTreeMap<String, SecretString>,
    ) -> Result<Self, DbInitError> {
        let (path, prefix) = (format!("{mount}/{service}"), prefix(service));
        let optional = |suffix: &str| {
            let key = format!("{prefix}_{suffix}");
            let value = secret.get(&key).filter(|value| !value.expose_secret().is_empty());
            (key, value)
        };
        let required = |suffix: &str| {
            let key = format!("{prefix}_{suffix}");
            value(secret, mount, service, &key).map(|value| (key, value))
        };
        let (user_key, user) = required("USER")?;
        let (password_key, password) = required("PASSWORD")?;
        let (database_key, database) = required("NAME")?;
        let unusable = |key: &str, why: &'static str| DbInitError::Value {
            path: path.clone(),
            key: key.to_owned(),
            why,
        };
        for (key, value) in [(&user_key, &user), (&password_key, &password), (&database_key, &database)] {
            if value.expose_secret().contains('\0') {
                return Err(unusable(key, "it contains NUL, which PostgreSQL cannot store"));
            }
        }
        // The server would clear the password, and libpq would send another one than the driver here.
        if password.expose_secret().chars().all(stringprep::tables::commonly_mapped_to_nothing) {
            let why = "it is made of invisible characters alone, of which logins (SASLprep) leave nothing";
            return Err(unusable(&password_key, why));
        }
        for (key, value) in [(&user_key, &user), (&database_key, &database)] {
            if value.expose_secret().len() > MAX_NAME {
                return Err(unusable(key, "it is longer than the 63 bytes that PostgreSQL keeps of a name"));
            }
        }
        let (port_key, port) = optional("PORT");
        let port = port.map(|port| port.expose_secret().parse()).transpose();
        let port = port.map_err(|_| unusable(&port_key, "it is not a port number"))?;
        let (_, host) = optional("HOST");
        Ok(Self {
            user: user.expose_secret().to_owned(),
            password,
            database: database.expose_secret().to_owned(),
            host: host.map(|host| host.expose_secret().to_owned()),
            port,
            user_key,
            password_key,
        })
    }

    /// One whose names and password try to break out of their quotes.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            user: "o'brien".to_owned(),
            password: "canary'; DROP TABLE x; --".into(),
            database: "users\"db".to_owned(),
            host: None,
            port: None,
            user_key: "USER_DB_USER".to_owned(),
            password_key: "USER_DB_PASSWORD".to_owned(),
        }
    }
}

/// What the keys of a service's database begin with: `USER_DB` for the services `user` and `user_db` alike.
fn prefix(service: &str) -> String {
    let name = service.to_uppercase().replace('-', "_");
    if name.ends_with("_DB") { name } else { name + "_DB" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(changes: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
        let all = [("USER", "u"), ("PASSWORD", "canary"), ("NAME", "d"), ("HOST", "h"), ("PORT", "5433")];
        let mut values: BTreeMap<String, SecretString> =
            all.iter().map(|(key, value)| (format!("USER_DB_{key}"), (*value).into())).collect();
        values.extend(changes.iter().map(|(key, value)| (format!("USER_DB_{key}"), (*value).into())));
        values
    }

    #[test]
    fn takes_the_keys_of_the_service_and_of_its_database_service() {
        assert_eq!((prefix("user"), prefix("user_db")), ("USER_DB".to_owned(), "USER_DB".to_owned()));
        let target = Target::of("user_db", "secret", &secret(&[])).unwrap();
        assert_eq!((target.user.as_str(), target.database.as_str(), target.port), ("u", "d", Some(5433)));
        assert!(!format!("{target:?}").contains("canary"));
    }

    #[test]
    fn names_what_is_missing_or_unusable() {
        let long = "x".repeat(64);
        for (key, value) in [
            ("USER", ""),
            ("PASSWORD", ""),
            ("NAME", ""),
            ("PORT", "http"),
            ("NAME", long.as_str()),
            ("PASSWORD", "can\0ary"),
            ("PASSWORD", "\u{ad}\u{200b}"),
        ] {
            let error = Target::of("user_db", "secret", &secret(&[(key, value)])).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("USER_DB_{key}")) && text.contains("secret/user_db"), "{text}");
            assert!(!text.contains("canary"));
        }
    }
}
