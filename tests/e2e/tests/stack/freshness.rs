//! Credentials that stay fresh: lives are scaled down to seconds, and everything must go on.

use std::time::Duration;

use harness::{Signal, run, wait_until};
use serde_json::{Value, json};

use crate::crew::{CHAT_KEY, Crew, SOON, spawn};

const SHORT_LIVES: &str =
    "[defaults]\ntoken_ttl = \"10s\"\ntoken_max_ttl = \"20s\"\nsecret_id_ttl = \"16s\"\n";

/// Three lives of a secret ID and two of a token: as six hours are to the usual ones.
#[test]
fn nothing_stops_while_bootstrap_runs() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", SHORT_LIVES);
    crew.initialise();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    bootstrap.wait_for_log("logged in by AppRole", SOON);
    let mut agent = crew.agent("run", "chat");
    agent.args(["--secret", "chat", "--env-file", "out/chat.env"]);
    let mut agent = spawn(agent);
    agent.wait_for_log("rendered the secrets", SOON);

    let root = crew.root_token();
    let mut most = 0;
    assert!(!wait_until(Duration::from_secs(48), || {
        most = most.max(crew.living_secret_ids("chat", &root));
        false
    }));
    assert!((1..=2).contains(&most), "{most} secret IDs at a time");
    run(crew.agent("exec", "user").args(["--secret", "user", "--", "true"])).success();

    let mut health = crew.programs.approle_agent();
    health.args(["healthcheck", "--status-file", "run/chat.json"]).current_dir(crew.path(""));
    run(&mut health).success();
    assert!(crew.read("out/chat.env").contains(CHAT_KEY));
    let log = agent.terminate().stderr;
    assert!(log.matches("logged in by AppRole").count() >= 4, "{log}");
    assert!(log.contains("renewed the token"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let log = bootstrap.terminate().stderr;
    assert!(log.matches("approle/chat: half of the secret ID's life was over").count() >= 3, "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_changed_secret_is_rendered_after_the_next_login() {
    let crew = Crew::applied();
    let mut agent = crew.agent("run", "chat");
    agent.args(["--secret", "chat", "--files-dir", "out/chat"]);
    let mut agent = spawn(agent);
    agent.wait_for_log("rendered the secrets", SOON);
    let root = crew.root_token();
    let changed = json!({ "data": { "CHAT_KEY": "canary-changed" } });
    assert_eq!(crew.vault.api("POST", "/v1/secret/data/chat", &root, &changed).0, 200);
    // New credentials lead to a new login, and that to a new read.
    std::fs::remove_file(crew.path("approle/chat/secret_id")).unwrap();
    crew.apply().success();
    assert!(wait_until(SOON, || crew.read("out/chat/CHAT_KEY") == "canary-changed"), "{}", agent.log());
    assert_eq!(agent.terminate().code(), 0);
}

#[test]
fn bootstrap_keeps_credentials_fresh_without_the_root_token() {
    let mut crew = Crew::applied();
    let root = crew.root_token();
    assert_eq!(crew.vault.api("POST", "/v1/auth/token/revoke-self", &root, &Value::Null).0, 204);
    std::fs::remove_file(crew.path("root/root-token")).unwrap();

    let mut bootstrap = spawn(crew.bootstrap("run"));
    bootstrap.wait_for_log("logged in by AppRole", SOON);
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());

    // What is lost while it is down is delivered when it starts.
    bootstrap.terminate();
    std::fs::remove_dir_all(crew.path("approle/chat")).unwrap();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    bootstrap.wait_for_log("delivered credentials to", SOON);
    run(crew.agent("exec", "chat").args(["--secret", "chat", "--", "true"])).success();

    // A Vault that was away and sealed for a while is met again.
    crew.vault.restart();
    run(&mut crew.unsealer("unseal")).success();
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn the_own_credential_can_do_its_job_and_nothing_else() {
    let crew = Crew::applied();
    let login = json!({ "role_id": crew.read("state/role_id"), "secret_id": crew.read("state/secret_id") });
    let (status, answer) = crew.vault.api("POST", "/v1/auth/vaultcrew/login", "", &login);
    assert_eq!(status, 200);
    let token = answer["auth"]["client_token"].as_str().unwrap();
    let ask = |method: &str, path: &str, body: &Value| crew.vault.api(method, path, token, body).0;
    assert_eq!(ask("GET", "/v1/auth/approle/role/chat/role-id", &Value::Null), 200);
    assert_eq!(ask("POST", "/v1/auth/approle/role/chat/secret-id", &json!({})), 200);
    for (method, path, body) in [
        ("GET", "/v1/secret/data/chat", Value::Null),
        ("GET", "/v1/auth/approle/role/chat", Value::Null),
        ("POST", "/v1/auth/approle/role/chat", json!({ "token_policies": "root" })),
        ("POST", "/v1/auth/approle/role/other/secret-id", json!({})),
        ("POST", "/v1/auth/approle/role/chat/secret-id", json!({ "ttl": "720h" })),
        ("POST", "/v1/sys/policies/acl/chat-policy", json!({ "policy": "" })),
        ("GET", "/v1/sys/mounts", Value::Null),
        ("POST", "/v1/auth/token/create", json!({})),
    ] {
        assert_eq!(ask(method, path, &body), 403, "{method} {path}");
    }
}

#[test]
fn the_break_glass_credential_regains_root_with_three_shares_and_nothing_else() {
    let crew = Crew::new();
    let mut unsealer = spawn(crew.unsealer("run"));
    unsealer.wait_for_log("the break-glass credential is in", SOON);
    let login = json!({
        "role_id": crew.read("keys/break-glass/role_id"),
        "secret_id": crew.read("keys/break-glass/secret_id"),
    });
    let (status, answer) = crew.vault.api("POST", "/v1/auth/vaultcrew-break-glass/login", "", &login);
    assert_eq!(status, 200);
    let token = answer["auth"]["client_token"].as_str().unwrap();
    let (status, started) = crew.vault.api("POST", "/v1/sys/generate-root-token/attempt", token, &json!({}));
    assert_eq!(status, 200, "{started}");
    assert_eq!(crew.vault.api("GET", "/v1/sys/mounts", token, &Value::Null).0, 403);
    assert_eq!(crew.vault.api("GET", "/v1/sys/policies/acl/root", token, &Value::Null).0, 403);
    assert_eq!(unsealer.terminate().code(), 0);
}

#[test]
fn a_policy_that_was_taken_away_is_not_hammered() {
    let crew = Crew::applied();
    let mut agent = crew.agent("run", "chat");
    agent.args(["--secret", "chat", "--env-file", "out/chat.env"]);
    let mut agent = spawn(agent);
    agent.wait_for_log("rendered the secrets", SOON);
    let root = crew.root_token();
    assert_eq!(crew.vault.api("DELETE", "/v1/sys/policies/acl/chat-policy", &root, &Value::Null).0, 204);
    // New credentials lead to a new login, and that to a read, which is denied.
    std::fs::remove_file(crew.path("approle/chat/secret_id")).unwrap();
    crew.apply().success();
    assert_eq!(crew.vault.api("DELETE", "/v1/sys/policies/acl/chat-policy", &root, &Value::Null).0, 204);
    agent.wait_for_log("the secrets stay as they are", SOON);
    assert!(!wait_until(Duration::from_secs(3), || false));
    let logins = agent.log().matches("logged in by AppRole").count();
    assert!(logins <= 4, "{logins} logins:\n{}", agent.log());
    assert!(crew.read("out/chat.env").contains(CHAT_KEY), "the last good file is gone");

    // Given back, it is read again.
    crew.apply().success();
    agent.wait_for_log("the secrets can be read again", Duration::from_secs(40));
    assert_eq!(agent.terminate().code(), 0);
}

#[test]
fn a_service_that_cannot_be_served_does_not_hold_up_the_others() {
    let crew = Crew::applied();
    let root = crew.root_token();
    std::fs::remove_file(crew.path("root/root-token")).unwrap();
    assert_eq!(crew.vault.api("DELETE", "/v1/auth/approle/role/user", &root, &Value::Null).0, 204);
    std::fs::remove_dir_all(crew.path("approle/chat")).unwrap();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    bootstrap.wait_for_log("reading the role_id of user", SOON);
    assert!(wait_until(SOON, || crew.path("approle/chat/secret_id").exists()), "{}", bootstrap.log());
    // The look is told in the log as it ends, and in the status file after that.
    let told = "the credentials of user could not be looked after";
    assert!(wait_until(SOON, || crew.health().stderr.contains(told)), "{}", crew.health().stderr);
    crew.health().expect_code(1);
    assert!(!wait_until(Duration::from_secs(3), || false));
    assert_eq!(bootstrap.log().matches("logged in by AppRole").count(), 1, "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn the_health_check_looks_at_what_was_delivered() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", SHORT_LIVES);
    crew.initialise();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    let well = crew.health().success();
    assert_eq!(well.stdout, "every service's credentials are fresh (3 services)\n");

    // Nobody is left to mend it.
    bootstrap.signal(Signal::SIGSTOP);
    let set = std::fs::read_link(crew.path("approle/chat/..data")).unwrap();
    std::fs::remove_file(crew.path("approle/chat/secret_id")).unwrap();
    let sick = crew.health().expect_code(1);
    assert!(
        sick.stderr.contains("chat: ") && sick.stderr.contains("does not hold what was delivered"),
        "{}",
        sick.stderr
    );
    std::os::unix::fs::symlink(std::path::Path::new("..data/secret_id"), crew.path("approle/chat/secret_id"))
        .unwrap();
    crew.health().success();
    let accessor = crew.path("approle/chat").join(set).join("accessor");
    let other = crew.path("approle/chat/other");
    std::fs::write(&other, "another").unwrap();
    std::fs::rename(&other, &accessor).unwrap();
    let sick = crew.health().expect_code(1);
    assert!(sick.stderr.contains("is not what was delivered last"), "{}", sick.stderr);
    // It hangs: the secret IDs pass their lives before the status file is stale.
    let is_past = || crew.health().stderr.contains("user: the secret ID in ");
    assert!(wait_until(SOON, is_past), "{}", crew.health().stderr);

    bootstrap.signal(Signal::SIGCONT);
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}
