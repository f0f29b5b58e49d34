//! Rules of a job's spec, also within a CronJob: upstream's `validateJobSpec` (`pkg/apis/batch/validation`) and what it calls.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicyRule,
};

use super::support::path::{Errors, Path};
use super::support::rules;
use super::{pod, workload};
use crate::api::{FieldError, names};

const MAX_INDEXED_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
/// From so many completions on, what counts failures by index is bounded more.
const MANY_COMPLETIONS: i32 = 100_000;
const MAX_OF_MANY: i32 = 10_000;
const MAX_RULES: usize = 20;
const MAX_PATTERNS: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_INDEXES_TEXT: usize = 64 * 1024;
const MAX_MANAGER: usize = 63;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const NEEDS_INDEXES: &str = "requires indexed completion mode";

/// All rules but those of the selector, which a template of jobs may not have.
pub fn check(errors: &mut Errors, path: &Path, spec: &JobSpec) {
    let counts = [
        ("parallelism", spec.parallelism),
        ("completions", spec.completions),
        ("backoffLimit", spec.backoff_limit),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
        ("maxFailedIndexes", spec.max_failed_indexes),
    ];
    workload::counts(errors, path, &counts);
    rules::optional_non_negative(errors, &path.at("activeDeadlineSeconds"), spec.active_deadline_seconds);
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.push(FieldError::required(path.at("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = &spec.managed_by {
        rules::domain_prefixed_path(errors, &path.at("managedBy"), manager);
        if manager.len() > MAX_MANAGER {
            errors.push(FieldError::too_long(path.at("managedBy"), MAX_MANAGER));
        }
    }
    let mode = rules::str_of(&spec.completion_mode);
    if spec.completion_mode.is_some() {
        rules::one_of_listed(errors, &path.at("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    match mode {
        "Indexed" => indexed(errors, path, spec),
        "" | "NonIndexed" => not_indexed(errors, path, spec),
        _ => {}
    }
    failure_policy(errors, &path.at("podFailurePolicy"), spec);
    let replaced = path.at("podReplacementPolicy");
    match rules::str_of(&spec.pod_replacement_policy) {
        "" => {}
        given if spec.pod_failure_policy.is_some() => rules::one_of(errors, &replaced, given, &["Failed"]),
        given => rules::one_of(errors, &replaced, given, &["Failed", "TerminatingOrFailed"]),
    }
    pod::validate::template(errors, &path.at("template"), &spec.template);
    restart_policy(errors, &path.at("template.spec.restartPolicy"), spec);
}

fn restart_policy(errors: &mut Errors, path: &Path, spec: &JobSpec) {
    match spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default() {
        "" | "Always" => errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            errors.push(FieldError::invalid(path, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified"));
        }
        other => rules::one_of_listed(errors, path, other, &["OnFailure", "Never"]),
    }
}

fn indexed(errors: &mut Errors, path: &Path, spec: &JobSpec) {
    let Some(completions) = spec.completions else {
        errors.push(FieldError::required(path.at("completions"), "when completion mode is Indexed"));
        return at_most(errors, &path.at("parallelism"), spec.parallelism, MAX_INDEXED_PARALLELISM, " when completion mode is Indexed");
    };
    at_most(errors, &path.at("parallelism"), spec.parallelism, MAX_INDEXED_PARALLELISM, " when completion mode is Indexed");
    let failed = path.at("maxFailedIndexes");
    if let Some(most) = spec.max_failed_indexes.filter(|most| *most > completions) {
        errors.push(FieldError::invalid(&failed, most, "must be less than or equal to completions"));
    }
    at_most(errors, &failed, spec.max_failed_indexes, MAX_FAILED_INDEXES, "");
    if completions > MANY_COMPLETIONS && spec.backoff_limit_per_index.is_some() {
        let why = format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        if spec.max_failed_indexes.is_none() {
            errors.push(FieldError::required(&failed, format!("must be specified when completions is above {MANY_COMPLETIONS}")));
        }
        at_most(errors, &path.at("parallelism"), spec.parallelism, MAX_OF_MANY, &why);
        at_most(errors, &failed, spec.max_failed_indexes, MAX_OF_MANY, &why);
    }
    if let Some(policy) = &spec.success_policy {
        let path = path.at("successPolicy.rules");
        if policy.rules.is_empty() {
            errors.push(FieldError::required(&path, "at least one rules must be specified when the successPolicy is specified"));
        }
        if policy.rules.len() > MAX_RULES {
            errors.push(rules::too_many(&path, policy.rules.len(), MAX_RULES));
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            success_rule(errors, &path.index(index), rule, completions);
        }
    }
}

fn at_most(errors: &mut Errors, path: &Path, value: Option<i32>, most: i32, when: &str) {
    if let Some(value) = value.filter(|value| *value > most) {
        errors.push(FieldError::invalid(path, value, format!("must be less than or equal to {most}{when}")));
    }
}

fn not_indexed(errors: &mut Errors, path: &Path, spec: &JobSpec) {
    for (field, value) in [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)] {
        if let Some(value) = value {
            errors.push(FieldError::invalid(path.at(field), value, NEEDS_INDEXES));
        }
    }
    if let Some(policy) = &spec.success_policy {
        errors.push(FieldError::invalid(path.at("successPolicy"), policy, NEEDS_INDEXES));
    }
}

fn success_rule(errors: &mut Errors, path: &Path, rule: &SuccessPolicyRule, completions: i32) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        errors.push(FieldError::required(path, "at least one of succeededCount or succeededIndexes must be specified"));
    }
    let mut named = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let path = path.at("succeededIndexes");
        if text.len() > MAX_INDEXES_TEXT {
            errors.push(FieldError::too_long(&path, MAX_INDEXES_TEXT));
        }
        match indexes(text, completions) {
            Ok(count) => named = count,
            Err(why) => errors.push(FieldError::invalid(&path, text, format!("error parsing succeededIndexes: {why}"))),
        }
    }
    if let Some(count) = rule.succeeded_count {
        let path = path.at("succeededCount");
        rules::non_negative(errors, &path, count);
        at_most(errors, &path, Some(count), completions, " (the number of specified completions)");
        if rule.succeeded_indexes.is_some() {
            at_most(errors, &path, Some(count), named, " (the number of indexes in the specified succeededIndexes field)");
        }
    }
}

/// How many indexes a text such as `1,3-5,7` names.
pub fn indexes(text: &str, completions: i32) -> Result<i32, String> {
    let (mut last, mut total) = (None, 0);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = index_interval(part, completions)?;
        last.map_or(Ok(()), |last| increasing(last, from))?;
        last = Some(to);
        total += to - from + 1;
    }
    Ok(total)
}

fn increasing(before: i32, now: i32) -> Result<(), String> {
    if before < now { Ok(()) } else { Err(format!("non-increasing order, previous: {before}, current: {now}")) }
}

/// The first and last index of a part of such a text.
pub fn index_interval(part: &str, completions: i32) -> Result<(i32, i32), String> {
    let number = |text: &str| {
        let index: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        let fits = i32::try_from(index).ok().filter(|index| *index < completions);
        fits.ok_or_else(|| format!("too large index: {text:?}"))
    };
    let parts: Vec<&str> = part.split('-').collect();
    match parts.as_slice() {
        [one] => number(one).map(|one| (one, one)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            increasing(from, to)?;
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

fn failure_policy(errors: &mut Errors, path: &Path, spec: &JobSpec) {
    let Some(policy) = &spec.pod_failure_policy else { return };
    let path = path.at("rules");
    if policy.rules.len() > MAX_RULES {
        errors.push(rules::too_many(&path, policy.rules.len(), MAX_RULES));
    }
    let pod = rules::part(&spec.template.spec);
    let containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    let containers: Vec<&str> = containers.map(|container| container.name.as_str()).collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        failure_rule(errors, &path.index(index), rule, spec, &containers);
    }
}

/// Upstream's way of listing what a missing value could be.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn listed_one_of(errors: &mut Errors, path: &Path, value: &str, allowed: &[&str]) {
    if value.is_empty() {
        errors.push(FieldError::required(path, listed(allowed)));
    } else {
        rules::one_of(errors, path, value, allowed);
    }
}

fn failure_rule(errors: &mut Errors, path: &Path, rule: &PodFailurePolicyRule, spec: &JobSpec, containers: &[&str]) {
    listed_one_of(errors, &path.at("action"), &rule.action, ACTIONS);
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        errors.push(FieldError::invalid(path.at("action"), &rule.action, "requires the backoffLimitPerIndex to be set"));
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(errors, &path.at("onExitCodes"), codes, containers);
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    pod_conditions(errors, &path.at("onPodConditions"), patterns);
    let why = match (rule.on_exit_codes.is_some(), !patterns.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(FieldError::invalid_without_value(path, why));
}

fn exit_codes(errors: &mut Errors, path: &Path, codes: &PodFailurePolicyOnExitCodesRequirement, containers: &[&str]) {
    listed_one_of(errors, &path.at("operator"), &codes.operator, OPERATORS);
    if let Some(name) = codes.container_name.as_deref().filter(|name| !containers.contains(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(path.at("containerName"), name, why));
    }
    let (path, values) = (path.at("values"), &codes.values);
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, values, "at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(rules::too_many(&path, values.len(), MAX_EXIT_CODES));
    }
    for (index, value) in values.iter().enumerate() {
        if codes.operator == "In" && *value == 0 {
            errors.push(FieldError::invalid(path.index(index), value, "must not be 0 for the In operator"));
        }
        if values[..index].contains(value) {
            errors.push(FieldError::duplicate(path.index(index), value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&path, values, "must be ordered"));
    }
}

fn pod_conditions(errors: &mut Errors, path: &Path, patterns: &[PodFailurePolicyOnPodConditionsPattern]) {
    if patterns.len() > MAX_PATTERNS {
        errors.push(rules::too_many(path, patterns.len(), MAX_PATTERNS));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        rules::syntax(errors, &path.at("type"), &pattern.type_, names::qualified);
        listed_one_of(errors, &path.at("status"), rules::str_of(&pattern.status), STATUSES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted() {
        let table = [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("1,3-5,9", Ok(5)),
            ("0-9", Ok(10)),
            ("10", Err("too large index: \"10\"")),
            ("0-10", Err("too large index: \"10\"")),
            ("99999999999", Err("too large index: \"99999999999\"")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
            ("1-", Err("cannot convert string to integer for index: \"\"")),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("1,1", Err("non-increasing order, previous: 1, current: 1")),
            ("3-2", Err("non-increasing order, previous: 3, current: 2")),
            (
                "1-2-3",
                Err("the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'"),
            ),
        ];
        for (text, want) in table {
            assert_eq!(indexes(text, 10), want.map_err(str::to_owned), "{text}");
        }
    }
}
