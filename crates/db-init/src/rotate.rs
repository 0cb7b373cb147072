//! A new password for a service's role, in Vault and in PostgreSQL.
//!
//! The service's own secret is the truth: what differs from it is brought to it. So does a plain run of db-init, as
//! far as PostgreSQL goes.
//!
//! With one role, a rotation writes the secret while a transaction that sets the password in PostgreSQL is open, then
//! the copies, and then ends the transaction. Killed before the secret is written, it has changed nothing, since
//! PostgreSQL rolls back; killed after, the next one finds that PostgreSQL or a copy differs, and finishes that
//! instead of making up another password.
//!
//! With two, that take turns, PostgreSQL comes first: the password of the one that nobody uses is set and proven
//! before Vault names it, and the other's stays good until the next rotation. Killed at any point, it leaves every
//! secret with a login that works.

mod secrets;
mod turns;

use std::collections::BTreeSet;

use secrecy::SecretString;
use vault_client::{VaultClient, kv2};

use self::secrets::{Copy, Secrets};
use crate::grants::set_password;
use crate::observed::{Observed, Password};
use crate::prove::Proof;
use crate::report::Answer;
use crate::server::{Admin, Server};
use crate::target::Target;
use crate::{DbInitError, Service, prove};

pub(crate) use self::secrets::copies;

/// How long a password is, in letters of [`ALPHABET`]: 192 random bits.
const LENGTH: usize = 32;

/// 64 letters that no dialect, URL or shell has a meaning for.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How often a secret may be changed by others between our look and our write.
const ATTEMPTS: usize = 5;

/// Rotates the password of the service's role, or finishes the rotation that was begun.
pub(crate) async fn rotate(
    service: &Service<'_>,
    client: &VaultClient,
    named: &[Copy],
    alternate: bool,
) -> Result<Answer, DbInitError> {
    let secrets = Secrets { client, mount: &service.args.kv_mount, service: service.name };
    secrets.may_write(named).await?;
    let target = Target::of(service.name, secrets.mount, &secrets.read(service.name).await?.values)?;
    let server = service.server(client, &target).await?;
    let admin = server.wait(service.give_up).await?;
    admin.be_silent().await;
    admin.lock(&target).await?;
    let rotation = Rotation { service, secrets, server, admin, named, alternate };
    for _ in 1..ATTEMPTS {
        match rotation.attempt().await {
            // Somebody changed the secret since we looked: it is looked at anew, and nothing is lost.
            Err(DbInitError::WriteSecret { cause, .. }) if kv2::is_overtaken(&cause) => {}
            result => return result,
        }
    }
    rotation.attempt().await
}

struct Rotation<'a> {
    service: &'a Service<'a>,
    secrets: Secrets<'a>,
    server: Server,
    admin: Admin,
    /// By `--also`.
    named: &'a [Copy],
    alternate: bool,
}

impl Rotation<'_> {
    async fn attempt(&self) -> Result<Answer, DbInitError> {
        let secret = self.secrets.read(self.service.name).await?;
        let target = Target::of(self.service.name, self.secrets.mount, &secret.values)?;
        let objects = &self.service.args.objects;
        let observed = Observed::look(&self.admin, &self.server, &target, objects).await?;
        let Some(role) = &observed.role else {
            return Err(DbInitError::NothingToRotate { user: target.user });
        };
        if role.is_powerful && !objects.adopt {
            return Err(DbInitError::PowerfulRole { user: target.user });
        }
        let copies = self.secrets.all_copies(&target, &secret, self.named).await?;
        let differs = self.secrets.differs(&target, &copies, self.alternate).await?;
        if role.password == Password::Wrong || differs {
            let proof = self.replace(&target, &copies, None).await?;
            return Ok(self.answer("finished the rotation that was begun", &target, &copies, proof, ""));
        }
        if self.alternate {
            let next = turns::next(&self.secrets, &target, random()?)?;
            let proof = self.take_turns(&next, observed.acting(&target), &copies, &secret).await?;
            let stays = format!("; the login of {} stays good until the next rotation", target.user);
            return Ok(self.answer("rotated", &next, &copies, proof, &stays));
        }
        let next = Target { password: random()?, ..target };
        let proof = self.replace(&next, &copies, Some(&secret)).await?;
        Ok(self.answer("rotated", &next, &copies, proof, ""))
    }

    /// Gives the role its new password, which is in the secret already where none is given to be overwritten.
    async fn replace(
        &self,
        target: &Target,
        copies: &[Copy],
        secret: Option<&kv2::Secret>,
    ) -> Result<Proof, DbInitError> {
        self.sql("BEGIN").await?;
        let written = async {
            self.admin.execute(&set_password(target, &target.password)).await?;
            match secret {
                Some(secret) => self.secrets.write_own(target, secret).await,
                None => Ok(()),
            }
        };
        if let Err(error) = written.await {
            // Where the session is gone, the server has done it.
            self.sql("ROLLBACK").await.ok();
            return Err(error);
        }
        // From here on the secret holds the password that is to be: whatever fails, PostgreSQL is to have it.
        let reached = self.secrets.bring(target, copies).await;
        self.sql("COMMIT").await?;
        reached?;
        prove::prove(&self.server, target).await
    }

    /// Makes the login of the role whose turn it is, proves it, and names it in the secrets.
    async fn take_turns(
        &self,
        next: &Target,
        acting: &str,
        copies: &[Copy],
        secret: &kv2::Secret,
    ) -> Result<Proof, DbInitError> {
        let objects = &self.service.args.objects;
        let observed = Observed::look(&self.admin, &self.server, next, objects).await?;
        let statements = turns::statements(next, acting, objects, &observed)?;
        self.sql("BEGIN").await?;
        for statement in &statements {
            if let Err(error) = self.admin.execute(statement).await {
                self.sql("ROLLBACK").await.ok();
                return Err(error);
            }
        }
        self.sql("COMMIT").await?;
        let proof = prove::prove(&self.server, next).await?;
        self.secrets.write_own(next, secret).await?;
        self.secrets.bring(next, copies).await?;
        Ok(proof)
    }

    async fn sql(&self, sql: &'static str) -> Result<(), DbInitError> {
        self.admin.client.batch_execute(sql).await.map_err(|error| self.admin.failed(sql, &error))
    }

    fn answer(&self, change: &str, target: &Target, copies: &[Copy], proof: Proof, more: &str) -> Answer {
        let names = [self.service.name].into_iter().chain(copies.iter().map(|copy| copy.name.as_str()));
        // A secret may hold two copies.
        let mut seen = BTreeSet::new();
        let names = names.filter(|name| seen.insert(*name));
        let secrets: Vec<_> = names.map(|name| format!("{}/{name}", self.secrets.mount)).collect();
        let (role, database, places) = (target.user.clone(), target.database.clone(), secrets.join(" and "));
        let text = format!("{change}: role {role} has a new password, which is in {places}, {proof}{more}");
        let changes = vec![format!("set the password of the role {role} and in {places}")];
        Answer { outcome: "rotated", text, server: self.server.place(), role, database, changes }
    }
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
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.expose_secret().len(), LENGTH);
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(one.expose_secret().bytes().all(|letter| ALPHABET.contains(&letter)));
    }
}
