//! The API under load, over TLS as clients use it: rates, latencies, and what they cost the server in CPU time and memory.
//!
//! usage: api EXECUTABLE DIR. Starts a server without a node on a free port of the loopback, on an empty directory, and prints
//! `NAME VALUE` lines; `benches/run` makes the table. The load runs on the same cores as the server and is part of every rate; CPU time
//! and memory are the server's alone. Every phase is bounded in requests.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PODS: usize = 10_000;
const CLIENTS: [usize; 3] = [1, 16, 64];
const WATCHERS: [usize; 3] = [1, 100, 1000];
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (Some(orch), Some(dir)) = (args.next(), args.next()) else { return Err("usage: api EXECUTABLE DIR".into()) };
    // Fails only if one is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(&orch, Path::new(&dir)))
}

async fn measure(orch: &str, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    let server = Server::start(orch, dir).await?;
    server.idle("idle")?;
    server.yes(Method::POST, "/api/v1/namespaces", JSON, r#"{"metadata":{"name":"bench"}}"#.into()).await?;
    for clients in CLIENTS {
        let count = if clients == 1 { 1000 } else { 8000 };
        let all = "/api/v1/namespaces/bench/configmaps";
        let map = |index: usize| {
            let map = json!({"metadata": {"name": format!("c{clients}-{index}")}, "data": {"payload": "x".repeat(200)}});
            (Method::POST, all.into(), JSON, map.to_string())
        };
        server.load(&format!("create_configmap_{clients}"), clients, count, map).await?;
        let get = |index: usize| (Method::GET, format!("{all}/c{clients}-{}", index % count), JSON, String::new());
        server.load(&format!("get_configmap_{clients}"), clients, count, get).await?;
    }
    let pods = "/api/v1/namespaces/bench/pods";
    server.load("create_pod_64", 64, PODS, |index| (Method::POST, pods.into(), JSON, pod(index))).await?;
    server.lists(pods).await?;
    server.idle("pods")?;
    let status = |index: usize| {
        let patch = json!({"status": {"phase": "Running", "podIP": format!("10.42.{}.{}", index / 250, index % 250)}});
        (Method::PATCH, format!("{pods}/p{index}/status"), MERGE, patch.to_string())
    };
    for clients in CLIENTS {
        server.load(&format!("patch_pod_status_{clients}"), clients, if clients == 1 { 500 } else { 4000 }, status).await?;
    }
    for watchers in WATCHERS {
        server.watches(watchers).await?;
    }
    let delete = |index: usize| (Method::DELETE, format!("{pods}/p{index}?gracePeriodSeconds=0"), JSON, String::new());
    server.load("delete_pod_64", 64, PODS, delete).await
}

/// A pod of about 2 KiB as it is stored.
fn pod(index: usize) -> String {
    let env: Vec<Value> = (0..8).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "a value of some length"})).collect();
    let container = json!({
        "name": "main", "image": "registry.example/team/service:1.2.3", "args": ["--listen=:8080", "--verbose"], "env": env,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
    });
    json!({
        "metadata": {"name": format!("p{index}"), "labels": {"app": "bench", "shard": format!("s{}", index % 16)}},
        "spec": {"serviceAccountName": "default", "containers": [container], "nodeSelector": {"nobody": "has-this"}},
    })
    .to_string()
}

/// A server of its own, ended with the value.
struct Server {
    process: Child,
    port: u16,
    connector: TlsConnector,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the last request has said.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Server {
    async fn start(orch: &str, dir: &Path) -> Result<Server, Failure> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let kubeconfig = dir.join("kubeconfig");
        let log = std::fs::File::create(dir.join("log"))?;
        let begun = Instant::now();
        let mut command = Command::new(orch);
        command.args(["server", "--disable-agent", "--bind-address", "127.0.0.1", "--node-ip", "127.0.0.1", "--https-listen-port"]);
        command.arg(port.to_string()).arg("--data-dir").arg(dir.join("data")).arg("--write-kubeconfig").arg(&kubeconfig);
        let process = command.stdout(Stdio::null()).stderr(log).spawn()?;
        // Connects before it knows the certificates: the first round only waits for the kubeconfig.
        while !kubeconfig.exists() {
            if begun.elapsed() > DEADLINE {
                return Err("the server wrote no kubeconfig".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let server = Server { process, port, connector: connector(&kubeconfig)? };
        while !matches!(server.once(Method::GET, "/readyz", JSON, String::new()).await, Ok((200, _))) {
            if begun.elapsed() > DEADLINE {
                return Err("the server is not ready".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("readyz_seconds {:.3}", begun.elapsed().as_secs_f64());
        Ok(server)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn once(&self, method: Method, path: &str, media: &str, body: String) -> Result<(u16, Bytes), Failure> {
        let (code, body) = ask(&mut self.connect().await?, method, path, media, body).await?;
        Ok((code, body.collect().await?.to_bytes()))
    }

    async fn yes(&self, method: Method, path: &str, media: &str, body: String) -> Result<Bytes, Failure> {
        match self.once(method, path, media, body).await? {
            (200..=299, body) => Ok(body),
            (code, body) => Err(format!("{path}: {code} {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    /// `count` requests from so many clients, each with a connection of its own and one request under way.
    async fn load<F>(&self, name: &str, clients: usize, count: usize, make: F) -> Result<(), Failure>
    where
        F: Fn(usize) -> (Method, String, &'static str, String) + Sync,
    {
        let next = AtomicUsize::new(0);
        let connections: Vec<_> = join_all((0..clients).map(|_| self.connect())).await.into_iter().collect::<Result<_, _>>()?;
        let (cpu, begun) = (self.cpu()?, Instant::now());
        let (next, make) = (&next, &make);
        let runs = connections.into_iter().map(|mut sender| async move {
            let mut took = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok::<_, Failure>(took);
                }
                let (method, path, media, body) = make(index);
                let begun = Instant::now();
                let (code, body) = ask(&mut sender, method, &path, media, body).await?;
                let body = body.collect().await?.to_bytes();
                took.push(begun.elapsed());
                if code >= 300 {
                    return Err(format!("{path}: {code} {}", String::from_utf8_lossy(&body)).into());
                }
            }
        });
        let mut took = Vec::with_capacity(count);
        for run in join_all(runs).await {
            took.extend(run?);
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!("{name}_rate {:.0}", count as f64 / seconds);
        println!("{name}_p50_ms {:.3}", quantile(&mut took, 0.5));
        println!("{name}_p99_ms {:.3}", quantile(&mut took, 0.99));
        println!("{name}_cpu_seconds_per_1000 {:.3}", (self.cpu()? - cpu) / count as f64 * 1000.0);
        Ok(())
    }

    /// All pods at once, by one client and by sixteen.
    async fn lists(&self, pods: &str) -> Result<(), Failure> {
        let mut took = Vec::new();
        let mut bytes = 0;
        let mut sender = self.connect().await?;
        for _ in 0..10 {
            let begun = Instant::now();
            let (_, body) = ask(&mut sender, Method::GET, pods, JSON, String::new()).await?;
            bytes = drain(body).await?;
            took.push(begun.elapsed());
        }
        println!("list_{PODS}_bytes {bytes}");
        println!("list_{PODS}_ms {:.1}", quantile(&mut took, 0.5));
        let senders: Vec<_> = join_all((0..16).map(|_| self.connect())).await.into_iter().collect::<Result<_, _>>()?;
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?;
        let (before, begun) = (self.memory("VmRSS")?, Instant::now());
        let runs = senders.into_iter().map(|mut sender| async move {
            let (_, body) = ask(&mut sender, Method::GET, pods, JSON, String::new()).await?;
            drain(body).await
        });
        for run in join_all(runs).await {
            run?;
        }
        println!("list_{PODS}_by_16_ms {:.1}", begun.elapsed().as_secs_f64() * 1000.0);
        println!("list_{PODS}_by_16_peak_mib {:.1}", self.memory("VmHWM")? - before);
        Ok(())
    }

    /// From the start of a create to the event at each watcher.
    async fn watches(&self, watchers: usize) -> Result<(), Failure> {
        const CREATED: usize = 20;
        let all = "/api/v1/namespaces/bench/secrets";
        let mut streams = Vec::new();
        for _ in 0..watchers {
            let mut sender = self.connect().await?;
            let (_, body) = ask(&mut sender, Method::GET, &format!("{all}?watch=1"), JSON, String::new()).await?;
            streams.push((sender, body));
        }
        // What is there already is sent first; a name of this round tells its events from those.
        let (heard, hear) = async_channel(watchers * CREATED);
        let epoch = Instant::now();
        for (sender, mut body) in streams {
            let heard = heard.clone();
            tokio::spawn(async move {
                let _open = sender;
                let (mut buffer, mut seen) = (Vec::new(), 0);
                while let Some(Ok(frame)) = body.frame().await {
                    buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                    while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = buffer.drain(..=end).collect();
                        let mark = format!("\"name\":\"w{watchers}-");
                        if line.windows(mark.len()).any(|window| window == mark.as_bytes()) {
                            seen += 1;
                            // The other end is gone only when the phase failed.
                            heard.send(epoch.elapsed()).await.ok();
                        }
                    }
                    if seen == CREATED {
                        return;
                    }
                }
            });
        }
        drop(heard);
        let mut hear = hear;
        let mut took = Vec::new();
        for index in 0..CREATED {
            let begun = epoch.elapsed();
            let secret = json!({"metadata": {"name": format!("w{watchers}-{index}")}}).to_string();
            self.yes(Method::POST, all, JSON, secret).await?;
            for _ in 0..watchers {
                let at = tokio::time::timeout(DEADLINE, hear.recv()).await?.ok_or("a watch ended early")?;
                took.push(at.saturating_sub(begun));
            }
        }
        println!("watch_{watchers}_p50_ms {:.3}", quantile(&mut took, 0.5));
        println!("watch_{watchers}_p99_ms {:.3}", quantile(&mut took, 0.99));
        Ok(())
    }

    /// Memory and CPU while nobody asks for anything.
    fn idle(&self, name: &str) -> Result<(), Failure> {
        const SPAN: Duration = Duration::from_secs(5);
        let cpu = self.cpu()?;
        std::thread::sleep(SPAN);
        println!("{name}_cpu_percent {:.2}", (self.cpu()? - cpu) / SPAN.as_secs_f64() * 100.0);
        println!("{name}_rss_mib {:.1}", self.memory("VmRSS")?);
        Ok(())
    }

    /// Seconds of CPU time that the server took so far.
    fn cpu(&self) -> Result<f64, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name in parentheses may hold blanks; what follows it does not (proc(5)).
        let after = text.rsplit(") ").next().ok_or("no stat")?;
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / 100.0)
    }

    /// A line of the server's `status`, in MiB.
    fn memory(&self, line: &str) -> Result<f64, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).ok_or("no such line")?;
        Ok(found.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

fn async_channel(size: usize) -> (tokio::sync::mpsc::Sender<Duration>, tokio::sync::mpsc::Receiver<Duration>) {
    tokio::sync::mpsc::channel(size.max(1))
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    media: &str,
    body: String,
) -> Result<(u16, Incoming), Failure> {
    sender.ready().await?;
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1").header("content-type", media);
    let response = sender.send_request(request.body(Full::from(body))?).await?;
    Ok((response.status().as_u16(), response.into_body()))
}

/// Reads a body without keeping it.
async fn drain(mut body: Incoming) -> Result<usize, Failure> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}

fn quantile(took: &mut [Duration], part: f64) -> f64 {
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
