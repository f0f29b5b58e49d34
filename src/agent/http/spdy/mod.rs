//! The server's side of SPDY/3.1, as far as kubectl up to 1.30 and client-go speak it (draft-mbelshe-httpbis-spdy-00).
//!
//! The client opens every stream; data goes both ways; either side ends its half with FIN. Flow control windows are not kept,
//! as the clients' library (moby/spdystream) keeps none: what a stream's reader does not take holds up the connection.
//!
//! Invariants: frames are bounded; a stream id is used once; whatever is wrong ends the connection, never the agent.

mod headers;

use std::collections::HashMap;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub use headers::Headers;

/// Most bytes of one frame: client-go writes at most 32 KiB at once.
const MAX_FRAME: usize = 1 << 20;
/// Streams of one connection at once; port-forward opens two for each TCP connection.
const MAX_STREAMS: usize = 2048;
/// Frames that may wait for a stream's reader, and for the connection's writer.
const QUEUE: usize = 32;

const VERSION: u16 = 3;
const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// A frame to be sent.
enum Out {
    Reply(u32),
    Data { stream: u32, data: Bytes, fin: bool },
    Reset { stream: u32, status: u32 },
    Ping(u32),
    GoAway(u32),
}

/// A stream that the client opened.
pub struct Stream {
    /// Its headers, such as `streamtype`.
    pub headers: Headers,
    /// What the client sends; ends at its FIN or when the connection ends.
    pub reader: mpsc::Receiver<Bytes>,
    /// What the client is sent.
    pub writer: StreamWriter,
}

/// The sending half of a stream. Dropping it without [`StreamWriter::finish`] leaves it open until the connection ends.
#[derive(Clone)]
pub struct StreamWriter {
    id: u32,
    out: mpsc::Sender<Out>,
}

impl StreamWriter {
    /// Sends data; false when the connection is gone.
    pub async fn send(&self, data: Bytes) -> bool {
        self.out.send(Out::Data { stream: self.id, data, fin: false }).await.is_ok()
    }

    /// Ends this half; false when the connection is gone.
    pub async fn finish(&self) -> bool {
        self.out.send(Out::Data { stream: self.id, data: Bytes::new(), fin: true }).await.is_ok()
    }

    /// Ends both halves at once.
    pub async fn reset(&self) -> bool {
        const CANCEL: u32 = 5;
        self.out.send(Out::Reset { stream: self.id, status: CANCEL }).await.is_ok()
    }
}

/// Serves one connection until either side is gone; streams go to `opened` as the client opens them. Returns once what was
/// queued has been sent.
pub async fn serve(io: impl AsyncRead + AsyncWrite + Send + 'static, opened: mpsc::Sender<Stream>) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(io);
    let (out, queue) = mpsc::channel(QUEUE);
    let writing = tokio::spawn(write_frames(writer, queue));
    let result = Connection { streams: HashMap::new(), newest: 0, headers: headers::Reader::new(), out, opened }.read_frames(reader).await;
    // The connection and with it its sender are gone; writers of streams may hold others, and end when they are done.
    let written = writing.await.map_err(io::Error::other)?;
    match result {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => written,
        result => result.and(written),
    }
}

struct Connection {
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    newest: u32,
    headers: headers::Reader,
    out: mpsc::Sender<Out>,
    opened: mpsc::Sender<Stream>,
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY: {why}"))
}

fn number(bytes: &[u8]) -> io::Result<u32> {
    let bytes = bytes.first_chunk::<4>().ok_or_else(|| broken("a frame is cut"))?;
    Ok(u32::from_be_bytes(*bytes))
}

impl Connection {
    async fn read_frames(mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut head = [0; 8];
        loop {
            reader.read_exact(&mut head).await?;
            let flags = head[4];
            let length = number(&head[4..])? & 0x00ff_ffff;
            if length as usize > MAX_FRAME {
                return Err(broken("a frame is too large"));
            }
            let mut body = BytesMut::zeroed(length as usize);
            reader.read_exact(&mut body).await?;
            let body = body.freeze();
            let first = number(&head)?;
            if first >> 31 == 0 {
                self.data(first, body, flags & FIN != 0).await;
            } else if !self.control(first as u16, &body, flags & FIN != 0).await? {
                return Ok(());
            }
        }
    }

    async fn data(&mut self, stream: u32, body: Bytes, fin: bool) {
        if let Some(sender) = self.streams.get(&stream)
            && !body.is_empty()
            && sender.send(body).await.is_err()
        {
            // Nobody reads it any more; that is the reader's right.
            self.streams.remove(&stream);
        }
        if fin {
            self.streams.remove(&stream);
        }
    }

    /// Returns false when the client says goodbye.
    async fn control(&mut self, kind: u16, body: &[u8], fin: bool) -> io::Result<bool> {
        match kind {
            SYN_STREAM => self.open(body, fin).await?,
            RST_STREAM => drop(self.streams.remove(&(number(body)? & 0x7fff_ffff))),
            PING => {
                let id = number(body)?;
                // Odd ones are the client's; even ones would be answers to ours, and we send none.
                if id % 2 == 1 && self.out.send(Out::Ping(id)).await.is_err() {
                    return Ok(false);
                }
            }
            GOAWAY => {
                self.out.send(Out::GoAway(self.newest)).await.ok();
                return Ok(self.streams.values().any(|sender| !sender.is_closed()));
            }
            // SETTINGS, WINDOW_UPDATE, HEADERS: nothing in them concerns us.
            _ => {}
        }
        Ok(true)
    }

    async fn open(&mut self, body: &[u8], fin: bool) -> io::Result<()> {
        let id = number(body)? & 0x7fff_ffff;
        let block = body.get(10..).ok_or_else(|| broken("a frame is cut"))?;
        let headers = self.headers.read(block)?;
        if id <= self.newest || id % 2 == 0 {
            return Err(broken("a stream id is used twice"));
        }
        self.newest = id;
        self.streams.retain(|_, sender| !sender.is_closed());
        if self.streams.len() >= MAX_STREAMS {
            return Err(broken("too many streams"));
        }
        let (sender, reader) = mpsc::channel(QUEUE);
        if !fin {
            self.streams.insert(id, sender);
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.out.send(Out::Reply(id)).await.map_err(gone)?;
        let stream = Stream { headers, reader, writer: StreamWriter { id, out: self.out.clone() } };
        self.opened.send(stream).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

async fn write_frames(mut writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Out>) -> io::Result<()> {
    let mut headers = headers::Writer::new();
    let mut frame = BytesMut::with_capacity(4096);
    while let Some(out) = queue.recv().await {
        frame.clear();
        match out {
            Out::Data { stream, data, fin } => {
                frame.put_u32(stream);
                frame.put_u32((u32::from(fin) << 24) | data.len() as u32);
                frame.extend_from_slice(&data);
            }
            Out::Reply(stream) => {
                let block = headers.write(&Headers::new());
                control(&mut frame, SYN_REPLY, &[&stream.to_be_bytes(), &block]);
            }
            Out::Reset { stream, status } => control(&mut frame, RST_STREAM, &[&stream.to_be_bytes(), &status.to_be_bytes()]),
            Out::Ping(id) => control(&mut frame, PING, &[&id.to_be_bytes()]),
            Out::GoAway(last) => control(&mut frame, GOAWAY, &[&last.to_be_bytes(), &[0; 4]]),
        }
        writer.write_all(&frame).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

fn control(frame: &mut BytesMut, kind: u16, parts: &[&[u8]]) {
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(parts.iter().map(|part| part.len() as u32).sum());
    for part in parts {
        frame.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client of a few lines: opens streams, sends data, reads frames.
    struct Client {
        io: tokio::io::DuplexStream,
        headers: headers::Writer,
    }

    impl Client {
        async fn open(&mut self, id: u32, kind: &str) {
            let block = self.headers.write(&[("streamtype".to_string(), kind.to_string())].into());
            let mut frame = BytesMut::new();
            control(&mut frame, SYN_STREAM, &[&id.to_be_bytes(), &[0; 6], &block]);
            self.io.write_all(&frame).await.expect("writes");
        }

        async fn send(&mut self, id: u32, data: &[u8], fin: bool) {
            let head = [id.to_be_bytes(), ((u32::from(fin) << 24) | data.len() as u32).to_be_bytes()].concat();
            self.io.write_all(&[&head, data].concat()).await.expect("writes");
        }

        /// First word, flags and body of the next frame.
        async fn next(&mut self) -> (u32, u8, Vec<u8>) {
            let mut head = [0; 8];
            self.io.read_exact(&mut head).await.expect("reads");
            let mut body = vec![0; (number(&head[4..]).expect("is there") & 0xff_ffff) as usize];
            self.io.read_exact(&mut body).await.expect("reads");
            (number(&head).expect("is there"), head[4], body)
        }
    }

    fn start() -> (Client, mpsc::Receiver<Stream>, tokio::task::JoinHandle<io::Result<()>>) {
        let (io, server) = tokio::io::duplex(1 << 16);
        let (opened, streams) = mpsc::channel(4);
        (Client { io, headers: headers::Writer::new() }, streams, tokio::spawn(serve(server, opened)))
    }

    #[tokio::test]
    async fn streams_carry_data_both_ways() {
        let (mut client, mut streams, serving) = start();
        client.open(1, "error").await;
        client.open(3, "stdin").await;
        let (error, mut stdin) = (streams.recv().await.expect("opened"), streams.recv().await.expect("opened"));
        assert_eq!((error.headers["streamtype"].as_str(), stdin.headers["streamtype"].as_str()), ("error", "stdin"));
        assert_eq!(client.next().await.0 & 0xffff, u32::from(SYN_REPLY));
        assert_eq!(client.next().await.0 & 0xffff, u32::from(SYN_REPLY));
        client.send(3, b"hello", false).await;
        client.send(3, b"", true).await;
        assert_eq!(stdin.reader.recv().await.as_deref(), Some(&b"hello"[..]));
        assert_eq!(stdin.reader.recv().await, None);
        error.writer.send("fine".into()).await;
        error.writer.finish().await;
        assert_eq!(client.next().await, (1, 0, b"fine".to_vec()));
        assert_eq!(client.next().await, (1, FIN, Vec::new()));
        drop((client, error, stdin));
        serving.await.expect("ran").expect("ends cleanly");
    }

    #[tokio::test]
    async fn pings_are_answered_and_nonsense_ends_the_connection() {
        let (mut client, _streams, serving) = start();
        let mut ping = BytesMut::new();
        control(&mut ping, PING, &[&7u32.to_be_bytes()]);
        client.io.write_all(&ping).await.expect("writes");
        assert_eq!(client.next().await.2, 7u32.to_be_bytes());
        client.io.write_all(&[0xff; 16]).await.expect("writes");
        assert!(serving.await.expect("ran").is_err());
    }

    #[tokio::test]
    async fn a_stream_id_is_used_once() {
        let (mut client, mut streams, serving) = start();
        client.open(3, "a").await;
        streams.recv().await.expect("opened");
        client.open(3, "b").await;
        assert!(streams.recv().await.is_none());
        assert!(serving.await.expect("ran").is_err());
    }
}
