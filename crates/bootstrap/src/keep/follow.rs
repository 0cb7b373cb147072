//! Following the files: applying what they say, and telling what of it is not applied.

use agent_runtime::{Exit, Failure as _};
use secrecy::SecretString;
use vault_client::{VaultError, token};

use super::Keeper;
use super::files::{Course, TokenMark};
use crate::BootstrapError;
use crate::apply::make;
use crate::args::Prune;
use crate::desired::Desired;
use crate::inputs::Inputs;
use crate::{apply, deliver, lock};

/// What an attempt to apply the files came to.
enum Applied {
    Done(Desired),
    /// It is tried again by itself.
    NotNow,
    /// It is for somebody to mend, who is told how.
    Impossible(String),
}

impl Keeper<'_> {
    /// Applies the files where they are not what was applied, or somebody ordered it.
    pub(super) async fn tend_files(&mut self) -> Result<Course, BootstrapError> {
        let now = self.kept.look_at(self.sources);
        let token = apply::token(self.stack);
        let mark: TokenMark = token.as_ref().ok().map(|token| self.kept.digest(token));
        let course = self.files.course(&now, &mark);
        if course != Course::Apply {
            return Ok(course);
        }
        let is_first = self.kept.files.is_none() && !deliver::is_delivered(&self.stack.state_dir);
        match self.apply(token, &now).await {
            Ok(Applied::Done(desired)) => {
                self.files.applied(now.clone());
                self.kept.note(&desired, now, &self.stack.state_dir)?;
                self.deliveries = self.kept.deliveries(self.stack);
                let lives = self.kept.lives().chain([self.stack.own_secret_id_ttl]);
                self.looks.change(lives, &self.deliveries);
            }
            Ok(Applied::NotNow) => {}
            Ok(Applied::Impossible(why)) => {
                tracing::warn!("{why}");
                self.files.told(now, mark);
            }
            Err(error) if is_first && error.exit() != Exit::Unavailable => return Err(error),
            Err(error) if error.exit() == Exit::Unavailable => {
                tracing::debug!("the files are not applied yet: {}", agent_runtime::with_causes(&error));
            }
            Err(error) => {
                tracing::error!(
                    "the files are not applied, and what was applied last is kept fresh until that is mended: {}",
                    agent_runtime::with_causes(&error)
                );
                self.files.told(now, mark);
            }
        }
        Ok(course)
    }

    async fn apply(
        &mut self,
        token: Result<SecretString, BootstrapError>,
        now: &Inputs,
    ) -> Result<Applied, BootstrapError> {
        let desired = Desired::load_for(self.stack, self.sources)?;
        let root = match token {
            Ok(token) => self.client.with_token(token),
            Err(BootstrapError::NoToken { cause, .. }) if cause.is_not_found() => {
                return Ok(Applied::Impossible(self.drift(now, "there is no root token")));
            }
            Err(error) => return Err(error),
        };
        let Some(_lock) = lock::try_take(self.stack)? else {
            tracing::info!("another bootstrap is applying; the files are looked at again when it has ended");
            return Ok(Applied::NotNow);
        };
        match make(&root, &desired, self.stack, Prune::default()).await {
            Ok(_) => Ok(Applied::Done(desired)),
            Err(BootstrapError::Vault { cause: VaultError::Denied { .. }, .. })
                if !token::is_valid(&root, root.soon()).await.unwrap_or(true) =>
            {
                Ok(Applied::Impossible(self.drift(now, "the root token is not taken any more")))
            }
            Err(error) => Err(error),
        }
    }

    /// What is not applied, why, and how it would be.
    fn drift(&self, now: &Inputs, why: &str) -> String {
        let changes = self.files.applied.as_ref().map(|applied| now.changes_since(applied));
        match changes {
            Some(changes) if !changes.is_empty() => format!(
                "changed since the last apply, and not applied since {why}: {}. The credentials are kept fresh all the \
                 same. To apply it: unsealer generate-root; it is done within a minute, or at once by SIGHUP; then \
                 unsealer revoke-root",
                changes.join(", ")
            ),
            _ => format!("{why}: policies and secrets stay as they are in Vault"),
        }
    }
}
