//! approle-agent above a command: what a container's entrypoint has to be.

mod away;
mod change;
mod command;
mod outputs;
mod process;
mod session;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use harness::run;
use serde_json::Value;

use crate::crew::Crew;

/// `approle-agent run` as the chat service, with these options, above a shell that runs this script.
fn running(crew: &Crew, options: &[&str], script: &str) -> Command {
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat"]).args(options).args(["--", "sh", "-c", script]);
    command
}

/// The same command as the first process of a PID namespace of its own.
fn as_first_process(command: &Command) -> Command {
    let mut outer = namespaces(&["--pid", "--fork", "--mount-proc", "--kill-child"]);
    inside(&mut outer, command);
    outer
}

/// `unshare` with these options, and with what somebody who is not root needs for them.
fn namespaces(options: &[&str]) -> Command {
    let mut outer = Command::new("unshare");
    if !is_root() {
        outer.args(["--user", "--map-root-user"]);
    }
    outer.args(options);
    outer
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("a process").uid() == 0
}

/// Runs `command` by way of `outer`, which takes it as its last arguments.
fn inside(outer: &mut Command, command: &Command) {
    outer.arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.current_dir(command.get_current_dir().expect("a directory"));
}

/// The one child of a process.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a process");
    children.trim().parse().unwrap_or_else(|_| panic!("one child of {pid}, not {children:?}"))
}

fn signal(name: &str, pid: u32) {
    run(Command::new("kill").args([format!("-{name}"), pid.to_string()])).success();
}

/// How many tokens there are.
fn tokens(crew: &Crew) -> usize {
    let list = crew.vault.api("LIST", "/v1/auth/token/accessors", &crew.root_token(), &Value::Null).1;
    list["data"]["keys"].as_array().expect("a list").len()
}

/// Writes another version of the chat service's secret.
fn change_key(crew: &Crew, value: &str) {
    let body = serde_json::json!({ "data": { "CHAT_KEY": value } });
    assert_eq!(crew.vault.api("POST", "/v1/secret/data/chat", &crew.root_token(), &body).0, 200);
}

/// The status file of the chat service's agent; `null` while there is none.
fn status(crew: &Crew) -> Value {
    fs::read_to_string(crew.path("run/chat.json"))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}
