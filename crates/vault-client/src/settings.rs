//! What a [`VaultClient`](crate::VaultClient) is made from.

use std::time::Duration;

use secrecy::SecretSlice;

use crate::Address;

/// Whom to speak to, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The nodes of one cluster, at least one.
    pub addresses: Vec<Address>,
    /// PEM certificates that are trusted instead of the system's, which are then not read at all.
    pub ca_certificates: Option<Vec<u8>>,
    /// What the client shows of itself to a server that asks (`tls_require_and_verify_client_cert`).
    pub client_identity: Option<ClientIdentity>,
    /// The name that the servers' certificates are made out to, where it is not the address's host.
    pub tls_server_name: Option<String>,
    /// The namespace that every request is made in.
    pub namespace: Option<String>,
    /// The longest that one attempt at a request may take, whatever its deadline; 1 s to 1 h.
    pub timeout: Duration,
}

/// A client certificate and its private key.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// PEM: the certificate, then those that lead to its CA.
    pub certificates: Vec<u8>,
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: SecretSlice<u8>,
}

/// Settings that no client can be made from.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no address.
    #[error("no Vault address was given")]
    NoAddress,
    /// The CA file holds no certificate, or a broken one.
    #[error("the CA file holds no usable certificate: {0}; it must be PEM, with BEGIN CERTIFICATE lines")]
    Ca(String),
    /// The client certificate's file holds none, or a broken one.
    #[error(
        "the client certificate's file holds no usable certificate: {0}; it must be PEM, with BEGIN CERTIFICATE lines"
    )]
    ClientCertificate(String),
    /// The client key's file holds none, or one that does not go with the certificate.
    #[error(
        "the client key cannot be used: {0}; it must be PEM, unencrypted, and belong to the client certificate"
    )]
    ClientKey(String),
    /// The system's CA certificates cannot be had, and no file was given.
    #[error("no CA certificate was found on this system; name the one to trust with --vault-cacert")]
    NoSystemCa,
    /// The name is no host name.
    #[error("the TLS server name is not a host name (an IP address is none); write it like vault.example")]
    ServerName,
    /// The time-out is no use.
    #[error("the time-out of a request must lie between one second and one hour")]
    Timeout,
    /// The namespace cannot be sent.
    #[error("the namespace contains characters that an HTTP header cannot carry")]
    Namespace,
    /// The HTTP client refused its settings.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// The TLS library refused its settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}
