//! A machine as a node: `orch agent`, and the agent beside a server. Both come here with a way into the cluster, and are alike from then on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use orch::agent::join::{self, Entry, JoinConfig};
use orch::agent::tunnel::{self, Reach};
use orch::agent::{self, Agent};
use orch::config::{AgentArgs, AgentConfig, NodeConfig};
use orch::runtime::Linux;
use orch::runtime::image::{Images, Registries};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::renumbered::{self, Begun};

/// `orch agent`: runs until SIGTERM or SIGINT. Containers go on afterwards.
pub async fn run(args: AgentArgs) -> Result<()> {
    let started = std::time::Instant::now();
    let begun = Begun::now()?;
    let AgentConfig { url, token, node } = AgentConfig::resolve(args)?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    std::fs::create_dir_all(&node.data_dir).with_context(|| format!("making {}", node.data_dir.display()))?;
    let _lock = lock(&node.data_dir)?;
    let stopping = CancellationToken::new();
    let mut tasks = tokio::select! {
        tasks = start(&begun, &node, url, Entry::Token(token), stopping.clone()) => tasks?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(after = ?started.elapsed(), "the agent is running");
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = ended(&mut tasks) => Err(ended),
    };
    tracing::info!("stopping; containers keep running");
    stopping.cancel();
    while tasks.join_next().await.is_some() {}
    begun.again(outcome)
}

/// One process per data directory: two agents would fight over its pods.
fn lock(data_dir: &std::path::Path) -> Result<std::fs::File> {
    let path = data_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(anyhow!("another orch runs on {}; stop it first, or choose another --data-dir", data_dir.display())),
    }
}

/// Why the first task that ended did, which none should.
pub async fn ended(tasks: &mut JoinSet<Result<()>>) -> anyhow::Error {
    match tasks.join_next().await {
        // No tasks: nothing can end.
        None => std::future::pending().await,
        Some(Err(error)) => anyhow!(error).context("a part of the agent failed"),
        Some(Ok(Err(error))) => error,
        Some(Ok(Ok(()))) => anyhow!("a part of the agent ended; see the log"),
    }
}

/// Does once, in a network namespace of its own, what the pod network will need. On a machine that was just started the kernel loads modules for
/// that, which may take seconds: it does so while the machine joins.
fn rehearse() {
    let failed = |what: &str, error: &std::io::Error| {
        tracing::error!(what, %error, "this machine can't do something that the pod network needs; see `orch check-config`");
    };
    match orch::net::probe() {
        Ok(findings) => findings.iter().for_each(|finding| {
            if let Err(error) = &finding.result {
                failed(finding.what, error);
            }
        }),
        Err(error) => failed("network namespaces", &error),
    }
}

/// Makes this machine a node and runs its parts. Returns its tasks, none of which should end.
pub async fn start(
    begun: &Begun,
    node: &NodeConfig,
    url: http::Uri,
    entry: Entry,
    stopping: CancellationToken,
) -> Result<JoinSet<Result<()>>> {
    let node_ip = node.ip;
    tokio::task::spawn_blocking(rehearse);
    // The server's own node is on its machine: no wall between them.
    let tunnelled = matches!(entry, Entry::Token(_));
    let member = join::join(&JoinConfig { url, node_name: node.name.clone(), data_dir: node.data_dir.clone(), entry }).await?;
    let cluster = member.cluster.clone();
    let images = Images::open(&node.data_dir, Registries::read(&node.registries)?)?;
    let executable = std::env::current_exe().context("finding this executable")?;
    let runtime = Arc::new(Linux::open(&node.data_dir.join("run"), executable, begun.open_files())?);
    let config = agent::AgentConfig {
        labels: node.labels.clone(),
        taints: node.taints.clone(),
        pod_pids: node.pod_pids,
        ..agent::AgentConfig::of(&member, &node.name, node_ip, &node.data_dir)
    };
    let Agent { client, pods, net, services, host_ports, tasks: mut kubelet } =
        agent::start(config, member.client.clone(), runtime.clone(), images, stopping.clone()).await?;
    // After the Node is there: it says the addresses that the certificate may be for.
    member.serve_at(&[node_ip]).await?;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), agent::http::PORT);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address} for logs and exec"))?;
    let tls = Arc::new(member.server_tls()?);
    net.own(cluster.dns).await?;
    let dns = agent::dns::DnsConfig {
        listen: vec![SocketAddr::new(net.gateway().into(), 53), SocketAddr::new(cluster.dns.into(), 53)],
        domain: cluster.domain,
        upstreams: orch::net::dns::upstreams_of(&std::fs::read_to_string(agent::RESOLV_CONF).unwrap_or_default()),
    };
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    if tunnelled {
        let reach = Reach { node_ip, kubelet_port: agent::http::PORT, pods: net.pod_cidr() };
        let (config, stop) = (member.tunnel(reach)?, stopping.clone());
        tasks.spawn(async move {
            tunnel::keep(config, stop).await;
            Ok(())
        });
    }
    let stop = || stopping.clone();
    renumbered::follow(&mut tasks, node, stop())?;
    tasks.spawn(watched("logs and exec", agent::http::serve(listener, tls, pods, runtime, (client, node.name.clone()), stop()), stop()));
    tasks.spawn(watched("the service proxy", agent::proxy::run(services.clone(), net, node_ip, host_ports, stop()), stop()));
    tasks.spawn(watched("DNS", agent::dns::run(services, dns, stop()), stop()));
    tasks.spawn(async move {
        while let Some(ended) = kubelet.join_next().await {
            ended.context("a part of the agent panicked")??;
        }
        Ok(())
    });
    let stop = stop();
    tasks.spawn(async move {
        member.keep_fresh(stop).await;
        Ok(())
    });
    Ok(tasks)
}

/// A part that runs until told to stop: ending before is an error of its own.
async fn watched<E: std::error::Error + Send + Sync + 'static>(
    name: &'static str,
    part: impl Future<Output = Result<(), E>>,
    stopping: CancellationToken,
) -> Result<()> {
    let ended = part.await;
    if stopping.is_cancelled() {
        return Ok(());
    }
    ended.with_context(|| name)?;
    Err(anyhow!("{name} ended by itself"))
}
