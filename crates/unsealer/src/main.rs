//! `unsealer`: initialises Vault once, keeps its key shares safe, and keeps every node unsealed.

use std::process::ExitCode;

use unsealer::Args;

fn main() -> ExitCode {
    let args: Args = agent_runtime::parse();
    agent_runtime::run("unsealer", &args.log.clone(), async |shutdown| unsealer::run(args, shutdown).await)
}
