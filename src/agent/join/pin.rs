//! The first contact: all that is known of the server is the hash of its authority's key. It shows the authority along with its certificate,
//! and nothing is said to it before both hold.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::JoinError;
use crate::api::join_token::AuthorityHash;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts a server that shows the authority of this hash, and is certified by it.
#[derive(Debug)]
struct Pinned {
    wanted: AuthorityHash,
    provider: Arc<CryptoProvider>,
    /// Authorities that were shown instead.
    others: Mutex<Vec<AuthorityHash>>,
}

impl Pinned {
    fn authority<'a>(&self, shown: &'a [CertificateDer<'a>]) -> Option<&'a CertificateDer<'a>> {
        shown.iter().find(|certificate| AuthorityHash::of(certificate) == Some(self.wanted))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = self.authority(intermediates) else {
            *self.others.lock() = intermediates.iter().filter_map(|certificate| AuthorityHash::of(certificate)).collect();
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate of the authority that `wanted` is the hash of, DER, from the server at `host` and `port`, which is certified by it.
pub async fn authority(host: &str, port: u16, wanted: AuthorityHash) -> Result<CertificateDer<'static>, JoinError> {
    let at = || format!("{host}:{port}");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { wanted, provider: provider.clone(), others: Mutex::default() });
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| JoinError::Url(format!("{host:?} is no host name or address")))?;
    let dial = async {
        let stream = TcpStream::connect((host, port)).await?;
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await
    };
    let unreachable = |why: String| JoinError::Unreachable { at: at(), why };
    let stream = match tokio::time::timeout(TIMEOUT, dial).await {
        Err(_) => return Err(unreachable(format!("no answer within {TIMEOUT:?}"))),
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(match super::refusal(&error) {
                Some(CertificateError::UnknownIssuer) => {
                    let shown = verifier.others.lock().iter().map(AuthorityHash::to_string).collect::<Vec<_>>();
                    let shown = if shown.is_empty() { "none".into() } else { shown.join(", ") };
                    JoinError::OtherCluster { at: at(), wanted: wanted.to_string(), shown }
                }
                Some(why) => JoinError::Certificate { at: at(), why: why.to_string() },
                None => unreachable(error.to_string()),
            });
        }
    };
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let found = verifier.authority(shown).map(|certificate| certificate.clone().into_owned());
    found.ok_or_else(|| unreachable("it showed no authority".into()))
}
