//! Nodes: which are alive, how they are tainted, and which pods must leave them.
//!
//! Follows upstream's `pkg/controller/nodelifecycle` and `tainteviction`: a node that nothing was heard of for the grace period is Unknown;
//! conditions become taints ([`taints`]); NoExecute taints evict pods once their tolerations run out ([`evict`]).
//!
//! A node is heard when its Lease is written: the time is this server's, when it took the write in, so that a node whose clock is wrong is
//! judged like any other. What a node says of the time counts only where it keeps no Lease.
//!
//! Never: a judgement of a silence from before this server started, for then nobody could have been heard.

mod evict;
mod taints;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};

use super::{conditions, pods};
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;
pub use taints::Eviction;
use taints::Turn;

/// Where kubelets renew their leases.
const LEASES: &str = "kube-node-lease";
/// How often a node that is not ready is looked at, for what other nodes' health makes of it (upstream's `--node-monitor-period`).
const LOOK: Duration = Duration::from_secs(5);
/// How long the Lease of a node that is gone is kept: it tells when the node was heard last.
const LEASE_KEPT: i64 = 120;

/// The node lifecycle controller.
pub struct Nodes {
    /// When this server started.
    pub started: Timestamp,
    /// How long a node may be silent.
    pub grace: SignedDuration,
    /// How fast pods are driven away.
    pub eviction: Eviction,
}

/// When this server heard of the node called `name` through its Lease.
pub(super) fn heard(name: &str, view: &View) -> Option<Timestamp> {
    view.entry(&Key::of::<Lease>(LEASES, name)).map(|lease| lease.seen())
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
        let Some(node) = view.at::<Node>(key) else { return forget(key.name(), view) };
        if node.metadata.deletion_timestamp.is_some() {
            return Outcome::default();
        }
        let mut outcome = Outcome::default();
        if let Some(wait) = pods::remaining(self.last_heard(&node, view), self.grace.as_secs(), view.now()) {
            outcome.again_in(wait);
        } else if ready(&node).is_none_or(|ready| ready.status != "Unknown") {
            // The rest follows from the conditions, in the run that this write wakes.
            return lost(&node, view).into();
        } else {
            outcome.ops.extend(unready_pods(&node, view));
        }
        if ready(&node).is_some_and(|ready| ready.status != "True") {
            outcome.again_in(LOOK);
        }
        let turn = taints::turn(&node, view, &self.eviction);
        if let Turn::In(wait) = turn {
            outcome.again_in(wait);
        }
        if let Some(op) = taints::put_right(&node, view, turn) {
            outcome.ops.push(op);
            return outcome;
        }
        evict::evict(&node, view, &mut outcome);
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

/// Removes the Lease of a node that is gone, once it is of no more use.
fn forget(name: &str, view: &View) -> Outcome {
    let Some(lease) = view.get::<Lease>(LEASES, name) else { return Outcome::default() };
    match pods::remaining(heard(name, view).unwrap_or(view.now()), LEASE_KEPT, view.now()) {
        Some(wait) => Outcome { ops: Vec::new(), again: Some(wait) },
        None => vec![Op::delete(&*lease)].into(),
    }
}

impl Nodes {
    fn last_heard(&self, node: &Node, view: &View) -> Timestamp {
        let name = node.metadata.name.as_deref().unwrap_or("");
        let told = || {
            let time = ready(node).and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
            // A clock that runs ahead must not keep a dead node alive.
            time.filter(|time| *time <= view.now())
        };
        let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
        [heard(name, view).or_else(told), created, Some(self.started)].into_iter().flatten().max().unwrap_or(self.started)
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    conditions::find(&node.status.as_ref()?.conditions, "Ready")
}

/// Makes the conditions of a silent node Unknown.
fn lost(node: &Node, view: &View) -> Vec<Op> {
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
    vec![Op::UpdateStatus(Box::new(updated)), told]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check, show};

    const NODE: &str = "kind: Node
metadata: {name: n1, creationTimestamp: '2025-12-31T00:00:00Z'}
spec: {taints: [{key: mine, effect: NoSchedule}]}
status: {conditions: [{type: Ready, status: 'True', lastHeartbeatTime: '2025-12-31T23:50:00Z'}]}
---
kind: Node
metadata: {name: n2, creationTimestamp: '2025-12-31T00:00:00Z'}
status: {conditions: [{type: Ready, status: 'True'}]}
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
    /// What the node says of the time is of no matter.
    const LEASE: &str = "---
kind: Lease
metadata: {name: n1, namespace: kube-node-lease}
spec: {renewTime: '2025-12-01T00:00:00.000000Z'}
";

    fn nodes(started: &str) -> Nodes {
        Nodes { started: started.parse().expect("a time"), grace: SignedDuration::from_secs(40), eviction: Eviction::default() }
    }

    fn long_ago() -> Nodes {
        nodes("2025-12-31T00:00:00Z")
    }

    #[test]
    fn silence_taints_and_evicts() {
        let key = Key::of::<Node>("", "n1");
        let outcome = check(&long_ago(), &format!("{NODE}{LEASE}"), &key, &[]);
        assert_eq!(outcome.again, Some(Duration::from_secs(40)));
        let mut world = World::of(&format!("{NODE}{LEASE}"));
        world.wait(Duration::from_secs(41));
        world.settle(&long_ago(), &key);
        let node: Node = world.one("n1");
        let taints: Vec<_> =
            node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(|t| format!("{}:{}", t.key, t.effect)).collect();
        assert_eq!(taints, ["mine:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
        assert!(!pods::is_ready(&world.one::<Pod>("a")));
        let outcome = world.step(&long_ago(), &key);
        assert_eq!(outcome.again, Some(LOOK), "others' health may change what becomes of it");
        world.wait(Duration::from_secs(299));
        world.settle(&long_ago(), &key);
        assert_eq!(world.all::<Pod>().len(), 2);
        world.wait(Duration::from_secs(2));
        world.settle(&long_ago(), &key);
        assert_eq!(world.all::<Pod>().iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>(), ["b"]);
        let now = world.now;
        world.edit::<Node>("", "n1", |node| {
            conditions::put(&mut node.status.get_or_insert_default().conditions, "Ready", "True", "KubeletReady", "", now);
        });
        world.edit::<Lease>(LEASES, "n1", |_| {});
        world.settle(&long_ago(), &key);
        assert_eq!(world.one::<Node>("n1").spec.and_then(|spec| spec.taints).map(|taints| taints.len()), Some(1));
    }

    /// Nothing that the controller writes about pods wakes it again.
    #[test]
    fn pods_and_taints_are_written_in_one_run() {
        let mut world = World::of(&format!("{NODE}{LEASE}"));
        world.wait(Duration::from_secs(41));
        let key = Key::of::<Node>("", "n1");
        world.step(&long_ago(), &key);
        let outcome = world.step(&long_ago(), &key);
        assert_eq!(show(&outcome.ops), ["status Pod a", "update Node n1"]);
    }

    #[test]
    fn a_fresh_server_waits_before_it_judges() {
        let outcome = check(&nodes("2025-12-31T23:59:59Z"), NODE, &Key::of::<Node>("", "n1"), &[]);
        assert_eq!(outcome.again, Some(Duration::from_secs(39)));
    }

    #[test]
    fn without_a_lease_a_node_is_believed_but_not_about_the_future() {
        let key = Key::of::<Node>("", "n1");
        let at = |time: &str| NODE.replace("2025-12-31T23:50:00Z", time);
        let outcome = check(&long_ago(), &at("2025-12-31T23:59:30Z"), &key, &[]);
        assert_eq!(outcome.again, Some(Duration::from_secs(10)));
        check(
            &long_ago(),
            &at("2026-01-01T01:00:00Z"),
            &key,
            &["status Node n1", "event NodeNotReady: Node n1 status is now: NodeNotReady"],
        );
    }

    #[test]
    fn intolerant_pods_leave_at_once() {
        let yaml = format!("{NODE}{LEASE}").replace("{key: mine, effect: NoSchedule}", "{key: mine, effect: NoExecute}");
        let want = ["event TaintManagerEviction: Marking for deletion Pod default/a", "status Pod a", "delete /pods/default/a"];
        check(&long_ago(), &yaml, &Key::of::<Node>("", "n1"), &want);
    }

    #[test]
    fn the_lease_of_a_node_that_is_gone_goes_later() {
        let key = Key::of::<Node>("", "n1");
        let mut world = World::of(LEASE);
        assert_eq!(world.step(&long_ago(), &key).again, Some(Duration::from_secs(120)));
        world.wait(Duration::from_secs(121));
        world.settle(&long_ago(), &key);
        assert!(world.all::<Lease>().is_empty());
    }
}
