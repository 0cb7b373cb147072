//! What the first login waits for, said every few seconds, and told in the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use boot_clock::BootTime;
use vault_client::VaultError;

use crate::{CredentialsError, LoginError, Reason};

/// Between two lines that say it.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// For how long, and what the last thing that went wrong was.
pub(crate) struct Waiting {
    directory: PathBuf,
    since: BootTime,
    said: BootTime,
    problem: Option<Problem>,
}

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Problem {
    Credentials(CredentialsError),
    Vault(VaultError),
}

impl Waiting {
    /// Since now, for credentials in this directory at first.
    pub(crate) const fn begin(now: BootTime, directory: PathBuf) -> Self {
        Self { directory, since: now, said: now, problem: None }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problem = Some(problem);
    }

    /// Whether the last thing that went wrong was that there are no credentials.
    pub(crate) const fn has_looked_in_vain(&self) -> bool {
        matches!(self.problem, Some(Problem::Credentials(_)))
    }

    /// When it is to be said next.
    pub(crate) fn to_be_said(&self) -> BootTime {
        self.said + SAY_EVERY
    }

    /// Says it where that is due.
    pub(crate) fn say(&mut self, now: BootTime, reason: Reason) {
        if now < self.to_be_said() {
            return;
        }
        self.said = now;
        let waited = now.saturating_since(self.since).as_secs();
        match reason {
            Reason::NoCredentials => {
                tracing::info!(
                    "waiting for AppRole credentials in {} ({waited} s)",
                    self.directory.display()
                );
            }
            Reason::Refused | Reason::Denied => {
                tracing::info!(
                    "waiting for other AppRole credentials in {} ({waited} s)",
                    self.directory.display()
                );
            }
            Reason::Unavailable => {
                if let Some(Problem::Vault(error)) = &self.problem {
                    tracing::info!("waiting for Vault ({waited} s): {error}");
                }
            }
        }
    }

    /// Why there is no login.
    pub(crate) fn failure(&mut self, reason: Reason) -> LoginError {
        let waited = Duration::from_secs(BootTime::now().saturating_since(self.since).as_secs());
        let directory = self.directory.clone();
        let problem = self.problem.take();
        let vault = |problem| if let Some(Problem::Vault(error)) = problem { Some(error) } else { None };
        match reason {
            Reason::NoCredentials => LoginError::NoCredentials {
                directory,
                waited,
                cause: if let Some(Problem::Credentials(error)) = problem { Some(error) } else { None },
            },
            Reason::Refused | Reason::Denied => {
                LoginError::Refused { directory, waited, cause: vault(problem) }
            }
            Reason::Unavailable => LoginError::Unavailable { waited, cause: vault(problem) },
        }
    }
}
