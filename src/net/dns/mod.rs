//! The cluster's DNS server, in process.
//!
//! | file | what it is |
//! |---|---|
//! | [`zone`] | the records of the cluster domain, immutable once built |
//! | [`answer`] | a query and a zone to an answer, pure |
//! | [`forward`] | everything else: asked upstream, cached for a little while |
//! | `mod` | sockets: UDP, TCP, truncation |
//!
//! The zone is swapped whole; a query sees one zone from beginning to end and never waits for a change. What a client can make the server
//! hold is bounded: datagrams by their size, connections and forwarded queries by permits, the cache by its entries.
//!
//! It does not recurse by itself, transfer zones, sign, or take updates.

pub(crate) mod answer;
pub(crate) mod forward;
mod zone;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use answer::{Answer, answer};
use forward::Forwarder;
pub use forward::upstreams_of;
pub use zone::{Part, Record, Zone};

/// The largest answer over UDP, whatever the client says it can take: larger ones would be fragmented on some networks.
const LARGEST_DATAGRAM: u16 = 1232;
/// TCP connections at a time.
const CONNECTIONS: usize = 256;
/// How long a TCP connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("listening for DNS on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A server that has its sockets, and answers once [run](Server::run).
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    shared: Arc<Shared>,
}

struct Shared {
    zone: Arc<ArcSwap<Zone>>,
    forwarder: Forwarder,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Binds UDP and TCP on each address. Upstream servers that are one of these addresses are left out, for they would ask themselves.
    pub async fn bind(listen: &[SocketAddr], upstreams: &[SocketAddr], zone: Arc<ArcSwap<Zone>>) -> Result<Server, ServeError> {
        let mut sockets = Vec::with_capacity(listen.len());
        for address in listen {
            let failed = |source| ServeError::Listen { address: *address, source };
            let udp = UdpSocket::bind(address).await.map_err(failed)?;
            // The same port for both, also where the system chose it.
            let tcp = TcpListener::bind(udp.local_addr().map_err(failed)?).await.map_err(failed)?;
            sockets.push((udp, tcp));
        }
        let upstreams = upstreams.iter().filter(|upstream| !listen.contains(upstream)).copied().collect();
        let shared = Shared { zone, forwarder: Forwarder::new(upstreams), connections: Arc::new(Semaphore::new(CONNECTIONS)) };
        Ok(Server { sockets, shared: Arc::new(shared) })
    }

    /// The addresses in fact listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect()
    }

    /// Answers until the token is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = tokio::task::JoinSet::new();
        for (udp, tcp) in self.sockets {
            tasks.spawn(serve_udp(Arc::new(udp), Arc::clone(&self.shared), shutdown.clone()));
            tasks.spawn(serve_tcp(tcp, Arc::clone(&self.shared), shutdown.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut buffer = vec![0; 4096];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here is an ICMP answer to something sent before: nothing of this socket's.
        let Ok((len, client)) = received else { continue };
        match first_look(&shared, &buffer[..len]) {
            Look::Ignore => {}
            Look::Done(answer, limit) => send(&socket, client, &answer, limit).await,
            Look::Ask(ask) => {
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                tokio::spawn(async move {
                    let limit = limit_of(&ask.request);
                    let answer = ask.settle(&shared).await;
                    send(&socket, client, &answer, limit).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, answer: &Message, limit: u16) {
    if let Some(bytes) = encode(answer, usize::from(limit)) {
        // A client that can't be reached asks again or does not care.
        if let Err(error) = socket.send_to(&bytes, client).await {
            tracing::debug!(%client, %error, "sending a DNS answer");
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
                tokio::spawn(async move {
                    // A client that breaks off is its own affair.
                    tokio::select! { () = shutdown.cancelled() => {}, _ = converse(stream, &shared) => {} }
                    drop(permit);
                });
            }
            // Out of descriptors: without a pause this would spin.
            Err(error) => {
                tracing::warn!(%error, "accepting a DNS connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(tokio::time::timeout(SILENCE, stream.read_u16()).await??)];
        tokio::time::timeout(SILENCE, stream.read_exact(&mut query)).await??;
        let answer = match first_look(shared, &query) {
            Look::Ignore => return Ok(()),
            Look::Done(answer, _) => answer,
            Look::Ask(ask) => ask.settle(shared).await,
        };
        let Some(bytes) = encode(&answer, usize::from(u16::MAX)) else { return Ok(()) };
        let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        tokio::time::timeout(SILENCE, stream.write_all(&framed)).await??;
    }
}

/// What can be said of a query without waiting.
enum Look {
    Ignore,
    Done(Box<Message>, u16),
    Ask(Box<Ask>),
}

/// A query somebody else must be asked about.
struct Ask {
    request: Message,
    /// Our part of the answer, and what to ask upstream: the target of an alias. `None`: the query itself.
    alias: Option<(Message, Message)>,
}

impl Ask {
    async fn settle(self, shared: &Shared) -> Box<Message> {
        let Some((mut ours, query)) = self.alias else {
            return Box::new(match shared.forwarder.resolve(&self.request).await {
                Ok(theirs) => answer::relayed(&self.request, theirs),
                Err(error) => {
                    tracing::debug!(%error, "forwarding a DNS query");
                    answer::failed(&self.request, ResponseCode::ServFail)
                }
            });
        };
        match shared.forwarder.resolve(&query).await {
            Ok(theirs) => {
                ours.metadata.response_code = theirs.metadata.response_code;
                ours.answers.extend(theirs.answers);
                ours.authorities = theirs.authorities;
            }
            // The alias itself is true nevertheless.
            Err(error) => tracing::debug!(%error, "following an alias out of the cluster"),
        }
        Box::new(ours)
    }
}

fn first_look(shared: &Shared, bytes: &[u8]) -> Look {
    let done = |message: Message, limit| Look::Done(Box::new(message), limit);
    let Ok(request) = Message::from_vec(bytes) else {
        return match bytes.first_chunk::<2>() {
            // Never answer an answer: two servers could go on for ever.
            Some(id) if bytes.len() >= 12 && bytes[2] & 0x80 == 0 => {
                done(Message::error_msg(u16::from_be_bytes(*id), OpCode::Query, ResponseCode::FormErr), 512)
            }
            _ => Look::Ignore,
        };
    };
    let limit = limit_of(&request);
    if request.metadata.message_type != MessageType::Query {
        return Look::Ignore;
    }
    if request.metadata.op_code != OpCode::Query {
        return done(answer::failed(&request, ResponseCode::NotImp), limit);
    }
    if request.queries.len() != 1 {
        return done(answer::failed(&request, ResponseCode::FormErr), limit);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return done(answer::failed(&request, ResponseCode::BADVERS), limit);
    }
    match answer(&shared.zone.load(), &request) {
        Answer::Here(message) => Look::Done(message, limit),
        Answer::Elsewhere => Look::Ask(Box::new(Ask { request, alias: None })),
        Answer::Alias { ours, query } => Look::Ask(Box::new(Ask { request, alias: Some((*ours, *query)) })),
    }
}

fn limit_of(request: &Message) -> u16 {
    request.edns.as_ref().map_or(512, Edns::max_payload).clamp(512, LARGEST_DATAGRAM)
}

/// The bytes of a message, cut down to its question with the TC bit where they are too many.
fn encode(message: &Message, limit: usize) -> Option<Vec<u8>> {
    let encoded = match message.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Ok(bytes),
        _ => message.truncate().to_vec(),
    };
    encoded.inspect_err(|error| tracing::warn!(%error, "encoding a DNS answer")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_truncated() {
        let mut zone = Zone::new("cluster.local");
        let mut part = Part::default();
        (0..200u8).for_each(|n| part.add("many.default.svc", Record::A([10, 42, 0, n].into())));
        zone.add(&part);
        let mut request = Message::query();
        let name = hickory_proto::rr::Name::from_ascii("many.default.svc.cluster.local.").expect("a name");
        request.add_query(hickory_proto::op::Query::query(name, hickory_proto::rr::RecordType::A));
        let Answer::Here(message) = answer(&zone, &request) else { panic!("it is in the zone") };
        let short = Message::from_vec(&encode(&message, 512).expect("encodes")).expect("decodes");
        assert!(short.metadata.truncation && short.answers.is_empty() && short.queries.len() == 1);
        let whole = Message::from_vec(&encode(&message, 65_535).expect("encodes")).expect("decodes");
        assert!(!whole.metadata.truncation && whole.answers.len() == 200);
    }
}
