//! Many machines joined to one server: how fast they join, what they cost it at rest, and how fast it is with them.
//!
//! usage: agents EXECUTABLE DIR [MACHINES [AT-ONCE]]. Starts a server without a node on a free port of the loopback, on an empty directory, joins so
//! many simulated machines (1000, of which 64 at once) by its token, and prints `NAME VALUE` lines. The machines run on the same cores as
//! the server, which slows it down; CPU time and memory are the server's alone where nothing else is said.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::watcher;
use orch::agent::AgentConfig;
use orch::agent::node::{self, Machine};
use orch::api::join_token::JoinToken;
use orch::client::{self, Change, Client, changes};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

mod follow;
mod machine;
#[path = "../support/mod.rs"]
mod support;

use machine::{News, Place};
use support::{DEADLINE, Failure, JSON, Server, ask, cpu, quantile};

const MACHINES: u32 = 1000;
const AT_ONCE: usize = 64;
/// Room for a range of pods for each of many machines.
const RANGES: &str = "--cluster-cidr=10.64.0.0/12";
/// Before and while it is measured what machines cost at rest.
const SETTLE: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_secs(60);
const JOINING: Duration = Duration::from_secs(900);
/// Renewals of a Lease that are timed, and the time between two of them.
const RENEWALS: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);
/// Clients that create pods.
const CREATORS: usize = 8;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (orch, dir, rest) = match args.as_slice() {
        [orch, dir, rest @ ..] if rest.len() <= 2 => (orch, dir, rest),
        _ => return Err("usage: agents EXECUTABLE DIR [MACHINES [AT-ONCE]]".into()),
    };
    let machines = rest.first().map_or(Ok(MACHINES), |text| text.parse())?;
    let at_once = rest.get(1).map_or(Ok(AT_ONCE), |text| text.parse())?;
    // Each machine has two connections.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rustix::process::Rlimit { current: files.maximum, ..files })?;
    // Fails only if one is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(orch, Path::new(dir), machines, at_once))
}

/// All machines, once they have joined.
struct Fleet {
    server: Server,
    news: mpsc::UnboundedReceiver<News>,
    members: Vec<(Client, Arc<AgentConfig>)>,
}

async fn measure(orch: &str, dir: &Path, machines: u32, at_once: usize) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    let server = Server::start(orch, dir, &[RANGES]).await?;
    println!("machines {machines}");
    println!("empty_rss_mib {:.1}", server.memory("VmRSS")?);
    let mut fleet = join(server, dir, machines, at_once).await?;
    tokio::time::sleep(SETTLE).await;
    fleet.rest().await?;
    fleet.renewals().await?;
    fleet.pods("bound", |number| json!({"nodeName": machine::name(number)})).await?;
    fleet.pods("scheduled", |_| json!({})).await
}

/// Joins all machines, and waits until the last is ready.
async fn join(server: Server, dir: &Path, machines: u32, at_once: usize) -> Result<Fleet, Failure> {
    let admin = client::from_file(&dir.join("kubeconfig"), "bench").await?;
    let token = JoinToken::parse(&std::fs::read_to_string(dir.join("data/node-token"))?)?;
    let url = format!("https://127.0.0.1:{}", server.port).parse()?;
    let machine: Machine = node::measure(dir)?;
    let place = Arc::new(Place { url, token, dir: dir.join("machines"), machine });
    let (tell, mut news) = mpsc::unbounded_channel();
    let (before, begun) = (server.cpu()?, Instant::now());
    let permits = Arc::new(Semaphore::new(at_once));
    let starts: Arc<parking_lot::Mutex<HashMap<String, Instant>>> = Arc::default();
    let starting = starts.clone();
    tokio::spawn(async move {
        for number in 0..machines {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            starting.lock().insert(machine::name(number), Instant::now());
            tokio::spawn(machine::run(number, place.clone(), permit, tell.clone()));
        }
    });
    let mut nodes = pin!(changes(Api::<Node>::all(admin), watcher::Config::default()));
    let (mut ready, mut members) = (HashSet::new(), Vec::new());
    let (mut took_ready, mut took_complete) = (Vec::new(), Vec::new());
    let deadline = tokio::time::sleep(JOINING);
    let mut deadline = pin!(deadline);
    while ready.len() < machines as usize || members.len() < machines as usize {
        tokio::select! {
            change = nodes.next() => {
                let (Some(Change::Set(node)), now) = (change, Instant::now()) else { continue };
                let name = node.metadata.name.clone().unwrap_or_default();
                if is_ready(&node) && ready.insert(name.clone()) {
                    took_ready.extend(starts.lock().get(&name).map(|start| now - *start));
                }
            }
            Some(news) = news.recv() => match news {
                News::Complete { client, config, took } => {
                    members.push((client, config));
                    took_complete.push(took);
                }
                News::Ended(name, why) => return Err(format!("{name}: {why}").into()),
                News::Pod { .. } => {}
            },
            () = &mut deadline => return Err(format!("{} of {machines} are ready after {JOINING:?}", ready.len()).into()),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("join_seconds {seconds:.2}");
    println!("join_rate {:.1}", f64::from(machines) / seconds);
    println!("join_ready_p50_ms {:.0}", quantile(&mut took_ready, 0.5));
    println!("join_ready_p99_ms {:.0}", quantile(&mut took_ready, 0.99));
    println!("join_complete_p50_ms {:.0}", quantile(&mut took_complete, 0.5));
    println!("join_complete_p99_ms {:.0}", quantile(&mut took_complete, 0.99));
    println!("join_cpu_ms_each {:.1}", (server.cpu()? - before) / f64::from(machines) * 1000.0);
    println!("join_simulator_cpu_ms_each {:.1}", cpu("self")? / f64::from(machines) * 1000.0);
    println!("join_rss_mib {:.1}", server.memory("VmRSS")?);
    println!("join_peak_mib {:.1}", server.memory("VmHWM")?);
    counters("join");
    Ok(Fleet { server, news, members })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn counters(name: &str) {
    println!("{name}_events {}", count(&follow::EVENTS));
    println!("{name}_mib {}", count(&follow::BYTES) >> 20);
    println!("{name}_relists {}", count(&follow::RELISTS));
    println!("{name}_refused {}", count(&follow::REFUSED));
}

impl Fleet {
    /// What the machines cost while nothing happens.
    async fn rest(&self) -> Result<(), Failure> {
        let (server, own, events) = (self.server.cpu()?, cpu("self")?, count(&follow::EVENTS));
        tokio::time::sleep(REST).await;
        let seconds = REST.as_secs_f64();
        println!("rest_cpu_percent {:.1}", (self.server.cpu()? - server) / seconds * 100.0);
        println!("rest_simulator_cpu_percent {:.1}", (cpu("self")? - own) / seconds * 100.0);
        println!("rest_rss_mib {:.1}", self.server.memory("VmRSS")?);
        println!("rest_events_rate {:.0}", (count(&follow::EVENTS) - events) as f64 / seconds);
        Ok(())
    }

    /// Renewals of Leases, one at a time, beside those of the machines themselves.
    async fn renewals(&self) -> Result<(), Failure> {
        let mut took = Vec::new();
        for (client, config) in self.members.iter().cycle().take(RENEWALS) {
            let begun = Instant::now();
            node::renew(client, config).await?;
            took.push(begun.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        println!("renewal_p50_ms {:.2}", quantile(&mut took, 0.5));
        println!("renewal_p99_ms {:.2}", quantile(&mut took, 0.99));
        Ok(())
    }

    /// As many pods as machines: from the beginning of a pod's creation until a machine hears that it is to run it.
    async fn pods(&mut self, phase: &str, spec: impl Fn(u32) -> serde_json::Value + Sync) -> Result<(), Failure> {
        let all = "/api/v1/namespaces/default/pods";
        let count = self.members.len();
        let (next, spec, server) = (AtomicUsize::new(0), &spec, &self.server);
        let (before, begun) = (server.cpu()?, Instant::now());
        let creating = (0..CREATORS).map(|_| async {
            let (mut sender, mut made) = (server.connect().await?, Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, Failure>(made);
                }
                let name = format!("{phase}-{number}");
                let mut spec = spec(u32::try_from(number)?);
                spec["containers"] = json!([{"name": "main", "image": "registry.example/team/service:1.2.3"}]);
                let pod = json!({"metadata": {"name": name}, "spec": spec}).to_string();
                let begun = Instant::now();
                let (code, body) = ask(&mut sender, Method::POST, all, JSON, pod).await?;
                let body = body.collect().await?.to_bytes();
                if code != 201 {
                    return Err(format!("creating {name}: {code} {}", String::from_utf8_lossy(&body)).into());
                }
                made.push((name, begun));
            }
        });
        let mut made: HashMap<String, Instant> = HashMap::new();
        for part in join_all(creating).await {
            made.extend(part?);
        }
        let created = begun.elapsed();
        let mut took = Vec::new();
        while took.len() < count {
            match tokio::time::timeout(DEADLINE, self.news.recv()).await? {
                Some(News::Pod { name, at }) => took.extend(made.get(&name).map(|begun| at - *begun)),
                Some(News::Ended(name, why)) => return Err(format!("{name}: {why}").into()),
                Some(News::Complete { .. }) => {}
                None => return Err("all machines are gone".into()),
            }
        }
        println!("{phase}_created_seconds {:.2}", created.as_secs_f64());
        println!("{phase}_heard_seconds {:.2}", begun.elapsed().as_secs_f64());
        println!("{phase}_p50_ms {:.1}", quantile(&mut took, 0.5));
        println!("{phase}_p99_ms {:.1}", quantile(&mut took, 0.99));
        println!("{phase}_cpu_ms_each {:.2}", (self.server.cpu()? - before) / count as f64 * 1000.0);
        Ok(())
    }
}
