//! What may change in a pod that exists: upstream's `ValidatePodUpdate`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Affinity, Container, ContainerStatus, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, Toleration};

use super::validate;
use crate::api::{FieldError, names};
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
    let (new_gates, old_gates) = (list(&new_spec.scheduling_gates), list(&old_spec.scheduling_gates));
    for (index, gate) in new_gates.iter().enumerate().filter(|(_, gate)| !old_gates.contains(gate)) {
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
        errors.push(FieldError::forbidden(path.at("schedulingGates").index(index).at("name"), why));
    }
    if !old_gates.is_empty() {
        check_narrowing(&mut errors, &path, &new_spec, &old_spec);
    }
    if mutable_parts_of(&old_spec, &new_spec, !old_gates.is_empty()) != *old_spec {
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
    // A gated pod may be told more narrowly where to go; whether this is narrower is said apart.
    if gated {
        spec.node_selector.clone_from(&old.node_selector);
        let required = node_affinity(old).cloned();
        match &mut spec.affinity {
            Some(affinity) => affinity.node_affinity = required,
            None if required.is_some() => spec.affinity = Some(Affinity { node_affinity: required, ..Affinity::default() }),
            None => {}
        }
        if old.affinity.is_none() && spec.affinity == Some(Affinity::default()) {
            spec.affinity = None;
        }
    }
    spec
}

fn node_affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref())
}

/// A gated pod's node selector and node affinity may only leave fewer nodes to choose from.
fn check_narrowing(errors: &mut Errors, path: &Path, new: &PodSpec, old: &PodSpec) {
    let kept = |(key, value): (&String, &String)| new.node_selector.as_ref().and_then(|map| map.get(key)) == Some(value);
    if !old.node_selector.iter().flatten().all(kept) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(path.at("nodeSelector"), &new.node_selector, why));
    }
    let terms = |spec: &PodSpec| -> Vec<NodeSelectorTerm> {
        let required = node_affinity(spec).and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        required.map(|selector| selector.node_selector_terms.clone()).unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    let path = path.at("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if old.is_empty() {
        return;
    }
    if new.len() != old.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(path, new, why));
        return;
    }
    for (index, (new, _)) in new.iter().zip(&old).enumerate().filter(|(_, (new, old))| !only_adds(new, old)) {
        errors.push(FieldError::invalid(path.index(index), new, "only additions are allowed (no mutations or deletions)"));
    }
}

/// Whether a term demands what it did, and perhaps more. One that demands nothing matches nothing, so that must stay.
fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let (new, old) = ([&new.match_expressions, &new.match_fields].map(list), [&old.match_expressions, &old.match_fields].map(list));
    if old.iter().all(|list| list.is_empty()) {
        return new.iter().all(|list| list.is_empty());
    }
    new.iter().zip(old).all(|(new, old)| new.starts_with(old))
}

/// A deadline may be set, or brought forward.
fn check_deadline(errors: &mut Errors, path: &Path, new: Option<i64>, old: Option<i64>) {
    match (new, old) {
        (Some(new), _) if !(0..=validate::MAX_INT32).contains(&new) => {
            let why = format!("must be between 0 and {}, inclusive", validate::MAX_INT32);
            errors.push(FieldError::invalid(path, new, why));
        }
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

/// What is decided once stays, and what ended does not run again.
pub fn check_status(new: &Pod, old: &Pod) -> Errors {
    let mut errors = Errors::new();
    let (path, new_status, old_status) = (Path::new("status"), rules::part(&new.status), rules::part(&old.status));
    let conditions = new_status.conditions.iter().flatten().enumerate();
    for (index, one) in conditions.filter(|(_, one)| !["PodScheduled", "Ready", "Initialized"].contains(&one.type_.as_str())) {
        // Upstream's place for it.
        let path = Path::new("metadata").at("conditions").index(index).at("Type");
        rules::syntax(&mut errors, &path, &one.type_, names::qualified);
    }
    if new_status.qos_class != old_status.qos_class && old_status.qos_class.is_some() {
        errors.push(FieldError::invalid(path.at("qosClass"), &new_status.qos_class, rules::IMMUTABLE));
    }
    if new_status.nominated_node_name != old_status.nominated_node_name {
        rules::optional_syntax(&mut errors, &path.at("nominatedNodeName"), &new_status.nominated_node_name, names::subdomain);
    }
    check_ended(&mut errors, &path, new, old);
    check_addresses(&mut errors, &path, new);
    errors
}

/// Containers that ended for good stay so.
fn check_ended(errors: &mut Errors, path: &Path, new: &Pod, old: &Pod) {
    let (spec, new, old) = (rules::part(&old.spec), rules::part(&new.status), rules::part(&old.status));
    let policy = |name: &str| {
        let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        all.find(|container| container.name == name).and_then(|container| container.restart_policy.clone())
    };
    let may_restart = |status: &ContainerStatus, code: i32| {
        let own = policy(&status.name).or_else(|| spec.restart_policy.clone()).unwrap_or_default();
        own == "Always" || own == "OnFailure" && code != 0 || restarts_by_rule(&spec, &status.name)
    };
    let lists = [
        ("containerStatuses", list(&new.container_statuses), list(&old.container_statuses), true),
        ("initContainerStatuses", list(&new.init_container_statuses), list(&old.init_container_statuses), true),
        ("ephemeralContainerStatuses", list(&new.ephemeral_container_statuses), list(&old.ephemeral_container_statuses), false),
    ];
    let ended = |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|state| state.exit_code);
    for (field, new, old, restarts) in lists {
        for (index, status) in old.iter().enumerate() {
            let Some(code) = ended(status) else { continue };
            if restarts && may_restart(status, code) {
                continue;
            }
            for _ in new.iter().filter(|other| other.name == status.name && ended(other).is_none()) {
                let path = path.at(field).index(index).at("state");
                errors.push(FieldError::forbidden(path, "may not be transitioned to non-terminated state"));
            }
        }
    }
}

/// Whether a container may be started again because of how it, or another one, ended.
fn restarts_by_rule(spec: &PodSpec, name: &str) -> bool {
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let rules = |container: &Container| container.restart_policy_rules.clone().unwrap_or_default();
    let own = all().any(|container| container.name == name && !rules(container).is_empty());
    own || all().any(|container| rules(container).iter().any(|rule| rule.action == "RestartAllContainers"))
}

/// Addresses of the pod and of its host: one of each family at most, the first of them the one that old clients see.
fn check_addresses(errors: &mut Errors, path: &Path, pod: &Pod) {
    let status = rules::part(&pod.status);
    let pod_ips: Vec<&str> = status.pod_ips.iter().flatten().map(|one| one.ip.as_str()).collect();
    let host_ips: Vec<&str> = status.host_ips.iter().flatten().map(|one| one.ip.as_str()).collect();
    if let Some(first) = host_ips.first().filter(|first| **first != rules::str_of(&status.host_ip)) {
        errors.push(FieldError::invalid(path.at("hostIPs").index(0).at("ip"), first, "must be equal to `hostIP`"));
    }
    for (field, ips) in [("podIPs", pod_ips), ("hostIPs", host_ips)] {
        let path = path.at(field);
        for (index, ip) in ips.iter().enumerate() {
            rules::syntax(errors, &path.index(index), ip, names::ip);
            if ips[..index].contains(ip) {
                errors.push(FieldError::duplicate(path.index(index), serde_json::json!({ "ip": ip })));
            }
        }
        let families: Vec<bool> = ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.is_ipv6()).collect();
        if ips.len() > 2 || families.len() == 2 && families[0] == families[1] {
            let shown: Vec<_> = ips.iter().map(|ip| serde_json::json!({ "ip": ip })).collect();
            errors.push(FieldError::invalid(path, shown, "may specify no more than one IP for each IP family"));
        }
    }
}
