//! Which pods must leave a node, and when: those that do not, or no longer, tolerate its NoExecute taints.
//!
//! Follows upstream's `pkg/controller/tainteviction/taint_eviction.go`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use super::super::pods;
use super::on_node;
use crate::server::reconcile::{Op, Outcome, View, tolerates};

/// Deletes the pods whose time is over. The condition tells owners that it was not the pod's fault.
pub(super) fn evict(node: &Node, view: &View, outcome: &mut Outcome) {
    let taints: Vec<&Taint> =
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).filter(|taint| taint.effect == "NoExecute").collect();
    if taints.is_empty() {
        return;
    }
    for pod in on_node(node, view).filter(|pod| !pods::is_deleting(pod) && !pods::is_terminal(pod)) {
        match stay(&pod, &taints, view.now()) {
            Stay::Forever => {}
            Stay::For(wait) => outcome.again_in(wait),
            Stay::No => {
                let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""));
                outcome.ops.push(Op::normal(&*pod, "TaintManagerEviction", format!("Marking for deletion Pod {namespace}/{name}")));
                let mut noted = (*pod).clone();
                let status = noted.status.get_or_insert_default();
                pods::disrupt(status, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", view.now());
                outcome.ops.extend([Op::UpdateStatus(Box::new(noted)), Op::delete(&*pod)]);
            }
        }
    }
}

/// How long a pod may stay.
#[derive(Debug, PartialEq, Eq)]
enum Stay {
    Forever,
    For(Duration),
    No,
}

fn stay(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Stay {
    let tolerations: Vec<_> = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).collect();
    let mut shortest: Option<Duration> = None;
    for taint in taints {
        let matching: Vec<_> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Stay::No;
        }
        let Some(seconds) = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min() else { continue };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        match pods::remaining(since, seconds.max(0), now) {
            None => return Stay::No,
            Some(left) => shortest = Some(shortest.map_or(left, |present| present.min(left))),
        }
    }
    shortest.map_or(Stay::Forever, Stay::For)
}
