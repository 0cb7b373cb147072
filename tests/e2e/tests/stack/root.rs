//! Root goes, and comes back when it is needed.

use harness::{Signal, Vault, run, wait_until};
use serde_json::Value;

use crate::crew::{Crew, SOON, spawn};

fn with_break_glass() -> Crew {
    let crew = Crew::with_break_glass(Vault::start());
    crew.apply().success();
    crew
}

#[test]
fn root_is_revoked_and_regained_for_one_apply() {
    let crew = with_break_glass();
    let first = crew.root_token();
    run(&mut crew.unsealer("generate-root")).expect_code(78);
    run(&mut crew.unsealer("revoke-root")).success();
    assert!(!crew.path("root/root-token").exists());
    assert_eq!(crew.vault.api("GET", "/v1/auth/token/lookup-self", &first, &Value::Null).0, 403);
    let refused = crew.apply().expect_code(78);
    assert!(refused.stderr.contains("unsealer generate-root"), "{}", refused.stderr);
    assert!(run(&mut crew.unsealer("revoke-root")).success().stdout.contains("there is no root token"));

    run(&mut crew.unsealer("generate-root")).success();
    assert_ne!(crew.root_token(), first);
    assert_eq!(crew.apply().success().stdout, "nothing to change: 3 services\n");
    run(&mut crew.unsealer("revoke-root")).success();
}

#[test]
fn a_damaged_share_does_not_keep_root_away_and_three_do() {
    let crew = with_break_glass();
    run(&mut crew.unsealer("revoke-root")).success();
    let spoil = |share: usize| {
        let name = format!("keys/unseal-key-{share}");
        let spoilt: String = crew.read(&name).chars().rev().collect();
        std::fs::remove_file(crew.path(&name)).unwrap();
        crew.write(&name, &spoilt);
    };
    spoil(1);
    run(&mut crew.unsealer("generate-root")).success();
    run(&mut crew.unsealer("revoke-root")).success();

    spoil(2);
    spoil(3);
    let refused = run(&mut crew.unsealer("generate-root")).expect_code(78);
    assert!(
        refused.stderr.contains("every combination of the 5 key shares was refused"),
        "{}",
        refused.stderr
    );
    // No attempt is left behind that would block the next one.
    spoil(3);
    run(&mut crew.unsealer("generate-root")).success();
}

#[test]
fn root_goes_by_itself_once_it_can_be_had_again() {
    let crew = Crew::new();
    crew.initialise();
    let with_flag = |subcommand: &str| {
        let mut command = crew.bootstrap(subcommand);
        command.arg("--revoke-root-token");
        command
    };
    // Nobody has made a break-glass credential yet.
    let root = crew.root_token();
    let is_good = || crew.vault.api("GET", "/v1/auth/token/lookup-self", &root, &Value::Null).0 == 200;
    let stays = run(&mut with_flag("apply")).expect_code(1);
    assert!(
        stays.stderr.contains("the root token stays: there is no break-glass credential"),
        "{}",
        stays.stderr
    );
    let mut bootstrap = spawn(with_flag("run"));
    bootstrap.wait_for_log("the root token stays: there is no break-glass credential", SOON);
    assert!(is_good());

    let mut unsealer = spawn(crew.unsealer("run"));
    unsealer.wait_for_log("the break-glass credential is in", SOON);
    bootstrap.signal(Signal::SIGHUP);
    assert!(wait_until(SOON, || !is_good()), "{}", bootstrap.log());
    assert!(wait_until(SOON, || !crew.path("root/root-token").exists()), "{}", bootstrap.log());
    assert_eq!(bootstrap.log().matches("the root token stays").count(), 1, "{}", bootstrap.log());
    crew.health().success();
    assert_eq!(unsealer.terminate().code(), 0);

    // For one apply, and gone again.
    run(&mut crew.unsealer("generate-root")).success();
    run(&mut with_flag("apply")).success();
    assert!(!crew.path("root/root-token").exists());
    assert_eq!(bootstrap.terminate().code(), 0);
}

/// What proved the credential may be killed before it has noted that.
#[test]
fn a_proof_that_was_not_noted_is_made_up_for_at_the_next_start() {
    let crew = with_break_glass();
    let root = crew.root_token();
    let tune = "/v1/sys/auth/vaultcrew-break-glass/tune";
    let unnoted = serde_json::json!({ "description": "vaultcrew: break-glass credential of unsealer" });
    assert_eq!(crew.vault.api("POST", tune, &root, &unnoted).0, 204);
    let mut apply = crew.bootstrap("apply");
    apply.arg("--revoke-root-token");
    run(&mut apply).expect_code(1);
    let unsealer = spawn(crew.unsealer("run"));
    let is_noted = || {
        crew.vault.api("GET", tune, &root, &Value::Null).1["data"]["description"]
            .as_str()
            .is_some_and(|text| text.ends_with("proven by a login"))
    };
    assert!(wait_until(SOON, is_noted), "{}", unsealer.log());
    run(&mut apply).success();
    assert_eq!(unsealer.terminate().code(), 0);
}
