//! TLS by rustls with ring, trusting the configured CA and no other, else the system's.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;

use crate::{ClientIdentity, Settings, SettingsError};

/// The TLS configuration that all nodes share.
///
/// The system's certificates are read only where they are needed (that takes some 3 ms): not for plain
/// http, not beside a CA of one's own.
pub(crate) fn client_config(settings: &Settings) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &settings.ca_certificates {
        add_configured(&mut roots, pem)?;
    } else if settings.addresses.iter().any(crate::Address::is_https) {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(SettingsError::NoSystemCa);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?
        .with_root_certificates(roots);
    match &settings.client_identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let (certificates, key) = client_auth(identity)?;
            let refused = |error: rustls::Error| SettingsError::ClientKey(error.to_string());
            builder.with_client_auth_cert(certificates, key).map_err(refused)
        }
    }
}

fn client_auth(
    identity: &ClientIdentity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SettingsError> {
    let certificates = CertificateDer::pem_slice_iter(&identity.certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SettingsError::ClientCertificate(error.to_string()))?;
    if certificates.is_empty() {
        return Err(SettingsError::ClientCertificate("it has no CERTIFICATE section".to_owned()));
    }
    // The parser's own words may quote a line of the file.
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose_secret())
        .map_err(|_| SettingsError::ClientKey("it has no readable PRIVATE KEY section".to_owned()))?;
    Ok((certificates, key))
}

fn add_configured(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), SettingsError> {
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| SettingsError::Ca(error.to_string()))?;
        roots.add(certificate).map_err(|error| SettingsError::Ca(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(SettingsError::Ca("it has no CERTIFICATE section".to_owned()));
    }
    Ok(())
}
