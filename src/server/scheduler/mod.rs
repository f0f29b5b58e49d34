//! The scheduler: gives each pending pod a node.
//!
//! Words: a *plug-in* filters nodes for a pod and scores what is left; a *cycle* does so for one pod. One run takes every pending
//! pod in turn, the most important first, and counts each decision before the next one: so many pods at once never over-commit a
//! node. Its one key stands for "whatever is pending".
//!
//! Follows upstream's `pkg/scheduler` (queue order, filter and score, messages). Never: preemption, and no volume topology.

mod cycle;
mod node_info;
mod plugins;

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Key, Rev, Scope};
use crate::server::reconcile::{Controller, EventType, Op, Outcome, Regarding, Trigger, View};
use crate::server::store::Event;
use cycle::Cluster;

/// The default scheduler.
pub struct Scheduler;

/// The name that pods ask for it by.
const NAME: &str = "default-scheduler";

/// Pods that one run finds a place for; their binding wakes the next. What is decided on one snapshot must not grow old while it is written,
/// and nobody else on the thread should wait for long.
const MOST_PLACED: usize = 64;

/// The one key.
fn pending() -> Key {
    Key::of::<Pod>("", "")
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        NAME
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![
            Trigger { scope: Scope::of::<Pod>, map: pod_changed },
            Trigger { scope: Scope::of::<Node>, map: |_| vec![pending()] },
            Trigger { scope: Scope::of::<k8s_openapi::api::core::v1::Namespace>, map: |_| vec![pending()] },
        ]
    }

    fn workers(&self) -> usize {
        1
    }

    fn user(&self) -> String {
        "system:kube-scheduler".into()
    }

    fn reconcile(&self, _: &Key, view: &View) -> Outcome {
        schedule(view).into()
    }
}

/// A pending pod that is new or wants something else now; and a pod with a node that came there, frees what it held, or has other labels
/// (others are attracted by it, or kept off). What changes in a status concerns nobody else.
fn pod_changed(event: &Event) -> Vec<Key> {
    let Ok(pod) = event.entry.typed::<Pod>() else { return Vec::new() };
    let prev = event.prev.as_ref().and_then(|prev| prev.typed::<Pod>().ok());
    let relevant = match prev {
        _ if event.deleted => has_node(&pod),
        None => is_pending(&pod),
        Some(prev) => {
            let relabelled = prev.metadata.labels != pod.metadata.labels;
            let asks = is_pending(&pod) && (relabelled || !is_pending(&prev) || prev.spec != pod.spec);
            asks || has_node(&pod) && (relabelled || !has_node(&prev) || is_over(&pod) && !is_over(&prev))
        }
    };
    if relevant { vec![pending()] } else { Vec::new() }
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn is_pending(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    !has_node(pod)
        && matches!(spec.scheduler_name.as_deref(), None | Some("" | NAME))
        && pod.metadata.deletion_timestamp.is_none()
        && !is_over(pod)
}

fn schedule(view: &View) -> Vec<Op> {
    let mut waiting: Vec<Arc<Pod>> = view.list::<Pod>(None).filter(|pod| is_pending(pod)).collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    // A pod whose last binding was refused goes last, so that it holds up nobody.
    let refused = |pod: &Pod| view.failure().is_some_and(|failure| failure.what == key_of(pod).as_str());
    waiting.sort_by_cached_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        (refused(pod), Reverse(priority), pod.metadata.creation_timestamp.clone(), key_of(pod))
    });
    let mut cluster = Cluster::new(view);
    let mut ops = Vec::new();
    let mut placed = 0;
    for pod in waiting {
        if placed == MOST_PLACED {
            break;
        }
        if pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())) {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            ops.extend(unscheduled(&pod, "SchedulingGated", message, view));
            continue;
        }
        match cluster.place(&pod) {
            Ok(node) => {
                placed += 1;
                ops.extend(bind(&pod, node));
            }
            Err(why) => {
                let change = unscheduled(&pod, "Unschedulable", &why, view);
                if change.is_some() {
                    ops.push(event(&pod, EventType::Warning, "FailedScheduling", why));
                }
                ops.extend(change);
            }
        }
    }
    ops
}

fn key_of(pod: &Pod) -> Key {
    Key::of::<Pod>(pod.metadata.namespace.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""))
}

fn event(pod: &Pod, kind: EventType, reason: &'static str, message: String) -> Op {
    Op::Event { regarding: Regarding::of(pod), kind, reason, message }
}

fn bind(pod: &Pod, node: String) -> [Op; 2] {
    let key = key_of(pod);
    let message = format!("Successfully assigned {}/{} to {node}", key.namespace(), key.name());
    // An object that was read from the store has a revision.
    let rev = pod.metadata.resource_version.as_deref().and_then(Rev::parse).unwrap_or_default();
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    [Op::Bind { key, uid, rev, node }, event(pod, EventType::Normal, "Scheduled", message)]
}

/// The condition that says why a pod waits, unless it is there already.
fn unscheduled(pod: &Pod, reason: &str, message: &str, view: &View) -> Option<Op> {
    let mut pod = pod.clone();
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut wanted = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: jiff::Timestamp::from_second(view.now().as_second()).ok().map(Time),
        observed_generation: None,
        last_probe_time: None,
    };
    if let Some(present) = conditions.iter().find(|condition| condition.type_ == "PodScheduled") {
        if (&present.status, &present.reason, &present.message) == (&wanted.status, &wanted.reason, &wanted.message) {
            return None;
        }
        if present.status == wanted.status {
            wanted.last_transition_time = present.last_transition_time.clone();
        }
        wanted.observed_generation = present.observed_generation;
    }
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(wanted);
    Some(Op::UpdateStatus(Box::new(pod)))
}

#[cfg(test)]
mod tests;
