//! The PostgreSQL server: waiting for it, and speaking to it as its administrator or as the new user.

use std::path::Path;
use std::time::Duration;

use backoff::{Jitter, Policy};
use boot_clock::{BootTime, sleep_until};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row};

use crate::DbInitError;
use crate::args::ServerArgs;
use crate::failure::{FailureKind, reason};
use crate::grants::Statement;
use crate::login::{LoginFailure, log_in};
use crate::target::Target;
use crate::tls::Tls;

/// What every installation has; the administrator connects to it.
const MAINTENANCE_DATABASE: &str = "postgres";

/// The first half of the advisory locks that runs take turns by; an arbitrary number of our own ("vcrw").
const LOCK: i32 = 0x7663_7277;

/// For the administrator's session: the turns of other runs end soon, a database's files may take their time.
const LIMITS: &str = "SET lock_timeout = '2min'; SET statement_timeout = '10min'";

/// What keeps statements out of the server's log and views. Each is for superusers alone, or for whom they have
/// let set it; those of modules that are not loaded are taken and mean nothing.
const SILENCE: [(&str, &str); 8] = [
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_duration", "off"),
    ("log_min_error_statement", "panic"),
    ("track_activities", "off"),
    ("pg_stat_statements.track", "none"),
    ("pgaudit.log", "none"),
];

/// A server that vanished without a word is given up after this.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Between two lines that say what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

pub(crate) const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(100), Duration::from_secs(2))
{
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

const MAX_PASSWORD: usize = 4096;

/// Where PostgreSQL is, and who administers it.
pub(crate) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    admin_user: String,
    admin_password: Option<SecretString>,
}

/// A parameter of a query: a `String`, or an `Option` of one.
pub(crate) type Text<'a> = &'a (dyn ToSql + Sync);

/// The administrator's session.
pub(crate) struct Admin {
    pub(crate) client: Client,
    place: String,
}

/// The administrator's password in its file, where there is one: `{service}` stands for the service.
pub(crate) fn read_admin_password(
    args: &ServerArgs,
    service: &str,
) -> Result<Option<SecretString>, DbInitError> {
    let path = args.admin_password_file.as_ref().map(|path| path.replace("{service}", service));
    let read = |path: String| secret_file::read_text(Path::new(&path), MAX_PASSWORD);
    path.map(read).transpose().map_err(DbInitError::PasswordFile)
}

impl Server {
    /// The server that the flags name, or else the secret.
    pub(crate) fn new(
        args: &ServerArgs,
        target: &Target,
        tls: &Tls,
        admin_password: Option<SecretString>,
    ) -> Result<Self, DbInitError> {
        let host = args.db_host.clone().or_else(|| target.host.clone()).ok_or(DbInitError::NoHost)?;
        let port = args.db_port.or(target.port).unwrap_or(5432);
        Ok(Self { host, port, tls: tls.clone(), admin_user: args.admin_user.clone(), admin_password })
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
    /// ready when this very way is, and may still go away once more.
    pub(crate) async fn wait(&self, give_up: BootTime) -> Result<Admin, DbInitError> {
        let (started, mut said, mut attempt) = (BootTime::now(), BootTime::now(), 0);
        loop {
            let error = match self.admin(MAINTENANCE_DATABASE).await {
                Ok(admin) => return Ok(admin),
                Err(error) => error,
            };
            if !error.passes() {
                return Err(self.refusal(&error));
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

    fn refusal(&self, error: &LoginFailure) -> DbInitError {
        let (place, why) = (self.place(), error.reason());
        if error.is_about_tls() {
            DbInitError::Tls { place, why }
        } else if error.is_refusal() || !error.is_the_servers() {
            DbInitError::AdminRefused { place, user: self.admin_user.clone(), why }
        } else {
            let doing = format!("logging the administrator {} in", self.admin_user);
            DbInitError::Statement { place, doing, why, kind: FailureKind::Other }
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
            .application_name("vaultcrew db-init")
            .keepalives_idle(LOST_AFTER)
            .tcp_user_timeout(LOST_AFTER);
        if self.is_on_a_socket() {
            config.ssl_mode(SslMode::Disable);
        } else {
            config.ssl_mode(self.tls.encryption).channel_binding(self.tls.binding);
        }
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        log_in(&config, self.tls.connector.clone()).await
    }

    /// The error of an administrator's login to another database than the first.
    pub(crate) fn admin_refused_at(&self, database: &str, error: &LoginFailure) -> DbInitError {
        let kind = if error.passes() { FailureKind::Passing } else { FailureKind::Denied };
        DbInitError::Login {
            place: self.place(),
            user: self.admin_user.clone(),
            database: database.to_owned(),
            why: error.reason(),
            kind,
        }
    }

    /// The error of the service's own login.
    pub(crate) fn user_refused(&self, target: &Target, database: &str, error: &LoginFailure) -> DbInitError {
        let (place, why) = (self.place(), error.reason());
        if error.is_about_tls() {
            return DbInitError::Tls { place, why };
        }
        let kind = if error.passes() { FailureKind::Passing } else { FailureKind::Other };
        DbInitError::Login { place, user: target.user.clone(), database: database.to_owned(), why, kind }
    }
}

impl Admin {
    /// Keeps what follows out of the server's log and views, as far as the rights allow.
    pub(crate) async fn be_silent(&self) {
        // One refusal is no other's, and none of them comes into the server's log. Where it is all refused, a
        // verifier is what the log could show.
        let settings = SILENCE.map(|(name, value)| format!("['{name}', '{value}']")).join(", ");
        let script = format!(
            "DO $$ DECLARE setting text[]; BEGIN \
                FOREACH setting SLICE 1 IN ARRAY ARRAY[{settings}] LOOP \
                    BEGIN PERFORM set_config(setting[1], setting[2], false); \
                    EXCEPTION WHEN OTHERS THEN NULL; END; \
                END LOOP; \
            END $$"
        );
        if let Err(error) = self.client.batch_execute(&script).await {
            tracing::debug!("the server logs what it likes: {}", reason(&error));
        }
    }

    /// Waits for its turn: two runs that mean the same role or the same database take turns, and the second finds
    /// everything done.
    pub(crate) async fn lock(&self, target: &Target) -> Result<(), DbInitError> {
        // Always in this order, whatever the names are: nobody waits for one who waits for him.
        for (kind, name) in [("role", &target.user), ("database", &target.database)] {
            let lock = format!("SELECT pg_advisory_lock({LOCK}, hashtext($1))");
            self.row("taking the lock of db-init", &lock, &[&format!("{kind} {name}")]).await?;
        }
        Ok(())
    }

    /// Asks, in one round trip; every parameter is a text. Nothing is prepared that would have to be kept.
    pub(crate) async fn rows(
        &self,
        doing: &str,
        sql: &str,
        texts: &[Text<'_>],
    ) -> Result<Vec<Row>, DbInitError> {
        let typed: Vec<_> = texts.iter().map(|text| (*text, Type::TEXT)).collect();
        self.client.query_typed(sql, &typed).await.map_err(|error| self.failed(doing, &error))
    }

    /// The same where the answer is always one row.
    pub(crate) async fn row(&self, doing: &str, sql: &str, texts: &[Text<'_>]) -> Result<Row, DbInitError> {
        let typed: Vec<_> = texts.iter().map(|text| (*text, Type::TEXT)).collect();
        self.client.query_typed_one(sql, &typed).await.map_err(|error| self.failed(doing, &error))
    }

    /// Runs one statement.
    pub(crate) async fn execute(&self, statement: &Statement) -> Result<(), DbInitError> {
        let result = self.client.batch_execute(&statement.sql).await;
        result.map_err(|error| self.failed(&statement.shown, &error))
    }

    pub(crate) fn failed(&self, doing: &str, error: &tokio_postgres::Error) -> DbInitError {
        DbInitError::Statement {
            place: self.place.clone(),
            doing: doing.to_owned(),
            why: reason(error),
            kind: FailureKind::of(error),
        }
    }
}
