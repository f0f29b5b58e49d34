//! What several controllers ask about pods: are they active, ready, available; which template and which name do new ones get.
//!
//! Follows upstream's `pkg/controller/controller_utils.go` and `pkg/api/v1/pod/util.go`. Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::hash::{fnv1a, safe_encode};
use crate::api::{Key, Kind};
use crate::server::reconcile::View;

/// `status.phase`, empty when not set.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// Whether the pod has ended, one way or the other.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod is being deleted.
pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod counts for a controller: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(pod)
}

/// One condition.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether the Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Notes why somebody else than the pod ends it (upstream's condition `DisruptionTarget`).
pub fn disrupt(status: &mut PodStatus, reason: &str, message: &str, now: Timestamp) {
    super::conditions::put(&mut status.conditions, "DisruptionTarget", "True", reason, message, now);
}

/// Since when it is ready.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it was ready for `min_ready` seconds; if not yet, how long until then.
pub fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> Result<(), Option<Duration>> {
    if !is_ready(pod) {
        return Err(None);
    }
    if min_ready <= 0 {
        return Ok(());
    }
    let Some(since) = ready_since(pod) else { return Err(None) };
    match remaining(since, i64::from(min_ready), now) {
        None => Ok(()),
        wait => Err(wait),
    }
}

/// How long until `seconds` after `since`; `None` when that is past.
pub fn remaining(since: Timestamp, seconds: i64, now: Timestamp) -> Option<Duration> {
    let left = i128::from(seconds) * 1_000_000_000 - (now.as_nanosecond() - since.as_nanosecond());
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_nanos)
}

/// Now, in the precision that the API writes.
pub fn stamp(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Restarts of the container that restarted most.
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

/// Sorts pods so that those to delete first come first, as upstream's `ActivePodsWithRanks`: unassigned before assigned, Pending
/// before Unknown before Running, not ready before ready, lower deletion cost, more pods of the set on the same node, ready for a
/// shorter time, more restarts, younger.
pub fn by_deletion_rank(a: &Pod, b: &Pod, on_node: impl Fn(&Pod) -> usize) -> Ordering {
    let assigned = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let stage = |pod: &Pod| match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = |pod: &Pod| -> i32 {
        let annotations = pod.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost")).and_then(|cost| cost.parse().ok()).unwrap_or(0)
    };
    let key = |pod: &Pod| (assigned(pod), stage(pod), is_ready(pod), cost(pod), Reverse(on_node(pod)));
    // A longer time counts as higher on a logarithmic scale upstream, to vary the choice; the exact order is as valid and stable.
    let since = |pod: &Pod| Reverse(ready_since(pod));
    let born = |pod: &Pod| Reverse(pod.metadata.creation_timestamp.clone());
    (key(a).cmp(&key(b)))
        .then_with(|| since(a).cmp(&since(b)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| born(a).cmp(&born(b)))
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

/// Names for new objects of one owner, in its namespace: `BASE-xxxxx`, derived from the owner's uid and the revision of the decision, so
/// that a decision is reproducible and a later one picks other names. The alphabet is upstream's (no vowels, no confusable digits).
pub struct Names<'a> {
    view: &'a View,
    owner: &'a ObjectMeta,
    key: fn(&str, &str) -> Key,
    count: u64,
    given: BTreeSet<String>,
}

impl<'a> Names<'a> {
    /// Names that no `T` has.
    pub fn of<T: Kind>(owner: &'a ObjectMeta, view: &'a View) -> Names<'a> {
        Names { view, owner, key: Key::of::<T>, count: 0, given: BTreeSet::new() }
    }

    /// The next one that starts with `base`, which usually ends in `-`.
    pub fn next(&mut self, base: &str) -> String {
        // Upstream cuts the base so that the whole fits a label value.
        let base: String = base.chars().take(58).collect();
        let [namespace, uid] = [&self.owner.namespace, &self.owner.uid].map(|text| text.as_deref().unwrap_or(""));
        loop {
            self.count += 1;
            let hash = fnv1a(format!("{uid}/{}/{}", self.view.rev(), self.count).as_bytes());
            let name = format!("{base}{}", safe_encode(hash, 5));
            if self.view.entry(&(self.key)(namespace, &name)).is_none() && self.given.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// A pod made from a template, as upstream's `GetPodFromTemplate`.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, name: String, base: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(base.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
