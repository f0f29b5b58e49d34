//! The accept loop that the API server and the agent share: TCP, TLS, HTTP/1.1 and HTTP/2 with upgrades, on one port.
//!
//! Invariants: a handshake is bounded in time and connections in count; who is at the other end is read off its certificate once
//! per connection, and is an extension of each of its requests; on shutdown no new connection is taken, requests in flight are finished, streams end by the token that
//! handlers share.
//!
//! Never: decides who may do what.

mod live;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub use live::{LiveCertificate, LiveError};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's headers over HTTP/2, as Go's server allows. (Over HTTP/1.1 hyper bounds them at about 400 KiB.)
const MAX_HEADERS: u32 = 1 << 20;
/// How long requests in flight may take after shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once. Beyond it clients wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// Pause after a failed accept: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients that do not trust the server are told of this often at most: each comes back at once.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is broken.
    #[error("the listener of the {0} has no address: {1}")]
    Listener(&'static str, std::io::Error),
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, if it showed one: verified by then.
    pub certificate: Option<CertificateDer<'static>>,
    /// Further certificates that it showed.
    pub intermediates: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// The common name of the certificate's subject.
    pub fn common_name(&self) -> Option<String> {
        let (_, certificate) = x509_parser::parse_x509_certificate(self.certificate.as_ref()?).ok()?;
        certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
    }
}

/// Serves `router` until `shutdown`, then finishes what is in flight. `name` is for the log. What `identify` makes of a connection's
/// other end becomes an extension of its requests; an error refuses the connection. `arrived` is told, before the handshake, at which of
/// this machine's addresses a client arrived.
pub async fn serve<I: Clone + Send + Sync + 'static>(
    name: &'static str,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    arrived: impl Fn(IpAddr) + Clone + Send + Sync + 'static,
    identify: impl Fn(&Peer) -> Result<I, String> + Clone + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(|error| ServeError::Listener(name, error))?;
    tracing::info!(%address, "the {name} is listening");
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a connection that died in the queue: neither may stop the server, nor spin it.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "setting TCP_NODELAY");
        }
        let (acceptor, router, shutdown, identify) = (acceptor.clone(), router.clone(), shutdown.clone(), identify.clone());
        let arrived = arrived.clone();
        connections.spawn(async move {
            if let Ok(at) = stream.local_addr() {
                arrived(at.ip().to_canonical());
            }
            connection(stream, address, acceptor, router, identify, shutdown).await;
            drop(slot);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections did not end in time; dropping them");
    }
    Ok(())
}

/// Whether a client says that it does not accept the certificate that it was shown.
fn distrusts(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, DecryptError, UnknownCA};
    // The last but one: of an authority of the same name, and another key.
    matches!(alert, BadCertificate | CertificateExpired | CertificateUnknown | DecryptError | UnknownCA)
}

fn is_time_to_tell() -> bool {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let mut told = TOLD.lock();
    let due = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
    if due {
        *told = Some(Instant::now());
    }
    due
}

/// Serves one connection to its end.
pub async fn connection<I: Clone + Send + Sync + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    identify: impl Fn(&Peer) -> Result<I, String>,
    shutdown: CancellationToken,
) {
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // A certificate that is refused is somebody who wants in; everything else is scanners and closed laptops.
            let refused = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            match refused {
                Some(rustls::Error::InvalidCertificate(why)) => tracing::info!(%address, error = %why, "refused a client's certificate"),
                Some(rustls::Error::AlertReceived(alert)) if distrusts(*alert) => {
                    if is_time_to_tell() {
                        tracing::info!(%address, ?alert, "a client does not accept this server's certificate");
                    }
                }
                _ => tracing::debug!(%address, %error, "TLS handshake"),
            }
            return;
        }
        Err(_) => return tracing::debug!(%address, "TLS handshake timed out"),
    };
    let mut chain = stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned());
    let (certificate, intermediates) = (chain.next(), chain.collect());
    let identity = match identify(&Peer { address, certificate, intermediates }) {
        Ok(identity) => identity,
        Err(error) => return tracing::info!(%address, %error, "refused a connection"),
    };
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(identity.clone());
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(1000)
        .max_header_list_size(MAX_HEADERS);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut asked_to_end = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%address, %error, "connection");
                }
                return;
            }
            () = shutdown.cancelled(), if !asked_to_end => {
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
