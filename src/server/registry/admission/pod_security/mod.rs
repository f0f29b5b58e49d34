//! Pods keep to the security standard of their namespace (pod-security-admission, kubernetes `plugin/pkg/admission/security/podsecurity`).
//!
//! Words: a *standard* is a level of a version; a namespace's *policy* says which standard is enforced, which is audited and which is
//! warned of. Only pods are refused; what makes pods is audited and warned of, for its pods will be refused in time.

mod checks;
mod policy;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodTemplate, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Check, Operation, Request, unreadable};
use crate::api::{FieldError, Key, Object, Scope, Status};
use checks::{Subject, Violation, detail, reasons, violations};
use policy::{Level, Policy, Standard};

/// Audit annotations are below this.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// Most pods that are looked at when a namespace becomes stricter.
const MOST_PODS: usize = 3000;
/// Ways to a pod that can't change what it runs.
const HARMLESS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub(super) struct PodSecurity;

impl Check for PodSecurity {
    fn handles(&self, request: &Request<'_>) -> bool {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return false;
        }
        let object = &**request.object;
        match request.subresource() {
            "" => object.as_any().is::<Namespace>() || object.as_any().is::<Pod>() || template(object).is_some(),
            other => object.as_any().is::<Pod>() && !HARMLESS.contains(&other),
        }
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if request.object.as_any().is::<Namespace>() {
            return namespace(request);
        }
        let key = Key::of::<Namespace>("", &request.namespace());
        // A missing namespace is said by another check.
        let Some(entry) = request.snapshot.get(&key) else { return Ok(()) };
        let (policy, errors) = Policy::of(entry.meta().labels.as_ref());
        let is_pod = request.object.as_any().is::<Pod>();
        if errors.is_empty() && (policy.is_privileged() || !is_pod && policy.is_quiet()) {
            return Ok(());
        }
        if let (Some(new), Some(old)) = (request.object.as_any().downcast_ref::<Pod>(), request.old::<Pod>())
            && !is_significant(new, old)
        {
            return Ok(());
        }
        evaluate(request, policy, &errors)
    }
}

/// Judges a pod, or something that makes pods.
fn evaluate(request: &mut Request<'_>, policy: Policy, errors: &[FieldError]) -> Result<(), Status> {
    let nameless = ObjectMeta::default();
    let object = &**request.object;
    let pod = object.as_any().downcast_ref::<Pod>();
    let (meta, spec) = match pod {
        Some(pod) => (&pod.metadata, pod.spec.as_ref()),
        None => {
            let template = template(object).flatten();
            (
                template.and_then(|template| template.metadata.as_ref()).unwrap_or(&nameless),
                template.and_then(|template| template.spec.as_ref()),
            )
        }
    };
    let Some(spec) = spec else { return Ok(()) };
    let subject = Subject { meta, spec };
    let mut notes = BTreeMap::new();
    if !errors.is_empty() {
        notes.insert("error", format!("Failed to parse policy: {}", aggregate(errors)));
    }
    let enforced = pod.map(|_| violations(policy.enforce, subject)).unwrap_or_default();
    if pod.is_some() {
        notes.insert("enforce-policy", policy.enforce.to_string());
    }
    let audited = violations(policy.audit, subject);
    if !audited.is_empty() {
        notes.insert("audit-violations", would_violate(policy.audit, &audited));
    }
    let warned = if enforced.is_empty() { violations(policy.warn, subject) } else { Vec::new() };
    let warning = (!warned.is_empty()).then(|| would_violate(policy.warn, &warned));
    let refusal = (!enforced.is_empty())
        .then(|| request.forbidden(format_args!("violates PodSecurity \"{}\": {}", policy.enforce, detail(&enforced))));
    request.findings.annotations.extend(notes.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value)));
    request.findings.warnings.extend(warning);
    refusal.map_or(Ok(()), Err)
}

fn would_violate(standard: Standard, found: &[Violation]) -> String {
    format!("would violate PodSecurity \"{standard}\": {}", detail(found))
}

/// As Go's aggregated errors: one alone, several in brackets.
fn aggregate(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        several => format!("[{}]", several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// The labels of a namespace must be right, and one that becomes stricter warns of the pods that it already has.
fn namespace(request: &mut Request<'_>) -> Result<(), Status> {
    let (new, errors) = Policy::of(request.object.meta().labels.as_ref());
    let old = request.old.map(|old| Policy::of(old.meta().labels.as_ref()));
    // Labels that were wrong before do not stop other changes.
    if !errors.is_empty() && old.as_ref().is_none_or(|(_, before)| *before != errors) {
        return Err(Status::invalid("", "Namespace", &request.name(), errors));
    }
    let Some((old, _)) = old else { return Ok(()) };
    let (new, old) = (new.enforce, old.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let warnings = existing(request, new)?;
    request.findings.warnings.extend(warnings);
    Ok(())
}

/// Warnings about the pods of a namespace, those with the same fault together.
fn existing(request: &Request<'_>, standard: Standard) -> Result<Vec<String>, Status> {
    let namespace = request.name();
    let scope = Scope::of_namespace::<Pod>(&namespace);
    let total = request.snapshot.range(&scope).count();
    // By fault: the first pod by name, and how many more there are.
    let mut faults: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for entry in request.snapshot.range(&scope).take(MOST_PODS) {
        let pod = entry.typed::<Pod>().map_err(unreadable)?;
        let Some(spec) = &pod.spec else { continue };
        let found = violations(standard, Subject { meta: &pod.metadata, spec });
        if !found.is_empty() {
            let name = entry.key.name().to_owned();
            faults.entry(reasons(&found)).and_modify(|(_, more)| *more += 1).or_insert((name, 0));
        }
    }
    let mut warnings = Vec::new();
    if total > MOST_PODS {
        warnings.push(format!("new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"));
    }
    if !faults.is_empty() {
        warnings.push(format!("existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{standard}\""));
    }
    let mut pods: Vec<String> = faults
        .into_iter()
        .map(|(fault, (name, more))| match more {
            0 => format!("{name}: {fault}"),
            1 => format!("{name} (and 1 other pod): {fault}"),
            more => format!("{name} (and {more} other pods): {fault}"),
        })
        .collect();
    pods.sort();
    warnings.extend(pods);
    Ok(warnings)
}

/// Whether a change of a pod can concern its security: what of it may change is its images, and its ephemeral containers.
fn is_significant(new: &Pod, old: &Pod) -> bool {
    let annotation = |pod: &Pod, key: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
    let seccomp = "seccomp.security.alpha.kubernetes.io/pod";
    let images = |pod: &Pod| -> Vec<(u8, String, Option<String>)> {
        let Some(spec) = &pod.spec else { return Vec::new() };
        let init = spec.init_containers.iter().flatten().map(|container| (0, &container.name, &container.image));
        let usual = spec.containers.iter().map(|container| (1, &container.name, &container.image));
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| (2, &container.name, &container.image));
        init.chain(usual).chain(ephemeral).map(|(sort, name, image)| (sort, name.clone(), image.clone())).collect()
    };
    annotation(new, seccomp) != annotation(old, seccomp) || images(new) != images(old)
}

/// The template of something that makes pods; `None`: it makes none.
fn template(object: &dyn Object) -> Option<Option<&PodTemplateSpec>> {
    let any = object.as_any();
    None.or_else(|| any.downcast_ref::<PodTemplate>().map(|one| one.template.as_ref()))
        .or_else(|| any.downcast_ref::<ReplicationController>().map(|one| one.spec.as_ref().and_then(|spec| spec.template.as_ref())))
        .or_else(|| any.downcast_ref::<ReplicaSet>().map(|one| one.spec.template.as_ref()))
        .or_else(|| any.downcast_ref::<Deployment>().map(|one| Some(&one.spec.template)))
        .or_else(|| any.downcast_ref::<StatefulSet>().map(|one| Some(&one.spec.template)))
        .or_else(|| any.downcast_ref::<DaemonSet>().map(|one| Some(&one.spec.template)))
        .or_else(|| any.downcast_ref::<Job>().map(|one| one.spec.as_ref().map(|spec| &spec.template)))
        .or_else(|| any.downcast_ref::<CronJob>().map(|one| one.spec.job_template.spec.as_ref().map(|spec| &spec.template)))
}
