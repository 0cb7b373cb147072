//! `bootstrap`: turns a .env file and HCL policies into Vault secrets, policies and AppRoles, delivers the
//! credentials, and keeps them fresh.
//!
//! In the order of its job: `manifest` and `desired` say what there is to be, `observed` asks Vault what
//! there is (`listed`: all at once), `plan` computes the difference (`merge` that of one secret), `apply` has it carried
//! out (`carry_out`, and `prune` for what the files dropped; `ledger` remembers what was written, `mark` tells in Vault
//! whose it is), `deliver` hands the services their credentials, and `keep` goes on doing so, by a credential of
//! bootstrap's own (`own`). `check` finds what is wrong with the files without asking anybody.
//!
//! `policy` tells what a policy's text grants: `verify` proves that on the server, `access` draws it.

mod access;
mod applied;
mod apply;
mod args;
mod audit;
mod carry_out;
mod check;
mod concurrent;
mod deliver;
mod desired;
mod error;
mod keep;
mod ledger;
mod limits;
mod listed;
mod lock;
pub mod manifest;
mod mark;
mod merge;
mod observed;
mod own;
mod plan;
pub mod policy;
mod prune;
mod random;
mod verify;

pub use args::Args;
pub use error::BootstrapError;

use agent_runtime::{Exit, Shutdown, StatusFile};

use crate::args::Command;
use crate::desired::Desired;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, BootstrapError> {
    match &args.command {
        Command::Check(check) => check::command(check),
        Command::Plan { sources, stack, prune } => {
            let desired = Desired::load(sources)?;
            shutdown.or_stop(Box::pin(apply::plan(args.vault.client()?, &desired, stack, *prune))).await?
        }
        Command::Apply { sources, stack, prune } => {
            let desired = Desired::load(sources)?;
            // The next apply finishes what one that is stopped began.
            shutdown.or_stop(Box::pin(apply::command(args.vault.client()?, &desired, stack, *prune))).await?
        }
        Command::Run { sources, stack, status } => {
            let status = StatusFile::new(status, "bootstrap");
            Box::pin(keep::run(args.vault.client()?, sources, stack, status, &shutdown)).await
        }
        Command::Verify { verification } => {
            verify::command(&args.vault.client()?, verification, &shutdown).await
        }
        Command::Access { sources, kv_mount, format } => access::command(sources, kv_mount, *format),
        Command::Healthcheck { health } => {
            agent_runtime::print(&format!("{}\n", health.check("bootstrap")?))?;
            Ok(Exit::Done)
        }
    }
}
