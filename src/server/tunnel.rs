//! The way to a node: through the tunnel that it keeps open, or by dialling it.
//!
//! Words: a *tunnel* is a connection that a node's agent made to this server and turned around: this server speaks HTTP/2 over it as a
//! client, and asks for byte pipes to addresses of that node by CONNECT (RFC 9113, 8.5). A *link* is a connection to such an address,
//! whichever way it goes.
//!
//! Invariants: there is one place where the way is chosen, [`Tunnels::connect`]; of two tunnels of a node the newer counts; a tunnel that does
//! not answer is given up, and the node is dialled.
//!
//! Never: decides who may keep a tunnel for whom, or looks at what goes through one; TLS to the node is the same either way.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// How often a silent tunnel is asked whether it lives, and how long the answer may take.
const PING: Duration = Duration::from_secs(10);
/// How long a tunnel may take to open a pipe. The node dials for less.
const OPEN: Duration = Duration::from_secs(6);
/// Largest explanation of a node why it can't.
const REASON: usize = 1024;

/// All tunnels. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tunnels {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    by_node: Mutex<HashMap<String, Tunnel>>,
    made: AtomicU64,
}

#[derive(Clone)]
struct Tunnel {
    /// Tells it from others of the same node.
    id: u64,
    requests: SendRequest<Empty<Bytes>>,
}

/// Why there is no link.
#[derive(Debug)]
pub struct NoLink {
    /// Whether the node itself was asked, through its tunnel.
    pub tunnelled: bool,
    /// What happened there, or here.
    pub error: io::Error,
}

impl NoLink {
    /// For people: the link to `at` (`HOST:PORT`), an address of `node`.
    pub fn explain(&self, node: &str, at: &str) -> String {
        match self.tunnelled {
            true => format!("node {node}, asked through its tunnel, can't connect to {at}: {}", self.error),
            false => format!("node {node} keeps no tunnel and can't be dialled at {at}: {}", self.error),
        }
    }
}

/// Why a tunnel opened no pipe.
enum Fault {
    /// The node says so.
    Refused(io::Error),
    /// It does not answer.
    Broken(String),
}

impl Tunnels {
    /// A link to an address of a node; without a name of a node, or where it keeps no tunnel, by dialling. The caller bounds the time.
    pub async fn connect(&self, node: &str, host: &str, port: u16) -> Result<Link, NoLink> {
        let tunnel = self.inner.by_node.lock().get(node).cloned();
        if let Some(tunnel) = tunnel {
            let id = tunnel.id;
            match tunnel.open(&authority(host, port)).await {
                Ok(pipe) => return Ok(Link::Through(pipe)),
                Err(Fault::Refused(error)) => return Err(NoLink { tunnelled: true, error }),
                Err(Fault::Broken(why)) => {
                    tracing::info!(node, why, "the tunnel of a node does not answer; dialling the node");
                    self.forget(node, id);
                }
            }
        }
        let dialled = TcpStream::connect((bare(host), port)).await;
        let stream = dialled.map_err(|error| NoLink { tunnelled: false, error })?;
        // Without it, small messages wait for a timer; a socket that refuses the option still works.
        stream.set_nodelay(true).ok();
        Ok(Link::Direct(stream))
    }

    /// Whether a node keeps a tunnel at present.
    pub fn has(&self, node: &str) -> bool {
        self.inner.by_node.lock().contains_key(node)
    }

    /// Uses the connection as the tunnel of a node until it ends, or `stop`. The caller has made sure that it is that node's.
    pub async fn keep(&self, node: &str, connection: Upgraded, stop: CancellationToken) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .adaptive_window(true);
        let (requests, connection) = match builder.handshake::<_, Empty<Bytes>>(connection).await {
            Ok(pair) => pair,
            Err(error) => return tracing::warn!(node, %error, "the tunnel of a node came to nothing"),
        };
        let id = self.inner.made.fetch_add(1, Ordering::Relaxed);
        self.inner.by_node.lock().insert(node.into(), Tunnel { id, requests });
        tracing::info!(node, "a node keeps a tunnel open");
        let ended = tokio::select! {
            ended = connection => ended.err().map_or_else(|| "closed".into(), |error| error.to_string()),
            () = stop.cancelled() => "stopping".into(),
        };
        self.forget(node, id);
        tracing::info!(node, why = ended, "the tunnel of a node ended");
    }

    fn forget(&self, node: &str, id: u64) {
        let mut tunnels = self.inner.by_node.lock();
        if tunnels.get(node).is_some_and(|tunnel| tunnel.id == id) {
            tunnels.remove(node);
        }
    }
}

impl Tunnel {
    async fn open(mut self, to: &str) -> Result<TokioIo<Upgraded>, Fault> {
        let broken = |error: &dyn std::fmt::Display| Fault::Broken(error.to_string());
        let request = Request::connect(to).body(Empty::new()).map_err(|error| broken(&error))?;
        let opened = async {
            self.requests.ready().await.map_err(|error| broken(&error))?;
            let mut answer = self.requests.send_request(request).await.map_err(|error| broken(&error))?;
            if answer.status() != StatusCode::OK {
                return Err(Fault::Refused(reason(answer.status(), answer.into_body()).await));
            }
            hyper::upgrade::on(&mut answer).await.map(TokioIo::new).map_err(|error| broken(&error))
        };
        tokio::time::timeout(OPEN, opened).await.unwrap_or_else(|_| Err(Fault::Broken(format!("no answer within {OPEN:?}"))))
    }
}

/// What a node says why it can't connect.
async fn reason(status: StatusCode, body: Incoming) -> io::Error {
    let kind = match status {
        StatusCode::BAD_GATEWAY => io::ErrorKind::ConnectionRefused,
        StatusCode::SERVICE_UNAVAILABLE => io::ErrorKind::HostUnreachable,
        StatusCode::GATEWAY_TIMEOUT => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::PermissionDenied,
    };
    let text = Limited::new(body, REASON).collect().await.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    io::Error::new(kind, text.unwrap_or_else(|_| status.to_string()))
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn authority(host: &str, port: u16) -> String {
    let host = bare(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A connection to an address of a node.
#[derive(Debug)]
pub enum Link {
    /// Dialled.
    Direct(TcpStream),
    /// By a pipe of the node's tunnel.
    Through(TokioIo<Upgraded>),
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Direct(stream) => Pin::new(stream).poll_read(context, buffer),
            Link::Through(pipe) => Pin::new(pipe).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Direct(stream) => Pin::new(stream).poll_write(context, bytes),
            Link::Through(pipe) => Pin::new(pipe).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Direct(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Link::Through(pipe) => Pin::new(pipe).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Link::Direct(stream) => stream.is_write_vectored(),
            Link::Through(pipe) => pipe.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Direct(stream) => Pin::new(stream).poll_flush(context),
            Link::Through(pipe) => Pin::new(pipe).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Direct(stream) => Pin::new(stream).poll_shutdown(context),
            Link::Through(pipe) => Pin::new(pipe).poll_shutdown(context),
        }
    }
}
