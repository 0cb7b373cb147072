//! `unsealer`: initialises Vault once, keeps its key shares safe, and keeps every node unsealed.
//!
//! In the order of its job: `key_store` proves that keys can be kept, `init` initialises and keeps them,
//! `unseal` unseals with any good three of them, `break_glass` makes the credential that later regains
//! root, `watch` does all of that again and again.

mod args;
mod break_glass;
mod error;
mod init;
mod key_store;
mod nodes;
mod unseal;
mod watch;

pub use args::Args;
pub use error::UnsealerError;

use agent_runtime::{Exit, Shutdown, StatusFile};

use crate::args::{Command, Store};
use crate::key_store::KeyStore;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, UnsealerError> {
    if let Command::Healthcheck { health } = &args.command {
        agent_runtime::print(&format!("{}\n", health.check("unsealer")?))?;
        return Ok(Exit::Done);
    }
    let client = args.vault.client()?;
    let work = async {
        match &args.command {
            Command::Run { store, status } => {
                watch::watch(&client, &open(store)?, StatusFile::new(status, "unsealer")).await
            }
            Command::Init { store } => init::command(&client, &open(store)?).await,
            Command::Unseal { store } => unseal::command(&client, &open(store)?).await,
            Command::Status { json } => nodes::command(&client, *json).await,
            Command::Healthcheck { .. } => Ok(Exit::Done),
        }
    };
    // Every file effect is synchronous and complete, so a stop can come between any two steps.
    shutdown.or_stop(work).await.unwrap_or_else(|stopped| {
        tracing::info!("{stopped}");
        Ok(Exit::Done)
    })
}

fn open(store: &Store) -> Result<KeyStore, UnsealerError> {
    Ok(KeyStore::open(&store.keys_dir, &store.root_token_file)?)
}
