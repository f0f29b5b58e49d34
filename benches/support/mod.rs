//! What benchmarks share: a server of their own, and figures.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why there are no figures.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The media type of most requests.
pub const JSON: &str = "application/json";
/// For what takes moments unless something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A server of its own, ended with the value.
pub struct Server {
    /// Its process.
    pub process: Child,
    /// Its port on the loopback.
    pub port: u16,
    connector: TlsConnector,
    /// From before its process was made to its saying that it is ready.
    pub ready: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the last request has said.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Server {
    /// Starts one without a node on a free port of the loopback, on the empty directory `dir`, with these further arguments; it is ready then.
    pub async fn start(orch: &str, dir: &Path, args: &[&str]) -> Result<Server, Failure> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let kubeconfig = dir.join("kubeconfig");
        let log = std::fs::File::create(dir.join("log"))?;
        let begun = Instant::now();
        let mut command = Command::new(orch);
        command.args(["server", "--disable-agent", "--bind-address", "127.0.0.1", "--node-ip", "127.0.0.1", "--https-listen-port"]);
        command.arg(port.to_string()).arg("--data-dir").arg(dir.join("data")).arg("--write-kubeconfig").arg(&kubeconfig).args(args);
        let process = command.stdout(Stdio::null()).stderr(log).spawn()?;
        // Connects before it knows the certificates: the first round only waits for the kubeconfig.
        while !kubeconfig.exists() {
            if begun.elapsed() > DEADLINE {
                return Err("the server wrote no kubeconfig".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut server = Server { process, port, connector: connector(&kubeconfig)?, ready: Duration::ZERO };
        while !matches!(server.once(Method::GET, "/readyz", JSON, String::new()).await, Ok((200, _))) {
            if begun.elapsed() > DEADLINE {
                return Err("the server is not ready".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.ready = begun.elapsed();
        Ok(server)
    }

    /// A connection of the administrator's.
    pub async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// One request on a connection of its own; code and body of the answer.
    pub async fn once(&self, method: Method, path: &str, media: &str, body: String) -> Result<(u16, Bytes), Failure> {
        let (code, body) = ask(&mut self.connect().await?, method, path, media, body).await?;
        Ok((code, body.collect().await?.to_bytes()))
    }

    /// Seconds of CPU time that the server took so far.
    pub fn cpu(&self) -> Result<f64, Failure> {
        cpu(&self.process.id().to_string())
    }

    /// A line of the server's `status`, in MiB.
    pub fn memory(&self, line: &str) -> Result<f64, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).ok_or("no such line")?;
        Ok(found.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

/// Seconds of CPU time that a process (`self`, or its number) took so far.
pub fn cpu(process: &str) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold blanks; what follows it does not (proc(5)).
    let after = text.rsplit(") ").next().ok_or("no stat")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// One request; code and body of the answer.
pub async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    media: &str,
    body: String,
) -> Result<(u16, Incoming), Failure> {
    sender.ready().await?;
    let about = if method == Method::GET { "accept" } else { "content-type" };
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1").header(about, media);
    let response = sender.send_request(request.body(Full::from(body))?).await?;
    Ok((response.status().as_u16(), response.into_body()))
}

/// In milliseconds.
pub fn quantile(took: &mut [Duration], part: f64) -> f64 {
    took.sort_unstable();
    let index = ((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1));
    took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

/// The administrator's identity, from the kubeconfig.
fn connector(kubeconfig: &Path) -> Result<TlsConnector, Failure> {
    let config: Value = serde_yaml::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    let pem = |pointer: &str| -> Result<Vec<u8>, Failure> {
        let text = config.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("the kubeconfig has no {pointer}"))?;
        Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut &pem("/clusters/0/cluster/certificate-authority-data")?[..]) {
        roots.add(certificate?)?;
    }
    let chain = rustls_pemfile::certs(&mut &pem("/users/0/user/client-certificate-data")?[..]).collect::<Result<Vec<_>, _>>()?;
    let key = rustls_pemfile::private_key(&mut &pem("/users/0/user/client-key-data")?[..])?.ok_or("no key")?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}
