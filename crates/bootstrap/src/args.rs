//! The command line.
#![allow(
    clippy::doc_markdown,
    rustdoc::invalid_html_tags,
    reason = "these doc comments are the help text, which has no backticks"
)]

use std::path::PathBuf;
use std::time::Duration;

use agent_runtime::{ConnectionArgs, HealthArgs, LogArgs, StatusArgs};
use clap::{Parser, Subcommand, ValueEnum};
use env_file::ReadDialect;

use crate::check::Rule;

/// Turns a .env file and HCL policies into Vault secrets, policies and AppRoles, and delivers the credentials
///
/// Each policies/<service>-policy.hcl declares a service. Its secret secret/<service> holds the keys of the
/// .env file that begin with the service's name; an optional vaultcrew.toml says the exceptions. bootstrap
/// writes what differs and nothing else, makes an AppRole for each service, and delivers role_id and
/// secret_id to <approle-dir>/<service>/. As a daemon it keeps those credentials fresh: a secret ID lives one
/// hour.
#[derive(Debug, Parser)]
#[command(name = "bootstrap", version, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) vault: ConnectionArgs,

    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  bootstrap check --env-file .env --policies-dir policies
  bootstrap plan --env-file .env --policies-dir policies
  bootstrap apply --env-file .env --policies-dir policies --token-file /vault/root/root-token
  bootstrap run
  bootstrap verify
  bootstrap access --format html > access.html

Exit codes: 0 done, 1 failed, or verify found a deviation, 2 usage, 69 Vault unavailable, 77 permission denied,
78 the .env file, the manifest or a policy is wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what is wrong with the files, without a server
    ///
    /// Reads what plan reads, and needs neither Vault nor a token. Each finding has its file and line, the rule
    /// that found it, why it matters, and what to write or run; a value is never shown. docs/check.md lists the
    /// rules. The status is 0 where there is no error, and 78 otherwise.
    Check(Check),
    /// Show what apply would change; values are never shown
    Plan {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        stack: Stack,
        #[command(flatten)]
        prune: Prune,
    },
    /// Make Vault what the files say, deliver the credentials, and end
    Apply {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        stack: Stack,
        #[command(flatten)]
        prune: Prune,
        #[command(flatten)]
        root: Root,
    },
    /// Apply while there is a root token, and keep the credentials fresh until told to stop
    ///
    /// Every minute, and at once when Vault returns, it looks at what each service has and replaces what is half over.
    /// Files that change are applied within a minute while there is a root token, and at once by SIGHUP. Whatever is
    /// wrong with them, the credentials of the last apply are kept fresh: docs/four-hour-wall.md.
    Run {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        stack: Stack,
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        status: StatusArgs,
    },
    /// Prove on the running server that each service may do what its policy says, and nothing else
    ///
    /// As each service, with the credentials that were delivered to it, verify logs in, asks Vault what it may do
    /// to every path there is, compares that with what the policies' files grant, and revokes its token. It
    /// needs no root token, issues nothing, and logs in once for each service.
    Verify {
        #[command(flatten)]
        verification: Verification,
    },
    /// Show who may read which secrets, and which keys are in them, from the files alone
    Access {
        #[command(flatten)]
        sources: Sources,
        /// Mount of the KV v2 engine
        #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
        #[arg(default_value = "secret")]
        kv_mount: String,
        /// text for a terminal, json for programs, html for a page with a picture
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: AccessFormat,
    },
    /// Say whether a running `bootstrap run` keeps every service's credentials fresh; for a HEALTHCHECK
    Healthcheck {
        #[command(flatten)]
        health: HealthArgs,
    },
}

/// How to check.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Check {
    /// Print the findings as a JSON array
    #[arg(long)]
    pub(crate) json: bool,

    /// Let warnings fail the check as errors do
    #[arg(long, env = "VAULTCREW_CHECK_DENY_WARNINGS", hide_env_values = true)]
    pub(crate) deny_warnings: bool,

    /// Rules whose findings are meant to be so, and are left out
    #[arg(long, env = "VAULTCREW_CHECK_ALLOW", value_name = "RULE[,RULE...]", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub(crate) allow: Vec<Rule>,

    #[command(flatten)]
    pub(crate) sources: Sources,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "secret", help_heading = "Stack")]
    pub(crate) kv_mount: String,
}

/// What there is to be.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sources")]
pub(crate) struct Sources {
    /// The .env file with the secrets
    #[arg(long, env = "VAULTCREW_ENV_FILE", value_name = "FILE", hide_env_values = true)]
    #[arg(default_value = ".env")]
    pub(crate) env_file: PathBuf,

    /// How the .env file is read: strict refuses every value that common readers read differently
    #[arg(long, env = "VAULTCREW_DIALECT", value_name = "DIALECT", hide_env_values = true)]
    #[arg(default_value = "strict", value_parser = clap::builder::PossibleValuesParser::new(ReadDialect::VALUES))]
    pub(crate) dialect: String,

    /// Directory of the policies, one <service>-policy.hcl for each service
    #[arg(long, env = "VAULTCREW_POLICIES_DIR", value_name = "DIR", hide_env_values = true)]
    #[arg(default_value = "policies")]
    pub(crate) policies_dir: PathBuf,

    /// The manifest; without it vaultcrew.toml beside the .env file, where there is one
    #[arg(long, env = "VAULTCREW_MANIFEST", value_name = "FILE", hide_env_values = true)]
    pub(crate) manifest: Option<PathBuf>,
}

/// Where in Vault and on disk it goes.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Stack")]
pub(crate) struct Stack {
    /// File with the root token, or another that may do this
    #[arg(long, env = "VAULTCREW_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    #[arg(default_value = "/vault/root/root-token")]
    pub(crate) token_file: PathBuf,

    /// Directory that role_id and secret_id are delivered to, in one directory for each service
    #[arg(long, env = "VAULTCREW_APPROLE_DIR", value_name = "DIR", hide_env_values = true)]
    #[arg(default_value = "/vault/approle")]
    pub(crate) approle_dir: PathBuf,

    /// Directory of bootstrap's own credential, on storage that persists and nobody else mounts
    #[arg(long, env = "VAULTCREW_STATE_DIR", value_name = "DIR", hide_env_values = true)]
    #[arg(default_value = "/vault/bootstrap")]
    pub(crate) state_dir: PathBuf,

    /// How long bootstrap's own secret ID lives: it is replaced at half of that, and outlasts an outage as long as the
    /// rest
    #[arg(long, env = "VAULTCREW_OWN_SECRET_ID_TTL", value_name = "DURATION", hide_env_values = true)]
    #[arg(default_value = "30d", value_parser = own_secret_id_ttl)]
    pub(crate) own_secret_id_ttl: Duration,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "secret")]
    pub(crate) kv_mount: String,

    /// Mount of the AppRole auth method, below auth/
    #[arg(long, env = "VAULTCREW_APPROLE_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "approle")]
    pub(crate) approle_mount: String,

    /// Write the .env file's value where one was changed in Vault since the last apply
    #[arg(long, env = "VAULTCREW_OVERWRITE", hide_env_values = true)]
    pub(crate) overwrite: bool,

    /// Where the server has no audit device: enable one that appends to this file on the server's side. HashiCorp Vault
    /// only: OpenBao takes devices from its own configuration alone
    #[arg(long, env = "VAULTCREW_ENABLE_AUDIT_FILE", value_name = "PATH", hide_env_values = true)]
    pub(crate) enable_audit_file: Option<String>,

    /// How long to wait at start for Vault to answer and to be unsealed
    #[arg(long, env = "VAULTCREW_WAIT", value_name = "DURATION", hide_env_values = true)]
    #[arg(default_value = "10m", value_parser = agent_runtime::duration)]
    pub(crate) wait: Duration,
}

/// The shortest life of bootstrap's own secret ID: below, no look of `bootstrap run` comes in time.
const LEAST_OWN_SECRET_ID_TTL: Duration = Duration::from_mins(1);

fn own_secret_id_ttl(text: &str) -> Result<Duration, String> {
    let ttl = agent_runtime::duration(text)?;
    if ttl < LEAST_OWN_SECRET_ID_TTL || ttl.subsec_nanos() != 0 {
        return Err("write whole seconds, and at least a minute".to_owned());
    }
    Ok(ttl)
}

/// Whom to prove what of.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Verification")]
pub(crate) struct Verification {
    /// Directory of the policies, one <service>-policy.hcl for each service
    #[arg(long, env = "VAULTCREW_POLICIES_DIR", value_name = "DIR", hide_env_values = true)]
    #[arg(default_value = "policies")]
    pub(crate) policies_dir: PathBuf,

    /// Directory that role_id and secret_id were delivered to, in one directory for each service
    #[arg(long, env = "VAULTCREW_APPROLE_DIR", value_name = "DIR", hide_env_values = true)]
    #[arg(default_value = "/vault/approle")]
    pub(crate) approle_dir: PathBuf,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "secret")]
    pub(crate) kv_mount: String,

    /// Mount of the AppRole auth method, below auth/
    #[arg(long, env = "VAULTCREW_APPROLE_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "approle")]
    pub(crate) approle_mount: String,

    /// How long to wait for Vault to answer and to be unsealed
    #[arg(long, env = "VAULTCREW_WAIT", value_name = "DURATION", hide_env_values = true)]
    #[arg(default_value = "30s", value_parser = agent_runtime::duration)]
    pub(crate) wait: Duration,

    /// Answer in JSON, with every path that is granted anything
    #[arg(long)]
    pub(crate) json: bool,
}

/// The form of `bootstrap access`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AccessFormat {
    Text,
    Json,
    Html,
}

/// What becomes of the root token.
#[derive(clap::Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Root token")]
pub(crate) struct Root {
    /// Revoke the root token, and remove its file, once everything is applied, bootstrap can log in with a credential of
    /// its own, and unsealer has proven that root can be had again
    #[arg(long, env = "VAULTCREW_REVOKE_ROOT_TOKEN", hide_env_values = true)]
    pub(crate) revoke_root_token: bool,
}

/// What goes besides. Without a variable: removing is an act and not a setting.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Removal")]
pub(crate) struct Prune {
    /// Remove role, policy and delivered credentials of each service that bootstrap made and no policy file declares
    /// any more
    #[arg(long)]
    pub(crate) prune: bool,

    /// With --prune: remove their secrets too, every version, for good
    #[arg(long, requires = "prune")]
    pub(crate) prune_secrets: bool,
}
