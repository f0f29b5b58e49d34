//! Rules of a job's status, and of how it may change: upstream's `validateJobStatus` and `ValidateJobStatusUpdate`
//! (`pkg/apis/batch/validation`) with the options that `pkg/registry/batch/job` chooses for each update.
//!
//! Words: a job is *finished* when it is `Complete` or `Failed`. Most rules hold only where what they are about changes, so that a status
//! that was wrong before, or became so when the spec changed, can still be written.

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::job_rules::{index_interval, indexes};
use super::support::path::{Errors, Path};
use super::support::rules;
use crate::api::FieldError;

/// What the rules ask of a job.
struct State {
    spec: JobSpec,
    status: JobStatus,
    complete: bool,
    failed: bool,
    failure_target: bool,
    success_criteria: bool,
    active: i32,
    completed_indexes: String,
    uncounted: UncountedTerminatedPods,
}

impl State {
    fn of(job: &Job) -> State {
        let status = rules::part(&job.status).into_owned();
        let is = |kind: &str| status.conditions.iter().flatten().any(|one| one.type_ == kind && one.status == "True");
        State {
            spec: rules::part(&job.spec).into_owned(),
            complete: is("Complete"),
            failed: is("Failed"),
            failure_target: is("FailureTarget"),
            success_criteria: is("SuccessCriteriaMet"),
            active: status.active.unwrap_or_default(),
            completed_indexes: status.completed_indexes.clone().unwrap_or_default(),
            uncounted: status.uncounted_terminated_pods.clone().unwrap_or_default(),
            status,
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }

    fn is_indexed(&self) -> bool {
        rules::str_of(&self.spec.completion_mode) == "Indexed"
    }
}

/// Every violated rule of a status that replaces the one of `old`.
pub fn check(job: &Job, old: &Job) -> Errors {
    let (now, was, path) = (State::of(job), State::of(old), Path::new("status"));
    let mut errors = Errors::new();
    counts(&mut errors, &path, &now);
    conditions(&mut errors, &path, &now, &was);
    times(&mut errors, &path, &now, &was);
    finish(&mut errors, &path, &now, &was);
    finished_indexes(&mut errors, &path, &now, &was);
    transitions(&mut errors, &path, &now, &was);
    errors
}

fn counts(errors: &mut Errors, path: &Path, now: &State) {
    let status = &now.status;
    let counts = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (field, value) in counts {
        rules::non_negative(errors, &path.at(field), value.unwrap_or_default());
    }
    let path = path.at("uncountedTerminatedPods");
    let mut seen: Vec<&String> = Vec::new();
    for (field, uids) in [("succeeded", &now.uncounted.succeeded), ("failed", &now.uncounted.failed)] {
        for (index, uid) in uids.iter().flatten().enumerate() {
            let path = path.at(field).index(index);
            match () {
                () if uid.is_empty() => errors.push(FieldError::invalid(path, uid, "must not be empty")),
                () if seen.contains(&uid) => errors.push(FieldError::duplicate(path, uid)),
                () => seen.push(uid),
            }
        }
    }
}

/// Which conditions exclude or need each other.
fn conditions(errors: &mut Errors, path: &Path, now: &State, was: &State) {
    let complete = now.complete != was.complete;
    let failed = now.failed != was.failed;
    let failure_target = now.failure_target != was.failure_target;
    let success_criteria = now.success_criteria != was.success_criteria;
    let table = [
        (complete || failed, now.complete && now.failed, "cannot set Complete=True and Failed=true conditions"),
        (complete || failure_target, now.complete && now.failure_target, "cannot set Complete=True and FailureTarget=true conditions"),
        (
            failed || failure_target,
            now.failed && !now.failure_target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete || success_criteria,
            now.complete && !now.success_criteria,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (true, now.success_criteria && now.failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (true, now.success_criteria && now.failure_target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (
            true,
            now.spec.success_policy.is_some() && now.complete && !now.success_criteria,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
        (true, was.failed && !now.failed, "cannot disable the terminal Failed=True condition"),
        (true, was.complete && !now.complete, "cannot disable the terminal Complete=True condition"),
        (true, was.failure_target && !now.failure_target, "cannot disable the terminal FailureTarget=True condition"),
        (true, was.success_criteria && !now.success_criteria, "cannot disable the SuccessCriteriaMet=True condition"),
        (
            true,
            was.complete && !was.success_criteria && now.success_criteria,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        ),
    ];
    let broken = table.iter().filter(|(due, broken, _)| *due && *broken);
    errors.extend(broken.map(|(.., why)| FieldError::invalid_without_value(path.at("conditions"), why)));
}

fn times(errors: &mut Errors, path: &Path, now: &State, was: &State) {
    let (start, completion) = (&now.status.start_time, &now.status.completion_time);
    let started = *start != was.status.start_time;
    let completed = *completion != was.status.completion_time;
    let due = completed || now.complete != was.complete;
    let mut wrong = |time: &Time, why| errors.push(FieldError::invalid(path.at("completionTime"), time, why));
    if let Some(time) = completion {
        if due && !now.complete {
            wrong(time, "cannot set completionTime when there is no Complete=True condition");
        }
        if (started || completed) && start.as_ref().is_some_and(|start| time.0 < start.0) {
            wrong(time, "completionTime cannot be set before startTime");
        }
        if completed && was.status.completion_time.is_some() {
            wrong(time, "completionTime cannot be mutated");
        }
    } else if due && now.complete {
        errors.push(FieldError::required(path.at("completionTime"), "completionTime is required for Complete jobs"));
    }
    if started && was.status.start_time.is_some() && now.spec.suspend != Some(true) {
        errors.push(FieldError::required(path.at("startTime"), "startTime cannot be removed for unsuspended job"));
    }
}

/// What a finished job has, and has not.
fn finish(errors: &mut Errors, path: &Path, now: &State, was: &State) {
    let (status, before) = (&now.status, &was.status);
    if status.ready.is_some_and(|ready| ready > now.active) && (status.ready != before.ready || now.active != was.active) {
        errors.push(FieldError::invalid(path.at("ready"), status.ready, "cannot set more ready pods than active"));
    }
    if !now.finished() {
        return;
    }
    let finished = !was.finished();
    if now.active > 0 && (finished || now.active != was.active) {
        errors.push(FieldError::invalid(path.at("active"), now.active, "active>0 is invalid for finished job"));
    }
    if status.terminating.is_some_and(|count| count > 0) && (finished || status.terminating != before.terminating) {
        errors.push(FieldError::invalid(path.at("terminating"), status.terminating, "terminating>0 is invalid for finished job"));
    }
    if status.start_time.is_none() && (finished || before.start_time.is_some()) {
        errors.push(FieldError::required(path.at("startTime"), "startTime is required for finished job"));
    }
    let some = [&now.uncounted.succeeded, &now.uncounted.failed].into_iter().flatten().any(|uids| !uids.is_empty());
    if some && (finished || now.uncounted != was.uncounted) {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        errors.push(FieldError::invalid(path.at("uncountedTerminatedPods"), &now.uncounted, why));
    }
}

fn finished_indexes(errors: &mut Errors, path: &Path, now: &State, was: &State) {
    let (completed, failed) = (&now.completed_indexes, &now.status.failed_indexes);
    let completed_changed = *completed != was.completed_indexes;
    let failed_changed = *failed != was.status.failed_indexes;
    let mut wrong = |field: &str, value: &str, why: String| errors.push(FieldError::invalid(path.at(field), value, why));
    if completed_changed {
        if let Some(Err(why)) = now.spec.completions.map(|completions| indexes(completed, completions)) {
            wrong("completedIndexes", completed, format!("error parsing completedIndexes: {why}"));
        }
        if !completed.is_empty() && !now.is_indexed() {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            wrong("completedIndexes", completed, why.into());
        }
    }
    let Some(failed) = failed else { return };
    if failed_changed {
        match (now.spec.backoff_limit_per_index, now.spec.completions) {
            (None, _) => wrong("failedIndexes", failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null".into()),
            (Some(_), Some(completions)) => {
                if let Err(why) = indexes(failed, completions) {
                    wrong("failedIndexes", failed, format!("error parsing failedIndexes: {why}"));
                }
            }
            (Some(_), None) => {}
        }
    }
    if (completed_changed || failed_changed)
        && let Some(index) = now.spec.completions.and_then(|completions| overlap(completed, failed, completions))
    {
        wrong("failedIndexes", failed, format!("failedIndexes and completedIndexes overlap at index: {index}"));
    }
}

/// The first index that both texts name. What can't be read is reported elsewhere.
fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i32> {
    let intervals = |text| str::split(text, ',').filter_map(move |part| index_interval(part, completions).ok()).peekable();
    let (mut completed, mut failed) = (intervals(completed), intervals(failed));
    while let (Some(one), Some(other)) = (completed.peek(), failed.peek()) {
        if one.0 <= other.1 && other.0 <= one.1 {
            return Some(one.0.max(other.0));
        }
        if one.0 <= other.0 {
            completed.next()
        } else {
            failed.next()
        };
    }
    None
}

fn transitions(errors: &mut Errors, path: &Path, now: &State, was: &State) {
    let count = |value: Option<i32>| value.unwrap_or_default();
    let (failed, succeeded) = (count(now.status.failed), count(now.status.succeeded));
    if failed < count(was.status.failed) {
        errors.push(FieldError::invalid(path.at("failed"), failed, "cannot decrease the failed counter"));
    }
    // Such a job may be scaled down, and has fewer completions then.
    let elastic = now.is_indexed() && now.spec.completions == now.spec.parallelism;
    if succeeded < count(was.status.succeeded) && !elastic {
        errors.push(FieldError::invalid(path.at("succeeded"), succeeded, "cannot decrease the succeeded counter"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &str, status: &str) -> Job {
        serde_yaml::from_str(&format!("{{spec: {{template: {{}}, {spec}}}, status: {{{status}}}}}")).expect("test job")
    }

    /// A condition that is true.
    fn set(kinds: &[&str]) -> String {
        let list: Vec<String> = kinds.iter().map(|kind| format!("{{type: {kind}, status: 'True'}}")).collect();
        format!("conditions: [{}]", list.join(", "))
    }

    /// Spec, status before, status after, what is wrong.
    type Case = (&'static str, String, String, &'static [&'static str]);

    fn check_all(table: Vec<Case>) {
        for (spec, before, after, want) in table {
            let errors: Vec<String> = check(&job(spec, &after), &job(spec, &before)).iter().map(FieldError::to_string).collect();
            assert_eq!(errors, want, "{spec}: {before} -> {after}");
        }
    }

    const START: &str = "startTime: '2026-01-01T00:00:00Z'";
    const DONE: &str = "startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:01:00Z'";

    #[test]
    fn counts_and_uids() {
        check_all(vec![
            ("", String::new(), "active: 1, ready: 1, terminating: 2".into(), &[]),
            (
                "",
                String::new(),
                "active: -1, failed: -2, ready: -1".into(),
                &[
                    "status.active: Invalid value: -1: must be greater than or equal to 0",
                    "status.failed: Invalid value: -2: must be greater than or equal to 0",
                    "status.ready: Invalid value: -1: must be greater than or equal to 0",
                    "status.failed: Invalid value: -2: cannot decrease the failed counter",
                ],
            ),
            (
                "",
                String::new(),
                "uncountedTerminatedPods: {succeeded: [a, ''], failed: [b, a]}".into(),
                &[
                    "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
                    "status.uncountedTerminatedPods.failed[1]: Duplicate value: \"a\"",
                ],
            ),
            (
                "",
                "active: 2".into(),
                "active: 1, ready: 2".into(),
                &["status.ready: Invalid value: 2: cannot set more ready pods than active"],
            ),
            ("", "active: 1, ready: 2".into(), "active: 1, ready: 2, failed: 1".into(), &[]),
            (
                "",
                "failed: 2, succeeded: 2".into(),
                "failed: 1, succeeded: 1".into(),
                &[
                    "status.failed: Invalid value: 1: cannot decrease the failed counter",
                    "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter",
                ],
            ),
            ("completionMode: Indexed, completions: 1, parallelism: 1", "succeeded: 2".into(), "succeeded: 1".into(), &[]),
            (
                "completionMode: Indexed, completions: 1, parallelism: 2",
                "succeeded: 2".into(),
                "succeeded: 1".into(),
                &["status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"],
            ),
        ]);
    }

    #[test]
    fn conditions_go_together() {
        let complete = format!("{DONE}, {}", set(&["SuccessCriteriaMet", "Complete"]));
        let failed = format!("{START}, {}", set(&["FailureTarget", "Failed"]));
        check_all(vec![
            ("", String::new(), complete.clone(), &[]),
            ("", String::new(), failed.clone(), &[]),
            ("", START.into(), format!("{START}, {}", set(&["FailureTarget"])), &[]),
            (
                "",
                START.into(),
                format!("{DONE}, {}", set(&["Complete", "Failed"])),
                &[
                    "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
                    "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                    "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                ],
            ),
            (
                "",
                START.into(),
                format!("{START}, {}", set(&["SuccessCriteriaMet", "FailureTarget"])),
                &["status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"],
            ),
            (
                "",
                complete.clone(),
                DONE.into(),
                &[
                    "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                    "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
                    "status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no Complete=True condition",
                ],
            ),
            (
                "",
                failed,
                START.into(),
                &[
                    "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
                    "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                ],
            ),
            // Old jobs, which completed before there was such a criterion.
            ("", format!("{DONE}, {}", set(&["Complete"])), format!("{DONE}, {}", set(&["Complete", "Other"])), &[]),
            (
                "",
                format!("{DONE}, {}", set(&["Complete"])),
                complete,
                &["status.conditions: Invalid value: cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"],
            ),
        ]);
    }

    #[test]
    fn times_of_jobs() {
        let complete = set(&["SuccessCriteriaMet", "Complete"]);
        check_all(vec![
            (
                "",
                String::new(),
                complete.clone(),
                &[
                    "status.completionTime: Required value: completionTime is required for Complete jobs",
                    "status.startTime: Required value: startTime is required for finished job",
                ],
            ),
            (
                "",
                String::new(),
                format!("startTime: '2026-01-01T00:02:00Z', completionTime: '2026-01-01T00:01:00Z', {complete}"),
                &["status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": completionTime cannot be set before startTime"],
            ),
            (
                "",
                format!("{DONE}, {complete}"),
                format!("{START}, completionTime: '2026-01-01T00:03:00Z', {complete}"),
                &["status.completionTime: Invalid value: \"2026-01-01T00:03:00Z\": completionTime cannot be mutated"],
            ),
            ("", START.into(), String::new(), &["status.startTime: Required value: startTime cannot be removed for unsuspended job"]),
            ("suspend: true", START.into(), String::new(), &[]),
            ("", String::new(), START.into(), &[]),
        ]);
    }

    #[test]
    fn finished_jobs_have_no_pods_left() {
        let failed = format!("{START}, {}", set(&["FailureTarget", "Failed"]));
        check_all(vec![
            (
                "",
                START.into(),
                format!("active: 1, terminating: 1, uncountedTerminatedPods: {{failed: [a]}}, {failed}"),
                &[
                    "status.active: Invalid value: 1: active>0 is invalid for finished job",
                    "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
                    "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"a\"]}: uncountedTerminatedPods needs to be empty for finished job",
                ],
            ),
            ("", format!("active: 1, {failed}"), format!("active: 1, failed: 3, {failed}"), &[]),
            (
                "",
                format!("active: 2, {failed}"),
                format!("active: 1, {failed}"),
                &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
            ),
        ]);
    }

    #[test]
    fn indexes_that_ended() {
        let indexed = "completionMode: Indexed, completions: 5, parallelism: 1";
        let counted = "completionMode: Indexed, completions: 5, parallelism: 1, backoffLimitPerIndex: 1";
        check_all(vec![
            (indexed, String::new(), "completedIndexes: 0-2,4".into(), &[]),
            (
                indexed,
                String::new(),
                "completedIndexes: 0-5".into(),
                &["status.completedIndexes: Invalid value: \"0-5\": error parsing completedIndexes: too large index: \"5\""],
            ),
            // As it was, though the job was scaled down since.
            (indexed, "completedIndexes: 0-5".into(), "completedIndexes: 0-5, failed: 1".into(), &[]),
            (
                "completions: 5",
                String::new(),
                "completedIndexes: '1'".into(),
                &["status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed completion mode"],
            ),
            (
                indexed,
                String::new(),
                "failedIndexes: '1'".into(),
                &["status.failedIndexes: Invalid value: \"1\": cannot set non-null failedIndexes when backoffLimitPerIndex is null"],
            ),
            (
                counted,
                String::new(),
                "failedIndexes: 3-1".into(),
                &[
                    "status.failedIndexes: Invalid value: \"3-1\": error parsing failedIndexes: non-increasing order, previous: 3, current: 1",
                ],
            ),
            (
                counted,
                String::new(),
                "completedIndexes: 0,2, failedIndexes: 1,3-4".replace("0,2", "'0,2'").replace("1,3-4", "'1,3-4'"),
                &[],
            ),
            (
                counted,
                "completedIndexes: '0'".into(),
                "completedIndexes: '0,2-4', failedIndexes: '1,3'".into(),
                &["status.failedIndexes: Invalid value: \"1,3\": failedIndexes and completedIndexes overlap at index: 3"],
            ),
        ]);
        assert_eq!(overlap("", "1", 5), None);
        assert_eq!(overlap("x,1-3", "0,2", 5), Some(2));
    }
}
