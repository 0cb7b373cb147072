//! TLS by rustls with ring, trusting the configured CA and no other, else the system's.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::{Settings, SettingsError};

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
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
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
