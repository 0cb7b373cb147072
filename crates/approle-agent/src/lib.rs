//! `approle-agent`: logs a service in with its AppRole, renders its secrets, and becomes its command, or
//! stays beside it and keeps them fresh.
//!
//! In the order of its job: the session of the `approle-session` crate logs in, `secrets` reads,
//! `render` writes files, and then `exec` becomes the command or `sidecar` stays.

mod args;
mod error;
mod exec;
mod render;
mod secrets;
mod sidecar;

pub use args::Args;
pub use error::AgentError;

use agent_runtime::{Exit, Shutdown, StatusFile};
use approle_session::AppRole;
use vault_client::VaultClient;

use crate::args::{Command, SecretArgs};
use crate::render::Outputs;
use crate::secrets::Secrets;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, AgentError> {
    match &args.command {
        Command::Exec { secrets, outputs, environment, command } => {
            let outputs = Outputs::new(outputs);
            let secrets = render_once(args.vault.client()?, secrets, &outputs, &shutdown).await?;
            Err(exec::become_command(command, environment, &secrets))
        }
        Command::Render { secrets, outputs } => {
            let outputs = Outputs::new(outputs);
            outputs.require_any()?;
            render_once(args.vault.client()?, secrets, &outputs, &shutdown).await?;
            Ok(Exit::Done)
        }
        Command::Run { secrets, outputs, status } => {
            let outputs = Outputs::new(outputs);
            outputs.require_any()?;
            let status = StatusFile::new(status, "approle-agent");
            sidecar::stay(args.vault.client()?, secrets, &outputs, status, &shutdown).await
        }
        Command::Healthcheck { health } => {
            agent_runtime::print(&format!("{}\n", health.check("approle-agent")?))?;
            Ok(Exit::Done)
        }
    }
}

/// Logs in, reads, renders, and revokes the token, whether that went well or not.
async fn render_once(
    client: VaultClient,
    args: &SecretArgs,
    outputs: &Outputs,
    shutdown: &Shutdown,
) -> Result<Secrets, AgentError> {
    let mut approle = AppRole::new(client, &args.login);
    let rendered = async {
        let client = approle.open(shutdown).await?;
        let secrets = shutdown.or_stop(Secrets::read(&client, &args.kv_mount, &args.secrets)).await??;
        outputs.render(&secrets)?;
        Ok(secrets)
    }
    .await;
    approle.close().await;
    rendered
}
