//! What each kind of answer becomes: status codes, garbage, slowness, other hosts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use vault_client::{
    Retry, Settings, Target, VaultClient, VaultError, approle, audit, capabilities, kv2, mounts, policy, sys,
    token,
};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const CANARY: &str = "canary-6b1f0c";

fn settings(addresses: &[String]) -> Settings {
    Settings {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ca_certificates: None,
        client_identity: None,
        tls_server_name: None,
        namespace: None,
        timeout: Duration::from_secs(2),
    }
}

fn client(server: &MockServer) -> VaultClient {
    let client = VaultClient::new(&settings(&[server.uri()])).unwrap();
    client.with_token(SecretString::from(format!("s.{CANARY}")))
}

fn in_ms(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// The error of one KV read that is answered by `answer` whenever it is asked, within `limit`.
///
/// A transient one is asked for again until then; for the others the limit only has to be long enough.
async fn error_within(limit: Duration, answer: ResponseTemplate) -> VaultError {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    let by = Instant::now() + limit;
    let error = kv2::read(&client(&server), "secret", "user", None, by).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains(CANARY), "{text}");
    assert!(text.contains("/v1/secret/data/user"), "{text}");
    error
}

async fn error_for(answer: ResponseTemplate) -> VaultError {
    error_within(Duration::from_secs(5), answer).await
}

fn errors(status: u16, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "errors": [message] }))
}

#[tokio::test]
async fn statuses_are_told_apart() {
    assert!(matches!(error_for(errors(403, "permission denied")).await, VaultError::Denied { .. }));
    assert!(matches!(error_for(errors(400, "missing field")).await, VaultError::Refused { status: 400, .. }));
    assert!(matches!(error_for(errors(404, "no handler for route")).await, VaultError::NotFound { .. }));
    let limited = error_for(errors(429, "quota exceeded").insert_header("retry-after", "7")).await;
    assert_eq!(limited.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_port_that_speaks_tls_is_told_from_a_refusal() {
    let body = "Client sent an HTTP request to an HTTPS server.\n";
    let error = error_for(ResponseTemplate::new(400).set_body_string(body)).await;
    assert!(matches!(error, VaultError::Unreachable { transient: false, sent: false, .. }), "{error}");
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn what_may_pass_is_asked_for_again_until_the_end() {
    let mut asked = tokio::task::JoinSet::new();
    for (status, message) in
        [(503, "Vault is sealed"), (503, "no"), (500, "no"), (502, "no"), (412, "no"), (307, "no")]
    {
        asked.spawn(async move {
            (message, error_within(Duration::from_millis(1500), errors(status, message)).await)
        });
    }
    for (message, error) in asked.join_all().await {
        assert!(error.is_transient(), "{error}");
        assert_eq!(matches!(error, VaultError::Sealed { .. }), message == "Vault is sealed", "{error}");
    }
}

#[tokio::test]
async fn the_servers_words_are_quoted_without_what_was_sent() {
    let server = MockServer::start().await;
    let echo = format!("cannot\nuse {CANARY}-secret-id with s.{CANARY}\u{7}");
    Mock::given(method("POST")).respond_with(errors(400, &echo)).mount(&server).await;
    let error = approle::login(
        &client(&server),
        "approle",
        &SecretString::from("role-id-of-user"),
        &SecretString::from(format!("{CANARY}-secret-id")),
        in_ms(5000),
    )
    .await
    .unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("refused with status 400: cannot use [redacted] with [redacted]"), "{text}");
}

#[tokio::test]
async fn garbage_is_an_error_that_does_not_quote_it() {
    for body in
        ["", "{", "[]", "null", r#"{"data":{"data":{"K":"canary-6b1f0c"}"#, "<html>canary-6b1f0c</html>"]
    {
        let error = error_for(ResponseTemplate::new(200).set_body_string(body)).await;
        assert!(matches!(error, VaultError::Unexpected { transient: false, .. }), "{error}");
    }
    let number = json!({ "data": { "data": { "PIN": 7, "K": CANARY }, "metadata": { "version": 1 } } });
    let error = error_for(ResponseTemplate::new(200).set_body_json(number)).await;
    assert!(error.to_string().contains("\"PIN\" is not a string"), "{error}");
}

#[tokio::test]
async fn only_the_servers_own_word_says_that_something_is_done() {
    let revoke = async |answer: ResponseTemplate| {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        token::revoke_self(&client(&server), in_ms(5000)).await
    };
    assert!(revoke(ResponseTemplate::new(204)).await.is_ok());
    let warned = json!({ "request_id": "4c1f", "data": null, "warnings": ["something"] });
    assert!(revoke(ResponseTemplate::new(200).set_body_json(warned)).await.is_ok());
    for body in ["<html>Log in</html>", "null", "{}", r#"{"data":{}}"#] {
        let error = revoke(ResponseTemplate::new(200).set_body_string(body)).await.unwrap_err();
        assert!(matches!(error, VaultError::Unexpected { transient: false, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let huge = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 17 * 1024 * 1024]);
    let error = error_for(huge).await;
    assert!(error.to_string().contains("longer than 16 MiB") && !error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_body_of_untold_length_is_cut_off_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
        let spaces = vec![b' '; 1024 * 1024];
        while stream.write_all(&spaces).await.is_ok() {}
    });
    let settings = Settings { timeout: Duration::from_mins(1), ..settings(&[address]) };
    let client = VaultClient::new(&settings).unwrap();
    let error = kv2::read(&client, "secret", "user", None, in_ms(60_000)).await.unwrap_err();
    assert!(error.to_string().contains("longer than 16 MiB"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MockServer::start().await;
    let to = format!("{}/v1/secret/data/user", elsewhere.uri());
    let redirect = ResponseTemplate::new(307).insert_header("location", to.as_str());
    let error = error_within(Duration::from_secs(3), redirect).await;
    assert!(matches!(error, VaultError::Unexpected { status: 307, .. }), "{error}");
    assert!(elsewhere.received_requests().await.unwrap().is_empty(), "the token went to another host");
}

#[tokio::test]
async fn a_hanging_answer_ends_at_the_deadline() {
    let started = Instant::now();
    let hanging = ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    let error = error_within(Duration::from_millis(300), hanging).await;
    assert!(matches!(error, VaultError::Unreachable { transient: true, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_connection_cut_inside_the_body_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"data\":").await;
        }
    });
    let client = VaultClient::new(&settings(&[address])).unwrap();
    let error = kv2::read(&client, "secret", "user", None, in_ms(100)).await.unwrap_err();
    assert!(matches!(error, VaultError::Unreachable { transient: true, .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = VaultClient::new(&settings(&[address])).unwrap();
    let error = sys::seal_status(&client, 0, in_ms(5000)).await.unwrap_err();
    assert!(error.to_string().contains("no answer: Connection refused"), "{error}");
}

#[tokio::test]
async fn nothing_there_is_not_an_error() {
    let server = MockServer::start().await;
    let nothing = ResponseTemplate::new(404).set_body_json(json!({ "errors": [] }));
    Mock::given(path("/v1/secret/data/user")).respond_with(nothing.clone()).mount(&server).await;
    Mock::given(path("/v1/auth/approle/role/user")).respond_with(nothing).mount(&server).await;
    let deleted =
        json!({ "data": { "data": null, "metadata": { "deletion_time": "2026-01-01T00:00:00Z" } } });
    let deleted = ResponseTemplate::new(404).set_body_json(deleted);
    Mock::given(path("/v1/secret/data/deleted")).respond_with(deleted).mount(&server).await;

    let client = client(&server);
    assert!(kv2::read(&client, "secret", "user", None, in_ms(5000)).await.unwrap().is_none());
    assert!(kv2::read(&client, "secret", "deleted", None, in_ms(5000)).await.unwrap().is_none());
    assert!(approle::read_role(&client, "approle", "user", in_ms(5000)).await.unwrap().is_none());
}

#[tokio::test]
async fn idempotent_requests_are_repeated_until_they_succeed() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(errors(503, "Vault is sealed"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    let engines = json!({ "data": { "secret/": { "type": "kv", "options": { "version": "2" } } } });
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(engines))
        .mount(&server)
        .await;
    let engines = mounts::engines(&client(&server), in_ms(5000)).await.unwrap();
    assert_eq!(engines["secret/"].mount_type, "kv");
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_must_not_be_repeated_is_sent_once() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(errors(500, "internal error")).mount(&server).await;
    let client = client(&server);
    sys::init(&client, 0, true, 5, 3).await.unwrap_err();
    approle::issue_secret_id(&client, "approle", "user", &[].into(), in_ms(5000)).await.unwrap_err();
    let (role_id, secret_id) = (SecretString::from("r"), SecretString::from("s"));
    approle::login(&client, "approle", &role_id, &secret_id, in_ms(5000)).await.unwrap_err();
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn init_asks_for_the_shares_and_gives_the_answer_as_it_came() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/sys/init"))
        .and(body_json(json!({ "secret_shares": 5, "secret_threshold": 3 })))
        .respond_with(ResponseTemplate::new(200).set_body_string("as it came"))
        .mount(&server)
        .await;
    let reply = sys::init(&client(&server), 0, true, 5, 3).await.unwrap();
    assert_eq!(*reply.body, b"as it came");
    assert!(!format!("{reply:?}").contains("as it came"));
}

#[tokio::test]
async fn token_and_namespace_travel_as_headers() {
    let server = MockServer::start().await;
    Mock::given(header("x-vault-token", format!("s.{CANARY}").as_str()))
        .and(header("x-vault-namespace", "team/a"))
        .and(header("x-vault-request", "true"))
        .and(path("/v1/auth/token/renew-self"))
        .respond_with(ResponseTemplate::new(200).set_body_json(
            json!({ "auth": { "client_token": CANARY, "accessor": "a", "lease_duration": 60, "renewable": true } }),
        ))
        .mount(&server)
        .await;
    let settings = Settings { namespace: Some("team/a".to_owned()), ..settings(&[server.uri()]) };
    let client = VaultClient::new(&settings).unwrap().with_token(format!("s.{CANARY}").into());
    let auth = token::renew_self(&client, in_ms(5000)).await.unwrap();
    assert_eq!(auth.client_token.expose_secret(), CANARY);
    assert!(!format!("{auth:?} {client:?}").contains(CANARY));
}

#[tokio::test]
async fn a_path_that_climbs_is_not_sent() {
    let server = MockServer::start().await;
    for path in ["../sys/seal", "a//b", "a/./b", "a\nb", ""] {
        let error = kv2::read(&client(&server), "secret", path, None, in_ms(5000)).await.unwrap_err();
        assert!(error.to_string().contains("not sent"), "{error}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn writes_go_to_the_active_node_and_follow_it() {
    let (first, second) = (MockServer::start().await, MockServer::start().await);
    let leader =
        |is: bool| ResponseTemplate::new(200).set_body_json(json!({ "ha_enabled": true, "is_self": is }));
    let done = || Mock::given(method("PUT")).respond_with(ResponseTemplate::new(204));
    Mock::given(path("/v1/sys/leader")).respond_with(leader(false)).up_to_n_times(1).mount(&first).await;
    Mock::given(path("/v1/sys/leader")).respond_with(leader(true)).mount(&first).await;
    Mock::given(path("/v1/sys/leader")).respond_with(leader(true)).up_to_n_times(1).mount(&second).await;
    Mock::given(path("/v1/sys/leader")).respond_with(leader(false)).mount(&second).await;
    done().mount(&first).await;
    done().up_to_n_times(1).mount(&second).await;
    Mock::given(method("PUT")).respond_with(errors(503, "Vault is sealed")).mount(&second).await;

    let client = VaultClient::new(&settings(&[first.uri(), second.uri()])).unwrap();
    for _ in 0..2 {
        vault_client::policy::write(&client, "user-policy", "", in_ms(5000)).await.unwrap();
    }
    let puts = async |server: &MockServer| {
        let requests = server.received_requests().await.unwrap();
        requests.iter().filter(|request| request.method.as_str() == "PUT").count()
    };
    assert_eq!((puts(&first).await, puts(&second).await), (1, 2));
}

#[tokio::test]
async fn any_node_will_do_where_the_first_is_away() {
    let away = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let server = MockServer::start().await;
    let engines = ResponseTemplate::new(200).set_body_json(json!({ "data": {} }));
    Mock::given(path("/v1/sys/mounts")).respond_with(engines).mount(&server).await;
    let client = VaultClient::new(&settings(&[format!("http://{away}"), server.uri()])).unwrap();
    let request = vaultrs::api::sys::requests::ListMountsRequest {};
    let reply = client.call(Target::Any, request, Retry::Never, in_ms(5000)).await.unwrap();
    assert!(reply.status.is_success());
}

#[tokio::test]
async fn a_mount_that_is_still_being_made_is_waited_for() {
    let server = MockServer::start().await;
    let upgrading =
        errors(400, "Upgrading from non-versioned to versioned data. This backend will be unavailable");
    Mock::given(method("POST")).respond_with(upgrading).up_to_n_times(2).mount(&server).await;
    let written =
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "version": 1, "created_time": "2026" } }));
    Mock::given(method("POST"))
        .and(body_json(json!({ "data": { "K": CANARY }, "options": { "cas": 0 } })))
        .respond_with(written)
        .mount(&server)
        .await;
    let values = [("K".to_owned(), SecretString::from(CANARY))].into();
    let written = kv2::write(&client(&server), "secret", "user", &values, 0, in_ms(5000)).await.unwrap();
    assert_eq!((written.version, server.received_requests().await.unwrap().len()), (1, 3));
}

/// HashiCorp Vault does not have these lists: one path it does not know, the other it warns about.
#[tokio::test]
async fn a_list_that_a_server_does_not_offer_is_none() {
    let server = MockServer::start().await;
    let unknown = errors(404, "unsupported path");
    Mock::given(path("/v1/sys/policies/detailed/acl")).respond_with(unknown).mount(&server).await;
    let warned = ResponseTemplate::new(404).set_body_json(
        json!({ "data": null, "warnings": ["Invalid path for a versioned K/V secrets engine"] }),
    );
    Mock::given(path("/v1/secret/detailed-metadata")).respond_with(warned).mount(&server).await;
    assert_eq!(policy::all(&client(&server), in_ms(5000)).await.unwrap(), None);
    assert!(kv2::all_metadata(&client(&server), "secret", in_ms(5000)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_write_that_somebody_was_faster_than_is_told_apart() {
    let server = MockServer::start().await;
    let overtaken = errors(400, "check-and-set parameter did not match the current version");
    Mock::given(method("POST")).respond_with(overtaken).mount(&server).await;
    let values = [("K".to_owned(), SecretString::from(CANARY))].into();
    let error = kv2::write(&client(&server), "secret", "user", &values, 3, in_ms(5000)).await.unwrap_err();
    assert!(kv2::is_overtaken(&error), "{error}");
    assert!(!kv2::is_overtaken(&error_for(errors(400, "missing field")).await));
}

#[tokio::test]
async fn capabilities_are_asked_for_in_requests_that_the_server_takes() {
    let server = MockServer::start().await;
    let answer = |request: &wiremock::Request| {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let paths = asked["paths"].as_array().unwrap();
        assert!(paths.len() <= 500, "{} paths", paths.len());
        let path = |path: &serde_json::Value| (path.as_str().unwrap().to_owned(), json!(["read"]));
        let data: serde_json::Map<_, _> = paths.iter().map(path).collect();
        ResponseTemplate::new(200).set_body_json(json!({ "data": data }))
    };
    Mock::given(path("/v1/sys/capabilities-self")).respond_with(answer).expect(3).mount(&server).await;
    let paths: Vec<String> = (0..1001).map(|index| format!("secret/data/{index}")).collect();
    let found = capabilities::of_self(&client(&server), &paths, in_ms(5000)).await.unwrap();
    assert_eq!((found.len(), &found["secret/data/1000"]), (1001, &vec!["read".to_owned()]));
}

#[tokio::test]
async fn garbled_capabilities_are_errors_and_not_shown() {
    let whole = json!({ "data": { "a": ["read", CANARY], "b": ["deny"] } }).to_string();
    for (body, told) in [
        (whole[..whole.len() - 3].to_owned(), "not the JSON"),
        (String::new(), "not the JSON"),
        (format!("<html>{CANARY}"), "not the JSON"),
        (json!({ "data": null }).to_string(), "not the JSON"),
        (json!({ "data": { "a": "read", "b": ["deny"] } }).to_string(), "not the JSON"),
        (json!({ "data": { "a": [1], "b": null } }).to_string(), "not the JSON"),
        (json!({ "a": ["read"], "b": ["read"] }).to_string(), "not the JSON"),
        (json!({ "data": { "a": ["read"], "c": [CANARY] } }).to_string(), "the answer says nothing about b"),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_raw(body.clone(), "application/json");
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let paths = ["a".to_owned(), "b".to_owned()];
        let error = capabilities::of_self(&client(&server), &paths, in_ms(2000)).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(told) && text.contains("/v1/sys/capabilities-self"), "{body}: {text}");
        assert!(!text.contains(CANARY) && !error.is_transient(), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_alone_is_found_behind_an_address_where_nobody_is() {
    let server = MockServer::start().await;
    let alone = ResponseTemplate::new(200).set_body_json(json!({ "ha_enabled": false }));
    Mock::given(path("/v1/sys/leader")).respond_with(alone).mount(&server).await;
    Mock::given(path("/v1/auth/token/lookup-self"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({ "data": { "ttl": 60, "renewable": true } })),
        )
        .mount(&server)
        .await;
    let client = VaultClient::new(&settings(&["http://127.0.0.1:9".to_owned(), server.uri()])).unwrap();
    let life = token::look_up_self(&client.without_retries(), in_ms(5000)).await.unwrap();
    assert_eq!((life.ttl, life.renewable), (Duration::from_mins(1), true));
}

#[tokio::test]
async fn who_has_a_loop_of_its_own_sends_once() {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(errors(503, "Vault is sealed")).expect(1).mount(&server).await;
    let client = client(&server).without_retries();
    let sealed = kv2::read(&client, "secret", "user", None, in_ms(5000)).await.unwrap_err();
    assert!(matches!(sealed, VaultError::Sealed { .. }));
}

#[tokio::test]
async fn an_audit_device_is_enabled_as_the_api_takes_it() {
    let server = MockServer::start().await;
    let none = ResponseTemplate::new(200).set_body_json(json!({ "data": {} }));
    Mock::given(method("GET")).and(path("/v1/sys/audit")).respond_with(none).mount(&server).await;
    let body =
        json!({ "type": "file", "description": "all", "options": { "file_path": "/vault/logs/audit.log" } });
    Mock::given(method("POST"))
        .and(path("/v1/sys/audit/vaultcrew"))
        .and(body_json(body))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;
    let client = client(&server);
    assert_eq!(audit::devices(&client, in_ms(5000)).await.unwrap(), Some([].into()));
    audit::enable_file(&client, "vaultcrew", "/vault/logs/audit.log", "all", in_ms(5000)).await.unwrap();

    let denied = MockServer::start().await;
    Mock::given(path("/v1/sys/audit")).respond_with(errors(403, "permission denied")).mount(&denied).await;
    assert_eq!(audit::devices(&self::client(&denied), in_ms(5000)).await.unwrap(), None);
}
