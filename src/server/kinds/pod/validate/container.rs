//! Rules of containers: names, images, ports, environment, mounts, resources, security.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, ContainerResizePolicy, PodSpec, SecurityContext};

use super::super::subresources::forbidden_fields;
use super::volumes::Names;
use super::{app_armor, env, handlers, id, mounts, os, resources, seccomp};
use crate::api::pod::as_container;
use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// All containers of a pod, whose names are unique among all of them.
pub fn check_all(errors: &mut Errors, path: &Path, spec: &PodSpec, volumes: &Names<'_>, is_pod: bool) {
    let mut seen = BTreeSet::new();
    if spec.containers.is_empty() {
        errors.push(FieldError::required(path.at("containers"), ""));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.at("containers").index(index);
        check(errors, &path, container, volumes, spec, &mut seen);
        handlers::check_all(errors, &path, container, spec);
        restart_policy(errors, &path, container);
        if spec.host_network == Some(true) {
            host_ports(errors, &path.at("ports"), container, is_pod);
        }
    }
    host_port_conflicts(errors, &path.at("containers"), &spec.containers);
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let list = path.at("initContainers");
        let path = list.index(index);
        check(errors, &path, container, volumes, spec, &mut seen);
        check_init(errors, &path, container, spec);
        // They run one by one; upstream names each as if it were the first.
        host_port_conflicts(errors, &list, std::slice::from_ref(container));
    }
}

/// The ephemeral containers of a pod.
pub fn check_ephemeral(errors: &mut Errors, path: &Path, spec: &PodSpec, volumes: &Names<'_>) {
    let why = "cannot be set for an Ephemeral Container";
    let members = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let all: Vec<_> = spec.ephemeral_containers.iter().flatten().map(|one| (one, as_container(one))).collect();
    let mut seen: BTreeSet<&str> = members().map(|container| container.name.as_str()).collect();
    for (index, (ephemeral, container)) in all.iter().enumerate() {
        let path = path.index(index);
        check(errors, &path, container, volumes, spec, &mut seen);
        check_of_pod(errors, &path, &container.image);
        let target = rules::str_of(&ephemeral.target_container_name);
        if !target.is_empty() && !members().any(|container| container.name == target) {
            errors.push(FieldError::not_found(path.at("targetContainerName"), target));
        }
        errors.extend(forbidden_fields(ephemeral).into_iter().map(|field| FieldError::forbidden(path.at(field), why)));
        for (index, mount) in ephemeral.volume_mounts.iter().flatten().enumerate() {
            let path = path.at("volumeMounts").index(index);
            let subs = [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)];
            errors.extend(
                subs.into_iter()
                    .filter(|(_, sub)| !rules::str_of(sub).is_empty())
                    .map(|(field, _)| FieldError::forbidden(path.at(field), why)),
            );
        }
    }
}

fn check_init(errors: &mut Errors, path: &Path, container: &Container, pod: &PodSpec) {
    restart_policy(errors, path, container);
    if container.restart_policy.as_deref() == Some("Always") {
        handlers::check_all(errors, path, container, pod);
        return;
    }
    let why = "may not be set for init containers without restartPolicy=Always";
    let parts = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    errors.extend(parts.into_iter().filter(|(_, there)| *there).map(|(field, _)| FieldError::forbidden(path.at(field), why)));
}

fn check<'a>(errors: &mut Errors, path: &Path, container: &'a Container, volumes: &Names<'_>, pod: &PodSpec, seen: &mut BTreeSet<&'a str>) {
    if rules::required(errors, &path.at("name"), &container.name) {
        rules::syntax(errors, &path.at("name"), &container.name, names::label);
        if !seen.insert(&container.name) {
            errors.push(FieldError::duplicate(path.at("name"), &container.name));
        }
    }
    rules::required(errors, &path.at("image"), rules::str_of(&container.image));
    let policy = rules::str_of(&container.termination_message_policy);
    rules::required_one_of(errors, &path.at("terminationMessagePolicy"), policy, &["FallbackToLogsOnError", "File"]);
    let policy = rules::str_of(&container.image_pull_policy);
    rules::required_one_of(errors, &path.at("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    ports(errors, &path.at("ports"), container.ports.as_deref().unwrap_or_default());
    env::check(errors, path, container);
    mounts::check(errors, path, container, volumes);
    let claims: Vec<&str> = pod.resource_claims.iter().flatten().map(|claim| claim.name.as_str()).collect();
    resources::check(errors, &path.at("resources"), &rules::part(&container.resources), &claims);
    resize_policy(errors, &path.at("resizePolicy"), container.resize_policy.as_deref().unwrap_or_default(), pod);
    if let Some(context) = &container.security_context {
        security(errors, &path.at("securityContext"), context, pod);
    }
}

fn ports(errors: &mut Errors, path: &Path, ports: &[ContainerPort]) {
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
            match names::port_name(name) {
                Err(why) => errors.push(FieldError::invalid(path.at("name"), name, why)),
                Ok(()) if ports[..index].iter().any(|other| other.name == port.name) => {
                    errors.push(FieldError::duplicate(path.at("name"), name));
                }
                Ok(()) => {}
            }
        }
        match port.container_port {
            0 => errors.push(FieldError::required(path.at("containerPort"), "")),
            number => rules::port_number(errors, &path.at("containerPort"), number),
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0) {
            rules::port_number(errors, &path.at("hostPort"), host_port);
        }
        rules::required_one_of(errors, &path.at("protocol"), rules::str_of(&port.protocol), PROTOCOLS);
    }
}

/// On the host's network a port is what it is there. Templates may leave that to the pod.
fn host_ports(errors: &mut Errors, path: &Path, container: &Container, is_pod: bool) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let host_port = port.host_port.unwrap_or_default();
        if (is_pod || host_port != 0) && host_port != port.container_port {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(path.index(index).at("hostPort"), host_port, why));
        }
    }
}

fn host_port_conflicts(errors: &mut Errors, path: &Path, containers: &[Container]) {
    let mut seen = BTreeSet::new();
    for (outer, container) in containers.iter().enumerate() {
        for (inner, port) in container.ports.iter().flatten().enumerate() {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            let shown = format!("{}/{}/{host_port}", rules::str_of(&port.protocol), rules::str_of(&port.host_ip));
            if !seen.insert(shown.clone()) {
                errors.push(FieldError::duplicate(path.index(outer).at("ports").index(inner).at("hostPort"), shown));
            }
        }
    }
}

/// What happens to a running container when its resources change.
fn resize_policy(errors: &mut Errors, path: &Path, policies: &[ContainerResizePolicy], pod: &PodSpec) {
    for (index, policy) in policies.iter().enumerate() {
        if policies[..index].iter().any(|other| other.resource_name == policy.resource_name) {
            errors.push(FieldError::duplicate(path.index(index), &policy.resource_name));
        }
        rules::required_one_of(errors, path, &policy.resource_name, &["cpu", "memory"]);
        rules::required_one_of(errors, path, &policy.restart_policy, &["NotRequired", "RestartContainer"]);
        if pod.restart_policy.as_deref() == Some("Never") && policy.restart_policy != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, &policy.restart_policy, why));
        }
    }
}

/// When a container is started again, where it says so itself.
fn restart_policy(errors: &mut Errors, path: &Path, container: &Container) {
    let exits = container.restart_policy_rules.as_deref().unwrap_or_default();
    match &container.restart_policy {
        Some(policy) => rules::one_of(errors, &path.at("restartPolicy"), policy, &["Always", "Never", "OnFailure"]),
        None if exits.is_empty() => {}
        None => errors.push(FieldError::required(path.at("restartPolicy"), "must specify restartPolicy when restart rules are used")),
    }
    for (index, rule) in exits.iter().enumerate() {
        let path = path.at("restartPolicyRules").index(index);
        rules::one_of(errors, &path.at("action"), &rule.action, &["Restart", "RestartAllContainers"]);
        if let Some(codes) = &rule.exit_codes {
            rules::one_of(errors, &path.at("exitCodes.operator"), &codes.operator, &["In", "NotIn"]);
        }
    }
}

/// What holds of the containers of a pod, and not of those of a template.
pub fn check_of_pod(errors: &mut Errors, path: &Path, image: &Option<String>) {
    let image = rules::str_of(image);
    if image.trim() != image {
        errors.push(FieldError::invalid(path.at("image"), image, "must not have leading or trailing whitespace"));
    }
}

fn security(errors: &mut Errors, path: &Path, context: &SecurityContext, pod: &PodSpec) {
    id(errors, &path.at("runAsUser"), context.run_as_user);
    id(errors, &path.at("runAsGroup"), context.run_as_group);
    rules::optional_one_of(errors, &path.at("procMount"), &context.proc_mount, &["Default", "Unmasked"]);
    if context.proc_mount.as_deref() == Some("Unmasked") && pod.host_users != Some(false) {
        errors.push(FieldError::invalid(path.at("procMount"), "Unmasked", "`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(errors, &path.at("seccompProfile"), context.seccomp_profile.as_ref());
    app_armor(errors, &path.at("appArmorProfile"), context.app_armor_profile.as_ref());
    os::windows_options(errors, &path.at("windowsOptions"), context.windows_options.as_ref());
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context, why));
        }
        let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
        for _ in added.filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context, why));
        }
    }
}
