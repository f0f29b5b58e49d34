//! The tunnel by which the server reaches this node, also where it can't dial it: the agent dials the server, and turns the connection around.
//!
//! The server speaks HTTP/2 over it as a client, and asks by CONNECT for byte pipes to addresses of this node: its HTTPS port for logs,
//! exec and the like, and its pods. Whoever is at the other end has shown a certificate of the cluster's authority for the server.
//!
//! Invariants: pipes lead to addresses of this node and its pods only; there is one tunnel at a time; one that ended is opened again, with
//! growing pauses.
//!
//! Never: looks at what goes through: the HTTPS port still wants the API server's own client certificate.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::Ipv4Net;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::api::cluster::{TUNNEL_PROTOCOL, tunnel_path};

/// Pauses before another attempt; they begin anew after a tunnel that lasted for a while.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LASTED: Duration = Duration::from_secs(60);
/// To reach the server, and to be answered.
const CONNECT: Duration = Duration::from_secs(10);
/// To reach an address of this node.
const DIAL: Duration = Duration::from_secs(5);
/// How often a silent tunnel is asked whether it lives, and how long the answer may take.
const PING: Duration = Duration::from_secs(10);
/// Pipes at once.
const PIPES: u32 = 1000;
/// Largest explanation of a refusal that is read.
const REASON: usize = 4096;

/// What a tunnel needs to know.
pub struct TunnelConfig {
    /// Host and port of the server.
    pub server: (String, u16),
    /// TLS to the server, as this node, for HTTP/1.1.
    pub tls: Arc<rustls::ClientConfig>,
    /// This node.
    pub node: String,
    /// What the server may ask for.
    pub reach: Reach,
}

/// The addresses that pipes may lead to.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// This node's own address.
    pub node_ip: IpAddr,
    /// The port of its HTTPS server.
    pub kubelet_port: u16,
    /// Its pods.
    pub pods: Ipv4Net,
}

impl Reach {
    /// Where to dial for what the server asks for; `None`: nowhere.
    fn target(&self, asked: &str) -> Option<SocketAddr> {
        let asked: SocketAddr = asked.parse().ok()?;
        match asked.ip() {
            // The HTTPS server is this very process.
            ip if ip == self.node_ip && asked.port() == self.kubelet_port => Some((Ipv4Addr::LOCALHOST, asked.port()).into()),
            ip if ip == self.node_ip => Some(asked),
            IpAddr::V4(ip) if self.pods.contains(&ip) => Some(asked),
            _ => None,
        }
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("the server at {0} can't be reached: {1}")]
    Connect(String, io::Error),
    #[error("the server at {0} did not answer within {CONNECT:?}")]
    Silent(String),
    #[error("asking for a tunnel: {0}")]
    Http(#[from] hyper::Error),
    #[error("the server refused a tunnel ({0}): {1}")]
    Refused(StatusCode, String),
    #[error("asking for a tunnel: {0}")]
    Request(#[from] http::Error),
}

/// Keeps a tunnel open until `stop`.
pub async fn keep(config: TunnelConfig, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = once(&config) => ended,
            () = stop.cancelled() => return,
        };
        if began.elapsed() >= LASTED {
            pause = FIRST_PAUSE;
        }
        match ended {
            Ok(()) => tracing::info!(again_in = ?pause, "the tunnel to the server ended"),
            Err(error) => {
                tracing::warn!(%error, again_in = ?pause, "there is no tunnel to the server, which must dial this node meanwhile")
            }
        }
        tokio::select! {
            // Not all nodes at once.
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One tunnel, to its end.
async fn once(config: &TunnelConfig) -> Result<(), TunnelError> {
    let (host, port) = &config.server;
    let at = format!("{host}:{port}");
    let opened = tokio::time::timeout(CONNECT, open(config, &at)).await;
    let connection = opened.unwrap_or_else(|_| Err(TunnelError::Silent(at)))?;
    tracing::info!("the server reaches this node through a tunnel");
    let reach = config.reach;
    let service = hyper::service::service_fn(move |request| async move { Ok::<_, std::convert::Infallible>(answer(reach, request).await) });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING).max_concurrent_streams(PIPES).adaptive_window(true);
    Ok(builder.serve_connection(connection, service).await?)
}

async fn open(config: &TunnelConfig, at: &str) -> Result<Upgraded, TunnelError> {
    let (host, port) = &config.server;
    let unreached = |error| TunnelError::Connect(at.into(), error);
    let name = ServerName::try_from(host.clone()).map_err(|error| unreached(io::Error::other(error)))?;
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreached)?;
    stream.set_nodelay(true).map_err(unreached)?;
    let stream = TlsConnector::from(config.tls.clone()).connect(name, stream).await.map_err(unreached)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange; its errors show up at the sender.
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(tunnel_path(&config.node))
        .header(HOST, at)
        .header(USER_AGENT, super::join::PROGRAM)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, TUNNEL_PROTOCOL)
        .body(Empty::<Bytes>::new())?;
    let mut response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), REASON).collect().await;
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        let message = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|status| Some(status["message"].as_str()?.to_owned()));
        return Err(TunnelError::Refused(status, message.unwrap_or(text)));
    }
    Ok(hyper::upgrade::on(&mut response).await?)
}

/// One request of the server's.
async fn answer(reach: Reach, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let say = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::CONNECT {
        return say(StatusCode::METHOD_NOT_ALLOWED, "a tunnel takes CONNECT only".into());
    }
    let asked = request.uri().authority().map(|authority| authority.to_string()).unwrap_or_default();
    let Some(target) = reach.target(&asked) else {
        tracing::warn!(asked, "the server asked for an address that is not this node's");
        return say(StatusCode::FORBIDDEN, format!("{asked} is no address of this node or its pods"));
    };
    let dialled = tokio::time::timeout(DIAL, TcpStream::connect(target)).await;
    let mut stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return say(StatusCode::BAD_GATEWAY, error.to_string()),
        Ok(Err(error)) => return say(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Err(_) => return say(StatusCode::GATEWAY_TIMEOUT, format!("no answer within {DIAL:?}")),
    };
    // Without it, small messages wait for a timer; a socket that refuses the option still works.
    stream.set_nodelay(true).ok();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let ended = match upgrade.await {
            Ok(pipe) => tokio::io::copy_bidirectional(&mut TokioIo::new(pipe), &mut stream).await.map(drop),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!(%target, %error, "a pipe of the tunnel ended");
        }
    });
    Response::new(Full::default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_pipes_may_lead() {
        let reach = Reach { node_ip: [192, 0, 2, 1].into(), kubelet_port: 10250, pods: "10.42.1.0/24".parse().unwrap() };
        for (asked, want) in [
            ("192.0.2.1:10250", Some("127.0.0.1:10250")),
            ("192.0.2.1:8080", Some("192.0.2.1:8080")),
            ("10.42.1.7:80", Some("10.42.1.7:80")),
            ("10.42.2.7:80", None),
            ("127.0.0.1:10250", None),
            ("192.0.2.2:22", None),
            ("[::1]:22", None),
            ("localhost:22", None),
            ("", None),
        ] {
            assert_eq!(reach.target(asked).map(|to| to.to_string()).as_deref(), want, "{asked}");
        }
    }
}
