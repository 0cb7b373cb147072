//! What can end approle-agent.

use std::ffi::OsString;
use std::io;

use agent_runtime::{ConnectionError, Exit, Failure, HealthError, Stopped};
use approle_session::LoginError;
use env_file::WriteError;
use secret_file::FileError;
use vault_client::VaultError;

/// What can end approle-agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection flags.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Logging in.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Reading a secret.
    #[error("the secret {path} cannot be read")]
    Read {
        /// Its path, with the mount.
        path: String,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
    /// There is no such secret.
    #[error(
        "there is no secret {path}, or it is deleted; bootstrap writes it, or: vault kv put {path} KEY=VALUE"
    )]
    Missing {
        /// Its path, with the mount.
        path: String,
    },
    /// Two secrets give one key different values.
    #[error(
        "the key {key} has one value in the secret {first} and another in {second}; ask for one of the two"
    )]
    Ambiguous {
        /// The key.
        key: String,
        /// Where it was first.
        first: String,
        /// Where it was again.
        second: String,
    },
    /// Nothing to write to was named.
    #[error("nowhere to write the secrets to: give --env-file or --files-dir")]
    NoOutput,
    /// A value that the env file's dialect has no way to write, or another fault of the file's content.
    #[error("the env file cannot be written")]
    EnvFile(#[source] WriteError),
    /// A key that cannot be a file's name.
    #[error("the key {key} cannot be the name of a file in --files-dir")]
    FileName {
        /// The key.
        key: String,
    },
    /// A key or value that the environment has no way to carry.
    #[error(
        "the key {key} cannot be an environment variable: {why}; write it to a file with --files-dir and --no-env"
    )]
    Variable {
        /// The key.
        key: String,
        /// What is in the way.
        why: &'static str,
    },
    /// A file cannot be written.
    #[error("a rendered file cannot be written")]
    Write(#[from] FileError),
    /// The command cannot be run.
    #[error("the command {} cannot be run", command.display())]
    Command {
        /// Its first word.
        command: OsString,
        /// Why.
        #[source]
        cause: io::Error,
    },
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

impl Failure for AgentError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connection(error) => error.exit(),
            Self::Login(error) => error.exit(),
            Self::Read { cause, .. } => cause.exit(),
            Self::Write(error) => error.exit(),
            Self::Health(error) => error.exit(),
            Self::Stopped(stopped) => stopped.exit(),
            Self::Missing { .. }
            | Self::Ambiguous { .. }
            | Self::NoOutput
            | Self::EnvFile(_)
            | Self::FileName { .. }
            | Self::Variable { .. } => Exit::Config,
            // The shell's convention.
            Self::Command { cause, .. } if cause.kind() == io::ErrorKind::NotFound => Exit::Command(127),
            Self::Command { .. } => Exit::Command(126),
            Self::Output(_) => Exit::Failed,
        }
    }
}
