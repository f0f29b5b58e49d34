//! HTTP checks. With scheme HTTPS the certificate is not verified, as upstream: the address is the pod's own, not a name. Follows
//! pkg/probe/http, except that a redirect is not followed and counts as success.
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::check::connect;

/// Fetches the page; a code from 200 to 399 is success.
pub async fn get(action: &HTTPGetAction, host: &str, port: u16, limit: Duration) -> Result<(), String> {
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let url = format!("{scheme}://{shown}{path}");
    let work = async {
        let stream = connect(host, port, limit).await?;
        let request = request(action, &shown, &path)?;
        match scheme.as_str() {
            "https" => {
                let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
                let tls = connector().connect(name, stream).await.map_err(|e| e.to_string())?;
                ask(tls, request).await
            }
            _ => ask(stream, request).await,
        }
    };
    let code = match timeout(limit, work).await {
        Ok(Ok(code)) => code,
        Ok(Err(why)) => return Err(format!("Get \"{url}\": {why}")),
        Err(_) => return Err(format!("Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)")),
    };
    if (200..400).contains(&code) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) }
}

fn request(action: &HTTPGetAction, host: &str, path: &str) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut request = http::Request::get(path);
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let given = |name: &str| headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    if !given("host") {
        request = request.header("host", host);
    }
    if !given("user-agent") {
        request = request.header("user-agent", "kube-probe/1.37");
    }
    if !given("accept") {
        request = request.header("accept", "*/*");
    }
    for header in headers.iter().filter(|h| !h.value.is_empty() || !matches!(&*h.name.to_lowercase(), "accept" | "user-agent")) {
        request = request.header(&header.name, &header.value);
    }
    request.header("connection", "close").body(Empty::new()).map_err(|e| e.to_string())
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: http::Request<Empty<Bytes>>) -> Result<u16, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let code = response.status().as_u16();
        // One frame is enough to let the server see that it was read.
        let _ = response.into_body().frame().await;
        Ok(code)
    };
    tokio::select! {
        result = exchange => result,
        Err(error) = connection => Err(error.to_string()),
    }
}

fn connector() -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

/// Accepts every certificate: a probe asks whether a pod answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
