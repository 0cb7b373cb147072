//! A stack of many services: bootstrap's own policy comes in parts, each with a token of its own.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use harness::{run, wait_until};
use serde_json::{Value, json};

use crate::crew::{Crew, SOON, own_secret_policy, spawn};

/// More than one policy takes.
const MANY: usize = 70;

fn service(number: usize) -> String {
    format!("s{number}")
}

fn own_policies(crew: &Crew) -> BTreeSet<String> {
    let role = "/v1/auth/vaultcrew/role/bootstrap";
    let (_, role) = crew.vault.api("GET", role, &crew.root_token(), &Value::Null);
    let names = role["data"]["token_policies"].as_array().cloned().unwrap_or_default();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn policies_in_vault(crew: &Crew) -> BTreeSet<String> {
    let (_, list) = crew.vault.api("LIST", "/v1/sys/policies/acl", &crew.root_token(), &Value::Null);
    let names = list["data"]["keys"].as_array().unwrap().iter();
    let names = names.map(|name| name.as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("vaultcrew-bootstrap")).collect()
}

fn of_many() -> Crew {
    let crew = Crew::new();
    let mut env = String::new();
    for number in 0..MANY {
        crew.write_policy(&service(number), &own_secret_policy(&service(number)));
        writeln!(env, "S{number}_KEY=canary-of-{number}").unwrap();
    }
    crew.write_env(&(crew.read(".env") + &env));
    crew.write("vaultcrew.toml", "[defaults]\nsecret_id_ttl = \"16s\"\ntoken_ttl = \"10s\"\n");
    crew.initialise();
    crew.apply().success();
    crew
}

/// Root goes, and everybody gets new credentials all the same; gives the log.
fn all_are_kept_fresh_without_root(crew: &Crew) -> String {
    let root = crew.root_token();
    assert_eq!(crew.vault.api("POST", "/v1/auth/token/revoke-self", &root, &Value::Null).0, 204);
    fs::remove_file(crew.path("root/root-token")).unwrap();
    let mut bootstrap = crew.bootstrap("run");
    bootstrap.args(["--log-level", "debug"]);
    let mut bootstrap = spawn(bootstrap);
    bootstrap.wait_for_log("logged in by AppRole", SOON);
    let accessor = |number| fs::read(crew.path(&format!("approle/{}/accessor", service(number)))).unwrap();
    let first: Vec<_> = (0..MANY).map(accessor).collect();
    assert!(wait_until(SOON * 2, || (0..MANY).all(|number| accessor(number) != first[number])));
    assert!(wait_until(Duration::from_secs(5), || crew.health().code() == 0), "{}", bootstrap.log());
    assert!((0..MANY).all(|number| crew.login(&service(number)) == 200));
    bootstrap.terminate().stderr
}

#[test]
fn the_own_policy_of_many_services_is_divided_and_suffices() {
    let crew = of_many();
    let parts = own_policies(&crew);
    assert!((10..=17).contains(&parts.len()), "{parts:?}");
    assert_eq!(policies_in_vault(&crew), parts);
    assert!(run(&mut crew.bootstrap("plan")).success().stdout.contains("nothing to change"));

    // Fewer: what was a part goes, and one policy is left.
    let away = crew.path("away");
    fs::create_dir(&away).unwrap();
    let file = |number| format!("{}-policy.hcl", service(number));
    let rename = |from: &str, to: &str| {
        for number in 0..MANY / 2 {
            let path = |directory: &str| crew.path(directory).join(file(number));
            fs::rename(path(from), path(to)).unwrap();
        }
    };
    rename("policies", "away");
    crew.apply().success();
    assert_eq!(own_policies(&crew), BTreeSet::from(["vaultcrew-bootstrap".to_owned()]));
    assert_eq!(policies_in_vault(&crew), own_policies(&crew));
    rename("away", "policies");
    crew.apply().success();
    assert_eq!(policies_in_vault(&crew), parts);

    // Root is gone, and all are given new credentials again and again by the parts' tokens alone.
    let log = all_are_kept_fresh_without_root(&crew);
    for trouble in ["trying again", "ERROR", "there is no token for a part"] {
        assert!(!log.contains(trouble), "{log}");
    }
}

/// As an earlier version left it, and as it is until the next apply.
#[test]
fn an_own_policy_that_is_not_divided_suffices_too() {
    let crew = of_many();
    let root = crew.root_token();
    let policy = |name: &str| format!("/v1/sys/policies/acl/{name}");
    let text = |name: &String| {
        let (_, found) = crew.vault.api("GET", &policy(name), &root, &Value::Null);
        found["data"]["policy"].as_str().unwrap().to_owned()
    };
    let whole: String = own_policies(&crew).iter().map(text).collect();
    // Earlier versions had no use for tokens below their own.
    let whole = whole.replace("auth/token/create", "auth/token/lookup-self");
    let done = |method, path: &str, body: &Value| {
        assert_eq!(crew.vault.api(method, path, &root, body).0, 204, "{path}");
    };
    done("POST", &policy("vaultcrew-bootstrap"), &json!({ "policy": whole }));
    let role = json!({ "token_policies": ["vaultcrew-bootstrap"] });
    done("POST", "/v1/auth/vaultcrew/role/bootstrap", &role);
    let log = all_are_kept_fresh_without_root(&crew);
    assert!(log.contains("there is no token for a part") && !log.contains("trying again"), "{log}");
}
