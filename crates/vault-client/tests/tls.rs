//! Whom the client trusts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use vault_client::{ClientIdentity, Settings, SettingsError, VaultClient, VaultError, sys};

const ANSWER: &str = r#"{"type":"shamir","initialized":true,"sealed":false,"t":3,"n":5,"progress":0}"#;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A TLS server on loopback whose certificate is for `name`; gives its address.
async fn serve(name: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> String {
    serve_clients(name, authority, Arc::new(NoClientAuth)).await
}

async fn serve_clients(
    name: &str,
    authority: &CertifiedIssuer<'_, KeyPair>,
    clients: Arc<dyn ClientCertVerifier>,
) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn settings(address: &str, ca: &str, name: Option<&str>) -> Settings {
    Settings {
        addresses: vec![address.parse().unwrap()],
        ca_certificates: Some(ca.as_bytes().to_vec()),
        client_identity: None,
        tls_server_name: name.map(str::to_owned),
        namespace: None,
        timeout: Duration::from_secs(5),
    }
}

async fn ask(settings: &Settings) -> Result<sys::SealStatus, VaultError> {
    let by = Instant::now() + Duration::from_secs(5);
    sys::seal_status(&VaultClient::new(settings).unwrap(), 0, by).await
}

#[tokio::test]
async fn the_configured_authority_is_trusted() {
    let ca = authority();
    let address = serve("127.0.0.1", &ca).await;
    assert!(!ask(&settings(&address, &ca.pem(), None)).await.unwrap().sealed);
}

#[tokio::test]
async fn another_authority_is_not_and_that_is_final() {
    let address = serve("127.0.0.1", &authority()).await;
    let error = ask(&settings(&address, &authority().pem(), None)).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn the_name_must_be_right_and_can_be_given() {
    let ca = authority();
    let address = serve("vault.internal", &ca).await;
    let error = ask(&settings(&address, &ca.pem(), None)).await.unwrap_err();
    assert!(error.to_string().contains("vault.internal"), "{error}");
    assert!(!error.is_transient());

    assert!(!ask(&settings(&address, &ca.pem(), Some("vault.internal"))).await.unwrap().sealed);
}

#[tokio::test]
async fn a_file_without_certificates_is_refused_at_once() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = VaultClient::new(&settings("https://127.0.0.1:1", pem, None)).unwrap_err();
        assert!(matches!(error, SettingsError::Ca(_)), "{error}");
    }
}

fn client_identity(authority: &CertifiedIssuer<'_, KeyPair>) -> ClientIdentity {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["unsealer".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    ClientIdentity {
        certificates: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes().into(),
    }
}

#[tokio::test]
async fn a_server_that_asks_is_shown_the_client_certificate() {
    let ca = authority();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let address = serve_clients("127.0.0.1", &ca, clients).await;

    let without = settings(&address, &ca.pem(), None);
    assert!(matches!(ask(&without).await, Err(VaultError::Unreachable { .. })));
    let strangers = Settings { client_identity: Some(client_identity(&authority())), ..without.clone() };
    assert!(matches!(ask(&strangers).await, Err(VaultError::Unreachable { .. })));
    let ours = Settings { client_identity: Some(client_identity(&ca)), ..without };
    assert!(!ask(&ours).await.unwrap().sealed);
}

#[tokio::test]
async fn a_key_of_another_certificate_or_none_is_refused_at_once() {
    let ca = authority();
    let (one, other) = (client_identity(&ca), client_identity(&ca));
    let with = |identity| Settings {
        client_identity: Some(identity),
        ..settings("https://127.0.0.1:1", &ca.pem(), None)
    };
    let mixed = ClientIdentity { key: other.key, ..one.clone() };
    assert!(matches!(VaultClient::new(&with(mixed)), Err(SettingsError::ClientKey(_))));
    let garbled = ClientIdentity { key: b"canary".to_vec().into(), ..one.clone() };
    let error = VaultClient::new(&with(garbled)).unwrap_err();
    assert!(matches!(error, SettingsError::ClientKey(_)) && !format!("{error:?}").contains("canary"));
    let empty = ClientIdentity { certificates: Vec::new(), ..one };
    assert!(matches!(VaultClient::new(&with(empty)), Err(SettingsError::ClientCertificate(_))));
}
