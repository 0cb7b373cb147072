//! What bootstrap made goes when the files drop it and somebody asks; nothing else ever does.

use std::fs;

use harness::run;
use serde_json::{Value, json};

use crate::crew::Crew;

/// A stack that no longer declares `chat`, which it did before.
fn without_chat() -> Crew {
    let crew = Crew::applied();
    drop_chat(&crew);
    crew
}

fn drop_chat(crew: &Crew) {
    fs::remove_file(crew.path("policies/chat-policy.hcl")).unwrap();
    let env = crew.read(".env");
    let rest: Vec<&str> = env.lines().filter(|line| !line.starts_with("CHAT_")).collect();
    crew.write_env(&(rest.join("\n") + "\n"));
}

fn status(crew: &Crew, path: &str) -> u16 {
    crew.vault.api("GET", path, &crew.root_token(), &Value::Null).0
}

fn plan(crew: &Crew, flags: &[&str]) -> String {
    run(crew.bootstrap("plan").args(flags)).success().stdout
}

#[test]
fn what_the_files_drop_is_told_shown_and_removed_when_asked() {
    let crew = without_chat();
    let own_policy = || {
        let path = "/v1/sys/policies/acl/vaultcrew-bootstrap";
        crew.vault.api("GET", path, &crew.root_token(), &Value::Null).1["data"]["policy"].to_string()
    };
    let left_over = "! chat: no policy file declares it any more, and left over are: role auth/approle/role/chat, \
                     credentials of chat, policy chat-policy; --prune removes them\n";
    let secret_stays = "! secret secret/chat: no policy file declares its service any more, and it stays; --prune \
                        --prune-secrets removes every version of it, for good\n";
    assert_eq!(
        plan(&crew, &[]),
        format!("{left_over}{secret_stays}~ auth/vaultcrew/, the AppRole of bootstrap itself: policy\n")
    );
    let applied = crew.apply().success();
    assert!(applied.stderr.contains(left_over.trim_end()), "{}", applied.stderr);
    assert_eq!(status(&crew, "/v1/auth/approle/role/chat"), 200);
    assert!(!own_policy().contains("role/chat/"), "{}", own_policy());

    let removals = "- role auth/approle/role/chat\n- credentials of chat\n- policy chat-policy\n";
    assert_eq!(plan(&crew, &["--prune"]), format!("{removals}{secret_stays}"));
    run(crew.bootstrap("apply").arg("--prune")).success();
    assert_eq!(status(&crew, "/v1/auth/approle/role/chat"), 404);
    assert_eq!(status(&crew, "/v1/sys/policies/acl/chat-policy"), 404);
    assert!(!crew.path("approle/chat").exists());
    assert_eq!(status(&crew, "/v1/secret/data/chat"), 200);

    assert_eq!(plan(&crew, &["--prune"]), format!("{secret_stays}nothing to change\n"));
    let twice = ["--prune", "--prune-secrets"];
    assert_eq!(plan(&crew, &twice), "- secret secret/chat: every version, for good\n");
    run(crew.bootstrap("apply").args(twice)).success();
    assert_eq!(status(&crew, "/v1/secret/metadata/chat"), 404);
    assert_eq!(plan(&crew, &twice), "nothing to change\n");
    for service in ["user", "user_db"] {
        assert_eq!(status(&crew, &format!("/v1/secret/data/{service}")), 200);
        assert_eq!(status(&crew, &format!("/v1/auth/approle/role/{service}")), 200);
    }
    run(crew.bootstrap("apply").arg("--prune-secrets")).expect_code(2);
}

#[test]
fn what_carries_no_mark_is_never_removed() {
    let crew = Crew::new();
    crew.initialise();
    let root = crew.root_token();
    let post =
        |path: &str, body: Value| assert!(crew.vault.api("POST", path, &root, &body).0 < 300, "{path}");
    post("/v1/sys/auth/approle", json!({ "type": "approle" }));
    // A role that was there before its service had a policy, and things that look like a service's.
    post("/v1/auth/approle/role/chat", json!({ "token_period": "24h" }));
    post("/v1/auth/approle/role/theirs", json!({}));
    post("/v1/sys/policies/acl/theirs-policy", json!({ "policy": "# theirs" }));
    crew.apply().success();
    post("/v1/secret/data/theirs", json!({ "data": { "K": "v" } }));
    crew.write("approle/theirs/role_id", "theirs");
    drop_chat(&crew);
    crew.apply().success();

    assert!(!plan(&crew, &["--prune"]).contains("role/chat"), "a role of somebody else's is to be removed");
    run(crew.bootstrap("apply").args(["--prune", "--prune-secrets"])).success();
    assert_eq!(status(&crew, "/v1/sys/policies/acl/chat-policy"), 404);
    for theirs in [
        "/v1/auth/approle/role/chat",
        "/v1/auth/approle/role/theirs",
        "/v1/sys/policies/acl/theirs-policy",
        "/v1/sys/policies/acl/default",
        "/v1/secret/data/theirs",
    ] {
        assert_eq!(status(&crew, theirs), 200, "{theirs}");
    }
    assert_eq!(crew.read("approle/theirs/role_id"), "theirs");
}
