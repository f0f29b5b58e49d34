//! A certificate that is replaced while it is in use: connections made from then on show the new one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate with its issuers and its key, or none yet. Serves both ends of a connection.
#[derive(Debug, Default)]
pub struct LiveCertificate(ArcSwapOption<CertifiedKey>);

/// Why a certificate can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Not what PEM should be.
    #[error("reading a certificate or its key: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The key is of no use, or another certificate's.
    #[error("using a certificate and its key: {0}")]
    Tls(#[from] rustls::Error),
}

impl LiveCertificate {
    /// Shows the certificates and the key in `chain_pem` and `key_pem` from now on.
    pub fn set(&self, chain_pem: &str, key_pem: &str, provider: &CryptoProvider) -> Result<(), LiveError> {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
        self.0.store(Some(Arc::new(CertifiedKey::from_der(chain, key, provider)?)));
        Ok(())
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl ResolvesClientCert for LiveCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}
