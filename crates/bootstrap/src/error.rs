//! What can end bootstrap.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent_runtime::{ConnectionError, Exit, Failure, HealthError, Stopped};
use approle_session::LoginError;
use env_file::ParseErrors;
use secret_file::FileError;
use vault_client::VaultError;

use crate::limits::TooMuch;
use crate::manifest::ManifestErrors;
use crate::policy::PolicyError;

/// What can end bootstrap.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The connection flags.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The .env file cannot be read.
    #[error("the .env file cannot be read; a missing one is not taken for an empty one")]
    EnvFile(#[source] FileError),
    /// The .env file has faults.
    #[error(transparent)]
    EnvSyntax(#[from] ParseErrors),
    /// The manifest cannot be read.
    #[error("the manifest cannot be read")]
    ManifestFile(#[source] FileError),
    /// The manifest, or the files together, have faults.
    #[error(transparent)]
    Manifest(ManifestErrors),
    /// A policy cannot be read.
    #[error("a policy cannot be read")]
    Policy(#[source] FileError),
    /// A policy's text is none.
    #[error("{}: what it grants cannot be told", path.display())]
    PolicyText {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: PolicyError,
    },
    /// The directory of the policies cannot be listed.
    #[error("the policies in {} cannot be listed; is --policies-dir right?", path.display())]
    PoliciesDir {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        #[source]
        cause: io::Error,
    },
    /// There are no policies.
    #[error("{} holds no <service>-policy.hcl, so that there is no service; is --policies-dir right?", .0.display())]
    NoPolicies(PathBuf),
    /// No token.
    #[error(
        "there is no token in {}; once the root token is revoked, that is its normal state: run unsealer \
         generate-root for one apply, and unsealer revoke-root behind it", path.display()
    )]
    NoToken {
        /// The token file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        cause: FileError,
    },
    /// Something else is mounted there.
    #[error(
        "at {mount} there is {found}, not {wanted}; choose another mount with --kv-mount or --approle-mount"
    )]
    OtherMount {
        /// The mount's path.
        mount: String,
        /// What is there.
        found: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// A request failed.
    #[error("{doing}")]
    Vault {
        /// What for.
        doing: String,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
    /// Credentials cannot be delivered.
    #[error("the credentials of {service} cannot be delivered")]
    Delivery {
        /// The service.
        service: String,
        /// The file effect that failed.
        #[source]
        cause: FileError,
    },
    /// The state directory cannot be used.
    #[error("bootstrap's own state cannot be kept; is --state-dir right?")]
    StateDir(#[source] FileError),
    /// Another bootstrap holds the lock.
    #[error(
        "another bootstrap is applying with {}, and was waited for {}; try again when it has ended",
        directory.display(),
        humantime::format_duration(*wait)
    )]
    Locked {
        /// The state directory.
        directory: PathBuf,
        /// How long it was waited for.
        wait: Duration,
    },
    /// Services that are another stack's, at least one.
    #[error(
        "{} in this Vault; a service has one stack: choose another name, or take it over by --overwrite",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    OtherStack(Vec<OtherStack>),
    /// Secrets that no server takes, at least one.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    TooMuch(Vec<TooMuch>),
    /// Somebody else changed it at the same time, and again when that was taken in.
    #[error("{what} is being changed by somebody else at this moment; apply again when they are done")]
    Overtaken {
        /// The secret or the mount.
        what: String,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
    /// Credentials cannot be removed.
    #[error("the credentials of {service}, which no policy file declares any more, cannot be removed")]
    Removal {
        /// The service.
        service: String,
        /// The file effect that failed.
        #[source]
        cause: FileError,
    },
    /// bootstrap cannot log in with its own credential.
    #[error("bootstrap cannot log in with its own credential")]
    OwnLogin(#[source] LoginError),
    /// The random number generator failed.
    #[error("no random value can be generated: {0}")]
    Random(getrandom::Error),
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

impl BootstrapError {
    /// Says what a request was for.
    pub(crate) fn vault(doing: impl Into<String>) -> impl FnOnce(VaultError) -> Self {
        let doing = doing.into();
        move |cause| Self::Vault { doing, cause }
    }
}

impl Failure for BootstrapError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connection(error) => error.exit(),
            Self::EnvFile(error)
            | Self::ManifestFile(error)
            | Self::Policy(error)
            | Self::StateDir(error) => error.exit(),
            Self::Delivery { cause, .. } | Self::Removal { cause, .. } | Self::NoToken { cause, .. } => {
                cause.exit()
            }
            Self::Vault { cause, .. } => cause.exit(),
            Self::OwnLogin(error) => error.exit(),
            Self::Health(error) => error.exit(),
            Self::Stopped(stopped) => stopped.exit(),
            Self::PoliciesDir { .. }
            | Self::PolicyText { .. }
            | Self::EnvSyntax(_)
            | Self::Manifest(_)
            | Self::NoPolicies(_)
            | Self::OtherStack(_)
            | Self::TooMuch(_)
            | Self::OtherMount { .. } => Exit::Config,
            Self::Random(_) | Self::Output(_) | Self::Locked { .. } | Self::Overtaken { .. } => Exit::Failed,
        }
    }
}

/// A service of another stack in the same Vault.
#[derive(Debug, PartialEq, Eq)]
pub struct OtherStack {
    /// Its name, which this stack uses too.
    pub(crate) service: String,
    /// The stack's name.
    pub(crate) stack: String,
}

impl std::fmt::Display for OtherStack {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the service {} is of the stack {}", self.service, self.stack)
    }
}
