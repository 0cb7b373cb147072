//! The command line.
#![allow(clippy::doc_markdown, reason = "these doc comments are the help text, which has no backticks")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use agent_runtime::{ConnectionArgs, HealthArgs, LogArgs, StatusArgs};
use approle_session::LoginArgs;
use clap::{Parser, Subcommand};
use env_file::Dialect;

use crate::command::{OnChange, Rules, Signal};
use crate::owner;
use crate::secrets::SecretName;
use crate::select::Wanted;

/// Logs a service in with its AppRole, renders its secrets, and becomes its command
///
/// As a container's entrypoint, `approle-agent exec` logs in with the credentials that bootstrap delivered,
/// reads the service's secrets from Vault, writes them to files or into the command's environment, revokes
/// its token and becomes the command: nothing of it stays. `approle-agent run` stays, above a command or as a
/// sidecar: it renews its token, logs in again with every new secret ID, keeps the files current, and restarts
/// or signals the command when its secrets change.
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
  approle-agent run --secret chat --on-change signal:HUP --template chat.tmpl:/run/chat.conf -- chatd
  approle-agent run --secret grafana --env-file /run/secrets/grafana.env --format docker
  approle-agent render --secret user_db --key user_db:USER_DB_PASSWORD=PGPASSWORD --env-file pg.env

Exit codes: the command's own, 128+n where signal n ended it; before it runs 1 failed, 2 usage,
69 Vault unavailable, 77 credentials refused or permission denied, 78 the configuration or a secret
is wrong, 126 the command cannot be run, 127 it is not found.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in, render the secrets, and become the command
    Exec {
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,

        #[command(flatten)]
        secrets: SecretArgs,
        #[command(flatten)]
        outputs: OutputArgs,
        #[command(flatten)]
        environment: EnvironmentArgs,

        /// Give CMD the token as VAULT_TOKEN, with the VAULT_* and BAO_* variables, and do not revoke it
        #[arg(long, env = "VAULTCREW_PASS_TOKEN", hide_env_values = true)]
        #[arg(help_heading = "Environment of CMD")]
        pass_token: bool,
    },
    /// Log in, render the secrets once, and end
    Render {
        #[command(flatten)]
        secrets: SecretArgs,
        #[command(flatten)]
        outputs: OutputArgs,
    },
    /// Stay logged in and keep the secrets current, above a command or as a sidecar
    Run(Box<Run>),
    /// Say whether a running `approle-agent run` is logged in, has rendered, and has its command running; for a
    /// HEALTHCHECK
    Healthcheck {
        #[command(flatten)]
        health: HealthArgs,
    },
    /// Copy this program into a directory, such as a volume that other images mount
    Install {
        /// The directory; made where it is missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// What `run` is told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Run {
    /// The command to run and its arguments; without one this is a sidecar
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,

    #[command(flatten)]
    pub(crate) status: StatusArgs,

    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    #[command(flatten)]
    pub(crate) outputs: OutputArgs,
    #[command(flatten)]
    pub(crate) environment: EnvironmentArgs,

    /// How often the secrets are read again; a tenth of it is left to chance
    #[arg(long, env = "VAULTCREW_REFRESH", value_name = "DURATION", hide_env_values = true)]
    #[arg(help_heading = "Changes", default_value = "5m", value_parser = refresh_interval)]
    pub(crate) refresh: Duration,

    /// What to do when a secret has changed, after the outputs are written: restart CMD, send it a signal
    /// (signal:HUP), run a command (exec:nginx -s reload; its words are divided at blanks), or none
    /// [default: restart with a CMD, none without]
    #[arg(long, env = "VAULTCREW_ON_CHANGE", value_name = "ACTION", hide_env_values = true)]
    #[arg(help_heading = "Changes")]
    on_change: Option<Reaction>,

    /// Signal that stops CMD; SIGTERM to this program becomes this one
    #[arg(long, env = "VAULTCREW_STOP_SIGNAL", value_name = "SIGNAL", hide_env_values = true)]
    #[arg(help_heading = "Running CMD", default_value = "TERM")]
    stop_signal: Signal,

    /// How long CMD may take to stop before it is killed; Docker itself kills after 10s
    #[arg(long, env = "VAULTCREW_GRACE", value_name = "DURATION", hide_env_values = true)]
    #[arg(help_heading = "Running CMD", default_value = "8s", value_parser = agent_runtime::duration)]
    grace: Duration,
}

/// `--on-change`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reaction {
    Restart,
    Signal(Signal),
    Exec(Vec<OsString>),
    Nothing,
}

impl FromStr for Reaction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words =
            |command: &str| -> Vec<OsString> { command.split_whitespace().map(OsString::from).collect() };
        match text.split_once(':') {
            None if text == "restart" => Ok(Self::Restart),
            None if text == "none" => Ok(Self::Nothing),
            Some(("signal", signal)) => signal.parse().map(Self::Signal),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Exec(words(command))),
            _ => Err("write restart, signal:NAME, exec:COMMAND or none".to_owned()),
        }
    }
}

impl Run {
    /// What a change is to CMD, and what else is run on it.
    pub(crate) fn on_change(&self) -> (Rules, Option<&[OsString]>) {
        let (on_change, hook) = match &self.on_change {
            None | Some(Reaction::Restart) => (OnChange::Restart, None),
            Some(Reaction::Signal(signal)) => (OnChange::Signal(*signal), None),
            Some(Reaction::Exec(command)) => (OnChange::Nothing, Some(command.as_slice())),
            Some(Reaction::Nothing) => (OnChange::Nothing, None),
        };
        (Rules { stop: self.stop_signal, grace: self.grace, on_change }, hook)
    }

    /// Whether it asks for something that needs a CMD, without one.
    pub(crate) fn lacks_command(&self) -> bool {
        let needs_one = matches!(self.on_change, Some(Reaction::Restart | Reaction::Signal(_)));
        self.command.is_empty() && needs_one
    }
}

/// Which secrets, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SecretArgs {
    /// Secret to read, below the KV mount, and which version of it, if not the newest; can be given several times
    #[arg(long = "secret", env = "VAULTCREW_SECRETS", value_name = "NAME[@VERSION]", hide_env_values = true)]
    #[arg(required = true, value_delimiter = ',')]
    pub(crate) secrets: Vec<SecretName>,

    /// Mount of the KV v2 engine
    #[arg(long, env = "VAULTCREW_KV_MOUNT", value_name = "MOUNT", hide_env_values = true)]
    #[arg(default_value = "secret")]
    pub(crate) kv_mount: String,

    /// File to keep the token in for others, who may use it until it is replaced; it is then not revoked at the
    /// end, and taken up again at the next start
    #[arg(long, env = "VAULTCREW_TOKEN_SINK", value_name = "FILE", hide_env_values = true)]
    pub(crate) token_sink: Option<PathBuf>,

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

    /// File to fill in a template to, SOURCE:DESTINATION; can be given several times
    #[arg(long = "template", env = "VAULTCREW_TEMPLATES", value_name = "SRC:DST", hide_env_values = true)]
    #[arg(value_delimiter = ',', value_parser = template)]
    pub(crate) templates: Vec<(PathBuf, PathBuf)>,

    /// Key to take, and the name to give it, instead of all keys; can be given several times
    #[arg(long = "key", env = "VAULTCREW_KEYS", value_name = "[SECRET:]KEY[=NAME]", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub(crate) keys: Vec<Wanted>,

    /// Text to put before every name that --key does not give
    #[arg(long, env = "VAULTCREW_PREFIX", value_name = "TEXT", hide_env_values = true)]
    pub(crate) prefix: Option<String>,

    /// Write every name that --key does not give in capitals
    #[arg(long, env = "VAULTCREW_UPPER", hide_env_values = true)]
    pub(crate) upper: bool,

    /// Permission bits of the files that are written
    #[arg(long, env = "VAULTCREW_FILE_MODE", value_name = "MODE", hide_env_values = true)]
    #[arg(default_value = "0600", value_parser = file_mode)]
    pub(crate) file_mode: u32,

    /// Owner of the files that are written, if not this process's user
    #[arg(long, env = "VAULTCREW_FILE_OWNER", value_name = "USER", hide_env_values = true)]
    #[arg(value_parser = owner::user)]
    pub(crate) file_owner: Option<u32>,

    /// Group of the files that are written, if not the one that the system gives
    #[arg(long, env = "VAULTCREW_FILE_GROUP", value_name = "GROUP", hide_env_values = true)]
    #[arg(value_parser = owner::group)]
    pub(crate) file_group: Option<u32>,
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

fn template(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once(':') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.into(), to.into())),
        _ => Err("write SOURCE:DESTINATION".to_owned()),
    }
}

fn refresh_interval(text: &str) -> Result<Duration, String> {
    let interval = agent_runtime::duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    if range.contains(&interval) { Ok(interval) } else { Err("write a duration from 1s to 24h".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_written_in_four_ways() {
        let parse = |text: &str| text.parse::<Reaction>();
        assert_eq!(parse("restart"), Ok(Reaction::Restart));
        assert_eq!(parse("none"), Ok(Reaction::Nothing));
        assert_eq!(parse("signal:SIGTERM"), Ok(Reaction::Signal(Signal::TERM)));
        let words = ["nginx", "-s", "reload"].map(OsString::from).to_vec();
        assert_eq!(parse("exec:nginx  -s reload"), Ok(Reaction::Exec(words)));
        for wrong in ["", "Restart", "signal", "signal:", "signal:NOPE", "exec:", "exec: ", "HUP"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
