//! `bootstrap check`: it needs no server, and says nothing about a policy that a server contradicts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::{Programs, Vault, run};
use serde_json::{Value, json};

/// Texts of policies, each behind a line with its name; `SERVICE` stands for the service's.
const POLICIES: &str = include_str!("../corpus/policies.txt");

/// What a server refuses for the values of attributes that `check` does not look at.
const LEFT_TO_THE_SERVER: [&str; 5] = [
    "parameters without a list",
    "wrapping the wrong way round",
    "wrapping of no duration",
    "control group without capabilities",
    "a name for a block",
];

#[test]
fn whatever_the_server_takes_is_no_error_of_syntax() {
    let (vault, root) = Vault::start_unsealed();
    let policies: Vec<(&str, &str, String)> = POLICIES
        .split("=== ")
        .skip(1)
        .enumerate()
        .map(|(number, section)| {
            let (name, text) = section.split_once('\n').expect("a text behind each name");
            (name, text, format!("s{number}"))
        })
        .collect();
    assert!(policies.len() > 180, "{}", policies.len());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".env"), "").unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    for (_, text, service) in &policies {
        let path = dir.path().join(format!("policies/{service}-policy.hcl"));
        fs::write(path, text.replace("SERVICE", service)).unwrap();
    }
    let findings = findings(dir.path());
    let (mut taken, mut refused) = (0, 0);
    for (name, text, service) in &policies {
        let file = format!("policies/{service}-policy.hcl");
        let rules: Vec<&str> = findings
            .iter()
            .filter(|finding| finding["file"] == file && finding["rule"] != "secret-empty")
            .filter_map(|finding| finding["rule"].as_str())
            .collect();
        let found = |rule: &str| rules.contains(&rule);
        let Some(readable) = readable(&vault, &root, service, &text.replace("SERVICE", service)) else {
            refused += 1;
            assert!(!rules.is_empty() || LEFT_TO_THE_SERVER.contains(name), "{name}: refused in silence");
            continue;
        };
        taken += 1;
        assert!(
            !found("policy-unknown-capability"),
            "{name}: the server takes it, and check finds {rules:?}"
        );
        // What is not understood, or depends on more than the files, is left open.
        if !found("policy-syntax") && !found("policy-conditional") {
            let closed = found("policy-own-secret") || found("policy-empty");
            assert_eq!(closed, !readable, "{name}: {rules:?}");
        }
    }
    assert!(taken > 100 && refused > 70, "{taken} taken, {refused} refused");
}

/// Whether a token under this policy may read the service's secret; `None` where the server refuses the policy.
fn readable(vault: &Vault, root: &str, service: &str, text: &str) -> Option<bool> {
    let (status, _) =
        vault.api("PUT", &format!("/v1/sys/policies/acl/{service}"), root, &json!({"policy": text}));
    if status == 400 {
        return None;
    }
    assert_eq!(status, 204, "{text}");
    let create = json!({"policies": [service], "no_default_policy": true});
    let (_, token) = vault.api("POST", "/v1/auth/token/create", root, &create);
    let path = format!("secret/data/{service}");
    let look = json!({"token": token["auth"]["client_token"], "paths": [path]});
    let (status, answer) = vault.api("POST", "/v1/sys/capabilities", root, &look);
    assert_eq!(status, 200, "{answer}");
    let capabilities = answer["data"][path].as_array().expect("a list of capabilities");
    Some(capabilities.contains(&json!("read")))
}

/// What is found in `.env` and `policies` of this directory.
fn findings(dir: &Path) -> Vec<Value> {
    let checked = run(Programs::locate().bootstrap().args(["check", "--json"]).current_dir(dir));
    serde_json::from_str(&checked.stdout).expect("an array of findings")
}

#[test]
fn the_example_stack_has_no_errors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/e2e is two deep");
    let dir = tempfile::tempdir().unwrap();
    let env_file = dir.path().join(".env");
    fs::copy(root.join("examples/transcendence/.env.example"), &env_file).unwrap();
    fs::set_permissions(&env_file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(root.join("examples/transcendence/vaultcrew.toml"), dir.path().join("vaultcrew.toml")).unwrap();
    let check = |more: &[&str]| {
        let mut command = Programs::locate().bootstrap();
        command.arg("check").arg("--policies-dir").arg(root.join("policies"));
        run(command.args(more).current_dir(dir.path()))
    };
    let checked = check(&[]).success();
    // What is empty there is meant to be.
    assert!(checked.stdout.ends_with("0 errors, 1 warning\n"), "{}", checked.stdout);
    check(&["--deny-warnings"]).expect_code(78);
    check(&["--deny-warnings", "--allow", "env-empty-value"]).success();

    fs::set_permissions(&env_file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = check(&[]).expect_code(78);
    assert!(open.stdout.contains(".env: error[env-permissions]: its mode is 0644"), "{}", open.stdout);
    assert!(open.stdout.contains("mend: chmod 600 .env\n"), "{}", open.stdout);
}
