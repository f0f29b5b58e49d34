//! The environment of a container: image, services, envFrom, env, in this order, with `$(VAR)` expanded. Follows
//! `makeEnvironmentVariables` (pkg/kubelet/kubelet_pods.go) and third_party/forked/golang/expansion.
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, ResourceFieldSelector};

use super::{Facts, SpecError};
use crate::agent::plan::containers;
use crate::agent::resources;

/// Where values of env come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl SourceKind {
    /// As messages name it.
    pub fn noun(self) -> &'static str {
        match self {
            SourceKind::ConfigMap => "configmap",
            SourceKind::Secret => "secret",
        }
    }
}

/// Values of one ConfigMap or Secret; `None`: there is none of that name.
pub type Data = Option<BTreeMap<String, Vec<u8>>>;
/// Fetched ConfigMaps and Secrets.
pub type Fetched = BTreeMap<(SourceKind, String), Data>;

/// A Service as containers see it in their environment.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEnv {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster address.
    pub ip: String,
    /// Name, protocol, port.
    pub ports: Vec<(String, String, i32)>,
}

/// The ConfigMaps and Secrets that a container's env needs.
pub fn references(container: &Container) -> Vec<(SourceKind, String)> {
    let mut all = Vec::new();
    for from in container.env_from.iter().flatten() {
        all.extend(from.config_map_ref.iter().map(|r| (SourceKind::ConfigMap, r.name.clone())));
        all.extend(from.secret_ref.iter().map(|r| (SourceKind::Secret, r.name.clone())));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        all.extend(source.config_map_key_ref.iter().map(|r| (SourceKind::ConfigMap, r.name.clone())));
        all.extend(source.secret_key_ref.iter().map(|r| (SourceKind::Secret, r.name.clone())));
    }
    all.sort();
    all.dedup();
    all
}

/// Replaces `$(NAME)` by its value; `$$` is a dollar; an unknown name stays as it is.
pub fn expand(text: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('(')
            && let Some(end) = inner.find(')')
        {
            let name = &inner[..end];
            match vars.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = &inner[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `NAME=value` lines as a map.
pub fn map(env: &[String]) -> BTreeMap<String, String> {
    env.iter().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Variables that tell of services, as Docker links did.
pub fn services(all: &[ServiceEnv], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in all {
        let master = service.namespace == "default" && service.name == "kubernetes";
        if !(master || (links && service.namespace == namespace)) {
            continue;
        }
        let prefix = service.name.to_uppercase().replace('-', "_");
        let Some((_, protocol, port)) = service.ports.first() else { continue };
        out.push((format!("{prefix}_SERVICE_HOST"), service.ip.clone()));
        out.push((format!("{prefix}_SERVICE_PORT"), port.to_string()));
        for (name, _, port) in service.ports.iter().filter(|(name, ..)| !name.is_empty()) {
            out.push((format!("{prefix}_SERVICE_PORT_{}", name.to_uppercase().replace('-', "_")), port.to_string()));
        }
        let host = if service.ip.contains(':') { format!("[{}]", service.ip) } else { service.ip.clone() };
        out.push((format!("{prefix}_PORT"), format!("{}://{host}:{port}", protocol.to_lowercase())));
        for (_, protocol, port) in &service.ports {
            let base = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
            out.push((base.clone(), format!("{}://{host}:{port}", protocol.to_lowercase())));
            out.push((format!("{base}_PROTO"), protocol.to_lowercase()));
            out.push((format!("{base}_PORT"), port.to_string()));
            out.push((format!("{base}_ADDR"), service.ip.clone()));
        }
    }
    out
}

/// The whole environment.
pub fn environment(
    pod: &Pod,
    container: &Container,
    image_env: &[String],
    service_env: Vec<(String, String)>,
    fetched: &Fetched,
    facts: &Facts,
) -> Result<Vec<String>, SpecError> {
    let mut env: Vec<(String, String)> = Vec::new();
    for line in image_env {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        set(&mut env, name, value.to_owned());
    }
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    set(&mut env, "HOSTNAME", if host_network { facts.node_name.clone() } else { super::files::hostname(pod) });
    if container.tty == Some(true) && !env.iter().any(|(name, _)| name == "TERM") {
        set(&mut env, "TERM", "xterm".into());
    }
    if !env.iter().any(|(name, _)| name == "PATH") {
        set(&mut env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    let mut own: Vec<(String, String)> = Vec::new();
    for from in container.env_from.iter().flatten() {
        let (key, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => ((SourceKind::ConfigMap, r.name.clone()), r.optional),
            (_, Some(r)) => ((SourceKind::Secret, r.name.clone()), r.optional),
            _ => continue,
        };
        match fetched.get(&key).and_then(Option::as_ref) {
            Some(data) => {
                for (name, value) in data {
                    let name = format!("{}{name}", from.prefix.as_deref().unwrap_or_default());
                    let value = String::from_utf8_lossy(value).into_owned();
                    vars.insert(name.clone(), value.clone());
                    set(&mut own, &name, value);
                }
            }
            None if optional == Some(true) => {}
            None => return Err(SpecError::Env(format!("{} \"{}\" not found", key.0.noun(), key.1))),
        }
    }
    let known: BTreeMap<String, String> = service_env.iter().cloned().collect();
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let mut all = known.clone();
                all.extend(vars.clone());
                Some(expand(text, &all))
            }
            (_, Some(source)) => value_from(pod, container, source, fetched, facts)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            vars.insert(var.name.clone(), value.clone());
            set(&mut own, &var.name, value);
        }
    }
    // What the pod sets wins over what services give.
    for (name, value) in service_env.into_iter().chain(own) {
        set(&mut env, &name, value);
    }
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(have, _)| have == name) {
        Some(entry) => entry.1 = value,
        None => env.push((name.to_owned(), value)),
    }
}

fn value_from(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    fetched: &Fetched,
    facts: &Facts,
) -> Result<Option<String>, SpecError> {
    if let Some(field) = &source.field_ref {
        return field_path(pod, &field.field_path, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource_field(pod, selector, Some(container), facts).map(Some);
    }
    let (kind, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(r), _) => (SourceKind::ConfigMap, &r.name, &r.key, r.optional),
        (_, Some(r)) => (SourceKind::Secret, &r.name, &r.key, r.optional),
        _ => return Err(SpecError::Env("this source of an environment variable is not supported".into())),
    };
    let optional = optional == Some(true);
    match fetched.get(&(kind, name.clone())).and_then(Option::as_ref) {
        None if optional => Ok(None),
        None => Err(SpecError::Env(format!("{} \"{name}\" not found", kind.noun()))),
        Some(data) => match data.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional => Ok(None),
            None => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let noun = if kind == SourceKind::Secret { "Secret" } else { "ConfigMap" };
                Err(SpecError::Env(format!("couldn't find key {key} in {noun} {namespace}/{name}")))
            }
        },
    }
}

/// A field of the pod as text, for env and downward API volumes.
pub fn field_path(pod: &Pod, path: &str, facts: &Facts) -> Result<String, SpecError> {
    let meta = &pod.metadata;
    let subscript = |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default();
    if let Some((base, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        return match base {
            "metadata.labels" => Ok(subscript(&meta.labels, key)),
            "metadata.annotations" => Ok(subscript(&meta.annotations, key)),
            _ => Err(SpecError::Env(format!("unsupported fieldPath: {path}"))),
        };
    }
    let lines =
        |map: &Option<BTreeMap<String, String>>| map.iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join("\n");
    let spec = pod.spec.as_ref();
    let ip = || facts.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.node_ip.to_string(),
        "status.podIP" | "status.podIPs" => ip(),
        _ => return Err(SpecError::Env(format!("unsupported fieldPath: {path}"))),
    })
}

/// A request or limit of a container as a number; a missing limit is the node's.
pub fn resource_field(pod: &Pod, selector: &ResourceFieldSelector, own: Option<&Container>, facts: &Facts) -> Result<String, SpecError> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => containers(pod).find(|c| c.name == name).ok_or_else(|| SpecError::Env(format!("container {name} not found")))?,
        None => own.ok_or_else(|| SpecError::Env("resourceFieldRef needs a containerName".into()))?,
    };
    let unsupported = || SpecError::Env(format!("unsupported container resource : {}", selector.resource));
    let (which, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let amount = match which {
        "limits" => resources::limit(container, name).filter(|v| *v > 0).or(match name {
            "cpu" => Some(facts.node_cpu),
            "memory" => Some(facts.node_memory),
            _ => None,
        }),
        "requests" => resources::request(container, name),
        _ => return Err(unsupported()),
    };
    let milli = match name {
        "cpu" => i128::from(amount.unwrap_or(0)),
        _ => i128::from(amount.unwrap_or(0)) * 1000,
    };
    let divisor = selector.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| *d != "0").unwrap_or("1");
    let divisor =
        resources::milli(divisor).filter(|d| *d > 0).map(i128::from).ok_or_else(|| SpecError::Env(format!("invalid divisor {divisor}")))?;
    Ok((milli.div_euclid(divisor) + i128::from(milli.rem_euclid(divisor) != 0)).to_string())
}
