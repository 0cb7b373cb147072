//! `bootstrap run` follows its files while there is root, and goes on without them.

use std::fs;
use std::time::Duration;

use harness::{Signal, run, wait_until};

use serde_json::Value;

use crate::crew::{CHAT_KEY, Crew, SOON, own_secret_policy, spawn};

/// With these lives the files are looked at every two seconds.
const SHORT_LIVES: &str = "[defaults]\nsecret_id_ttl = \"16s\"\n";

/// Time for several looks.
const A_WHILE: Duration = Duration::from_secs(7);

fn env(chat_key: &str) -> String {
    format!("USER_DB_USER=user_svc\nCHAT_KEY={chat_key}\n")
}

#[test]
fn changed_files_are_applied_and_a_new_service_is_served() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", SHORT_LIVES);
    crew.initialise();
    let root = crew.root_token();
    let bootstrap = spawn(crew.bootstrap("run"));
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    crew.write_env(&env("canary-second"));
    let is_applied = || crew.secret("chat", &root)["CHAT_KEY"] == "canary-second";
    assert!(wait_until(SOON, is_applied), "{}", bootstrap.log());

    crew.write_policy("mailer", &own_secret_policy("mailer"));
    crew.write_env(&(env("canary-second") + "MAILER_KEY=canary-mailer\n"));
    assert!(wait_until(SOON, || crew.login("mailer") == 200), "{}", bootstrap.log());
    run(crew.agent("exec", "mailer").args(["--secret", "mailer", "--", "true"])).success();
    assert!(wait_until(SOON, || crew.health().stdout.contains("(4 services)")), "{}", bootstrap.log());

    // What somebody removed from Vault is made again.
    assert_eq!(crew.vault.api("DELETE", "/v1/auth/approle/role/chat", &root, &Value::Null).0, 204);
    assert_eq!(crew.login("chat"), 400);
    assert!(wait_until(SOON, || crew.login("chat") == 200), "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn sighup_applies_at_once_and_broken_files_stop_nothing() {
    // Looks are a minute apart: whatever happens here happens by the signal.
    let crew = Crew::applied();
    let root = crew.root_token();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    crew.write_env("CHAT_KEY=canary$broken\n");
    fs::remove_dir_all(crew.path("approle/chat")).unwrap();
    bootstrap.signal(Signal::SIGHUP);
    bootstrap.wait_for_log("the files are not applied, and what was applied last is kept fresh", SOON);
    assert!(wait_until(SOON, || crew.login("chat") == 200), "{}", bootstrap.log());
    let told = "; the files have changed and are not applied";
    assert!(wait_until(SOON, || crew.health().stdout.contains(told)), "{}", crew.health().stdout);
    crew.health().success();
    assert_eq!(crew.secret("chat", &root)["CHAT_KEY"], CHAT_KEY);

    crew.write_env(&env("canary-mended"));
    bootstrap.signal(Signal::SIGHUP);
    let is_applied = || crew.secret("chat", &root)["CHAT_KEY"] == "canary-mended";
    assert!(wait_until(SOON, is_applied), "{}", bootstrap.log());
    assert!(wait_until(SOON, || !crew.health().stdout.contains("the files")));
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn broken_files_are_told_once_and_tried_again_when_they_are_others() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", SHORT_LIVES);
    crew.initialise();
    let root = crew.root_token();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    let told = "the files are not applied";
    fs::remove_file(crew.path(".env")).unwrap();
    bootstrap.wait_for_log(told, SOON);
    assert!(!wait_until(A_WHILE, || bootstrap.log().matches(told).count() > 1), "{}", bootstrap.log());
    assert_eq!(crew.secret("chat", &root)["CHAT_KEY"], CHAT_KEY);
    crew.write("vaultcrew.toml", "[defaultz]\n");
    assert!(wait_until(SOON, || bootstrap.log().matches(told).count() == 2), "{}", bootstrap.log());

    // As it was applied, there is nothing to do.
    crew.write("vaultcrew.toml", SHORT_LIVES);
    crew.write_env(&env("canary-back"));
    let is_applied = || crew.secret("chat", &root)["CHAT_KEY"] == "canary-back";
    assert!(wait_until(SOON, is_applied), "{}", bootstrap.log());
    assert_eq!(crew.login("chat"), 200);
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn without_root_a_change_is_told_once_with_the_way_to_apply_it() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", SHORT_LIVES);
    crew.initialise();
    crew.apply().success();
    let root = crew.root_token();
    fs::remove_file(crew.path("root/root-token")).unwrap();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    bootstrap.wait_for_log("there is no root token: policies and secrets stay as they are in Vault", SOON);

    let told = "not applied since there is no root token: .env. The credentials are kept fresh all the same. To apply \
                it: unsealer generate-root";
    crew.write_env(&env("canary-second"));
    bootstrap.wait_for_log(told, SOON);
    assert!(
        !wait_until(A_WHILE, || bootstrap.log().matches("not applied since").count() > 1),
        "{}",
        bootstrap.log()
    );
    crew.write_policy("mailer", &own_secret_policy("mailer"));
    bootstrap.wait_for_log("not applied since there is no root token: .env, mailer-policy.hcl (new).", SOON);
    assert_eq!(crew.secret("chat", &root)["CHAT_KEY"], CHAT_KEY);

    // What root may do once it is there again.
    crew.write("root/root-token", &root);
    assert!(wait_until(SOON, || crew.login("mailer") == 200), "{}", bootstrap.log());
    assert_eq!(crew.secret("chat", &root)["CHAT_KEY"], "canary-second");
    // And with one that is no longer good.
    crew.write("root/root-token", "s.nobody-knows-this-token");
    crew.write_env(&env("canary-third"));
    bootstrap.wait_for_log("not applied since the root token is not taken any more: .env", SOON);
    crew.write("root/root-token", &root);
    let is_applied = || crew.secret("chat", &root)["CHAT_KEY"] == "canary-third";
    assert!(wait_until(SOON, is_applied), "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn a_run_that_finds_its_files_gone_goes_on_and_tells_of_them() {
    let crew = Crew::applied();
    let root = crew.root_token();
    for gone in [".env", "vaultcrew.toml", "root/root-token"] {
        fs::remove_file(crew.path(gone)).unwrap();
    }
    fs::remove_dir_all(crew.path("policies")).unwrap();
    fs::remove_dir_all(crew.path("approle")).unwrap();
    let mut bootstrap = spawn(crew.bootstrap("run"));
    bootstrap.wait_for_log("the .env file cannot be read", SOON);
    for service in ["chat", "user", "user_db"] {
        assert!(wait_until(SOON, || crew.login(service) == 200), "{service}: {}", bootstrap.log());
    }
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    assert_eq!(crew.secret("chat", &root)["CHAT_KEY"], CHAT_KEY);
    assert_eq!(bootstrap.terminate().code(), 0);
}

#[test]
fn before_the_first_apply_broken_files_end_it() {
    let crew = Crew::new();
    crew.initialise();
    crew.write_env("CHAT_KEY=canary$broken\n");
    let refused = run(&mut crew.bootstrap("run")).expect_code(78);
    assert!(refused.stderr.contains("CHAT_KEY"), "{}", refused.stderr);
}

#[test]
fn a_first_run_waits_for_the_root_token() {
    let crew = Crew::new();
    crew.initialise();
    let root = crew.root_token();
    fs::remove_file(crew.path("root/root-token")).unwrap();
    let mut command = crew.bootstrap("run");
    command.args(["--wait", "1m"]);
    let mut bootstrap = spawn(command);
    bootstrap.wait_for_log("there is no root token", SOON);
    crew.write("root/root-token", &root);
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
    assert_eq!(crew.login("chat"), 200);
    assert_eq!(bootstrap.terminate().code(), 0);
}
