//! The test bed itself: what the end-to-end tests stand on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{
    Canary, Postgres, PostgresOptions, PostgresVersion, Storage, Vault, VaultOptions, run, run_within, spawn,
};
use serde_json::{Value, json};

#[test]
fn a_fresh_vault_waits_to_be_initialised() {
    let vault = Vault::start();
    assert_eq!(vault.health(), Some(501));
    assert_eq!(vault.api("GET", "/v1/sys/init", "", &Value::Null), (200, json!({"initialized": false})));
    assert!(vault.addr().starts_with("http://127."));
}

#[test]
fn a_vault_keeps_its_state_over_seal_restart_and_kill() {
    let (mut vault, token) = Vault::start_unsealed();
    let secret = json!({"data": {"KEY": "kept"}});
    assert_eq!(vault.api("POST", "/v1/sys/mounts/kv", &token, &json!({"type": "kv"})).0, 204);
    assert_eq!(vault.api("PUT", "/v1/kv/it", &token, &secret).0, 204);
    let first = vault.pid();

    vault.seal(&token);
    assert_eq!(vault.health(), Some(503));
    vault.unseal().unwrap();

    vault.restart();
    assert_ne!(vault.pid(), first);
    assert_eq!(vault.health(), Some(503));
    vault.unseal().unwrap();

    vault.kill();
    assert_eq!((vault.health(), vault.pid()), (None, None));
    vault.restart();
    vault.unseal().unwrap();
    assert_eq!(vault.api("GET", "/v1/kv/it", &token, &Value::Null).1["data"], secret);
    assert!(vault.log().contains("core: vault is unsealed"), "{}", vault.log());
}

#[test]
fn raft_works_and_is_what_was_asked_for() {
    let mut vault = VaultOptions { storage: Storage::Raft, ..VaultOptions::default() }.start().unwrap();
    let token = vault.initialise().unwrap();
    let (status, answer) = vault.api("GET", "/v1/sys/storage/raft/configuration", &token, &Value::Null);
    assert_eq!((status, &answer["data"]["config"]["servers"][0]["node_id"]), (200, &json!("node-1")));
}

#[test]
fn a_server_ends_with_its_owner_and_leaves_nothing() {
    let vault = Vault::start();
    let (pid, dir) = (vault.pid().unwrap(), vault.dir().to_owned());
    assert!(dir.exists() && process(pid).exists());
    drop(vault);
    assert!(!dir.exists() && !process(pid).exists());

    let postgres = Postgres::start(PostgresVersion::V18);
    let (pid, dir) = (postgres.pid().unwrap(), postgres.dir().to_owned());
    drop(postgres);
    assert!(!dir.exists() && !process(pid).exists());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let options = VaultOptions { configuration: "listener \"tcp\" {".to_owned(), ..VaultOptions::default() };
    let error = options.start().unwrap_err().to_string();
    assert!(error.contains("vault.hcl"), "{error}");
}

#[test]
fn postgres_16_answers() {
    postgres_answers(PostgresVersion::V16);
}

#[test]
fn postgres_18_answers() {
    postgres_answers(PostgresVersion::V18);
}

fn postgres_answers(version: PostgresVersion) {
    let mut postgres = PostgresOptions::new(version).setting("log_statement", "all").start().unwrap();
    let number = postgres.sql("postgres", "SHOW server_version");
    let ours = harness::tools_dir().canonicalize().unwrap();
    if harness::postgres_bin(version).unwrap().starts_with(ours) {
        assert!(number.starts_with(&version.to_string()), "{number}");
    }
    postgres.sql("postgres", "CREATE TABLE kept (n int)");
    postgres.restart();
    assert_eq!(postgres.sql("postgres", "SELECT count(*) FROM kept"), "0");
    assert!(postgres.log().contains("CREATE TABLE kept"), "{}", postgres.log());

    let refused = postgres.psql("postgres", "not the password", "postgres", "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    let socket = postgres.socket_dir();
    assert!(socket.read_dir().unwrap().count() > 0, "no socket in {}", socket.display());
}

#[test]
fn a_run_gives_code_and_outputs_and_stays_on_record() {
    let secret = harness::random_token();
    let outcome = run(sh("echo out; echo $0 >&2; exit 3").arg(&secret));
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (3, "out\n"));
    assert_eq!(outcome.stderr, format!("{secret}\n"));
    assert_eq!(run(&mut sh("kill -TERM $$")).code(), 143);

    let finding = Canary::new([("TOKEN", &secret)]).scan_runs().unwrap();
    assert_eq!(finding.to_string(), "TOKEN (raw) in the arguments of sh");
    assert_eq!(Canary::new([("OTHER", harness::random_token())]).scan_runs(), None);
}

#[test]
fn a_run_that_does_not_end_is_ended() {
    let begin = Instant::now();
    let error = run_within(&mut sh("echo stuck >&2; exec sleep 60"), Duration::from_millis(300)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(error.to_string().contains("stuck"), "{error}");
}

#[test]
fn a_daemon_is_watched_and_ended() {
    let script = "trap 'echo bye >&2; exit 5' TERM; echo ready >&2; while :; do sleep 0.02; done";
    let mut daemon = spawn(&mut sh(script));
    daemon.wait_for_log("ready", Duration::from_secs(5));
    assert!(daemon.is_running());
    let outcome = daemon.terminate();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (5, "ready\nbye\n"));

    let mut short = spawn(&mut sh("echo gone >&2"));
    let error = short.log_holds("never", Duration::from_secs(5)).unwrap_err().to_string();
    assert!(error.contains("without logging \"never\"") && error.contains("gone"), "{error}");
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn process(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}
