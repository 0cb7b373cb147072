//! Whom the client trusts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use vault_client::{Settings, SettingsError, VaultClient, VaultError, sys};

const ANSWER: &str = r#"{"type":"shamir","initialized":true,"sealed":false,"t":3,"n":5,"progress":0}"#;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A TLS server on loopback whose certificate is for `name`; gives its address.
async fn serve(name: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
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
