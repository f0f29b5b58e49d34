//! StatefulSets: pods with stable names and claims, one after the other.
//!
//! Follows upstream's `pkg/controller/statefulset`. OrderedReady takes one step at a time: the lowest ordinal that is missing or
//! not ready holds up the rest, and the highest goes first when scaling down. An update replaces from the highest ordinal down to
//! the partition.
//!
//! Not here: ControllerRevisions (no `rollout undo`; a pod below the partition that is lost comes back with the new template) and
//! the claim retention policy (claims always stay, its default).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};

use super::hash::of_template;
use super::pods;
use crate::api::Key;
use crate::api::meta::controller_ref;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// The label with the revision of a pod.
const REVISION: &str = "controller-revision-hash";

/// The StatefulSet controller.
pub struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<StatefulSet>(), Trigger::owner::<StatefulSet, Pod>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(set) = view.at::<StatefulSet>(key).filter(|set| set.metadata.deletion_timestamp.is_none()) else {
            return Outcome::default();
        };
        let owned = view.owned::<Pod>(key.namespace(), set.metadata.uid.as_deref().unwrap_or(""));
        let ordinal = |pod: Arc<Pod>| Some((pod.metadata.name.as_deref()?.strip_prefix(key.name())?.strip_prefix('-')?.parse().ok()?, pod));
        let revision = format!("{}-{}", key.name(), of_template(&set.spec.template, None));
        Run { set: &set, key, view, pods: owned.filter_map(ordinal).collect(), revision, outcome: Outcome::default() }.step()
    }
}

/// One run for one StatefulSet.
struct Run<'a> {
    set: &'a StatefulSet,
    key: &'a Key,
    view: &'a View,
    pods: BTreeMap<i32, Arc<Pod>>,
    revision: String,
    outcome: Outcome,
}

impl Run<'_> {
    fn step(mut self) -> Outcome {
        self.report();
        let first = self.set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        let wanted = first..first.saturating_add(self.set.spec.replicas.unwrap_or(1));
        let parallel = self.set.spec.pod_management_policy.as_deref() == Some("Parallel");
        for ordinal in wanted.clone() {
            match self.pods.get(&ordinal).cloned() {
                None => self.create(ordinal),
                Some(pod) if pods::is_terminal(&pod) && !pods::is_deleting(&pod) => self.delete(&pod),
                Some(pod) if pods::is_deleting(&pod) || !self.is_available(&pod) => {}
                Some(_) => continue,
            }
            if !parallel {
                // Those that are too many may still go, for nobody waits for them; an update waits.
                self.unstick(&wanted);
                return self.outcome;
            }
        }
        let surplus: Vec<_> = self.pods.iter().rev().filter(|(ordinal, _)| !wanted.contains(ordinal)).map(|(_, pod)| pod.clone()).collect();
        for pod in &surplus {
            if !pods::is_deleting(pod) {
                self.delete(pod);
            }
            if !parallel {
                return self.outcome;
            }
        }
        if surplus.is_empty() {
            self.update(&wanted);
        }
        self.outcome
    }

    fn is_current(&self, pod: &Pod) -> bool {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)) == Some(&self.revision)
    }

    fn is_available(&mut self, pod: &Pod) -> bool {
        match pods::is_available(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.view.now()) {
            Ok(()) => true,
            Err(wait) => {
                wait.into_iter().for_each(|wait| self.outcome.again_in(wait));
                false
            }
        }
    }

    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        Some(strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0))
    }

    /// A pod of an old revision that is not ready would hold up the repair that a new template is: it is replaced at once.
    fn unstick(&mut self, wanted: &std::ops::Range<i32>) {
        let Some(partition) = self.partition() else { return };
        let broken = |(ordinal, pod): &(&i32, &Arc<Pod>)| {
            wanted.contains(ordinal) && **ordinal >= partition && !pods::is_deleting(pod) && !pods::is_ready(pod) && !self.is_current(pod)
        };
        if let Some(pod) = self.pods.iter().rev().find(broken).map(|(_, pod)| pod.clone()) {
            self.delete(&pod);
        }
    }

    /// Replaces one outdated pod, the highest first, if all above it are available.
    fn update(&mut self, wanted: &std::ops::Range<i32>) {
        let Some(partition) = self.partition() else { return };
        let candidates: Vec<_> = self.pods.range(partition.max(wanted.start)..).rev().map(|(_, pod)| pod.clone()).collect();
        for pod in candidates {
            if pods::is_deleting(&pod) {
                return;
            }
            if !self.is_current(&pod) {
                return self.delete(&pod);
            }
            if !self.is_available(&pod) {
                return;
            }
        }
    }

    fn delete(&mut self, pod: &Pod) {
        let name = pod.metadata.name.as_deref().unwrap_or("");
        let told = format!("delete Pod {name} in StatefulSet {} successful", self.key.name());
        self.outcome.ops.extend([Op::delete(pod), Op::normal(self.set, "SuccessfulDelete", told)]);
    }

    /// The pod of an ordinal, its claims first.
    fn create(&mut self, ordinal: i32) {
        let name = format!("{}-{ordinal}", self.key.name());
        if self.view.get::<Pod>(self.key.namespace(), &name).is_some() {
            // Somebody else's: it must go before ours can come.
            self.outcome.ops.push(Op::warning(
                self.set,
                "FailedCreate",
                format!("create Pod {name} in StatefulSet {} failed: the name is taken", self.key.name()),
            ));
            return;
        }
        let mut pod = pods::from_template(&self.set.spec.template, self.key.namespace(), name.clone(), "", controller_ref(self.set));
        pod.metadata.generate_name = Some(format!("{}-", self.key.name()));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION.into(), self.revision.clone());
        labels.insert("statefulset.kubernetes.io/pod-name".into(), name.clone());
        labels.insert("apps.kubernetes.io/pod-index".into(), ordinal.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name.clone());
        spec.subdomain = self.set.spec.service_name.clone().filter(|service| !service.is_empty());
        for template in self.set.spec.volume_claim_templates.iter().flatten() {
            let volume = template.metadata.name.clone().unwrap_or_default();
            let claim_name = format!("{volume}-{name}");
            let volumes = spec.volumes.get_or_insert_default();
            volumes.retain(|present| present.name != volume);
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name.clone(), read_only: None };
            volumes.push(Volume { name: volume, persistent_volume_claim: Some(source), ..Volume::default() });
            if self.view.get::<PersistentVolumeClaim>(self.key.namespace(), &claim_name).is_none() {
                let mut claim = template.clone();
                claim.metadata.name = Some(claim_name);
                claim.metadata.namespace = Some(self.key.namespace().into());
                claim.metadata.labels.get_or_insert_default().extend(self.set.spec.selector.match_labels.clone().unwrap_or_default());
                claim.status = None;
                self.outcome.ops.push(Op::Create(Box::new(claim)));
            }
        }
        let told = format!("create Pod {name} in StatefulSet {} successful", self.key.name());
        self.outcome.ops.extend([Op::Create(Box::new(pod)), Op::normal(self.set, "SuccessfulCreate", told)]);
    }

    fn report(&mut self) {
        let living: Vec<_> = self.pods.values().filter(|pod| !pods::is_terminal(pod)).cloned().collect();
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let some = |n: i32| Some(n).filter(|n| *n != 0);
        let available = living.clone().iter().filter(|pod| self.is_available(pod)).count();
        let updated = count(living.iter().filter(|pod| self.is_current(pod) && !pods::is_deleting(pod)).count());
        let old = self.set.status.clone().unwrap_or_default();
        let total = count(living.len());
        // The update is done when every pod is of the new revision: then that is the current one.
        let done = updated == total && total == self.set.spec.replicas.unwrap_or(1) && count(available) == total;
        let current = if done { Some(self.revision.clone()) } else { old.current_revision.clone().or(Some(self.revision.clone())) };
        let of_current =
            living.iter().filter(|pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)) == current.as_ref());
        let status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas: total,
            ready_replicas: some(count(living.iter().filter(|pod| pods::is_ready(pod)).count())),
            available_replicas: Some(count(available)),
            current_replicas: some(count(of_current.count())),
            updated_replicas: some(updated),
            current_revision: current,
            update_revision: Some(self.revision.clone()),
            collision_count: old.collision_count,
            conditions: old.conditions.clone(),
        };
        if self.set.status.as_ref() != Some(&status) {
            let mut set = self.set.clone();
            set.status = Some(status);
            self.outcome.ops.push(Op::UpdateStatus(Box::new(set)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    fn key() -> Key {
        Key::of::<StatefulSet>("default", "db")
    }

    fn ready(world: &mut World) {
        for pod in world.all::<Pod>() {
            world.edit::<Pod>("default", pod.metadata.name.as_deref().unwrap_or(""), |pod| {
                let conditions = &mut pod.status.get_or_insert_default().conditions;
                super::super::conditions::put(conditions, "Ready", "True", "", "", jiff::Timestamp::UNIX_EPOCH);
            });
        }
    }

    fn names(world: &World) -> Vec<String> {
        world.all::<Pod>().iter().filter_map(|pod| pod.metadata.name.clone()).collect()
    }

    #[test]
    fn one_after_the_other_up_over_and_down() {
        let mut world = World::of(
            "kind: StatefulSet\nmetadata: {name: db, namespace: default}\nspec: {serviceName: db, replicas: 3, selector: {matchLabels: {a: b}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {}}], template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: v1}]}}}\n",
        );
        world.settle(&StatefulSets, &key());
        assert_eq!(names(&world), ["db-0"], "the first must be ready first");
        for _ in 0..3 {
            ready(&mut world);
            world.settle(&StatefulSets, &key());
        }
        assert_eq!(names(&world), ["db-0", "db-1", "db-2"]);
        assert_eq!(
            world.all::<PersistentVolumeClaim>().iter().filter_map(|c| c.metadata.name.clone()).collect::<Vec<_>>(),
            ["data-db-0", "data-db-1", "data-db-2"]
        );
        world.edit::<StatefulSet>("default", "db", |set| {
            set.spec.template.spec.get_or_insert_default().containers[0].image = Some("v2".into());
        });
        for replaced in ["db-2", "db-1", "db-0"] {
            world.settle(&StatefulSets, &key());
            let waiting: Vec<_> =
                world.all::<Pod>().into_iter().filter(|pod| !pods::is_ready(pod)).filter_map(|pod| pod.metadata.name).collect();
            assert_eq!(waiting, [replaced]);
            ready(&mut world);
        }
        world.settle(&StatefulSets, &key());
        let status = world.one::<StatefulSet>("db").status.unwrap_or_default();
        assert_eq!((status.updated_replicas, status.current_revision == status.update_revision), (Some(3), true));
        world.edit::<StatefulSet>("default", "db", |set| set.spec.replicas = Some(1));
        world.step(&StatefulSets, &key());
        assert_eq!(names(&world), ["db-0", "db-1"], "the highest goes first");
        world.settle(&StatefulSets, &key());
        assert_eq!((names(&world).len(), world.all::<PersistentVolumeClaim>().len()), (1, 3));
    }
}
