//! `orch server`: a server and, by default, an agent beside it, which talks to it over TLS like any other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use orch::agent::{self, Agent, AgentConfig};
use orch::config::{ServerArgs, ServerConfig};
use orch::runtime::Linux;
use orch::runtime::image::{Images, Registries};
use orch::server::{self, Server, pki};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pods that a node takes, as upstream's default.
const MAX_PODS: u32 = 110;
/// A container's log is rotated at this size, keeping so many files (upstream's defaults).
const LOG_MAX_BYTES: u64 = 10 << 20;
const LOG_FILES: u32 = 5;

/// Runs until SIGTERM or SIGINT. Containers go on afterwards.
pub async fn run(args: ServerArgs) -> Result<()> {
    let started = std::time::Instant::now();
    let config = ServerConfig::resolve(args)?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut server = server::start(&config).await?;
    tracing::info!(kubeconfig = %config.kubeconfig.display(), after = ?started.elapsed(), "the server is ready");
    let stopping = CancellationToken::new();
    let mut node = JoinSet::new();
    if config.agent {
        node = start_agent(&config, &server, stopping.clone()).await.context("starting the agent")?;
        tracing::info!(after = ?started.elapsed(), "the agent is running");
    }
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = server.failed() => Err(anyhow!("a part of the server ended; see the log")),
        Some(ended) = node.join_next() => Err(match ended.context("a part of the agent failed") {
            Ok(Err(error)) | Err(error) => error,
            Ok(Ok(())) => anyhow!("a part of the agent ended; see the log"),
        }),
    };
    tracing::info!("stopping; containers keep running");
    stopping.cancel();
    while node.join_next().await.is_some() {}
    server.stop().await;
    outcome
}

fn agent_config(config: &ServerConfig, kubeconfig: String) -> Result<AgentConfig> {
    Ok(AgentConfig {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip,
        data_dir: config.data_dir.clone(),
        kubeconfig: kubeconfig.into_bytes(),
        cluster_dns: config.dns_ip(),
        cluster_domain: config.cluster_domain.clone(),
        pod_cidr: None,
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_cidr,
        labels: std::collections::BTreeMap::new(),
        taints: Vec::new(),
        kubelet_port: agent::http::PORT,
        max_pods: MAX_PODS,
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
        seccomp_dir: config.data_dir.join("seccomp"),
        log_max_bytes: LOG_MAX_BYTES,
        log_files: LOG_FILES,
    })
}

/// Starts the local node with an identity of its own. Returns its tasks, none of which should end.
async fn start_agent(config: &ServerConfig, server: &Server, stopping: CancellationToken) -> Result<JoinSet<Result<()>>> {
    let identity = server.pki.issue_node(&config.node_name, &[config.node_ip])?;
    let kubeconfig = pki::kubeconfig(&config.local_url(), server.pki.ca_pem(), &config.node_name, &identity.client)?;
    let images = Images::open(&config.data_dir, Registries::read(&config.registries)?)?;
    let executable = std::env::current_exe().context("finding this executable")?;
    let runtime = Arc::new(Linux::open(&config.data_dir.join("run"), executable)?);
    let agent = agent::start(agent_config(config, kubeconfig)?, runtime.clone(), images, stopping.clone()).await?;
    let Agent { client, pods, net, host_ports, tasks: mut kubelet } = agent;

    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), agent::http::PORT);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address} for logs and exec"))?;
    let tls = Arc::new(server.pki.kubelet_server_tls(&identity.serving)?);
    net.own(config.dns_ip()).await?;
    let dns = agent::dns::DnsConfig {
        listen: vec![SocketAddr::new(net.gateway().into(), 53), SocketAddr::new(config.dns_ip().into(), 53)],
        domain: config.cluster_domain.clone(),
        upstreams: orch::net::dns::upstreams_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
    };
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let stop = || stopping.clone();
    let node_ip = config.node_ip;
    tasks.spawn(watched("logs and exec", agent::http::serve(listener, tls, pods, runtime, stop()), stop()));
    tasks.spawn(watched("the service proxy", agent::proxy::run(client.clone(), net, node_ip, host_ports, stop()), stop()));
    tasks.spawn(watched("DNS", agent::dns::run(client, dns, stop()), stop()));
    tasks.spawn(async move {
        while let Some(ended) = kubelet.join_next().await {
            ended.context("a part of the agent panicked")??;
        }
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
