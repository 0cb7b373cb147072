//! How every Vaultcrew program starts, takes its connection flags, logs, shows progress, hardens itself, keeps its status
//! file, stops and exits.
//!
//! A program's `main` is [`parse`], then [`run`]; what it does in between is an async function that is
//! given a [`Shutdown`] and ends in an [`Exit`] or in an error that knows its exit code ([`Failure`]).

mod args;
mod connection;
mod exit;
mod harden;
mod log;
mod output;
mod progress;
mod shutdown;
mod status;

pub use args::{duration, parse};
pub use connection::{ConnectionArgs, ConnectionError};
pub use exit::{Exit, Failure, with_causes};
pub use harden::with_core_dumps;
pub use log::LogArgs;
pub use output::print;
pub use progress::Progress;
pub use shutdown::{Order, Shutdown, Stopped};
pub use status::{HealthArgs, HealthError, StatusArgs, StatusFile};

use std::process::ExitCode;

/// Runs `work` on a runtime of one thread until it ends, and turns its result into the exit code.
///
/// Logging and hardening come first; SIGTERM and SIGINT reach `work` by its [`Shutdown`]. An error is
/// logged once, with its causes.
pub fn run<E: Failure>(
    program: &'static str,
    log: &LogArgs,
    work: impl AsyncFnOnce(Shutdown) -> Result<Exit, E>,
) -> ExitCode {
    log::start(log);
    harden::harden();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("{program} cannot start its runtime: {error}");
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(async {
        match work(Shutdown::on_signals()).await {
            Ok(exit) => exit,
            Err(error) => {
                tracing::error!("{}", exit::with_causes(&error));
                error.exit()
            }
        }
    });
    // A name look-up may still be under way on a thread of its own: nobody waits for it.
    runtime.shutdown_background();
    exit.into()
}
