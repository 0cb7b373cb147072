//! The driver against a server that answers as told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_runtime::{Exit, Failure as _, Shutdown};
use approle_session::{Action, AppRole, LoginArgs, LoginError, Progress, Sink, Step};
use boot_clock::BootTime;
use secret_file::Attrs;
use serde_json::{Value, json};
use vault_client::{Settings, VaultClient};
use wiremock::matchers::{body_partial_json, header, path, path as path_is};
use wiremock::{Mock, MockServer, ResponseTemplate};

fn deliver(directory: &Path, secret_id: &str) {
    fs::write(directory.join("role_id"), "role-of-user").unwrap();
    fs::write(directory.join("secret_id"), secret_id).unwrap();
}

fn approle(server: &MockServer, directory: &Path, wait: Duration) -> AppRole {
    patient(server, directory, wait, Duration::from_secs(2))
}

/// The same, whose requests may take this long.
fn patient(server: &MockServer, directory: &Path, wait: Duration, timeout: Duration) -> AppRole {
    let settings = Settings {
        addresses: vec![server.uri().parse().unwrap()],
        ca_certificates: None,
        client_identity: None,
        tls_server_name: None,
        namespace: None,
        timeout,
    };
    let args = LoginArgs { credentials_dir: directory.to_owned(), approle_mount: "approle".to_owned(), wait };
    AppRole::new(VaultClient::new(&settings).unwrap(), &args)
}

fn granted(token: &str, ttl: u64) -> ResponseTemplate {
    let auth = json!({ "client_token": token, "accessor": "a", "lease_duration": ttl, "renewable": true });
    ResponseTemplate::new(200).set_body_json(json!({ "auth": auth }))
}

async fn on(server: &MockServer, at: &str, answer: ResponseTemplate) {
    Mock::given(path(at)).respond_with(answer).mount(server).await;
}

async fn requests(server: &MockServer, at: &str) -> Vec<Value> {
    let all = server.received_requests().await.unwrap();
    let matching = all.iter().filter(|request| request.url.path() == at);
    matching.map(|request| serde_json::from_slice(&request.body).unwrap_or_default()).collect()
}

#[tokio::test]
async fn logs_in_and_revokes_at_the_end() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    on(&server, "/v1/auth/approle/login", granted("s.one", 3600)).await;
    Mock::given(path("/v1/auth/token/revoke-self"))
        .and(header("x-vault-token", "s.one"))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&server)
        .await;
    let mut approle = approle(&server, dir.path(), Duration::from_secs(5));
    approle.open(&Shutdown::never()).await.unwrap();
    approle.close().await;
    let logins = requests(&server, "/v1/auth/approle/login").await;
    assert_eq!(logins, [json!({ "role_id": "role-of-user", "secret_id": "first" })]);
}

#[tokio::test]
async fn refused_credentials_are_sent_once() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "expired");
    let refused =
        ResponseTemplate::new(400).set_body_json(json!({ "errors": ["invalid role or secret ID"] }));
    on(&server, "/v1/auth/approle/login", refused).await;
    let mut approle = approle(&server, dir.path(), Duration::from_millis(1200));
    let error = approle.open(&Shutdown::never()).await.unwrap_err();
    assert!(matches!(error, LoginError::Refused { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Denied);
    assert_eq!(requests(&server, "/v1/auth/approle/login").await.len(), 1);
}

#[tokio::test]
async fn new_credentials_replace_the_token_and_the_old_one_is_revoked() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    for (secret_id, token) in [("first", "s.one"), ("second", "s.two")] {
        Mock::given(path("/v1/auth/approle/login"))
            .and(body_partial_json(json!({ "secret_id": secret_id })))
            .respond_with(granted(token, 3600))
            .mount(&server)
            .await;
    }
    Mock::given(path("/v1/auth/token/revoke-self"))
        .and(header("x-vault-token", "s.one"))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&server)
        .await;
    let mut approle = approle(&server, dir.path(), Duration::from_secs(5));
    approle.open(&Shutdown::never()).await.unwrap();
    deliver(dir.path(), "second");
    approle.perform(Action::ReadCredentials, &Shutdown::never()).await.unwrap();
    assert_eq!(approle.next(), Step::Do(Action::Login));
    assert_eq!(approle.perform(Action::Login, &Shutdown::never()).await.unwrap(), Progress::Opened);
    assert_eq!(approle.next(), Step::Do(Action::Revoke));
    approle.perform(Action::Revoke, &Shutdown::never()).await.unwrap();
    assert!(matches!(approle.next(), Step::SleepUntil(_)));
}

#[tokio::test]
async fn a_vault_that_is_away_is_waited_for_and_then_told() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    let sealed = ResponseTemplate::new(503).set_body_json(json!({ "errors": ["Vault is sealed"] }));
    on(&server, "/v1/auth/approle/login", sealed).await;
    let error =
        approle(&server, dir.path(), Duration::from_secs(2)).open(&Shutdown::never()).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    let attempts = requests(&server, "/v1/auth/approle/login").await.len();
    assert!((2..=5).contains(&attempts), "{attempts} attempts in two seconds");
}

#[tokio::test]
async fn what_a_network_swallowed_is_asked_again_as_soon_as_that_is_back() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    let never = Duration::from_mins(10);
    for (at, answer) in
        [("/v1/auth/approle/login", granted("s.lost", 3600)), ("/v1/sys/health", ResponseTemplate::new(200))]
    {
        Mock::given(path(at)).respond_with(answer.set_delay(never)).up_to_n_times(1).mount(&server).await;
    }
    on(&server, "/v1/auth/approle/login", granted("s.one", 3600)).await;
    on(&server, "/v1/sys/health", ResponseTemplate::new(200)).await;
    let mut approle = patient(&server, dir.path(), never, never);
    let shutdown = Shutdown::never();
    tokio::time::timeout(Duration::from_secs(30), approle.open(&shutdown)).await.unwrap().unwrap();
    assert_eq!(requests(&server, "/v1/auth/approle/login").await.len(), 2);
}

#[tokio::test]
async fn a_token_that_lapsed_is_replaced_by_a_login() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    on(&server, "/v1/auth/approle/login", granted("s.one", 3600)).await;
    let denied = ResponseTemplate::new(403).set_body_json(json!({ "errors": ["permission denied"] }));
    on(&server, "/v1/auth/token/renew-self", denied).await;
    let mut approle = approle(&server, dir.path(), Duration::from_secs(5));
    approle.open(&Shutdown::never()).await.unwrap();
    approle.perform(Action::Renew, &Shutdown::never()).await.unwrap();
    assert!(approle.client().is_none());
    assert_eq!(approle.next(), Step::Do(Action::Revoke));
    approle.perform(Action::Revoke, &Shutdown::never()).await.unwrap();
    assert_eq!(approle.next(), Step::Do(Action::Login));
}

#[tokio::test]
async fn a_delivery_is_noticed_and_not_waited_for() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    on(&server, "/v1/auth/approle/login", granted("s.one", 3600)).await;
    let mut approle = approle(&server, dir.path(), Duration::from_secs(5));
    approle.open(&Shutdown::never()).await.unwrap();
    let much_later = BootTime::now() + Duration::from_hours(1);
    // The first wait begins the watch, the look after it sets it.
    approle.wait_until(much_later, &Shutdown::never()).await.unwrap();
    approle.perform(Action::ReadCredentials, &Shutdown::never()).await.unwrap();
    deliver(dir.path(), "second");
    approle.wait_until(much_later, &Shutdown::never()).await.unwrap();
    let Step::SleepUntil(soon) = approle.next() else { panic!("the delivery may not be complete yet") };
    boot_clock::sleep_until(soon).await;
    assert_eq!(approle.next(), Step::Do(Action::ReadCredentials));
    approle.perform(Action::ReadCredentials, &Shutdown::never()).await.unwrap();
    assert_eq!(approle.next(), Step::Do(Action::Login));
}

#[tokio::test]
async fn the_token_of_a_sink_is_used_without_a_login_and_left_alive() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    let path = dir.path().join("token");
    fs::write(&path, "s.kept\n").unwrap();
    Mock::given(path_is("/v1/auth/token/lookup-self"))
        .and(header("x-vault-token", "s.kept"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({ "data": { "ttl": 600, "renewable": true } })),
        )
        .expect(1)
        .mount(&server)
        .await;
    let sink = Sink::new(path, Attrs::PRIVATE);
    let mut approle = approle(&server, dir.path(), Duration::from_secs(5)).with_sink(Some(sink));
    approle.open(&Shutdown::never()).await.unwrap();
    assert_eq!(approle.tally().logins, 0);
    approle.close().await;
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "it logged in, or revoked the token");
}

#[tokio::test]
async fn a_sink_that_cannot_be_written_keeps_the_old_token_alive() {
    let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
    deliver(dir.path(), "first");
    on(&server, "/v1/auth/approle/login", granted("s.one", 3600)).await;
    let path = dir.path().join("run/token");
    let sink = Sink::new(path.clone(), Attrs::PRIVATE);
    let mut approle = approle(&server, dir.path(), Duration::from_secs(5)).with_sink(Some(sink));
    approle.open(&Shutdown::never()).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "s.one");

    server.reset().await;
    on(&server, "/v1/auth/approle/login", granted("s.two", 3600)).await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    deliver(dir.path(), "second");
    for action in [Action::ReadCredentials, Action::Login, Action::Revoke] {
        approle.perform(action, &Shutdown::never()).await.unwrap();
    }
    assert_eq!(requests(&server, "/v1/auth/token/revoke-self").await.len(), 0);
    // The next look tries again.
    fs::remove_dir(&path).unwrap();
    approle.perform(Action::ReadCredentials, &Shutdown::never()).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "s.two");
}

#[tokio::test]
async fn a_renewal_that_is_declined_is_followed_by_a_login() {
    for status in [500, 400] {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        deliver(dir.path(), "first");
        on(&server, "/v1/auth/approle/login", granted("s.one", 2)).await;
        let declined = ResponseTemplate::new(status).set_body_json(json!({ "errors": ["no such role"] }));
        on(&server, "/v1/auth/token/renew-self", declined).await;
        let mut approle = approle(&server, dir.path(), Duration::from_secs(5));
        approle.open(&Shutdown::never()).await.unwrap();
        // It is due for that within its two seconds.
        let due = loop {
            match approle.next() {
                Step::SleepUntil(when) => boot_clock::sleep_until(when).await,
                Step::Do(action) => break action,
                Step::Failed(reason) => panic!("{reason:?}"),
            }
        };
        assert_eq!(due, Action::Renew);
        approle.perform(due, &Shutdown::never()).await.unwrap();
        assert_eq!(approle.next(), Step::Do(Action::Login), "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_slow_or_busy_is_not_asked_again_at_once() {
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "30");
    let slow = granted("s.late", 3600).set_delay(Duration::from_secs(10));
    for answer in [busy, slow] {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        deliver(dir.path(), "first");
        on(&server, "/v1/auth/approle/login", answer).await;
        let mut approle = approle(&server, dir.path(), Duration::from_mins(5));
        for action in [Action::ReadCredentials, Action::Login, Action::ReadCredentials] {
            assert_eq!(approle.perform(action, &Shutdown::never()).await.unwrap(), Progress::Unchanged);
        }
        assert!(matches!(approle.next(), Step::SleepUntil(_)));
    }
}
