//! Remote command streams, whatever carries them: channels of bytes between a client and a process.
//!
//! Follows upstream's remotecommand protocol: channel 0 is standard input, 1 output, 2 error, 3 the final `Status`, 4 terminal
//! sizes (kubernetes/design-proposals: `v4.channel.k8s.io`, KEP-4006 for `v5`). [`over_web_socket`](super::web_socket) and
//! [`over_spdy`] turn a connection into a [`Remote`]; [`relay`] joins it to a [`Session`].

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::fd::Fd;
use super::spdy;
use crate::runtime::Session;

/// Messages that may wait in either direction: enough to keep a pipe busy, few enough to bound memory.
const QUEUE: usize = 32;
/// How long a SPDY client may take to open its streams (upstream's default is 30 s).
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Which stream a message belongs to; the numbers are those of the WebSocket protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// To the process.
    Stdin = 0,
    /// From the process.
    Stdout = 1,
    /// From the process.
    Stderr = 2,
    /// The final `Status`.
    Error = 3,
    /// Terminal sizes, as JSON.
    Resize = 4,
}

impl Channel {
    /// By its number.
    pub fn from_number(number: u8) -> Option<Channel> {
        use Channel::{Error, Resize, Stderr, Stdin, Stdout};
        [Stdin, Stdout, Stderr, Error, Resize].into_iter().find(|channel| *channel as u8 == number)
    }

    fn from_stream_type(name: &str) -> Option<Channel> {
        Some(match name {
            "stdin" => Channel::Stdin,
            "stdout" => Channel::Stdout,
            "stderr" => Channel::Stderr,
            "error" => Channel::Error,
            "resize" => Channel::Resize,
            _ => return None,
        })
    }
}

/// What the client sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input ended.
    StdinEnd,
    /// The terminal has a new size: columns, rows.
    Resize(u16, u16),
}

/// Which streams the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// A client of a remote command. When `incoming` ends, it is gone.
pub struct Remote {
    /// From the client.
    pub incoming: mpsc::Receiver<Incoming>,
    /// To the client. Dropping it ends the connection, after what was queued.
    pub outgoing: mpsc::Sender<(Channel, Bytes)>,
}

/// Reads a terminal size message.
pub fn parse_resize(bytes: &[u8]) -> Option<Incoming> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    serde_json::from_slice::<Size>(bytes).ok().map(|size| Incoming::Resize(size.width, size.height))
}

/// Serves a SPDY connection as a remote command's streams; returns when it ended.
pub async fn over_spdy<T>(io: T, wanted: Wanted, ready: tokio::sync::oneshot::Sender<Remote>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (opened, mut streams) = mpsc::channel(8);
    let serving = tokio::spawn(spdy::serve(io, opened));
    // One stream for the status, one for each that was asked for; a terminal has no standard error of its own.
    let expected = 1 + [wanted.stdin, wanted.stdout, wanted.stderr && !wanted.tty, wanted.tty].iter().filter(|wanted| **wanted).count();
    let collect = async {
        let mut found = HashMap::new();
        while found.len() < expected {
            let Some(stream) = streams.recv().await else { break };
            let kind = stream.headers.get("streamtype").and_then(|name| Channel::from_stream_type(name));
            found.extend(kind.map(|kind| (kind, stream)));
        }
        found
    };
    let Ok(found) = tokio::time::timeout(OPEN_TIMEOUT, collect).await else {
        serving.abort();
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("the client did not open its {expected} streams in time")));
    };
    let (incoming_sender, incoming) = mpsc::channel(QUEUE);
    let (outgoing, queue) = mpsc::channel(QUEUE);
    let mut writers = HashMap::new();
    for (channel, stream) in found {
        writers.insert(channel, stream.writer);
        tokio::spawn(forward(channel, stream.reader, incoming_sender.clone()));
    }
    drop(incoming_sender);
    // If the receiver is gone, so is the request; the streams then end by themselves.
    ready.send(Remote { incoming, outgoing }).ok();
    send_all(queue, writers).await;
    serving.await.map_err(io::Error::other)?
}

async fn forward(channel: Channel, mut reader: mpsc::Receiver<Bytes>, incoming: mpsc::Sender<Incoming>) {
    while let Some(bytes) = reader.recv().await {
        let message = match channel {
            Channel::Stdin => Some(Incoming::Stdin(bytes)),
            Channel::Resize => parse_resize(&bytes),
            _ => None,
        };
        if let Some(message) = message
            && incoming.send(message).await.is_err()
        {
            return;
        }
    }
    if channel == Channel::Stdin {
        incoming.send(Incoming::StdinEnd).await.ok();
    }
    // The status stream lives as long as the connection: while it does, `incoming` stays open and the client counts as there.
}

async fn send_all(mut queue: mpsc::Receiver<(Channel, Bytes)>, writers: HashMap<Channel, spdy::StreamWriter>) {
    while let Some((channel, bytes)) = queue.recv().await {
        if let Some(writer) = writers.get(&channel)
            && !writer.send(bytes).await
        {
            return;
        }
    }
    for writer in writers.values() {
        writer.finish().await;
    }
}

/// Joins a client to a process until the process ends or the client goes. Returns the exit code, if the process ended.
pub async fn relay(session: Session, remote: Remote) -> Option<i32> {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let Remote { incoming, outgoing } = remote;
    let output = [(Channel::Stdout, stdout), (Channel::Stderr, stderr)]
        .into_iter()
        .filter_map(|(channel, fd)| Some(copy_out(Fd::new(fd?).ok()?, channel, outgoing.clone())));
    let output = futures::future::join_all(output);
    let input = copy_in(incoming, stdin.and_then(|fd| Fd::new(fd).ok()), resize);
    let process = async {
        output.await;
        exit.await.ok()
    };
    tokio::pin!(input, process);
    let code = tokio::select! {
        code = &mut process => code,
        // The client is gone: dropping the session tells the runtime.
        () = &mut input => return None,
    };
    outgoing.send((Channel::Error, status(code))).await.ok();
    code
}

async fn copy_out(fd: Fd, channel: Channel, outgoing: mpsc::Sender<(Channel, Bytes)>) {
    while let Ok(Some(bytes)) = fd.read().await {
        if outgoing.send((channel, bytes)).await.is_err() {
            return;
        }
    }
}

/// Returns when the client is gone.
async fn copy_in(mut incoming: mpsc::Receiver<Incoming>, mut stdin: Option<Fd>, resize: mpsc::Sender<(u16, u16)>) {
    while let Some(message) = incoming.recv().await {
        match message {
            Incoming::Stdin(bytes) => {
                if let Some(fd) = &stdin
                    && fd.write_all(&bytes).await.is_err()
                {
                    // The process closed its input; the rest is of no use to it.
                    stdin = None;
                }
            }
            Incoming::StdinEnd => stdin = None,
            Incoming::Resize(columns, rows) => {
                resize.send((columns, rows)).await.ok();
            }
        }
    }
}

/// The last message of a remote command, as client-go's `remotecommand` reads it.
pub fn status(code: Option<i32>) -> Bytes {
    let status = match code {
        Some(0) => serde_json::json!({"metadata": {}, "status": "Success"}),
        Some(code) => serde_json::json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        None => failure("the container is gone"),
    };
    status.to_string().into()
}

/// A `Status` for a command that could not run.
pub fn failure(message: &str) -> serde_json::Value {
    serde_json::json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500})
}
