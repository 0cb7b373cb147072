//! `unsealer`: initialises Vault once, keeps its key shares safe, and keeps every node unsealed.
//!
//! In the order of its job: `key_store` proves that keys can be kept, `init` initialises and keeps them,
//! `unseal` unseals with any good three of them (`shamir` tells which those are), `break_glass` makes the
//! credential that later regains root, `watch` does all of that again and again, and `status` shows it. For other
//! days: `root` makes a root token when one is needed, `rekey` makes new shares, `check_keys` tells good ones from
//! damaged ones, `adopt` takes in others.

mod adopt;
mod args;
mod break_glass;
mod check_keys;
mod error;
mod init;
mod key_store;
mod lock;
mod output;
mod rekey;
mod root;
mod shamir;
mod status;
mod unseal;
mod watch;

pub use args::Args;
pub use error::UnsealerError;

use std::sync::Arc;

use agent_runtime::{Exit, Shutdown, StatusFile};
use serde_json::json;
use vault_client::VaultClient;

use crate::args::{Command, HoldState};
use crate::key_store::KeyStore;
use crate::output::answer;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, UnsealerError> {
    let json = args.json;
    match &args.command {
        Command::Run { store, status, reseal_policy } => {
            let status = StatusFile::new(status, "unsealer");
            let store = Arc::new(store.open()?);
            watch::watch(client(&args)?, client(&args)?, store, *reseal_policy, status, &shutdown).await
        }
        // Not to be stopped between a request and its stored answer, which nobody can ask for again.
        Command::Init { store } => init::command(&client(&args)?, &store.open()?, json).await,
        Command::GenerateRoot { store } => root::generate(&client(&args)?, &store.open()?, json).await,
        Command::RevokeRoot { store } => root::revoke(&client(&args)?, &store.open()?, json).await,
        Command::Rekey { store } => rekey::command(&client(&args)?, &store.open()?, json).await,
        Command::AdoptKeys { from, store } => {
            adopt::command(&client(&args)?, &store.open()?, from, json).await
        }
        Command::Unseal { store } => {
            shutdown.or_stop(unseal::command(&client(&args)?, &store.open()?, json)).await?
        }
        Command::CheckKeys { threshold, prove, store } => {
            check_keys::command(&client(&args)?, &store.open()?, *threshold, *prove, json).await
        }
        Command::Hold { state, store } => hold(&store.open()?, *state, json),
        Command::Status { store, status } => {
            let local = status::Local::of_existing(store);
            shutdown.or_stop(status::show(&client(&args)?, local, Some(status), json)).await?
        }
        Command::Healthcheck { health } => {
            let state = health.check("unsealer")?;
            answer(json, &json!({ "healthy": true, "state": state }), &format!("{state}\n"), Exit::Done)
        }
    }
}

fn client(args: &Args) -> Result<VaultClient, UnsealerError> {
    Ok(args.vault.client_without_namespace(
        "initialising, unsealing and root belong to the whole server; leave it out for unsealer",
    )?)
}

/// `unsealer hold`: a running unsealer finds it at its next look.
fn hold(store: &KeyStore, state: HoldState, json: bool) -> Result<Exit, UnsealerError> {
    let on = state == HoldState::On;
    let changed = store.hold(on)?;
    let text = match (on, changed) {
        (true, true) => "held: what is sealed stays sealed until unsealer hold off\n",
        (true, false) => "held already\n",
        (false, true) => "the hold is over: what is sealed is unsealed\n",
        (false, false) => "there was no hold\n",
    };
    answer(json, &json!({ "held": on, "changed": changed }), text, Exit::Done)
}
