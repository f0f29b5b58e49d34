//! Startup, liveness and readiness probes of one run of a container. One task per run, asleep between its probes; it reports only
//! what changes a verdict, and ends with the run. Follows pkg/kubelet/prober/worker.go.
pub mod check;
mod grpc;
mod web;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::time::sleep;

use super::Context;
use crate::runtime::Runtime;
use check::{Action, Target};

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Until it passes, the others wait.
    Startup,
    /// Its failure restarts the container.
    Liveness,
    /// Whether Services send requests.
    Readiness,
}

impl Kind {
    /// As events begin.
    fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
}

/// A changed verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Of which container.
    pub container: String,
    /// Of which run.
    pub attempt: u32,
    /// Which probe.
    pub kind: Kind,
    /// Passed or failed its threshold.
    pub passed: bool,
    /// The probe's own grace for the kill that follows.
    pub grace: Option<Duration>,
}

/// What is probed.
pub struct Subject<R: Runtime> {
    /// The agent.
    pub context: Arc<Context<R>>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container.
    pub container: Container,
    /// Where it is.
    pub target: Target,
    /// Which run.
    pub attempt: u32,
    /// When it started.
    pub started: jiff::Timestamp,
}

/// Probes until dropped.
pub async fn run<R: Runtime>(subject: Subject<R>, report: impl Fn(Report) + Send + Sync) {
    if let Some(probe) = &subject.container.startup_probe {
        series(&subject, probe, Kind::Startup, &report).await;
    }
    let one = async |probe: &Option<Probe>, kind| {
        if let Some(probe) = probe {
            series(&subject, probe, kind, &report).await;
        }
    };
    tokio::join!(one(&subject.container.liveness_probe, Kind::Liveness), one(&subject.container.readiness_probe, Kind::Readiness));
}

fn seconds(value: Option<i32>, default: u64, least: u64) -> u64 {
    value.map_or(default, |v| u64::try_from(v).unwrap_or(0)).max(least)
}

/// Probes again and again. A startup probe returns once it passed; a failed liveness or startup probe waits for its end.
async fn series<R: Runtime>(subject: &Subject<R>, probe: &Probe, kind: Kind, report: &(impl Fn(Report) + Send + Sync)) {
    let period = Duration::from_secs(seconds(probe.period_seconds, 10, 1));
    let limit = Duration::from_secs(seconds(probe.timeout_seconds, 1, 1));
    let (need_ok, need_bad) = (seconds(probe.success_threshold, 1, 1), seconds(probe.failure_threshold, 3, 1));
    let action = Action::of_probe(probe);
    let since = subject.context.now().duration_since(subject.started).unsigned_abs();
    sleep(Duration::from_secs(seconds(probe.initial_delay_seconds, 0, 0)).saturating_sub(since)).await;
    let (mut streak, mut last) = (0u64, None);
    let mut verdict = None;
    loop {
        let result = check::run(&*subject.context.runtime, &subject.target, &subject.container, &action, limit).await;
        let passed = result.is_ok();
        if let Err(why) = result {
            let message = format!("{} probe failed: {why}", kind.title());
            subject.context.events.pod(&subject.pod, Some(&subject.container.name), true, "Unhealthy", message);
        }
        streak = if last == Some(passed) { streak + 1 } else { 1 };
        last = Some(passed);
        let reached = streak >= if passed { need_ok } else { need_bad };
        if reached && verdict != Some(passed) {
            verdict = Some(passed);
            let grace = probe.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
            report(Report { container: subject.container.name.clone(), attempt: subject.attempt, kind, passed, grace });
            match (kind, passed) {
                (Kind::Startup, true) => return,
                (Kind::Startup | Kind::Liveness, false) => std::future::pending().await,
                _ => {}
            }
        }
        sleep(period).await;
    }
}
