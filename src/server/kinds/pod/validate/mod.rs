//! Rules of pods and pod templates: upstream's `ValidatePodSpec` and what it calls.

mod container;
mod handlers;
mod placement;
mod volumes;

use k8s_openapi::api::core::v1::{Pod, PodSecurityContext, PodSpec, PodTemplateSpec};

use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

/// The largest id or deadline: they are kept as 32-bit numbers in the end.
pub const MAX_INT32: i64 = i32::MAX as i64;

/// Rules of a pod that is to be created.
pub fn pod(pod: &Pod) -> Errors {
    let mut errors = Errors::new();
    let (path, pod_spec) = (Path::new("spec"), rules::part(&pod.spec));
    spec(&mut errors, &path, &pod_spec);
    if pod_spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(FieldError::forbidden(path.at("ephemeralContainers"), "cannot be set on create"));
    }
    let gated = pod_spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if gated && !rules::str_of(&pod_spec.node_name).is_empty() {
        errors.push(FieldError::forbidden(path.at("nodeName"), "cannot be set until all schedulingGates have been cleared"));
    }
    errors
}

/// Rules of a pod's ephemeral containers.
pub fn ephemeral(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let volumes = spec.volumes.iter().flatten().map(|volume| volume.name.clone()).collect();
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
    spec(errors, &path.at("spec"), &pod_spec);
    if pod_spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(FieldError::forbidden(path.at("spec.ephemeralContainers"), "ephemeral containers not allowed in pod template"));
    }
}

fn spec(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let volumes = volumes::check(errors, &path.at("volumes"), spec.volumes.as_deref().unwrap_or_default());
    container::check_all(errors, path, spec, &volumes);
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
    security(errors, &path.at("securityContext"), &rules::part(&spec.security_context));
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(path.at("shareProcessNamespace"), true, why));
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        rules::required(errors, &path.at("imagePullSecrets").index(index).at("name"), &secret.name);
    }
    placement::check(errors, path, spec);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=MAX_INT32).contains(seconds)) {
        let why = format!("must be between 1 and {MAX_INT32}, inclusive");
        errors.push(FieldError::invalid(path.at("activeDeadlineSeconds"), seconds, why));
    }
    rules::optional_non_negative(errors, &path.at("terminationGracePeriodSeconds"), spec.termination_grace_period_seconds);
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.at("hostAliases").index(index);
        rules::syntax(errors, &path.at("ip"), &alias.ip, names::ip);
        for host in alias.hostnames.iter().flatten() {
            rules::syntax(errors, &path.at("hostnames"), host, names::subdomain);
        }
    }
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        rules::syntax(errors, &path.at("readinessGates").index(index).at("conditionType"), &gate.condition_type, names::qualified);
    }
    rules::resource_list(errors, &path.at("overhead"), spec.overhead.as_ref());
    rules::optional_one_of(errors, &path.at("preemptionPolicy"), &spec.preemption_policy, &["Never", "PreemptLowerPriority"]);
}

fn dns(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    const POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    let policy = rules::str_of(&spec.dns_policy);
    rules::required_one_of(errors, &path.at("dnsPolicy"), policy, POLICIES);
    let config = rules::part(&spec.dns_config);
    let path = path.at("dnsConfig");
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if policy == "None" && spec.dns_config.is_none() {
        errors.push(FieldError::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"));
    } else if policy == "None" && servers.is_empty() {
        errors.push(FieldError::required(path.at("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"));
    }
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
    for (index, option) in config.options.iter().flatten().enumerate() {
        if rules::str_of(&option.name).is_empty() {
            errors.push(FieldError::required(path.at("options").index(index), "must not be empty"));
        }
    }
}

/// User and group ids.
fn id(errors: &mut Errors, path: &Path, value: Option<i64>) {
    if let Some(value) = value.filter(|value| !(0..=MAX_INT32).contains(value)) {
        errors.push(FieldError::invalid(path, value, format!("must be between 0 and {MAX_INT32}, inclusive")));
    }
}

fn seccomp(errors: &mut Errors, path: &Path, profile: Option<&k8s_openapi::api::core::v1::SeccompProfile>) {
    let Some(profile) = profile else { return };
    rules::required_one_of(errors, &path.at("type"), &profile.type_, &["Localhost", "RuntimeDefault", "Unconfined"]);
    match (profile.type_.as_str(), rules::str_of(&profile.localhost_profile)) {
        ("Localhost", "") => errors.push(FieldError::required(path.at("localhostProfile"), "must be set when seccomp type is Localhost ")),
        ("Localhost", file) => volumes::local_path(errors, &path.at("localhostProfile"), file),
        (_, "") => {}
        (_, file) => errors.push(FieldError::invalid(path.at("localhostProfile"), file, "can only be set when seccomp type is Localhost")),
    }
}

fn security(errors: &mut Errors, path: &Path, context: &PodSecurityContext) {
    for (field, value) in [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        id(errors, &path.at(field), value);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(errors, &path.at("supplementalGroups").index(index), Some(*group));
    }
    rules::optional_one_of(errors, &path.at("fsGroupChangePolicy"), &context.fs_group_change_policy, &["Always", "OnRootMismatch"]);
    rules::optional_one_of(errors, &path.at("supplementalGroupsPolicy"), &context.supplemental_groups_policy, &["Merge", "Strict"]);
    seccomp(errors, &path.at("seccompProfile"), context.seccomp_profile.as_ref());
    let sysctls = context.sysctls.as_deref().unwrap_or_default();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let path = path.at("sysctls").index(index).at("name");
        rules::required(errors, &path, &sysctl.name);
        if sysctls[..index].iter().any(|other| other.name == sysctl.name) {
            errors.push(FieldError::duplicate(&path, &sysctl.name));
        }
    }
}
