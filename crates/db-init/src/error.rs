//! What can end db-init.

mod meaning;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent_runtime::{ConnectionError, Stopped};
use approle_session::LoginError;
use secret_file::FileError;
use vault_client::VaultError;

use crate::FailureKind;

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
    /// `--admin-password-secret` or `--also` name no secret and key.
    #[error("{flag} {value} cannot be used: write {form}")]
    Place {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What it should look like.
        form: &'static str,
    },
    /// The CA file cannot be read.
    #[error("the CA file of --db-cacert (PGSSLROOTCERT) cannot be read")]
    CaFile(#[source] FileError),
    /// The CA file is none.
    #[error("the CA file {path} of --db-cacert (PGSSLROOTCERT) cannot be used: {why}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A CA, and a mode that looks at no certificate.
    #[error(
        "--db-cacert is given, but --db-sslmode (PGSSLMODE) disable or prefer would not look at it; use verify-full or verify-ca"
    )]
    UnusedCa,
    /// The system has no CA.
    #[error("the system has no CA certificates to verify PostgreSQL's by; give --db-cacert")]
    NoSystemCa,
    /// TLS itself.
    #[error("TLS cannot be set up: {0}")]
    TlsSetup(String),
    /// Both sides do not agree on TLS.
    #[error(
        "no TLS connection to PostgreSQL at {place}: {why}; check --db-sslmode, --db-cacert and --db-channel-binding"
    )]
    Tls {
        /// Host and port.
        place: String,
        /// The driver's words.
        why: String,
    },
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
        /// What can be done about it.
        kind: FailureKind,
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
    /// The role is not known to be the service's.
    #[error(
        "the role {user} exists, its password is not the one in the secret, and it does not own the database \
         {database}: it may be somebody else's; choose another name in the .env file, or --adopt the role, which \
         sets its password"
    )]
    ForeignRole {
        /// The role.
        user: String,
        /// The service's database.
        database: String,
    },
    /// What is there cannot be changed to what was asked for.
    #[error(
        "the database {database} has the {what} {has}, not {wanted}, and that cannot be changed afterwards"
    )]
    Fixed {
        /// The database.
        database: String,
        /// Which of its properties.
        what: &'static str,
        /// As it is.
        has: String,
        /// As it is to be.
        wanted: String,
    },
    /// The reader would be the owner.
    #[error("--read-only-role {0} is the service's own role, which may write")]
    ReaderIsUser(String),
    /// The role is more than a service's.
    #[error(
        "the role {user} exists with rights that no service needs (superuser, createrole, createdb, replication, \
         bypassrls or a predefined pg_ role, its own or by a membership); choose another name in the .env file, or --adopt it as it is"
    )]
    PowerfulRole {
        /// The role.
        user: String,
    },
    /// A rotation before there is a role.
    #[error("there is no role {user} whose password could be rotated; run db-init first")]
    NothingToRotate {
        /// The role.
        user: String,
    },
    /// The AppRole may not write a secret.
    #[error(
        "the AppRole may not write the secret {path}, as a rotation must: its policy needs read and update on {data}"
    )]
    MayNotWrite {
        /// Its path, with the mount.
        path: String,
        /// Its path for the API.
        data: String,
    },
    /// A copy that a rotation would leave behind.
    #[error(
        "{key} of the secret {path} has the password in it too, and a rotation would leave it as it was; name it with \
         --also {name}:{key}, or where it is more than the password, make it of its parts (approle-agent --template)"
    )]
    UnnamedCopy {
        /// The secret.
        name: String,
        /// Its path, with the mount.
        path: String,
        /// The key.
        key: String,
    },
    /// The role that would take turns with the service's is somebody else's.
    #[error(
        "the role {user} exists, and is not one that takes turns with {with}; drop it or rename it, or rotate without \
         --alternate"
    )]
    ForeignTurn {
        /// The role.
        user: String,
        /// The one that owns the service's database.
        with: String,
    },
    /// A secret was not written.
    #[error("the new password cannot be written to the secret {path}; run rotate again")]
    WriteSecret {
        /// Its path, with the mount.
        path: String,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
    /// What the token may do cannot be found out.
    #[error("it cannot be found out what the AppRole may write")]
    Capabilities(#[source] VaultError),
    /// The system has no random numbers.
    #[error("no password can be made up: {0}")]
    Random(getrandom::Error),
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
        /// What can be done about it.
        kind: FailureKind,
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
        /// What can be done about it.
        kind: FailureKind,
    },
    /// The program was told to stop before it was done.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The answer on stdout.
    #[error("the answer cannot be written to stdout")]
    Output(#[from] io::Error),
}
