//! `orch server`: a server and, by default, an agent beside it, which talks to it over TLS like any other.

use anyhow::{Context, Result, anyhow};
use orch::agent::join::Entry;
use orch::config::{ServerArgs, ServerConfig};
use orch::server::{self, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::node;
use crate::renumbered::{self, Begun};

/// Runs until SIGTERM or SIGINT. Containers go on afterwards.
pub async fn run(args: ServerArgs) -> Result<()> {
    let started = std::time::Instant::now();
    let begun = Begun::now()?;
    let config = ServerConfig::resolve(args)?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut server = server::start(&config).await?;
    tracing::info!(kubeconfig = %config.kubeconfig.display(), after = ?started.elapsed(), "the server is ready");
    tracing::info!("to join another machine, run there: {}", server.join_line(std::io::IsTerminal::is_terminal(&std::io::stderr())));
    let stopping = CancellationToken::new();
    let mut parts = JoinSet::new();
    if config.agent {
        parts = start_agent(&begun, &config, &server, stopping.clone()).await.context("starting the agent")?;
        tracing::info!(after = ?started.elapsed(), "the agent is running");
    } else {
        renumbered::follow(&mut parts, &config.node, stopping.clone())?;
    }
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = server.failed() => Err(anyhow!("a part of the server ended; see the log")),
        ended = node::ended(&mut parts) => Err(ended),
    };
    tracing::info!("stopping; containers keep running");
    stopping.cancel();
    while parts.join_next().await.is_some() {}
    server.stop().await;
    begun.again(outcome)
}

/// Starts the local node, which is handed what others must ask for.
async fn start_agent(begun: &Begun, config: &ServerConfig, server: &Server, stopping: CancellationToken) -> Result<JoinSet<Result<()>>> {
    let identity = server.pki.issue_node(&config.node.name)?;
    let client_pem = format!("{}{}", identity.cert_pem, identity.key_pem);
    let entry = Entry::Given { ca_pem: server.pki.ca_pem().into(), client_pem };
    let url = config.local_url().parse().context("the API's own address")?;
    node::start(begun, &config.node, url, entry, stopping).await
}
