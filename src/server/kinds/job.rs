//! Job: pods that run to completion.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Affinity, Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::support::path::{Errors, Path};
use super::support::{duration, print, rules};
use super::{job_rules, job_status_rules, pod, workload};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::{Info, Strategy, Subresource};

/// The labels by which a job finds its pods; made of the job's uid and name unless `manualSelector` is set.
const UID_LABELS: &[&str] = &["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: &[&str] = &["batch.kubernetes.io/job-name", "job-name"];

impl Strategy for Job {
    const INFO: Info = Info { singular: "job", categories: &["all"], subresources: &[Subresource::Status], ..Info::NAMESPACED };
    const FIELDS: &'static [&'static str] = &["status.successful"];

    fn field(&self, path: &str) -> Option<String> {
        (path == "status.successful").then(|| rules::part(&self.status).succeeded.unwrap_or_default().to_string())
    }

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_spec(spec);
        let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        if self.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) && labels.is_some() {
            self.metadata.labels = labels;
        }
    }

    separate_status!(updates);

    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
        // The registry has given the uid by now.
        let spec = self.spec.get_or_insert_default();
        if spec.manual_selector != Some(true)
            && let (Some(uid), Some(name)) = (&self.metadata.uid, &self.metadata.name)
        {
            generate_selector(spec, uid, name);
        }
    }

    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        job_rules::check(&mut errors, &path, &spec);
        let selected = spec.selector.as_ref();
        let template_labels = workload::template_labels(&spec.template);
        match selected {
            None => errors.push(FieldError::required(path.at("selector"), "")),
            Some(selector) => {
                rules::label_selector(&mut errors, &path.at("selector"), Some(selector));
                if !rules::selects(selector, template_labels) {
                    let shown = template_labels.cloned().unwrap_or_default();
                    errors.push(FieldError::invalid(
                        path.at("template.metadata.labels"),
                        shown,
                        "`selector` does not match template `labels`",
                    ));
                }
            }
        }
        match old {
            Some(old) => check_update(&mut errors, &path, &spec, old),
            None => check_hostname(&mut errors, self.metadata.name.as_deref().unwrap_or_default(), &spec),
        }
        errors
    }

    fn validate_status(&self, old: &Self) -> Errors {
        job_status_rules::check(self, old)
    }

    columns!(Job;
        "Status" string: "What became of it." => |job, _| print::text(status(job)),
        "Completions" string: "Pods that succeeded, of the wanted." => |job, _| print::text(completions(job)),
        "Duration" string: "How long it took." => |job, now| {
            let status = rules::part(&job.status);
            let start = status.start_time.as_ref().map(|time| time.0);
            let end = status.completion_time.as_ref().map_or(now, |time| time.0);
            print::text(start.map_or_else(String::new, |start| duration::human(end.duration_since(start).as_secs())))
        },
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." =>
            |one, _| print::container_names(print::containers_of(Some(&rules::part(&one.spec).template))),
        "Images" string wide: "Their images." =>
            |one, _| print::container_images(print::containers_of(Some(&rules::part(&one.spec).template))),
        "Selector" string wide: "Which pods are its." => |one, _| print::text(print::selector(rules::part(&one.spec).selector.as_ref())),
    );
}

/// Defaults of a job's spec, also within a CronJob.
pub fn default_spec(spec: &mut JobSpec) {
    pod::defaults::template(&mut spec.template);
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit.get_or_insert(if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 });
    spec.completion_mode.get_or_insert_with(|| "NonIndexed".into());
    spec.suspend.get_or_insert(false);
    spec.manual_selector.get_or_insert(false);
    let policy = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    spec.pod_replacement_policy.get_or_insert_with(|| policy.into());
    for rule in spec.pod_failure_policy.iter_mut().flat_map(|policy| policy.rules.iter_mut()) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            if rules::str_of(&pattern.status).is_empty() {
                pattern.status = Some("True".into());
            }
        }
    }
}

fn generate_selector(spec: &mut JobSpec, uid: &str, name: &str) {
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for (keys, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for key in keys {
            labels.entry((*key).into()).or_insert_with(|| value.into());
        }
    }
    let selector = spec.selector.get_or_insert_with(LabelSelector::default);
    selector.match_labels.get_or_insert_default().entry(UID_LABELS[0].into()).or_insert_with(|| uid.into());
}

/// Pods of an indexed job bear the job's name and their index as host name.
fn check_hostname(errors: &mut Errors, name: &str, spec: &JobSpec) {
    let last = spec.completions.filter(|count| *count > 0 && rules::str_of(&spec.completion_mode) == "Indexed").map(|count| count - 1);
    if let Some(host) = last.map(|last| format!("{name}-{last}")).filter(|host| names::label(host).is_err()) {
        let why = format!("will not able to create pod with invalid DNS label: {host}");
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
}

fn check_update(errors: &mut Errors, path: &Path, spec: &JobSpec, old: &Job) {
    let old_spec = rules::part(&old.spec);
    let indexed = rules::str_of(&spec.completion_mode) == "Indexed";
    let was = &old_spec.completions;
    match (indexed, spec.completions) {
        (false, _) => rules::immutable(errors, &path.at("completions"), &spec.completions, was),
        // An indexed job may grow and shrink together with its parallelism.
        (true, Some(now)) if Some(now) != *was && Some(now) != spec.parallelism => {
            let why = "can only be modified in tandem with spec.parallelism";
            errors.push(FieldError::invalid(path.at("completions"), now, why));
        }
        (true, _) => {}
    }
    rules::immutable(errors, &path.at("selector"), &spec.selector, &old_spec.selector);
    check_template_update(errors, path, spec, &old_spec, old);
    rules::immutable(errors, &path.at("completionMode"), &spec.completion_mode, &old_spec.completion_mode);
    rules::immutable(errors, &path.at("podFailurePolicy"), &spec.pod_failure_policy, &old_spec.pod_failure_policy);
    rules::immutable(errors, &path.at("backoffLimitPerIndex"), &spec.backoff_limit_per_index, &old_spec.backoff_limit_per_index);
    rules::immutable(errors, &path.at("managedBy"), &spec.managed_by, &old_spec.managed_by);
    rules::immutable(errors, &path.at("successPolicy"), &spec.success_policy, &old_spec.success_policy);
}

/// A suspended job whose pods are gone may still change where its next ones go, and what they get (KEP-2926, KEP-5440).
fn check_template_update(errors: &mut Errors, path: &Path, spec: &JobSpec, old_spec: &JobSpec, old: &Job) {
    let mut template = old_spec.template.clone();
    let status = rules::part(&old.status);
    if old_spec.suspend == Some(true) && (status.start_time.is_none() || status.active.unwrap_or_default() == 0) {
        template.metadata.clone_from(&spec.template.metadata);
        allow_changes(template.spec.get_or_insert_default(), &rules::part(&spec.template.spec));
    }
    if template != spec.template {
        errors.push(FieldError::invalid(path.at("template"), &spec.template, rules::IMMUTABLE));
    }
}

/// Takes over what may change.
fn allow_changes(old: &mut PodSpec, new: &PodSpec) {
    let node_affinity = new.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let mut affinity = old.affinity.take().unwrap_or_default();
    affinity.node_affinity = node_affinity;
    // Nothing and an empty one mean the same, where there was none or only what may change.
    old.affinity = (affinity != Affinity::default() || new.affinity.is_some()).then_some(affinity);
    old.node_selector.clone_from(&new.node_selector);
    old.tolerations.clone_from(&new.tolerations);
    old.scheduling_gates.clone_from(&new.scheduling_gates);
    let containers = |list: &mut [Container], new: &[Container]| {
        for (old, new) in list.iter_mut().zip(new) {
            let claims = old.resources.take().and_then(|resources| resources.claims);
            old.resources = new.resources.clone().map(|resources| ResourceRequirements { claims: claims.clone(), ..resources });
            if claims.is_some() {
                old.resources.get_or_insert_default().claims = claims;
            }
        }
    };
    containers(&mut old.containers, &new.containers);
    containers(old.init_containers.as_deref_mut().unwrap_or_default(), new.init_containers.as_deref().unwrap_or_default());
}

fn status(job: &Job) -> &'static str {
    let status = rules::part(&job.status);
    let is = |kind: &str| status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True");
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if job.metadata.deletion_timestamp.is_some() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Job) -> String {
    let (spec, succeeded) = (rules::part(&job.spec), rules::part(&job.status).succeeded.unwrap_or_default());
    match (spec.completions, spec.parallelism.unwrap_or_default()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}
