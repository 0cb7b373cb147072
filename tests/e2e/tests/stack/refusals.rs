//! What is wrong is told: what, where, and what to do, with the exit code that scripts rely on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use harness::run;

use crate::crew::{Crew, SOON, own_secret_policy, spawn};

#[test]
fn a_wrong_env_file_is_refused_by_line_and_key_before_anything_is_asked() {
    let crew = Crew::new();
    crew.write_env("GOOD=1\nUSER_DB_PASSWORD=canary$HOME-leaks\nnot a line\n");
    let refused = crew.apply().expect_code(78);
    assert!(
        refused.stderr.contains(".env:2:") && refused.stderr.contains("USER_DB_PASSWORD"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains(".env:3:"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("leaks"), "{}", refused.stderr);

    fs::remove_file(crew.path(".env")).unwrap();
    let missing = crew.apply().expect_code(78);
    assert!(missing.stderr.contains("a missing one is not taken for an empty one"), "{}", missing.stderr);
}

#[test]
fn a_service_without_a_policy_is_refused() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", "[keys]\n\"CHAT_*\" = [\"mailer\"]\n");
    let refused = crew.apply().expect_code(78);
    assert!(refused.stderr.contains("mailer"), "{}", refused.stderr);
    assert!(refused.stderr.contains("vaultcrew.toml:2"), "{}", refused.stderr);

    fs::remove_dir_all(crew.path("policies")).unwrap();
    crew.apply().expect_code(78);
    fs::create_dir(crew.path("policies")).unwrap();
    let none = crew.apply().expect_code(78);
    assert!(none.stderr.contains("holds no <service>-policy.hcl"), "{}", none.stderr);
}

#[test]
fn a_policy_that_the_server_refuses_is_named() {
    let crew = Crew::new();
    crew.initialise();
    crew.write_policy("chat", "path \"secret/data/chat\" { capabilities = [\"fly\"] }\n");
    let refused = crew.apply().expect_code(1);
    assert!(refused.stderr.contains("writing the policy chat-policy"), "{}", refused.stderr);
    // Mended, the next apply finishes what this one began.
    crew.write_policy("chat", &own_secret_policy("chat"));
    crew.apply().success();
}

#[test]
fn an_unreachable_vault_is_69_and_a_sealed_one_too() {
    let mut crew = Crew::applied();
    crew.vault.stop();
    let mut apply = crew.bootstrap("apply");
    let away = run(apply.args(["--wait", "1s"])).expect_code(69);
    assert!(away.stderr.contains("no answer: Connection refused"), "{}", away.stderr);
    let mut exec = crew.agent("exec", "chat");
    let away = run(exec.args(["--wait", "1s", "--secret", "chat", "--", "true"])).expect_code(69);
    assert!(away.stderr.contains("no AppRole login within 1s"), "{}", away.stderr);
    run(&mut crew.unsealer("status")).expect_code(69);

    crew.vault.restart();
    crew.vault.wait_for_health(503).unwrap();
    let sealed = run(crew.bootstrap("apply").args(["--wait", "1s"])).expect_code(69);
    assert!(sealed.stderr.contains("Vault is sealed"), "{}", sealed.stderr);
}

#[test]
fn a_missing_or_wrong_token_is_told() {
    let crew = Crew::applied();
    crew.write("other-token", "s.000000000000000000000000");
    let mut apply = crew.bootstrap("apply");
    run(apply.args(["--token-file", "other-token"])).expect_code(77);
    let mut apply = crew.bootstrap("apply");
    let missing = run(apply.args(["--token-file", "nowhere/root-token"])).expect_code(78);
    assert!(missing.stderr.contains("there is no token in nowhere/root-token"), "{}", missing.stderr);
}

#[test]
fn wrong_credentials_are_tried_once() {
    let crew = Crew::applied();
    crew.write("bad/role_id", &crew.read("approle/chat/role_id"));
    crew.write("bad/secret_id", "00000000-0000-0000-0000-000000000000");
    let mut exec = crew.agent("exec", "chat");
    exec.args([
        "--credentials-dir",
        "bad",
        "--wait",
        "3s",
        "--log-level",
        "debug",
        "--secret",
        "chat",
        "--",
        "true",
    ]);
    let refused = run(&mut exec).expect_code(77);
    assert!(refused.stderr.contains("Vault refuses the AppRole credentials in bad"), "{}", refused.stderr);
    assert_eq!(refused.stderr.matches("the AppRole login failed").count(), 1, "{}", refused.stderr);

    let mut exec = crew.agent("exec", "chat");
    let none =
        run(exec.args(["--credentials-dir", "none", "--wait", "1s", "--secret", "chat", "--", "true"]));
    assert!(none.expect_code(78).stderr.contains("no AppRole credentials came to none"));
}

#[test]
fn a_missing_secret_or_command_is_told() {
    let crew = Crew::applied();
    let root = crew.root_token();
    assert_eq!(crew.vault.api("DELETE", "/v1/secret/data/chat", &root, &serde_json::Value::Null).0, 204);
    let exec = |args: &[&str]| run(crew.agent("exec", "user").args(args));
    let missing = run(crew.agent("exec", "chat").args(["--secret", "chat", "--", "true"])).expect_code(78);
    assert!(missing.stderr.contains("there is no secret secret/chat"), "{}", missing.stderr);
    assert!(
        exec(&["--secret", "user", "--", "no-such-command"])
            .expect_code(127)
            .stderr
            .contains("no-such-command")
    );
    exec(&["--secret", "user", "--", "/"]).expect_code(126);
    run(crew.agent("render", "user").args(["--secret", "user"])).expect_code(78);
}

#[test]
fn keys_that_do_not_fit_the_server_are_never_overwritten() {
    let crew = Crew::applied();
    let fresh = Crew::new();
    let at = |crew: &Crew, vault: &Crew| {
        let mut command = crew.unsealer("init");
        command.env("VAULT_ADDR", vault.vault.addr());
        run(&mut command)
    };
    // Keys here, and a server that was never initialised.
    let before = crew.read("keys/unseal-key-1");
    let occupied = at(&crew, &fresh).expect_code(78);
    assert!(occupied.stderr.contains("belongs to an earlier initialisation"), "{}", occupied.stderr);
    assert_eq!(crew.read("keys/unseal-key-1"), before);
    assert_eq!(fresh.vault.health(), Some(501), "it was initialised all the same");
    // No keys here, and a server that was.
    let elsewhere = at(&fresh, &crew).expect_code(78);
    assert!(elsewhere.stderr.contains("holds no keys for it"), "{}", elsewhere.stderr);

    fs::set_permissions(crew.path("keys"), fs::Permissions::from_mode(0o755)).unwrap();
    let open = run(&mut crew.unsealer("unseal")).expect_code(78);
    assert!(open.stderr.contains("chmod 700"), "{}", open.stderr);
}

#[test]
fn a_stop_ends_a_wait_at_once() {
    let crew = Crew::new();
    let mut command = crew.agent("run", "chat");
    command.args(["--wait", "1h", "--secret", "chat", "--env-file", "out/chat.env"]);
    let mut waiting = spawn(command);
    waiting.wait_for_log("waiting for AppRole credentials", SOON);
    assert_eq!(waiting.terminate().code(), 0);
}

#[test]
fn a_command_that_was_stopped_has_not_succeeded() {
    let crew = Crew::new();
    let mut command = crew.agent("exec", "chat");
    command.args(["--wait", "1h", "--secret", "chat", "--", "true"]);
    let mut waiting = spawn(command);
    waiting.wait_for_log("waiting for AppRole credentials", SOON);
    assert_eq!(waiting.terminate().code(), 143);
}

#[test]
fn a_service_whose_directory_cannot_be_written_does_not_hold_up_the_others() {
    let crew = Crew::new();
    crew.initialise();
    crew.write("approle/chat", "a file where a directory belongs");
    let applied = crew.apply().expect_code(78);
    assert!(applied.stderr.contains("the credentials of chat cannot be delivered"), "{}", applied.stderr);
    assert!(crew.path("approle/user/secret_id").exists() && crew.path("approle/user_db/secret_id").exists());
    // Nor does it end the daemon, which goes on with the rest and with this one once it is mended.
    let mut bootstrap = spawn(crew.bootstrap("run"));
    bootstrap.wait_for_log("logged in by AppRole", SOON);
    assert!(bootstrap.is_running());
    assert_eq!(bootstrap.terminate().code(), 0);
    // No secret ID was issued that nobody gets.
    let list = "/v1/auth/approle/role/chat/secret-id";
    assert_eq!(crew.vault.api("LIST", list, &crew.root_token(), &serde_json::Value::Null).0, 404);
}
