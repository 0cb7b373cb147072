//! A new password for a service's role, in Vault and in PostgreSQL.
//!
//! The service's own secret is the truth: what differs from it is brought to it. A rotation writes it while a
//! transaction that sets the password in PostgreSQL is open, then the copies, and then ends the transaction. Killed
//! before the secret is written, it has changed nothing, since PostgreSQL rolls back; killed after, the next one
//! finds that PostgreSQL or a copy differs, and brings them to the secret instead of making up another password.
//! So does a plain run of db-init, as far as PostgreSQL goes.

use secrecy::{ExposeSecret as _, SecretString};
use vault_client::{VaultClient, VaultError, capabilities, kv2};

use crate::args::RotateArgs;
use crate::grants::set_password;
use crate::observed::{Observed, Password};
use crate::report::Answer;
use crate::server::{Admin, Server};
use crate::target::{Target, read_secret, value};
use crate::{DbInitError, Service, prove};

/// How long a password is, in letters of [`ALPHABET`]: 192 random bits.
const LENGTH: usize = 32;

/// 64 letters that no dialect, URL or shell has a meaning for.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How often a secret may be changed by others between our look and our write.
const ATTEMPTS: usize = 5;

/// Another secret that holds the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    name: String,
    /// Where it is not the one in the service's own secret.
    key: Option<String>,
}

/// What `--also` names.
pub(crate) fn copies(args: &RotateArgs) -> Result<Vec<Copy>, DbInitError> {
    let copy = |text: &String| {
        let (name, key) = match text.split_once(':') {
            Some((name, key)) => (name, Some(key)),
            None => (text.as_str(), None),
        };
        if name.is_empty() || key == Some("") {
            return Err(DbInitError::Place {
                flag: "--also",
                value: text.clone(),
                form: "SECRET or SECRET:KEY",
            });
        }
        Ok(Copy { name: name.to_owned(), key: key.map(str::to_owned) })
    };
    args.also.iter().map(copy).collect()
}

/// Rotates the password of the service's role, or finishes the rotation that was begun.
pub(crate) async fn rotate(
    service: &Service<'_>,
    client: &VaultClient,
    copies: &[Copy],
) -> Result<Answer, DbInitError> {
    let vault = Vault { client, mount: &service.args.kv_mount };
    vault.may_write([service.name].into_iter().chain(copies.iter().map(|copy| copy.name.as_str()))).await?;
    let target = Target::of(service.name, vault.mount, &vault.read(service.name).await?.values)?;
    let server = service.server(client, &target).await?;
    let admin = server.wait(service.give_up).await?;
    admin.be_silent().await;
    admin.lock(&target).await?;
    for _ in 1..ATTEMPTS {
        match attempt(service, &vault, &server, &admin, copies).await {
            // Somebody changed the secret since we looked: it is looked at anew, and nothing is lost.
            Err(DbInitError::WriteSecret { cause, .. }) if kv2::is_overtaken(&cause) => {}
            result => return result,
        }
    }
    attempt(service, &vault, &server, &admin, copies).await
}

async fn attempt(
    service: &Service<'_>,
    vault: &Vault<'_>,
    server: &Server,
    admin: &Admin,
    copies: &[Copy],
) -> Result<Answer, DbInitError> {
    let secret = vault.read(service.name).await?;
    let mut target = Target::of(service.name, vault.mount, &secret.values)?;
    let key = target.password_key.clone();
    let observed = Observed::look(admin, server, &target, &service.args.objects).await?;
    let Some(role) = observed.role else {
        return Err(DbInitError::NothingToRotate { user: target.user });
    };
    if role.is_powerful && !service.args.objects.adopt {
        return Err(DbInitError::PowerfulRole { user: target.user });
    }
    let is_unfinished =
        role.password == Password::Wrong || vault.differs(&target.password, &key, copies).await?;
    if !is_unfinished {
        target.password = random()?;
    }

    let transaction = |sql: &'static str| async move {
        admin.client.batch_execute(sql).await.map_err(|error| admin.failed(sql, &error))
    };
    transaction("BEGIN").await?;
    let written = async {
        admin.execute(&set_password(&target, &target.password)).await?;
        if !is_unfinished {
            vault.write(service.name, &key, &target.password, &secret).await?;
        }
        Ok(())
    };
    if let Err(error) = written.await {
        // Where the session is gone, the server has done it.
        transaction("ROLLBACK").await.ok();
        return Err(error);
    }
    // From here on the secret holds the password that is to be: whatever fails, PostgreSQL is to have it.
    let reached = vault.copy(&target.password, &key, copies).await;
    transaction("COMMIT").await?;
    reached?;
    let proof = prove::prove(server, &target).await?;

    let secrets = [service.name].into_iter().chain(copies.iter().map(|copy| copy.name.as_str()));
    let secrets: Vec<_> = secrets.map(|name| format!("{}/{name}", vault.mount)).collect();
    let change = if is_unfinished { "finished the rotation that was begun" } else { "rotated" };
    let text = format!(
        "{change}: role {} has a new password, which is in {}, {proof}",
        target.user,
        secrets.join(" and ")
    );
    let changes =
        vec![format!("set the password of the role {} and in {}", target.user, secrets.join(" and "))];
    let (role, database) = (target.user.clone(), target.database.clone());
    Ok(Answer { outcome: "rotated", text, server: server.place(), role, database, changes })
}

/// The secrets, as the rotation's AppRole reaches them.
struct Vault<'a> {
    client: &'a VaultClient,
    mount: &'a str,
}

impl Vault<'_> {
    async fn read(&self, name: &str) -> Result<kv2::Secret, DbInitError> {
        read_secret(self.client, self.mount, name).await
    }

    /// Fails before anything is changed where one of the secrets could not be written.
    async fn may_write(&self, names: impl Iterator<Item = &str>) -> Result<(), DbInitError> {
        let paths: Vec<_> = names.map(|name| format!("{}/data/{name}", self.mount)).collect();
        let granted = capabilities::of_self(self.client, &paths, self.client.soon()).await;
        let granted = granted.map_err(DbInitError::Capabilities)?;
        for (data, capabilities) in granted {
            if !capabilities.iter().any(|word| word == "update" || word == "root") {
                return Err(DbInitError::MayNotWrite { path: data.replacen("/data/", "/", 1), data });
            }
        }
        Ok(())
    }

    /// Whether one of the copies holds another password; one that lacks the key is an error.
    async fn differs(
        &self,
        password: &SecretString,
        key: &str,
        copies: &[Copy],
    ) -> Result<bool, DbInitError> {
        let mut differs = false;
        for copy in copies {
            let secret = self.read(&copy.name).await?;
            let has = value(&secret.values, self.mount, &copy.name, copy.key.as_deref().unwrap_or(key))?;
            differs |= has.expose_secret() != password.expose_secret();
        }
        Ok(differs)
    }

    /// Brings every copy to the password. One that fails keeps none of the others from it.
    async fn copy(&self, password: &SecretString, key: &str, copies: &[Copy]) -> Result<(), DbInitError> {
        let mut first_error = Ok(());
        for copy in copies {
            let one = self.copy_one(password, copy.key.as_deref().unwrap_or(key), &copy.name).await;
            first_error = first_error.and(one);
        }
        first_error
    }

    async fn copy_one(&self, password: &SecretString, key: &str, name: &str) -> Result<(), DbInitError> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let secret = self.read(name).await?;
            let has = secret.values.get(key);
            if has.is_some_and(|has| has.expose_secret() == password.expose_secret()) {
                return Ok(());
            }
            result = self.write(name, key, password, &secret).await;
            let overtaken =
                matches!(&result, Err(DbInitError::WriteSecret { cause, .. }) if kv2::is_overtaken(cause));
            if !overtaken {
                break;
            }
        }
        result
    }

    /// Writes the version after `seen`. Where the answer is lost, the server is asked what came of it.
    async fn write(
        &self,
        name: &str,
        key: &str,
        password: &SecretString,
        seen: &kv2::Secret,
    ) -> Result<(), DbInitError> {
        let mut values = seen.values.clone();
        values.insert(key.to_owned(), password.clone());
        let written =
            kv2::write(self.client, self.mount, name, &values, seen.version, self.client.soon()).await;
        let Err(cause) = written else { return Ok(()) };
        if !is_certain(&cause) {
            let now = self.read(name).await?;
            let has = now.values.get(key);
            if has.is_some_and(|has| has.expose_secret() == password.expose_secret()) {
                return Ok(());
            }
        }
        Err(DbInitError::WriteSecret { path: format!("{}/{name}", self.mount), cause })
    }
}

/// Whether the error says that nothing was written.
fn is_certain(error: &VaultError) -> bool {
    matches!(error, VaultError::Denied { .. } | VaultError::Refused { .. } | VaultError::NotFound { .. })
}

fn random() -> Result<SecretString, DbInitError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(DbInitError::Random)?;
    // 64 letters: each is a quarter of the bytes' values, none is favoured.
    let letters = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(SecretString::from(letters.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_secret_and_perhaps_a_key() {
        let read = |text: &str| copies(&RotateArgs { also: vec![text.to_owned()] });
        assert_eq!(read("user").unwrap(), [Copy { name: "user".to_owned(), key: None }]);
        let named = Copy { name: "a/b".to_owned(), key: Some("PW".to_owned()) };
        assert_eq!(read("a/b:PW").unwrap(), [named]);
        for wrong in ["", ":PW", "user:"] {
            assert!(read(wrong).unwrap_err().to_string().contains("--also"), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.expose_secret().len(), LENGTH);
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(one.expose_secret().bytes().all(|letter| ALPHABET.contains(&letter)));
    }
}
