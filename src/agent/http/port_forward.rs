//! Port forwarding: TCP connections from a client into a pod's network namespace.
//!
//! Over SPDY the client opens two streams for each connection, `data` and `error`, with the headers `port` and `requestid`
//! (upstream: pkg/kubelet/cri/streaming/portforward). Over plain WebSocket channels, `ports` are fixed by the request: channel
//! 2n carries data, 2n+1 errors, and each begins with its port as two bytes, low first.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::spdy::{self, Stream, StreamWriter};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK: usize = 32 << 10;
/// How long data is still carried to a pod that has closed its own half.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Where a pod's ports are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The network namespace of this process.
    Of(i32),
    /// The agent's own: pods with the host's network.
    Host,
}

/// Connects to the loopback address of a place.
pub async fn connect(place: Place, port: u16) -> io::Result<TcpStream> {
    let (answer, connected) = tokio::sync::oneshot::channel();
    // A thread of its own: a network namespace belongs to a thread, and one of a pool would take it along.
    let work = move || {
        answer.send(enter_and_connect(place, port)).ok();
    };
    std::thread::Builder::new().name("port-forward".into()).spawn(work)?;
    let stream = connected.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn enter_and_connect(place: Place, port: u16) -> io::Result<std::net::TcpStream> {
    if let Place::Of(pid) = place {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
    }
    let connect = |ip| std::net::TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT_TIMEOUT);
    connect(IpAddr::V4(Ipv4Addr::LOCALHOST)).or_else(|first| connect(IpAddr::V6(Ipv6Addr::LOCALHOST)).map_err(|_| first))
}

fn refused(port: u16, error: &io::Error) -> Bytes {
    format!("failed to connect to localhost:{port} inside the pod: {error}").into()
}

/// Serves SPDY port forwarding until the client goes.
pub async fn over_spdy<T>(io: T, place: Place) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (opened, mut streams) = mpsc::channel(8);
    let serving = tokio::spawn(spdy::serve(io, opened));
    // The half that came first, by request.
    let mut halves: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = streams.recv().await {
        let id = stream.headers.get("requestid").cloned().unwrap_or_default();
        match halves.remove(&id) {
            None => drop(halves.insert(id, stream)),
            Some(other) => {
                let is_data = stream.headers.get("streamtype").is_some_and(|kind| kind == "data");
                let (data, error) = if is_data { (stream, other) } else { (other, stream) };
                tokio::spawn(forward(data, error, place));
            }
        }
    }
    drop(halves);
    serving.await.map_err(io::Error::other)?
}

async fn forward(data: Stream, error: Stream, place: Place) {
    let Some(port) = data.headers.get("port").and_then(|port| port.parse().ok()) else {
        error.writer.send("the stream has no valid port header".into()).await;
        error.writer.finish().await;
        data.writer.finish().await;
        return;
    };
    match connect(place, port).await {
        Ok(connection) => copy(connection, data.reader, data.writer, error.writer).await,
        Err(failure) => {
            error.writer.send(refused(port, &failure)).await;
            data.writer.reset().await;
            error.writer.finish().await;
        }
    }
}

async fn copy(connection: TcpStream, mut from: mpsc::Receiver<Bytes>, to: StreamWriter, error: StreamWriter) {
    let (mut reader, mut writer) = connection.into_split();
    let upload = async {
        while let Some(bytes) = from.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        writer.shutdown().await.ok();
    };
    let download = async {
        let mut buffer = vec![0; CHUNK];
        // A reset ends the download as an end of file does: SPDY has no better word for it in this protocol.
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            if !to.send(Bytes::copy_from_slice(&buffer[..n])).await {
                return;
            }
        }
        to.finish().await;
        // kubectl closes its connection only at the end of the error stream, and ends its half of the data only then.
        error.finish().await;
    };
    let mut upload = std::pin::pin!(upload);
    let mut download = std::pin::pin!(download);
    tokio::select! {
        () = &mut upload => download.await,
        // What is under way may still arrive; a client that has seen the end sends nothing new.
        () = &mut download => drop(tokio::time::timeout(LAST_BYTES, upload).await),
    }
}

/// Serves port forwarding over WebSocket channels until the client goes.
pub async fn over_channels<T>(socket: WebSocketStream<T>, place: Place, ports: &[u16]) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = socket.split();
    let (outgoing, mut queue) = mpsc::channel::<Bytes>(32);
    let mut uploads = HashMap::new();
    for (index, port) in (0u8..).zip(ports.iter().copied()).take(120) {
        for channel in [2 * index, 2 * index + 1] {
            let [low, high] = port.to_le_bytes();
            sink.send(Message::Binary(vec![channel, low, high].into())).await.map_err(io::Error::other)?;
        }
        let (upload, from) = mpsc::channel::<Bytes>(32);
        uploads.insert(2 * index, upload);
        tokio::spawn(forward_channel(place, port, index, from, outgoing.clone()));
    }
    drop(outgoing);
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.len() > 1 => {
                    if let Some(upload) = uploads.get(&bytes[0]) {
                        // A closed connection takes no more; the client learns it from the download's end.
                        upload.send(bytes.slice(1..)).await.ok();
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            bytes = queue.recv() => match bytes {
                Some(bytes) => sink.send(Message::Binary(bytes)).await.map_err(io::Error::other)?,
                None => return sink.close().await.map_err(io::Error::other),
            },
        }
    }
}

async fn forward_channel(place: Place, port: u16, index: u8, mut from: mpsc::Receiver<Bytes>, outgoing: mpsc::Sender<Bytes>) {
    let message = |channel: u8, bytes: &[u8]| Bytes::from([&[channel], bytes].concat());
    let connection = match connect(place, port).await {
        Ok(connection) => connection,
        Err(error) => {
            outgoing.send(message(2 * index + 1, &refused(port, &error))).await.ok();
            return;
        }
    };
    let (mut reader, mut writer) = connection.into_split();
    let upload = async {
        while let Some(bytes) = from.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let download = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            if outgoing.send(message(2 * index, &buffer[..n])).await.is_err() {
                return;
            }
        }
    };
    // The download's end is the connection's end; an upload may never end.
    tokio::select! { () = download => {}, () = async { upload.await; std::future::pending().await } => {} }
}
