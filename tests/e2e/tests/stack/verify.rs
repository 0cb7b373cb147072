//! Least privilege, proven: exact after an apply, and every change by hand is named.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use harness::{Outcome, free_address, run};
use serde_json::{Value, json};

use crate::crew::{Crew, SOON, own_secret_policy, spawn};

fn verify(crew: &Crew, more: &[&str]) -> Outcome {
    let mut command = crew.bootstrap("verify");
    command.args(more);
    run(&mut command)
}

fn write_policy(crew: &Crew, service: &str, text: &str) {
    let path = format!("/v1/sys/policies/acl/{service}-policy");
    assert_eq!(crew.vault.api("POST", &path, &crew.root_token(), &json!({ "policy": text })).0, 204);
}

/// How many tokens there are: verify leaves none behind.
fn tokens(crew: &Crew) -> usize {
    let (_, answer) = crew.vault.api("LIST", "/v1/auth/token/accessors/", &crew.root_token(), &Value::Null);
    answer["data"]["keys"].as_array().map_or(0, Vec::len)
}

fn secret_ids(crew: &Crew, service: &str) -> usize {
    let path = format!("/v1/auth/approle/role/{service}/secret-id");
    let (_, answer) = crew.vault.api("LIST", &path, &crew.root_token(), &Value::Null);
    answer["data"]["keys"].as_array().map_or(0, Vec::len)
}

#[test]
fn what_apply_made_is_exact_and_no_trace_is_left() {
    let crew = Crew::applied();
    let before = (tokens(&crew), secret_ids(&crew, "chat"));
    let exact = verify(&crew, &[]).success();
    assert!(exact.stdout.starts_with("✓ chat     chat: read\n✓ user     user: read\n"), "{}", exact.stdout);
    assert!(exact.stdout.contains("each may do what its policy says, and nothing else"), "{}", exact.stdout);
    let report: Value = serde_json::from_str(&verify(&crew, &["--json"]).success().stdout).unwrap();
    assert_eq!((&report["exact"], report["services"].as_array().unwrap().len()), (&json!(true), 3));
    assert_eq!(report["services"][0]["granted"]["secret/data/chat"], json!(["read"]));
    assert_eq!((tokens(&crew), secret_ids(&crew, "chat")), before);
}

#[test]
fn a_policy_that_was_widened_or_narrowed_by_hand_is_named_by_service_and_path() {
    let crew = Crew::applied();
    let wide = own_secret_policy("chat") + "path \"secret/data/user_db\" { capabilities = [\"read\"] }";
    write_policy(&crew, "chat", &wide);
    write_policy(&crew, "user", "path \"secret/data/elsewhere\" { capabilities = [\"read\"] }");
    let found = verify(&crew, &[]).expect_code(1);
    for line in [
        "✗ chat: secret/data/user_db: expected nothing, found read; in Vault, the policy chat-policy",
        "✗ user: secret/data/user: expected read, found nothing; ",
        // Of a path that no file names.
        "✗ user: secret/data/elsewhere: expected nothing, found read; ",
        "2 deviating",
    ] {
        assert!(found.stdout.contains(line), "{line} in {}", found.stdout);
    }
    assert!(!found.stdout.contains("✗ user_db"), "{}", found.stdout);
    assert_eq!(found.stdout.matches("expected").count(), 3, "{}", found.stdout);
    // What it says to do mends it.
    run(crew.bootstrap("apply").arg("--overwrite")).success();
    verify(&crew, &["--json"]).success();
}

/// Of rules with a `+` the server tells nothing but what it answers for the paths that it is asked about.
#[test]
fn what_was_widened_by_a_plus_is_found_too() {
    let crew = Crew::applied();
    for (rule, path) in [
        ("secret/+/user_db", "secret/data/user_db"),
        ("+/+/+", "secret/data/any-other"),
        ("secret/data/+", "secret/data/user"),
        ("auth/+/role/+/secret-id", "auth/approle/role/chat/secret-id"),
        ("sys/+/acl/+", "sys/policies/acl/chat-policy"),
    ] {
        let wide = own_secret_policy("chat") + &format!("path \"{rule}\" {{ capabilities = [\"update\"] }}");
        write_policy(&crew, "chat", &wide);
        let found = verify(&crew, &[]).expect_code(1);
        let line = format!("✗ chat: {path}: expected nothing, found update");
        assert!(found.stdout.contains(&line), "{rule}: {}", found.stdout);
    }
    // One that the file has is as expected.
    let plus = own_secret_policy("chat") + "path \"secret/+/user_db\" { capabilities = [\"list\"] }";
    crew.write_policy("chat", &plus);
    write_policy(&crew, "chat", &plus);
    verify(&crew, &[]).success();
}

#[test]
fn a_policy_that_the_role_got_besides_is_named() {
    let crew = Crew::applied();
    write_policy(&crew, "admin", "path \"sys/seal\" { capabilities = [\"update\", \"sudo\"] }");
    let more = json!({ "token_policies": "chat-policy,admin-policy" });
    assert_eq!(crew.vault.api("POST", "/v1/auth/approle/role/chat", &crew.root_token(), &more).0, 204);
    let found = verify(&crew, &[]).expect_code(1);
    assert!(found.stdout.contains("✗ chat: its token carries the policy admin-policy"), "{}", found.stdout);
    assert!(found.stdout.contains("sys/seal: expected nothing, found update, sudo"), "{}", found.stdout);
}

#[test]
fn what_cannot_be_verified_is_told_for_that_service_alone() {
    let crew = Crew::applied();
    fs::remove_dir_all(crew.path("approle/chat")).unwrap();
    let missing = verify(&crew, &[]).expect_code(78);
    assert!(missing.stdout.contains("? chat     not verified\n✓ user "), "{}", missing.stdout);
    assert!(missing.stdout.contains("? chat: there are no credentials to log in with"), "{}", missing.stdout);
    assert_eq!(secret_ids(&crew, "chat"), 1, "verify issued one");
    crew.apply().success();

    crew.write_policy("user", "path \"secret/data/user\" {\n  capabilities : [\"read\"]\n}\n");
    let unread = verify(&crew, &[]).expect_code(78);
    assert!(
        unread.stdout.contains("policies/user-policy.hcl: what it grants cannot be told: line 2"),
        "{}",
        unread.stdout
    );
    crew.write_policy("user", &own_secret_policy("user"));

    // Refused credentials are sent once: four more would lock the role where the lockout is on.
    let path = "/v1/auth/approle/role/chat/secret-id-accessor/destroy";
    let accessor = json!({ "secret_id_accessor": crew.read("approle/chat/accessor") });
    assert_eq!(crew.vault.api("POST", path, &crew.root_token(), &accessor).0, 204);
    let refused = verify(&crew, &[]).expect_code(77);
    assert!(refused.stdout.contains("? chat: it cannot log in"), "{}", refused.stdout);

    crew.vault.seal(&crew.root_token());
    let sealed = verify(&crew, &["--wait", "1s"]).expect_code(69);
    assert!(sealed.stderr.contains("Vault is sealed") && sealed.stdout.is_empty(), "{}", sealed.stderr);
}

/// A server that lets everybody in and never says what they may do; tells the paths that it is asked for.
fn server_that_hangs() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind(free_address().unwrap()).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                request.extend(byte);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match path.as_str() {
                "/v1/auth/token/lookup-self" => (403, "{}"),
                "/v1/auth/approle/login" => {
                    (200, r#"{"auth":{"client_token":"s.one","lease_duration":60,"renewable":true}}"#)
                }
                "/v1/sys/capabilities-self" => {
                    held.push(stream);
                    let _ = tell.send(path);
                    continue;
                }
                _ => (200, "{}"),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            // What was sent with the request is read, so that the answer is not cut off.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
            let _ = stream.read(&mut [0; 4096]);
            let _ = tell.send(path);
        }
    });
    (address, told)
}

#[test]
fn a_stop_revokes_what_was_logged_in() {
    let crew = Crew::applied();
    let (address, told) = server_that_hangs();
    let mut command = crew.bootstrap("verify");
    command.env("VAULT_ADDR", address);
    let verify = spawn(command);
    let mut asked = Vec::new();
    let mut wait_for = |path: &str, times: usize| {
        while asked.iter().filter(|asked: &&String| asked.as_str() == path).count() < times {
            asked.push(told.recv_timeout(SOON).unwrap_or_else(|_| panic!("not asked for {path}: {asked:?}")));
        }
    };
    wait_for("/v1/sys/capabilities-self", 3);
    assert_eq!(verify.terminate().code(), 143);
    wait_for("/v1/auth/token/revoke-self", 3);
    assert_eq!(asked.iter().filter(|asked| asked.ends_with("/login")).count(), 3);
}

#[test]
fn access_is_shown_from_the_files_alone() {
    let mut crew = Crew::new();
    crew.vault.stop();
    crew.write_policy("chat", &(own_secret_policy("chat") + &own_secret_policy("user")));
    let access = |format: &str| {
        let mut command = crew.programs.bootstrap();
        run(command.current_dir(crew.path("")).args(["access", "--format", format])).success().stdout
    };
    assert!(
        access("text")
            .starts_with("chat may\n  read chat     CHAT_KEY\n  read user     USER_SESSION_HOURS\n")
    );
    let page = access("html");
    assert_eq!(page, access("html"));
    for outside in ["http", "<script", "url(", "@import", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    let report: Value = serde_json::from_str(&access("json")).unwrap();
    assert_eq!(report["secrets"][1]["readers"], json!(["chat", "user"]));
}
