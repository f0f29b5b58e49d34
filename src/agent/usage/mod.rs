//! How much this node and its pods use: measured when somebody asks, from cgroups and /proc, and never otherwise.
//!
//! Words: a *sample* is what all counters say at one moment; *usage* is what two samples make of each other. [`Meter`] keeps the newest two.
//! Decisions are in [`rates`] and [`next`], which are pure; how it is told is in [`tell`].
//!
//! Follows pkg/kubelet/stats and cadvisor: the working set is what is used without files that nobody reads any more.
mod node;
pub mod tell;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::pods::{PodView, Pods};
use super::resources;
use crate::api::usage::{Amount, ContainerUsage, NodeUsage, PodUsage};
use crate::runtime::{Runtime, Stats};
pub use node::Machine;

/// A sample is as good as a new one for so long.
const FRESH: Duration = Duration::from_secs(5);
/// One older than this says nothing of now.
const OLD: Duration = Duration::from_secs(120);
/// How long the first to ask waits for rates.
const WINDOW: Duration = Duration::from_secs(1);
/// Groups that are read at once.
const AT_ONCE: usize = 8;

/// A container that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSample {
    /// Name.
    pub name: String,
    /// The run's ID: another run counts from zero.
    pub id: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// Its counters.
    pub stats: Stats,
}

/// A pod with containers that run.
#[derive(Clone, Debug)]
pub struct PodSample {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Counters of its own group, with all that is below.
    pub stats: Stats,
    /// Its containers.
    pub containers: Vec<ContainerSample>,
}

impl PodSample {
    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When, for others.
    pub at: Timestamp,
    /// When, for us.
    pub taken: Instant,
    /// The node.
    pub node: Machine,
    /// Its pods.
    pub pods: Vec<PodSample>,
}

/// Two samples, the older one first.
#[derive(Clone, Debug)]
pub struct Pair(pub Arc<Sample>, pub Arc<Sample>);

impl Pair {
    /// How far they are apart.
    pub fn window(&self) -> Duration {
        self.1.taken.duration_since(self.0.taken)
    }

    /// Nanoseconds of CPU that a counter grew by, as billionths of a core; one that began in between counts from its start.
    fn rate(&self, before: Option<u64>, after: u64, started: Option<Timestamp>) -> u64 {
        let own = started.and_then(|started| Duration::try_from(self.1.at.duration_since(started)).ok());
        let window = if before.is_some() { self.window() } else { own.unwrap_or_default() };
        let grown = u128::from(after.saturating_sub(before.unwrap_or(0)));
        match window.as_nanos() {
            0 => 0,
            nanos => u64::try_from(grown * 1_000_000_000 / nanos).unwrap_or(u64::MAX),
        }
    }

    /// Billionths of a core of the node.
    pub fn node_rate(&self) -> u64 {
        self.rate(Some(self.0.node.cpu_nanos), self.1.node.cpu_nanos, None)
    }

    /// Billionths of a core of a pod as a whole.
    pub fn pod_rate(&self, pod: &PodSample) -> u64 {
        let before = self.0.pods.iter().find(|other| other.uid() == pod.uid());
        let started = pod.containers.iter().map(|container| container.started).min();
        self.rate(before.map(|before| before.stats.cpu_nanos), pod.stats.cpu_nanos, started)
    }

    /// Billionths of a core of a container.
    pub fn container_rate(&self, pod: &PodSample, container: &ContainerSample) -> u64 {
        let before = self.0.pods.iter().filter(|other| other.uid() == pod.uid()).flat_map(|pod| &pod.containers);
        let before = before.into_iter().find(|other| other.id == container.id);
        self.rate(before.map(|before| before.stats.cpu_nanos), container.stats.cpu_nanos, Some(container.started))
    }
}

/// What the server is told.
pub fn rates(pair: &Pair) -> NodeUsage {
    let container = |pod: &PodSample, container: &ContainerSample| ContainerUsage {
        name: container.name.clone(),
        usage: Amount { nano_cores: pair.container_rate(pod, container), working_set: container.stats.working_set_bytes },
    };
    let pod =
        |pod: &PodSample| PodUsage { uid: pod.uid().into(), containers: pod.containers.iter().map(|one| container(pod, one)).collect() };
    NodeUsage {
        timestamp: pair.1.at,
        window: u64::try_from(pair.window().as_millis()).unwrap_or(u64::MAX),
        node: Amount { nano_cores: pair.node_rate(), working_set: pair.1.node.working_set() },
        pods: pair.1.pods.iter().map(pod).collect(),
    }
}

/// What to do for whoever asks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// What there is will do.
    Keep,
    /// Another sample makes a pair with the last.
    One,
    /// Two are needed.
    Two,
}

/// Decides by the ages of the last sample and of the one before.
fn next(last: Option<Duration>, before: Option<Duration>) -> Next {
    match (last, before) {
        (Some(last), Some(before)) if last < FRESH && before < OLD => Next::Keep,
        // Too short a time says little: then it is made longer.
        (Some(last), _) if last >= WINDOW && last < OLD => Next::One,
        _ => Next::Two,
    }
}

/// Measures, one at a time, however many ask. Cheap to clone.
pub struct Meter<R: Runtime> {
    runtime: Arc<R>,
    pods: Pods,
    samples: Arc<Mutex<Vec<Arc<Sample>>>>,
}

impl<R: Runtime> Meter<R> {
    /// Has measured nothing yet.
    pub fn new(runtime: Arc<R>, pods: Pods) -> Meter<R> {
        Meter { runtime, pods, samples: Arc::default() }
    }

    /// The newest two samples; the first to ask for long waits a moment for the second.
    pub async fn pair(&self) -> std::io::Result<Pair> {
        let mut samples = self.samples.lock().await;
        let age = |at: usize| samples.len().checked_sub(at).and_then(|at| samples.get(at)).map(|sample| sample.taken.elapsed());
        match next(age(1), age(2)) {
            Next::Keep => {}
            Next::One => self.take(&mut samples).await?,
            Next::Two => {
                self.take(&mut samples).await?;
                tokio::time::sleep(WINDOW).await;
                self.take(&mut samples).await?;
            }
        }
        match samples.as_slice() {
            [before, last] => Ok(Pair(before.clone(), last.clone())),
            _ => Err(std::io::Error::other("there are no two samples")),
        }
    }

    /// A sample that is fresh.
    pub async fn sample(&self) -> std::io::Result<Arc<Sample>> {
        let mut samples = self.samples.lock().await;
        if samples.last().is_none_or(|last| last.taken.elapsed() >= FRESH) {
            self.take(&mut samples).await?;
        }
        samples.last().cloned().ok_or_else(|| std::io::Error::other("there is no sample"))
    }

    async fn take(&self, samples: &mut Vec<Arc<Sample>>) -> std::io::Result<()> {
        let (at, taken, node) = (Timestamp::now(), Instant::now(), node::measure()?);
        let views = futures::stream::iter(self.pods.list()).map(|view| self.pod(view)).buffer_unordered(AT_ONCE);
        let mut pods: Vec<PodSample> = views.filter_map(futures::future::ready).collect().await;
        pods.sort_by(|one, other| {
            let name = |sample: &PodSample| (sample.pod.metadata.namespace.clone(), sample.pod.metadata.name.clone());
            name(one).cmp(&name(other))
        });
        samples.push(Arc::new(Sample { at, taken, node, pods }));
        let surplus = samples.len().saturating_sub(2);
        samples.drain(..surplus);
        Ok(())
    }

    /// A pod's counters; none if nothing of it runs, or it went away just now.
    async fn pod(&self, view: PodView) -> Option<PodSample> {
        let group = resources::cgroup(&view.pod);
        let mut containers = Vec::new();
        for (name, container) in view.containers.iter().filter(|(_, container)| container.running) {
            let (Some(started), Some(stats)) = (container.started, self.stats(&format!("{group}/{}", container.id)).await) else {
                continue;
            };
            containers.push(ContainerSample { name: name.clone(), id: container.id.clone(), started, stats });
        }
        if containers.is_empty() {
            return None;
        }
        Some(PodSample { stats: self.stats(&group).await?, pod: view.pod, containers })
    }

    async fn stats(&self, group: &str) -> Option<Stats> {
        match self.runtime.stats(group).await {
            Ok(stats) => Some(stats),
            Err(crate::runtime::Error::NotFound(_)) => None,
            Err(error) => {
                tracing::warn!(%error, group, "a group can't be measured");
                None
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "tests.rs"]
pub(super) mod tests;
