//! The secrets that hold the login, as the rotation's AppRole reaches them.

use secrecy::{ExposeSecret as _, SecretString};
use vault_client::{VaultClient, VaultError, capabilities, kv2};

use super::ATTEMPTS;
use crate::DbInitError;
use crate::args::RotateArgs;
use crate::target::{Target, read_secret, value};

/// A shorter password may be another value, or a part of one, by chance.
const LONG_ENOUGH: usize = 8;

/// Another secret that holds the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(super) name: String,
    /// Where they are not those in the service's own secret.
    key: Option<String>,
    user_key: Option<String>,
}

impl Copy {
    fn key<'a>(&'a self, target: &'a Target) -> &'a str {
        self.key.as_deref().unwrap_or(&target.password_key)
    }

    fn user_key<'a>(&'a self, target: &'a Target) -> &'a str {
        self.user_key.as_deref().unwrap_or(&target.user_key)
    }
}

/// What `--also` names.
pub(crate) fn copies(args: &RotateArgs) -> Result<Vec<Copy>, DbInitError> {
    let copy = |text: &String| {
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        let (name, key, user_key) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if [Some(&name), key.as_ref(), user_key.as_ref()].into_iter().flatten().any(String::is_empty) {
            let form = "SECRET, SECRET:KEY or SECRET:KEY:USER_KEY";
            return Err(DbInitError::Place { flag: "--also", value: text.clone(), form });
        }
        Ok(Copy { name, key, user_key })
    };
    args.also.iter().map(copy).collect()
}

pub(super) struct Secrets<'a> {
    pub(super) client: &'a VaultClient,
    pub(super) mount: &'a str,
    /// The service, whose own secret is the truth.
    pub(super) service: &'a str,
}

impl Secrets<'_> {
    pub(super) async fn read(&self, name: &str) -> Result<kv2::Secret, DbInitError> {
        read_secret(self.client, self.mount, name).await
    }

    /// Fails before anything is changed where one of the secrets could not be written.
    pub(super) async fn may_write(&self, named: &[Copy]) -> Result<(), DbInitError> {
        let all = [self.service].into_iter().chain(named.iter().map(|copy| copy.name.as_str()));
        let paths: Vec<_> = all.map(|name| format!("{}/data/{name}", self.mount)).collect();
        let granted = capabilities::of_self(self.client, &paths, self.client.soon()).await;
        let granted = granted.map_err(DbInitError::Capabilities)?;
        for (data, capabilities) in granted {
            if !capabilities.iter().any(|word| word == "update" || word == "root") {
                return Err(DbInitError::MayNotWrite { path: data.replacen("/data/", "/", 1), data });
            }
        }
        Ok(())
    }

    /// The copies that are named, and every secret with the same key that the policy lets this AppRole read and write.
    ///
    /// Fails where one of these secrets, or the service's own, has the password under a key that is not known.
    pub(super) async fn all_copies(
        &self,
        target: &Target,
        own: &kv2::Secret,
        named: &[Copy],
    ) -> Result<Vec<Copy>, DbInitError> {
        let mut copies = named.to_vec();
        self.has_no_other(target, self.service, own, &copies)?;
        for name in self.others_to_write().await? {
            let Some(secret) = self.look(&name).await? else { continue };
            let is_named =
                copies.iter().any(|copy| copy.name == name && copy.key(target) == target.password_key);
            if !is_named && secret.values.contains_key(&target.password_key) {
                copies.push(Copy { name: name.clone(), key: None, user_key: None });
            }
            self.has_no_other(target, &name, &secret, &copies)?;
        }
        Ok(copies)
    }

    /// All secrets but the service's own that the policy names, whole, to be read and written.
    async fn others_to_write(&self) -> Result<Vec<String>, DbInitError> {
        let rules = capabilities::rules_of_self(self.client, self.client.soon()).await;
        let Some(rules) = rules.map_err(DbInitError::Capabilities)? else {
            tracing::warn!(
                "Vault does not tell what this AppRole may write: the copies are those of --also alone"
            );
            return Ok(Vec::new());
        };
        let prefix = format!("{}/data/", self.mount);
        let may_change = |granted: &capabilities::Granted| {
            ["read", "update"].iter().all(|word| granted.capabilities.iter().any(|has| has == word))
        };
        let paths = rules.exact.iter().filter(|(_, granted)| may_change(granted)).map(|(path, _)| path);
        let names = paths.filter_map(|path| path.strip_prefix(&prefix)).filter(|name| *name != self.service);
        Ok(names.map(str::to_owned).collect())
    }

    /// `None` where there is no such secret.
    async fn look(&self, name: &str) -> Result<Option<kv2::Secret>, DbInitError> {
        match self.read(name).await {
            Ok(secret) => Ok(Some(secret)),
            Err(DbInitError::MissingSecret { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has_no_other(
        &self,
        target: &Target,
        name: &str,
        secret: &kv2::Secret,
        copies: &[Copy],
    ) -> Result<(), DbInitError> {
        let is_known = |key: &str| {
            let own = name == self.service && key == target.password_key;
            own || copies.iter().any(|copy| copy.name == name && copy.key(target) == key)
        };
        match secret.values.iter().find(|(key, value)| !is_known(key) && has_password(target, value)) {
            None => Ok(()),
            Some((key, _)) => Err(DbInitError::UnnamedCopy {
                name: name.to_owned(),
                path: format!("{}/{name}", self.mount),
                key: key.clone(),
            }),
        }
    }

    /// Whether one of the copies holds another password; one that lacks the key is an error, and the user's too where
    /// that is to change.
    pub(super) async fn differs(
        &self,
        target: &Target,
        copies: &[Copy],
        with_user: bool,
    ) -> Result<bool, DbInitError> {
        let mut differs = false;
        for copy in copies {
            let secret = self.read(&copy.name).await?;
            let value = |key: &str| value(&secret.values, self.mount, &copy.name, key);
            differs |= value(copy.key(target))?.expose_secret() != target.password.expose_secret();
            if with_user {
                differs |= value(copy.user_key(target))?.expose_secret() != target.user;
            }
        }
        Ok(differs)
    }

    /// Brings every copy to the login. One that fails keeps none of the others from it.
    pub(super) async fn bring(&self, target: &Target, copies: &[Copy]) -> Result<(), DbInitError> {
        let mut first_error = Ok(());
        for copy in copies {
            let one = self.bring_one(target, copy).await;
            first_error = first_error.and(one);
        }
        first_error
    }

    async fn bring_one(&self, target: &Target, copy: &Copy) -> Result<(), DbInitError> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let secret = self.read(&copy.name).await?;
            let (key, user_key) = (copy.key(target), copy.user_key(target));
            result = self.write(&copy.name, target, key, user_key, &secret).await;
            let overtaken =
                matches!(&result, Err(DbInitError::WriteSecret { cause, .. }) if kv2::is_overtaken(cause));
            if !overtaken {
                break;
            }
        }
        result
    }

    /// Writes the service's own secret, in the version after `seen`.
    pub(super) async fn write_own(&self, target: &Target, seen: &kv2::Secret) -> Result<(), DbInitError> {
        self.write(self.service, target, &target.password_key, &target.user_key, seen).await
    }

    /// Writes the login, the user where there is one, unless it is there already. Where the answer is lost, the server
    /// is asked what came of it.
    async fn write(
        &self,
        name: &str,
        target: &Target,
        key: &str,
        user_key: &str,
        seen: &kv2::Secret,
    ) -> Result<(), DbInitError> {
        let mut values = seen.values.clone();
        values.insert(key.to_owned(), target.password.clone());
        if let Some(user) = values.get_mut(user_key) {
            *user = target.user.as_str().into();
        }
        let is_there = |secret: &kv2::Secret| {
            [key, user_key].iter().all(|key| exposed(secret.values.get(*key)) == exposed(values.get(*key)))
        };
        if is_there(seen) {
            return Ok(());
        }
        let written =
            kv2::write(self.client, self.mount, name, &values, seen.version, self.client.soon()).await;
        let Err(cause) = written else { return Ok(()) };
        if !is_certain(&cause) && is_there(&self.read(name).await?) {
            return Ok(());
        }
        Err(DbInitError::WriteSecret { path: format!("{}/{name}", self.mount), cause })
    }
}

/// Whether the value is the password or has it in it; the name of the user or the database may be the same word.
fn has_password(target: &Target, value: &SecretString) -> bool {
    let (password, value) = (target.password.expose_secret(), value.expose_secret());
    let is_a_name = value == target.user || value == target.database;
    password.len() >= LONG_ENOUGH && value.contains(password) && !is_a_name
}

fn exposed(value: Option<&SecretString>) -> Option<&str> {
    value.map(SecretString::expose_secret)
}

/// Whether the error says that nothing was written.
fn is_certain(error: &VaultError) -> bool {
    matches!(error, VaultError::Denied { .. } | VaultError::Refused { .. } | VaultError::NotFound { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_a_value_and_not_in_a_name() {
        let has = |password: &str, value: &str| {
            let target =
                Target { user: "long-enough".to_owned(), password: password.into(), ..Target::example() };
            has_password(&target, &value.into())
        };
        assert!(
            has("canary-canary", "canary-canary") && has("canary-canary", "postgres://u:canary-canary@h/d")
        );
        assert!(has("long-enough", "postgres://u:long-enough@h/d") && !has("long-enough", "long-enough"));
        assert!(!has("short", "short") && !has("canary-canary", "another"));
    }

    #[test]
    fn a_copy_is_a_secret_and_perhaps_its_keys() {
        let read = |text: &str| copies(&RotateArgs { also: vec![text.to_owned()], alternate: false });
        let copy = |name: &str, key: Option<&str>, user_key: Option<&str>| Copy {
            name: name.to_owned(),
            key: key.map(str::to_owned),
            user_key: user_key.map(str::to_owned),
        };
        assert_eq!(read("user").unwrap(), [copy("user", None, None)]);
        assert_eq!(read("a/b:PW").unwrap(), [copy("a/b", Some("PW"), None)]);
        assert_eq!(read("a:PW:WHO").unwrap(), [copy("a", Some("PW"), Some("WHO"))]);
        for wrong in ["", ":PW", "user:", "user:PW:", "user::WHO"] {
            assert!(read(wrong).unwrap_err().to_string().contains("--also"), "{wrong}");
        }
    }
}
