//! The command line.
#![allow(clippy::doc_markdown, reason = "these doc comments are the help text, which has no backticks")]

use std::ffi::OsString;
use std::path::PathBuf;

use agent_runtime::{ConnectionArgs, HealthArgs, LogArgs, StatusArgs};
use approle_session::LoginArgs;
use clap::{Parser, Subcommand};
use env_file::Dialect;

/// Logs a service in with its AppRole, renders its secrets, and becomes its command
///
/// As a container's entrypoint, `approle-agent exec` logs in with the credentials that bootstrap delivered,
/// reads the service's secrets from Vault, writes them to files or into the command's environment, revokes
/// its token and becomes the command: nothing of it stays. As a sidecar, `approle-agent run` stays, renews
/// its token, logs in again with every new secret ID, and keeps the files current.
#[derive(Debug, Parser)]
#[command(name = "approle-agent", version, after_help = EXAMPLES)]
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
  approle-agent exec --secret user -- node server.js
  approle-agent exec --secret user_db --files-dir /run/secrets --no-env -- docker-entrypoint.sh postgres
  approle-agent render --secret grafana --env-file /run/secrets/grafana.env --format docker

Exit codes: the command's own; before it runs 1 failed, 2 usage, 69 Vault unavailable,
77 credentials refused or permission denied, 78 the configuration or a secret is wrong,
126 the command cannot be run, 127 it is not found.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in, render the secrets, and become the command
    Exec {
        #[command(flatten)]
        secrets: SecretArgs,
        #[command(flatten)]
        outputs: OutputArgs,
        #[command(flatten)]
        environment: EnvironmentArgs,

        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Log in, render the secrets once, and end
    Render {
        #[command(flatten)]
        secrets: SecretArgs,
        #[command(flatten)]
        outputs: OutputArgs,
    },
    /// Stay logged in and keep the rendered secrets current until told to stop
    Run {
        #[command(flatten)]
        secrets: SecretArgs,
        #[command(flatten)]
        outputs: OutputArgs,
        #[command(flatten)]
        status: StatusArgs,
    },
    /// Say whether a running `approle-agent run` is logged in and has rendered; for a HEALTHCHECK
    Healthcheck {
        #[command(flatten)]
        health: HealthArgs,
    },
}

/// Which secrets, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SecretArgs {
    /// Secret to read, below the KV mount; can be given several times
    #[arg(long = "secret", env = "VAULTCREW_SECRETS", value_name = "NAME", hide_env_values = true)]
    #[arg(required = true, value_delimiter = ',')]
    pub(crate) secrets: Vec<String>,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "secret")]
    pub(crate) kv_mount: String,

    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Where the secrets go.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// File to write all keys to, as KEY=VALUE lines or JSON
    #[arg(long, env = "VAULTCREW_ENV_FILE", value_name = "PATH", hide_env_values = true)]
    pub(crate) env_file: Option<PathBuf>,

    /// Dialect of the env file: who is to read it
    #[arg(long, env = "VAULTCREW_FORMAT", value_name = "DIALECT", hide_env_values = true)]
    #[arg(default_value = "compose", value_parser = clap::builder::PossibleValuesParser::new(Dialect::VALUES))]
    pub(crate) format: String,

    /// Directory to write one file a key to, for images that take *_FILE variables
    #[arg(long, env = "VAULTCREW_FILES_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) files_dir: Option<PathBuf>,

    /// Permission bits of the files that are written
    #[arg(long, env = "VAULTCREW_FILE_MODE", value_name = "MODE", hide_env_values = true)]
    #[arg(default_value = "0600", value_parser = file_mode)]
    pub(crate) file_mode: u32,
}

/// What the command finds in its environment.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Environment of CMD")]
pub(crate) struct EnvironmentArgs {
    /// Keep the secrets out of the environment of CMD
    #[arg(long, env = "VAULTCREW_NO_ENV", hide_env_values = true)]
    pub(crate) no_env: bool,

    /// Let the secrets replace variables that are set already; without this those stay
    #[arg(long, env = "VAULTCREW_OVERWRITE_ENV", hide_env_values = true)]
    pub(crate) overwrite_env: bool,
}

fn file_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o770 && mode % 0o10 == 0 => Ok(mode),
        Ok(mode) if mode <= 0o777 => Err("a secret is not for everybody: let the last digit be 0".to_owned()),
        _ => Err("write permission bits like 0600 or 0440".to_owned()),
    }
}
