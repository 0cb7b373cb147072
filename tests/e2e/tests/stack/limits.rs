//! What a server does not take is refused before anything is written; what is just within is taken.

use std::fmt::Write as _;

use harness::{Storage, VaultOptions, run};
use serde_json::{Value, json};

use crate::crew::Crew;

#[test]
fn a_secret_of_too_many_keys_or_bytes_is_refused_before_anything_is_done() {
    let crew =
        Crew::with(VaultOptions { storage: Storage::Raft, ..VaultOptions::default() }.start().unwrap());
    crew.initialise();
    let keys = |count: usize| {
        let mut env = String::new();
        for number in 0..count {
            writeln!(env, "CHAT_{number}=v").unwrap();
        }
        env
    };
    let user_of = |bytes: usize| format!("USER_CERTIFICATES={}\n", "v".repeat(bytes));
    // {"USER_CERTIFICATES":"…"} is 24 bytes beside the value.
    let most = 1024 * 1024 - 512 - 24;
    crew.write_env(&format!("{}{}", keys(499), user_of(most + 1)));
    for command in ["plan", "apply"] {
        let refused = run(&mut crew.bootstrap(command)).expect_code(78);
        assert!(refused.stderr.contains("secret/chat would hold 499 keys"), "{}", refused.stderr);
        assert!(refused.stderr.contains("secret/user would take 1048065 bytes"), "{}", refused.stderr);
        assert!(refused.stderr.contains("that of USER_CERTIFICATES, with 1048041"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("vvvv"));
    }
    let (_, mounts) = crew.vault.api("GET", "/v1/sys/mounts", &crew.root_token(), &Value::Null);
    assert!(mounts["data"]["secret/"].is_null(), "something was made");

    crew.write_env(&format!("{}{}", keys(498), user_of(most)));
    crew.apply().success();
    assert_eq!(crew.apply().success().stdout, "nothing to change: 3 services\n");
}

#[test]
fn shared_generated_values_that_differ_are_told() {
    let crew = Crew::new();
    crew.write(
        "vaultcrew.toml",
        "[keys]\n\"USER_DB_*\" = [\"user\", \"user_db\"]\n[generate]\nUSER_DB_PIN = {}\n",
    );
    crew.initialise();
    crew.apply().success();
    let root = crew.root_token();
    let read = |service: &str| {
        crew.vault.api("GET", &format!("/v1/secret/data/{service}"), &root, &Value::Null).1["data"]["data"]
            .clone()
    };
    let write = |data: &Value| {
        assert_eq!(crew.vault.api("POST", "/v1/secret/data/user_db", &root, &json!({ "data": data })).0, 200);
    };
    let mut values = read("user_db");
    values["USER_DB_PIN"] = "canary-of-their-own".into();
    write(&values);
    let plan = run(&mut crew.bootstrap("plan")).success().stdout;
    assert!(
        plan.contains(
            "! secret/user_db USER_DB_PIN: generated, and not the same as in secret/user, which shares it"
        ),
        "{plan}"
    );
    values.as_object_mut().unwrap().remove("USER_DB_PIN");
    write(&values);
    crew.apply().success();
    assert_eq!(read("user_db")["USER_DB_PIN"], read("user")["USER_DB_PIN"]);
    assert_eq!(run(&mut crew.bootstrap("plan")).success().stdout, "nothing to change\n");
}
