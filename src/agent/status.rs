//! The status of a pod, as a pure function of what is observed. Follows upstream's `generateAPIPodStatus` and `getPhase`
//! (pkg/kubelet/kubelet_pods.go) and pkg/kubelet/status/generate.go.
//!
//! Conditions set by others (PodScheduled, readiness gates) are read, never written over.
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP, Pod,
    PodCondition, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{Image, Instance, Observed, Sandbox, Seen};
use super::plan::{is_sidecar, is_terminal, restart_at, restart_policy};
use super::resources::qos_class;
use super::roles::{self, Role, role};
use crate::api::pod::as_container;
use crate::runtime::Phase;

/// What the pod's status should be now, where `old` is what it was told to be last, with the conditions of others.
pub fn status(pod: &Pod, old: &PodStatus, have: &Observed, node_ip: IpAddr, now: Timestamp) -> PodStatus {
    if is_terminal(pod) && have.containers.is_empty() {
        // Ended before this agent started: nothing is known better than what the API has.
        return old.clone();
    }
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let apps = pod.spec.as_ref().map(|s| s.containers.as_slice()).unwrap_or_default();
    let of = |list: &[Container], old: &Option<Vec<ContainerStatus>>| -> Vec<ContainerStatus> {
        list.iter().map(|c| container(pod, c, have, old.iter().flatten().find(|s| s.name == c.name), now)).collect()
    };
    let ephemeral: Vec<Container> = roles::ephemeral(pod).map(as_container).collect();
    let ephemeral = ephemeral.iter().map(|container| ephemeral_status(pod, container, have, now)).collect::<Vec<_>>();
    let init_statuses = of(init, &old.init_container_statuses);
    let statuses = of(apps, &old.container_statuses);
    let phase = phase(pod, old, have, init, &init_statuses, &statuses);
    let mut status = PodStatus {
        conditions: Some(conditions(pod, old, have, phase, init, &init_statuses, &statuses, now)),
        container_statuses: Some(statuses),
        init_container_statuses: (!init.is_empty()).then_some(init_statuses),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        host_ip: Some(node_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: node_ip.to_string() }]),
        phase: Some(phase.into()),
        observed_generation: pod.metadata.generation,
        qos_class: Some(qos_class(pod).into()),
        start_time: have.start_time.map(Time).or(old.start_time.clone()),
        ..old.clone()
    };
    if let Some(whole) = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()) {
        let given = have.given.group.as_ref().and_then(|group| group.pod.clone());
        status.allocated_resources = whole.requests.clone();
        status.resources = given.or_else(|| Some(whole.clone()));
    }
    if let Some((reason, message)) = &have.failed {
        status.reason = Some(reason.clone());
        status.message = Some(message.clone());
    }
    if let Some(ip) = have.ip() {
        status.pod_ip = Some(ip.to_string());
        status.pod_ips = Some(vec![PodIP { ip: ip.to_string() }]);
    }
    status
}

fn phase(
    pod: &Pod,
    old: &PodStatus,
    have: &Observed,
    init: &[Container],
    init_statuses: &[ContainerStatus],
    statuses: &[ContainerStatus],
) -> &'static str {
    if have.failed.is_some() {
        return "Failed";
    }
    match old.phase.as_deref() {
        // A terminal phase never changes again.
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        _ => {}
    }
    let ended = |s: &ContainerStatus| s.state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    let running = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.running.is_some());
    let policy = restart_policy(pod);
    for (container, status) in init.iter().zip(init_statuses) {
        if !is_sidecar(container) && policy == "Never" && ended(status).is_some_and(|code| code != 0) {
            return "Failed";
        }
    }
    let initialized = is_initialized(init, init_statuses, statuses);
    let waits = |s: &ContainerStatus| s.state.as_ref().is_none_or(|s| s.running.is_none() && s.terminated.is_none());
    // What waits for a restart has run before and does not take the pod back to Pending.
    let pending = |s: &ContainerStatus| waits(s) && s.last_state.as_ref().is_none_or(|l| l.terminated.is_none());
    if !initialized || statuses.iter().any(pending) {
        return "Pending";
    }
    if statuses.iter().any(|s| running(s) || waits(s)) {
        return "Running";
    }
    let failed = statuses.iter().any(|s| ended(s).is_some_and(|code| code != 0));
    let being_deleted = have.gone || pod.metadata.deletion_timestamp.is_some();
    match policy {
        "Always" if !being_deleted => "Running",
        "OnFailure" if failed && !being_deleted => "Running",
        _ if failed => "Failed",
        _ => "Succeeded",
    }
}

fn is_initialized(init: &[Container], init_statuses: &[ContainerStatus], statuses: &[ContainerStatus]) -> bool {
    let begun = |s: &ContainerStatus| s.started.is_some_and(|s| s) || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some());
    if statuses.iter().any(begun) {
        return true;
    }
    init.iter().zip(init_statuses).all(|(c, s)| match is_sidecar(c) {
        true => s.started == Some(true),
        false => s.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0),
    })
}

/// One container's status. `old` is what the API has: it fills in what was lost, such as the image of what never started.
fn container(pod: &Pod, container: &Container, have: &Observed, old: Option<&ContainerStatus>, now: Timestamp) -> ContainerStatus {
    let empty = Seen::default();
    let seen = have.container(&container.name).unwrap_or(&empty);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let shown = seen.current.as_ref().or(seen.last.as_ref());
    let (state, last) = states(pod, container, seen, have, now);
    let running = state.running.is_some();
    let role = role(pod, &container.name);
    let done = role == Role::Init && state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image: shown.map_or_else(|| container.image.clone().unwrap_or_default(), |i| i.image.clone()),
        image_id: shown.map_or_else(String::new, |i| i.image_id.clone()),
        container_id: shown.map(|i| container_id(uid, &container.name, i.attempt)),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        resources: Some(actual(container, have, running)),
        restart_count: shown.map_or(old.map_or(0, |o| o.restart_count), |i| i32::try_from(i.attempt).unwrap_or(i32::MAX)),
        ready: done || (running && seen.ready && role != Role::Init),
        started: Some(running && seen.started),
        state: Some(state),
        last_state: Some(last),
        ..ContainerStatus::default()
    }
}

/// What a container has: what it was given while it runs, else what it is allotted.
fn actual(container: &Container, have: &Observed, running: bool) -> ResourceRequirements {
    let given = have.given.containers.get(&container.name).filter(|_| running).cloned();
    given.or_else(|| container.resources.clone()).unwrap_or_default()
}

/// An ephemeral container's status: it serves nobody, so it is never ready, and it has no run but one.
fn ephemeral_status(pod: &Pod, own: &Container, have: &Observed, now: Timestamp) -> ContainerStatus {
    ContainerStatus { ready: false, started: None, ..container(pod, own, have, None, now) }
}

/// The ID of a run, as the API shows it.
pub fn container_id(uid: &str, name: &str, attempt: u32) -> String {
    format!("orch://{uid}/{}", Instance::id(name, attempt))
}

fn terminated(uid: &str, name: &str, instance: &Instance) -> Option<ContainerState> {
    let Phase::Exited { code, oom_killed, started, finished } = &instance.phase else { return None };
    let reason = match (&instance.reason, oom_killed, code) {
        (Some(reason), ..) => reason.clone(),
        (_, true, _) => "OOMKilled".into(),
        (_, _, 0) => "Completed".into(),
        _ => "Error".into(),
    };
    let terminated = ContainerStateTerminated {
        exit_code: *code,
        reason: Some(reason),
        message: instance.message.clone(),
        started_at: Some(Time(seconds(*started))),
        finished_at: Some(Time(seconds(*finished))),
        container_id: Some(container_id(uid, name, instance.attempt)),
        ..ContainerStateTerminated::default()
    };
    Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
}

fn states(pod: &Pod, container: &Container, seen: &Seen, have: &Observed, now: Timestamp) -> (ContainerState, ContainerState) {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let name = &container.name;
    let last = || seen.last.as_ref().and_then(|l| terminated(uid, name, l)).unwrap_or_default();
    match &seen.current {
        Some(Instance { phase: Phase::Running { started, .. }, .. }) => {
            let running = ContainerStateRunning { started_at: Some(Time(seconds(*started))) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, last())
        }
        Some(Instance { phase: Phase::Created, .. }) => (waiting("ContainerCreating", None), last()),
        Some(ended) => {
            let ended = terminated(uid, name, ended).unwrap_or_default();
            let stopping = have.gone || have.failed.is_some() || pod.metadata.deletion_timestamp.is_some();
            match if stopping { None } else { why_waiting(pod, container, seen, now) } {
                // As upstream: what waits for its restart is Waiting, and its end moves to lastState.
                Some(waiting) => (waiting, ended),
                None => (ended, last()),
            }
        }
        None => {
            let created = match have.sandbox {
                Sandbox::Ready { .. } if is_blocked(pod, container, have) => "PodInitializing",
                _ if is_blocked(pod, container, have) => "PodInitializing",
                _ => "ContainerCreating",
            };
            (why_waiting(pod, container, seen, now).unwrap_or_else(|| waiting(created, None)), last())
        }
    }
}

/// Whether an app container waits for init containers.
fn is_blocked(pod: &Pod, container: &Container, have: &Observed) -> bool {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    if role(pod, &container.name) == Role::Ephemeral {
        // It does not wait; the word is upstream's.
        return !init.is_empty();
    }
    let before = init.iter().take_while(|c| c.name != container.name);
    let done = |c: &Container| {
        let seen = have.container(&c.name);
        match is_sidecar(c) {
            true => seen.is_some_and(|s| s.started),
            false => seen.and_then(|s| s.current.as_ref()).and_then(|i| i.code()) == Some(0),
        }
    };
    before.into_iter().any(|c| !done(c))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// What keeps a container from its next start, if it is to have one.
fn why_waiting(pod: &Pod, container: &Container, seen: &Seen, now: Timestamp) -> Option<ContainerState> {
    if let Image::Failed { reason, message, .. } = &seen.image {
        let image = container.image.as_deref().unwrap_or_default();
        return Some(match *reason == "ErrImagePull" && seen.pull_told {
            true => waiting("ImagePullBackOff", Some(format!("Back-off pulling image \"{image}\": ErrImagePull: {message}"))),
            false => waiting(reason, Some(message.clone())),
        });
    }
    if let Some(error) = &seen.error {
        return Some(waiting(error.reason, Some(error.message.clone())));
    }
    let at = restart_at(seen)?;
    let code = seen.current.as_ref().and_then(|i| i.code())?;
    let again = match (restart_policy(pod), role(pod, &container.name)) {
        (_, Role::Ephemeral) => false,
        (_, Role::Sidecar) => true,
        ("Never", _) => false,
        ("OnFailure", _) | (_, Role::Init) => code != 0,
        _ => true,
    };
    if !again || at <= now {
        return None;
    }
    Some(waiting("CrashLoopBackOff", Some(crash_message(pod, container, seen))))
}

/// `NAME_NAMESPACE(UID)`, as messages show a pod.
pub fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// `back-off 10s restarting failed container=...`
fn crash_message(pod: &Pod, container: &Container, seen: &Seen) -> String {
    let seconds = super::plan::backoff(seen.crashes).as_secs();
    let delay = if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) };
    format!("back-off {delay} restarting failed container={} pod={}", container.name, full_name(pod))
}

fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[allow(clippy::too_many_arguments, reason = "the parts of one status, used here only")]
fn conditions(
    pod: &Pod,
    old: &PodStatus,
    have: &Observed,
    phase: &str,
    init: &[Container],
    init_statuses: &[ContainerStatus],
    statuses: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let old = old.conditions.as_deref().unwrap_or_default();
    let names = |list: Vec<&str>| format!("[{}]", list.join(" "));
    let ended = matches!(phase, "Succeeded" | "Failed");
    let initialized = is_initialized(init, init_statuses, statuses) || phase == "Succeeded";
    let init_why = (!initialized).then(|| {
        let open = init.iter().zip(init_statuses).filter(|(c, s)| match is_sidecar(c) {
            true => s.started != Some(true),
            false => !s.ready,
        });
        (
            "ContainersNotInitialized".to_owned(),
            format!("containers with incomplete status: {}", names(open.map(|(c, _)| &*c.name).collect())),
        )
    });
    let ready_init = init.iter().zip(init_statuses).filter(|(c, s)| is_sidecar(c) && !s.ready).map(|(c, _)| &*c.name);
    let unready: Vec<&str> = ready_init.chain(statuses.iter().filter(|s| !s.ready).map(|s| &*s.name)).collect();
    let containers_why = match phase {
        "Succeeded" => Some(("PodCompleted".to_owned(), String::new())),
        "Failed" => Some(("PodFailed".to_owned(), String::new())),
        _ if unready.is_empty() => None,
        _ => Some(("ContainersNotReady".to_owned(), format!("containers with unready status: {}", names(unready)))),
    };
    let gates = pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten());
    let gate = gates.map(|g| &*g.condition_type).find(|t| !old.iter().any(|c| c.type_ == *t && c.status == "True"));
    let ready_why = containers_why.clone().or_else(|| {
        gate.map(|t| {
            ("ReadinessGatesNotReady".to_owned(), format!("corresponding condition of pod readiness gate \"{t}\" does not exist."))
        })
    });
    let sandbox = matches!(have.sandbox, Sandbox::Ready { .. });
    let ready_to_start = if sandbox && !ended { None } else { Some((String::new(), String::new())) };
    let table = [
        ("PodReadyToStartContainers", ready_to_start),
        ("Initialized", init_why.or_else(|| (phase == "Succeeded").then(|| ("PodCompleted".to_owned(), String::new())))),
        ("Ready", ready_why),
        ("ContainersReady", containers_why),
        ("PodScheduled", None),
    ];
    let mut all: Vec<PodCondition> = Vec::new();
    for (type_, why) in table {
        let holds = why.is_none() || (type_ == "Initialized" && phase == "Succeeded");
        let text = |s: &String| (!s.is_empty()).then(|| s.clone());
        let before = old.iter().find(|c| c.type_ == type_);
        let value = if holds { "True" } else { "False" };
        let moved = before.filter(|b| b.status == value).and_then(|b| b.last_transition_time.clone());
        all.push(PodCondition {
            type_: type_.into(),
            status: value.into(),
            reason: why.as_ref().and_then(|(reason, _)| text(reason)),
            message: why.as_ref().and_then(|(_, message)| text(message)),
            last_transition_time: Some(moved.unwrap_or(Time(seconds(now)))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
    }
    all.extend(resize_conditions(old, have, now));
    let others =
        old.iter().filter(|c| !RESIZE.contains(&&*c.type_) && !all.iter().any(|mine| mine.type_ == c.type_)).cloned().collect::<Vec<_>>();
    all.extend(others);
    all
}

/// Conditions that are there only while they hold.
pub const RESIZE: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// What is to be said of a resize.
fn resize_conditions(old: &[PodCondition], have: &Observed, now: Timestamp) -> Vec<PodCondition> {
    let resize = &have.resize;
    let condition = |type_: &str, reason: Option<&str>, message: Option<&str>, generation: Option<i64>| {
        let moved = old.iter().find(|condition| condition.type_ == type_).and_then(|condition| condition.last_transition_time.clone());
        PodCondition {
            type_: type_.into(),
            status: "True".into(),
            reason: reason.map(str::to_owned),
            message: message.map(str::to_owned),
            last_transition_time: Some(moved.unwrap_or(Time(seconds(now)))),
            observed_generation: generation,
            ..PodCondition::default()
        }
    };
    let pending = resize.pending.as_ref().map(|p| condition(RESIZE[0], Some(p.reason), Some(&p.message), p.generation));
    let error = resize.error.as_ref().map(|(why, _)| why.as_str());
    let granted = resize.granted.map(|generation| condition(RESIZE[1], error.map(|_| "Error"), error, Some(generation)));
    pending.into_iter().chain(granted).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "status_tests.rs"]
mod tests;
