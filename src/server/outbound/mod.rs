//! Everything where the server calls out by HTTPS: webhooks, conversion, extension servers.
//!
//! Words: a *peer* is where to call and whom to trust there; its *host* is a name with a port, or a Service, which is resolved to one of
//! its ready endpoints whenever a connection is made.
//!
//! Invariants: connections are reused per host, trust and identity; an answer is bounded in size and a call in time; the name that a
//! certificate must carry is `SERVICE.NAMESPACE.svc` for a Service, else the host of the URL; redirects are answers, never followed.
//!
//! Never: sends credentials of a client or of this server (but for the front proxy's certificate, where asked to), or speaks plain HTTP.
//!
//! Follows upstream's `apiserver/pkg/util/webhook` and `util/proxy`; errors read as Go's.

mod answer;
mod connect;
mod service;
mod tls;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio_rustls::client::TlsStream;

use crate::server::store::Store;
pub use crate::server::tunnel::Link;
use crate::server::tunnel::Tunnels;
use crate::transport::LiveCertificate;
pub use connect::unverified;
use connect::{DialError, Dialer};
pub use service::Unresolved;
pub use tls::Roots;

/// How long an unused connection is kept, as Go.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept for one peer.
const MOST_IDLE: usize = 25;
/// Peers whose connections are kept; of more, the one that was not used for longest is forgotten.
const MOST_PEERS: usize = 256;
/// A silent HTTP/2 connection is asked whether it lives this often, as Go.
const PING: Duration = Duration::from_secs(30);

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A host name or address, and a port.
    Named(String, u16),
    /// A Service's port.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port's number.
        port: u16,
    },
}

impl Host {
    /// The name that the certificate must carry.
    fn server_name(&self) -> String {
        match self {
            Host::Named(name, _) => name.trim_start_matches('[').trim_end_matches(']').to_owned(),
            Host::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }

    /// What goes into URLs and the `Host` header.
    pub fn authority(&self) -> String {
        match self {
            Host::Named(name, port) => authority(name, *port),
            Host::Service { port, .. } => authority(&self.server_name(), *port),
        }
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where to call, and whom to trust there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where.
    pub host: Host,
    /// The path, and query if any, of calls; begins with `/`.
    pub path: String,
    /// Whom to trust.
    pub roots: Roots,
    /// Whether to show the front proxy's certificate.
    pub as_front_proxy: bool,
    /// The URL's authority as it was written (without a port that is the scheme's own).
    shown: String,
}

/// The Service of a client configuration: namespace, name, path, port.
pub type ServiceTarget<'a> = (&'a str, &'a str, Option<&'a str>, Option<i32>);

impl Peer {
    /// A peer by Service.
    pub fn service(namespace: &str, name: &str, path: &str, port: u16, roots: Roots) -> Peer {
        let host = Host::Service { namespace: namespace.into(), name: name.into(), port };
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}") };
        Peer { shown: host.authority(), host, path, roots, as_front_proxy: false }
    }

    /// What a webhook's client configuration says: exactly one of URL and Service, and perhaps a CA bundle. The error says what is wrong
    /// with it.
    pub fn webhook(url: Option<&str>, service: Option<ServiceTarget<'_>>, ca_bundle: Option<&[u8]>) -> Result<Peer, CallError> {
        let unusable = |why: String| CallError::Unusable(why);
        let roots = Roots::of(ca_bundle);
        match (url, service) {
            (None, Some((namespace, name, path, port))) => {
                let port = port.unwrap_or(443);
                let port = u16::try_from(port).map_err(|_| unusable(format!("{port} is no port")))?;
                Ok(Peer::service(namespace, name, path.unwrap_or("/"), port, roots))
            }
            (Some(url), None) => {
                let uri: Uri = url.parse().map_err(|error| unusable(format!("parse {url:?}: {error}")))?;
                let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| unusable(format!("{url:?} names no host")))?;
                if uri.scheme_str() != Some("https") {
                    return Err(unusable(format!("{url:?} is not https")));
                }
                let shown = uri.authority().map_or("", |authority| authority.as_str());
                let shown = shown.rsplit_once('@').map_or(shown, |(_, host)| host).to_owned();
                let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
                let host = Host::Named(host.into(), uri.port_u16().unwrap_or(443));
                Ok(Peer { host, path, roots, as_front_proxy: false, shown })
            }
            _ => Err(unusable("a webhook needs exactly one of a URL and a service".into())),
        }
    }

    /// The URL of a call with `query` (empty, or without `?`).
    pub fn url(&self, query: &str) -> String {
        let mark = if query.is_empty() || self.path.contains('?') { "" } else { "?" };
        let and = if !query.is_empty() && self.path.contains('?') { "&" } else { "" };
        format!("https://{}{}{mark}{and}{query}", self.shown, self.path)
    }
}

/// Why a call brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The peer can't be called at all: its URL, CA bundle or name makes no sense.
    #[error("{0}")]
    Unusable(String),
    /// Nothing came back.
    #[error("{method} \"{url}\": {why}")]
    Transport {
        /// `Post`, as Go writes methods in errors.
        method: String,
        /// Where.
        url: String,
        /// Why.
        why: String,
        /// Whether time ran out.
        timeout: bool,
    },
    /// Something else than a success came back.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What it says, in the words of upstream's client.
        message: String,
    },
    /// The answer does not end.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl CallError {
    fn transport(method: &Method, url: &str, why: impl Into<String>) -> CallError {
        CallError::Transport { method: go_method(method), url: url.into(), why: why.into(), timeout: false }
    }

    fn timeout(method: &Method, url: &str) -> CallError {
        CallError::Transport { method: go_method(method), url: url.into(), why: "context deadline exceeded".into(), timeout: true }
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, CallError::Transport { timeout: true, .. })
    }
}

/// `POST` as `Post`.
fn go_method(method: &Method) -> String {
    let lower = method.as_str().to_lowercase();
    let mut letters = lower.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// What connections are shared by.
#[derive(PartialEq, Eq, Hash)]
struct Kept {
    host: Host,
    /// Digest of the roots.
    roots: [u8; 32],
    as_front_proxy: bool,
}

/// Clients by what they are kept for, with the time of the last use.
#[derive(Default)]
struct Clients {
    by_peer: HashMap<Kept, (Client<Dialer, Body>, u64)>,
    uses: u64,
}

/// The caller. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tunnels: Tunnels,
    front_proxy: Option<Arc<LiveCertificate>>,
    clients: Mutex<Clients>,
}

impl Outbound {
    /// Resolves Services in `store`; shows `front_proxy` to the peers that say so.
    pub fn new(store: Store, front_proxy: Option<Arc<LiveCertificate>>) -> Outbound {
        Outbound::through(Tunnels::default(), store, front_proxy)
    }

    /// The same; what runs on a node that keeps a tunnel is reached through that.
    pub fn through(tunnels: Tunnels, store: Store, front_proxy: Option<Arc<LiveCertificate>>) -> Outbound {
        Outbound { inner: Arc::new(Inner { store, tunnels, front_proxy, clients: Mutex::default() }) }
    }

    /// POSTs JSON and returns the body of a 2xx answer of at most `limit` bytes, within `timeout`. `query` is added to the URL.
    pub async fn post(&self, peer: &Peer, query: &str, body: Bytes, timeout: Duration, limit: usize) -> Result<Bytes, CallError> {
        let json = HeaderValue::from_static("application/json");
        let request = Request::post(peer.url(query)).header(header::CONTENT_TYPE, json.clone()).header(header::ACCEPT, json);
        let request = request.body(Body::from(body)).map_err(|error| CallError::Unusable(error.to_string()))?;
        let answer = self.fetch(peer, request, timeout, limit).await?;
        let code = answer.status().as_u16();
        // As upstream's client: 206 is the last code that counts as an answer.
        if (200..=206).contains(&code) {
            return Ok(answer.into_body());
        }
        Err(CallError::Refused { code, message: answer::refusal(code, answer.body()) })
    }

    /// Sends a request with a small body and reads the whole answer, whatever its status, within `timeout` and `limit` bytes.
    pub async fn fetch(&self, peer: &Peer, request: Request<Body>, timeout: Duration, limit: usize) -> Result<Response<Bytes>, CallError> {
        let (method, url) = (request.method().clone(), request.uri().to_string());
        let exchange = async {
            let (parts, body) = self.send(peer, request).await?.into_parts();
            let bytes = collect(body, limit).await.map_err(|error| match error {
                Unread::TooLarge => CallError::TooLarge(limit),
                Unread::Broken(why) => CallError::transport(&method, &url, why),
            })?;
            Ok(Response::from_parts(parts, bytes))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(done) => done,
            Err(_) => Err(CallError::timeout(&method, &url)),
        }
    }

    /// Sends a request whose URL is one of [`Peer::url`]'s host, and returns the answer as soon as its head is there. Both bodies stream.
    pub async fn send(&self, peer: &Peer, mut request: Request<Body>) -> Result<Response<Incoming>, CallError> {
        let client = self.client(peer)?;
        let (method, url) = (request.method().clone(), request.uri().to_string());
        if let Ok(agent) = HeaderValue::from_str(concat!("kube-apiserver-orch/", env!("CARGO_PKG_VERSION"))) {
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        }
        client.request(request).await.map_err(|error| CallError::transport(&method, &url, text(&error)))
    }

    /// A connection of one's own that speaks HTTP/1.1, for upgrades. Never pooled.
    pub async fn connect(&self, peer: &Peer) -> Result<TlsStream<Link>, CallError> {
        let dialer = self.dialer(peer, &[b"http/1.1"])?;
        dialer.dial().await.map_err(|error| CallError::transport(&Method::GET, &peer.url(""), error.0))
    }

    /// Whether the host of a peer can be resolved now, without connecting: for health checks.
    pub fn resolves(&self, peer: &Peer) -> Result<(), Unresolved> {
        match &peer.host {
            Host::Named(..) => Ok(()),
            Host::Service { namespace, name, port } => service::places(&self.inner.store.snapshot(), namespace, name, *port).map(drop),
        }
    }

    fn dialer(&self, peer: &Peer, protocols: &[&[u8]]) -> Result<Dialer, CallError> {
        let shown = self.inner.front_proxy.clone().filter(|_| peer.as_front_proxy);
        let tls = tls::config(&peer.roots, shown, protocols).map_err(CallError::Unusable)?;
        Ok(Dialer {
            store: self.inner.store.clone(),
            tunnels: self.inner.tunnels.clone(),
            host: Arc::new(peer.host.clone()),
            tls: Arc::new(tls),
        })
    }

    fn client(&self, peer: &Peer) -> Result<Client<Dialer, Body>, CallError> {
        let kept = Kept { host: peer.host.clone(), roots: digest(&peer.roots), as_front_proxy: peer.as_front_proxy };
        let mut clients = self.inner.clients.lock();
        clients.uses += 1;
        let now = clients.uses;
        if let Some((client, used)) = clients.by_peer.get_mut(&kept) {
            *used = now;
            return Ok(client.clone());
        }
        drop(clients);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING)
            .http2_adaptive_window(true)
            .build(self.dialer(peer, &[b"h2", b"http/1.1"])?);
        let mut clients = self.inner.clients.lock();
        if clients.by_peer.len() >= MOST_PEERS
            && let Some(oldest) = clients.by_peer.values().map(|(_, used)| *used).min()
        {
            clients.by_peer.retain(|_, (_, used)| *used != oldest);
        }
        clients.by_peer.insert(kept, (client.clone(), now));
        Ok(client)
    }
}

fn digest(roots: &Roots) -> [u8; 32] {
    let pem = match roots {
        Roots::System => &b"system"[..],
        Roots::Anybody => &b"anybody"[..],
        Roots::Bundle(pem) => pem,
    };
    ring::digest::digest(&ring::digest::SHA256, pem).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    Broken(String),
}

/// A body of at most `limit` bytes.
async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Unread> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unread::Broken(text(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Unread::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The innermost reason that says something.
fn text(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    let mut last = error;
    while let Some(error) = next {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.0.clone();
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return connect::io_text(io);
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_closed()) {
            return "EOF".into();
        }
        last = error;
        next = error.source();
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let peer = Peer::webhook(None, Some(("n", "s", Some("/x"), None)), None).unwrap();
        assert_eq!(peer.url("timeout=10s"), "https://s.n.svc:443/x?timeout=10s");
        assert_eq!(peer.host.server_name(), "s.n.svc");
        for (url, query, want) in [
            ("https://h.example.org/hook", "timeout=1s", Ok("https://h.example.org/hook?timeout=1s")),
            ("https://h:8443", "", Ok("https://h:8443/")),
            ("https://[::1]:8443/a?b=c", "d=e", Ok("https://[::1]:8443/a?b=c&d=e")),
            ("http://h/", "", Err(())),
            ("https:///", "", Err(())),
            ("/x", "", Err(())),
        ] {
            let got = Peer::webhook(Some(url), None, None).map(|peer| peer.url(query)).map_err(drop);
            assert_eq!(got, want.map(str::to_owned), "{url}");
        }
        assert!(Peer::webhook(None, None, None).is_err());
        assert!(Peer::webhook(None, Some(("n", "s", None, Some(70000))), None).is_err());
        assert_eq!(go_method(&Method::POST), "Post");
    }
}
