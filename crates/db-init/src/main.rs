//! `db-init`: creates a service's PostgreSQL database, role and grants from the secrets in Vault.

use std::process::ExitCode;

use db_init::Args;

fn main() -> ExitCode {
    let args: Args = agent_runtime::parse();
    agent_runtime::run("db-init", &args.log.clone(), async |shutdown| db_init::run(args, shutdown).await)
}
