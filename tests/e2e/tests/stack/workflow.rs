//! From nothing to a service that has its secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use harness::run;
use serde_json::{Value, json};

use crate::crew::{CHAT_KEY, Crew, PASSWORD};

#[test]
fn a_fresh_vault_becomes_a_stack() {
    let crew = Crew::new();
    assert_eq!(run(&mut crew.unsealer("status")).code(), 1);
    let init = run(&mut crew.unsealer("init")).success();
    assert!(init.stdout.contains("initialised; 5 key shares"), "{}", init.stdout);
    run(&mut crew.unsealer("unseal")).success();
    crew.vault.wait_for_health(200).unwrap();
    assert!(run(&mut crew.unsealer("init")).success().stdout.contains("initialised already"));

    let mode = |name: &str| fs::metadata(crew.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("keys"), 0o700);
    for share in 1..=5 {
        assert_eq!(mode(&format!("keys/unseal-key-{share}")), 0o400);
    }
    assert_eq!(mode("root/root-token"), 0o440);

    let apply = crew.apply().success();
    assert!(apply.stdout.contains("applied: 3 services, 4 new credentials"), "{}", apply.stdout);
    for service in ["user", "user_db", "chat"] {
        for file in ["role_id", "secret_id"] {
            let name = format!("approle/{service}/{file}");
            assert_eq!(crew.read(&name).trim_end(), crew.read(&name), "{name} ends in a newline");
            assert_eq!(mode(&name), 0o440);
        }
    }

    crew.prints_secrets();
    let mut exec = crew.agent("exec", "user_db");
    exec.args([
        "--secret",
        "user_db",
        "--",
        "sh",
        "-c",
        "printf %s \"$USER_DB_PASSWORD\"; env | grep -c VAULT",
    ]);
    let exec = run(&mut exec);
    assert_eq!(exec.stdout, format!("{PASSWORD}0\n"));
}

#[test]
fn the_role_is_what_was_promised() {
    let crew = Crew::applied();
    let root = crew.root_token();
    let (_, role) = crew.vault.api("GET", "/v1/auth/approle/role/user", &root, &Value::Null);
    let role = &role["data"];
    assert_eq!(role["token_ttl"], 3600);
    assert_eq!(role["token_max_ttl"], 4 * 3600);
    assert_eq!(role["secret_id_ttl"], 3600);
    assert_eq!(role["token_policies"], serde_json::json!(["user-policy"]));

    let (_, policy) = crew.vault.api("GET", "/v1/sys/policies/acl/user-policy", &root, &Value::Null);
    assert!(policy["data"]["policy"].as_str().unwrap().contains("path \"secret/data/user\""));
    let (_, mounts) = crew.vault.api("GET", "/v1/sys/mounts", &root, &Value::Null);
    assert_eq!(mounts["data"]["secret/"]["options"]["version"], "2");
}

#[test]
fn a_second_apply_changes_nothing_and_writes_no_version() {
    let crew = Crew::applied();
    let root = crew.root_token();
    let version = || {
        let (_, metadata) = crew.vault.api("GET", "/v1/secret/metadata/user_db", &root, &Value::Null);
        metadata["data"]["current_version"].clone()
    };
    assert_eq!(version(), 1);
    let before = crew.read("approle/user/secret_id");
    let second = crew.apply().success();
    assert_eq!(second.stdout, "nothing to change: 3 services\n");
    assert_eq!((version(), crew.read("approle/user/secret_id")), (1.into(), before));
    let plan = run(&mut crew.bootstrap("plan")).success();
    assert_eq!(plan.stdout, "nothing to change\n");
}

#[test]
fn a_changed_value_is_applied_and_one_changed_in_vault_is_kept() {
    let crew = Crew::applied();
    let root = crew.root_token();
    crew.write_env(&crew.read(".env").replace("USER_SESSION_HOURS=12", "USER_SESSION_HOURS=24"));
    let plan = run(&mut crew.bootstrap("plan")).success();
    assert_eq!(plan.stdout, "~ secret/user USER_SESSION_HOURS\n");
    crew.apply().success();

    let patch = serde_json::json!({ "data": { "USER_SESSION_HOURS": "by hand", "EXTRA": "theirs" } });
    assert_eq!(crew.vault.api("POST", "/v1/secret/data/user", &root, &patch).0, 200);
    let kept = crew.apply().success();
    assert!(
        kept.stderr.contains("secret/user USER_SESSION_HOURS: differs in Vault and stays"),
        "{}",
        kept.stderr
    );
    // Another change to the same secret must not carry the kept one away.
    crew.write_env(&format!("{}USER_NEW=1\n", crew.read(".env")));
    crew.apply().success();
    let value = |key: &str| {
        crew.vault.api("GET", "/v1/secret/data/user", &root, &Value::Null).1["data"]["data"][key].clone()
    };
    assert_eq!(
        (value("USER_SESSION_HOURS"), value("EXTRA"), value("USER_NEW")),
        ("by hand".into(), "theirs".into(), "1".into())
    );

    run(crew.bootstrap("apply").arg("--overwrite")).success();
    assert_eq!((value("USER_SESSION_HOURS"), value("EXTRA")), ("24".into(), "theirs".into()));
}

#[test]
fn a_service_has_its_own_secret_and_not_its_neighbours() {
    let crew = Crew::applied();
    run(crew.agent("exec", "chat").args(["--secret", "chat", "--", "true"])).success();
    let denied = run(crew.agent("exec", "chat").args(["--secret", "user_db", "--", "true"])).expect_code(77);
    assert!(denied.stderr.contains("the secret secret/user_db cannot be read"), "{}", denied.stderr);
    assert!(denied.stderr.contains("permission denied"), "{}", denied.stderr);
}

/// The lines that such a stack's shell entrypoints consist of today.
#[test]
fn the_curl_and_jq_entrypoint_works_on_the_result() {
    let crew = Crew::applied();
    let script = r#"
        ROLE_ID=$(cat approle/user_db/role_id)
        SECRET_ID=$(cat approle/user_db/secret_id)
        VAULT_TOKEN=$(curl -s --request POST \
            --data "{\"role_id\":\"$ROLE_ID\",\"secret_id\":\"$SECRET_ID\"}" \
            $VAULT_ADDR/v1/auth/approle/login | jq -r .auth.client_token)
        VAULT_RESPONSE=$(curl -s --header "X-Vault-Token: $VAULT_TOKEN" $VAULT_ADDR/v1/secret/data/user_db)
        APP_USER=$(echo "$VAULT_RESPONSE" | jq -r .data.data.USER_DB_USER)
        APP_DB=$(echo "$VAULT_RESPONSE" | jq -r .data.data.USER_DB_NAME)
        echo "$APP_USER $APP_DB"
    "#;
    let mut shell = Command::new("sh");
    shell.args(["-ec", script]).current_dir(crew.path("")).env("VAULT_ADDR", crew.vault.addr());
    assert_eq!(run(&mut shell).success().stdout, "user_svc users\n");
}

#[test]
fn secrets_are_rendered_as_files_and_env_files() {
    let crew = Crew::applied();
    crew.prints_secrets();
    let mut render = crew.agent("render", "user_db");
    render.args([
        "--secret",
        "user_db",
        "--env-file",
        "out/user.env",
        "--format",
        "sh",
        "--files-dir",
        "out/files",
    ]);
    run(&mut render).success();
    assert_eq!(crew.read("out/files/USER_DB_PASSWORD"), PASSWORD);
    assert_eq!(fs::metadata(crew.path("out/user.env")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut shell = Command::new("sh");
    shell.args(["-ec", ". ./out/user.env; printf %s \"$USER_DB_PASSWORD\""]).current_dir(crew.path(""));
    assert_eq!(run(&mut shell).success().stdout, PASSWORD);

    // The token that did it is gone.
    let log = crew.vault.log();
    assert!(log.contains("revoked lease"), "{log}");
}

#[test]
fn the_command_keeps_its_exit_code_and_its_environment() {
    let crew = Crew::applied();
    crew.prints_secrets();
    let exec = |more: &[&str], script: &str| {
        let mut command = crew.agent("exec", "chat");
        command
            .args(["--secret", "chat"])
            .args(more)
            .args(["--", "sh", "-c", script])
            .env("CHAT_KEY", "set before");
        run(&mut command)
    };
    assert_eq!(exec(&[], "exit 7").code(), 7);
    assert_eq!(exec(&[], "kill -TERM $$").code(), 128 + 15);
    assert_eq!(exec(&[], "printf %s \"$CHAT_KEY\"").stdout, "set before");
    assert_eq!(exec(&["--overwrite-env"], "printf %s \"$CHAT_KEY\"").stdout, CHAT_KEY);
    assert_eq!(exec(&["--overwrite-env", "--no-env"], "printf %s \"$CHAT_KEY\"").stdout, "set before");
}

#[test]
fn what_bootstrap_did_not_make_stays_as_it_is() {
    let crew = Crew::new();
    crew.initialise();
    let root = crew.root_token();
    let ask = |method: &str, path: &str, body: Value| crew.vault.api(method, path, &root, &body);
    assert_eq!(ask("POST", "/v1/sys/auth/approle", json!({ "type": "approle" })).0, 204);
    let theirs = json!({ "policy": "path \"secret/data/theirs\" { capabilities = [\"read\"] }" });
    assert_eq!(ask("POST", "/v1/sys/policies/acl/chat-policy", theirs.clone()).0, 204);
    assert_eq!(
        ask(
            "POST",
            "/v1/auth/approle/role/chat",
            json!({ "token_policies": "chat-policy", "token_period": "24h" })
        )
        .0,
        204
    );
    let (_, secret_id) = ask("POST", "/v1/auth/approle/role/chat/secret-id", json!({}));

    // Nor does a second apply, which finds its own traces beside them, take them over.
    for round in 1..=2 {
        let applied = crew.apply().success();
        for kept in ["policy chat-policy: exists", "role chat: exists", "user lockout is on"] {
            assert!(applied.stderr.contains(kept), "round {round}, {kept} in {}", applied.stderr);
        }
        let policy = ask("GET", "/v1/sys/policies/acl/chat-policy", Value::Null).1;
        assert_eq!(policy["data"]["policy"], theirs["policy"], "round {round}");
        let role = ask("GET", "/v1/auth/approle/role/chat", Value::Null).1;
        assert_eq!(role["data"]["token_period"], 24 * 3600, "round {round}");
    }
    // Without their policy beside it, the role is no less theirs.
    assert_eq!(ask("DELETE", "/v1/sys/policies/acl/chat-policy", Value::Null).0, 204);
    for _ in 0..2 {
        crew.apply().success();
        let role = ask("GET", "/v1/auth/approle/role/chat", Value::Null).1;
        assert_eq!(role["data"]["token_period"], 24 * 3600);
    }
    let accessor = json!({ "secret_id_accessor": secret_id["data"]["secret_id_accessor"] });
    assert_eq!(ask("POST", "/v1/auth/approle/role/chat/secret-id-accessor/lookup", accessor).0, 200);

    run(crew.bootstrap("apply").arg("--overwrite")).success();
    assert_eq!(ask("GET", "/v1/auth/approle/role/chat", Value::Null).1["data"]["token_period"], 0);
}

#[test]
fn the_plan_shows_all_that_apply_does() {
    let crew = Crew::applied();
    let root = crew.root_token();
    let gone = |path: &str| assert_eq!(crew.vault.api("DELETE", path, &root, &Value::Null).0, 204);
    gone("/v1/sys/policies/acl/vaultcrew-bootstrap");
    gone("/v1/auth/approle/role/chat");
    fs::remove_dir_all(crew.path("approle/user")).unwrap();
    let plan = run(&mut crew.bootstrap("plan")).success();
    assert_eq!(
        plan.stdout,
        "+ role auth/approle/role/chat\n\
         ~ auth/vaultcrew/, the AppRole of bootstrap itself: policy\n\
         + credentials of chat\n\
         ~ credentials of user: there were none\n"
    );
    crew.apply().success();
    assert_eq!(run(&mut crew.bootstrap("plan")).success().stdout, "nothing to change\n");
}

#[test]
fn a_switch_is_set_by_what_people_write_into_its_variable() {
    let crew = Crew::applied();
    crew.prints_secrets();
    let exec = |value: &str| {
        let mut command = crew.agent("exec", "chat");
        command.env("VAULTCREW_OVERWRITE_ENV", value).env("CHAT_KEY", "set before");
        command.args(["--secret", "chat", "--", "sh", "-c", "printf %s \"$CHAT_KEY\""]);
        run(&mut command)
    };
    for on in ["1", "yes", "true", "on"] {
        assert_eq!(exec(on).success().stdout, CHAT_KEY, "{on}");
    }
    for off in ["0", "no", "false", ""] {
        assert_eq!(exec(off).success().stdout, "set before", "{off:?}");
    }
    assert_eq!(exec("perhaps").code(), 2);
}
