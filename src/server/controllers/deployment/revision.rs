//! Which ReplicaSet is of which revision: annotations, template hashes, creation of the new set.
//!
//! `kubectl rollout history|undo` reads `deployment.kubernetes.io/revision` and `kubernetes.io/change-cause` of the sets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::hash::of_template;
use super::{Rollout, Sized, status};
use crate::api::meta::{controller_ref, is_controlled_by};
use crate::server::reconcile::Op;

/// The label that tells the pods of one revision from those of another.
const HASH: &str = "pod-template-hash";
/// Revision of a set, and the latest of a Deployment.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions that a set had before it was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the set was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with surge.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of the Deployment that its sets do not get.
const NOT_COPIED: &[&str] =
    &["kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"];

/// The revision in the annotations; 0 when there is none.
pub(super) fn of(meta: &ObjectMeta) -> i64 {
    number(meta, REVISION)
}

/// A number in the annotations; 0 when there is none.
pub(super) fn number(meta: &ObjectMeta, name: &str) -> i64 {
    meta.annotations.as_ref().and_then(|all| all.get(name)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether `set` is of this template, the hash label aside.
pub(super) fn same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(present) = set.spec.template.as_ref() else { return false };
    normalised(present) == normalised(template)
}

fn normalised(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let mut meta = template.metadata.take().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    template.metadata = Some(meta);
    template
}

impl Rollout<'_> {
    /// The number of the newest revision: one more than the highest of the old sets.
    fn next_revision(&self) -> i64 {
        self.old.iter().map(|old| of(&old.set.metadata)).max().unwrap_or(0) + 1
    }

    /// Brings revision and copied annotations of an existing new set, and the Deployment's revision, up to date. `None`: they are.
    pub(super) fn sync_revision(&self) -> Option<Vec<Op>> {
        let new = self.new.as_ref()?;
        let mut set = (*new.set).clone();
        self.annotate(&mut set.metadata);
        set.spec.min_ready_seconds = match self.spec.min_ready_seconds {
            None | Some(0) => set.spec.min_ready_seconds.filter(|seconds| *seconds == 0),
            seconds => seconds,
        };
        if set != *new.set {
            return Some(vec![Op::Update(Box::new(set))]);
        }
        let revision = of(&set.metadata);
        if of(&self.deployment.metadata) != revision {
            let mut deployment = (*self.deployment).clone();
            deployment.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision.to_string());
            return Some(vec![Op::Update(Box::new(deployment))]);
        }
        // A Deployment that finds its set already there (an undo, or after an upgrade) begins to progress now.
        let progressing = status::progressing(&self.deployment).is_some();
        if self.progress_deadline().is_some() && !progressing {
            let message = format!("Found new replica set \"{}\"", new.name());
            return Some(vec![self.set_progress("True", "FoundNewReplicaSet", &message)]);
        }
        None
    }

    /// Copies the Deployment's annotations (the change cause among them) and raises the revision where the set's is too low.
    fn annotate(&self, meta: &mut ObjectMeta) {
        let mut annotations = meta.annotations.take().unwrap_or_default();
        let copied = self.deployment.metadata.annotations.iter().flatten().filter(|(name, _)| !NOT_COPIED.contains(&name.as_str()));
        annotations.extend(copied.map(|(name, value)| (name.clone(), value.clone())));
        let before = annotations.get(REVISION).and_then(|text| text.parse::<i64>().ok());
        let revision = self.next_revision();
        if before.unwrap_or(0) < revision {
            annotations.insert(REVISION.into(), revision.to_string());
            if let Some(before) = before {
                let history = annotations.entry(HISTORY.into()).or_default();
                if !history.is_empty() {
                    history.push(',');
                }
                history.push_str(&before.to_string());
            }
        }
        meta.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    }

    /// Notes on the set how large the Deployment is, for proportional scaling later.
    pub(super) fn note_size(&self, annotations: &mut BTreeMap<String, String>) {
        let replicas = self.replicas();
        annotations.insert(DESIRED.into(), replicas.to_string());
        annotations.insert(MAX.into(), replicas.saturating_add(self.fenceposts().0).to_string());
    }

    /// Creates the set of the present template, as large as the surge allows.
    pub(super) fn create(&self) -> Vec<Op> {
        let deployment = &*self.deployment;
        let (name, namespace) = (deployment.metadata.name.as_deref().unwrap_or(""), deployment.metadata.namespace.as_deref().unwrap_or(""));
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = of_template(&normalised(&self.spec.template), collisions);
        let name = format!("{name}-{hash}");
        if let Some(present) = self.view.get::<ReplicaSet>(namespace, &name) {
            // Ours of this template would have been found: another template, or another owner, has the same hash.
            let uid = deployment.metadata.uid.as_deref().unwrap_or("");
            debug_assert!(!(is_controlled_by(&present.metadata, uid) && same_template(&present, &self.spec.template)));
            return vec![self.count_collision(collisions)];
        }
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH.into(), hash.clone());
        let mut selector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH.into(), hash);
        let size = self.first_size();
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.into()),
                labels: Some(labels.clone()),
                owner_references: Some(vec![controller_ref(deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(size),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        self.annotate(&mut set.metadata);
        self.note_size(set.metadata.annotations.get_or_insert_default());
        let mut ops = vec![Op::Create(Box::new(set))];
        if size > 0 {
            ops.push(Op::normal(deployment, "ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {size}")));
        }
        if self.progress_deadline().is_some() {
            ops.push(self.set_progress("True", "NewReplicaSetCreated", &format!("Created new replica set \"{name}\"")));
        }
        ops
    }

    fn count_collision(&self, collisions: Option<i32>) -> Op {
        let mut deployment = (*self.deployment).clone();
        deployment.status.get_or_insert_default().collision_count = Some(collisions.unwrap_or(0).saturating_add(1));
        Op::UpdateStatus(Box::new(deployment))
    }

    /// How large the new set may be at once.
    fn first_size(&self) -> i32 {
        if self.is_recreate() {
            return self.replicas();
        }
        let total: i32 = self.old.iter().map(|old| old.size).sum();
        (self.replicas() + self.fenceposts().0 - total).clamp(0, self.replicas())
    }

    /// The writes that give a set its size, with the event that tells of it. None where nothing changes.
    pub(super) fn resize(&self, sized: &Sized) -> Vec<Op> {
        let before = sized.told();
        let mut set = (*sized.set).clone();
        if sized.size == before && !sized.set.metadata.annotations.as_ref().is_some_and(|_| self.is_resized(sized)) {
            return Vec::new();
        }
        self.note_size(set.metadata.annotations.get_or_insert_default());
        set.spec.replicas = Some(sized.size);
        let mut ops = Vec::new();
        if set != *sized.set {
            ops.push(Op::Update(Box::new(set)));
        }
        if sized.size != before {
            let way = if sized.size > before { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {before} to {}", sized.name(), sized.size);
            ops.push(Op::normal(&*self.deployment, "ScalingReplicaSet", message));
        }
        ops
    }

    /// Whether the Deployment's size changed since this active set was last scaled.
    pub(super) fn is_resized(&self, sized: &Sized) -> bool {
        let noted = sized.set.metadata.annotations.as_ref().and_then(|all| all.get(DESIRED)).and_then(|text| text.parse::<i32>().ok());
        sized.told() > 0 && noted.is_some_and(|noted| noted != self.replicas())
    }
}
