//! Secrets that change while the command runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use harness::{run, wait_until};
use serde_json::{Value, json};

use super::{change_key, running};
use crate::crew::{CHAT_KEY, Crew, SOON, spawn};

/// Three intervals and the time to settle.
const A_WHILE: Duration = Duration::from_secs(6);

fn lines(crew: &Crew, name: &str) -> Vec<String> {
    fs::read_to_string(crew.path(name)).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_change_in_several_steps_restarts_the_command_once() {
    let crew = Crew::applied();
    let script = "echo \"$CHAT_KEY\" >> starts; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let agent = spawn(running(&crew, &["--refresh", "1s"], script));
    assert!(wait_until(SOON, || lines(&crew, "starts") == [CHAT_KEY]), "{}", agent.log());
    for step in ["canary-1", "canary-2", "canary-3"] {
        change_key(&crew, step);
    }
    let expected = [CHAT_KEY.to_owned(), "canary-3".to_owned()];
    assert!(wait_until(SOON, || lines(&crew, "starts").len() >= 2), "{}", agent.log());
    assert!(!wait_until(A_WHILE, || lines(&crew, "starts") != expected), "{:?}", lines(&crew, "starts"));
    // The same content in a new version is no change.
    change_key(&crew, "canary-3");
    assert!(!wait_until(A_WHILE, || lines(&crew, "starts") != expected), "{:?}", lines(&crew, "starts"));
    let status: Value = serde_json::from_str(&crew.read("run/chat.json")).unwrap();
    assert_eq!((&status["restarts"], &status["ready"]), (&json!(1), &json!(true)), "{status}");
    agent.terminate().success();
}

#[test]
fn a_change_is_a_signal_once_the_files_are_new() {
    let crew = Crew::applied();
    let script =
        "trap 'cat out/CHAT_KEY >> hups; echo >> hups' HUP; echo > ready; while :; do sleep 0.05; done";
    let options = ["--refresh", "1s", "--on-change", "signal:HUP", "--files-dir", "out", "--no-env"];
    let agent = spawn(running(&crew, &options, script));
    assert!(wait_until(SOON, || crew.path("ready").exists()), "{}", agent.log());
    change_key(&crew, "canary-1");
    assert!(wait_until(SOON, || lines(&crew, "hups") == ["canary-1"]), "{}", agent.log());
    assert!(!wait_until(A_WHILE, || lines(&crew, "hups").len() != 1));
    agent.terminate().expect_code(143);
}

#[test]
fn a_sidecar_runs_a_command_on_change_until_that_succeeds() {
    let crew = Crew::applied();
    crew.write("reload", "#!/bin/sh\necho \"$#\" >> reloads\n[ -e works ]\n");
    fs::set_permissions(crew.path("reload"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    command.args(["--on-change", "exec:./reload now  please"]);
    let mut agent = spawn(command);
    agent.wait_for_log("rendered the secrets", SOON);
    change_key(&crew, "canary-1");
    agent.wait_for_log("--on-change failed with exit code 1", SOON);
    assert!(crew.read("out/chat.env").contains("canary-1"));
    crew.write("works", "");
    let tried = lines(&crew, "reloads").len();
    assert!(wait_until(SOON, || lines(&crew, "reloads").len() > tried), "{}", agent.log());
    let done = lines(&crew, "reloads");
    assert!(!wait_until(A_WHILE, || lines(&crew, "reloads").len() > done.len() + 1), "{}", agent.log());
    assert!(done.iter().all(|count| count == "2"), "{done:?}");
    agent.terminate().success();
}

#[test]
fn a_restart_that_fails_is_tried_again() {
    let crew = Crew::applied();
    let server = "#!/bin/sh\necho \"$CHAT_KEY\" >> starts\nwhile :; do sleep 0.05; done\n";
    let write = || {
        crew.write("server", server);
        fs::set_permissions(crew.path("server"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    write();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--refresh", "1s", "--", "./server"]);
    let mut agent = spawn(command);
    assert!(wait_until(SOON, || lines(&crew, "starts").len() == 1), "{}", agent.log());
    fs::remove_file(crew.path("server")).unwrap();
    change_key(&crew, "canary-1");
    agent.wait_for_log("the command ./server cannot be run", SOON);
    let mut health = crew.programs.approle_agent();
    health.args(["healthcheck", "--status-file", "run/chat.json"]).current_dir(crew.path(""));
    assert!(run(&mut health).expect_code(1).stderr.contains("the command does not run"));
    write();
    assert!(wait_until(SOON, || lines(&crew, "starts") == [CHAT_KEY, "canary-1"]), "{}", agent.log());
    assert!(wait_until(SOON, || run(&mut health).code() == 0), "{}", crew.read("run/chat.json"));
    agent.terminate().expect_code(143);
}

#[test]
fn a_secret_that_is_gone_or_denied_leaves_the_last_files_and_the_command() {
    let crew = Crew::applied();
    let options = ["--refresh", "1s", "--env-file", "out/chat.env"];
    let mut agent = spawn(running(&crew, &options, "echo >> starts; while :; do sleep 0.05; done"));
    assert!(wait_until(SOON, || crew.path("starts").exists()), "{}", agent.log());
    let good = crew.read("out/chat.env");
    let root = crew.root_token();
    let api = |method: &str, path: &str, body: &Value| crew.vault.api(method, path, &root, body).0;

    assert_eq!(api("DELETE", "/v1/secret/data/chat", &Value::Null), 204);
    agent.wait_for_log("the secrets stay as they are: there is no secret secret/chat", SOON);
    assert_eq!(api("POST", "/v1/secret/undelete/chat", &json!({ "versions": [1] })), 204);
    agent.wait_for_log("the secrets can be read again", SOON);

    assert_eq!(api("DELETE", "/v1/sys/policies/acl/chat-policy", &Value::Null), 204);
    agent.wait_for_log("the secrets stay as they are: the secret secret/chat cannot be read", SOON);
    assert_eq!(crew.read("out/chat.env"), good);
    assert_eq!(lines(&crew, "starts").len(), 1);
    assert_eq!(agent.log().matches(" WARN ").count(), 2, "{}", agent.log());
    agent.terminate().expect_code(143);
}
