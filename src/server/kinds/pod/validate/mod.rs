//! Rules of pods and pod templates: upstream's `ValidatePodSpec` and what it calls.

mod container;
mod env;
mod handlers;
mod mounts;
mod os;
mod placement;
mod resources;
mod security;
#[cfg(test)]
mod tests;
mod volumes;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodResourceClaim, PodSpec, PodTemplateSpec};

use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;
pub use placement::{node_selector, tolerations};
pub use resources::check_overhead as overhead;
use security::{app_armor, id, seccomp, security};

/// The largest id or deadline: they are kept as 32-bit numbers in the end.
pub const MAX_INT32: i64 = i32::MAX as i64;

/// Rules of a pod that is to be created.
pub fn pod(pod: &Pod) -> Errors {
    let mut errors = Errors::new();
    let (path, pod_spec) = (Path::new("spec"), rules::part(&pod.spec));
    spec(&mut errors, &path, &pod_spec, true);
    of_pod(&mut errors, &path, &pod_spec);
    if pod_spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(FieldError::forbidden(path.at("ephemeralContainers"), "cannot be set on create"));
    }
    let gated = pod_spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if gated && !rules::str_of(&pod_spec.node_name).is_empty() {
        errors.push(FieldError::forbidden(path.at("nodeName"), "cannot be set until all schedulingGates have been cleared"));
    }
    errors
}

/// What holds of pods, and not of templates.
fn of_pod(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let lists = [("containers", spec.containers.as_slice()), ("initContainers", spec.init_containers.as_deref().unwrap_or_default())];
    for (field, list) in lists {
        for (index, one) in list.iter().enumerate() {
            container::check_of_pod(errors, &path.at(field).index(index), &one.image);
        }
    }
    if !rules::str_of(&spec.service_account_name).is_empty() {
        return;
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()).enumerate();
        for (part, _) in sources.filter(|(_, source)| source.service_account_token.is_some()) {
            let path = path.at("volumes").index(index).at("projected.sources").index(part).at("serviceAccountToken");
            errors.push(FieldError::forbidden(path, "must not be specified when serviceAccountName is not set"));
        }
    }
}

/// Rules of a pod's ephemeral containers.
pub fn ephemeral(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let volumes = spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
    container::check_ephemeral(errors, path, spec, &volumes);
}

/// Rules of a template.
pub fn template(errors: &mut Errors, path: &Path, template: &PodTemplateSpec) {
    if let Some(meta) = &template.metadata {
        rules::labels(errors, &path.at("labels"), meta.labels.as_ref());
        for key in meta.annotations.iter().flatten().map(|(key, _)| key) {
            rules::syntax(errors, &path.at("annotations"), &key.to_lowercase(), names::qualified);
        }
    }
    let pod_spec = rules::part(&template.spec);
    spec(errors, &path.at("spec"), &pod_spec, false);
    if pod_spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(FieldError::forbidden(path.at("spec.ephemeralContainers"), "ephemeral containers not allowed in pod template"));
    }
}

fn spec(errors: &mut Errors, path: &Path, spec: &PodSpec, is_pod: bool) {
    let volumes = volumes::check(errors, &path.at("volumes"), spec.volumes.as_deref().unwrap_or_default());
    claims(errors, &path.at("resourceClaims"), spec.resource_claims.as_deref().unwrap_or_default());
    container::check_all(errors, path, spec, &volumes, is_pod);
    resources::check_pod(errors, &path.at("resources"), spec);
    rules::required_one_of(errors, &path.at("restartPolicy"), rules::str_of(&spec.restart_policy), &["Always", "Never", "OnFailure"]);
    dns(errors, path, spec);
    rules::labels(errors, &path.at("nodeSelector"), spec.node_selector.as_ref());
    let names: [(&str, &Option<String>, rules::Syntax); 6] = [
        ("nodeName", &spec.node_name, names::subdomain),
        ("serviceAccountName", &spec.service_account_name, names::subdomain),
        ("hostname", &spec.hostname, names::label),
        ("subdomain", &spec.subdomain, names::label),
        ("priorityClassName", &spec.priority_class_name, names::subdomain),
        ("runtimeClassName", &spec.runtime_class_name, names::subdomain),
    ];
    for (field, value, rule) in names {
        rules::optional_syntax(errors, &path.at(field), value, rule);
    }
    security(errors, &path.at("securityContext"), spec);
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(path.at("shareProcessNamespace"), true, why));
    }
    placement::check(errors, path, spec);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=MAX_INT32).contains(seconds)) {
        let why = format!("must be between 1 and {MAX_INT32}, inclusive");
        errors.push(FieldError::invalid(path.at("activeDeadlineSeconds"), seconds, why));
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.at("hostAliases").index(index);
        rules::syntax(errors, &path.at("ip"), &alias.ip, names::ip);
        for (index, host) in alias.hostnames.iter().flatten().enumerate() {
            rules::syntax(errors, &path.at("hostnames").index(index), host, names::subdomain);
        }
    }
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        rules::syntax(errors, &path.at("readinessGates").index(index).at("conditionType"), &gate.condition_type, names::qualified);
    }
    resources::check_overhead(errors, &path.at("overhead"), &spec.overhead);
    os::check(errors, path, spec);
    rules::optional_one_of(errors, &path.at("preemptionPolicy"), &spec.preemption_policy, &["Never", "PreemptLowerPriority"]);
}

/// The devices of a pod, each from a claim or from a template of one.
fn claims(errors: &mut Errors, path: &Path, claims: &[PodResourceClaim]) {
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        if rules::required(errors, &path.at("name"), &claim.name) {
            if claims[..index].iter().any(|other| other.name == claim.name) {
                errors.push(FieldError::duplicate(path.at("name"), &claim.name));
            } else {
                rules::syntax(errors, &path.at("name"), &claim.name, names::label);
            }
        }
        let sources =
            [("resourceClaimName", &claim.resource_claim_name), ("resourceClaimTemplateName", &claim.resource_claim_template_name)];
        match sources.iter().filter(|(_, name)| name.is_some()).count() {
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(FieldError::invalid(&path, claim, why));
            }
            1 => {}
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(FieldError::invalid(&path, claim, why));
            }
        }
        for (field, name) in sources {
            if let Some(name) = name {
                rules::syntax(errors, &path.at(field), name, names::subdomain);
            }
        }
    }
}

fn dns(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    const POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    let policy = rules::str_of(&spec.dns_policy);
    rules::required_one_of(errors, &path.at("dnsPolicy"), policy, POLICIES);
    let path = path.at("dnsConfig");
    match &spec.dns_config {
        None if policy == "None" => errors.push(FieldError::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None")),
        Some(config) if policy == "None" && config.nameservers.as_ref().is_none_or(Vec::is_empty) => {
            errors.push(FieldError::required(path.at("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
        None => {}
        Some(config) => dns_config(errors, &path, config),
    }
}

/// What the C library's resolver can hold.
fn dns_config(errors: &mut Errors, path: &Path, config: &PodDNSConfig) {
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if servers.len() > 3 {
        errors.push(FieldError::invalid(path.at("nameservers"), servers, "must not have more than 3 nameservers"));
    }
    for (index, server) in servers.iter().enumerate() {
        rules::syntax(errors, &path.at("nameservers").index(index), server, names::ip);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > 32 {
        errors.push(FieldError::invalid(path.at("searches"), searches, "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(FieldError::invalid(path.at("searches"), searches, why));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        rules::syntax(errors, &path.at("searches").index(index), search, names::search_domain);
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if rules::str_of(&option.name).is_empty() {
            errors.push(FieldError::required(path.at("options").index(index), "must not be empty"));
        }
    }
}
