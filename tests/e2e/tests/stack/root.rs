//! Root goes, and comes back when it is needed.

use harness::{Vault, run};
use serde_json::Value;

use crate::crew::Crew;

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
