//! Pods that nobody will finish: those of nodes that are gone or declared out of service, and unscheduled ones that are being deleted.
//!
//! Follows upstream's `pkg/controller/podgc`. Deletions here are forced: there is no kubelet to wait for. A node whose Node was deleted
//! while its agent lives comes back at once, and keeps its pods: the time that upstream waits for it begins when it was heard last.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::{node_lifecycle, pods};
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::{Entry, Event};

/// How long a pod may name a node that is not there, in seconds, after the pod was made and the node was heard: it may be about to register.
const QUARANTINE: i64 = 40;
/// By this taint an administrator says that a node that is not ready has been shut down, and will not finish its pods.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The pod garbage collector. A node that is gone concerns all pods: the key without a name.
pub struct PodGarbage;

impl Controller for PodGarbage {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn triggers(&self) -> Vec<Trigger> {
        let node = |event: &Event| {
            let leaves = || event.entry.typed::<Node>().is_ok_and(|node| is_out_of_service(&node));
            if event.deleted || leaves() { vec![Key::of::<Pod>("", "")] } else { Vec::new() }
        };
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
    let name = node_of(pod);
    let mut lost = false;
    match view.get::<Node>("", name).filter(|_| !name.is_empty()) {
        Some(node) if pods::is_deleting(pod) && is_out_of_service(&node) => {}
        Some(_) => return,
        None if name.is_empty() && pods::is_deleting(pod) => {}
        None if name.is_empty() => return,
        None => {
            let born = pod.metadata.creation_timestamp.as_ref().map_or(view.now(), |time| time.0);
            let last = node_lifecycle::heard(name, view).map_or(born, |heard| heard.max(born));
            if let Some(wait) = pods::remaining(last, QUARANTINE, view.now()) {
                return outcome.again_in(wait);
            }
            lost = true;
        }
    }
    outcome.ops.extend(failed(pod, lost, view));
    let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    outcome.ops.push(Op::Delete { key: Key::of::<Pod>(namespace, name), uid, rev: None, grace: Some(0), propagation: None });
}

/// The write that ends the pod for those who wait for its end, such as Jobs: nobody else will say so.
fn failed(pod: &Pod, lost: bool, view: &View) -> Option<Op> {
    if pods::is_terminal(pod) {
        return None;
    }
    let mut pod = pod.clone();
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Failed".into());
    if lost {
        pods::disrupt(status, "DeletionByPodGC", "PodGC: node no longer exists", view.now());
    }
    Some(Op::UpdateStatus(Box::new(pod)))
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    !ready && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check};

    #[test]
    fn only_lost_pods_go() {
        let pod = |name: &str, node: &str, meta: &str| {
            format!("---\nkind: Pod\nmetadata: {{name: {name}, namespace: default{meta}}}\nspec: {{nodeName: '{node}', containers: []}}\n")
        };
        let node = |name: &str, ready: &str, taint: &str| {
            format!(
                "---\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{taints: [{{key: {taint}, effect: NoExecute}}]}}\n\
                 status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
            )
        };
        let (old, ending) = (", creationTimestamp: '2025-01-01T00:00:00Z'", ", deletionTimestamp: '2026-01-01T00:00:00Z'");
        let yaml = [
            node("n1", "Unknown", "a/b"),
            node("down", "Unknown", OUT_OF_SERVICE),
            node("lies", "True", OUT_OF_SERVICE),
            "---\nkind: Lease\nmetadata: {name: heard, namespace: kube-node-lease}\n".into(),
            pod("on-node", "n1", old),
            pod("ending-on-node", "n1", ending),
            pod("on-down", "down", old),
            pod("ending-on-down", "down", ending),
            pod("ending-on-lying", "lies", ending),
            pod("lost", "n2", old),
            pod("young", "n2", ""),
            pod("back-soon", "heard", old),
            pod("waiting", "", old),
            pod("ending", "", ending),
        ]
        .concat();
        let of = |name: &str| [format!("status Pod {name}"), format!("delete /pods/default/{name}")];
        let going = ["ending", "ending-on-down", "lost"].map(of).concat();
        let want: Vec<&str> = going.iter().map(String::as_str).collect();
        let outcome = check(&PodGarbage, &yaml, &Key::of::<Pod>("", ""), &want);
        assert_eq!(outcome.again, Some(std::time::Duration::from_secs(40)), "when the young one's node must have come");
        for (name, goes) in [("lost", true), ("ending", true), ("on-node", false), ("back-soon", false), ("ending-on-lying", false)] {
            let want = if goes { of(name).to_vec() } else { Vec::new() };
            let want: Vec<&str> = want.iter().map(String::as_str).collect();
            check(&PodGarbage, &yaml, &Key::of::<Pod>("default", name), &want);
        }
    }

    #[test]
    fn the_lost_have_failed_through_no_fault_of_theirs() {
        let yaml = "kind: Pod\nmetadata: {name: lost, namespace: default, creationTimestamp: '2025-01-01T00:00:00Z', finalizers: [a/b]}\n\
                    spec: {nodeName: n2, containers: []}\nstatus: {phase: Running}\n";
        let mut world = World::of(yaml);
        world.step(&PodGarbage, &Key::of::<Pod>("default", "lost"));
        let pod: Pod = world.one("lost");
        let told = pods::condition(&pod, "DisruptionTarget").and_then(|condition| condition.reason.clone());
        assert_eq!((pods::phase(&pod), told.as_deref(), pods::is_deleting(&pod)), ("Failed", Some("DeletionByPodGC"), true));
    }
}
