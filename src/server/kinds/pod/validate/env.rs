//! Rules of environment variables, and of the fields of a pod that they and downward volumes may show.

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};

use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

/// What a variable may show of its pod.
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
/// What there is to show at all (upstream's `ConvertDownwardAPIFieldLabel`).
const FIELD_LABELS: &[&str] =
    &["metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "spec.host", "status.phase"];
const RESOURCES: &[&str] =
    &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];
const BYTES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// The variables of a container.
pub fn check(errors: &mut Errors, path: &Path, container: &Container) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        env(errors, &path.at("env").index(index), variable);
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        env_from(errors, &path.at("envFrom"), index, source);
    }
}

fn env(errors: &mut Errors, path: &Path, variable: &EnvVar) {
    rules::required_syntax(errors, &path.at("name"), &variable.name, names::env_name);
    let Some(source) = &variable.value_from else { return };
    let path = path.at("valueFrom");
    env_source(errors, &path, source);
    let sources = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ];
    let why = match sources.into_iter().filter(|there| *there).count() {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if !rules::str_of(&variable.value).is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(&path, "", why));
}

fn env_source(errors: &mut Errors, path: &Path, source: &EnvVarSource) {
    if let Some(field) = &source.field_ref {
        field_ref(errors, &path.at("fieldRef"), field, FIELD_PATHS);
    }
    if let Some(resource) = &source.resource_field_ref {
        resource_ref(errors, &path.at("resourceFieldRef"), resource);
    }
    let keys = [
        ("configMapKeyRef", source.config_map_key_ref.as_ref().map(|key| (&key.name, &key.key))),
        ("secretKeyRef", source.secret_key_ref.as_ref().map(|key| (&key.name, &key.key))),
    ];
    for (field, reference) in keys {
        let Some((name, key)) = reference else { continue };
        rules::syntax(errors, &path.at(field).at("name"), name, names::subdomain);
        rules::required_syntax(errors, &path.at(field).at("key"), key, names::config_key);
    }
}

/// A field of the pod: one of `known`, or one label or annotation.
pub fn field_ref(errors: &mut Errors, path: &Path, field: &ObjectFieldSelector, known: &[&str]) {
    let (version, text) = (rules::str_of(&field.api_version), field.field_path.as_str());
    if !rules::required(errors, &path.at("apiVersion"), version) || !rules::required(errors, &path.at("fieldPath"), text) {
        return;
    }
    let parts = text.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    let unknown = match parts {
        _ if version != "v1" => format!("unsupported pod version: {version}"),
        Some(("metadata.labels", key)) => return rules::syntax(errors, path, key, names::qualified),
        Some(("metadata.annotations", key)) => return rules::syntax(errors, path, &key.to_lowercase(), names::qualified),
        Some(_) => format!("field label does not support subscript: {text}"),
        None if FIELD_PATHS.contains(&text) || FIELD_LABELS.contains(&text) => {
            // The old name of a pod's node.
            let text = if text == "spec.host" { "spec.nodeName" } else { text };
            return rules::one_of(errors, &path.at("fieldPath"), text, known);
        }
        None => format!("field label not supported: {text}"),
    };
    errors.push(FieldError::invalid(path.at("fieldPath"), text, format!("error converting fieldPath: {unknown}")));
}

/// A resource of a container, and the unit that it is shown in.
pub fn resource_ref(errors: &mut Errors, path: &Path, field: &ResourceFieldSelector) {
    let name = field.resource.as_str();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if rules::required(errors, &path.at("resource"), name) && !huge {
        rules::one_of(errors, &path.at("resource"), name, RESOURCES);
    }
    divisor(errors, path, field, huge);
}

fn divisor(errors: &mut Errors, path: &Path, field: &ResourceFieldSelector, huge: bool) {
    let Some(divisor) = field.divisor.as_ref().and_then(|divisor| Quantity::parse(&divisor.0).ok()).filter(|divisor| !divisor.is_zero())
    else {
        return;
    };
    let (allowed, text, what) = match field.resource.rsplit('.').next().unwrap_or_default() {
        "cpu" => (&["1m", "1"][..], "1m and 1", "cpu"),
        "memory" => (BYTES, "", "memory"),
        "ephemeral-storage" => (BYTES, "", "local ephemeral storage"),
        _ if huge => (BYTES, "", "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let text = if text.is_empty() { allowed.join(", ") } else { text.to_owned() };
        let why = format!("only divisor's values {text} are supported with the {what} resource");
        errors.push(FieldError::invalid(path.at("divisor"), &field.resource, why));
    }
}

fn env_from(errors: &mut Errors, list: &Path, index: usize, source: &EnvFromSource) {
    let path = list.index(index);
    rules::optional_syntax(errors, &path.at("prefix"), &source.prefix, names::env_name);
    let names = [
        ("configMapRef.name", source.config_map_ref.as_ref().map(|map| &map.name)),
        ("secretRef.name", source.secret_ref.as_ref().map(|secret| &secret.name)),
    ];
    for (field, name) in names.iter().filter_map(|(field, name)| Some((field, (*name)?))) {
        rules::required_syntax(errors, &path.at(field), name, names::subdomain);
    }
    // Upstream names the list, not its element.
    match names.iter().filter(|(_, name)| name.is_some()).count() {
        0 => errors.push(FieldError::invalid(list, "", "must specify one of: `configMapRef` or `secretRef`")),
        1 => {}
        _ => errors.push(FieldError::invalid(list, "", "may not have more than one field specified at a time")),
    }
}
