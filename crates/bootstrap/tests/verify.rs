//! `verify` against a server that answers as told: no panic, a clear end, one login, and the token revoked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use agent_runtime::{Exit, Failure as _, Shutdown};
use bootstrap::Args;
use clap::Parser as _;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

async fn on(server: &MockServer, at: &str, answer: ResponseTemplate) {
    Mock::given(path(at)).respond_with(answer).mount(server).await;
}

fn errors(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "errors": ["no"] }))
}

/// How `verify` of one service ends, and how often it logged in and revoked.
async fn verified(login: ResponseTemplate, answer: ResponseTemplate) -> (Exit, usize, usize) {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let policy = "path \"secret/data/user\" { capabilities = [\"read\"] }";
    for (name, content) in
        [("policies/user-policy.hcl", policy), ("approle/user/role_id", "r"), ("approle/user/secret_id", "s")]
    {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    on(&server, "/v1/auth/token/lookup-self", errors(403)).await;
    on(&server, "/v1/auth/approle/login", login).await;
    on(&server, "/v1/sys/capabilities-self", answer).await;
    on(&server, "/v1/auth/token/revoke-self", ResponseTemplate::new(204)).await;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let args = Args::try_parse_from([
        "bootstrap".to_owned(),
        format!("--vault-addr={}", server.uri()),
        "verify".to_owned(),
        format!("--policies-dir={}", at("policies")),
        format!("--approle-dir={}", at("approle")),
        "--wait=1s".to_owned(),
    ]);
    let exit = match bootstrap::run(args.unwrap(), Shutdown::never()).await {
        Ok(exit) => exit,
        Err(error) => error.exit(),
    };
    let requests = server.received_requests().await.unwrap();
    let count = |at: &str| requests.iter().filter(|request| request.url.path() == at).count();
    (exit, count("/v1/auth/approle/login"), count("/v1/auth/token/revoke-self"))
}

fn granted() -> ResponseTemplate {
    let auth = json!({ "client_token": "s.one", "lease_duration": 3600, "renewable": true, "policies": ["default", "user-policy"] });
    ResponseTemplate::new(200).set_body_json(json!({ "auth": auth }))
}

#[tokio::test]
async fn whatever_is_answered_the_token_is_revoked() {
    let body = |text: &str| ResponseTemplate::new(200).set_body_raw(text, "application/json");
    for (answer, exit) in [
        (errors(403), Exit::Denied),
        (errors(500), Exit::Unavailable),
        (errors(400), Exit::Failed),
        (body("{\"data\": {\"secret/data/us"), Exit::Failed),
        (body("{\"data\": {\"secret/data/user\": [\"read\"]}}"), Exit::Failed),
        (body("{\"data\": 7}"), Exit::Failed),
    ] {
        assert_eq!(verified(granted(), answer).await, (exit, 1, 1));
    }
}

#[tokio::test]
async fn a_login_that_fails_is_not_tried_again() {
    for (login, exit) in [
        (errors(400), Exit::Denied),
        (errors(403), Exit::Denied),
        (errors(500), Exit::Unavailable),
        (ResponseTemplate::new(200).set_body_raw("{\"auth\": {}}", "application/json"), Exit::Failed),
    ] {
        assert_eq!(verified(login, errors(500)).await, (exit, 1, 0));
    }
}
