//! `db-init`: creates a service's PostgreSQL database, role and grants from the secrets in Vault.
//!
//! In the order of its job: `target` reads from Vault what there is to be, `server` waits for PostgreSQL
//! (`login` is one attempt), `observed` looks at what there is (`verifier` at the password), `grants` computes
//! the difference as SQL, `prove` logs in as the new user and uses the database. A second run finds no
//! difference and changes nothing.
//!
//! The one exception: an administrator who may not read `pg_authid` can tell whether a password is right by a
//! login alone, and sets it anew at each run where the server asks the user for none (`trust`, `peer`).

mod args;
mod error;
mod grants;
mod login;
mod observed;
mod prove;
mod server;
mod target;
mod verifier;

pub use args::Args;
pub use error::DbInitError;

use agent_runtime::{Exit, Shutdown};
use approle_session::AppRole;
use boot_clock::BootTime;

use crate::args::Command;
use crate::observed::Observed;
use crate::server::Server;
use crate::target::Target;

/// Runs the command that was asked for.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, DbInitError> {
    let target = read_target(&args, &shutdown).await?;
    let server = Server::new(&args.database, &target)?;
    let give_up = BootTime::now() + args.login.wait;
    let work = async {
        match args.command {
            None => apply(&server, &target, &args, give_up).await,
            Some(Command::Plan) => plan(&server, &target, &args, give_up).await,
            Some(Command::Wait) => {
                server.wait(give_up).await?;
                agent_runtime::print(&format!("{} is ready\n", server.place()))?;
                Ok(Exit::Done)
            }
        }
    };
    // The next run finishes what one that is stopped began.
    shutdown.or_stop(work).await?
}

/// Logs in, reads the service's secret, and revokes the token.
async fn read_target(args: &Args, shutdown: &Shutdown) -> Result<Target, DbInitError> {
    let mut approle = AppRole::new(args.vault.client()?, &args.login);
    let target = async {
        let client = approle.open(shutdown).await?;
        shutdown.or_stop(Target::read(&client, &args.kv_mount, &args.service)).await?
    }
    .await;
    approle.close().await;
    target
}

async fn apply(
    server: &Server,
    target: &Target,
    args: &Args,
    give_up: BootTime,
) -> Result<Exit, DbInitError> {
    let admin = server.wait(give_up).await?;
    // Two runs at once take turns, and the second finds everything done.
    admin.lock().await?;
    let observed = Observed::look(&admin, server, target).await?;
    let statements = grants::statements(target, &observed, args.adopt)?;
    for statement in &statements {
        admin.execute(statement).await?;
        tracing::info!("{}", statement.done);
    }
    let proof = prove::prove(server, target).await?;
    let change = if statements.is_empty() { "nothing to change" } else { "done" };
    agent_runtime::print(&format!(
        "{change}: role {} owns database {} on {}, {proof}\n",
        target.user,
        target.database,
        server.place()
    ))?;
    Ok(Exit::Done)
}

async fn plan(server: &Server, target: &Target, args: &Args, give_up: BootTime) -> Result<Exit, DbInitError> {
    let admin = server.wait(give_up).await?;
    let observed = Observed::look(&admin, server, target).await?;
    let statements = grants::statements(target, &observed, args.adopt)?;
    let mut lines: Vec<_> = statements.iter().map(|statement| format!("{};", statement.shown)).collect();
    if lines.is_empty() {
        lines.push("-- nothing to change".to_owned());
    }
    agent_runtime::print(&(lines.join("\n") + "\n"))?;
    Ok(Exit::Done)
}
