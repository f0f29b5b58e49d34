//! Deployments: move pods from old ReplicaSets to the one of the present template.
//!
//! Follows upstream's `pkg/controller/deployment`. One run takes one step (adopt, then note a pause, then sync revisions, then
//! scale, then report); the change of a step wakes the next one, so that each decides on what the last one made true.
//!
//! Never: a pod. Deployments only scale ReplicaSets.

mod revision;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods;
use crate::api::Key;
use crate::api::meta::{controller_of, controller_ref};
use crate::api::selector::LabelSelector;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// The Deployment controller.
pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![
            Trigger::of::<Deployment>(),
            Trigger::owner::<Deployment, ReplicaSet>(),
            Trigger { scope: crate::api::Scope::of::<ReplicaSet>, map: orphan },
        ]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if key.name().is_empty() {
            let all = view.list::<Deployment>(Some(key.namespace()));
            return all.flat_map(|deployment| adoptions(&deployment, view)).collect::<Vec<_>>().into();
        }
        let Some(deployment) = view.at::<Deployment>(key) else { return Outcome::default() };
        if deployment.metadata.deletion_timestamp.is_none() {
            let claims = adoptions(&deployment, view);
            if !claims.is_empty() {
                return claims.into();
            }
        }
        Rollout::new(deployment, view).step()
    }
}

/// A ReplicaSet that nobody manages may be some Deployment's: the namespace's key with an empty name asks all of them.
fn orphan(event: &Event) -> Vec<Key> {
    let orphaned = !event.deleted && controller_of(event.entry.meta()).is_none() && event.entry.meta().deletion_timestamp.is_none();
    if orphaned { vec![Key::of::<Deployment>(event.entry.key.namespace(), "")] } else { Vec::new() }
}

/// Takes over matching orphans, and lets go of what no longer matches.
fn adoptions(deployment: &Deployment, view: &View) -> Vec<Op> {
    let meta = &deployment.metadata;
    let (Some(uid), Some(namespace)) = (&meta.uid, &meta.namespace) else { return Vec::new() };
    let Ok(selector) = LabelSelector::from_api(Some(&deployment.spec.selector)) else { return Vec::new() };
    if meta.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let adopted = view.selected::<ReplicaSet>(Some(namespace), &selector).filter_map(|set| {
        let free = controller_of(&set.metadata).is_none() && set.metadata.deletion_timestamp.is_none();
        let mut set = free.then(|| Arc::unwrap_or_clone(set))?;
        set.metadata.owner_references.get_or_insert_default().push(controller_ref(deployment));
        Some(set)
    });
    let released = view.owned::<ReplicaSet>(namespace, uid).filter_map(|set| {
        let mut set = (!selector.matches(set.metadata.labels.as_ref())).then(|| Arc::unwrap_or_clone(set))?;
        set.metadata.owner_references.get_or_insert_default().retain(|owner| owner.uid != *uid);
        Some(set)
    });
    adopted.chain(released).map(|set| Op::Update(Box::new(set))).collect()
}

/// A ReplicaSet and the size it should get.
#[derive(Clone)]
struct Sized {
    set: Arc<ReplicaSet>,
    size: i32,
}

impl Sized {
    fn new(set: Arc<ReplicaSet>) -> Sized {
        let size = set.spec.replicas.unwrap_or(1);
        Sized { set, size }
    }

    fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or("")
    }

    /// What the set was told before this run.
    fn told(&self) -> i32 {
        Sized::new(self.set.clone()).size
    }

    /// How many of its pods are available and stay so: never more than it is to have.
    fn available(&self) -> i32 {
        self.set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }

    /// How many pods it is known to have.
    fn actual(&self) -> i32 {
        self.set.status.as_ref().map_or(0, |status| status.replicas)
    }
}

/// One run for one Deployment.
struct Rollout<'a> {
    view: &'a View,
    deployment: Arc<Deployment>,
    spec: DeploymentSpec,
    /// The set of the present template.
    new: Option<Sized>,
    /// All others, oldest first.
    old: Vec<Sized>,
}

impl<'a> Rollout<'a> {
    fn new(deployment: Arc<Deployment>, view: &'a View) -> Rollout<'a> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or("");
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or("");
        let mut sets: Vec<_> = view.owned::<ReplicaSet>(namespace, uid).collect();
        sets.sort_by(|a, b| {
            let age = |set: &ReplicaSet| (set.metadata.creation_timestamp.clone(), revision::of(&set.metadata), set.metadata.name.clone());
            age(a).cmp(&age(b))
        });
        let spec = deployment.spec.clone();
        let new = sets.iter().position(|set| revision::same_template(set, &spec.template)).map(|at| Sized::new(sets.remove(at)));
        Rollout { view, deployment, spec, new, old: sets.into_iter().map(Sized::new).collect() }
    }

    /// The next step.
    fn step(mut self) -> Outcome {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return self.report();
        }
        if let Some(op) = self.note_pause() {
            return vec![op].into();
        }
        if let Some(ops) = self.sync_revision() {
            return ops.into();
        }
        if self.paused() || self.is_scaling_event() {
            self.scale_proportionally();
            let mut outcome = self.finish();
            if self.paused() {
                outcome.ops.extend(self.cleanup());
            }
            return outcome;
        }
        if self.is_recreate() { self.recreate() } else { self.roll() }
    }

    /// All old sets go before the new one comes.
    fn recreate(mut self) -> Outcome {
        if self.old.iter().any(|old| old.size > 0) {
            self.old.iter_mut().for_each(|old| old.size = 0);
            return self.finish();
        }
        if self.old_pods_exist() {
            return self.report();
        }
        let want = self.replicas();
        match &mut self.new {
            None => return self.create().into(),
            Some(new) => new.size = want,
        }
        self.finish_with_cleanup()
    }

    fn roll(mut self) -> Outcome {
        if self.new.is_none() {
            return self.create().into();
        }
        if !self.grow_new() {
            self.shrink_old();
        }
        self.finish_with_cleanup()
    }

    fn old_pods_exist(&self) -> bool {
        let namespace = self.deployment.metadata.namespace.as_deref().unwrap_or_default();
        let mut pods =
            self.old.iter().flat_map(|old| self.view.owned::<Pod>(namespace, old.set.metadata.uid.as_deref().unwrap_or_default()));
        self.old.iter().any(|old| old.actual() > 0) || pods.any(|pod| !pods::is_terminal(&pod))
    }

    /// Writes the new sizes and the status.
    fn finish(&self) -> Outcome {
        let mut ops = Vec::new();
        for sized in self.all() {
            ops.extend(self.resize(sized));
        }
        let report = self.report();
        ops.extend(report.ops);
        Outcome { ops, again: report.again }
    }

    fn finish_with_cleanup(&self) -> Outcome {
        let mut outcome = self.finish();
        if status::is_complete(&self.deployment, self.replicas()) {
            outcome.ops.extend(self.cleanup());
        }
        outcome
    }

    /// Removes old sets beyond the history limit, the lowest revisions first; only such as have, and are to have, no pods.
    fn cleanup(&self) -> Vec<Op> {
        let Some(limit) = self.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok()) else { return Vec::new() };
        let mut sets: Vec<_> = self.old.iter().filter(|old| old.set.metadata.deletion_timestamp.is_none()).collect();
        let excess = sets.len().saturating_sub(limit);
        sets.sort_by_key(|old| revision::of(&old.set.metadata));
        let idle = |old: &&&Sized| {
            let observed = old.set.status.as_ref().and_then(|status| status.observed_generation);
            old.actual() == 0 && old.told() == 0 && old.size == 0 && old.set.metadata.generation <= observed
        };
        sets.iter().take(excess).filter(idle).map(|old| Op::delete(&*old.set)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Sized> {
        self.old.iter().chain(&self.new)
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    fn is_recreate(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    /// `None` means no deadline, as does upstream's largest number.
    fn progress_deadline(&self) -> Option<i32> {
        self.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
    }

    /// The most pods beyond, and the most pods short of, the wanted number. Both zero would never move: then one may be missing.
    fn fenceposts(&self) -> (i32, i32) {
        if self.is_recreate() {
            return (0, 0);
        }
        let rolling = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let replicas = self.replicas();
        match (resolve(surge, replicas, true), resolve(unavailable, replicas, false)) {
            (0, 0) => (0, 1.min(replicas)),
            (surge, unavailable) => (surge, unavailable.min(replicas)),
        }
    }
}

/// A number, or a percentage of `total` (rounded up or down). What validation refuses counts as zero.
pub(super) fn resolve(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok()).unwrap_or(0).max(0);
            let product = percent.saturating_mul(i64::from(total));
            let share = if up { product.saturating_add(99) / 100 } else { product / 100 };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}
