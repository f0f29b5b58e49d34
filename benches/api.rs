//! The API under load, over TLS as clients use it: rates, latencies, and what they cost the server in CPU time and memory.
//!
//! usage: api EXECUTABLE DIR [PHASE...]. Starts a server without a node on a free port of the loopback, on an empty directory, and prints
//! `NAME VALUE` lines; `benches/run` makes the table. The load runs on the same cores as the server and is part of every rate; CPU time
//! and memory are the server's alone. Every phase is bounded in requests. Without a phase all are run: `configmaps`, `pods`, `watches`.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

mod support;

use support::{DEADLINE, Failure, JSON, Server, ask, quantile};

const PODS: usize = 10_000;
const CLIENTS: [usize; 3] = [1, 16, 64];
/// So many watchers, and so many creates: enough that the 99th percentile of what they hear is not that of the slowest create alone.
const WATCHERS: [(usize, usize); 3] = [(1, 1000), (100, 500), (1000, 200)];
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MERGE: &str = "application/merge-patch+json";

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [orch, dir, phases @ ..] = args.as_slice() else { return Err("usage: api EXECUTABLE DIR [PHASE...]".into()) };
    // Fails only if one is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(orch, Path::new(dir), phases))
}

/// Each phase has a server of its own, so that what it leaves in memory is no part of the next.
async fn measure(orch: &str, dir: &Path, phases: &[String]) -> Result<(), Failure> {
    let known = ["configmaps", "pods", "watches"];
    if let Some(unknown) = phases.iter().find(|phase| !known.contains(&phase.as_str())) {
        return Err(format!("no phase is called {unknown}; there are {known:?}").into());
    }
    for (at, phase) in known.iter().filter(|phase| phases.is_empty() || phases.iter().any(|wanted| wanted == *phase)).enumerate() {
        let dir = dir.join(phase);
        std::fs::create_dir_all(&dir)?;
        let server = Server::start(orch, &dir, &[]).await?;
        if at == 0 {
            println!("readyz_seconds {:.3}", server.ready.as_secs_f64());
            server.idle("idle")?;
        }
        server.yes(Method::POST, "/api/v1/namespaces", JSON, r#"{"metadata":{"name":"bench"}}"#.into()).await?;
        match *phase {
            "configmaps" => server.config_maps().await?,
            "pods" => server.pods().await?,
            _ => server.all_watches().await?,
        }
    }
    Ok(())
}

/// A pod that is sent as 2.2 KB of JSON, which is what the figures that the goals were taken from were measured with.
fn pod(index: usize) -> String {
    let container = json!({
        "name": "main", "image": "registry.example/team/service:1.2.3", "args": ["--listen=:8080"],
        "env": [{"name": "VARIABLE", "value": "a value of some length"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    });
    json!({
        "metadata": {"name": format!("p{index}"), "labels": {"app": "bench", "shard": format!("s{}", index % 16)}},
        // Nobody schedules it: what is measured is the API.
        "spec": {"containers": [container], "schedulerName": "nobody"},
    })
    .to_string()
}

impl Server {
    async fn yes(&self, method: Method, path: &str, media: &str, body: String) -> Result<Bytes, Failure> {
        match self.once(method, path, media, body).await? {
            (200..=299, body) => Ok(body),
            (code, body) => Err(format!("{path}: {code} {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    async fn config_maps(&self) -> Result<(), Failure> {
        let all = "/api/v1/namespaces/bench/configmaps";
        for clients in CLIENTS {
            let count = if clients == 1 { 1000 } else { 8000 };
            let map = |index: usize| {
                let map = json!({"metadata": {"name": format!("c{clients}-{index}")}, "data": {"payload": "x".repeat(200)}});
                (Method::POST, all.into(), JSON, map.to_string())
            };
            self.load(&format!("create_configmap_{clients}"), clients, count, map).await?;
            let get = |index: usize| (Method::GET, format!("{all}/c{clients}-{index}"), JSON, String::new());
            self.load(&format!("get_configmap_{clients}"), clients, count, get).await?;
        }
        Ok(())
    }

    async fn pods(&self) -> Result<(), Failure> {
        let all = "/api/v1/namespaces/bench/pods";
        self.load("create_pod_64", 64, PODS, |index| (Method::POST, all.into(), JSON, pod(index))).await?;
        println!("pods_before_lists_rss_mib {:.1}", self.memory("VmRSS")?);
        self.lists(&format!("list_{PODS}"), all, JSON).await?;
        self.lists(&format!("list_{PODS}_protobuf"), all, PROTOBUF).await?;
        self.idle("pods")?;
        for clients in CLIENTS {
            // Another address in each round: a patch that changes nothing is not written.
            let status = |index: usize| {
                let patch = json!({"status": {"phase": "Running", "podIP": format!("10.{clients}.{}.{}", index / 250, index % 250)}});
                (Method::PATCH, format!("{all}/p{index}/status"), MERGE, patch.to_string())
            };
            self.load(&format!("patch_pod_status_{clients}"), clients, if clients == 1 { 500 } else { 4000 }, status).await?;
        }
        let mut from = 0;
        for (clients, count) in CLIENTS.into_iter().zip([500, 4000, PODS - 4500]) {
            let delete = |index: usize| (Method::DELETE, format!("{all}/p{}?gracePeriodSeconds=0", from + index), JSON, String::new());
            self.load(&format!("delete_pod_{clients}"), clients, count, delete).await?;
            from += count;
        }
        Ok(())
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
    async fn lists(&self, name: &str, pods: &str, media: &str) -> Result<(), Failure> {
        let mut took = Vec::new();
        let mut bytes = 0;
        let mut sender = self.connect().await?;
        let cpu = self.cpu()?;
        for _ in 0..10 {
            let begun = Instant::now();
            let (_, body) = ask(&mut sender, Method::GET, pods, media, String::new()).await?;
            bytes = drain(body).await?;
            took.push(begun.elapsed());
        }
        println!("{name}_bytes {bytes}");
        println!("{name}_ms {:.1}", quantile(&mut took, 0.5));
        println!("{name}_cpu_ms {:.1}", (self.cpu()? - cpu) * 100.0);
        let senders: Vec<_> = join_all((0..16).map(|_| self.connect())).await.into_iter().collect::<Result<_, _>>()?;
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?;
        let (before, begun) = (self.memory("VmRSS")?, Instant::now());
        let runs = senders.into_iter().map(|mut sender| async move {
            let (_, body) = ask(&mut sender, Method::GET, pods, media, String::new()).await?;
            drain(body).await
        });
        for run in join_all(runs).await {
            run?;
        }
        println!("{name}_by_16_ms {:.1}", begun.elapsed().as_secs_f64() * 1000.0);
        println!("{name}_by_16_peak_mib {:.1}", self.memory("VmHWM")? - before);
        Ok(())
    }

    async fn all_watches(&self) -> Result<(), Failure> {
        for (watchers, creates) in WATCHERS {
            self.watches(watchers, creates).await?;
        }
        Ok(())
    }

    /// From the start of a create to the event at each watcher.
    async fn watches(&self, watchers: usize, creates: usize) -> Result<(), Failure> {
        let all = "/api/v1/namespaces/bench/secrets";
        let mut streams = Vec::new();
        let now: Value = serde_json::from_slice(&self.yes(Method::GET, all, JSON, String::new()).await?)?;
        let from = now.pointer("/metadata/resourceVersion").and_then(Value::as_str).ok_or("a list without a revision")?;
        for _ in 0..watchers {
            let mut sender = self.connect().await?;
            let (_, body) = ask(&mut sender, Method::GET, &format!("{all}?watch=1&resourceVersion={from}"), JSON, String::new()).await?;
            streams.push((sender, body));
        }
        let (heard, mut hear) = tokio::sync::mpsc::channel(watchers * creates);
        let epoch = Instant::now();
        for (sender, mut body) in streams {
            let heard = heard.clone();
            tokio::spawn(async move {
                let _open = sender;
                let mut seen = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    // An event is a line, and no line break is within one.
                    for _ in frame.data_ref().into_iter().flatten().filter(|byte| **byte == b'\n') {
                        seen += 1;
                        // The other end is gone only when the phase failed.
                        heard.send(epoch.elapsed()).await.ok();
                    }
                    if seen == creates {
                        return;
                    }
                }
            });
        }
        drop(heard);
        let mut took = Vec::new();
        let mut writer = self.connect().await?;
        let cpu = self.cpu()?;
        for index in 0..creates {
            let secret = json!({"metadata": {"name": format!("w{watchers}-{index}")}}).to_string();
            let begun = epoch.elapsed();
            let (code, body) = ask(&mut writer, Method::POST, all, JSON, secret).await?;
            drain(body).await?;
            if code != 201 {
                return Err(format!("creating a Secret: {code}").into());
            }
            for _ in 0..watchers {
                let at = tokio::time::timeout(DEADLINE, hear.recv()).await?.ok_or("a watch ended early")?;
                took.push(at.saturating_sub(begun));
            }
        }
        println!("watch_{watchers}_p50_ms {:.3}", quantile(&mut took, 0.5));
        println!("watch_{watchers}_p99_ms {:.3}", quantile(&mut took, 0.99));
        println!("watch_{watchers}_cpu_seconds_per_1000_events {:.4}", (self.cpu()? - cpu) / (creates * watchers) as f64 * 1000.0);
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
}

/// Reads a body without keeping it.
async fn drain(mut body: Incoming) -> Result<usize, Failure> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}
