//! The four programs, run as an operator would.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::{Daemon, Outcome, Programs, run_within, wait_until};

use super::stage::Stage;
use crate::error::{Error, Result};
use crate::interrupt;

/// How long a program may take.
const LIMIT: Duration = Duration::from_mins(1);

/// The programs, with the flags that all of them take.
pub(super) struct Crew<'a> {
    programs: Programs,
    stage: &'a Stage,
    vault_addr: String,
}

impl<'a> Crew<'a> {
    pub(super) fn new(bin_dir: PathBuf, stage: &'a Stage, vault_addr: String) -> Result<Self> {
        Ok(Self { programs: Programs::in_dir(bin_dir)?, stage, vault_addr })
    }

    /// Starts the unsealer, and waits until it says that every node is unsealed.
    pub(super) fn unsealer(&self) -> Result<Daemon> {
        let mut command = self.programs.unsealer();
        command.arg("run").arg("--keys-dir").arg(self.stage.keys());
        command.arg("--root-token-file").arg(self.stage.root_token());
        self.daemon("unsealer", command)
    }

    pub(super) fn unsealer_says(&self) -> Result<String> {
        self.health("unsealer").map(|outcome| outcome.stdout.trim().to_owned())
    }

    /// Makes Vault what the files say; what it said of it.
    pub(super) fn bootstrap_apply(&self) -> Result<String> {
        self.succeed(self.bootstrap_command("apply")).map(|outcome| last_line(&outcome.stdout))
    }

    /// Starts the bootstrap daemon, and waits until it says that all credentials are fresh.
    pub(super) fn bootstrap(&self) -> Result<Daemon> {
        self.daemon("bootstrap", self.bootstrap_command("run"))
    }

    pub(super) fn bootstrap_says(&self) -> Result<String> {
        self.health("bootstrap").map(|outcome| outcome.stdout.trim().to_owned())
    }

    /// Creates the service's database; what it said of it.
    pub(super) fn db_init(&self, service: &str) -> Result<String> {
        let mut command = self.programs.db_init();
        command.args(["--service", service]);
        command.arg("--admin-password-file").arg(self.stage.superuser_password());
        command.arg("--credentials-dir").arg(self.stage.approle().join(service));
        self.succeed(self.with_vault(command)).map(|outcome| last_line(&outcome.stdout))
    }

    /// The agent with the service's credentials, about to read this secret.
    pub(super) fn agent(&self, task: &str, service: &str, secret: &str) -> Command {
        let mut command = self.programs.approle_agent();
        command.args([task, "--secret", secret, "--wait", "10s", "--credentials-dir"]);
        command.arg(self.stage.approle().join(service));
        self.with_vault(command)
    }

    /// Runs it; anything but 0 is an error.
    pub(super) fn succeed(&self, command: Command) -> Result<Outcome> {
        self.expect(command, 0)
    }

    /// Runs it; anything but this exit code is an error.
    #[expect(clippy::unused_self, reason = "running programs is the crew's")]
    pub(super) fn expect(&self, mut command: Command, code: i32) -> Result<Outcome> {
        let outcome = run_within(&mut command, LIMIT)?;
        if outcome.code() == code {
            return Ok(outcome);
        }
        let said =
            format!("exit code {} instead of {code}:\n{}{}", outcome.code(), outcome.stdout, outcome.stderr);
        Err(Error::Failed { doing: format!("run {}", shown(&command)), said })
    }

    fn bootstrap_command(&self, task: &str) -> Command {
        let mut command = self.programs.bootstrap();
        command.arg(task).arg("--env-file").arg(self.stage.env_file());
        command.arg("--policies-dir").arg(self.stage.policies());
        command.arg("--manifest").arg(self.stage.manifest());
        command.arg("--token-file").arg(self.stage.root_token());
        command.arg("--approle-dir").arg(self.stage.approle());
        command.arg("--state-dir").arg(self.stage.bootstrap_state());
        self.with_vault(command)
    }

    fn with_vault(&self, mut command: Command) -> Command {
        command.env("VAULT_ADDR", &self.vault_addr);
        command
    }

    /// Starts it, and asks for its health until that is good.
    fn daemon(&self, program: &'static str, command: Command) -> Result<Daemon> {
        let mut command = self.with_vault(command);
        let status_file = self.stage.status_file(program);
        // An earlier run's status would be asked for its health.
        let _ = std::fs::remove_file(&status_file);
        command.arg("--status-file").arg(status_file);
        let mut daemon = Daemon::spawn(&mut command)?;
        let mut healthy = false;
        let _ = wait_until(LIMIT, || {
            healthy = self.health(program).is_ok();
            healthy || !daemon.is_running()
        });
        if healthy {
            return Ok(daemon);
        }
        interrupt::check()?;
        let state = if daemon.is_running() { "it is not healthy" } else { "it ended" };
        let said = format!("{state}; its log:\n{}", daemon.log());
        Err(Error::Failed { doing: format!("run {}", shown(&command)), said })
    }

    fn health(&self, program: &str) -> Result<Outcome> {
        let mut command =
            if program == "unsealer" { self.programs.unsealer() } else { self.programs.bootstrap() };
        command.args(["healthcheck", "--status-file"]).arg(self.stage.status_file(program));
        self.succeed(command)
    }
}

fn last_line(text: &str) -> String {
    text.trim_end().lines().next_back().unwrap_or_default().to_owned()
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
