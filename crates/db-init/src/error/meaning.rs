//! What an error means: whether it passes, and the exit code.

use agent_runtime::{Exit, Failure};

use super::DbInitError;
use crate::FailureKind;

impl DbInitError {
    /// Whether another attempt from the beginning may succeed without anyone doing anything.
    pub(crate) fn passes(&self) -> bool {
        let (Self::Statement { kind, .. } | Self::Login { kind, .. } | Self::Unusable { kind, .. }) = self
        else {
            return false;
        };
        *kind == FailureKind::Passing
    }
}

impl Failure for DbInitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connection(error) => error.exit(),
            Self::VaultLogin(error) => error.exit(),
            Self::Stopped(stopped) => stopped.exit(),
            Self::ReadSecret { cause, .. } | Self::WriteSecret { cause, .. } | Self::Capabilities(cause) => {
                cause.exit()
            }
            Self::PasswordFile(error) | Self::CaFile(error) => error.exit(),
            Self::MissingSecret { .. }
            | Self::MissingKey { .. }
            | Self::Value { .. }
            | Self::NoHost
            | Self::Place { .. }
            | Self::Ca { .. }
            | Self::UnusedCa
            | Self::NoSystemCa
            | Self::Tls { .. }
            | Self::ForeignDatabase { .. }
            | Self::ForeignRole { .. }
            | Self::Fixed { .. }
            | Self::ReaderIsUser(_)
            | Self::NothingToRotate { .. }
            | Self::UnnamedCopy { .. }
            | Self::ForeignTurn { .. }
            | Self::PowerfulRole { .. } => Exit::Config,
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::AdminRefused { .. } | Self::MayNotWrite { .. } => Exit::Denied,
            // A user who is refused is no lack of the administrator's rights.
            Self::Login { kind, .. } if *kind != FailureKind::Passing => Exit::Failed,
            Self::Unusable { kind, .. } if *kind != FailureKind::Passing => Exit::Failed,
            Self::Statement { kind, .. } | Self::Login { kind, .. } | Self::Unusable { kind, .. } => {
                kind.exit()
            }
            Self::TlsSetup(_) | Self::Random(_) | Self::Output(_) => Exit::Failed,
        }
    }
}
