//! What may change in a pod that exists: upstream's `ValidatePodUpdate`.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};

use super::validate;
use crate::api::FieldError;
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

const FROZEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
     `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
     (allow it to be set to 1 if it was previously negative)";

/// The rules of a pod, and of the change to it.
pub fn check(new: &Pod, old: &Pod) -> Errors {
    let path = Path::new("spec");
    let (new_spec, old_spec) = (rules::part(&new.spec), rules::part(&old.spec));
    let mut errors = validate::pod(new);
    // Set through their own subresource, so they are legal here as long as they stay.
    errors.retain(|error| error.field != "spec.ephemeralContainers");
    for (field, new_list, old_list) in [
        ("containers", new_spec.containers.as_slice(), old_spec.containers.as_slice()),
        ("initContainers", list(&new_spec.init_containers), list(&old_spec.init_containers)),
    ] {
        if new_list.len() != old_list.len() {
            errors.push(FieldError::forbidden(path.at(field), "pod updates may not add or remove containers"));
            return errors;
        }
    }
    check_deadline(&mut errors, &path.at("activeDeadlineSeconds"), new_spec.active_deadline_seconds, old_spec.active_deadline_seconds);
    check_tolerations(&mut errors, &path.at("tolerations"), list(&new_spec.tolerations), list(&old_spec.tolerations));
    let gates = |spec: &PodSpec| spec.scheduling_gates.clone().unwrap_or_default();
    for gate in gates(&new_spec).iter().filter(|gate| !gates(&old_spec).contains(gate)) {
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
        errors.push(FieldError::forbidden(path.at("schedulingGates").index(0), why));
    }
    if mutable_parts_of(&old_spec, &new_spec, !gates(&old_spec).is_empty()) != *old_spec {
        errors.push(FieldError::forbidden(&path, FROZEN));
    }
    errors
}

fn list<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// `new` with all that may change taken from `old`: then nothing may differ.
fn mutable_parts_of(old: &PodSpec, new: &PodSpec, gated: bool) -> PodSpec {
    let mut spec = new.clone();
    let images = |containers: &mut [Container], from: &[Container]| {
        for (container, old) in containers.iter_mut().zip(from) {
            container.image.clone_from(&old.image);
        }
    };
    images(&mut spec.containers, &old.containers);
    if let (Some(containers), Some(from)) = (&mut spec.init_containers, &old.init_containers) {
        images(containers, from);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    // The binding of a pod is an edit of it; who may bind is the business of the route and of authorization.
    if rules::str_of(&old.node_name).is_empty() {
        spec.node_name.clone_from(&old.node_name);
    }
    let negative = old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0);
    if negative && new.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    // A gated pod may be told more narrowly where to go.
    if gated && node_selector_only_grows(old, new) {
        spec.node_selector.clone_from(&old.node_selector);
    }
    if gated && old.affinity.as_ref().is_none_or(|affinity| affinity.node_affinity.is_none()) {
        let node_affinity = old.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
        if let Some(affinity) = &mut spec.affinity {
            affinity.node_affinity = node_affinity;
            if *affinity == Default::default() && old.affinity.is_none() {
                spec.affinity = None;
            }
        }
    }
    spec
}

fn node_selector_only_grows(old: &PodSpec, new: &PodSpec) -> bool {
    old.node_selector.iter().flatten().all(|(key, value)| new.node_selector.as_ref().and_then(|map| map.get(key)) == Some(value))
}

/// A deadline may be set, or brought forward.
fn check_deadline(errors: &mut Errors, path: &Path, new: Option<i64>, old: Option<i64>) {
    match (new, old) {
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(path, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => errors.push(FieldError::invalid(path, (), "must not update from a positive integer to nil value")),
        _ => {}
    }
}

/// Tolerations may be added, and the seconds of one changed.
fn check_tolerations(errors: &mut Errors, path: &Path, new: &[Toleration], old: &[Toleration]) {
    let without_seconds = |one: &Toleration| Toleration { toleration_seconds: None, ..one.clone() };
    let kept = |one: &Toleration| new.iter().any(|other| without_seconds(other) == without_seconds(one));
    if !old.iter().all(kept) {
        errors.push(FieldError::forbidden(path, "existing toleration can not be modified except its tolerationSeconds"));
    }
}

/// What is decided once stays.
pub fn check_status(new: &Pod, old: &Pod) -> Errors {
    let mut errors = Errors::new();
    let (path, new_status, old_status) = (Path::new("status"), rules::part(&new.status), rules::part(&old.status));
    if new_status.qos_class != old_status.qos_class && old_status.qos_class.is_some() {
        errors.push(FieldError::invalid(path.at("qosClass"), &new_status.qos_class, rules::IMMUTABLE));
    }
    let nominated = rules::str_of(&new_status.nominated_node_name);
    if !nominated.is_empty()
        && let Err(why) = crate::api::names::subdomain(nominated)
    {
        errors.push(FieldError::invalid(path.at("nominatedNodeName"), nominated, why));
    }
    errors
}
