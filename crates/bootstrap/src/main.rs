//! `bootstrap`: turns a .env file and HCL policies into Vault secrets, policies and AppRoles, and delivers
//! the credentials.

use std::process::ExitCode;

use bootstrap::Args;

fn main() -> ExitCode {
    let args: Args = agent_runtime::parse();
    agent_runtime::run("bootstrap", &args.log.clone(), async |shutdown| bootstrap::run(args, shutdown).await)
}
