//! Queries for names outside the cluster: asked of the upstream servers in turn, over UDP and, where the answer does not fit, over TCP.
//!
//! Each try has a socket of its own, connected and with a random port and id, so that a forged answer has to guess both. A server that
//! answered is asked first the next time. Answers are kept for at most half a minute.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Queries under way at a time; more are refused rather than queued, for their clients would have given up.
const AT_A_TIME: usize = 256;
/// How long one server has to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;
/// Answers kept.
const KEPT: usize = 1024;
/// How long at most, in seconds.
const KEPT_SECONDS: u32 = 30;

/// Nobody answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// No server is known.
    #[error("no upstream DNS server is known: the node's resolv.conf names none")]
    NoServer,
    /// Too much is under way.
    #[error("more than {AT_A_TIME} DNS queries are waiting for upstream servers")]
    Busy,
    /// The last server's failure.
    #[error("asking DNS server {server}: {source}")]
    Failed {
        /// Which.
        server: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// The servers a `resolv.conf` names, as `resolv.conf(5)`; IPv6 with a scope is left out.
pub fn upstreams_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        // "Any address" means this host, as it does to the C library.
        Some(match address {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        })
    };
    resolv_conf.lines().filter_map(server).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// See the module.
pub(crate) struct Forwarder {
    servers: Vec<SocketAddr>,
    /// Index of the server that answered last.
    good: AtomicUsize,
    permits: Semaphore,
    cache: Mutex<Cache>,
}

type CacheKey = (String, RecordType, bool, bool);

#[derive(Default)]
struct Cache {
    answers: HashMap<CacheKey, (Instant, u32, Message)>,
    /// In the order they came.
    order: VecDeque<CacheKey>,
}

impl Forwarder {
    /// Asks these.
    pub fn new(servers: Vec<SocketAddr>) -> Forwarder {
        Forwarder { servers, good: AtomicUsize::new(0), permits: Semaphore::new(AT_A_TIME), cache: Mutex::default() }
    }

    /// The upstream answer to a query of one question, from the cache or a server.
    pub async fn resolve(&self, request: &Message) -> Result<Message, ForwardError> {
        let key = key_of(request);
        if let Some(kept) = key.as_ref().and_then(|key| self.cache.lock().get(key, Instant::now())) {
            return Ok(kept);
        }
        let _permit = self.permits.try_acquire().map_err(|_| ForwardError::Busy)?;
        let mut failure = ForwardError::NoServer;
        let first = self.good.load(Ordering::Relaxed);
        for turn in 0..self.servers.len() * ROUNDS {
            let index = (first + turn) % self.servers.len();
            let server = self.servers[index];
            match tokio::time::timeout(PATIENCE, ask(server, request)).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(answer) => {
                    self.good.store(index, Ordering::Relaxed);
                    if let Some(key) = key {
                        self.cache.lock().put(key, Instant::now(), &answer);
                    }
                    return Ok(answer);
                }
                Err(source) => failure = ForwardError::Failed { server, source },
            }
        }
        Err(failure)
    }
}

fn key_of(request: &Message) -> Option<CacheKey> {
    let query = request.queries.first()?;
    let signed = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    Some((query.name().to_ascii().to_ascii_lowercase(), query.query_type(), signed, request.metadata.checking_disabled))
}

async fn ask(server: SocketAddr, request: &Message) -> std::io::Result<Message> {
    let mut query = Message::query();
    query.metadata.id = rand::random();
    query.metadata.recursion_desired = true;
    query.metadata.checking_disabled = request.metadata.checking_disabled;
    query.add_queries(request.queries.iter().cloned());
    let mut edns = Edns::new();
    edns.set_max_payload(super::LARGEST_DATAGRAM);
    edns.set_dnssec_ok(request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(std::io::Error::other)?;

    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What is not the answer may be forged or late: wait on.
        let Some(answer) = Message::from_vec(&buffer[..len]).ok().filter(|answer| is_answer(&query, answer)) else { continue };
        return if answer.metadata.truncation { ask_by_tcp(server, &query, &bytes).await } else { useful(answer) };
    }
}

async fn ask_by_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if is_answer(query, &answer) { useful(answer) } else { Err(std::io::Error::other("the answer is not to the question")) }
}

fn is_answer(query: &Message, answer: &Message) -> bool {
    answer.metadata.id == query.metadata.id && answer.metadata.message_type == MessageType::Response && answer.queries == query.queries
}

/// A server that can't or won't answer is no better than a silent one: another may.
fn useful(answer: Message) -> std::io::Result<Message> {
    match answer.metadata.response_code {
        ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp => {
            Err(std::io::Error::other(format!("it answers {}", answer.metadata.response_code)))
        }
        _ => Ok(answer),
    }
}

/// For how long an answer holds, in seconds: its shortest record, or for a negative one what its SOA says (RFC 2308).
fn lifetime(answer: &Message) -> u32 {
    let negative = |record: &Record| if let RData::SOA(soa) = &record.data { Some(record.ttl.min(soa.minimum)) } else { None };
    let seconds = match answer.metadata.response_code {
        ResponseCode::NoError if !answer.answers.is_empty() => answer.answers.iter().map(|record| record.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => answer.authorities.iter().find_map(negative),
        _ => None,
    };
    seconds.unwrap_or(0).min(KEPT_SECONDS)
}

impl Cache {
    fn get(&mut self, key: &CacheKey, now: Instant) -> Option<Message> {
        let (since, lifetime, answer) = self.answers.get(key)?;
        let age = now.duration_since(*since).as_secs() as u32;
        if age >= *lifetime {
            return None;
        }
        let mut answer = answer.clone();
        for record in answer.answers.iter_mut().chain(&mut answer.authorities).chain(&mut answer.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    fn put(&mut self, key: CacheKey, now: Instant, answer: &Message) {
        let lifetime = lifetime(answer);
        if lifetime == 0 {
            return;
        }
        if self.answers.insert(key.clone(), (now, lifetime, answer.clone())).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.answers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::A;

    #[test]
    fn resolv_conf() {
        let text =
            "# a comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver nonsense\nnameserver 0.0.0.0\n";
        let expect = ["192.0.2.1:53", "[2001:db8::1]:53", "127.0.0.1:53"].map(|a| a.parse::<SocketAddr>().expect("an address"));
        assert_eq!(upstreams_of(text), expect);
    }

    fn message(name: &str, ttl: u32) -> Message {
        let name = Name::from_ascii(name).expect("a name");
        let mut message = Message::query();
        message.add_query(Query::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, 1))));
        message
    }

    #[test]
    fn cache_ages_and_is_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let first = message("n0.example.com.", 20);
        let key = key_of(&first).expect("one question");
        cache.put(key.clone(), now, &first);
        assert_eq!(cache.get(&key, now + Duration::from_secs(5)).expect("fresh").answers[0].ttl, 15);
        assert!(cache.get(&key, now + Duration::from_secs(20)).is_none());
        for n in 1..=KEPT {
            let message = message(&format!("n{n}.example.com."), 300);
            cache.put(key_of(&message).expect("one question"), now, &message);
        }
        assert_eq!((cache.answers.len(), cache.order.len()), (KEPT, KEPT));
        assert!(cache.get(&key, now).is_none(), "the oldest made room");
    }

    #[tokio::test]
    async fn the_next_server_is_asked() {
        let good = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let address = good.local_addr().expect("bound");
        let dead = {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
            socket.local_addr().expect("bound") // nobody listens once this is dropped
        };
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (len, client) = good.recv_from(&mut buffer).await.expect("a query");
            let query = Message::from_vec(&buffer[..len]).expect("decodes");
            let mut answer = message("up.example.com.", 9).into_response();
            answer.metadata.id = query.metadata.id;
            good.send_to(&answer.to_vec().expect("encodes"), client).await.expect("sent");
        });
        let forwarder = Forwarder::new(vec![dead, address]);
        let mut request = message("up.example.com.", 0);
        request.answers.clear();
        assert_eq!(forwarder.resolve(&request).await.expect("answered").answers.len(), 1);
        server.await.expect("served one query");
        // From the cache, for the server has gone.
        assert_eq!(forwarder.resolve(&request).await.expect("kept").answers.len(), 1);
        assert!(matches!(Forwarder::new(vec![]).resolve(&request).await, Err(ForwardError::NoServer)));
    }
}
