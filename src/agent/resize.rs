//! In-place resizes: what a pod is allotted on this node, whether it may have what it wants, and what its groups are to be told. Pure.
//!
//! Words: a pod *wants* what its spec says; it is *allotted* what this node granted of that, which is what all of the agent goes by; its
//! groups were *given* some of that, at first when they were made. A resize is pending while wanted and allotted differ, and in progress
//! while allotted and given do. Those that *wait* for room are served in turn ([`serve`]).
//!
//! Follows KEP-1287, pkg/kubelet/allocation and `doPodResizeAction` (pkg/kubelet/kuberuntime/kuberuntime_manager.go).
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::{containers, is_terminal};
use super::qos::Capacity;
use super::resources::{self, qos_class};
use crate::api::amounts::Amounts;
use crate::api::pod::{Column, whole};

/// The resources that a resize may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// What a pod and its containers may have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allotted {
    /// The pod as a whole, if it says so itself.
    pub pod: Option<ResourceRequirements>,
    /// Its containers, init containers included, that say so.
    pub containers: BTreeMap<String, ResourceRequirements>,
}

/// What the groups of a pod were given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// What the pod's own group was made for.
    pub group: Option<Allotted>,
    /// What each container was made with, or changed to.
    pub containers: BTreeMap<String, ResourceRequirements>,
}

/// A resize that is not granted.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// Never on this node, or when there is room.
    pub reason: &'static str,
    /// What there is too little of.
    pub message: String,
    /// The pod's generation that asked for it.
    pub generation: Option<i64>,
}

/// The reason of what this node can never give.
pub const INFEASIBLE: &str = "Infeasible";
/// The reason of what this node can't give now.
pub const DEFERRED: &str = "Deferred";

/// How far a resize got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resize {
    /// It is asked for and not granted.
    pub pending: Option<Pending>,
    /// The pod's generation whose resources were granted, until all that runs has them.
    pub granted: Option<i64>,
    /// Groups are being changed.
    pub doing: bool,
    /// Why they could not be, and when it is tried again.
    pub error: Option<(String, Timestamp)>,
}

/// What is said to what a pod wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It has that.
    Same,
    /// It gets that.
    Grant,
    /// It does not.
    Refuse(Pending),
}

impl Allotted {
    /// What a pod says.
    pub fn of(pod: &Pod) -> Allotted {
        let named = |container: &Container| Some((container.name.clone(), container.resources.clone()?));
        Allotted { pod: pod.spec.as_ref().and_then(|spec| spec.resources.clone()), containers: containers(pod).filter_map(named).collect() }
    }

    /// A pod with this in place of what it says.
    pub fn on(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        if let Some(PodSpec { containers, init_containers, resources, .. }) = &mut pod.spec {
            resources.clone_from(&self.pod);
            for container in containers.iter_mut().chain(init_containers.iter_mut().flatten()) {
                container.resources = self.containers.get(&container.name).cloned();
            }
        }
        pod
    }

    /// Whether both say the same of what a resize may change.
    pub fn is_same(&self, other: &Allotted) -> bool {
        let mut names = self.containers.keys().chain(other.containers.keys());
        same(self.pod.as_ref(), other.pod.as_ref()) && names.all(|name| same(self.containers.get(name), other.containers.get(name)))
    }
}

fn resizable(resources: Option<&ResourceRequirements>) -> (Amounts, Amounts) {
    let of = |list| Amounts::of(list).only(|name| RESIZABLE.contains(&name));
    (of(resources.and_then(|r| r.requests.as_ref())), of(resources.and_then(|r| r.limits.as_ref())))
}

fn same(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    one == other || resizable(one) == resizable(other)
}

/// Whether a container that runs has something else than what it is allotted.
pub fn is_due(container: &Container, given: &Given) -> bool {
    given.containers.get(&container.name).is_some_and(|given| !same(Some(given), container.resources.as_ref()))
}

/// Whether the pod's own group has.
pub fn is_group_due(pod: &Pod, given: &Given) -> bool {
    given.group.as_ref().is_some_and(|group| !group.is_same(&Allotted::of(pod)))
}

/// Whether its policy asks for a restart when what it was given changes to what it is allotted.
pub fn needs_restart(container: &Container, given: &Given) -> bool {
    let (old, new) = (resizable(given.containers.get(&container.name)), resizable(container.resources.as_ref()));
    let changed = |name: &str| old.0.get(name) != new.0.get(name) || old.1.get(name) != new.1.get(name);
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| policy.restart_policy == "RestartContainer" && changed(&policy.resource_name))
}

/// Whether a pod may have what it wants in place of what it is allotted, beside the other pods of the node.
pub fn judge(wanted: &Pod, allotted: &Pod, others: &[Arc<Pod>], node: &Capacity) -> Verdict {
    if Allotted::of(wanted).is_same(&Allotted::of(allotted)) {
        return Verdict::Same;
    }
    let requests = |pod: &Pod| pod.spec.as_ref().map(|spec| whole(spec, Column::Requests)).unwrap_or_default();
    let amount = |amounts: &Amounts, name: &str| {
        let amount = amounts.get(name).unwrap_or_default();
        if name == "cpu" { amount.milli() } else { amount.value() }
    };
    let (want, have) = (requests(wanted), requests(allotted));
    let mut used = Amounts::default();
    others.iter().filter(|pod| !is_terminal(pod)).for_each(|pod| used.add(&requests(pod)));
    let refuse = |reason, message| Verdict::Refuse(Pending { reason, message, generation: wanted.metadata.generation });
    let rows = [("memory", node.memory), ("cpu", node.cpu)];
    for (name, capacity) in rows {
        let requested = amount(&want, name);
        if requested > capacity {
            return refuse(INFEASIBLE, format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"));
        }
    }
    for (name, capacity) in rows.into_iter().rev() {
        let (requested, used) = (amount(&want, name), amount(&used, name));
        if requested > amount(&have, name) && requested.saturating_add(used) > capacity {
            let message = format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
            return refuse(DEFERRED, message);
        }
    }
    Verdict::Grant
}

/// A resize that is not decided yet, or waits for room.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The pod as it is wanted.
    pub wanted: Arc<Pod>,
    /// When it was first asked for room.
    pub since: Timestamp,
}

/// Who is served before whom, the least first: resizes that take nothing more, then pods of higher priority, then those of the class
/// Guaranteed, then those that wait longer (`sortPendingResizes` of pkg/kubelet/allocation).
fn rank(waiting: &Waiting, allotted: &Pod) -> (bool, Reverse<i32>, bool, Timestamp) {
    let requests = |pod: &Pod| pod.spec.as_ref().map(|spec| whole(spec, Column::Requests)).unwrap_or_default();
    let (want, have) = (requests(&waiting.wanted), requests(allotted));
    let takes_more = RESIZABLE.iter().any(|name| want.get(name) > have.get(name));
    let priority = waiting.wanted.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    (takes_more, Reverse(priority), qos_class(&waiting.wanted) != "Guaranteed", waiting.since)
}

/// What is said to the pod `uid` of those that wait, all with their uids, when they are served in turn: there must be room for it now, and
/// still when those that come before it have what they want. `allotted`: all pods of the node, as far as they were granted.
pub fn serve(uid: &str, waiting: &BTreeMap<String, Waiting>, mut allotted: BTreeMap<String, Arc<Pod>>, node: &Capacity) -> Verdict {
    let judge = |turn: &str, wanted: &Pod, allotted: &BTreeMap<String, Arc<Pod>>| {
        let others: Vec<Arc<Pod>> = allotted.iter().filter(|(uid, _)| *uid != turn).map(|(_, pod)| pod.clone()).collect();
        allotted.get(turn).map_or(Verdict::Same, |have| judge(wanted, have, &others, node))
    };
    let Some(own) = waiting.get(uid) else { return Verdict::Same };
    let now = judge(uid, &own.wanted, &allotted);
    if now != Verdict::Grant {
        return now;
    }
    let mut turns: Vec<_> = waiting.iter().filter_map(|(uid, one)| Some((rank(one, allotted.get(uid)?), uid, one))).collect();
    turns.sort_by(|(one, a, _), (other, b, _)| one.cmp(other).then_with(|| a.cmp(b)));
    for (_, turn, Waiting { wanted, .. }) in turns.into_iter().take_while(|(_, turn, _)| *turn != uid) {
        if judge(turn, wanted, &allotted) == Verdict::Grant {
            allotted.insert(turn.clone(), wanted.clone());
        }
    }
    judge(uid, &own.wanted, &allotted)
}

/// One change of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The group.
    pub group: String,
    /// Its new limits, in the form of the OCI runtime specification.
    pub limits: Value,
    /// The memory limit falls to so many bytes: who it is that must use less than that by now.
    pub falls: Option<(String, i64)>,
}

/// What a group may have of a resource, for comparison; without a limit more than anything.
fn bound(limits: &Value, resource: &str) -> i64 {
    let limit = if resource == "cpu" { &limits["cpu"]["quota"] } else { &limits["memory"]["limit"] };
    limit.as_i64().unwrap_or(i64::MAX)
}

/// The changes that give the pod's own group, and the containers that run (name and ID), what they are allotted, in an order that never has a
/// container be allowed more than its pod: memory before CPU; the pod's group first where it gains and last where it loses, and containers
/// that lose before those that gain.
pub fn moves(pod: &Pod, given: &Given, running: &[(String, String)]) -> Vec<Move> {
    let group = resources::cgroup(pod);
    let was = given.group.as_ref().map_or_else(|| pod.clone(), |group| group.on(pod));
    let (old, new) = (resources::pod_limits(&was, None, &[]), resources::pod_limits(pod, None, &[]));
    let mut all = Vec::new();
    for resource in ["memory", "cpu"] {
        let fallen = |old: &Value, new: &Value, who: String| {
            let limit = bound(new, resource);
            (resource == "memory" && limit < bound(old, resource)).then_some((who, limit))
        };
        let of_pod = Move { group: group.clone(), limits: json!({resource: new[resource]}), falls: fallen(&old, &new, "pod".into()) };
        let (gains, loses) = (bound(&new, resource) > bound(&old, resource), bound(&new, resource) < bound(&old, resource));
        let weighs = resource == "cpu" && old["cpu"]["shares"] != new["cpu"]["shares"];
        let mut changes: Vec<(bool, Move)> = Vec::new();
        for container in containers(pod) {
            let Some((_, id)) = running.iter().find(|(name, _)| *name == container.name) else { continue };
            let before = Container { resources: given.containers.get(&container.name).cloned(), ..container.clone() };
            let old = resources::container_limits(&was, &before, &[]);
            let new = resources::container_limits(pod, container, &[]);
            if old[resource] != new[resource] {
                let falls = fallen(&old, &new, format!("container {:?}", container.name));
                let limits = json!({resource: new[resource]});
                changes.push((bound(&new, resource) > bound(&old, resource), Move { group: format!("{group}/{id}"), limits, falls }));
            }
        }
        changes.sort_by_key(|(gains, _)| *gains);
        all.extend(gains.then(|| of_pod.clone()));
        all.extend(changes.into_iter().map(|(_, change)| change));
        all.extend((loses || (weighs && !gains)).then_some(of_pod));
    }
    all
}

/// What events say of a pod's resources: `Pod resize started: {...}`.
pub fn told(what: &str, pod: &Pod, generation: Option<i64>, error: Option<&str>) -> String {
    let all = pod.spec.iter().flat_map(|spec| &spec.containers).map(|c| json!({"name": c.name, "resources": c.resources}));
    let mut details = json!({"containers": all.collect::<Vec<_>>(), "generation": generation});
    if let Some(error) = error {
        details["error"] = error.into();
    }
    format!("Pod resize {what}: {details}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "resize_tests.rs"]
mod tests;
