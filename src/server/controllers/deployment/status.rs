//! What a Deployment reports: counts, and the conditions Available, Progressing and ReplicaFailure.
//!
//! Follows `progress.go` and `sync.go` of upstream's deployment controller; `kubectl rollout status` reads exactly these.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition};

use super::super::{conditions, pods};
use super::{Rollout, Sized};
use crate::server::reconcile::{Op, Outcome};

const PROGRESSING: &str = "Progressing";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The Progressing condition.
pub(super) fn progressing(deployment: &Deployment) -> Option<&DeploymentCondition> {
    conditions::find(&deployment.status.as_ref()?.conditions, PROGRESSING)
}

/// Whether the status that is written says that all is done.
pub(super) fn is_complete(deployment: &Deployment, want: i32) -> bool {
    deployment.status.as_ref().is_some_and(|status| complete(status, want) && status.observed_generation >= deployment.metadata.generation)
}

fn complete(status: &DeploymentStatus, want: i32) -> bool {
    let zero = |count: Option<i32>| count.unwrap_or(0);
    zero(status.updated_replicas) == want && zero(status.replicas) == want && zero(status.available_replicas) == want
}

/// Whether pods moved on between two statuses.
fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let zero = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| zero(status.replicas) - zero(status.updated_replicas);
    zero(new.updated_replicas) > zero(old.updated_replicas)
        || outdated(new) < outdated(old)
        || zero(new.ready_replicas) > zero(old.ready_replicas)
        || zero(new.available_replicas) > zero(old.available_replicas)
}

impl Rollout<'_> {
    /// A status write that changes only Progressing.
    pub(super) fn set_progress(&self, status: &str, reason: &str, message: &str) -> Op {
        let mut deployment = (*self.deployment).clone();
        self.put_progress(deployment.status.get_or_insert_default(), status, reason, message);
        Op::UpdateStatus(Box::new(deployment))
    }

    fn put_progress(&self, to: &mut DeploymentStatus, status: &str, reason: &str, message: &str) {
        conditions::put(&mut to.conditions, PROGRESSING, status, reason, message, self.view.now());
        let condition = to.conditions.iter_mut().flatten().find(|condition| condition.type_.as_deref() == Some(PROGRESSING));
        if let Some(condition) = condition {
            condition.last_update_time = Some(pods::stamp(self.view.now()));
        }
    }

    /// Stops and restarts the clock of the progress deadline with a pause.
    pub(super) fn note_pause(&self) -> Option<Op> {
        self.progress_deadline()?;
        let reason = progressing(&self.deployment).and_then(|condition| condition.reason.as_deref());
        match (self.paused(), reason) {
            (true, Some(TIMED_OUT | PAUSED)) => None,
            (true, _) => Some(self.set_progress("Unknown", PAUSED, "Deployment is paused")),
            (false, Some(PAUSED)) => Some(self.set_progress("Unknown", "DeploymentResumed", "Deployment is resumed")),
            (false, _) => None,
        }
    }

    /// The status write, if anything changed, and when the progress deadline is to be looked at.
    pub(super) fn report(&self) -> Outcome {
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut new = self.counts(&old);
        self.progress(&old, &mut new);
        self.copy_failure(&mut new);
        let mut outcome = Outcome { ops: Vec::new(), again: self.deadline(&new) };
        if new != old {
            let mut deployment = (*self.deployment).clone();
            deployment.status = Some(new);
            outcome.ops.push(Op::UpdateStatus(Box::new(deployment)));
        }
        outcome
    }

    fn counts(&self, old: &DeploymentStatus) -> DeploymentStatus {
        let sum = |count: fn(&Sized) -> i32| self.all().map(count).sum::<i32>();
        let available = sum(Sized::available);
        let ready = sum(|sized| sized.set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
        let terminating = sum(|sized| sized.set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0));
        // Zero is written as absent, as upstream's omitempty does.
        let some = |count: i32| Some(count).filter(|count| *count != 0);
        let mut new = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(sum(Sized::actual)),
            updated_replicas: some(self.new.as_ref().map_or(0, Sized::actual)),
            ready_replicas: some(ready),
            available_replicas: some(available),
            unavailable_replicas: some((sum(|sized| sized.size) - available).max(0)),
            terminating_replicas: some(terminating).or(old.terminating_replicas.map(|_| 0)),
            collision_count: old.collision_count,
            conditions: old.conditions.clone(),
        };
        let (status, reason, message) = if available >= self.replicas() - self.fenceposts().1 {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let before = conditions::find(&new.conditions, "Available");
        if before.is_none_or(|before| before.status.as_deref() != Some(status) || before.reason.as_deref() != Some(reason)) {
            conditions::put(&mut new.conditions, "Available", status, reason, message, self.view.now());
            let condition = new.conditions.iter_mut().flatten().find(|condition| condition.type_.as_deref() == Some("Available"));
            if let Some(condition) = condition {
                condition.last_update_time = Some(pods::stamp(self.view.now()));
            }
        }
        new
    }

    /// Progressing: done, moving, or stuck for too long.
    fn progress(&self, old: &DeploymentStatus, new: &mut DeploymentStatus) {
        if self.progress_deadline().is_none() {
            return conditions::remove(&mut new.conditions, PROGRESSING);
        }
        // A paused rollout has its own reason, and no clock.
        if self.paused() || self.deployment.metadata.deletion_timestamp.is_some() {
            return;
        }
        let current = progressing(&self.deployment).and_then(|condition| condition.reason.as_deref());
        if new.replicas == new.updated_replicas && current == Some(COMPLETE) {
            return;
        }
        let what = match &self.new {
            Some(set) => format!("ReplicaSet \"{}\"", set.name()),
            None => format!("Deployment \"{}\"", self.deployment.metadata.name.as_deref().unwrap_or("")),
        };
        if complete(new, self.replicas()) {
            self.put_progress(new, "True", COMPLETE, &format!("{what} has successfully progressed."));
        } else if progressed(old, new) {
            self.put_progress(new, "True", "ReplicaSetUpdated", &format!("{what} is progressing."));
        } else if current != Some(TIMED_OUT) && current != Some(COMPLETE) && self.left(new).is_some_and(|left| left.is_none()) {
            self.put_progress(new, "False", TIMED_OUT, &format!("{what} has timed out progressing."));
        }
    }

    /// What is left of the progress deadline: `Some(None)` when it has passed, `None` when there is no clock.
    fn left(&self, status: &DeploymentStatus) -> Option<Option<Duration>> {
        let seconds = self.progress_deadline()?;
        let since = conditions::find(&status.conditions, PROGRESSING)?.last_update_time.as_ref()?;
        Some(pods::remaining(since.0, i64::from(seconds), self.view.now()))
    }

    fn deadline(&self, status: &DeploymentStatus) -> Option<Duration> {
        let reason = conditions::find(&status.conditions, PROGRESSING)?.reason.as_deref();
        if self.paused() || matches!(reason, Some(COMPLETE | TIMED_OUT)) { None } else { self.left(status).flatten() }
    }

    /// The new set's ReplicaFailure, else an old one's, is the Deployment's too.
    fn copy_failure(&self, status: &mut DeploymentStatus) {
        let of = |sized: &Sized| -> Option<ReplicaSetCondition> {
            conditions::find(&sized.set.status.as_ref()?.conditions, "ReplicaFailure").cloned()
        };
        let failure = self.new.iter().chain(&self.old).find_map(of);
        match failure {
            Some(failure) => {
                let text = |text: Option<String>| text.unwrap_or_default();
                let (state, reason, message) = (text(failure.status), text(failure.reason), text(failure.message));
                conditions::put(&mut status.conditions, "ReplicaFailure", &state, &reason, &message, self.view.now());
            }
            None => conditions::remove(&mut status.conditions, "ReplicaFailure"),
        }
    }
}
