//! The PostgreSQL server: waiting for it, and speaking to it as its administrator or as the new user.

use std::time::Duration;

use backoff::{Jitter, Policy};
use boot_clock::{BootTime, sleep_until};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use crate::DbInitError;
use crate::args::DatabaseArgs;
use crate::error::reason;
use crate::grants::Statement;
use crate::login::{LoginFailure, log_in};
use crate::target::Target;

/// What every installation has; the administrator connects to it.
const MAINTENANCE_DATABASE: &str = "postgres";

/// The advisory lock that runs take turns by; an arbitrary number of our own ("vaultcre").
const LOCK: i64 = 0x7661_756c_7463_7265;

/// For the administrator's session: the turns of other runs end soon, a database's files may take their time.
const LIMITS: &str = "SET lock_timeout = '2min'; SET statement_timeout = '10min'";

/// Between two lines that say what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(100), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

const MAX_PASSWORD: usize = 4096;

/// Where PostgreSQL is, and who administers it.
#[derive(Debug)]
pub(crate) struct Server {
    host: String,
    port: u16,
    admin_user: String,
    admin_password: Option<SecretString>,
}

/// The administrator's session.
pub(crate) struct Admin {
    pub(crate) client: Client,
    place: String,
}

impl Server {
    /// The server that the flags name, or else the secret.
    pub(crate) fn new(args: &DatabaseArgs, target: &Target) -> Result<Self, DbInitError> {
        let host = args.db_host.clone().or_else(|| target.host.clone()).ok_or(DbInitError::NoHost)?;
        let port = args.db_port.or(target.port).unwrap_or(5432);
        let read = |path| secret_file::read_text(path, MAX_PASSWORD).map_err(DbInitError::PasswordFile);
        let admin_password = args.admin_password_file.as_deref().map(read).transpose()?;
        Ok(Self { host, port, admin_user: args.admin_user.clone(), admin_password })
    }

    /// Host and port, for messages.
    pub(crate) fn place(&self) -> String {
        if self.is_on_a_socket() {
            format!("{}/.s.PGSQL.{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether it is spoken to over a unix socket, where the server may know the peer.
    pub(crate) fn is_on_a_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Waits until the administrator can log in, over the same way that is then used.
    ///
    /// During its first start the official image's server listens on the socket alone and stops again: it is
    /// ready when this very way is.
    pub(crate) async fn wait(&self, give_up: BootTime) -> Result<Admin, DbInitError> {
        let (started, mut said, mut attempt) = (BootTime::now(), BootTime::now(), 0);
        loop {
            let error = match self.admin(MAINTENANCE_DATABASE).await {
                Ok(admin) => return Ok(admin),
                Err(error) => error,
            };
            if !error.passes() {
                return Err(DbInitError::AdminRefused {
                    place: self.place(),
                    user: self.admin_user.clone(),
                    why: error.reason(),
                });
            }
            let now = BootTime::now();
            let wake_up = now + RETRY_DELAYS.delay(attempt, Jitter::draw());
            let waited = now.saturating_since(started);
            if wake_up >= give_up {
                return Err(DbInitError::Unreachable { place: self.place(), waited, why: error.reason() });
            }
            if now >= said + SAY_EVERY {
                said = now;
                let (place, waited, why) = (self.place(), waited.as_secs(), error.reason());
                tracing::info!("waiting for PostgreSQL at {place} ({waited} s): {why}");
            }
            sleep_until(wake_up).await;
            attempt += 1;
        }
    }

    /// Logs the administrator in.
    pub(crate) async fn admin(&self, database: &str) -> Result<Admin, LoginFailure> {
        let client = self.connect(&self.admin_user, self.admin_password.as_ref(), database).await?;
        client.batch_execute(LIMITS).await.map_err(LoginFailure::Refused)?;
        Ok(Admin { client, place: self.place() })
    }

    /// Logs in.
    pub(crate) async fn connect(
        &self,
        user: &str,
        password: Option<&SecretString>,
        database: &str,
    ) -> Result<Client, LoginFailure> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(user)
            .dbname(database)
            .application_name("vaultcrew db-init");
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        log_in(&config).await
    }
}

impl Admin {
    /// Waits for its turn, and keeps what follows out of the server's log as far as the rights allow.
    pub(crate) async fn lock(&self) -> Result<(), DbInitError> {
        for setting in
            ["log_statement = 'none'", "log_min_duration_statement = -1", "log_min_error_statement = 'panic'"]
        {
            // Refused to an administrator who is no superuser; a verifier is all that the log could show.
            if let Err(error) = self.client.batch_execute(&format!("SET {setting}")).await {
                tracing::debug!("SET {setting}: {}", reason(&error));
            }
        }
        let locked = self.client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await;
        locked.map(drop).map_err(|error| self.failed("taking the lock of db-init", &error))
    }

    /// Runs one statement.
    pub(crate) async fn execute(&self, statement: &Statement) -> Result<(), DbInitError> {
        match self.client.batch_execute(&statement.sql).await {
            // Somebody without our lock made it a moment ago: it is there.
            Err(error) if statement.creates && is_duplicate(&error) => Ok(()),
            result => result.map_err(|error| self.failed(&statement.shown, &error)),
        }
    }

    pub(crate) fn failed(&self, doing: &str, error: &tokio_postgres::Error) -> DbInitError {
        let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        DbInitError::Statement {
            place: self.place.clone(),
            doing: doing.to_owned(),
            why: reason(error),
            denied,
        }
    }
}

/// 42P04 and 42710: it exists. 23505: another session made it at the same instant.
fn is_duplicate(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::DUPLICATE_DATABASE, SqlState::DUPLICATE_OBJECT, SqlState::UNIQUE_VIOLATION].contains(code)
    })
}
