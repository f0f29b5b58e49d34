//! A netlink socket and the bytes it carries.
//!
//! Words: a *frame* is one netlink message before it has a sequence number; a *channel* is one socket, tied for life to the network
//! namespace it was opened in, whichever thread uses it later. Requests on a channel are serialised and each waits for the kernel's answer,
//! with a deadline, so a lost answer is an error and never a hang.
//!
//! Blocking on purpose: a request takes microseconds and the kernel does its work inside `send`. Callers keep long ones off the async threads.

use std::fs::File;
use std::io;

use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use parking_lot::Mutex;

/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// How long the kernel may take to answer.
const DEADLINE_SECONDS: i64 = 20;

/// One message without its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Message type.
    pub kind: u16,
    /// Flags beside `NLM_F_REQUEST`.
    pub flags: u16,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// The kernel refused one of the frames sent.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Which, if it was one of them.
    pub index: Option<usize>,
    /// Why.
    pub source: io::Error,
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Refusal {
        Refusal { index: None, source }
    }
}

struct State {
    socket: Socket,
    sequence: u32,
    send_buffer: usize,
}

/// A netlink socket.
pub(crate) struct Channel(Mutex<State>);

impl Channel {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: isize) -> io::Result<Channel> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(DEADLINE_SECONDS, 0))?;
        Ok(Channel(Mutex::new(State { socket, sequence: 0, send_buffer: 0 })))
    }

    /// Opens a socket in another network namespace.
    pub fn open_in(namespace: &File, protocol: isize) -> io::Result<Channel> {
        within(namespace, || Channel::open(protocol))
    }

    /// Sends the frames as one datagram and collects what the kernel answers, as (message type, payload), until the last frame with
    /// `NLM_F_ACK` or `NLM_F_DUMP` is settled.
    pub fn transact(&self, frames: &[Frame]) -> Result<Vec<(u16, Vec<u8>)>, Refusal> {
        let mut state = self.0.lock();
        let first = state.sequence.wrapping_add(1);
        let Some(last) = frames.iter().rposition(|f| f.flags & (NLM_F_ACK | NLM_F_DUMP) != 0) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no frame asks for an answer").into());
        };
        let bytes = encode(frames, first);
        state.sequence = first.wrapping_add(frames.len() as u32);
        state.make_room(bytes.len())?;
        state.socket.send(&bytes, 0)?;
        state.collect(first, last, frames.len())
    }

    /// One frame, one answer.
    pub fn request(&self, kind: u16, flags: u16, payload: Vec<u8>) -> io::Result<Vec<(u16, Vec<u8>)>> {
        self.transact(&[Frame { kind, flags, payload }]).map_err(|refusal| refusal.source)
    }
}

/// Does this in another network namespace. A thread is spent on entering it: the caller's must not move.
pub(crate) fn within<T: Send>(namespace: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let entered = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
        entered.join().unwrap_or_else(|_| Err(io::Error::other("the thread that entered the network namespace panicked")))
    })
}

impl State {
    /// A transaction must fit the send buffer whole; root may raise it past the sysctl limit.
    fn make_room(&mut self, len: usize) -> io::Result<()> {
        let wanted = len + len / 2 + 65_536;
        if wanted > 200_000 && wanted > self.send_buffer {
            setsockopt(&self.socket, sockopt::SndBufForce, &wanted)?;
            self.send_buffer = wanted;
        }
        Ok(())
    }

    fn collect(&mut self, first: u32, last: usize, count: usize) -> Result<Vec<(u16, Vec<u8>)>, Refusal> {
        let mut answers = Vec::new();
        let mut refusal: Option<Refusal> = None;
        loop {
            let (datagram, _) = match self.socket.recv_from_full() {
                Ok(received) => received,
                // The kernel stops at the first frame it can't even look at: what it said of that one is the answer.
                Err(source) => return Err(refusal.unwrap_or(Refusal { index: None, source })),
            };
            let mut rest = &datagram[..];
            while rest.len() >= HEADER_LEN {
                let message = NetlinkBuffer::new_checked(rest).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                let length = message.length() as usize;
                let index = message.sequence_number().wrapping_sub(first) as usize;
                let (kind, payload) = (message.message_type(), message.payload());
                rest = rest.get((length + 3) & !3..).unwrap_or_default();
                if index >= count {
                    continue; // left over from an earlier exchange
                }
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = payload.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
                        if code != 0 && refusal.is_none() {
                            refusal = Some(Refusal { index: Some(index), source: io::Error::from_raw_os_error(-code) });
                        }
                        // Refusing the first of a batch (its begin) refuses the whole, and nothing else is answered.
                        if index == last || (index == 0 && code != 0) {
                            return refusal.map_or(Ok(answers), Err);
                        }
                    }
                    kind => answers.push((kind, payload.to_vec())),
                }
            }
        }
    }
}

fn encode(frames: &[Frame], first: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.iter().map(|f| f.payload.len() + HEADER_LEN + 4).sum());
    for (index, frame) in frames.iter().enumerate() {
        let mut header = NetlinkHeader::default();
        header.length = (frame.payload.len() + HEADER_LEN) as u32;
        header.message_type = frame.kind;
        header.flags = frame.flags | NLM_F_REQUEST;
        header.sequence_number = first.wrapping_add(index as u32);
        let start = bytes.len();
        bytes.resize(start + HEADER_LEN, 0);
        header.emit(&mut bytes[start..]);
        bytes.extend_from_slice(&frame.payload);
        pad(&mut bytes);
    }
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize((bytes.len() + 3) & !3, 0);
}

const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Netlink attributes being written, in order. Numbers are big-endian, as netfilter wants them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attrs(Vec<u8>);

impl Attrs {
    /// No attributes.
    pub fn new() -> Attrs {
        Attrs::default()
    }
    /// After a fixed header such as `struct nfgenmsg`.
    pub fn after(header: &[u8]) -> Attrs {
        Attrs(header.to_vec())
    }
    fn put(mut self, kind: u16, value: &[u8]) -> Attrs {
        let length = u16::try_from(value.len() + 4).expect("an attribute is below 64 KiB: lists are cut into messages by their builders");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(&mut self.0);
        self
    }
    /// Raw bytes.
    pub fn bytes(self, kind: u16, value: &[u8]) -> Attrs {
        self.put(kind, value)
    }
    /// A byte.
    pub fn u8(self, kind: u16, value: u8) -> Attrs {
        self.put(kind, &[value])
    }
    /// A 32-bit number.
    pub fn u32(self, kind: u16, value: u32) -> Attrs {
        self.put(kind, &value.to_be_bytes())
    }
    /// A 64-bit number.
    pub fn u64(self, kind: u16, value: u64) -> Attrs {
        self.put(kind, &value.to_be_bytes())
    }
    /// A string, with the NUL the kernel expects.
    pub fn text(self, kind: u16, value: &str) -> Attrs {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }
    /// Attributes inside an attribute.
    pub fn nest(self, kind: u16, inner: Attrs) -> Attrs {
        self.put(kind | NESTED, &inner.0)
    }
    /// The bytes.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
    /// How many bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads attributes: (kind, value) until the bytes end or make no sense.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]), u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let value = bytes.get(4..usize::from(length))?;
        bytes = bytes.get((usize::from(length) + 3) & !3..).unwrap_or_default();
        Some((kind & KIND_MASK, value))
    })
}

/// The value of one attribute.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let bytes = Attrs::new().text(1, "ab").u32(2, 7).nest(3, Attrs::new().u8(4, 9)).done();
        assert_eq!(bytes.len() % 4, 0);
        let read: Vec<_> = attributes(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
        assert_eq!(read[0], (1, b"ab\0".to_vec()));
        assert_eq!(read[1], (2, vec![0, 0, 0, 7]));
        assert_eq!(read[2].0, 3);
        assert_eq!(attribute(&read[2].1, 4), Some(&[9u8][..]));
    }

    #[test]
    fn broken_attributes_end_the_walk() {
        assert_eq!(attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
