//! Kubernetes' WebSocket protocols: `v4.channel.k8s.io` and `v5.channel.k8s.io` for commands (each message begins with its
//! channel's number), `SPDY/3.1+portforward.k8s.io` for port forwarding (SPDY inside of binary messages, KEP-4006).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::remote::{Channel, Incoming, Remote, parse_resize};

/// Protocols for commands, best first.
pub const COMMAND: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Protocols for port forwarding, best first.
pub const PORT_FORWARD: &[&str] = &["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"];

/// In v5: the message `[CLOSE, channel]` ends a channel.
const CLOSE: u8 = 255;
const QUEUE: usize = 32;
const MAX_MESSAGE: usize = 4 << 20;

/// The best of `supported` that the client offers.
pub fn choose<'a>(offered: &str, supported: &[&'a str]) -> Option<&'a str> {
    supported.iter().copied().find(|protocol| offered.split(',').any(|offer| offer.trim() == *protocol))
}

/// The `Sec-WebSocket-Accept` answer to a key (RFC 6455, 4.2.2).
pub fn accept_key(key: &str) -> String {
    let digest =
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    STANDARD.encode(digest)
}

/// A WebSocket over an upgraded connection.
pub async fn accept<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves a WebSocket as a remote command's streams; returns when it ended.
pub async fn serve<T>(socket: WebSocketStream<T>, ready: oneshot::Sender<Remote>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = socket.split();
    let (incoming_sender, incoming) = mpsc::channel(QUEUE);
    let (outgoing, queue) = mpsc::channel(QUEUE);
    // If the receiver is gone, so is the request; both halves then end by themselves.
    ready.send(Remote { incoming, outgoing }).ok();
    let reading = tokio::spawn(read(stream, incoming_sender));
    let result = write(sink, queue).await;
    reading.abort();
    result.map_err(io::Error::other)
}

async fn read(mut stream: impl Stream<Item = Result<Message, Error>> + Unpin, incoming: mpsc::Sender<Incoming>) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        if let Some(message) = decode(bytes)
            && incoming.send(message).await.is_err()
        {
            return;
        }
    }
}

fn decode(mut bytes: Bytes) -> Option<Incoming> {
    if bytes.is_empty() {
        return None;
    }
    match bytes.get_u8() {
        CLOSE => (bytes.first() == Some(&(Channel::Stdin as u8))).then_some(Incoming::StdinEnd),
        number => match Channel::from_number(number)? {
            // An empty message opens the channel, and says nothing.
            Channel::Stdin => (!bytes.is_empty()).then_some(Incoming::Stdin(bytes)),
            Channel::Resize => parse_resize(&bytes),
            _ => None,
        },
    }
}

async fn write<S>(mut sink: S, mut queue: mpsc::Receiver<(Channel, Bytes)>) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    while let Some((channel, bytes)) = queue.recv().await {
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.extend_from_slice(&[channel as u8]);
        message.extend_from_slice(&bytes);
        sink.send(Message::Binary(message.freeze())).await?;
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    match sink.send(Message::Close(Some(close))).await {
        // The client may close first.
        Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(()),
        sent => sent,
    }
}

/// Binary messages as a stream of bytes: what SPDY runs in for port forwarding.
pub struct Tunnel<T> {
    socket: WebSocketStream<T>,
    unread: Bytes,
}

impl<T> Tunnel<T> {
    /// Bytes over `socket`.
    pub fn new(socket: WebSocketStream<T>) -> Tunnel<T> {
        Tunnel { socket, unread: Bytes::new() }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let n = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.socket.poll_ready_unpin(cx)).map_err(io::Error::other)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        self.socket.start_send_unpin(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush_unpin(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_close_unpin(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_decode() {
        let cases: &[(&[u8], Option<Incoming>)] = &[
            (b"", None),
            (b"\x00", None),
            (b"\x00hi", Some(Incoming::Stdin("hi".into()))),
            (b"\xff\x00", Some(Incoming::StdinEnd)),
            (b"\xff\x01", None),
            (b"\x04{\"Width\":80,\"Height\":24}", Some(Incoming::Resize(80, 24))),
            (b"\x04nonsense", None),
            (b"\x01out", None),
            (b"\x09", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(Bytes::from_static(bytes)), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn handshakes() {
        // The example of RFC 6455, 1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(choose("v4.channel.k8s.io, v5.channel.k8s.io", COMMAND), Some("v5.channel.k8s.io"));
        assert_eq!(choose("base64.channel.k8s.io", COMMAND), None);
    }
}
