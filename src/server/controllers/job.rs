//! Jobs: run pods until enough of them have succeeded.
//!
//! Follows upstream's `pkg/controller/job`. Each pod carries a finalizer until its end is counted, in three steps that survive a
//! crash between any two: its uid is noted in the status, its finalizer removed, the note turned into a count.
//!
//! Not here: pod failure policy, success policy and back-off limits per index.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{conditions, pods};
use crate::api::meta::controller_ref;
use crate::api::{Key, Rev, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Holds a pod until its end is counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Which completion a pod of an Indexed Job stands for.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// First and longest wait before a failed pod is replaced, in seconds.
const BACKOFF: (i64, i64) = (10, 600);
/// Why a Job fails.
const FAILURES: &[&str] = &["BackoffLimitExceeded", "DeadlineExceeded"];
/// Most pods created in one run.
const BURST: usize = 500;

/// The Job controller.
pub struct Jobs;

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        let tracked = Trigger { scope: Scope::of::<Pod>, map: job_of_ownerless };
        vec![Trigger::of::<Job>(), Trigger::owner::<Job, Pod>(), tracked]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(job) = view.at::<Job>(key) else { return Outcome { ops: release_orphans(key, view, ""), again: None } };
        let Some(spec) = job.spec.clone() else { return Outcome::default() };
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let all: Vec<_> = view.owned::<Pod>(key.namespace(), uid).collect();
        let ops = release_orphans(key, view, uid);
        Run { job: &job, spec: &spec, key, view, status: job.status.clone().unwrap_or_default(), all, ops, again: None }.step()
    }
}

/// Lets go of the pods of a Job that is gone, perhaps replaced by the one with the uid `present`: nobody will count them any more,
/// so nothing may hold them (upstream's orphan pods).
fn release_orphans(key: &Key, view: &View, present: &str) -> Vec<Op> {
    let orphan = |pod: &Arc<Pod>| {
        let owner = crate::api::meta::controller_of(&pod.metadata);
        let ours = match owner {
            Some(owner) => owner.kind == "Job" && owner.name == key.name() && owner.uid != present,
            // Orphaned on purpose: the Job's deletion took the reference away.
            None => job_label(&pod.metadata) == Some(key.name()),
        };
        has_tracking(pod) && ours
    };
    view.list::<Pod>(Some(key.namespace())).filter(orphan).map(|pod| release(&pod)).collect()
}

/// The Job that a pod was made by, as its label says.
fn job_label(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get("batch.kubernetes.io/job-name").map(String::as_str)
}

/// A tracked pod that nobody owns wakes the Job that made it, which need not be there any more.
fn job_of_ownerless(event: &Event) -> Vec<Key> {
    let meta = event.entry.meta();
    let tracked = meta.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING);
    let job = job_label(meta).filter(|_| tracked && crate::api::meta::controller_of(meta).is_none());
    job.map(|job| Key::of::<Job>(event.entry.key.namespace(), job)).into_iter().collect()
}

fn release(pod: &Arc<Pod>) -> Op {
    let meta = &pod.metadata;
    Op::RemoveFinalizer {
        key: Key::of::<Pod>(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
        rev: meta.resource_version.as_deref().and_then(Rev::parse).unwrap_or_default(),
        finalizer: TRACKING,
    }
}

/// One run for one Job.
struct Run<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    key: &'a Key,
    view: &'a View,
    status: JobStatus,
    all: Vec<Arc<Pod>>,
    ops: Vec<Op>,
    again: Option<Duration>,
}

fn has_tracking(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// `0-2,5` as a set.
fn parse_indexes(text: &str) -> BTreeSet<i32> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.trim().parse::<i32>().ok()?..=to.trim().parse::<i32>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// A set as `0-2,5`.
fn show_indexes(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let show = |(from, to): &(i32, i32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    ranges.iter().map(show).collect::<Vec<_>>().join(",")
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Run<'_> {
    fn step(mut self) -> Outcome {
        if self.job.metadata.deletion_timestamp.is_some() {
            self.untrack(|_| true);
        } else if let Some(finished) = self.finished_at() {
            self.untrack(|_| true);
            self.delete_active();
            self.expire(finished);
        } else {
            self.progress();
        }
        Outcome { ops: self.ops, again: self.again }
    }

    fn finished_at(&self) -> Option<Timestamp> {
        let done = |kind: &str| conditions::find(&self.status.conditions, kind).filter(|condition| condition.status == "True");
        let condition = done("Complete").or_else(|| done("Failed"))?;
        Some(condition.last_transition_time.as_ref().map_or(self.view.now(), |time| time.0))
    }

    /// Lets pods go without counting them.
    fn untrack(&mut self, which: impl Fn(&Pod) -> bool) {
        let ops: Vec<_> = self.all.iter().filter(|pod| has_tracking(pod) && which(pod)).map(release).collect();
        self.ops.extend(ops);
    }

    fn expire(&mut self, finished: Timestamp) {
        let Some(ttl) = self.spec.ttl_seconds_after_finished else { return };
        match pods::remaining(finished, i64::from(ttl), self.view.now()) {
            Some(wait) => self.again = Some(wait),
            None => {
                let uid = self.job.metadata.uid.clone().unwrap_or_default();
                self.ops.push(Op::Delete { key: self.key.clone(), uid, rev: None, grace: None, propagation: Some("Foreground") });
            }
        }
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        self.all.iter().filter(|pod| pods::is_active(pod)).cloned().collect()
    }

    fn delete_active(&mut self) {
        for pod in self.active() {
            self.ops.push(Op::delete(&*pod));
            self.ops.push(Op::normal(self.job, "SuccessfulDelete", format!("Deleted pod: {}", pod.metadata.name.as_deref().unwrap_or(""))));
        }
    }

    fn progress(&mut self) {
        let suspended = self.spec.suspend == Some(true);
        self.note_suspension(suspended);
        self.count_ends(suspended);
        let active = self.active();
        let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
        let terminating = self.all.iter().filter(|pod| pods::is_deleting(pod) && !pods::is_terminal(pod)).count();
        self.status.active = Some(count(active.len())).filter(|n| *n != 0);
        self.status.ready = Some(count(ready));
        self.status.terminating = Some(count(terminating));
        let ending = self.decided().or_else(|| self.verdict(&active));
        if let Some((kind, reason, message)) = &ending {
            self.end(kind, reason, message, active.is_empty() && terminating == 0);
        }
        // The status first: what is noted there makes it safe to let pods go.
        if Some(&self.status) != self.job.status.as_ref() {
            let mut job = self.job.clone();
            job.status = Some(self.status.clone());
            self.ops.insert(0, Op::UpdateStatus(Box::new(job)));
        }
        let noted: BTreeSet<String> = self.noted().collect();
        self.untrack(|pod| {
            let gone = suspended && pods::is_deleting(pod) && !pods::is_terminal(pod);
            gone || pod.metadata.uid.as_ref().is_some_and(|uid| noted.contains(uid))
        });
        if ending.is_some() || suspended {
            self.delete_active();
        } else {
            self.manage(active);
        }
    }

    fn note_suspension(&mut self, suspended: bool) {
        let was = conditions::find(&self.status.conditions, "Suspended").map(|condition| condition.status == "True");
        let now = self.view.now();
        match (suspended, was) {
            (true, None | Some(false)) => {
                conditions::put(&mut self.status.conditions, "Suspended", "True", "JobSuspended", "Job suspended", now);
                self.status.start_time = None;
                self.ops.push(Op::normal(self.job, "Suspended", "Job suspended"));
            }
            (false, Some(true)) => {
                conditions::put(&mut self.status.conditions, "Suspended", "False", "JobResumed", "Job resumed", now);
                self.ops.push(Op::normal(self.job, "Resumed", "Job resumed"));
            }
            _ => {}
        }
        if !suspended && self.status.start_time.is_none() {
            self.status.start_time = Some(pods::stamp(now));
        }
    }

    /// Uids whose end is noted but not yet counted.
    fn noted(&self) -> impl Iterator<Item = String> {
        let lists = self.status.uncounted_terminated_pods.iter().flat_map(|u| u.succeeded.iter().chain(&u.failed).flatten());
        lists.cloned().collect::<Vec<_>>().into_iter()
    }

    fn count_ends(&mut self, suspended: bool) {
        let tracked: BTreeSet<String> =
            self.all.iter().filter(|pod| has_tracking(pod)).filter_map(|pod| pod.metadata.uid.clone()).collect();
        let mut notes = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let settle = |list: &mut Option<Vec<String>>, total: &mut Option<i32>| {
            let list = list.get_or_insert_default();
            let before = list.len();
            list.retain(|uid| tracked.contains(uid));
            let settled = count(before - list.len());
            if settled > 0 {
                *total = Some(total.unwrap_or(0).saturating_add(settled));
            }
        };
        settle(&mut notes.succeeded, &mut self.status.succeeded);
        settle(&mut notes.failed, &mut self.status.failed);
        let mut indexes = parse_indexes(self.status.completed_indexes.as_deref().unwrap_or(""));
        for pod in self.all.iter().filter(|pod| has_tracking(pod)) {
            let Some(uid) = pod.metadata.uid.clone() else { continue };
            let ended = match pods::phase(pod) {
                "Succeeded" => &mut notes.succeeded,
                "Failed" => &mut notes.failed,
                _ if pods::is_deleting(pod) && !suspended => &mut notes.failed,
                _ => continue,
            };
            if pods::phase(pod) == "Succeeded" {
                indexes.extend(index_of(pod));
            }
            let list = ended.get_or_insert_default();
            if !list.contains(&uid) {
                list.push(uid);
            }
        }
        if self.is_indexed() {
            // Those that a Job has no more, since it was scaled down, do not count.
            indexes.retain(|index| self.spec.completions.is_none_or(|completions| *index < completions));
            self.status.completed_indexes = Some(show_indexes(&indexes)).filter(|text| !text.is_empty());
        }
        notes.succeeded = notes.succeeded.filter(|list| !list.is_empty());
        notes.failed = notes.failed.filter(|list| !list.is_empty());
        let empty = notes.succeeded.is_none() && notes.failed.is_none();
        self.status.uncounted_terminated_pods =
            (!empty || self.job.status.as_ref().is_some_and(|s| s.uncounted_terminated_pods.is_some())).then_some(notes);
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn succeeded(&self) -> i32 {
        if self.is_indexed() {
            return count(parse_indexes(self.status.completed_indexes.as_deref().unwrap_or("")).len());
        }
        let noted = self.status.uncounted_terminated_pods.iter().flat_map(|u| u.succeeded.iter().flatten()).count();
        self.status.succeeded.unwrap_or(0).saturating_add(count(noted))
    }

    fn failed(&self) -> i32 {
        let noted = self.status.uncounted_terminated_pods.iter().flat_map(|u| u.failed.iter().flatten()).count();
        self.status.failed.unwrap_or(0).saturating_add(count(noted))
    }

    /// How the Job will end, once its last pods are gone: condition, reason, message.
    fn decided(&self) -> Option<(&'static str, String, String)> {
        let decided = |(first, kind): (&str, &'static str)| {
            let condition = conditions::find(&self.status.conditions, first).filter(|condition| condition.status == "True")?;
            Some((kind, condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default()))
        };
        [("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")].into_iter().find_map(decided)
    }

    /// The same, of a Job whose end is not decided yet.
    fn verdict(&mut self, active: &[Arc<Pod>]) -> Option<(&'static str, String, String)> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let restarts = |pod: &Arc<Pod>| -> i32 {
            let statuses = pod.status.iter().flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
            statuses.map(|status| status.restart_count).sum()
        };
        let in_place = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
        let restarted: i32 = if in_place { active.iter().map(restarts).sum() } else { 0 };
        if self.failed() > limit || (in_place && restarted > 0 && restarted >= limit) {
            return Some(("Failed", "BackoffLimitExceeded".into(), "Job has reached the specified backoff limit".into()));
        }
        if let (Some(seconds), Some(start)) = (self.spec.active_deadline_seconds, self.status.start_time.as_ref()) {
            match pods::remaining(start.0, seconds, self.view.now()) {
                None => return Some(("Failed", "DeadlineExceeded".into(), "Job was active longer than specified deadline".into())),
                wait => self.again = wait,
            }
        }
        let done = match self.spec.completions {
            None => self.succeeded() > 0 && active.is_empty(),
            Some(wanted) => self.succeeded() >= wanted,
        };
        (done && self.spec.suspend != Some(true))
            .then(|| ("Complete", "CompletionsReached".into(), "Reached expected number of succeeded pods".into()))
    }

    /// Notes what was decided, and that the Job is over when the `last` pod is gone: a finished Job has none left (KEP-3939).
    fn end(&mut self, kind: &'static str, reason: &str, message: &str, last: bool) {
        let now = self.view.now();
        let first = if kind == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
        if conditions::find(&self.status.conditions, first).is_none_or(|condition| condition.status != "True") {
            conditions::put(&mut self.status.conditions, first, "True", reason, message, now);
        }
        if !last {
            return;
        }
        self.status.start_time.get_or_insert_with(|| pods::stamp(now));
        conditions::put(&mut self.status.conditions, kind, "True", reason, message, now);
        if kind == "Complete" {
            self.status.completion_time = Some(pods::stamp(now));
            self.ops.push(Op::normal(self.job, "Completed", "Job completed"));
        } else {
            // Somebody else may have decided, for a reason of their own.
            let reason = FAILURES.iter().find(|known| **known == reason).unwrap_or(&"JobFailed");
            self.ops.push(Op::warning(self.job, reason, message));
        }
        // What was noted is final now: nobody counts after the end.
        let (elastic, before) = (self.is_indexed() && self.spec.completions == self.spec.parallelism, self.status.succeeded.unwrap_or(0));
        let least = if elastic { 0 } else { before };
        self.status.succeeded = Some(self.succeeded().max(least)).filter(|n| *n != 0);
        self.status.failed = Some(self.failed()).filter(|n| *n != 0);
        self.status.uncounted_terminated_pods = self.status.uncounted_terminated_pods.as_ref().map(|_| Default::default());
        self.status.active = None;
    }

    /// Creates what is missing, deletes what is too much.
    fn manage(&mut self, mut active: Vec<Arc<Pod>>) {
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        let want = match self.spec.completions {
            None if self.succeeded() > 0 => count(active.len()).min(parallelism),
            None => parallelism,
            Some(completions) => parallelism.min((completions - self.succeeded()).max(0)),
        };
        let want = usize::try_from(want).unwrap_or(0);
        if active.len() > want {
            active.sort_by(|a, b| pods::by_deletion_rank(a, b, |_| 0));
            for pod in &active[..active.len() - want] {
                self.ops.push(Op::delete(&**pod));
            }
            return;
        }
        if active.len() == want {
            return;
        }
        if let Some(wait) = self.backoff() {
            self.again = Some(self.again.map_or(wait, |present| present.min(wait)));
            return;
        }
        if self.view.failure().is_some_and(|failure| failure.verb == "create") {
            let why = self.view.failure().map(|failure| failure.message.clone()).unwrap_or_default();
            self.ops.push(Op::warning(self.job, "FailedCreate", format!("Error creating: {why}")));
        }
        let mut taken: BTreeSet<i32> = parse_indexes(self.status.completed_indexes.as_deref().unwrap_or(""));
        taken.extend(active.iter().filter_map(|pod| index_of(pod)));
        let missing = (want - active.len()).min(BURST);
        let indexes: Vec<Option<i32>> = match self.is_indexed() {
            true => (0..self.spec.completions.unwrap_or(0)).filter(|index| !taken.contains(index)).take(missing).map(Some).collect(),
            false => vec![None; missing],
        };
        let mut names = pods::Names::of::<Pod>(&self.job.metadata, self.view);
        for index in indexes {
            let base = index.map_or_else(|| format!("{}-", self.key.name()), |index| format!("{}-{index}-", self.key.name()));
            let name = names.next(&base);
            let pod = self.pod(name.clone(), &base, index);
            self.ops.push(Op::Create(Box::new(pod)));
            self.ops.push(Op::normal(self.job, "SuccessfulCreate", format!("Created pod: {name}")));
        }
    }

    /// How long to wait before a failed pod is replaced: doubled with each failure, from the end of the last one.
    fn backoff(&self) -> Option<Duration> {
        let failed = self.all.iter().filter(|pod| pods::phase(pod) == "Failed");
        let ended = |pod: &Arc<Pod>| {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let finished =
                statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)).max();
            finished.or(pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        };
        let last = failed.filter_map(ended).max()?;
        let doublings = u32::try_from(self.failed().max(1) - 1).unwrap_or(0).min(10);
        pods::remaining(last, (BACKOFF.0 << doublings).min(BACKOFF.1), self.view.now())
    }

    fn pod(&self, name: String, base: &str, index: Option<i32>) -> Pod {
        let mut pod = pods::from_template(&self.spec.template, self.key.namespace(), name, base, controller_ref(self.job));
        pod.metadata.finalizers.get_or_insert_default().push(TRACKING.into());
        let labels = pod.metadata.labels.get_or_insert_default();
        let uid = self.job.metadata.uid.clone().unwrap_or_default();
        for (name, value) in [("controller-uid", uid), ("job-name", self.key.name().to_owned())] {
            labels.insert(format!("batch.kubernetes.io/{name}"), value.clone());
            labels.insert(name.into(), value);
        }
        let Some(index) = index else { return pod };
        labels.insert(INDEX.into(), index.to_string());
        pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname.get_or_insert_with(|| format!("{}-{index}", self.key.name()));
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for container in containers {
            let variable = EnvVar { name: "JOB_COMPLETION_INDEX".into(), value: Some(index.to_string()), value_from: None };
            container.env.get_or_insert_default().push(variable);
        }
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    fn job(spec: &str) -> World {
        let template = "template: {spec: {restartPolicy: Never, containers: [{name: c}]}}";
        World::of(&format!("kind: Job\nmetadata: {{name: j, namespace: default}}\nspec: {{{spec}, {template}}}\n"))
    }

    fn key() -> Key {
        Key::of::<Job>("default", "j")
    }

    fn end(world: &mut World, phase: &str) {
        let running = world.all::<Pod>().into_iter().filter(pods::is_active).filter_map(|pod| pod.metadata.name).collect::<Vec<_>>();
        for name in running {
            world.edit::<Pod>("default", &name, |pod| pod.status.get_or_insert_default().phase = Some(phase.into()));
        }
    }

    fn outcome(world: &World) -> String {
        let status = world.one::<Job>("j").status.unwrap_or_default();
        let last = status.conditions.iter().flatten().rfind(|c| c.status == "True").map(|c| c.type_.clone()).unwrap_or_default();
        format!("{last} {}/{} {}", status.succeeded.unwrap_or(0), status.failed.unwrap_or(0), status.completed_indexes.unwrap_or_default())
    }

    #[test]
    fn pods_of_a_job_that_is_gone_are_let_go() {
        let mut world = job("completions: 1");
        world.settle(&Jobs, &key());
        assert!(world.all::<Pod>().iter().all(has_tracking));
        let mut orphaned = world.clone();
        world.remove(&key());
        world.settle(&Jobs, &key());
        assert!(world.all::<Pod>().iter().all(|pod| !has_tracking(pod)));

        // Orphaned: the reference is gone too.
        let name = orphaned.all::<Pod>()[0].metadata.name.clone().unwrap();
        orphaned.edit::<Pod>("default", &name, |pod| pod.metadata.owner_references = None);
        orphaned.remove(&key());
        orphaned.settle(&Jobs, &key());
        assert!(orphaned.all::<Pod>().iter().all(|pod| !has_tracking(pod)));
    }

    #[test]
    fn runs_to_completion() {
        let mut world = job("completions: 3, parallelism: 2");
        world.settle(&Jobs, &key());
        assert_eq!(world.all::<Pod>().len(), 2);
        end(&mut world, "Succeeded");
        world.settle(&Jobs, &key());
        assert_eq!((world.all::<Pod>().len(), outcome(&world)), (3, " 2/0 ".into()));
        end(&mut world, "Succeeded");
        world.settle(&Jobs, &key());
        assert_eq!(outcome(&world), "Complete 3/0 ");
        assert!(world.all::<Pod>().iter().all(|pod| !has_tracking(pod)));
        assert!(world.events.contains(&"Completed: Job completed".into()));
    }

    #[test]
    fn counts_what_is_deleted_meanwhile() {
        let mut world = job("completions: 2, parallelism: 1");
        for _ in 0..2 {
            world.settle(&Jobs, &key());
            end(&mut world, "Succeeded");
            world.settle(&Jobs, &key());
            for pod in world.all::<Pod>().iter().filter(|pod| pods::is_terminal(pod)) {
                world.remove(&Key::of::<Pod>("default", pod.metadata.name.as_deref().unwrap_or("")));
            }
        }
        assert_eq!(outcome(&world), "Complete 2/0 ");
    }

    #[test]
    fn fails_after_its_back_off() {
        let mut world = job("completions: 1, backoffLimit: 1");
        world.settle(&Jobs, &key());
        end(&mut world, "Failed");
        world.settle(&Jobs, &key());
        assert_eq!(world.step(&Jobs, &key()).again, Some(Duration::from_secs(10)));
        world.wait(Duration::from_secs(20));
        world.settle(&Jobs, &key());
        end(&mut world, "Failed");
        world.settle(&Jobs, &key());
        assert_eq!(outcome(&world), "Failed 0/2 ");
    }

    #[test]
    fn deadline_suspension_and_ttl() {
        let mut world = job("activeDeadlineSeconds: 5, ttlSecondsAfterFinished: 60");
        world.settle(&Jobs, &key());
        world.edit::<Job>("default", "j", |job| job.spec.get_or_insert_default().suspend = Some(true));
        world.settle(&Jobs, &key());
        assert_eq!((world.all::<Pod>().len(), outcome(&world)), (0, "Suspended 0/0 ".into()));
        world.edit::<Job>("default", "j", |job| job.spec.get_or_insert_default().suspend = None);
        world.settle(&Jobs, &key());
        world.wait(Duration::from_secs(6));
        world.settle(&Jobs, &key());
        assert_eq!((world.all::<Pod>().len(), outcome(&world)), (0, "Failed 0/1 ".into()));
        world.wait(Duration::from_secs(61));
        world.step(&Jobs, &key());
        assert_eq!(world.all::<Job>().len(), 0);
    }

    /// While pods are ending the end is decided, but not there yet.
    #[test]
    fn the_last_pods_go_first() {
        let mut world = job("completions: 2, parallelism: 2, backoffLimit: 0");
        world.settle(&Jobs, &key());
        let names: Vec<String> = world.all::<Pod>().into_iter().filter_map(|pod| pod.metadata.name).collect();
        world.edit::<Pod>("default", &names[0], |pod| pod.status.get_or_insert_default().phase = Some("Failed".into()));
        world.edit::<Pod>("default", &names[1], |pod| pod.metadata.finalizers.get_or_insert_default().push("test/held".into()));
        world.settle(&Jobs, &key());
        let status = world.one::<Job>("j").status.unwrap();
        assert_eq!((outcome(&world).as_str(), status.terminating, status.active), ("FailureTarget 0/2 ", Some(1), None));
        assert!(world.events.iter().all(|event| !event.starts_with("BackoffLimitExceeded")));
        world.remove(&Key::of::<Pod>("default", &names[1]));
        world.settle(&Jobs, &key());
        let status = world.one::<Job>("j").status.unwrap();
        assert_eq!((outcome(&world).as_str(), status.terminating), ("Failed 0/2 ", Some(0)));
        assert!(status.conditions.iter().flatten().all(|one| one.reason.as_deref() == Some("BackoffLimitExceeded")));
        assert!(world.events.iter().any(|event| event.starts_with("BackoffLimitExceeded")));
    }

    #[test]
    fn indexed() {
        let mut world = job("completions: 3, parallelism: 3, completionMode: Indexed");
        world.settle(&Jobs, &key());
        let first = world.all::<Pod>().into_iter().find(|pod| index_of(pod) == Some(1)).and_then(|pod| pod.metadata.name).expect("index 1");
        assert!(first.starts_with("j-1-"));
        world.edit::<Pod>("default", &first, |pod| pod.status.get_or_insert_default().phase = Some("Failed".into()));
        world.edit::<Pod>("default", &first, |pod| pod.metadata.creation_timestamp = None);
        world.settle(&Jobs, &key());
        end(&mut world, "Succeeded");
        world.settle(&Jobs, &key());
        assert_eq!(outcome(&world), " 2/1 0,2");
        world.wait(Duration::from_secs(60));
        world.settle(&Jobs, &key());
        end(&mut world, "Succeeded");
        world.settle(&Jobs, &key());
        assert_eq!(outcome(&world), "Complete 3/1 0-2");
        assert_eq!(parse_indexes("0-2,5"), BTreeSet::from([0, 1, 2, 5]));
    }
}
