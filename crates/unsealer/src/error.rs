//! What can end unsealer.

use std::io;

use agent_runtime::{ConnectionError, Exit, Failure, HealthError, Stopped};
use secret_file::FileError;
use vault_client::VaultError;

use crate::adopt::AdoptError;
use crate::init::InitError;
use crate::key_store::KeyStoreError;
use crate::rekey::RekeyError;
use crate::root::RootError;
use crate::unseal::UnsealError;

/// What can end unsealer. Each cause speaks for itself.
#[derive(Debug, thiserror::Error)]
pub enum UnsealerError {
    /// The connection flags.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The keys directory.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// Initialising.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Unsealing.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Making or revoking a root token.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Replacing the key shares.
    #[error(transparent)]
    Rekey(#[from] RekeyError),
    /// Taking in others.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// A request besides those.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The health check.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The program was told to stop before it was done.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The answer on stdout.
    #[error("the answer cannot be written to stdout")]
    Output(#[from] io::Error),
}

impl Failure for UnsealerError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connection(error) => error.exit(),
            Self::KeyStore(error) => error.exit(),
            Self::Init(error) => error.exit(),
            Self::Unseal(error) => error.exit(),
            Self::Root(error) => error.exit(),
            Self::Rekey(error) => error.exit(),
            Self::Adopt(error) => error.exit(),
            Self::Vault(error) => error.exit(),
            Self::Health(error) => error.exit(),
            Self::Stopped(stopped) => stopped.exit(),
            Self::Output(_) => Exit::Failed,
        }
    }
}

impl From<FileError> for UnsealerError {
    fn from(error: FileError) -> Self {
        Self::KeyStore(error.into())
    }
}
