//! What a [`VaultClient`](crate::VaultClient) is made from.

use std::time::Duration;

use crate::Address;

/// Whom to speak to, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The nodes of one cluster, at least one.
    pub addresses: Vec<Address>,
    /// PEM certificates that are trusted instead of the system's, which are then not read at all.
    pub ca_certificates: Option<Vec<u8>>,
    /// The name that the servers' certificates are made out to, where it is not the address's host.
    pub tls_server_name: Option<String>,
    /// The namespace that every request is made in.
    pub namespace: Option<String>,
    /// The longest that one attempt at a request may take, whatever its deadline; 1 s to 1 h.
    pub timeout: Duration,
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
