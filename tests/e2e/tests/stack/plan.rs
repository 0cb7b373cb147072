//! Each line that `bootstrap plan` has, as its readers see it, kept in `tests/plan/`. After a wanted change:
//! `TRYCMD=overwrite`, as for the command line. What only HashiCorp Vault makes it say stands in `audit.rs` of bootstrap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use harness::{Vault, run, wait_until};
use serde_json::{Value, json};

use crate::crew::{Crew, own_secret_policy};

/// What root does by hand.
struct Root<'a> {
    vault: &'a Vault,
    token: String,
}

impl<'a> Root<'a> {
    fn of(crew: &'a Crew) -> Self {
        Self { vault: &crew.vault, token: crew.root_token() }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.vault.api("POST", &format!("/v1/{path}"), &self.token, body);
        assert!(status < 300, "{path}: {answer}");
        answer
    }

    fn get(&self, path: &str) -> Value {
        self.vault.api("GET", &format!("/v1/{path}"), &self.token, &Value::Null).1["data"].clone()
    }
}

fn plan(crew: &Crew, flags: &[&str]) -> String {
    run(crew.bootstrap("plan").args(flags)).success().stdout
}

/// Compares with the file of this name.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plan/{name}.txt"));
    #[expect(clippy::disallowed_methods, reason = "as trycmd reads it, which is a test's own setting")]
    if std::env::var("TRYCMD").is_ok_and(|mode| mode == "overwrite") {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, golden, "{}", path.display());
}

/// Whatever there is to be made, and nothing to be done behind it.
#[test]
fn a_new_stack_is_all_additions() {
    let crew = Crew::new();
    crew.initialise();
    crew.write("vaultcrew.toml", "[generate]\nCHAT_TOKEN = {}\n");
    crew.write_env(&(crew.read(".env") + "TZ=UTC\n"));
    assert_golden("new", &plan(&crew, &[]));
    crew.apply().success();
    assert_golden("applied", &plan(&crew, &[]));
}

#[test]
fn what_was_there_before_is_respected_and_shown() {
    let crew = Crew::with(Vault::start());
    crew.initialise();
    let root = Root::of(&crew);
    root.post("sys/auth/approle", &json!({ "type": "approle" }));
    root.post("sys/mounts/secret", &json!({ "type": "kv", "options": { "version": "2" } }));
    root.post("auth/approle/role/user", &json!({ "token_period": "24h" }));
    root.post("sys/policies/acl/user-policy", &json!({ "policy": "# theirs" }));
    let write = |service: &str, data: Value| {
        let path = format!("/v1/secret/data/{service}");
        let body = json!({ "data": data });
        // A new mount refuses writes for a moment.
        let written = || crew.vault.api("POST", &path, &root.token, &body).0 == 200;
        assert!(wait_until(Duration::from_secs(20), written), "{service}");
    };
    write("user", json!({ "USER_SESSION_HOURS": "12", "THEIRS": "x" }));
    write("chat", json!({ "CHAT_KEY": "canary-of-their-own" }));
    assert_golden("adopted", &plan(&crew, &[]));
    assert_golden("adopted-overwrite", &plan(&crew, &["--overwrite"]));
}

#[test]
fn drift_is_told_and_what_the_files_changed() {
    let crew = Crew::applied();
    let root = Root::of(&crew);
    let policy = root.get("sys/policies/acl/user-policy")["policy"].as_str().unwrap().to_owned();
    let widened = policy + "path \"secret/data/chat\" { capabilities = [\"read\"] }\n";
    root.post("sys/policies/acl/user-policy", &json!({ "policy": widened }));
    root.post("sys/policies/acl/chat-policy", &json!({ "policy": "# theirs" }));
    root.post("auth/approle/role/user_db", &json!({ "token_ttl": "10m", "token_policies": ["root-of-all"] }));
    root.post("auth/approle/role/user/role-id", &json!({ "role_id": "chosen-by-hand" }));
    root.post("auth/vaultcrew/role/bootstrap", &json!({ "token_num_uses": 3 }));
    for mount in ["approle", "vaultcrew"] {
        let lockout = json!({ "user_lockout_config": { "lockout_disable": false } });
        root.post(&format!("sys/auth/{mount}/tune"), &lockout);
    }
    let accessor = json!({ "secret_id_accessor": crew.read("approle/user_db/accessor") });
    root.post("auth/approle/role/user_db/secret-id-accessor/destroy", &accessor);
    fs::remove_dir_all(crew.path("approle/chat")).unwrap();
    let mut values = root.get("secret/data/user_db")["data"].clone();
    values["USER_DB_NAME"] = "changed-by-hand".into();
    values["USER_DB_PASSWORD"] = "canary-changed-by-hand".into();
    root.post("secret/data/user_db", &json!({ "data": values }));
    crew.write("vaultcrew.toml", "[generate]\nCHAT_TOKEN = {}\n");
    crew.write_env(
        "USER_DB_USER=renamed\nUSER_DB_PASSWORD=canary-changed-in-the-files\nUSER_DB_NAME=users\n\
         CHAT_KEY=canary-chat-changed\nUSER_NEW=1\n",
    );
    assert_golden("drift", &plan(&crew, &[]));
    assert_golden("drift-overwrite", &plan(&crew, &["--overwrite"]));
}

#[test]
fn a_secret_id_is_replaced_when_half_of_its_life_is_over() {
    let crew = Crew::new();
    crew.initialise();
    crew.write("vaultcrew.toml", "[services.chat]\nsecret_id_ttl = \"16s\"\n");
    crew.apply().success();
    let mut last = String::new();
    let is_due = || {
        last = plan(&crew, &[]);
        last.contains("half")
    };
    assert!(wait_until(Duration::from_secs(30), is_due), "{last}");
    assert_golden("half-over", &last);
}

#[test]
fn what_the_files_drop_is_left_over_until_it_is_pruned() {
    let crew = Crew::new();
    // In JSON the mark stands behind the text.
    crew.write_policy("chat", r#"{"path": {"secret/data/chat": {"capabilities": ["read"]}}}"#);
    crew.initialise();
    crew.apply().success();
    assert_eq!(plan(&crew, &[]), "nothing to change\n");
    fs::remove_file(crew.path("policies/chat-policy.hcl")).unwrap();
    let env = crew.read(".env");
    let rest: Vec<&str> = env.lines().filter(|line| !line.starts_with("CHAT_")).collect();
    crew.write_env(&(rest.join("\n") + "\n"));
    assert_golden("leftover", &plan(&crew, &[]));
    assert_golden("leftover-prune", &plan(&crew, &["--prune"]));
    assert_golden("leftover-prune-secrets", &plan(&crew, &["--prune", "--prune-secrets"]));
}

#[test]
fn of_two_stacks_neither_takes_what_is_the_others_for_left_over() {
    let crew = Crew::new();
    crew.initialise();
    // As one of before there were names.
    crew.apply().success();
    crew.write("vaultcrew.toml", "stack = \"blue\"\n");
    assert_golden("stack-named", &plan(&crew, &[]));
    crew.apply().success();
    assert_eq!(plan(&crew, &[]), "nothing to change\n");

    crew.write("green/vaultcrew.toml", "stack = \"green\"\n");
    crew.write("green/.env", "SHOP_KEY=canary-of-the-shop\n");
    crew.write("green/policies/shop-policy.hcl", &own_secret_policy("shop"));
    symlink("../root", crew.path("green/root")).unwrap();
    let green = |subcommand: &str, flags: &[&str]| {
        run(crew.bootstrap(subcommand).args(flags).current_dir(crew.path("green")))
    };
    let everything = ["--prune", "--prune-secrets"];
    assert_golden("stack-second", &green("plan", &everything).success().stdout);
    green("apply", &everything).success();
    for flags in [&[][..], &everything] {
        assert_eq!(plan(&crew, flags), "nothing to change\n");
        assert_eq!(green("plan", flags).success().stdout, "nothing to change\n");
    }

    // A service has one stack, unless somebody wants it otherwise.
    crew.write("green/policies/chat-policy.hcl", &own_secret_policy("chat"));
    crew.write("green/.env", "SHOP_KEY=canary-of-the-shop\nCHAT_KEY=canary-of-another-chat\n");
    let refused = green("apply", &[]).expect_code(78);
    assert!(
        refused.stderr.contains(
            "the service chat is of the stack blue in this Vault; a service has one stack: choose another name, or take \
             it over by --overwrite"
        ),
        "{}",
        refused.stderr
    );
    assert_golden("stack-overwrite", &green("plan", &["--overwrite"]).success().stdout);
    // One without a name takes no named one's things either.
    crew.write("green/vaultcrew.toml", "");
    fs::remove_file(crew.path("green/policies/chat-policy.hcl")).unwrap();
    let unnamed = green("plan", &everything).expect_code(78);
    assert!(unnamed.stderr.contains("the service shop is of the stack green"), "{}", unnamed.stderr);

    // What a stack drops is its own to prune.
    fs::remove_file(crew.path("green/policies/shop-policy.hcl")).unwrap();
    crew.write("green/policies/mail-policy.hcl", &own_secret_policy("mail"));
    crew.write("green/vaultcrew.toml", "stack = \"green\"\n");
    crew.write("green/.env", "MAIL_KEY=canary-of-the-mail\n");
    assert_golden("stack-prune", &green("plan", &everything).success().stdout);
    green("apply", &everything).success();
    assert_eq!(plan(&crew, &everything), "nothing to change\n");
}
