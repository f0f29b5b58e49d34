//! `orch hello`: the sample workload. Answers every request with the host's name, which in a pod is the pod's.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM.
pub async fn serve(listen: SocketAddr) -> Result<()> {
    let name = nix::unistd::gethostname().context("reading the host's name")?.to_string_lossy().into_owned();
    let answer = move || std::future::ready(format!("Hello from {name}\n"));
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    println!("answering on http://{}", listener.local_addr().context("reading the address")?);
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    axum::serve(listener, axum::Router::new().fallback(axum::routing::any(answer)))
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await
        .context("serving")
}
