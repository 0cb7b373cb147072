//! Tokens: kept, taken up again, and lost.

use std::time::Duration;

use harness::{run, wait_until};
use serde_json::{Value, json};

use super::{change_key, tokens};
use crate::crew::{CHAT_KEY, Crew, SOON, spawn};

fn sidecar(crew: &Crew, options: &[&str]) -> harness::Daemon {
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env"]).args(options);
    let mut agent = spawn(command);
    agent.wait_for_log("rendered the secrets", SOON);
    agent
}

fn is_good(crew: &Crew, token: &str) -> bool {
    crew.vault.api("GET", "/v1/auth/token/lookup-self", token, &Value::Null).0 == 200
}

#[test]
fn the_token_of_a_sink_outlives_the_agent_and_is_taken_up_again() {
    let crew = Crew::applied();
    let options = ["--token-sink", "run/token"];
    let agent = sidecar(&crew, &options);
    let token = crew.read("run/token");
    assert!(is_good(&crew, &token));
    agent.terminate().success();
    assert!(is_good(&crew, &token), "it was revoked at the end");

    let before = tokens(&crew);
    let mut agent = sidecar(&crew, &options);
    assert!(agent.log().contains("took the token of the sink up again"), "{}", agent.log());
    assert!(!agent.log().contains("logged in by AppRole"), "{}", agent.log());
    assert_eq!(tokens(&crew), before);

    // New credentials are noticed at once: a new token, in the sink too, and the old one revoked.
    std::fs::remove_file(crew.path("approle/chat/secret_id")).unwrap();
    crew.apply().success();
    agent.wait_for_log("logged in by AppRole", SOON);
    assert!(wait_until(SOON, || !is_good(&crew, &token)), "{}", agent.log());
    assert!(is_good(&crew, &crew.read("run/token")));
    agent.terminate().success();

    crew.write("run/token", "s.nothing-that-vault-knows");
    let agent = sidecar(&crew, &options);
    assert!(agent.log().contains("the token of the sink was revoked or has expired"), "{}", agent.log());
    assert!(is_good(&crew, &crew.read("run/token")));
    agent.terminate().success();
}

#[test]
fn a_token_that_was_revoked_is_replaced_when_it_is_used_next() {
    let crew = Crew::applied();
    let mut agent = sidecar(&crew, &["--refresh", "1s", "--token-sink", "run/token"]);
    let token = crew.read("run/token");
    assert_eq!(crew.vault.api("POST", "/v1/auth/token/revoke-self", &token, &Value::Null).0, 204);
    assert!(wait_until(SOON, || crew.read("run/token") != token), "{}", agent.log());
    assert!(is_good(&crew, &crew.read("run/token")));
    assert!(agent.is_running());
    agent.terminate().success();
}

#[test]
fn a_deleted_role_is_not_hammered_and_a_new_one_is_taken_up() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", "[defaults]\ntoken_ttl = \"8s\"\ntoken_max_ttl = \"60s\"\n");
    crew.initialise();
    crew.apply().success();
    let mut agent = sidecar(&crew, &[]);
    let root = crew.root_token();
    assert_eq!(crew.vault.api("DELETE", "/v1/auth/approle/role/chat", &root, &Value::Null).0, 204);
    agent.wait_for_log("the token is not renewed", SOON);
    agent.wait_for_log("the AppRole login failed", SOON);
    assert!(!wait_until(Duration::from_secs(8), || !agent.is_running()), "{}", agent.log());
    let log = agent.log();
    assert!(log.matches("the AppRole login failed").count() == 1, "{log}");
    assert!(crew.read("out/chat.env").contains(CHAT_KEY));
    // Made anew, with new credentials.
    std::fs::remove_dir_all(crew.path("approle/chat")).unwrap();
    crew.apply().success();
    let healthy = || {
        let mut health = crew.programs.approle_agent();
        health.args(["healthcheck", "--status-file", "run/chat.json"]).current_dir(crew.path(""));
        run(&mut health).code() == 0
    };
    assert!(wait_until(SOON, healthy), "{}", agent.log());
    agent.terminate().success();
}

#[test]
fn batch_tokens_and_those_that_are_not_renewed_are_replaced_by_logins() {
    let crew = Crew::applied();
    let root = crew.root_token();
    let batch = json!({ "token_type": "batch", "token_ttl": "4s", "token_max_ttl": "8s" });
    assert_eq!(crew.vault.api("POST", "/v1/auth/approle/role/chat", &root, &batch).0, 204);
    let agent = sidecar(&crew, &["--refresh", "1s"]);
    assert!(wait_until(SOON, || agent.log().matches("logged in by AppRole").count() >= 3), "{}", agent.log());
    let log = agent.terminate().success().stderr;
    assert!(!log.contains(" WARN "), "{log}");
}

#[test]
fn each_change_of_state_is_one_line_of_json_and_nothing_else_is() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", "[defaults]\ntoken_ttl = \"3s\"\ntoken_max_ttl = \"1h\"\n");
    crew.initialise();
    crew.apply().success();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    let mut agent = harness::spawn(command.args(["--log-format", "json"]));
    agent.wait_for_log("rendered the secrets", SOON);
    // Several reads and renewals.
    let renewals = || {
        let status: Value = serde_json::from_str(&crew.read("run/chat.json")).unwrap_or_default();
        status["renewals"].as_u64().unwrap_or_default()
    };
    assert!(wait_until(SOON, || renewals() >= 3), "{}", agent.log());
    change_key(&crew, "canary-1");
    assert!(wait_until(SOON, || agent.log().contains("the secrets have changed")), "{}", agent.log());
    let log = agent.terminate().success().stderr;
    let messages: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    let expected =
        ["logged in by AppRole", "rendered the secrets", "rendered the secrets", "the secrets have changed"];
    assert_eq!(messages, expected);
}

#[test]
fn the_status_says_how_all_is() {
    let crew = Crew::applied();
    let agent = sidecar(&crew, &[]);
    let status = || serde_json::from_str::<Value>(&crew.read("run/chat.json")).unwrap_or_default();
    assert!(wait_until(SOON, || status()["ready"] == json!(true)), "{}", agent.log());
    let status = status();
    let moment = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("{name} in {status}"));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now + 3500..now + 3700).contains(&moment("token_expires")), "{status}");
    assert!((now - 100..=now).contains(&moment("secret_id_seen")), "{status}");
    assert!((now - 100..=now).contains(&status["outputs"]["out/chat.env"].as_u64().unwrap()), "{status}");
    assert_eq!(
        (&status["logins"], &status["renewals"], &status["failures"]),
        (&json!(1), &json!(0), &json!(0))
    );
    agent.terminate().success();
}
