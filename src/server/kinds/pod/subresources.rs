//! The two ways besides an update in which a pod's specification changes: `ephemeralcontainers` and `resize`.
//!
//! Follows upstream's `registry/core/pod/strategy.go` (`podEphemeralContainersStrategy`, `podResizeStrategy`) and
//! `ValidatePodEphemeralContainersUpdate`, `ValidatePodResize`. A resize says what is wanted; that it was done is for the agent to say in
//! the status, and one whose running containers don't show their resources there is known to do none, so that it is refused.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, ResourceRequirements};

use super::validate;
use crate::api::FieldError;
use crate::api::amounts::Amounts;
use crate::api::pod::{is_sidecar, qos_class};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Takes back what a write of this subresource may not change.
pub fn prepare(new: &mut Pod, old: &Pod, subresource: &str) {
    if subresource == "resize" && !same_containers(&rules::part(&new.spec), &rules::part(&old.spec)) {
        // Left as it is for validation to say what is wrong with it.
        return;
    }
    let sent = std::mem::replace(new, old.clone());
    // Who is asked for and what owns which field is the registry's business.
    new.metadata.resource_version = sent.metadata.resource_version;
    new.metadata.managed_fields = sent.metadata.managed_fields;
    let (Some(spec), Some(sent)) = (new.spec.as_mut(), sent.spec) else { return };
    match subresource {
        "ephemeralcontainers" => spec.ephemeral_containers = sent.ephemeral_containers,
        "resize" => {
            let take = |to: &mut Container, from: Container| (to.resources, to.resize_policy) = (from.resources, from.resize_policy);
            spec.containers.iter_mut().zip(sent.containers).for_each(|(to, from)| take(to, from));
            let init = spec.init_containers.iter_mut().flatten().zip(sent.init_containers.into_iter().flatten());
            init.for_each(|(to, from)| take(to, from));
            spec.resources = sent.resources;
        }
        _ => {}
    }
}

/// Every rule that a write of this subresource breaks.
pub fn check(new: &Pod, old: &Pod, subresource: &str) -> Errors {
    let mut errors = validate::pod(new);
    errors.retain(|error| error.field != "spec.ephemeralContainers");
    match subresource {
        "ephemeralcontainers" => check_ephemeral(errors, new, old),
        _ => check_resize(errors, new, old),
    }
}

fn is_static(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

fn check_ephemeral(mut errors: Errors, new: &Pod, old: &Pod) -> Errors {
    if is_static(old) {
        return vec![FieldError::forbidden("", "static pods do not support ephemeral containers")];
    }
    let path = Path::new("spec").at("ephemeralContainers");
    let (new_spec, old_spec) = (rules::part(&new.spec), rules::part(&old.spec));
    validate::ephemeral(&mut errors, &path, &new_spec);
    for container in old_spec.ephemeral_containers.iter().flatten() {
        let name = &container.name;
        match new_spec.ephemeral_containers.iter().flatten().find(|other| other.name == *name) {
            None => errors.push(FieldError::forbidden(&path, format!("existing ephemeral containers \"{name}\" may not be removed\n"))),
            Some(other) if other != container => {
                errors.push(FieldError::forbidden(&path, format!("existing ephemeral containers \"{name}\" may not be changed\n")));
            }
            Some(_) => {}
        }
    }
    errors
}

/// Fields of an ephemeral container that it may not have, for it serves nobody and is not restarted.
pub fn forbidden_fields(container: &EphemeralContainer) -> Vec<&'static str> {
    let resources = container.resources.as_ref().is_some_and(|resources| *resources != ResourceRequirements::default());
    let all = [
        ("ports", container.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
        ("resources", resources),
        ("resizePolicy", container.resize_policy.as_ref().is_some_and(|policy| !policy.is_empty())),
        ("restartPolicy", container.restart_policy.is_some()),
        ("restartPolicyRules", container.restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty())),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(field, _)| field).collect()
}

fn check_resize(mut errors: Errors, new: &Pod, old: &Pod) -> Errors {
    if is_static(old) {
        return vec![FieldError::forbidden("", "static pods cannot be resized")];
    }
    let (new_spec, old_spec) = (rules::part(&new.spec), rules::part(&old.spec));
    if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return vec![FieldError::forbidden("", "windows pods cannot be resized")];
    }
    let path = Path::new("spec");
    let before = old.status.as_ref().and_then(|status| status.qos_class.as_deref()).unwrap_or_else(|| qos_class(&old_spec));
    if before != qos_class(&new_spec) {
        let class = new.status.as_ref().and_then(|status| status.qos_class.clone()).unwrap_or_default();
        errors.push(FieldError::invalid(&path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    if !node_resizes(old) {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    let lists = [
        ("containers", new_spec.containers.as_slice(), old_spec.containers.as_slice()),
        (
            "initContainers",
            new_spec.init_containers.as_deref().unwrap_or_default(),
            old_spec.init_containers.as_deref().unwrap_or_default(),
        ),
    ];
    let ordering: Errors = lists.iter().flat_map(|(field, new, old)| check_order(&path.at(field), field, new, old)).collect();
    if !ordering.is_empty() {
        errors.extend(ordering);
        return errors;
    }
    if let (None, Some(_)) = (&new_spec.resources, &old_spec.resources) {
        errors.push(FieldError::forbidden(path.at("resources"), "pod-level resources cannot be removed"));
    }
    check_removal(&mut errors, &path.at("resources"), "pod-level resource", new_spec.resources.as_ref(), old_spec.resources.as_ref());
    if other_resources(new_spec.resources.as_ref()) != other_resources(old_spec.resources.as_ref()) {
        errors.push(FieldError::forbidden(&path, "only cpu and memory resources are mutable at pod-level"));
    }
    for (field, new_list, old_list) in lists {
        for (index, (new, old)) in new_list.iter().zip(old_list).enumerate() {
            let init = field == "initContainers";
            if init && !is_sidecar(old) {
                if new != old {
                    errors.push(FieldError::forbidden(&path, "resources for non-sidecar init containers are immutable"));
                }
                continue;
            }
            let at = path.at(field).index(index).at("resources");
            check_removal(&mut errors, &at, "resource", new.resources.as_ref(), old.resources.as_ref());
            let fixed = |one: &Container| (other_resources(one.resources.as_ref()), one.resize_policy.clone().unwrap_or_default());
            if fixed(new) != fixed(old) {
                let which = if init {
                    "only cpu and memory resources for sidecar containers are mutable"
                } else {
                    "only cpu and memory resources are mutable"
                };
                errors.push(FieldError::forbidden(&path, which));
            }
        }
    }
    errors
}

/// Whether the pod's node shows what its running containers have, by which it is known to change it.
fn node_resizes(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut running = statuses.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.next().is_none_or(|status| status.resources.is_some())
}

fn same_containers(new: &PodSpec, old: &PodSpec) -> bool {
    let names = |spec: &PodSpec| -> Vec<String> {
        let init = spec.init_containers.iter().flatten().map(|container| container.name.clone());
        spec.containers.iter().map(|container| container.name.clone()).chain([String::new()]).chain(init).collect()
    };
    names(new) == names(old)
}

fn check_order(path: &Path, field: &str, new: &[Container], old: &[Container]) -> Errors {
    if new.len() != old.len() {
        return vec![FieldError::forbidden(path, format!("{field} may not be added or removed on resize"))];
    }
    let moved = new.iter().zip(old).enumerate().filter(|(_, (new, old))| new.name != old.name);
    let why = format!("{field} may not be renamed or reordered on resize");
    moved.map(|(index, _)| FieldError::forbidden(path.index(index).at("name"), &why)).collect()
}

fn check_removal(errors: &mut Errors, path: &Path, what: &str, new: Option<&ResourceRequirements>, old: Option<&ResourceRequirements>) {
    let requests = |one: Option<&ResourceRequirements>| Amounts::of(one.and_then(|one| one.requests.as_ref()));
    let limits = |one: Option<&ResourceRequirements>| Amounts::of(one.and_then(|one| one.limits.as_ref()));
    for (field, new, old) in [("requests", requests(new), requests(old)), ("limits", limits(new), limits(old))] {
        if old.names().any(|name| new.get(name).is_none()) {
            errors.push(FieldError::forbidden(path.at(field), format!("{what} {field} cannot be removed")));
        }
    }
}

/// What a resize may not change.
fn other_resources(resources: Option<&ResourceRequirements>) -> (Amounts, Amounts, usize) {
    let other = |list: Option<_>| Amounts::of(list).only(|name| !RESIZABLE.contains(&name));
    let claims = resources.and_then(|resources| resources.claims.as_ref()).map_or(0, Vec::len);
    (
        other(resources.and_then(|resources| resources.requests.as_ref())),
        other(resources.and_then(|resources| resources.limits.as_ref())),
        claims,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::strategy::Strategy;

    fn pod(spec: &str, status: &str) -> Pod {
        let mut pod: Pod = serde_yaml::from_str(&format!("{{metadata: {{name: p}}, spec: {spec}, status: {status}}}")).expect("a pod");
        pod.apply_defaults();
        pod
    }

    fn errors(subresource: &str, old: &Pod, new: &str) -> String {
        let mut new = pod(new, "{}");
        new.prepare_subresource(old, subresource);
        let errors: Vec<_> = new.validate_subresource(old, subresource).iter().map(ToString::to_string).collect();
        errors.join("; ")
    }

    #[test]
    fn ephemeral_containers() {
        let old = pod("{containers: [{name: c, image: i}], ephemeralContainers: [{name: e, image: i}]}", "{}");
        let with = |list: &str| format!("{{containers: [{{name: c, image: other}}], ephemeralContainers: [{list}]}}");
        for (list, want) in [
            ("{name: e, image: i}, {name: f, image: i, targetContainerName: c}", ""),
            ("", "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"),
            ("{name: e, image: j}", "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be changed\n"),
            ("{name: e, image: i}, {name: c, image: i}", "spec.ephemeralContainers[1].name: Duplicate value: \"c\""),
            (
                "{name: e, image: i}, {name: f, image: i, targetContainerName: x}",
                "spec.ephemeralContainers[1].targetContainerName: Not found: \"x\"",
            ),
            (
                "{name: e, image: i}, {name: f, image: i, livenessProbe: {exec: {command: [a]}}}",
                "spec.ephemeralContainers[1].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
            ),
            ("{name: e, image: i}, {name: f}", "spec.ephemeralContainers[1].image: Required value"),
        ] {
            assert_eq!(errors("ephemeralcontainers", &old, &with(list)), want, "{list}");
        }
        let mut new = pod(&with("{name: e, image: i}"), "{}");
        new.prepare_subresource(&old, "ephemeralcontainers");
        assert_eq!(new.spec, old.spec, "nothing else changes");
    }

    #[test]
    fn resizes() {
        let with = |resources: &str| format!("{{containers: [{{name: c, image: i, resources: {resources}}}]}}");
        let old = pod(&with("{requests: {cpu: 1}, limits: {cpu: 2, memory: 1Gi}}"), "{qosClass: Burstable}");
        for (new, want) in [
            (with("{requests: {cpu: 1500m}, limits: {cpu: 2, memory: 2Gi}}"), ""),
            (
                with("{requests: {cpu: 1}, limits: {cpu: 2}}"),
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed; \
                 spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ),
            (
                with("{requests: {cpu: 2, memory: 1Gi}, limits: {cpu: 2, memory: 1Gi}}"),
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
            ),
            (
                with("{requests: {cpu: 1}, limits: {cpu: 2, memory: 1Gi, ephemeral-storage: 1Gi}}"),
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
            (
                "{containers: [{name: d, image: i}]}".into(),
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
            ),
            (
                "{containers: [{name: c, image: i}, {name: d, image: i}]}".into(),
                "spec.containers: Forbidden: containers may not be added or removed on resize",
            ),
        ] {
            let found = errors("resize", &old, &new);
            let found = if new.contains("name: d") { found.split("; ").last().unwrap_or_default().to_owned() } else { found };
            assert_eq!(found, want, "{new}");
        }
        let running = "{qosClass: Burstable, containerStatuses: [{name: c, image: i, imageID: '', ready: true, restartCount: 0, state: {running: {}}}]}";
        let old = pod(&with("{requests: {cpu: 1}}"), running);
        let want = "spec: Forbidden: Pod running on node without support for resize";
        assert_eq!(errors("resize", &old, &with("{requests: {cpu: 2}}")), want);
    }
}
