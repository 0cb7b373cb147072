//! `approle-agent`: logs a service in with its AppRole, renders its secrets, and becomes its command, or
//! stays and keeps them fresh, above the command or beside it.
//!
//! In the order of its job: the session of the `approle-session` crate logs in, `secrets` reads, `select` names,
//! `template` fills in, `render` writes and `environment` makes the command's. `keep` does that once or for
//! good, at the times that `refresh` decides. `command` runs the command and `report` says how all is.

mod args;
mod command;
mod environment;
mod error;
mod install;
mod keep;
mod owner;
mod refresh;
mod render;
mod report;
mod secrets;
mod select;
mod template;

pub use args::Args;
pub use error::AgentError;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use agent_runtime::{Exit, Shutdown, StatusFile};
use tokio::sync::watch;
use vault_client::VaultClient;

use crate::args::{Command, Run};
use crate::command::{Driver, Plan};
use crate::environment::{Environment, Rules};
use crate::keep::Keeper;
use crate::render::Outputs;
use crate::report::Report;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, AgentError> {
    match &args.command {
        Command::Exec { secrets, outputs, environment, pass_token, command } => {
            let hands_on = *pass_token || secrets.token_sink.is_some();
            let outputs = Outputs::new(outputs, Rules::new(environment, hands_on))?;
            let keeper = Keeper::new(&args.vault.client()?, secrets, &outputs, Duration::ZERO)?;
            let environment = keeper.once(*pass_token, &shutdown).await?;
            Err(become_command(command, &environment))
        }
        Command::Render { secrets, outputs } => {
            let outputs = Outputs::new(outputs, Rules::NO_COMMAND)?;
            if secrets.token_sink.is_none() {
                outputs.require_any()?;
            }
            Keeper::new(&args.vault.client()?, secrets, &outputs, Duration::ZERO)?
                .once(false, &shutdown)
                .await?;
            Ok(Exit::Done)
        }
        Command::Run(run) => stay(&args.vault.client()?, run).await,
        Command::Healthcheck { health } => {
            agent_runtime::print(&format!("{}\n", health.check("approle-agent")?))?;
            Ok(Exit::Done)
        }
        Command::Install { directory } => {
            install::install(directory)?;
            Ok(Exit::Done)
        }
    }
}

/// Replaces this process by the command. Returns only where that fails.
fn become_command(command: &[OsString], environment: &Environment) -> AgentError {
    match environment.command(command) {
        Err(error) => error,
        Ok(mut prepared) => {
            let cause = agent_runtime::with_core_dumps(|| prepared.exec());
            AgentError::Command { command: prepared.get_program().to_owned(), cause }
        }
    }
}

/// Keeps the secrets, and runs the command over them if there is one. The two sides do not wait for one another:
/// while Vault is slow a signal is passed on at once, and while the command takes its time to stop the token is
/// revoked.
async fn stay(client: &VaultClient, args: &Run) -> Result<Exit, AgentError> {
    let (rules, hook) = args.on_change();
    let has_command = !args.command.is_empty();
    let has_sink = args.secrets.token_sink.is_some();
    // What --on-change runs beside a sidecar has no use for secrets that the files hold.
    let environment = Rules::new(&args.environment, has_sink);
    let environment = if has_command { environment } else { environment.without_secrets() };
    let outputs = Outputs::new(&args.outputs, environment)?;
    if args.lacks_command() {
        return Err(AgentError::NoCommand);
    }
    if !has_command && !has_sink {
        outputs.require_any()?;
    }
    let status = StatusFile::new(&args.status, "approle-agent");
    let report = Report::new(status, has_command, args.secrets.login.wait);
    let plan = Plan { command: has_command.then_some((args.command.as_slice(), rules)), hook };

    let (deliver, delivered) = watch::channel(None);
    // The runtime's own shutdown knows two signals; CMD's supervisor has them all.
    let (order, shutdown) = Shutdown::ordered_by();
    let driver = Driver::new(plan, delivered, &report).map_err(AgentError::Signals)?;
    let keeper = Keeper::new(client, &args.secrets, &outputs, args.refresh)?;
    let (kept, ran) = tokio::join!(keeper.keep(deliver, &report, &shutdown), driver.run(order));
    match (ran?, kept) {
        (Some(exit), _) => Ok(exit),
        (None, Err(error)) => Err(error),
        (None, Ok(never)) => match never {},
    }
}
