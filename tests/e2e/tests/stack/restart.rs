//! Vault goes away and comes back.

use std::time::Duration;

use harness::{run, wait_until};

use crate::crew::{Crew, SOON, spawn};

#[test]
fn a_running_unsealer_initialises_and_unseals_after_every_restart() {
    let mut crew = Crew::new();
    let mut unsealer = spawn(crew.unsealer("run"));
    crew.vault.wait_for_health(200).unwrap();
    unsealer.wait_for_log("the break-glass credential is in", SOON);
    let healthy = |crew: &Crew| {
        let mut command = crew.programs.unsealer();
        command.args(["healthcheck", "--status-file", "run/unsealer.json"]).current_dir(crew.path(""));
        run(&mut command).code() == 0
    };
    assert!(wait_until(SOON, || healthy(&crew)));

    crew.vault.restart();
    assert!(wait_until(Duration::from_secs(10), || crew.vault.health() == Some(200)), "{}", unsealer.log());

    crew.vault.stop();
    assert!(wait_until(SOON, || !healthy(&crew)));
    crew.vault.restart();
    assert!(wait_until(Duration::from_secs(10), || crew.vault.health() == Some(200)), "{}", unsealer.log());
    assert!(wait_until(SOON, || healthy(&crew)));

    let stopped = unsealer.terminate();
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
}

#[test]
fn another_unsealer_on_the_same_keys_unseals_with_them() {
    let mut crew = Crew::applied();
    crew.vault.restart();
    assert!(wait_until(SOON, || crew.vault.health() == Some(503)));
    let unsealed = run(&mut crew.unsealer("unseal")).success();
    assert!(unsealed.stdout.contains("unsealed"), "{}", unsealed.stdout);
}

#[test]
fn one_damaged_share_does_not_keep_vault_sealed_and_is_named() {
    let mut crew = Crew::applied();
    std::fs::remove_file(crew.path("keys/unseal-key-2")).unwrap();
    crew.write("keys/unseal-key-2", &crew.read("keys/unseal-key-1").chars().rev().collect::<String>());
    crew.vault.restart();
    assert!(wait_until(SOON, || crew.vault.health() == Some(503)));
    let unsealed = run(&mut crew.unsealer("unseal")).success();
    assert!(unsealed.stderr.contains("unseal-key-2 is damaged"), "{}", unsealed.stderr);
}

#[test]
fn the_shares_of_another_vault_are_refused_once_and_nothing_is_changed() {
    let mut crew = Crew::applied();
    let other = Crew::applied();
    for share in 1..=5 {
        let name = format!("keys/unseal-key-{share}");
        std::fs::remove_file(crew.path(&name)).unwrap();
        crew.write(&name, &other.read(&name));
    }
    crew.vault.restart();
    assert!(wait_until(SOON, || crew.vault.health() == Some(503)));
    let refused = run(&mut crew.unsealer("unseal")).expect_code(78);
    assert!(
        refused.stderr.contains("every combination of the 5 key shares was refused"),
        "{}",
        refused.stderr
    );
    assert_eq!(crew.read("keys/unseal-key-1"), other.read("keys/unseal-key-1"));
}

#[test]
fn an_init_whose_answer_was_kept_is_finished_by_the_next_start() {
    let crew = Crew::new();
    // What a kill right after the answer leaves: the note, and the answer as it came.
    let body = serde_json::json!({ "secret_shares": 5, "secret_threshold": 3 });
    let (status, answer) = crew.vault.api("POST", "/v1/sys/init", "", &body);
    assert_eq!(status, 200);
    crew.write("keys/init-requested", "");
    crew.write("keys/init-response.json", &answer.to_string());
    set_mode(&crew, "keys", 0o700);
    run(&mut crew.unsealer("init")).success();
    run(&mut crew.unsealer("unseal")).success();
    assert_eq!(crew.root_token(), answer["root_token"].as_str().unwrap());
    assert!(!crew.path("keys/init-response.json").exists() && !crew.path("keys/init-requested").exists());
}

#[test]
fn an_init_whose_answer_never_came_is_recognised() {
    let crew = Crew::new();
    let body = serde_json::json!({ "secret_shares": 5, "secret_threshold": 3 });
    assert_eq!(crew.vault.api("POST", "/v1/sys/init", "", &body).0, 200);
    crew.write("keys/init-requested", "");
    set_mode(&crew, "keys", 0o700);
    let lost = run(&mut crew.unsealer("init")).expect_code(78);
    assert!(lost.stderr.contains("its keys were never received"), "{}", lost.stderr);
    assert!(lost.stderr.contains("to begin anew"), "{}", lost.stderr);
}

fn set_mode(crew: &Crew, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(crew.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_unsealed_vault_whose_keys_are_elsewhere_leaves_nothing_to_do() {
    let crew = Crew::applied();
    let other = Crew::new();
    let mut command = other.unsealer("run");
    command.env("VAULT_ADDR", crew.vault.addr());
    let mut unsealer = spawn(command);
    unsealer.wait_for_log("its keys are not in", SOON);
    assert!(!wait_until(Duration::from_secs(2), || !unsealer.is_running()));
    assert_eq!(unsealer.terminate().code(), 0);
}

#[test]
fn a_stale_root_token_does_not_end_the_unsealer() {
    let mut crew = Crew::applied();
    let root = crew.root_token();
    assert_eq!(crew.vault.api("POST", "/v1/auth/token/revoke-self", &root, &serde_json::Value::Null).0, 204);
    let mut unsealer = spawn(crew.unsealer("run"));
    unsealer.wait_for_log("there is no break-glass credential", SOON);
    crew.vault.restart();
    assert!(wait_until(Duration::from_secs(10), || crew.vault.health() == Some(200)), "{}", unsealer.log());
    assert_eq!(unsealer.terminate().code(), 0);
}

#[test]
fn a_seal_by_hand_is_kept_across_restarts_until_the_hold_is_over() {
    let mut crew = Crew::new();
    let mut unsealer = spawn(crew.unsealer("run"));
    crew.vault.wait_for_health(200).unwrap();
    unsealer.wait_for_log("the break-glass credential is in", SOON);
    crew.vault.seal(&crew.root_token());
    unsealer.wait_for_log("was sealed while it ran", SOON);
    assert!(!wait_until(Duration::from_secs(3), || crew.vault.health() != Some(503)), "{}", unsealer.log());

    // Neither a restart of the one nor of the other ends it.
    unsealer.terminate();
    let mut unsealer = spawn(crew.unsealer("run"));
    crew.vault.restart();
    unsealer.wait_for_log("held: nothing is unsealed", SOON);
    assert!(!wait_until(Duration::from_secs(3), || crew.vault.health() == Some(200)), "{}", unsealer.log());

    let over = run(crew.unsealer("hold").arg("off")).success();
    assert!(over.stdout.contains("the hold is over"), "{}", over.stdout);
    assert!(wait_until(SOON, || crew.vault.health() == Some(200)), "{}", unsealer.log());
    assert_eq!(unsealer.terminate().code(), 0);
}

#[test]
fn a_hold_can_be_ordered_beforehand_and_an_order_to_unseal_ends_it() {
    let mut crew = Crew::applied();
    run(crew.unsealer("hold").arg("on")).success();
    let mut unsealer = spawn(crew.unsealer("run"));
    unsealer.wait_for_log("held: nothing is unsealed", SOON);
    crew.vault.restart();
    assert!(!wait_until(Duration::from_secs(3), || crew.vault.health() == Some(200)), "{}", unsealer.log());
    run(&mut crew.unsealer("unseal")).success();
    unsealer.wait_for_log("the hold is over", SOON);
    assert_eq!(unsealer.terminate().code(), 0);
}

#[test]
fn a_seal_by_hand_is_undone_where_that_is_wanted() {
    let crew = Crew::applied();
    let mut command = crew.unsealer("run");
    command.args(["--reseal-policy", "always"]);
    let mut unsealer = spawn(command);
    unsealer.wait_for_log("is unsealed", SOON);
    crew.vault.seal(&crew.root_token());
    assert!(wait_until(SOON, || crew.vault.health() == Some(200)), "{}", unsealer.log());
    assert_eq!(unsealer.terminate().code(), 0);
}
