//! Pods that nobody will finish: those of nodes that are gone, and unscheduled ones that are being deleted.
//!
//! Follows upstream's `pkg/controller/podgc`. Deletions here are forced: there is no kubelet to wait for.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::pods;
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::{Entry, Event};

/// How long a pod may name a node that is not there, in seconds: the node may be about to register.
const QUARANTINE: i64 = 40;

/// The pod garbage collector. A node that is gone concerns all pods: the key without a name.
pub struct PodGarbage;

impl Controller for PodGarbage {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn triggers(&self) -> Vec<Trigger> {
        let node = |event: &Event| if event.deleted { vec![Key::of::<Pod>("", "")] } else { Vec::new() };
        let pod = |event: &Event| {
            let is_placed = |entry: &Entry| entry.typed::<Pod>().is_ok_and(|pod| !node_of(&pod).is_empty());
            // Placed just now: on a node that may have gone meanwhile.
            let placed = || is_placed(&event.entry) && !event.prev.as_ref().is_some_and(|prev| is_placed(prev));
            let relevant = event.entry.meta().deletion_timestamp.is_some() || placed();
            if relevant && !event.deleted { vec![event.entry.key.clone()] } else { Vec::new() }
        };
        vec![Trigger { scope: Scope::of::<Node>, map: node }, Trigger { scope: Scope::of::<Pod>, map: pod }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let mut outcome = Outcome::default();
        match key.name() {
            "" => view.list::<Pod>(None).for_each(|pod| look_at(&pod, view, &mut outcome)),
            _ => view.at::<Pod>(key).iter().for_each(|pod| look_at(pod, view, &mut outcome)),
        }
        outcome
    }
}

fn look_at(pod: &Pod, view: &View, outcome: &mut Outcome) {
    let node = node_of(pod);
    if node.is_empty() {
        if !pods::is_deleting(pod) {
            return;
        }
    } else {
        if view.get::<Node>("", node).is_some() {
            return;
        }
        let born = pod.metadata.creation_timestamp.as_ref().map_or(view.now(), |time| time.0);
        if let Some(wait) = pods::remaining(born, QUARANTINE, view.now()) {
            return outcome.again_in(wait);
        }
    }
    let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    outcome.ops.push(Op::Delete { key: Key::of::<Pod>(namespace, name), uid, rev: None, grace: Some(0), propagation: None });
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    #[test]
    fn only_lost_pods_go() {
        let pod = |name: &str, node: &str, meta: &str| {
            format!("---\nkind: Pod\nmetadata: {{name: {name}, namespace: default{meta}}}\nspec: {{nodeName: '{node}', containers: []}}\n")
        };
        let (old, ending) = (", creationTimestamp: '2025-01-01T00:00:00Z'", ", deletionTimestamp: '2026-01-01T00:00:00Z'");
        let yaml = format!(
            "kind: Node\nmetadata: {{name: n1}}\n{}{}{}{}{}{}",
            pod("on-node", "n1", old),
            pod("ending-on-node", "n1", ending),
            pod("lost", "n2", old),
            pod("young", "n2", ""),
            pod("waiting", "", old),
            pod("ending", "", ending),
        );
        let outcome = check(&PodGarbage, &yaml, &Key::of::<Pod>("", ""), &["delete /pods/default/ending", "delete /pods/default/lost"]);
        assert_eq!(outcome.again, Some(std::time::Duration::from_secs(40)), "when the young one's node must have come");
        for (name, want) in [("lost", &["delete /pods/default/lost"][..]), ("ending", &["delete /pods/default/ending"]), ("on-node", &[])] {
            check(&PodGarbage, &yaml, &Key::of::<Pod>("default", name), want);
        }
    }
}
