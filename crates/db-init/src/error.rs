//! What can end db-init.

use std::error::Error;
use std::io;
use std::iter;
use std::time::Duration;

use agent_runtime::{ConnectionError, Exit, Failure, Stopped};
use approle_session::LoginError;
use secret_file::FileError;
use vault_client::VaultError;

/// What can end db-init.
#[derive(Debug, thiserror::Error)]
pub enum DbInitError {
    /// The connection flags.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Logging in to Vault.
    #[error(transparent)]
    VaultLogin(#[from] LoginError),
    /// The secret cannot be read.
    #[error("the secret {path} cannot be read")]
    ReadSecret {
        /// Its path, with the mount.
        path: String,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
    /// There is no secret.
    #[error("there is no secret {path}, or it is deleted; is --service right, and has bootstrap run?")]
    MissingSecret {
        /// Its path, with the mount.
        path: String,
    },
    /// The secret lacks a key.
    #[error(
        "the secret {path} has no {key}, or it is empty; add it to the .env file and run bootstrap again"
    )]
    MissingKey {
        /// Its path, with the mount.
        path: String,
        /// The key.
        key: String,
    },
    /// A value that PostgreSQL cannot take.
    #[error("the value of {key} in the secret {path} cannot be used: {why}")]
    Value {
        /// Its path, with the mount.
        path: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Neither the flags nor the secret name a host.
    #[error("no PostgreSQL host: give --db-host, or a _DB_HOST in the secret")]
    NoHost,
    /// The administrator's password cannot be read.
    #[error("the administrator's password of --admin-password-file cannot be read")]
    PasswordFile(#[source] FileError),
    /// The server did not come up in time.
    #[error("PostgreSQL at {place} cannot be reached (waited {waited:.0?}): {why}")]
    Unreachable {
        /// Host and port.
        place: String,
        /// How long it was tried.
        waited: Duration,
        /// The last attempt's failure.
        why: String,
    },
    /// The administrator may not log in.
    #[error(
        "PostgreSQL at {place} refuses the administrator {user}: {why}; check --admin-user and \
         --admin-password-file"
    )]
    AdminRefused {
        /// Host and port.
        place: String,
        /// The administrator.
        user: String,
        /// The server's words, or the driver's.
        why: String,
    },
    /// A statement failed.
    #[error("PostgreSQL at {place}, {doing}: {why}")]
    Statement {
        /// Host and port.
        place: String,
        /// The statement, without a verifier.
        doing: String,
        /// The server's words.
        why: String,
        /// Whether the administrator's rights do not suffice.
        denied: bool,
    },
    /// The database is somebody else's.
    #[error("the database {database} exists and belongs to {owner}, not to {user}; --adopt takes it over")]
    ForeignDatabase {
        /// The database.
        database: String,
        /// Its owner.
        owner: String,
        /// The service's role.
        user: String,
    },
    /// The role is more than a service's.
    #[error(
        "the role {user} exists with rights that no service needs (superuser, createrole, createdb, replication, \
         bypassrls or a predefined pg_ role, its own or by a membership); choose another name in the .env file, or --adopt it as it is"
    )]
    PowerfulRole {
        /// The role.
        user: String,
    },
    /// The service's role cannot log in.
    #[error("the role {user} cannot log in to the database {database} at {place}: {why}")]
    Login {
        /// Host and port.
        place: String,
        /// The service's role.
        user: String,
        /// The database.
        database: String,
        /// The server's words.
        why: String,
    },
    /// The service's role cannot use its database.
    #[error("the role {user} cannot create a table in the database {database}: {why}")]
    Unusable {
        /// The service's role.
        user: String,
        /// The database.
        database: String,
        /// The server's words.
        why: String,
    },
    /// The program was told to stop before it was done.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The answer on stdout.
    #[error("the answer cannot be written to stdout")]
    Output(#[from] io::Error),
}

impl Failure for DbInitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connection(error) => error.exit(),
            Self::VaultLogin(error) => error.exit(),
            Self::Stopped(stopped) => stopped.exit(),
            Self::ReadSecret { cause, .. } => cause.exit(),
            Self::PasswordFile(error) => error.exit(),
            Self::MissingSecret { .. }
            | Self::MissingKey { .. }
            | Self::Value { .. }
            | Self::NoHost
            | Self::ForeignDatabase { .. }
            | Self::PowerfulRole { .. } => Exit::Config,
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::AdminRefused { .. } | Self::Statement { denied: true, .. } => Exit::Denied,
            Self::Statement { .. } | Self::Login { .. } | Self::Unusable { .. } | Self::Output(_) => {
                Exit::Failed
            }
        }
    }
}

/// What the server said, or what the innermost cause was: tokio-postgres' own words are "db error".
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", server.message(), server.code().code());
    }
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The error and its causes, the innermost last.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}
