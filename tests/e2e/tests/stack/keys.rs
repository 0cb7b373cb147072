//! The key shares over a longer life: checked, replaced, encrypted, spread, and exchanged for those of another life.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use harness::{Storage, Vault, VaultOptions, run, server_command, wait_until};
use serde_json::{Value, json};

use crate::crew::{Crew, SOON, spawn};

/// The same share, read backwards: whole in form, and wrong in every byte.
fn spoil(crew: &Crew, share: usize) {
    let name = format!("keys/unseal-key-{share}");
    replace(&crew.path(&name), &crew.read(&name).chars().rev().collect::<String>());
}

fn replace(path: &Path, content: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

fn shares(crew: &Crew) -> Vec<String> {
    (1..=5).map(|share| crew.read(&format!("keys/unseal-key-{share}"))).collect()
}

fn json_of(command: &mut Command, code: i32) -> Value {
    serde_json::from_str(&run(command.arg("--json")).expect_code(code).stdout).expect("JSON")
}

#[test]
fn damaged_shares_are_told_without_a_server_and_by_it() {
    let mut crew = Crew::with_break_glass(Vault::start());
    let report = json_of(&mut crew.unsealer("check-keys"), 0);
    assert_eq!((&report["usable"], &report["proven_by"]), (&json!(5), &json!("each other")));
    spoil(&crew, 2);
    let report = run(&mut crew.unsealer("check-keys")).expect_code(1);
    assert!(report.stdout.contains("unseal-key-2  damaged"), "{}", report.stdout);

    // Two: too few are left that fit together, and Vault has to be asked.
    spoil(&crew, 4);
    let unsure = json_of(&mut crew.unsealer("check-keys"), 0);
    assert_eq!(unsure["proven_by"], Value::Null);
    let proven = json_of(crew.unsealer("check-keys").arg("--prove"), 1);
    let states: Vec<_> =
        proven["shares"].as_array().unwrap().iter().map(|share| share["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["good", "damaged", "good", "damaged", "good"]);

    crew.vault.restart();
    let unsealed = run(&mut crew.unsealer("unseal")).success();
    for share in [2, 4] {
        assert!(unsealed.stderr.contains(&format!("unseal-key-{share} is damaged")), "{}", unsealed.stderr);
    }
    spoil(&crew, 1);
    crew.vault.restart();
    let sealed = run(&mut crew.unsealer("unseal")).expect_code(78);
    assert!(sealed.stderr.contains("every combination of the 5 key shares was refused"), "{}", sealed.stderr);
}

#[test]
fn a_rekey_makes_new_shares_and_the_old_ones_go_once_those_have_unsealed() {
    let mut crew = Crew::with_break_glass(Vault::start());
    let old = shares(&crew);
    run(&mut crew.unsealer("rekey")).success();
    let new = shares(&crew);
    assert!(old.iter().all(|share| !new.contains(share)));
    assert_eq!(crew.read("keys/before-rekey/unseal-key-1"), old[0]);

    crew.vault.restart();
    let unsealed = run(&mut crew.unsealer("unseal")).success();
    assert!(unsealed.stderr.contains("those from before the rekey are removed"), "{}", unsealed.stderr);
    assert!(!crew.path("keys/before-rekey").exists());

    // Without a root token the break-glass credential makes one for the moment.
    run(&mut crew.unsealer("revoke-root")).success();
    run(&mut crew.unsealer("rekey")).success();
    assert!(!crew.path("root/root-token").exists());
    crew.vault.restart();
    run(&mut crew.unsealer("unseal")).success();
}

#[test]
fn encrypted_and_spread_shares_unseal_and_are_nowhere_in_the_clear() {
    let mut crew = Crew::new();
    // Made by age-keygen for this test alone.
    let identity = "AGE-SECRET-KEY-1JYSAWAA9800LJK6VXSRFF0HR6F66HUHQ4NQK8X3VK6H48NAPVVLQHRRL6P";
    let recipient = "age196zklfgephv333jjhceq0p0gscufc78nmmrn5mx0y0cjw2hkh5uqfhh0z0";
    crew.write("identity", identity);
    let store = |subcommand: &str| {
        let mut command = crew.programs.unsealer();
        command.arg(subcommand).env("VAULT_ADDR", crew.vault.addr()).current_dir(crew.path(""));
        command.args(["--keys-dir", "k/1", "--keys-dir", "k/2", "--keys-dir", "k/3"]);
        command.args(["--root-token-file", "root/root-token", "--age-identity-file", "identity"]);
        command.args(["--age-recipient", recipient]);
        command
    };
    run(&mut store("init")).success();
    for name in
        ["k/1/unseal-key-1.age", "k/2/unseal-key-2.age", "k/3/unseal-key-3.age", "k/1/unseal-key-4.age"]
    {
        assert!(fs::read(crew.path(name)).unwrap().starts_with(b"age-encryption.org/v1"), "{name}");
    }
    run(&mut store("unseal")).success();
    let commands = [store("unseal"), store("status")];
    crew.vault.restart();
    let [mut unseal, mut status] = commands;
    // One directory is lost: the others hold enough.
    fs::remove_dir_all(crew.path("k/1")).unwrap();
    run(&mut unseal).success();
    let status = json_of(&mut status, 0);
    assert_eq!(status["shares"], json!({ "found": 3, "readable": 3 }));
}

#[test]
fn only_the_shares_of_a_restored_snapshots_life_unseal_and_are_adopted() {
    let raft = || VaultOptions { storage: Storage::Raft, ..VaultOptions::default() }.start().unwrap();
    let earlier = Crew::with_break_glass(raft());
    let token = earlier.root_token();
    let snapshot = earlier.path("snapshot");
    let raft_command = |crew: &Crew, action: &[&str], token: &str| {
        let mut command = server_command().unwrap();
        command.args(["operator", "raft", "snapshot"]).args(action).arg(&snapshot);
        command.env("BAO_ADDR", crew.vault.addr()).env("BAO_TOKEN", token);
        command.env("VAULT_ADDR", crew.vault.addr()).env("VAULT_TOKEN", token);
        run(&mut command).success();
    };
    raft_command(&earlier, &["save"], &token);

    let mut crew = Crew::with_break_glass(raft());
    let ours = shares(&crew);
    raft_command(&crew, &["restore", "-force"], &crew.root_token());
    crew.vault.restart();
    let refused = run(&mut crew.unsealer("unseal")).expect_code(78);
    assert!(refused.stderr.contains("unsealer adopt-keys"), "{}", refused.stderr);

    // Those of a stranger change nothing.
    let stranger = Crew::applied();
    let refused = run(crew.unsealer("adopt-keys").arg(stranger.path("keys"))).expect_code(78);
    assert!(refused.stderr.contains("nothing has changed"), "{}", refused.stderr);
    assert_eq!(shares(&crew), ours);

    let adopted = json_of(crew.unsealer("adopt-keys").arg(earlier.path("keys")), 0);
    assert_eq!(adopted["adopted"], true);
    assert_eq!(shares(&crew), shares(&earlier));
    assert_eq!(crew.read("keys/earlier-1/unseal-key-1"), ours[0]);
    crew.vault.wait_for_health(200).unwrap();
    // The break-glass credential came along, and root can be had again.
    run(&mut crew.unsealer("revoke-root")).success();
    run(&mut crew.unsealer("generate-root")).success();
    let again = json_of(crew.unsealer("adopt-keys").arg(earlier.path("keys")), 0);
    assert_eq!(again["adopted"], false);
}

#[test]
fn of_three_unsealers_on_one_fresh_vault_one_initialises_and_the_others_say_so() {
    let crew = Crew::new();
    let run_in = |number: usize| {
        let mut command = crew.programs.unsealer();
        command.arg("run").env("VAULT_ADDR", crew.vault.addr()).current_dir(crew.path(""));
        command.args(["--keys-dir", &format!("keys-{number}")]);
        command.args(["--root-token-file", &format!("root-{number}/root-token")]);
        command.args(["--status-file", &format!("run-{number}/status.json")]);
        spawn(command)
    };
    let mut unsealers = [run_in(1), run_in(2), run_in(3)];
    crew.vault.wait_for_health(200).unwrap();
    assert!(!wait_until(std::time::Duration::from_secs(3), || !unsealers
        .iter_mut()
        .all(harness::Daemon::is_running)));
    let holders = (1..=3).filter(|number| crew.path(&format!("keys-{number}/unseal-key-1")).exists());
    assert_eq!(holders.count(), 1);
    let told = unsealers.iter().filter(|one| {
        let log = one.log();
        log.contains("was initialised by another one") || log.contains("its keys are not in")
    });
    assert_eq!(told.count(), 2, "{:?}", unsealers.iter().map(harness::Daemon::log).collect::<Vec<_>>());
    for unsealer in unsealers {
        assert_eq!(unsealer.terminate().code(), 0);
    }
}

#[test]
fn a_namespace_is_refused_with_the_reason() {
    let crew = Crew::new();
    let refused = run(crew.unsealer("status").env("VAULT_NAMESPACE", "team")).expect_code(78);
    assert!(refused.stderr.contains("belong to the whole server"), "{}", refused.stderr);
}

#[test]
fn a_server_that_unseals_itself_leaves_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("seal-key");
    fs::write(&key, [7; 32]).unwrap();
    let configuration = format!(
        "seal \"static\" {{\n  current_key_id = \"1\"\n  current_key = \"file://{}\"\n}}\n",
        key.display()
    );
    let vault = VaultOptions { configuration, ..VaultOptions::default() }.start().unwrap();
    let mut crew = Crew::with(vault);
    let mut unsealer = spawn(crew.unsealer("run"));
    crew.vault.wait_for_health(200).unwrap();
    assert!(wait_until(SOON, || crew.path("keys/recovery-key-5").exists()), "{}", unsealer.log());
    crew.vault.restart();
    crew.vault.wait_for_health(200).unwrap();
    let healthy = || {
        let mut check = crew.programs.unsealer();
        check.args(["healthcheck", "--status-file", "run/unsealer.json"]).current_dir(crew.path(""));
        run(&mut check).code() == 0
    };
    assert!(wait_until(SOON, healthy), "{}", unsealer.log());
    assert!(unsealer.is_running());
    let refused = run(&mut crew.unsealer("rekey")).expect_code(78);
    assert!(refused.stderr.contains("unseals itself"), "{}", refused.stderr);

    // Its recovery keys make a root token, by the break-glass credential that was made right after the initialisation.
    assert!(crew.path("keys/break-glass/secret_id").exists(), "{}", unsealer.log());
    let status = json_of(&mut crew.unsealer("status"), 0);
    assert_eq!((&status["recovery_keys"], &status["break_glass"]), (&json!(5), &json!(true)));
    run(&mut crew.unsealer("revoke-root")).success();
    run(&mut crew.unsealer("generate-root")).success();
    let (looked_up, _) =
        crew.vault.api("GET", "/v1/auth/token/lookup-self", &crew.root_token(), &Value::Null);
    assert_eq!(looked_up, 200);
    assert_eq!(unsealer.terminate().code(), 0);
}
