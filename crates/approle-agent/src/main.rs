//! `approle-agent`: logs a service in with its AppRole, renders its secrets, and becomes its command.

use std::process::ExitCode;

use approle_agent::Args;

fn main() -> ExitCode {
    let args: Args = agent_runtime::parse();
    agent_runtime::run("approle-agent", &args.log.clone(), async |shutdown| {
        approle_agent::run(args, shutdown).await
    })
}
