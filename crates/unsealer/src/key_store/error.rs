use std::path::PathBuf;

use agent_runtime::{Exit, Failure};
use secret_file::FileError;

use super::envelope::EnvelopeError;

/// Why the key store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// A file or directory cannot be used.
    #[error("the key store cannot be used")]
    File(#[from] FileError),
    /// Others than the owner may enter a keys directory.
    #[error("{path} has mode {mode:04o}, but the keys directory is for unsealer alone: run chmod 700 {path}")]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Spread so that one volume would hold enough shares to unseal.
    #[error(
        "two keys directories are as good as one: one of them would hold three of five shares, which unseal; give \
         one --keys-dir, or three and more"
    )]
    TwoDirectories,
    /// One directory is named twice.
    #[error("{0} is named twice as --keys-dir: each has to be a directory of its own")]
    SameDirectory(PathBuf),
    /// The age recipients or identities.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A share is encrypted, and there is nothing to decrypt it with.
    #[error("{path} cannot be decrypted")]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: EnvelopeError,
    },
    /// There is something where the new keys would be.
    #[error(
        "{path} belongs to an earlier initialisation, while this Vault is not initialised: nothing is overwritten. \
         If that earlier Vault is gone for good, move the file away; if not, check --vault-addr and Vault's storage"
    )]
    Occupied {
        /// The file that is there.
        path: PathBuf,
    },
    /// The stored answer is not one that the server gives.
    #[error(
        "{path} holds the server's answer with the keys, but not in a form that can be read ({why}); it may be the \
         only copy: keep it, and split it by hand"
    )]
    Response {
        /// The file.
        path: PathBuf,
        /// What is wrong, without its content.
        why: String,
    },
    /// What it has to be put together with is not here.
    #[error(
        "{path} holds the server's answer with the keys, which is of no use without {pad}, and that is in none of the \
         other keys directories: give all those that were given before"
    )]
    PadMissing {
        /// What is here.
        path: PathBuf,
        /// What is not.
        pad: String,
    },
    /// The system has no random bytes.
    #[error(
        "the system gives no random bytes, which hide the server's answer with the keys from each of several directories"
    )]
    Random(#[source] getrandom::Error),
    /// What was written is not what is read.
    #[error("{path} reads back otherwise than it was written; the answer stays in {response}")]
    NotReadBack {
        /// The file.
        path: PathBuf,
        /// Where everything still is.
        response: PathBuf,
    },
    /// A set of shares that is to take the place of another cannot be read whole.
    #[error(
        "{path} cannot be used ({why}), and its set takes no other one's place until it can: both are kept"
    )]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another unsealer is changing the keys, and does not come to an end.
    #[error("another unsealer has been at work on {0} for minutes: look at its log, or stop it")]
    Busy(PathBuf),
}

impl Failure for KeyStoreError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::NotReadBack { .. } | Self::Random(_) | Self::Busy(_) => Exit::Failed,
            Self::TooOpen { .. }
            | Self::TwoDirectories
            | Self::SameDirectory(_)
            | Self::Envelope(_)
            | Self::Encrypted { .. }
            | Self::Occupied { .. }
            | Self::PadMissing { .. }
            | Self::Incomplete { .. }
            | Self::Response { .. } => Exit::Config,
        }
    }
}
