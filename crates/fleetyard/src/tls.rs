//! TLS of both front ends: versions, resumption, the server's certificate that can be swapped while clients are connected,
//! and client certificates, which are asked for and taken unchecked: the engine compares their thumbprints.
//! It must never take a connection whose client does not hold the key of the certificate that it shows.

pub mod authority;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use self::authority::Authority;
use crate::config::{CertificateSource, Settings};

/// The server's certificate in use, and how to look for a newer one.
pub struct ServerCertificate {
    source: CertificateSource,
    authority: Authority,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Reads the certificate, and makes it first if it is the hub's own and missing.
    pub fn open(settings: &Settings) -> Result<Arc<ServerCertificate>> {
        let source = settings.certificate.clone();
        let authority = Authority::new(settings.data.join("tls"));
        let provider = Arc::new(cheapest_first(rustls::crypto::ring::default_provider()));
        let names = settings.names();
        let current = RwLock::new(read(&source, &authority, &names, &provider)?);
        Ok(Arc::new(ServerCertificate { source, authority, names, provider, current }))
    }

    /// Looks for a newer certificate; connections from now on get it. On error the former one stays.
    pub fn reload(&self) -> Result<()> {
        let new = read(&self.source, &self.authority, &self.names, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The authority's certificate that clients need; `None` when the operator brings his own.
    pub fn ca(&self) -> Option<std::path::PathBuf> {
        (self.source == CertificateSource::Own).then(|| self.authority.ca())
    }

    /// The configuration of a front end; `protocols` are what it speaks, as TLS names them (ALPN).
    pub fn server_config(self: &Arc<Self>, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(AnyClient { provider: self.provider.clone() }))
            .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        // Tickets hold the session at the client, so resumption costs the hub no memory however many devices there are.
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        // A device resumes once with each ticket, and gets the next one as it does.
        config.send_tls13_tickets = 1;
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }
}

/// Puts suites with AES-128 and SHA-256 first, each as strong as the curves and keys around it: processors do both in
/// hardware, but not SHA-384, and a handshake hashes a lot. Small devices gain more than the hub does.
fn cheapest_first(mut provider: CryptoProvider) -> CryptoProvider {
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).ends_with("AES_128_GCM_SHA256"));
    provider
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(
    source: &CertificateSource,
    authority: &Authority,
    names: &[String],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>> {
    let (certificate, key) = match source {
        CertificateSource::Own => {
            authority.ensure(names, SystemTime::now())?;
            (authority.server(), authority.server_key())
        }
        CertificateSource::Files { certificate, key } => (certificate.clone(), key.clone()),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow::anyhow!("cannot read the certificate {}: {error}", certificate.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} has no certificate in PEM", certificate.display());
    let secret = PrivateKeyDer::from_pem_file(&key)
        .map_err(|error| anyhow::anyhow!("cannot read the key {}: {error}", key.display()))?;
    let certified = CertifiedKey::from_der(chain, secret, provider).with_context(|| {
        format!("certificate {} and key {} do not serve together", certificate.display(), key.display())
    })?;
    Ok(Arc::new(certified))
}

/// Asks for a certificate, takes any or none, and checks that the client holds its key.
#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
