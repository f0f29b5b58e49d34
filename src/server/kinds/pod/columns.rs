//! A pod's row: READY, STATUS and RESTARTS condense the states of its containers, as upstream's `printPod`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};

use crate::server::kinds::support::{duration, print, rules};
use crate::server::registry::strategy::Column;

pub(super) const POD: &[Column<Pod>] = Columns::LIST;

struct Columns;

impl Columns {
    const LIST: &'static [Column<Pod>] = &[
        column("Ready", 0, "Ready containers of all.", |pod, _| print::text(summary(pod).ready())),
        column("Status", 0, "What it is doing.", |pod, _| print::text(summary(pod).reason)),
        column("Restarts", 0, "How often containers were restarted, and when last.", |pod, now| print::text(summary(pod).restarts(now))),
        column("Age", 0, "Time since creation.", print::age),
        column("IP", 1, "Its address.", |pod, _| {
            let status = rules::part(&pod.status);
            let first = status.pod_ips.iter().flatten().next().map(|ip| ip.ip.as_str()).filter(|ip| !ip.is_empty());
            print::or_none(first.or(status.pod_ip.as_deref()))
        }),
        column("Node", 1, "Where it runs.", |pod, _| print::or_none(rules::part(&pod.spec).node_name.as_deref())),
        column("Nominated Node", 1, "Where room is being made for it.", |pod, _| {
            print::or_none(rules::part(&pod.status).nominated_node_name.as_deref())
        }),
        column("Readiness Gates", 1, "Gates that are open, of all.", |pod, _| print::text(gates(pod))),
    ];
}

const fn column(
    name: &'static str,
    priority: i32,
    description: &'static str,
    cell: fn(&Pod, Timestamp) -> crate::server::registry::strategy::Cell,
) -> Column<Pod> {
    Column { name, kind: "string", format: "", priority, description, cell }
}

fn gates(pod: &Pod) -> String {
    let (spec, status) = (rules::part(&pod.spec), rules::part(&pod.status));
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return print::NONE.into();
    }
    let open = gates.iter().filter(|gate| condition_is_true(&status, &gate.condition_type)).count();
    format!("{open}/{}", gates.len())
}

fn condition_is_true(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn ready(&self) -> String {
        format!("{}/{}", self.ready, self.total)
    }

    fn restarts(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(then) if self.restarts != 0 => format!("{} ({} ago)", self.restarts, duration::since(Some(then), now)),
            _ => self.restarts.to_string(),
        }
    }

    fn count(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let finished = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()).and_then(|end| end.finished_at.as_ref());
        self.last_restart = self.last_restart.max(finished.map(|time| time.0));
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Why a state is not plain running: the reason given, or the exit code or signal.
fn state_reason(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone()).filter(|reason| !reason.is_empty());
    waiting.or_else(|| {
        let end = state.terminated.as_ref()?;
        let reason = end.reason.clone().filter(|reason| !reason.is_empty());
        Some(reason.unwrap_or_else(|| match end.signal {
            Some(signal) if signal != 0 => format!("Signal:{signal}"),
            _ => format!("ExitCode:{}", end.exit_code),
        }))
    })
}

fn summary(pod: &Pod) -> Summary {
    let (spec, status) = (rules::part(&pod.spec), rules::part(&pod.status));
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let total = spec.containers.len() + inits.iter().filter(|container| is_sidecar(container)).count();
    let mut all = Summary { reason: rules::str_of(&status.phase).into(), total, ..Default::default() };
    if let Some(reason) = status.reason.as_ref().filter(|reason| !reason.is_empty()) {
        all.reason.clone_from(reason);
    }
    if status.conditions.iter().flatten().any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated")) {
        all.reason = "SchedulingGated".into();
    }
    let (sidecars, initializing) = init_summary(&mut all, inits, &status);
    if !initializing || condition_is_true(&status, "Initialized") {
        (all.restarts, all.last_restart) = (sidecars.restarts, sidecars.last_restart);
        main_summary(&mut all, &status);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            all.reason = "Unknown".into();
        } else if !matches!(rules::str_of(&status.phase), "Succeeded" | "Failed") {
            all.reason = "Terminating".into();
        }
    }
    all
}

/// Walks the init containers up to the first that is not done. Returns the sidecars' restarts, and whether one is not done.
fn init_summary(all: &mut Summary, inits: &[Container], status: &PodStatus) -> (Summary, bool) {
    let mut sidecars = Summary::default();
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        let sidecar = inits.iter().any(|init| init.name == container.name && is_sidecar(init));
        all.count(container);
        if sidecar {
            sidecars.count(container);
        }
        let state = rules::part(&container.state);
        let done = state.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
        if sidecar && !done && container.started == Some(true) {
            all.ready += usize::from(container.ready);
            continue;
        }
        if done {
            continue;
        }
        all.reason = match state_reason(&state) {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{}", inits.len()),
        };
        return (sidecars, true);
    }
    (sidecars, false)
}

fn main_summary(all: &mut Summary, status: &PodStatus) {
    let mut running = false;
    // From last to first, so that the first container's reason wins.
    for container in status.container_statuses.iter().flatten().rev() {
        all.count(container);
        let state = rules::part(&container.state);
        if let Some(reason) = state_reason(&state) {
            all.reason = reason;
        } else if container.ready && state.running.is_some() {
            running = true;
            all.ready += 1;
        }
    }
    if all.reason == "Completed" && running {
        all.reason = if condition_is_true(status, "Ready") { "Running".into() } else { "NotReady".into() };
    }
}
