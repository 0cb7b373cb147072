//! An apply that is killed anywhere is finished by the next, and two at once harm nobody.

use harness::{Call, Fault, Outcome, run, run_hurt};
use serde_json::{Value, json};

use crate::crew::{Crew, SOON};

const SHARED: &str = "[keys]\n\"USER_DB_*\" = [\"user\", \"user_db\"]\n[generate]\nUSER_DB_PASSWORD = {}\n";

/// A stack whose services share a generated value, on a Vault that holds nothing.
fn sharing() -> Crew {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", SHARED);
    crew.write_env(&env("canary-first"));
    crew.initialise();
    crew
}

fn env(chat_key: &str) -> String {
    format!("USER_DB_USER=user_svc\nUSER_DB_NAME=users\nUSER_SESSION_HOURS=12\nCHAT_KEY={chat_key}\n")
}

fn get(crew: &Crew, path: &str) -> Value {
    let (status, answer) = crew.vault.api("GET", path, &crew.root_token(), &Value::Null);
    assert_eq!(status, 200, "{path}");
    answer["data"].clone()
}

fn secret(crew: &Crew, service: &str) -> Value {
    get(crew, &format!("/v1/secret/data/{service}"))["data"].clone()
}

/// Everything that an apply is to make, as far as it is not random; what is random is checked.
fn state(crew: &Crew) -> Value {
    let mut state = json!({ "own": get(crew, "/v1/sys/policies/acl/vaultcrew-bootstrap")["policy"] });
    for service in ["user", "user_db", "chat"] {
        let mut values = secret(crew, service);
        if let Some(password) = values.get_mut("USER_DB_PASSWORD") {
            assert_eq!(password.as_str().map(str::len), Some(32));
            *password = Value::Null;
        }
        let role_id = get(crew, &format!("/v1/auth/approle/role/{service}/role-id"))["role_id"].clone();
        assert_eq!(crew.read(&format!("approle/{service}/role_id")), role_id);
        let accessor = json!({ "secret_id_accessor": crew.read(&format!("approle/{service}/accessor")) });
        let look_up = format!("/v1/auth/approle/role/{service}/secret-id-accessor/lookup");
        assert_eq!(crew.vault.api("POST", &look_up, &crew.root_token(), &accessor).0, 200);
        state[service] = json!({
            "policy": get(crew, &format!("/v1/sys/policies/acl/{service}-policy"))["policy"],
            "role": get(crew, &format!("/v1/auth/approle/role/{service}")),
            "values": values,
        });
        let metadata = get(crew, &format!("/v1/secret/metadata/{service}"));
        let noted = &metadata["custom_metadata"]["vaultcrew-applied-version"];
        assert_eq!(noted.as_str().unwrap(), metadata["current_version"].to_string());
        assert_eq!(metadata["custom_metadata"].as_object().unwrap().len(), 1, "{metadata}");
    }
    assert_eq!(secret(crew, "user")["USER_DB_PASSWORD"], secret(crew, "user_db")["USER_DB_PASSWORD"]);
    state
}

/// Every `step`th request from the `first` on.
fn every_kill_is_finished(first: usize, step: usize) {
    let whole = sharing();
    whole.write_env(&env("canary-second"));
    whole.apply().success();
    let expected = state(&whole);
    for number in (first..).step_by(step) {
        let crew = sharing();
        let request = Call::nth("writev", number);
        let was_killed = run_hurt(&crew.bootstrap("apply"), &request, Fault::KillBefore).was_hit;
        // What the files say by then is nothing that somebody changed in Vault.
        crew.write_env(&env("canary-second"));
        let next = crew.apply().success();
        assert!(!next.stderr.contains("differs in Vault"), "request {number}: {}", next.stderr);
        assert_eq!(state(&crew), expected, "request {number}");
        let third = crew.apply().success();
        assert_eq!(third.stdout, "nothing to change: 3 services\n", "request {number}: {}", third.stderr);
        if !was_killed {
            assert!(number > 30, "an apply makes more requests than {number}");
            break;
        }
    }
}

#[test]
fn a_kill_before_any_request_is_finished() {
    every_kill_is_finished(1, 3);
}

#[test]
fn a_kill_before_any_other_request_is_finished() {
    every_kill_is_finished(2, 3);
}

#[test]
fn a_kill_before_the_rest_of_the_requests_is_finished() {
    every_kill_is_finished(3, 3);
}

/// Two applies with other values each, at once; `apart` as from two hosts, which share nothing but Vault.
fn two_at_once(crew: &Crew, apart: bool) -> [Outcome; 2] {
    let running = ["one", "two"].map(|host| {
        crew.write_private(&format!("{host}.env"), &env(&format!("canary-{host}")));
        let mut apply = crew.bootstrap("apply");
        apply.args(["--env-file", &format!("{host}.env")]);
        if apart {
            apply.args([
                "--state-dir",
                &format!("state-{host}"),
                "--approle-dir",
                &format!("approle-{host}"),
            ]);
        }
        harness::spawn(&mut apply)
    });
    running.map(|apply| apply.wait(SOON))
}

#[test]
fn of_two_at_once_on_a_host_one_waits() {
    for _ in 0..5 {
        let crew = sharing();
        let outcomes = two_at_once(&crew, false);
        for outcome in &outcomes {
            assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
            assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
        }
        // Who came second found the other's work done, and changed one value.
        let versions = get(&crew, "/v1/secret/metadata/chat")["current_version"].clone();
        assert_eq!(
            (versions, get(&crew, "/v1/secret/metadata/user")["current_version"].clone()),
            (2.into(), 1.into())
        );
        crew.apply().success();
        assert_eq!(secret(&crew, "chat")["CHAT_KEY"], "canary-first");
        let _ = state(&crew);
        assert_eq!(crew.apply().success().stdout, "nothing to change: 3 services\n");
    }
}

#[test]
fn two_at_once_from_two_hosts_agree_or_say_so() {
    for _ in 0..8 {
        let crew = sharing();
        let outcomes = two_at_once(&crew, true);
        for outcome in &outcomes {
            let is_clear = outcome.stderr.contains("is being changed by somebody else at this moment");
            assert!(outcome.code() == 0 || (outcome.code() == 1 && is_clear), "{}", outcome.stderr);
        }
        assert!(outcomes.iter().any(|outcome| outcome.code() == 0));
        // Whoever was slower keeps what is there, whole, and the shared value is one.
        let kept = secret(&crew, "chat")["CHAT_KEY"].clone();
        assert!(kept == "canary-one" || kept == "canary-two", "{kept}");
        let password = secret(&crew, "user")["USER_DB_PASSWORD"].clone();
        assert_eq!(password, secret(&crew, "user_db")["USER_DB_PASSWORD"]);
        for host in ["one", "two"] {
            let again = |flag: &[&str]| {
                let mut apply = crew.bootstrap("apply");
                apply.args(["--env-file", &format!("{host}.env"), "--state-dir", &format!("state-{host}")]);
                run(apply.args(["--approle-dir", &format!("approle-{host}")]).args(flag)).success()
            };
            again(&["--overwrite"]);
            assert_eq!(again(&[]).stdout, "nothing to change: 3 services\n");
            assert_eq!(secret(&crew, "chat")["CHAT_KEY"], format!("canary-{host}"));
        }
        assert_eq!(password, secret(&crew, "user")["USER_DB_PASSWORD"]);
    }
}

#[test]
fn an_apply_that_waits_for_another_says_so_and_gives_up() {
    let crew = Crew::applied();
    let state = std::fs::File::open(crew.path("state")).unwrap();
    state.lock().unwrap();
    let locked = run(crew.bootstrap("apply").args(["--wait", "1s"])).expect_code(1);
    assert!(locked.stderr.contains("waiting for another bootstrap"), "{}", locked.stderr);
    assert!(locked.stderr.contains("another bootstrap is applying with state"), "{}", locked.stderr);
    // To look harms nobody.
    assert_eq!(run(&mut crew.bootstrap("plan")).success().stdout, "nothing to change\n");
}
