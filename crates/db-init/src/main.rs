//! `db-init`: creates services' PostgreSQL databases, roles and grants from the secrets in Vault.

use std::process::ExitCode;

use db_init::Args;

fn main() -> ExitCode {
    let args = Args::parse_or_exit();
    agent_runtime::run("db-init", &args.log.clone(), async |shutdown| db_init::run(args, shutdown).await)
}
