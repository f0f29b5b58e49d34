//! Rules of containers: names, images, ports, environment, mounts, resources, security.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, PodSpec, ResourceRequirements, SecurityContext, VolumeMount,
};

use super::super::subresources::{as_container, forbidden_fields};
use super::volumes::{Names, local_path};
use super::{handlers, id, seccomp};
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const STANDARD_RESOURCES: &[&str] = &["cpu", "ephemeral-storage", "memory"];
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCE_FIELDS: &[&str] =
    &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];

/// All containers of a pod, whose names are unique among all of them.
pub fn check_all(errors: &mut Errors, path: &Path, spec: &PodSpec, volumes: &Names) {
    let mut seen = BTreeSet::new();
    let host_network = spec.host_network == Some(true);
    if spec.containers.is_empty() {
        errors.push(FieldError::required(path.at("containers"), ""));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.at("containers").index(index);
        check(errors, &path, container, volumes, host_network, &mut seen);
        handlers::check_all(errors, &path, container);
        if let Some(policy) = &container.restart_policy {
            rules::one_of(errors, &path.at("restartPolicy"), policy, &["Always", "Never", "OnFailure"]);
        }
    }
    host_port_conflicts(errors, &path.at("containers"), &spec.containers);
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.at("initContainers").index(index);
        check(errors, &path, container, volumes, host_network, &mut seen);
        check_init(errors, &path, container);
    }
}

/// The ephemeral containers of a pod.
pub fn check_ephemeral(errors: &mut Errors, path: &Path, spec: &PodSpec, volumes: &Names) {
    let why = "cannot be set for an Ephemeral Container";
    let members = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let all: Vec<_> = spec.ephemeral_containers.iter().flatten().map(|one| (one, as_container(one))).collect();
    let mut seen: BTreeSet<&str> = members().map(|container| container.name.as_str()).collect();
    for (index, (ephemeral, container)) in all.iter().enumerate() {
        let path = path.index(index);
        check(errors, &path, container, volumes, spec.host_network == Some(true), &mut seen);
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

fn check_init(errors: &mut Errors, path: &Path, container: &Container) {
    if let Some(policy) = &container.restart_policy {
        rules::one_of(errors, &path.at("restartPolicy"), policy, &["Always", "Never", "OnFailure"]);
    }
    if container.restart_policy.as_deref() == Some("Always") {
        handlers::check_all(errors, path, container);
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

fn check<'a>(
    errors: &mut Errors,
    path: &Path,
    container: &'a Container,
    volumes: &Names,
    host_network: bool,
    seen: &mut BTreeSet<&'a str>,
) {
    if rules::required(errors, &path.at("name"), &container.name) {
        rules::syntax(errors, &path.at("name"), &container.name, names::label);
        if !seen.insert(&container.name) {
            errors.push(FieldError::duplicate(path.at("name"), &container.name));
        }
    }
    let image = rules::str_of(&container.image);
    if image.is_empty() {
        errors.push(FieldError::required(path.at("image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(path.at("image"), image, "must not have leading or trailing whitespace"));
    }
    let policy = rules::str_of(&container.termination_message_policy);
    rules::required_one_of(errors, &path.at("terminationMessagePolicy"), policy, &["FallbackToLogsOnError", "File"]);
    let policy = rules::str_of(&container.image_pull_policy);
    rules::required_one_of(errors, &path.at("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    ports(errors, &path.at("ports"), container.ports.as_deref().unwrap_or_default(), host_network);
    for (index, variable) in container.env.iter().flatten().enumerate() {
        env(errors, &path.at("env").index(index), variable);
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        env_from(errors, &path.at("envFrom").index(index), source);
    }
    let context = container.security_context.as_ref();
    let privileged = context.is_some_and(|context| context.privileged == Some(true));
    mounts(errors, &path.at("volumeMounts"), container.volume_mounts.as_deref().unwrap_or_default(), volumes, privileged);
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let path = path.at("volumeDevices").index(index);
        if rules::required(errors, &path.at("name"), &device.name) && !volumes.contains(device.name.as_str()) {
            errors.push(FieldError::not_found(path.at("name"), &device.name));
        }
        rules::required(errors, &path.at("devicePath"), &device.device_path);
    }
    resources(errors, &path.at("resources"), &rules::part(&container.resources));
    if let Some(context) = context {
        security(errors, &path.at("securityContext"), context);
    }
}

fn ports(errors: &mut Errors, path: &Path, ports: &[ContainerPort], host_network: bool) {
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
            if host_network && host_port != port.container_port {
                let why = "must match `hostPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path.at("containerPort"), port.container_port, why));
            }
        }
        rules::required_one_of(errors, &path.at("protocol"), rules::str_of(&port.protocol), PROTOCOLS);
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

fn env(errors: &mut Errors, path: &Path, variable: &EnvVar) {
    rules::required_syntax(errors, &path.at("name"), &variable.name, names::env_name);
    let Some(source) = &variable.value_from else { return };
    let path = path.at("valueFrom");
    let sources = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ];
    match sources.into_iter().filter(|there| *there).count() {
        0 => {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.push(FieldError::invalid(&path, "", why));
        }
        1 => {}
        _ => errors.push(FieldError::invalid(&path, "", "may not have more than one field specified at a time")),
    }
    if !rules::str_of(&variable.value).is_empty() {
        errors.push(FieldError::invalid(&path, "", "may not be specified when `value` is not empty"));
    }
    env_source(errors, &path, source);
}

fn env_source(errors: &mut Errors, path: &Path, source: &EnvVarSource) {
    if let Some(field) = &source.field_ref {
        let path = path.at("fieldRef");
        rules::required(errors, &path.at("apiVersion"), rules::str_of(&field.api_version));
        if rules::required(errors, &path.at("fieldPath"), &field.field_path) {
            field_path(errors, &path.at("fieldPath"), &field.field_path, FIELD_PATHS);
        }
    }
    if let Some(resource) = &source.resource_field_ref {
        let path = path.at("resourceFieldRef").at("resource");
        if rules::required(errors, &path, &resource.resource) && !is_hugepages(&resource.resource) {
            rules::one_of(errors, &path, &resource.resource, RESOURCE_FIELDS);
        }
    }
    let keys = [
        ("configMapKeyRef", source.config_map_key_ref.as_ref().map(|key| (&key.name, &key.key))),
        ("secretKeyRef", source.secret_key_ref.as_ref().map(|key| (&key.name, &key.key))),
    ];
    for (field, reference) in keys {
        let Some((name, key)) = reference else { continue };
        rules::required(errors, &path.at(field).at("name"), name);
        rules::required_syntax(errors, &path.at(field).at("key"), key, names::config_key);
    }
}

fn is_hugepages(field: &str) -> bool {
    field.starts_with("limits.hugepages-") || field.starts_with("requests.hugepages-")
}

/// A path of the downward API: a known field, or one label or annotation.
pub fn field_path(errors: &mut Errors, path: &Path, text: &str, known: &[&str]) {
    let subscript = |map: &str| text.strip_prefix(map).and_then(|rest| rest.strip_prefix("['")).and_then(|rest| rest.strip_suffix("']"));
    match (subscript("metadata.labels"), subscript("metadata.annotations")) {
        (Some(key), _) => rules::syntax(errors, path, key, names::qualified),
        (_, Some(key)) => rules::syntax(errors, path, &key.to_lowercase(), names::qualified),
        _ => rules::one_of(errors, path, text, known),
    }
}

fn env_from(errors: &mut Errors, path: &Path, source: &EnvFromSource) {
    rules::optional_syntax(errors, &path.at("prefix"), &source.prefix, names::env_name);
    match (&source.config_map_ref, &source.secret_ref) {
        (None, None) => errors.push(FieldError::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
        (Some(_), Some(_)) => errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time")),
        (Some(map), None) => drop(rules::required(errors, &path.at("configMapRef.name"), &map.name)),
        (None, Some(secret)) => drop(rules::required(errors, &path.at("secretRef.name"), &secret.name)),
    }
}

fn mounts(errors: &mut Errors, path: &Path, mounts: &[VolumeMount], volumes: &Names, privileged: bool) {
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.index(index);
        if rules::required(errors, &path.at("name"), &mount.name) && !volumes.contains(mount.name.as_str()) {
            errors.push(FieldError::not_found(path.at("name"), &mount.name));
        }
        rules::required(errors, &path.at("mountPath"), &mount.mount_path);
        if mounts[..index].iter().any(|other| other.mount_path == mount.mount_path) {
            errors.push(FieldError::invalid(path.at("mountPath"), &mount.mount_path, "must be unique"));
        }
        let (sub, expr) = (rules::str_of(&mount.sub_path), rules::str_of(&mount.sub_path_expr));
        if !sub.is_empty() {
            local_path(errors, &path.at("subPath"), sub);
        }
        if !expr.is_empty() {
            local_path(errors, &path.at("subPathExpr"), expr);
        }
        if !sub.is_empty() && !expr.is_empty() {
            errors.push(FieldError::invalid(path.at("subPathExpr"), expr, "subPathExpr and subPath are mutually exclusive"));
        }
        let propagation = &mount.mount_propagation;
        rules::optional_one_of(errors, &path.at("mountPropagation"), propagation, &["Bidirectional", "HostToContainer", "None"]);
        if propagation.as_deref() == Some("Bidirectional") && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(path.at("mountPropagation"), why));
        }
    }
}

/// Names, amounts, and requests within limits.
pub fn resources(errors: &mut Errors, path: &Path, resources: &ResourceRequirements) {
    let parse = |text: &str| Quantity::parse(text).ok();
    for (field, list) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for (name, amount) in list.iter().flatten() {
            let path = path.at(field).key(name);
            rules::syntax(errors, &path, name, names::qualified);
            if !name.contains('/') && !STANDARD_RESOURCES.contains(&name.as_str()) && !name.starts_with("hugepages-") {
                errors.push(FieldError::invalid(&path, name, "must be a standard resource type or fully qualified"));
                errors.push(FieldError::invalid(&path, name, "must be a standard resource for containers"));
            }
            rules::quantity(errors, &path, amount);
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let extended = name.contains('/') || name.starts_with("hugepages-");
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        let path = path.at("requests");
        match limit {
            Some(limit) => {
                let (Some(asked), Some(bound)) = (parse(&request.0), parse(&limit.0)) else { continue };
                if extended && asked != bound {
                    errors.push(FieldError::invalid(&path, &request.0, format!("must be equal to {name} limit of {}", limit.0)));
                } else if asked > bound {
                    errors.push(FieldError::invalid(
                        &path,
                        &request.0,
                        format!("must be less than or equal to {name} limit of {}", limit.0),
                    ));
                }
            }
            None if extended => errors.push(FieldError::required(path, "Limit must be set for non overcommitable resources")),
            None => {}
        }
    }
}

fn security(errors: &mut Errors, path: &Path, context: &SecurityContext) {
    id(errors, &path.at("runAsUser"), context.run_as_user);
    id(errors, &path.at("runAsGroup"), context.run_as_group);
    rules::optional_one_of(errors, &path.at("procMount"), &context.proc_mount, &["Default", "Unmasked"]);
    seccomp(errors, &path.at("seccompProfile"), context.seccomp_profile.as_ref());
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
