//! The flags that say which Vault, and how to reach it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use secrecy::ExposeSecret as _;
use secret_file::FileError;
use vault_client::{AddressError, ClientIdentity, Settings, SettingsError, VaultClient};

use crate::{Exit, Failure};

/// The largest PEM file that is read: some hundred certificates.
const MAX_PEM_FILE: usize = 1024 * 1024;

/// Which Vault, and how to reach it. `BAO_*` variables are taken where the `VAULT_*` ones are unset.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Vault connection")]
pub struct ConnectionArgs {
    /// Address of the Vault or OpenBao server; several nodes of a cluster are separated by commas
    #[arg(
        long = "vault-addr",
        env = "VAULT_ADDR",
        value_name = "URL[,URL...]",
        global = true,
        hide_env_values = true
    )]
    #[arg(default_value = "https://127.0.0.1:8200")]
    addr: String,

    /// PEM file with the CA certificates to trust instead of the system's
    #[arg(
        long = "vault-cacert",
        env = "VAULT_CACERT",
        value_name = "FILE",
        global = true,
        hide_env_values = true
    )]
    cacert: Option<PathBuf>,

    /// PEM file with the certificate that the client shows to a server that asks for one
    #[arg(
        long = "vault-client-cert",
        env = "VAULT_CLIENT_CERT",
        value_name = "FILE",
        global = true,
        hide_env_values = true
    )]
    client_cert: Option<PathBuf>,

    /// PEM file with that certificate's private key
    #[arg(
        long = "vault-client-key",
        env = "VAULT_CLIENT_KEY",
        value_name = "FILE",
        global = true,
        hide_env_values = true
    )]
    client_key: Option<PathBuf>,

    /// Name that the server's certificate is made out to, where it is not the address's host
    #[arg(
        long = "vault-tls-server-name",
        env = "VAULT_TLS_SERVER_NAME",
        value_name = "NAME",
        global = true,
        hide_env_values = true
    )]
    tls_server_name: Option<String>,

    /// Namespace that every request is made in
    #[arg(
        long = "vault-namespace",
        env = "VAULT_NAMESPACE",
        value_name = "NAME",
        global = true,
        hide_env_values = true
    )]
    namespace: Option<String>,

    /// The longest that one attempt at a request may take
    #[arg(
        long = "vault-client-timeout",
        env = "VAULT_CLIENT_TIMEOUT",
        value_name = "DURATION",
        global = true,
        hide_env_values = true
    )]
    #[arg(default_value = "10s", value_parser = crate::duration)]
    client_timeout: Duration,
}

/// Flags that make no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// One of the addresses is none. It is named by its place, since its text may hold a password.
    #[error("address {position} of --vault-addr (VAULT_ADDR) cannot be used")]
    Address {
        /// Its place in the list, from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        cause: AddressError,
    },
    /// The CA file cannot be read.
    #[error("the CA file of --vault-cacert (VAULT_CACERT) cannot be read")]
    CaFile(#[source] FileError),
    /// The client certificate or its key cannot be read.
    #[error("the client certificate of --vault-client-cert and --vault-client-key cannot be read")]
    ClientFile(#[source] FileError),
    /// One of the two is given without the other.
    #[error(
        "a client certificate needs both --vault-client-cert (VAULT_CLIENT_CERT) and --vault-client-key (VAULT_CLIENT_KEY)"
    )]
    HalfAnIdentity,
    /// A namespace for a program whose requests belong to none.
    #[error("--vault-namespace (VAULT_NAMESPACE) makes no sense here: {0}")]
    Namespace(&'static str),
    /// The client refuses the settings.
    #[error("the Vault connection cannot be set up")]
    Settings(#[source] SettingsError),
}

impl Failure for ConnectionError {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}

impl ConnectionArgs {
    /// A client for these flags. No connection is made yet.
    pub fn client(&self) -> Result<VaultClient, ConnectionError> {
        VaultClient::new(&self.settings()?).map_err(ConnectionError::Settings)
    }

    /// As [`client`](Self::client), for requests that no namespace has: one that is given is refused, with `why`.
    pub fn client_without_namespace(&self, why: &'static str) -> Result<VaultClient, ConnectionError> {
        match &self.namespace {
            Some(namespace) if !matches!(namespace.trim_matches('/'), "" | "root") => {
                Err(ConnectionError::Namespace(why))
            }
            _ => VaultClient::new(&Settings { namespace: None, ..self.settings()? })
                .map_err(ConnectionError::Settings),
        }
    }

    fn settings(&self) -> Result<Settings, ConnectionError> {
        let addresses = self.addr.split(',').enumerate().map(|(index, address)| {
            address.parse().map_err(|cause| ConnectionError::Address { position: index + 1, cause })
        });
        let read_ca = |path: &PathBuf| {
            let pem = secret_file::read_file(path, MAX_PEM_FILE).map_err(ConnectionError::CaFile)?;
            Ok(pem.expose_secret().to_vec())
        };
        let client_identity = match (&self.client_cert, &self.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(client_identity(certificate, key)?),
            _ => return Err(ConnectionError::HalfAnIdentity),
        };
        Ok(Settings {
            addresses: addresses.collect::<Result<_, _>>()?,
            ca_certificates: self.cacert.as_ref().map(read_ca).transpose()?,
            client_identity,
            tls_server_name: self.tls_server_name.clone(),
            namespace: self.namespace.clone(),
            timeout: self.client_timeout,
        })
    }
}

fn client_identity(certificate: &Path, key: &Path) -> Result<ClientIdentity, ConnectionError> {
    let read = |path| secret_file::read_file(path, MAX_PEM_FILE).map_err(ConnectionError::ClientFile);
    Ok(ClientIdentity { certificates: read(certificate)?.expose_secret().to_vec(), key: read(key)? })
}
