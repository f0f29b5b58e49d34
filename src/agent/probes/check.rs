//! One check of a container: exec, HTTP, TCP or gRPC. Used by probes and by lifecycle hooks. Output is foreign, so it is bounded.
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::runtime::{ExecConfig, Runtime, Session};

/// How much output of a check is kept.
pub const OUTPUT: usize = 10 << 10;

/// What a check does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Run a command in the container.
    Exec(Vec<String>),
    /// Fetch a page.
    Http(HTTPGetAction),
    /// Open a connection.
    Tcp(TCPSocketAction),
    /// Ask the standard health service.
    Grpc(GRPCAction),
    /// Wait (hooks only).
    Sleep(Duration),
    /// Nothing that is known.
    Nothing,
}

impl Action {
    /// That of a probe.
    pub fn of_probe(probe: &Probe) -> Action {
        if let Some(exec) = &probe.exec {
            Action::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(http) = &probe.http_get {
            Action::Http(http.clone())
        } else if let Some(tcp) = &probe.tcp_socket {
            Action::Tcp(tcp.clone())
        } else if let Some(grpc) = &probe.grpc {
            Action::Grpc(grpc.clone())
        } else {
            Action::Nothing
        }
    }

    /// That of a lifecycle hook.
    pub fn of_hook(hook: &LifecycleHandler) -> Action {
        if let Some(exec) = &hook.exec {
            Action::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(http) = &hook.http_get {
            Action::Http(http.clone())
        } else if let Some(tcp) = &hook.tcp_socket {
            Action::Tcp(tcp.clone())
        } else if let Some(sleep) = &hook.sleep {
            Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else {
            Action::Nothing
        }
    }
}

/// Where the container is.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its sandbox.
    pub sandbox: String,
    /// Its ID in there.
    pub id: String,
    /// Address of the pod.
    pub ip: Option<IpAddr>,
}

/// Carries out a check; an error says why it failed.
pub async fn run<R: Runtime>(runtime: &R, target: &Target, container: &Container, action: &Action, limit: Duration) -> Result<(), String> {
    let address = |host: &Option<String>, port: &IntOrString| {
        let port = port_number(container, port)?;
        match host.as_deref().filter(|h| !h.is_empty()) {
            Some(host) => Ok((host.to_owned(), port)),
            None => target.ip.map(|ip| (ip.to_string(), port)).ok_or_else(|| "the pod has no address".to_owned()),
        }
    };
    match action {
        Action::Exec(command) => exec(runtime, target, command, limit).await,
        Action::Http(http) => {
            let (host, port) = address(&http.host, &http.port)?;
            super::web::get(http, &host, port, limit).await
        }
        Action::Tcp(tcp) => {
            let (host, port) = address(&tcp.host, &tcp.port)?;
            connect(&host, port, limit).await.map(drop)
        }
        Action::Grpc(grpc) => {
            let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port {}", grpc.port))?;
            let ip = target.ip.ok_or_else(|| "the pod has no address".to_owned())?;
            super::grpc::check(SocketAddr::new(ip, port), grpc.service.as_deref().unwrap_or_default(), limit).await
        }
        Action::Sleep(time) => {
            tokio::time::sleep(*time).await;
            Ok(())
        }
        Action::Nothing => Err("missing probe handler".into()),
    }
}

fn port_number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name)) {
            Some(port) => port.container_port,
            None => name.parse().map_err(|_| format!("couldn't find port: {name}"))?,
        },
    };
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

/// Opens a TCP connection, with upstream's words for what goes wrong.
pub async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(format!("dial tcp {shown}: connect: connection refused"))
        }
        Ok(Err(error)) => Err(format!("dial tcp {shown}: {error}")),
        Err(_) => Err(format!("dial tcp {shown}: i/o timeout")),
    }
}

/// Runs a command in the container; succeeds if it exits with 0.
pub async fn exec<R: Runtime>(runtime: &R, target: &Target, command: &[String], limit: Duration) -> Result<(), String> {
    let config = ExecConfig { args: command.to_vec(), stdout: true, stderr: true, ..ExecConfig::default() };
    let work = async {
        let session = runtime.exec(&target.sandbox, &target.id, &config).await.map_err(|e| e.to_string())?;
        let Session { stdout, stderr, exit, .. } = session;
        let (out, err, code) = tokio::join!(read(stdout), read(stderr), exit);
        match code {
            Ok(0) => Ok(()),
            Ok(_) => Err(String::from_utf8_lossy(&[out, err].concat()).trim_end().to_owned()),
            Err(_) => Err("the command's exit code is unknown: the sandbox went away".into()),
        }
    };
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("command timed out: {command:?} timed out after {}s", limit.as_secs())),
    }
}

/// Reads to the end, keeping the beginning.
async fn read(fd: Option<OwnedFd>) -> Vec<u8> {
    let Some(fd) = fd else { return Vec::new() };
    let is_pipe = rustix::fs::fstat(&fd).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Fifo);
    let stream: Box<dyn AsyncRead + Send + Unpin> = match is_pipe {
        true => match tokio::net::unix::pipe::Receiver::from_owned_fd(fd) {
            Ok(pipe) => Box::new(pipe),
            Err(error) => return error.to_string().into_bytes(),
        },
        false => Box::new(tokio::fs::File::from_std(fd.into())),
    };
    drain(stream).await
}

/// Reads all, so that the writer is not stopped, and keeps the first [`OUTPUT`] bytes.
async fn drain(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0u8; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}
