//! The agent's decision for one pod: want and have in, steps out. Pure: no I/O and no clock of its own.
//!
//! Called again after every change and at the time the last answer asked for; what is under way is part of `have`, so a step is
//! never given twice. Follows upstream's `computePodActions` and `SyncTerminatingPod` (pkg/kubelet/kuberuntime/kuberuntime_manager.go),
//! with containers of a pod started side by side instead of one by one.
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::observed::{Doing, Image, Instance, Observed, Sandbox, Seen, Volumes};
use super::resize::{is_due, is_group_due, needs_restart};
use super::roles;
use crate::api::pod::as_container;
use crate::runtime::Phase;

/// First wait between restarts.
pub const BACKOFF_BASE: Duration = Duration::from_secs(10);
/// Longest wait between restarts, and between image pulls.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran for this long starts over with its back-off.
pub const BACKOFF_RESET: Duration = Duration::from_secs(600);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Start the shim and attach it to the network.
    CreateSandbox,
    /// Set up all volumes.
    MountVolumes,
    /// Look up or pull the image of this container.
    EnsureImage(String),
    /// Create and run this container as this attempt.
    Start(String, u32),
    /// Stop it: preStop, signal, grace, kill.
    Stop {
        /// Which.
        container: String,
        /// How long it may take.
        grace: Duration,
        /// For the Killing event.
        why: String,
    },
    /// Give the groups of the pod and of what runs what they are allotted.
    Resize,
    /// Its grace was cut short: kill it now.
    Kill(String),
    /// Fail the pod as a whole: reason and message.
    Fail(String, String),
    /// Remove sandbox, network and volumes.
    RemoveSandbox,
    /// All is gone here: delete it from the API, if it is still there.
    Finish,
    /// Nothing changes by itself before this.
    Wake(Timestamp),
}

/// Wait after this many restarts (or failed pulls) in a row: none, 10 s, 20 s, ... 300 s.
pub fn backoff(count: u32) -> Duration {
    match count {
        0 => Duration::ZERO,
        n => BACKOFF_BASE.saturating_mul(1u32.checked_shl(n - 1).unwrap_or(u32::MAX)).min(BACKOFF_MAX),
    }
}

/// Until when a container that ended must wait, if it must.
pub fn restart_at(seen: &Seen) -> Option<Timestamp> {
    let Some(Phase::Exited { started, finished, .. }) = seen.current.as_ref().map(|i| &i.phase) else { return None };
    match seen.crashes {
        0 => None,
        _ if finished.duration_since(*started) >= jiff::SignedDuration::try_from(BACKOFF_RESET).unwrap_or_default() => None,
        n => Some(later(*finished, backoff(n))),
    }
}

/// `at` plus `by`, or the end of time.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A restartable init container.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Containers and init containers of a pod.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

/// The pod's own restart policy.
pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether an ended container of the pod is run again.
fn restarts(pod: &Pod, code: i32) -> bool {
    match restart_policy(pod) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Whether the API says that the pod has ended.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded"))
}

/// How long the pod's containers get to end.
pub fn grace(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds;
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let seconds = if pod.metadata.deletion_timestamp.is_some() { seconds.or(spec) } else { spec };
    // As upstream: even a forced deletion gives the processes a moment.
    Duration::from_secs(seconds.unwrap_or(30).max(1).unsigned_abs())
}

/// What to do now.
pub fn plan(want: &Pod, have: &Observed, now: Timestamp) -> Vec<Step> {
    let mut steps = Vec::new();
    if have.finished || matches!(have.sandbox, Sandbox::Removing) {
        return steps;
    }
    let deleted = have.gone || want.metadata.deletion_timestamp.is_some();
    if deleted || have.failed.is_some() || is_terminal(want) {
        terminate(want, have, now, deleted, &mut steps);
        return steps;
    }
    if let Some(limit) = want.spec.as_ref().and_then(|s| s.active_deadline_seconds)
        && let Some(start) = have.start_time
    {
        let end = later(start, Duration::from_secs(limit.max(0).unsigned_abs()));
        if end <= now {
            let message = "Pod was active on the node longer than the specified deadline";
            return vec![Step::Fail("DeadlineExceeded".into(), message.into())];
        }
        steps.push(Step::Wake(end));
    }
    if is_done(want, have) {
        terminate(want, have, now, false, &mut steps);
        return steps;
    }
    prepare(have, now, &mut steps);
    resize(want, have, now, &mut steps);
    let initialized = init(want, have, now, &mut steps);
    for container in want.spec.iter().flat_map(|s| &s.containers) {
        match initialized {
            true => keep(want, container, have, now, &mut steps),
            // Fetch ahead, so that the wait for init containers is not followed by one for images.
            false => drop(image(container, have, now, &mut steps)),
        }
    }
    for container in roles::ephemeral(want) {
        once(&as_container(container), have, now, &mut steps);
    }
    steps
}

/// Gives what runs what it is allotted: in place where its policy allows that, after those are gone that have to be made anew.
fn resize(pod: &Pod, have: &Observed, now: Timestamp, steps: &mut Vec<Step>) {
    let alive = |container: &&Container| {
        let seen = have.container(&container.name);
        seen.and_then(|seen| seen.current.as_ref()).is_some_and(Instance::alive) && is_due(container, &have.given)
    };
    let (restart, in_place): (Vec<_>, Vec<_>) = containers(pod).filter(alive).partition(|container| needs_restart(container, &have.given));
    for container in &restart {
        if have.container(&container.name).is_some_and(|seen| seen.doing.is_none()) {
            let why = format!("Container {} resize requires restart", container.name);
            steps.push(Step::Stop { container: container.name.clone(), grace: grace(pod), why });
        }
    }
    // What starts waits for this, so that no container is ever given more than its pod has.
    let due = !in_place.is_empty() || is_group_due(pod, &have.given);
    if !due || !restart.is_empty() || have.resize.doing || !matches!(have.sandbox, Sandbox::Ready { .. }) {
        return;
    }
    match &have.resize.error {
        Some((_, retry)) if *retry > now => steps.push(Step::Wake(*retry)),
        _ => steps.push(Step::Resize),
    }
}

/// Starts an ephemeral container as soon as there is a sandbox for it, whatever the others are at. It gets one run.
fn once(container: &Container, have: &Observed, now: Timestamp, steps: &mut Vec<Step>) {
    let empty = Seen::default();
    let seen = have.container(&container.name).unwrap_or(&empty);
    if seen.doing.is_none() && seen.current.is_none() {
        start(container, seen, 0, have, now, steps);
    }
}

/// Whether no container of the pod will run again: all ended and restartPolicy lets them rest, or an init container failed for good.
fn is_done(pod: &Pod, have: &Observed) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let code = |c: &Container| have.container(&c.name).and_then(|s| s.current.as_ref()).and_then(|i| i.code());
    let init_failed = || {
        let failed = |c: &&Container| !is_sidecar(c) && matches!(code(c), Some(code) if code != 0);
        spec.init_containers.iter().flatten().any(|c| failed(&c)) && restart_policy(pod) == "Never"
    };
    let again = |c: &Container| have.container(&c.name).is_some_and(|seen| seen.again);
    spec.containers.iter().all(|c| !again(c) && matches!(code(c), Some(code) if !restarts(pod, code))) || init_failed()
}

/// Sandbox and volumes, side by side.
fn prepare(have: &Observed, now: Timestamp, steps: &mut Vec<Step>) {
    match have.sandbox {
        Sandbox::Absent => steps.push(Step::CreateSandbox),
        Sandbox::Failed { retry } if retry <= now => steps.push(Step::CreateSandbox),
        Sandbox::Failed { retry } => steps.push(Step::Wake(retry)),
        Sandbox::Creating | Sandbox::Ready { .. } | Sandbox::Removing => {}
    }
    match have.volumes {
        Volumes::Absent => steps.push(Step::MountVolumes),
        Volumes::Failed { retry } if retry <= now => steps.push(Step::MountVolumes),
        Volumes::Failed { retry } => steps.push(Step::Wake(retry)),
        Volumes::Mounting | Volumes::Ready => {}
    }
}

/// Init containers in order; whether the app containers may run.
fn init(pod: &Pod, have: &Observed, now: Timestamp, steps: &mut Vec<Step>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    // Once an app container ran in this sandbox, init containers are history, even if their remains are gone.
    let begun = spec.containers.iter().any(|c| have.container(&c.name).is_some_and(|s| s.current.is_some()));
    for container in spec.init_containers.iter().flatten() {
        let seen = have.container(&container.name);
        let current = seen.and_then(|s| s.current.as_ref());
        if is_sidecar(container) {
            keep(pod, container, have, now, steps);
            let up = seen.is_some_and(|s| s.started && s.current.as_ref().is_some_and(|i| i.alive()));
            if !up && !begun {
                return false;
            }
        } else if !begun && current.and_then(|i| i.code()) != Some(0) {
            keep(pod, container, have, now, steps);
            return false;
        }
    }
    true
}

/// Keeps one container as it should be: started, restarted after its back-off, stopped if ordered.
fn keep(pod: &Pod, container: &Container, have: &Observed, now: Timestamp, steps: &mut Vec<Step>) {
    let name = &container.name;
    let empty = Seen::default();
    let seen = have.container(name).unwrap_or(&empty);
    if seen.doing.is_some() || steps.iter().any(|step| matches!(step, Step::Stop { container, .. } if container == name)) {
        return;
    }
    let Some(current) = &seen.current else { return start(container, seen, 0, have, now, steps) };
    match current.code() {
        None => {
            if let Some(restart) = &seen.restart {
                let grace = restart.grace.unwrap_or_else(|| grace(pod));
                steps.push(Step::Stop { container: name.clone(), grace, why: restart.why.clone() });
            } else if current.image != container.image.clone().unwrap_or_default() {
                // Only the image of a running container may change in the API.
                let why = format!("Container {name} definition changed, will be restarted");
                steps.push(Step::Stop { container: name.clone(), grace: grace(pod), why });
            }
        }
        Some(code) => {
            let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| c.name == *name);
            let again = match init {
                true => is_sidecar(container) || restart_policy(pod) != "Never",
                false => restarts(pod, code) || current.image != container.image.clone().unwrap_or_default(),
            };
            match restart_at(seen) {
                _ if seen.again => start(container, seen, current.attempt + 1, have, now, steps),
                _ if !again => {}
                Some(at) if at > now => steps.push(Step::Wake(at)),
                _ => start(container, seen, current.attempt + 1, have, now, steps),
            }
        }
    }
}

/// Starts a container as soon as all that it needs is there.
fn start(container: &Container, seen: &Seen, attempt: u32, have: &Observed, now: Timestamp, steps: &mut Vec<Step>) {
    if !image(container, have, now, steps) {
        return;
    }
    if let Some(error) = &seen.error
        && error.retry > now
    {
        return steps.push(Step::Wake(error.retry));
    }
    let attempt = seen.last.as_ref().map_or(attempt, |last| attempt.max(last.attempt + 1));
    let ready = matches!(have.sandbox, Sandbox::Ready { .. }) && have.volumes == Volumes::Ready;
    if ready && !steps.contains(&Step::Resize) && !have.resize.doing {
        steps.push(Step::Start(container.name.clone(), attempt));
    }
}

/// Sees to the image; whether it is there.
fn image(container: &Container, have: &Observed, now: Timestamp, steps: &mut Vec<Step>) -> bool {
    let seen = have.container(&container.name);
    if seen.is_some_and(|s| s.doing.is_some()) {
        return false;
    }
    match seen.map_or(&Image::Unknown, |s| &s.image) {
        Image::Present => return true,
        Image::Failed { retry, .. } if *retry > now => steps.push(Step::Wake(*retry)),
        Image::Failed { .. } | Image::Unknown => steps.push(Step::EnsureImage(container.name.clone())),
    }
    false
}

/// Stops what runs (sidecars last, in reverse), then removes the sandbox, then finishes.
fn terminate(pod: &Pod, have: &Observed, now: Timestamp, deleted: bool, steps: &mut Vec<Step>) {
    let deadline = later(now, grace(pod));
    let why = |name: &str| format!("Stopping container {name}");
    let busy = |s: &Seen| matches!(s.doing, Some(Doing::Starting)) || s.current.as_ref().is_some_and(|i| i.alive());
    let mut stop = |name: &str, seen: &Seen| match seen.doing {
        // A postStart hook that still runs does not keep a started container from being stopped.
        None | Some(Doing::Starting) if seen.current.as_ref().is_some_and(|i| i.alive()) => {
            steps.push(Step::Stop { container: name.into(), grace: grace(pod), why: why(name) });
        }
        // The deletion was repeated with less grace.
        Some(Doing::Stopping { deadline: end }) if deleted && end > later(deadline, Duration::from_secs(1)) => {
            steps.push(Step::Kill(name.into()));
        }
        _ => {}
    };
    let sidecars: Vec<&str> =
        pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).filter(|c| is_sidecar(c)).map(|c| &*c.name).collect();
    let mut waiting = false;
    for (name, seen) in have.containers.iter().filter(|(name, seen)| !sidecars.contains(&name.as_str()) && busy(seen)) {
        waiting = true;
        stop(name, seen);
    }
    for name in sidecars.iter().rev() {
        if let Some(seen) = have.container(name).filter(|s| busy(s) && !waiting) {
            waiting = true;
            stop(name, seen);
        }
    }
    if waiting || matches!(have.sandbox, Sandbox::Creating) || have.volumes == Volumes::Mounting {
        return;
    }
    if !matches!(have.sandbox, Sandbox::Absent) || have.volumes != Volumes::Absent {
        steps.push(Step::RemoveSandbox);
    } else if deleted && !have.finishing {
        steps.push(Step::Finish);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
