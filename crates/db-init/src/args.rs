//! The command line.
#![allow(clippy::doc_markdown, reason = "these doc comments are the help text, which has no backticks")]

use std::path::PathBuf;

use agent_runtime::{ConnectionArgs, LogArgs};
use approle_session::LoginArgs;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Creates services' PostgreSQL databases, roles and grants from the secrets in Vault
///
/// db-init logs in with the service's AppRole, reads the keys that end in _DB_USER, _DB_PASSWORD and _DB_NAME
/// (and _DB_HOST and _DB_PORT) of its secret, and makes what is missing: the role, the database that it owns,
/// and the grants. The password never reaches the server: a SCRAM-SHA-256 verifier does. At the end it logs
/// in as the new user, creates a table and drops it; where a unix socket has peer authentication, the
/// administrator does so with SET ROLE. A second run changes nothing, except that an administrator who is no
/// superuser sets the password anew where the server asks the user for none.
#[derive(Debug, Parser)]
#[command(name = "db-init", version, after_help = EXAMPLES, args_conflicts_with_subcommands = false)]
#[command(override_usage = "db-init [OPTIONS] --service <NAME> [COMMAND]")]
pub struct Args {
    /// What to do instead of creating.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Service whose database it is, also the name of its secret; may be given several times, and then each has its
    /// credentials in a directory of its own name below --credentials-dir
    #[arg(long = "service", env = "VAULTCREW_SERVICE", value_name = "NAME", global = true)]
    #[arg(value_delimiter = ',', hide_env_values = true)]
    pub(crate) services: Vec<String>,

    /// How many services are worked on side by side
    #[arg(long, env = "VAULTCREW_AT_ONCE", value_name = "NUMBER", global = true, hide_env_values = true)]
    #[arg(default_value = "4", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) at_once: u16,

    /// Answer with JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", global = true, hide_env_values = true)]
    #[arg(default_value = "secret")]
    pub(crate) kv_mount: String,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    #[command(flatten)]
    pub(crate) objects: ObjectArgs,

    #[command(flatten)]
    pub(crate) login: LoginArgs,

    #[command(flatten)]
    pub(crate) vault: ConnectionArgs,

    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  db-init --service user_db --admin-password-file /run/secrets/postgres
  db-init --service user_db,chat_db --admin-password-file '/run/secrets/{service}'
  db-init --service user_db --db-host /var/run/postgresql plan
  db-init --service user_db --db-cacert ca.pem --admin-password-file /run/secrets/postgres
  db-init rotate --alternate --service user_db --credentials-dir /vault/approle/user_db_rotate

Exit codes: 0 done, 1 failed, 2 usage, 69 Vault or PostgreSQL unavailable,
77 credentials refused or permission denied, 78 a secret or the configuration is wrong.
Of several services all are tried; the code is that of the first one that failed.";

impl Args {
    /// Parses the command line; ends the process where it is wrong.
    #[must_use]
    pub fn parse_or_exit() -> Self {
        let args: Self = agent_runtime::parse();
        // The parser knows no argument that is required and may follow the subcommand.
        if args.services.is_empty() {
            let missing = "no service is given; use --service NAME";
            Self::command().error(ErrorKind::MissingRequiredArgument, missing).exit();
        }
        args
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the SQL that would be run, with the password left out, and change nothing
    Plan,
    /// Wait until PostgreSQL accepts the administrator's login, and end
    Wait,
    /// Log in once as the service's user, with what is in Vault; needs no administrator
    Healthcheck,
    /// Make a new password and give it to Vault and PostgreSQL; finish what a killed rotation began
    ///
    /// The AppRole needs a policy of its own, since it writes: read and update on the secret, and on each that holds
    /// a copy of the password. Sessions that are open stay open. Killed anywhere, it leaves in Vault the password
    /// that is or is to be: the next rotate, and the next db-init too, finish it.
    Rotate(RotateArgs),
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RotateArgs {
    /// Two roles take turns, so that the old login stays good until the next rotation: NAME and NAME_alt, who act as
    /// the one that owns the database
    #[arg(long, env = "VAULTCREW_ROTATE_ALTERNATE", hide_env_values = true)]
    pub(crate) alternate: bool,

    /// A secret that holds the password, and the user's name, under other keys; those that have the same keys and
    /// are the AppRole's to write are found. May be given several times, or as a comma list
    #[arg(
        long,
        env = "VAULTCREW_ROTATE_ALSO",
        value_name = "SECRET[:KEY[:USER_KEY]]",
        value_delimiter = ','
    )]
    #[arg(hide_env_values = true)]
    pub(crate) also: Vec<String>,
}

/// Which PostgreSQL, how to reach it, and as which administrator.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "PostgreSQL")]
pub(crate) struct ServerArgs {
    /// Host, or directory of the unix socket; without it the _DB_HOST of the secret
    #[arg(long, env = "VAULTCREW_DB_HOST", value_name = "HOST", global = true, hide_env_values = true)]
    pub(crate) db_host: Option<String>,

    /// Port; without it the _DB_PORT of the secret, else 5432
    #[arg(long, env = "VAULTCREW_DB_PORT", value_name = "PORT", global = true, hide_env_values = true)]
    pub(crate) db_port: Option<u16>,

    /// TLS over TCP, as libpq has it; verify-full where a CA is given, else prefer
    #[arg(long, env = "PGSSLMODE", value_name = "MODE", global = true, hide_env_values = true)]
    pub(crate) db_sslmode: Option<SslMode>,

    /// PEM file with the CA certificates to trust instead of the system's
    #[arg(long, env = "PGSSLROOTCERT", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) db_cacert: Option<PathBuf>,

    /// Whether a login is bound to the TLS connection (SCRAM-SHA-256-PLUS)
    #[arg(long, env = "PGCHANNELBINDING", value_name = "MODE", global = true, hide_env_values = true)]
    #[arg(value_enum, default_value_t = Binding::Prefer)]
    pub(crate) db_channel_binding: Binding,

    /// Administrator: a superuser, or a role with CREATEROLE and CREATEDB, which joins the service's role
    #[arg(long, env = "VAULTCREW_ADMIN_USER", value_name = "NAME", global = true, hide_env_values = true)]
    #[arg(default_value = "postgres")]
    pub(crate) admin_user: String,

    /// File with the administrator's password, where {service} stands for the service; not needed over a socket with
    /// peer authentication
    #[arg(long, env = "VAULTCREW_ADMIN_PASSWORD_FILE", value_name = "FILE", global = true)]
    #[arg(hide_env_values = true)]
    pub(crate) admin_password_file: Option<String>,

    /// The same from a secret that the service's AppRole may read
    #[arg(long, env = "VAULTCREW_ADMIN_PASSWORD_SECRET", value_name = "SECRET:KEY", global = true)]
    #[arg(hide_env_values = true, conflicts_with = "admin_password_file")]
    pub(crate) admin_password_secret: Option<String>,
}

/// What is asked of TLS, by libpq's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SslMode {
    /// Never
    Disable,
    /// Where the server has it; nothing is checked
    Prefer,
    /// Always; the certificate is not checked
    Require,
    /// Always, with a certificate of the CA
    VerifyCa,
    /// Always, with a certificate of the CA for this host
    VerifyFull,
}

/// Whether the login is bound to the TLS connection.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Binding {
    /// Never
    Disable,
    /// Where both sides can
    Prefer,
    /// Always
    Require,
}

/// What the objects are to be like. What is not named here is left to the server.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Database and role")]
pub(crate) struct ObjectArgs {
    /// Take over a database that another role owns, a role that was here before, or one with rights that db-init
    /// would not give
    #[arg(long, env = "VAULTCREW_ADOPT", global = true, hide_env_values = true)]
    pub(crate) adopt: bool,

    /// Role that owns the database, and must exist; without it the service's own role
    #[arg(long, env = "VAULTCREW_DB_OWNER", value_name = "ROLE", global = true, hide_env_values = true)]
    pub(crate) db_owner: Option<String>,

    /// Character encoding of a new database
    #[arg(long, env = "VAULTCREW_DB_ENCODING", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) db_encoding: Option<String>,

    /// Locale (collation and character types) of a new database
    #[arg(long, env = "VAULTCREW_DB_LOCALE", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) db_locale: Option<String>,

    /// Database that a new one is copied from; template0 where encoding or locale are given
    #[arg(long, env = "VAULTCREW_DB_TEMPLATE", value_name = "NAME", global = true, hide_env_values = true)]
    pub(crate) db_template: Option<String>,

    /// How many connections the role may have at once; -1 for any number
    #[arg(long, env = "VAULTCREW_CONNECTION_LIMIT", value_name = "NUMBER", global = true)]
    #[arg(hide_env_values = true, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1..))]
    pub(crate) connection_limit: Option<i32>,

    /// When the role's password ends, as PostgreSQL reads it: '2027-01-31 12:00+01', infinity
    #[arg(long, env = "VAULTCREW_VALID_UNTIL", value_name = "TIME", global = true, hide_env_values = true)]
    pub(crate) valid_until: Option<String>,

    /// Extension that the database is to have; may be given several times, or as a comma list
    #[arg(long = "extension", env = "VAULTCREW_EXTENSIONS", value_name = "NAME", global = true)]
    #[arg(value_delimiter = ',', hide_env_values = true)]
    pub(crate) extensions: Vec<String>,

    /// Role without a login that may read every table of the schema public, now and later; it is made where it is
    /// missing, and granted to readers by hand
    #[arg(long, env = "VAULTCREW_READ_ONLY_ROLE", value_name = "ROLE", global = true)]
    #[arg(hide_env_values = true)]
    pub(crate) read_only_role: Option<String>,
}

#[cfg(test)]
impl ServerArgs {
    /// As without a flag or a variable.
    pub(crate) fn of_nothing() -> Self {
        Self {
            db_host: None,
            db_port: None,
            db_sslmode: None,
            db_cacert: None,
            db_channel_binding: Binding::Prefer,
            admin_user: "postgres".to_owned(),
            admin_password_file: None,
            admin_password_secret: None,
        }
    }
}
