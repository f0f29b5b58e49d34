//! Nodes: which are alive, how they are tainted, and which pods must leave them.
//!
//! Follows upstream's `pkg/controller/nodelifecycle` and `tainteviction`: a node whose Lease and Ready condition are silent for
//! [`GRACE`] is Unknown; conditions become taints; NoExecute taints evict pods once their tolerations run out.
//!
//! Never: a judgement of a silence from before this server started, for then nobody could have been heard.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};

use super::{conditions, pods};
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View, tolerates};
use crate::server::store::Event;

/// How long a node may be silent, in seconds.
const GRACE: i64 = 40;
/// Where kubelets renew their leases.
const LEASES: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions that become NoSchedule taints while they are True.
const PRESSURE: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The node lifecycle controller.
pub struct Nodes {
    /// When this server started.
    pub started: Timestamp,
}

impl Controller for Nodes {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        let lease = |event: &Event| {
            let ours = event.entry.key.namespace() == LEASES;
            if ours { vec![Key::of::<Node>("", event.entry.key.name())] } else { Vec::new() }
        };
        vec![
            Trigger::of::<Node>(),
            Trigger { scope: || Scope::of_namespace::<Lease>(LEASES), map: lease },
            Trigger { scope: Scope::of::<Pod>, map: placed },
        ]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(node) = view.at::<Node>(key) else { return Outcome::default() };
        if node.metadata.deletion_timestamp.is_some() {
            return Outcome::default();
        }
        let mut outcome = Outcome::default();
        if let Some(wait) = pods::remaining(self.last_heard(&node, view), GRACE, view.now()) {
            outcome.again_in(wait);
        } else if let Some(ops) = lost(&node, view) {
            // The taints follow from the conditions, in the run that this write wakes.
            return ops.into();
        }
        if let Some(op) = taint(&node, view) {
            outcome.ops.push(op);
            return outcome;
        }
        evict(&node, view, &mut outcome);
        outcome
    }
}

/// A pod that came to a node.
fn placed(event: &Event) -> Vec<Key> {
    let node = |pod: Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty());
    let before = event.prev.as_ref().and_then(|prev| prev.typed::<Pod>().ok()).and_then(node);
    match event.entry.typed::<Pod>().ok().and_then(node) {
        Some(name) if !event.deleted && before.is_none() => vec![Key::of::<Node>("", &name)],
        _ => Vec::new(),
    }
}

impl Nodes {
    fn last_heard(&self, node: &Node, view: &View) -> Timestamp {
        let name = node.metadata.name.as_deref().unwrap_or("");
        let lease = view.get::<Lease>(LEASES, name).and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
        let ready = ready(node).and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
        let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
        // A clock that runs ahead must not keep a dead node alive.
        let heard = [lease, ready, created].into_iter().flatten().map(|time| time.min(view.now()));
        heard.chain([self.started]).max().unwrap_or(self.started)
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    conditions::find(&node.status.as_ref()?.conditions, "Ready")
}

/// Makes the conditions of a silent node Unknown, and its pods not ready. `None`: they are already.
fn lost(node: &Node, view: &View) -> Option<Vec<Op>> {
    if ready(node).is_some_and(|ready| ready.status == "Unknown") {
        let ops = unready_pods(node, view);
        return (!ops.is_empty()).then_some(ops);
    }
    let mut updated = node.clone();
    let status = updated.status.get_or_insert_default();
    for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"] {
        let (reason, message) = match conditions::find(&status.conditions, kind) {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        conditions::put(&mut status.conditions, kind, "Unknown", reason, message, view.now());
    }
    let name = node.metadata.name.as_deref().unwrap_or("");
    let told = Op::normal(node, "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
    Some(vec![Op::UpdateStatus(Box::new(updated)), told])
}

/// Nobody can say that pods on a silent node still answer: Services stop leading to them.
fn unready_pods(node: &Node, view: &View) -> Vec<Op> {
    let mark = |pod: Arc<Pod>| {
        let mut pod = (*pod).clone();
        let status = pod.status.as_mut()?;
        conditions::put(&mut status.conditions, "Ready", "False", "NodeNotReady", "The node of this pod is not reachable.", view.now());
        Some(Op::UpdateStatus(Box::new(pod)))
    };
    on_node(node, view).filter(|pod| pods::is_ready(pod)).filter_map(mark).collect()
}

fn on_node<'a>(node: &'a Node, view: &'a View) -> impl Iterator<Item = Arc<Pod>> + 'a {
    let here = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == node.metadata.name.as_ref();
    view.list::<Pod>(None).filter(move |pod| here(pod))
}

/// The taints that the conditions ask for. Other taints stay.
fn taint(node: &Node, view: &View) -> Option<Op> {
    let state = |kind: &str| {
        let status = node.status.as_ref()?;
        conditions::find(&status.conditions, kind).map(|condition| condition.status.clone())
    };
    let health = match state("Ready").as_deref() {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    wanted.extend(health.into_iter().flat_map(|key| [(key, "NoSchedule"), (key, "NoExecute")]));
    wanted.extend(PRESSURE.iter().filter(|(kind, _)| state(kind).as_deref() == Some("True")).map(|(_, key)| (*key, "NoSchedule")));
    const CORDON: &str = "node.kubernetes.io/unschedulable";
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((CORDON, "NoSchedule"));
    }
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let ours =
        |taint: &Taint| [NOT_READY, UNREACHABLE, CORDON].contains(&taint.key.as_str()) || PRESSURE.iter().any(|(_, key)| *key == taint.key);
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = present.iter().filter(|taint| !ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = (effect == "NoExecute").then(|| pods::stamp(view.now()));
            taints.push(Taint { key: key.into(), effect: effect.into(), time_added, value: None });
        }
    }
    if taints == present {
        return None;
    }
    let mut node = node.clone();
    node.spec.get_or_insert_default().taints = Some(taints).filter(|taints| !taints.is_empty());
    Some(Op::Update(Box::new(node)))
}

/// Deletes the pods that do not, or no longer, tolerate the node's NoExecute taints.
fn evict(node: &Node, view: &View, outcome: &mut Outcome) {
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
                outcome.ops.push(Op::delete(&*pod));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check};

    const NODE: &str = "kind: Node
metadata: {name: n1, creationTimestamp: '2025-12-31T00:00:00Z'}
spec: {taints: [{key: mine, effect: NoSchedule}]}
status: {conditions: [{type: Ready, status: 'True', lastHeartbeatTime: '2025-12-31T23:50:00Z'}]}
---
kind: Lease
metadata: {name: n1, namespace: kube-node-lease}
spec: {renewTime: '2025-12-31T23:59:30.000000Z'}
---
kind: Pod
metadata: {name: a, namespace: default}
spec: {nodeName: n1, containers: [], tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 300}]}
status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
kind: Pod
metadata: {name: b, namespace: default}
spec: {nodeName: n1, containers: [], tolerations: [{operator: Exists}]}
";

    fn nodes() -> Nodes {
        Nodes { started: "2025-12-31T00:00:00Z".parse().expect("a time") }
    }

    #[test]
    fn silence_taints_and_evicts() {
        let key = Key::of::<Node>("", "n1");
        let outcome = check(&nodes(), NODE, &key, &[]);
        assert_eq!(outcome.again, Some(Duration::from_secs(10)));
        let mut world = World::of(NODE);
        world.wait(Duration::from_secs(11));
        world.settle(&nodes(), &key);
        let node: Node = world.one("n1");
        let taints: Vec<_> =
            node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(|t| format!("{}:{}", t.key, t.effect)).collect();
        assert_eq!(taints, ["mine:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
        assert!(!pods::is_ready(&world.one::<Pod>("a")));
        let outcome = world.step(&nodes(), &key);
        assert_eq!(outcome.again, Some(Duration::from_secs(300)));
        world.wait(Duration::from_secs(301));
        world.settle(&nodes(), &key);
        assert_eq!(world.all::<Pod>().iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>(), ["b"]);
        world.edit::<Node>("", "n1", |node| {
            let conditions = &mut node.status.get_or_insert_default().conditions;
            conditions::put(conditions, "Ready", "True", "KubeletReady", "", "2026-01-01T01:00:00Z".parse().expect("a time"));
        });
        let now = world.now;
        world.edit::<Lease>("kube-node-lease", "n1", |lease| {
            lease.spec.get_or_insert_default().renew_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now));
        });
        world.settle(&nodes(), &key);
        assert_eq!(world.one::<Node>("n1").spec.and_then(|spec| spec.taints).map(|taints| taints.len()), Some(1));
    }

    #[test]
    fn a_fresh_server_waits_before_it_judges() {
        let young = Nodes { started: "2025-12-31T23:59:59Z".parse().expect("a time") };
        let silent = NODE.replace("23:59:30", "20:00:00");
        let outcome = check(&young, &silent, &Key::of::<Node>("", "n1"), &[]);
        assert_eq!(outcome.again, Some(Duration::from_secs(39)));
    }

    #[test]
    fn intolerant_pods_leave_at_once() {
        let yaml = NODE.replace("{key: mine, effect: NoSchedule}", "{key: mine, effect: NoExecute}");
        let want = ["event TaintManagerEviction: Marking for deletion Pod default/a", "delete /pods/default/a"];
        check(&nodes(), &yaml, &Key::of::<Node>("", "n1"), &want);
    }
}
