//! What can end approle-agent.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use agent_runtime::{ConnectionError, Exit, Failure, HealthError, Stopped};
use approle_session::LoginError;
use env_file::WriteError;
use secret_file::FileError;
use vault_client::VaultError;

use crate::refresh::Read;

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
    /// Vault went out of reach while it was asked.
    #[error("Vault was out of reach while the secrets were read, and is back")]
    Unanswered,
    /// There is no such secret.
    #[error(
        "there is no secret {path}, or it is deleted; bootstrap writes it, or: vault kv put {path} KEY=VALUE"
    )]
    Missing {
        /// Its path, with the mount.
        path: String,
    },
    /// One secret was asked for twice.
    #[error("the secret {name} is asked for twice; give --secret {name} once, with one version or none")]
    SameSecret {
        /// Its name.
        name: String,
    },
    /// A key that was asked for by name is in no secret.
    #[error("there is no key {key} in the secrets asked for ({secrets}); see --key")]
    NoSuchKey {
        /// The key.
        key: String,
        /// Where it was looked for.
        secrets: String,
    },
    /// Two keys of different values would have one name.
    #[error(
        "the name {name} has one value from {first} and another from {second}; choose with --key SECRET:KEY, \
         or rename one with --key SECRET:KEY=NAME"
    )]
    Ambiguous {
        /// The name.
        name: String,
        /// Secret and key that had it first.
        first: String,
        /// Those that have it too.
        second: String,
    },
    /// A template cannot be read.
    #[error("a template cannot be read")]
    TemplateFile(#[source] FileError),
    /// A template that is none, or asks for what is not there.
    #[error("the template {}{line}: {why}", path.display())]
    Template {
        /// The template.
        path: PathBuf,
        /// `:LINE`, where it is known.
        line: String,
        /// What is wrong, without a value.
        why: String,
    },
    /// Two outputs would be one file.
    #[error("two outputs have the path {}; give each its own", path.display())]
    SameOutput {
        /// Their path.
        path: PathBuf,
    },
    /// Nothing to write to was named.
    #[error("nowhere to write the secrets to: give --env-file, --files-dir or --template")]
    NoOutput,
    /// A command was to be restarted or signalled, and there is none.
    #[error("--on-change restart and signal need a command: give one behind --")]
    NoCommand,
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
    /// The signals cannot be taken over.
    #[error("the signal handlers cannot be installed")]
    Signals(#[source] io::Error),
    /// The program cannot read itself.
    #[error("this program cannot read its own file")]
    OwnProgram(#[source] io::Error),
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
            Self::Write(error) | Self::TemplateFile(error) => error.exit(),
            Self::Health(error) => error.exit(),
            Self::Unanswered => Exit::Unavailable,
            Self::Stopped(stopped) => stopped.exit(),
            Self::Missing { .. }
            | Self::SameSecret { .. }
            | Self::NoSuchKey { .. }
            | Self::Ambiguous { .. }
            | Self::Template { .. }
            | Self::SameOutput { .. }
            | Self::NoOutput
            | Self::NoCommand
            | Self::EnvFile(_)
            | Self::FileName { .. }
            | Self::Variable { .. } => Exit::Config,
            // The shell's convention.
            Self::Command { cause, .. } if cause.kind() == io::ErrorKind::NotFound => Exit::Command(127),
            Self::Command { .. } => Exit::Command(126),
            Self::Output(_) | Self::Signals(_) | Self::OwnProgram(_) => Exit::Failed,
        }
    }
}

impl AgentError {
    /// What it is to the next read.
    pub(crate) fn as_read(&self) -> Read {
        match self {
            Self::Read { cause: VaultError::Denied { .. }, .. } => Read::Denied,
            Self::Missing { .. } | Self::Read { cause: VaultError::NotFound { .. }, .. } => Read::Missing,
            Self::Read { cause, .. } if cause.is_transient() => {
                Read::Away { retry_after: cause.retry_after() }
            }
            Self::Unanswered => Read::Unanswered,
            _ => Read::Failed,
        }
    }
}
