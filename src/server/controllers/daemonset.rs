//! DaemonSets: one pod on every node that fits.
//!
//! Follows upstream's `pkg/controller/daemon`: each pod is pinned to its node by a required affinity on the node's name, and the
//! scheduler binds it. Rolling updates replace at most maxUnavailable pods at once.
//!
//! Not here: maxSurge, and ControllerRevisions (so no `rollout undo`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::resolve;
use super::hash::of_template;
use super::pods;
use crate::api::meta::controller_ref;
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View, node_selected, tolerates};

/// The label that tells pods of one template from those of another.
const HASH: &str = "controller-revision-hash";

/// Taints that every daemon pod tolerates, with their effects.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The DaemonSet controller.
pub struct DaemonSets;

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        // A node concerns every set: the key without a name asks all.
        let node = Trigger { scope: Scope::of::<Node>, map: |_| vec![Key::of::<DaemonSet>("", "")] };
        vec![Trigger::of::<DaemonSet>(), Trigger::owner::<DaemonSet, Pod>(), node]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if key.name().is_empty() {
            let mut all = Outcome::default();
            for set in view.list::<DaemonSet>(None) {
                let one = reconcile(&set, view);
                all.ops.extend(one.ops);
                one.again.into_iter().for_each(|wait| all.again_in(wait));
            }
            return all;
        }
        view.at::<DaemonSet>(key).map(|set| reconcile(&set, view)).unwrap_or_default()
    }
}

fn tolerations() -> impl Iterator<Item = Toleration> {
    let one = |(key, effect): &(&str, &str)| Toleration {
        key: Some((*key).into()),
        operator: Some("Exists".into()),
        effect: Some((*effect).into()),
        ..Toleration::default()
    };
    TOLERATED.iter().map(one)
}

/// Whether the set wants a pod on the node, and whether one that is there may stay.
fn fits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = &set.spec.template.spec else { return (false, false) };
    if !node_selected(spec, node) {
        return (false, false);
    }
    let own: Vec<_> = spec.tolerations.iter().flatten().cloned().chain(tolerations()).collect();
    let refuses = |effects: &[&str]| {
        let bad = |taint: &&Taint| effects.contains(&taint.effect.as_str()) && !own.iter().any(|toleration| tolerates(toleration, taint));
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| bad(&taint))
    };
    (!refuses(&["NoSchedule", "NoExecute"]), !refuses(&["NoExecute"]))
}

/// The node that a pod is on, or is pinned to.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.clone().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let required = spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.first()?.match_fields.as_ref()?;
    fields.iter().find(|field| field.key == "metadata.name")?.values.as_ref()?.first().cloned()
}

fn reconcile(set: &DaemonSet, view: &View) -> Outcome {
    let mut outcome = Outcome::default();
    let (namespace, uid) = (set.metadata.namespace.as_deref().unwrap_or(""), set.metadata.uid.as_deref().unwrap_or(""));
    if set.metadata.deletion_timestamp.is_some() {
        return outcome;
    }
    let hash = of_template(&set.spec.template, None);
    let mut on: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in view.owned::<Pod>(namespace, uid) {
        on.entry(node_of(&pod).unwrap_or_default()).or_default().push(pod);
    }
    let mut names = pods::Names::of::<Pod>(&set.metadata, view);
    let mut status = DaemonSetStatus { observed_generation: set.metadata.generation, ..DaemonSetStatus::default() };
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    let (mut outdated, mut writes) = (Vec::new(), Vec::new());
    for node in view.list::<Node>(None) {
        let here = on.remove(node.metadata.name.as_deref().unwrap_or("")).unwrap_or_default();
        let (wanted, may_stay) = fits(set, &node);
        let (ended, mut living): (Vec<_>, Vec<_>) =
            here.into_iter().filter(|pod| !pods::is_deleting(pod) || !pods::is_terminal(pod)).partition(|pod| pods::is_terminal(pod));
        writes.extend(ended.iter().map(|pod| Op::delete(&**pod)));
        living.sort_by_key(|pod| (pods::is_deleting(pod), pod.metadata.creation_timestamp.clone()));
        if !wanted {
            status.number_misscheduled += i32::from(!living.is_empty());
            if !may_stay {
                writes.extend(living.iter().filter(|pod| !pods::is_deleting(pod)).map(|pod| Op::delete(&**pod)));
            }
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = living.first() else {
            let pod = make(set, &mut names, node.metadata.name.as_deref().unwrap_or(""), &hash);
            let told = format!("Created pod: {}", pod.metadata.name.as_deref().unwrap_or(""));
            writes.extend([Op::Create(Box::new(pod)), Op::normal(set, "SuccessfulCreate", told)]);
            continue;
        };
        writes.extend(living.iter().skip(1).filter(|pod| !pods::is_deleting(pod)).map(|pod| Op::delete(&**pod)));
        status.current_number_scheduled += 1;
        let is_current = pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)) == Some(&hash);
        updated += i32::from(is_current);
        ready += i32::from(pods::is_ready(pod));
        let up = match pods::is_available(pod, set.spec.min_ready_seconds.unwrap_or(0), view.now()) {
            Ok(()) => !pods::is_deleting(pod),
            Err(wait) => {
                wait.into_iter().for_each(|wait| outcome.again_in(wait));
                false
            }
        };
        available += i32::from(up);
        if !is_current && !pods::is_deleting(pod) {
            outdated.push((up, pod.clone()));
        }
    }
    // What is left is on nodes that are gone: the pod garbage collector's.
    status.number_ready = ready;
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    (status.number_available, status.updated_number_scheduled) = (some(available), some(updated));
    status.number_unavailable = some(status.desired_number_scheduled - available);
    writes.extend(replace(set, outdated, status.desired_number_scheduled, available));
    let old = set.status.clone().unwrap_or_default();
    status.collision_count = old.collision_count;
    status.conditions = old.conditions.clone();
    if set.status.as_ref() != Some(&status) {
        let mut set = set.clone();
        set.status = Some(status);
        outcome.ops.push(Op::UpdateStatus(Box::new(set)));
    }
    outcome.ops.extend(writes);
    outcome
}

/// Outdated pods to delete now: all that are down anyway, and as many others as may be missing.
fn replace(set: &DaemonSet, outdated: Vec<(bool, Arc<Pod>)>, desired: i32, available: i32) -> Vec<Op> {
    let strategy = set.spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Vec::new();
    }
    let one = IntOrString::Int(1);
    let limit = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_unavailable.as_ref()).unwrap_or(&one);
    let mut spare = (resolve(limit, desired, true).max(1) - (desired - available)).max(0);
    let mut ops = Vec::new();
    for (up, pod) in outdated {
        if up && spare == 0 {
            continue;
        }
        spare -= i32::from(up);
        let told = format!("Deleted pod: {}", pod.metadata.name.as_deref().unwrap_or(""));
        ops.extend([Op::delete(&*pod), Op::normal(set, "SuccessfulDelete", told)]);
    }
    ops
}

fn make(set: &DaemonSet, names: &mut pods::Names<'_>, node: &str, hash: &str) -> Pod {
    let base = format!("{}-", set.metadata.name.as_deref().unwrap_or(""));
    let namespace = set.metadata.namespace.as_deref().unwrap_or("");
    let mut pod = pods::from_template(&set.spec.template, namespace, names.next(&base), &base, controller_ref(set));
    pod.metadata.labels.get_or_insert_default().insert(HASH.into(), hash.into());
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations.get_or_insert_default().extend(tolerations());
    let field = NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![field]) };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    // The set's own terms were checked against this very node, so that the pin may replace them.
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    #[test]
    fn one_pod_per_fitting_node_and_a_careful_update() {
        let mut world = World::of(
            "kind: Node\nmetadata: {name: n1}\n---\nkind: Node\nmetadata: {name: n2}\nspec: {taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}\n---\nkind: Node\nmetadata: {name: n3}\nspec: {taints: [{key: x, effect: NoSchedule}]}\n---\nkind: DaemonSet\nmetadata: {name: d, namespace: default}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: v1}]}}}\n",
        );
        let key = Key::of::<DaemonSet>("default", "d");
        world.settle(&DaemonSets, &key);
        let nodes: Vec<_> = world.all::<Pod>().iter().filter_map(node_of).collect();
        assert_eq!(nodes.len(), 2);
        assert!(!nodes.contains(&"n3".to_owned()));
        let ready = |world: &mut World| {
            for pod in world.all::<Pod>() {
                world.edit::<Pod>("default", pod.metadata.name.as_deref().unwrap_or(""), |pod| {
                    let conditions = &mut pod.status.get_or_insert_default().conditions;
                    super::super::conditions::put(conditions, "Ready", "True", "", "", jiff::Timestamp::UNIX_EPOCH);
                });
            }
        };
        ready(&mut world);
        world.edit::<DaemonSet>("default", "d", |set| {
            set.spec.template.spec.get_or_insert_default().containers[0].image = Some("v2".into());
        });
        world.settle(&DaemonSets, &key);
        let up = |world: &World| world.all::<Pod>().iter().filter(|pod| pods::is_ready(pod)).count();
        assert_eq!(up(&world), 1, "one at a time");
        ready(&mut world);
        world.settle(&DaemonSets, &key);
        ready(&mut world);
        world.settle(&DaemonSets, &Key::of::<DaemonSet>("", ""));
        let status = world.one::<DaemonSet>("d").status.unwrap_or_default();
        assert_eq!((status.updated_number_scheduled, status.number_available, status.desired_number_scheduled), (Some(2), Some(2), 2));
    }
}
