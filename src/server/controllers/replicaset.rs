//! ReplicaSets and ReplicationControllers: keep a number of pods of one template.
//!
//! Follows upstream's `pkg/controller/replicaset`. Pods are adopted and released by selector; which pods go first is
//! `pods::by_deletion_rank`. Never: a change of a pod's spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};

use super::{conditions, pods};
use crate::api::meta::{controller_of, controller_ref};
use crate::api::selector::LabelSelector;
use crate::api::{Key, Kind, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Most pods created or deleted in one run; the rest follows in the next, on a newer snapshot.
const BURST: usize = 500;

/// The ReplicaSet controller.
pub struct ReplicaSets;

/// The ReplicationController controller.
pub struct ReplicationControllers;

/// What the two kinds have in common.
trait Replicated: Kind {
    fn replicas(&self) -> i32;
    fn min_ready(&self) -> i32;
    /// `None`: nothing may be selected (an empty or unreadable selector, which validation refuses).
    fn selector(&self) -> Option<LabelSelector>;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn status(&self) -> ReplicaSetStatus;
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl Replicated for ReplicaSet {
    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }
    fn selector(&self) -> Option<LabelSelector> {
        LabelSelector::from_api(Some(&self.spec.selector)).ok()
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }
    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Replicated for ReplicationController {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref()?.selector.as_ref().filter(|map| !map.is_empty()).map(LabelSelector::from_map)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            last_transition_time: c.last_transition_time,
            message: c.message,
            reason: c.reason,
            status: Some(c.status),
            type_: Some(c.type_),
        };
        ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        }
    }
    fn set_status(&mut self, status: ReplicaSetStatus) {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            last_transition_time: c.last_transition_time,
            message: c.message,
            reason: c.reason,
            status: c.status.unwrap_or_default(),
            type_: c.type_.unwrap_or_default(),
        };
        self.status = Some(ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        });
    }
}

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![
            Trigger::of::<ReplicaSet>(),
            Trigger::owner::<ReplicaSet, Pod>(),
            Trigger { scope: Scope::of::<Pod>, map: orphan::<ReplicaSet> },
        ]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        reconcile::<ReplicaSet>(key, view)
    }
}

impl Controller for ReplicationControllers {
    fn name(&self) -> &'static str {
        "replication-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![
            Trigger::of::<ReplicationController>(),
            Trigger::owner::<ReplicationController, Pod>(),
            Trigger { scope: Scope::of::<Pod>, map: orphan::<ReplicationController> },
        ]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        reconcile::<ReplicationController>(key, view)
    }
}

/// A pod that nobody manages any more, or that has other labels now, may be some set's to adopt: the key of its namespace, with an
/// empty name, asks all of them.
fn orphan<T: Resource>(event: &Event) -> Vec<Key> {
    let meta = event.entry.meta();
    let orphaned = !event.deleted && controller_of(meta).is_none() && meta.deletion_timestamp.is_none();
    let known = event.prev.as_ref().is_some_and(|prev| controller_of(prev.meta()).is_none() && prev.meta().labels == meta.labels);
    if orphaned && !known { vec![Key::of::<T>(event.entry.key.namespace(), "")] } else { Vec::new() }
}

fn reconcile<T: Replicated>(key: &Key, view: &View) -> Outcome {
    if key.name().is_empty() {
        return view.list::<T>(Some(key.namespace())).flat_map(|set| adoptions(&*set, view)).collect::<Vec<_>>().into();
    }
    match view.at::<T>(key) {
        Some(set) => reconcile_one(&*set, key, view),
        None => Outcome::default(),
    }
}

/// Takes over orphans that match. The update carries the pod's revision, so that of two sets only one wins.
fn adoptions<T: Replicated>(set: &T, view: &View) -> Vec<Op> {
    let Some(selector) = set.selector().filter(|_| set.meta().deletion_timestamp.is_none()) else { return Vec::new() };
    let orphaned = |pod: &Arc<Pod>| pods::is_active(pod) && controller_of(&pod.metadata).is_none();
    let adopt = |pod: Arc<Pod>| {
        let mut pod = Arc::unwrap_or_clone(pod);
        pod.metadata.owner_references.get_or_insert_default().push(controller_ref(set));
        Op::Update(Box::new(pod))
    };
    view.selected::<Pod>(set.meta().namespace.as_deref(), &selector).filter(orphaned).map(adopt).collect()
}

fn reconcile_one<T: Replicated>(set: &T, key: &Key, view: &View) -> Outcome {
    let mut outcome = Outcome::default();
    let (Some(selector), Some(uid)) = (set.selector(), set.meta().uid.as_deref()) else { return outcome };
    let (mine, strays): (Vec<_>, Vec<_>) =
        view.owned::<Pod>(key.namespace(), uid).partition(|pod| selector.matches(pod.metadata.labels.as_ref()));
    let terminating = mine.iter().filter(|pod| pods::is_deleting(pod) && !pods::is_terminal(pod)).count();
    let active: Vec<_> = mine.into_iter().filter(|pod| pods::is_active(pod)).collect();
    let deleting = set.meta().deletion_timestamp.is_some();
    let adopted = if deleting { Vec::new() } else { adoptions(set, view) };
    // What is adopted counts from the next run on.
    let excess = if deleting || !adopted.is_empty() { 0 } else { active.len().saturating_sub(wanted(set)).min(BURST) };
    let (going, staying) = split_surplus(active, excess);
    let status = status_of(set, &staying, terminating + going.len(), view, &mut outcome);
    // The status goes first: whoever reads it must never count a pod that is about to be deleted, and it must tell of a failure
    // although the write after it will likely fail again.
    if status != set.status() {
        let mut set = set.clone();
        set.set_status(status);
        outcome.ops.push(Op::UpdateStatus(Box::new(set)));
    }
    if deleting {
        return outcome;
    }
    outcome.ops.extend(strays.iter().filter(|pod| !pods::is_deleting(pod)).map(|pod| release(pod, uid)));
    outcome.ops.extend(tell_failure(set, view));
    if adopted.is_empty() {
        outcome.ops.extend(delete(set, &going));
        outcome.ops.extend(create(set, key, view, staying.len()));
    }
    outcome.ops.extend(adopted);
    outcome
}

fn wanted<T: Replicated>(set: &T) -> usize {
    usize::try_from(set.replicas()).unwrap_or(0)
}

fn release(pod: &Pod, uid: &str) -> Op {
    let mut pod = pod.clone();
    if let Some(owners) = &mut pod.metadata.owner_references {
        owners.retain(|owner| owner.uid != uid);
    }
    Op::Update(Box::new(pod))
}

fn tell_failure<T: Replicated>(set: &T, view: &View) -> Option<Op> {
    let failure = view.failure()?;
    match failure.verb {
        "create" => Some(Op::warning(set, "FailedCreate", format!("Error creating: {}", failure.message))),
        "delete" => Some(Op::warning(set, "FailedDelete", format!("Error deleting: {}", failure.message))),
        _ => None,
    }
}

fn delete<T: Replicated>(set: &T, going: &[Arc<Pod>]) -> Vec<Op> {
    let told = |pod: &Pod| Op::normal(set, "SuccessfulDelete", format!("Deleted pod: {}", pod.metadata.name.as_deref().unwrap_or("")));
    going.iter().flat_map(|pod| [Op::delete(&**pod), told(pod)]).collect()
}

fn create<T: Replicated>(set: &T, key: &Key, view: &View, present: usize) -> Vec<Op> {
    let Some(template) = set.template() else { return Vec::new() };
    let base = format!("{}-", key.name());
    let mut names = pods::Names::of::<Pod>(set.meta(), view);
    let missing = wanted(set).saturating_sub(present).min(BURST);
    let one = |_| {
        let name = names.next(&base);
        let told = Op::normal(set, "SuccessfulCreate", format!("Created pod: {name}"));
        let pod = pods::from_template(template, key.namespace(), name, &base, controller_ref(set));
        [Op::Create(Box::new(pod)), told]
    };
    (0..missing).flat_map(one).collect()
}

/// The `count` pods to delete, and the rest.
fn split_surplus(mut active: Vec<Arc<Pod>>, count: usize) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in &active {
        *per_node.entry(node(pod)).or_default() += 1;
    }
    active.sort_by(|a, b| pods::by_deletion_rank(a, b, |pod| per_node.get(&node(pod)).copied().unwrap_or(0)));
    let staying = active.split_off(count);
    (active, staying)
}

fn status_of<T: Replicated>(set: &T, active: &[Arc<Pod>], terminating: usize, view: &View, outcome: &mut Outcome) -> ReplicaSetStatus {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let template = LabelSelector::from_map(&set.template().and_then(|t| t.metadata.as_ref()?.labels.clone()).unwrap_or_default());
    let mut available = 0;
    for pod in active {
        match pods::is_available(pod, set.min_ready(), view.now()) {
            Ok(()) => available += 1,
            Err(Some(wait)) => outcome.again_in(wait),
            Err(None) => {}
        }
    }
    let old = set.status();
    let mut status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: Some(count(active.iter().filter(|pod| template.matches(pod.metadata.labels.as_ref())).count())),
        ready_replicas: Some(count(active.iter().filter(|pod| pods::is_ready(pod)).count())),
        available_replicas: Some(available),
        // The ReplicationController has no such field: always the old value there.
        terminating_replicas: if T::KIND == ReplicaSet::KIND { Some(count(terminating)) } else { old.terminating_replicas },
        observed_generation: set.meta().generation,
        conditions: old.conditions,
    };
    match view.failure().filter(|failure| matches!(failure.verb, "create" | "delete")) {
        Some(failure) => {
            let reason = if failure.verb == "create" { "FailedCreate" } else { "FailedDelete" };
            conditions::put(&mut status.conditions, "ReplicaFailure", "True", reason, &failure.message, view.now());
        }
        None => conditions::remove(&mut status.conditions, "ReplicaFailure"),
    }
    // Equal to what clients see when a count was never written: absent and zero are one.
    let zero = |old: Option<i32>, new: &mut Option<i32>| {
        if old.is_none() && *new == Some(0) {
            *new = None;
        }
    };
    zero(old.fully_labeled_replicas, &mut status.fully_labeled_replicas);
    zero(old.ready_replicas, &mut status.ready_replicas);
    zero(old.available_replicas, &mut status.available_replicas);
    zero(old.terminating_replicas, &mut status.terminating_replicas);
    status
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::meta::is_controlled_by;
    use crate::server::reconcile::testing::{World, check, show};

    const SET: &str = "
kind: ReplicaSet
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  minReadySeconds: 10
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
";

    fn key() -> Key {
        Key::of::<ReplicaSet>("default", "web")
    }

    fn pod(name: &str, owner: &str, more: &str) -> String {
        let owner = match owner {
            "" => String::new(),
            uid => format!("ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: {uid}, controller: true}}], "),
        };
        format!("---\nkind: Pod\nmetadata: {{name: {name}, namespace: default, {owner} labels: {{app: web}} {more}\n")
    }

    #[test]
    fn creates_the_missing() {
        let mut world = World::of(SET);
        let outcome = world.step(&ReplicaSets, &key());
        assert_eq!(show(&outcome.ops).iter().filter(|line| line.starts_with("create Pod web-")).count(), 2);
        assert!(world.events.iter().all(|event| event.starts_with("SuccessfulCreate: Created pod: web-")));
        world.settle(&ReplicaSets, &key());
        let set: ReplicaSet = world.one("web");
        assert_eq!(set.status.map(|status| (status.replicas, status.observed_generation)), Some((2, Some(1))));
        let pods = world.all::<Pod>();
        assert!(pods.iter().all(|pod| is_controlled_by(&pod.metadata, "web-uid")));
    }

    #[test]
    fn adopts_releases_and_ranks() {
        let orphan = pod("stray", "", "}");
        check(&ReplicaSets, &format!("{SET}{orphan}"), &key(), &["status ReplicaSet web", "update Pod stray"]);
        let other = "---\nkind: Pod\nmetadata: {name: x, namespace: default, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: web-uid, controller: true}], labels: {app: other}}";
        let mut world = World::of(&format!("{SET}{other}"));
        world.settle(&ReplicaSets, &key());
        assert!(world.one::<Pod>("x").metadata.owner_references.is_none_or(|owners| owners.is_empty()));
        let ready = "}\nspec: {nodeName: n1, containers: []}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2025-12-31T23:59:55Z'}]}";
        let unready = "}\nspec: {nodeName: n1, containers: []}\nstatus: {phase: Running}";
        let three = format!("{SET}{}{}{}", pod("a", "web-uid", ready), pod("b", "web-uid", unready), pod("c", "web-uid", ready));
        let want = ["status ReplicaSet web", "delete /pods/default/b", "event SuccessfulDelete: Deleted pod: b"];
        let outcome = check(&ReplicaSets, &three, &key(), &want);
        assert_eq!(outcome.again, Some(Duration::from_secs(5)), "when the ready pods become available");
    }

    #[test]
    fn says_why_it_can_not() {
        let world = World::of(SET);
        let failure = crate::server::reconcile::OpFailure { verb: "create", what: "web".into(), message: "exceeded quota".into() };
        let outcome = ReplicaSets.reconcile(&key(), &world.view().with_failure(Some(failure)));
        let lines = show(&outcome.ops);
        assert_eq!(lines[..2], ["status ReplicaSet web", "event FailedCreate: Error creating: exceeded quota"]);
    }

    #[test]
    fn a_replication_controller_is_one_too() {
        let yaml = SET.replace("kind: ReplicaSet", "kind: ReplicationController").replace("{matchLabels: {app: web}}", "{app: web}");
        let mut world = World::of(&yaml);
        let key = Key::of::<ReplicationController>("default", "web");
        world.settle(&ReplicationControllers, &key);
        assert_eq!(world.all::<Pod>().len(), 2);
        assert_eq!(world.one::<ReplicationController>("web").status.map(|status| status.replicas), Some(2));
    }
}
