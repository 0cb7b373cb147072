//! `unsealer`: initialises Vault once, keeps its key shares safe, and keeps every node unsealed.
//!
//! In the order of its job: `key_store` proves that keys can be kept, `init` initialises and keeps them,
//! `unseal` unseals with any good three of them, `break_glass` makes the credential that later regains
//! root, `watch` does all of that again and again. `root` makes a root token when one is needed.

mod args;
mod break_glass;
mod error;
mod init;
mod key_store;
mod nodes;
mod root;
mod unseal;
mod watch;

pub use args::Args;
pub use error::UnsealerError;

use agent_runtime::{Exit, Shutdown, StatusFile};

use crate::args::{Command, HoldState, Store};
use crate::key_store::KeyStore;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, UnsealerError> {
    let client = args.vault.client()?;
    match &args.command {
        Command::Run { store, status, reseal_policy } => {
            let status = StatusFile::new(status, "unsealer");
            watch::watch(&client, &open(store)?, *reseal_policy, status, &shutdown).await
        }
        // Not to be stopped between the request and the stored answer, which nobody can ask for again.
        Command::Init { store } => init::command(&client, &open(store)?).await,
        Command::Unseal { store } => shutdown.or_stop(unseal::command(&client, &open(store)?)).await?,
        Command::GenerateRoot { store } => root::generate(&client, &open(store)?).await,
        Command::RevokeRoot { store } => root::revoke(&client, &open(store)?).await,
        Command::Hold { state, store } => hold(&open(store)?, *state),
        Command::Status { json } => shutdown.or_stop(nodes::command(&client, *json)).await?,
        Command::Healthcheck { health } => {
            agent_runtime::print(&format!("{}\n", health.check("unsealer")?))?;
            Ok(Exit::Done)
        }
    }
}

/// `unsealer hold`: a running unsealer finds it at its next look.
fn hold(store: &KeyStore, state: HoldState) -> Result<Exit, UnsealerError> {
    let changed = store.hold(state == HoldState::On)?;
    agent_runtime::print(match (state, changed) {
        (HoldState::On, true) => "held: what is sealed stays sealed until unsealer hold off\n",
        (HoldState::On, false) => "held already\n",
        (HoldState::Off, true) => "the hold is over: what is sealed is unsealed\n",
        (HoldState::Off, false) => "there was no hold\n",
    })?;
    Ok(Exit::Done)
}

fn open(store: &Store) -> Result<KeyStore, UnsealerError> {
    Ok(KeyStore::open(&store.keys_dir, &store.root_token_file)?)
}
