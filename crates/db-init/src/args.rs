//! The command line.
#![allow(clippy::doc_markdown, reason = "these doc comments are the help text, which has no backticks")]

use std::path::PathBuf;

use agent_runtime::{ConnectionArgs, LogArgs};
use approle_session::LoginArgs;
use clap::{Parser, Subcommand};

/// Creates a service's PostgreSQL database, role and grants from the secrets in Vault
///
/// db-init logs in with the service's AppRole, reads the keys that end in _DB_USER, _DB_PASSWORD and _DB_NAME
/// (and _DB_HOST and _DB_PORT) of its secret, and makes what is missing: the role, the database that it owns,
/// and the grants. The password never reaches the server: a SCRAM-SHA-256 verifier does. At the end it logs
/// in as the new user, creates a table and drops it; where a unix socket has peer authentication, the
/// administrator does so with SET ROLE. A second run changes nothing, except that an administrator who is no
/// superuser sets the password anew where the server asks the user for none.
#[derive(Debug, Parser)]
#[command(name = "db-init", version, after_help = EXAMPLES, args_conflicts_with_subcommands = false)]
pub struct Args {
    /// What to do instead of creating.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Service whose database it is: also the name of its secret
    #[arg(long, env = "VAULTCREW_SERVICE", value_name = "NAME", hide_env_values = true)]
    pub(crate) service: String,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "secret")]
    pub(crate) kv_mount: String,

    /// Take over a database that another role owns, or a role with rights that db-init would not give
    #[arg(long, env = "VAULTCREW_ADOPT", hide_env_values = true)]
    pub(crate) adopt: bool,

    #[command(flatten)]
    pub(crate) database: DatabaseArgs,

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
  db-init --service user_db --db-host /var/run/postgresql plan

Exit codes: 0 done, 1 failed, 2 usage, 69 Vault or PostgreSQL unavailable,
77 credentials refused or permission denied, 78 a secret or the configuration is wrong.";

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the SQL that would be run, with the password left out, and change nothing
    Plan,
    /// Wait until PostgreSQL accepts the administrator's login, and end
    Wait,
}

/// Which PostgreSQL, and as which administrator.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "PostgreSQL")]
pub(crate) struct DatabaseArgs {
    /// Host, or directory of the unix socket; without it the _DB_HOST of the secret
    #[arg(long, env = "VAULTCREW_DB_HOST", value_name = "HOST", hide_env_values = true)]
    pub(crate) db_host: Option<String>,

    /// Port; without it the _DB_PORT of the secret, else 5432
    #[arg(long, env = "VAULTCREW_DB_PORT", value_name = "PORT", hide_env_values = true)]
    pub(crate) db_port: Option<u16>,

    /// Administrator: a superuser, or a role with CREATEROLE and CREATEDB, which joins the service's role
    #[arg(long, env = "VAULTCREW_ADMIN_USER", value_name = "NAME", hide_env_values = true)]
    #[arg(default_value = "postgres")]
    pub(crate) admin_user: String,

    /// File with the administrator's password; not needed over a socket with peer authentication
    #[arg(long, env = "VAULTCREW_ADMIN_PASSWORD_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) admin_password_file: Option<PathBuf>,
}
