//! Why there is no login.

use std::path::PathBuf;
use std::time::Duration;

use agent_runtime::{Exit, Failure, Stopped};
use vault_client::VaultError;

use crate::CredentialsError;

/// No login within the time there was.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The directory holds no credentials.
    #[error("no AppRole credentials came to {directory} within {waited:?}; bootstrap delivers them there")]
    NoCredentials {
        /// The credentials directory.
        directory: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// What was found instead.
        #[source]
        cause: Option<CredentialsError>,
    },
    /// Vault does not take the credentials.
    #[error(
        "Vault refuses the AppRole credentials in {directory}: expired, destroyed or of another Vault; \
         bootstrap delivers new ones (waited {waited:?})"
    )]
    Refused {
        /// The credentials directory.
        directory: PathBuf,
        /// How long other ones were waited for.
        waited: Duration,
        /// Vault's answer.
        #[source]
        cause: Option<VaultError>,
    },
    /// Vault did not answer.
    #[error("no AppRole login within {waited:?}")]
    Unavailable {
        /// How long it was tried.
        waited: Duration,
        /// The last attempt.
        #[source]
        cause: Option<VaultError>,
    },
    /// The program was told to stop before there was a login.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Failure for LoginError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoCredentials { .. } => Exit::Config,
            Self::Refused { .. } => Exit::Denied,
            Self::Unavailable { .. } => Exit::Unavailable,
            Self::Stopped(stopped) => stopped.exit(),
        }
    }
}
