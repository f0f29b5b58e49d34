//! Making one TLS connection: find the places, try them in a random order, shake hands. Errors read as Go's `net` and `crypto/tls` say
//! them, since that is what people search for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::service::{self, Place};
use super::tls::{self, Roots};
use super::{Host, authority};
use crate::server::store::Store;
use crate::server::tunnel::{Link, Tunnels};

/// For one place, as Go's default dialer of API clients.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of several endpoints, how many are tried before giving up.
const MOST_TRIED: usize = 3;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(pub String);

/// Makes connections to one host; what a pool of connections is built on.
#[derive(Clone)]
pub(super) struct Dialer {
    pub store: Store,
    pub tunnels: Tunnels,
    pub host: Arc<Host>,
    pub tls: Arc<ClientConfig>,
}

impl Dialer {
    /// Connects and shakes hands.
    pub(super) async fn dial(&self) -> Result<TlsStream<Link>, DialError> {
        let name = self.host.server_name();
        let name = ServerName::try_from(name.clone()).map_err(|_| DialError(format!("invalid server name {name:?}")))?;
        let stream = self.tcp().await?;
        let shaken = tokio::time::timeout(CONNECT_TIMEOUT, TlsConnector::from(self.tls.clone()).connect(name, stream)).await;
        match shaken {
            Ok(result) => result.map_err(|error| DialError(handshake_text(&error))),
            Err(_) => Err(DialError("net/http: TLS handshake timeout".into())),
        }
    }

    fn places(&self) -> Result<Vec<Place>, DialError> {
        match &*self.host {
            Host::Named(name, port) => Ok(vec![Place { host: name.clone(), port: *port, node: String::new() }]),
            Host::Service { namespace, name, port } => {
                service::places(&self.store.snapshot(), namespace, name, *port).map_err(|why| DialError(why.to_string()))
            }
        }
    }

    async fn tcp(&self) -> Result<Link, DialError> {
        let mut places = self.places()?;
        places.shuffle(&mut rand::rng());
        let mut last = DialError("no address".into());
        for Place { host, port, node } in places.iter().take(MOST_TRIED) {
            match tokio::time::timeout(CONNECT_TIMEOUT, self.tunnels.connect(node, host, *port)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(unlinked)) => last = DialError(dial_text(host, *port, &unlinked.error)),
                Err(_) => last = DialError(format!("dial tcp {}: i/o timeout", authority(host, *port))),
            }
        }
        Err(last)
    }
}

/// Shakes hands over a connection with whoever is there, as upstream's proxies to pods do: clients of a proxy ask for TLS, not for a name.
/// `host` goes into the greeting. The error reads as Go's.
pub async fn unverified<S>(stream: S, host: &str) -> Result<TlsStream<S>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("invalid server name {host:?}"))?;
    let tls = Arc::new(tls::config(&Roots::Anybody, None, &[])?);
    match tokio::time::timeout(CONNECT_TIMEOUT, TlsConnector::from(tls).connect(name, stream)).await {
        Ok(result) => result.map_err(|error| handshake_text(&error)),
        Err(_) => Err("net/http: TLS handshake timeout".into()),
    }
}

fn dial_text(host: &str, port: u16, error: &io::Error) -> String {
    let place = authority(host, port);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {place}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {place}: connect: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("dial tcp {place}: connect: network is unreachable"),
        io::ErrorKind::TimedOut => format!("dial tcp {place}: i/o timeout"),
        io::ErrorKind::PermissionDenied => format!("dial tcp {place}: {error}"),
        // The system gives no errno for a failed lookup.
        _ if error.raw_os_error().is_none() => format!("dial tcp: lookup {host}: no such host"),
        _ => format!("dial tcp {place}: connect: {error}"),
    }
}

fn handshake_text(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!("tls: failed to verify certificate: x509: {}", certificate_text(why)),
        Some(rustls::Error::AlertReceived(alert)) => format!("remote error: tls: {alert:?}"),
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".into(),
        Some(other) => format!("tls: {other}"),
        None => io_text(error),
    }
}

fn certificate_text(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "certificate signed by unknown authority".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate has expired or is not yet valid".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate has expired or is not yet valid".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let name = expected.to_str();
            match presented.is_empty() {
                true => format!("certificate is not valid for any names, but wanted to match {name}"),
                false => {
                    let names = presented.iter().map(|name| presented_name(name)).collect::<Vec<_>>().join(", ");
                    format!("certificate is valid for {names}, not {name}")
                }
            }
        }
        other => format!("{other:?}"),
    }
}

/// `DnsName("a")` as `a`, which is how webpki names what a certificate holds.
fn presented_name(shown: &str) -> &str {
    shown
        .split_once("(\"")
        .and_then(|(_, rest)| rest.strip_suffix("\")"))
        .or_else(|| shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')))
        .unwrap_or(shown)
}

/// A failed read or write, in Go's words.
pub(super) fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".into(),
        io::ErrorKind::ConnectionReset => "read: connection reset by peer".into(),
        io::ErrorKind::BrokenPipe => "write: broken pipe".into(),
        _ => error.to_string(),
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = Pooled;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Pooled, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial().await.map(|stream| Pooled(TokioIo::new(stream))) })
    }
}

/// A connection that a pool can keep.
pub(super) struct Pooled(TokioIo<TlsStream<Link>>);

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        let protocol = self.0.inner().get_ref().1.alpn_protocol();
        if protocol == Some(b"h2") { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Pooled {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Pooled {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
