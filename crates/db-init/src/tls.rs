//! TLS to PostgreSQL, by rustls with ring, as libpq's `sslmode` has it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use secrecy::ExposeSecret as _;
use tokio_postgres::config::{ChannelBinding, SslMode as Encryption};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::DbInitError;
use crate::args::{Binding, ServerArgs, SslMode};

/// The largest CA file that is read: some hundred certificates.
const MAX_CA_FILE: usize = 1024 * 1024;

/// What a connection over TCP asks of TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) encryption: Encryption,
    pub(crate) binding: ChannelBinding,
    pub(crate) connector: MakeRustlsConnect,
}

impl Tls {
    /// What the flags ask for. A CA that would not be looked at is an error.
    pub(crate) fn new(args: &ServerArgs) -> Result<Self, DbInitError> {
        let ca = args.db_cacert.as_deref();
        let mode = match (args.db_sslmode, ca) {
            (None, None) => SslMode::Prefer,
            (None, Some(_)) => SslMode::VerifyFull,
            // As libpq has it: who names a CA wants it looked at.
            (Some(SslMode::Require), Some(_)) => SslMode::VerifyCa,
            (Some(SslMode::Disable | SslMode::Prefer), Some(_)) => return Err(DbInitError::UnusedCa),
            (Some(mode), _) => mode,
        };
        let encryption = match mode {
            SslMode::Disable => Encryption::Disable,
            SslMode::Prefer => Encryption::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Encryption::Require,
        };
        let binding = match args.db_channel_binding {
            Binding::Disable => ChannelBinding::Disable,
            Binding::Prefer => ChannelBinding::Prefer,
            Binding::Require => ChannelBinding::Require,
        };
        let connector = MakeRustlsConnect::new(client_config(mode, ca)?);
        Ok(Self { encryption, binding, connector })
    }
}

fn client_config(mode: SslMode, ca: Option<&Path>) -> Result<ClientConfig, DbInitError> {
    let provider = Arc::new(ring::default_provider());
    let roots = match mode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => None,
        SslMode::VerifyCa | SslMode::VerifyFull => Some(ca.map_or_else(system_roots, read_roots)?),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| DbInitError::TlsSetup(error.to_string()))?;
    if let (SslMode::VerifyFull, Some(roots)) = (mode, roots.clone()) {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let verifier = Arc::new(AnyName { roots, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn read_roots(path: &Path) -> Result<RootCertStore, DbInitError> {
    let pem = secret_file::read_file(path, MAX_CA_FILE).map_err(DbInitError::CaFile)?;
    let unusable = |why: String| DbInitError::Ca { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.expose_secret()) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("it has no CERTIFICATE section".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, DbInitError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(DbInitError::NoSystemCa) } else { Ok(roots) }
}

/// Takes a certificate for whatever name it is: one of the CA's, or without a CA any.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
