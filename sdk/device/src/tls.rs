//! TLS settings of a client, made once and shared by all devices of a process.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// A configuration that trusts the authorities in `roots` (PEM), and shows a client certificate if one is given
/// (PEM chain and key, for devices with `x509=true`). Errs with what cannot be read.
pub fn client_config(roots: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Arc<ClientConfig>, Error> {
    let tls = |what: &str, error: &dyn std::fmt::Display| Error::Tls(format!("{what}: {error}"));
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots) {
        store
            .add(root.map_err(|e| tls("root certificates", &e))?)
            .map_err(|e| tls("root certificates", &e))?;
    }
    if store.is_empty() {
        return Err(Error::Tls("no root certificate is given".into()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| tls("protocol versions", &e))?
        .with_root_certificates(store);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| tls("the device's key", &e))?;
            builder
                .with_client_auth_cert(chain.map_err(|e| tls("the device's certificate", &e))?, key)
                .map_err(|e| tls("the device's certificate", &e))?
        }
    };
    Ok(Arc::new(config))
}
