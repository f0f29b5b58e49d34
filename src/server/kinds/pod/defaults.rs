//! Defaults of a pod's spec, as upstream's `pkg/apis/core/v1/defaults.go`.
//!
//! Kinds with templates get the same, but for the fields that only a pod of its own has (see [`spec`] and [`template`]).

use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, HTTPGetAction, LifecycleHandler, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, Volume,
};

use crate::server::kinds::volume;

const DEFAULT_MODE: i32 = 0o644;
const HOUR: i64 = 3600;

fn set(value: &mut Option<String>, default: &str) {
    if value.as_ref().is_none_or(String::is_empty) {
        *value = Some(default.into());
    }
}

/// A pod's own spec: service links, host ports and requests that follow limits are decided here, not in templates.
pub fn spec(spec: &mut PodSpec) {
    common(spec);
    spec.enable_service_links.get_or_insert(true);
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    containers.filter_map(|container| container.resources.as_mut()).for_each(requests_from_limits);
    if let Some(resources) = &mut spec.resources {
        requests_from_limits(resources);
    }
    if spec.host_network == Some(true) {
        default_host_ports(spec);
    }
}

/// A template's spec.
pub fn template(template: &mut PodTemplateSpec) {
    common(template.spec.get_or_insert_default());
}

fn common(spec: &mut PodSpec) {
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_default();
    // The old and the new name of one field.
    let account = spec.service_account_name.clone().filter(|name| !name.is_empty());
    let account = account.or_else(|| spec.service_account.clone().filter(|name| !name.is_empty()));
    spec.service_account_name.clone_from(&account);
    spec.service_account = account;
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(ephemeral);
    spec.volumes.iter_mut().flatten().for_each(volume_source);
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        set(&mut constraint.node_affinity_policy, "Honor");
        set(&mut constraint.node_taints_policy, "Ignore");
    }
}

fn default_host_ports(spec: &mut PodSpec) {
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for port in containers.flat_map(|container| container.ports.iter_mut().flatten()) {
        if port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

/// `Always` for images without a tag or with `:latest`, else `IfNotPresent`.
fn pull_policy(image: Option<&str>) -> &'static str {
    let image = image.unwrap_or_default();
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// Ephemeral containers are containers with other names for the same fields.
fn ephemeral(container: &mut EphemeralContainer) {
    set(&mut container.image_pull_policy, pull_policy(container.image.as_deref()));
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
    container.env.iter_mut().flatten().for_each(env);
}

fn container(container: &mut Container) {
    set(&mut container.image_pull_policy, pull_policy(container.image.as_deref()));
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(env);
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe].into_iter().flatten() {
        default_probe(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten().for_each(handler);
    }
    if let Some(context) = &mut container.security_context
        && context.proc_mount.as_deref() == Some("")
    {
        context.proc_mount = Some("Default".into());
    }
}

fn env(variable: &mut k8s_openapi::api::core::v1::EnvVar) {
    if let Some(source) = &mut variable.value_from {
        if let Some(field) = &mut source.field_ref {
            set(&mut field.api_version, "v1");
        }
        if let Some(file) = &mut source.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
}

fn default_probe(probe: &mut Probe) {
    let count = |value: &mut Option<i32>, default| {
        if value.unwrap_or_default() == 0 {
            *value = Some(default);
        }
    };
    count(&mut probe.timeout_seconds, 1);
    count(&mut probe.period_seconds, 10);
    count(&mut probe.success_threshold, 1);
    count(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http(action: &mut HTTPGetAction) {
    set(&mut action.path, "/");
    set(&mut action.scheme, "HTTP");
}

fn handler(handler: &mut LifecycleHandler) {
    handler.http_get.iter_mut().for_each(http);
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    for (name, limit) in resources.limits.iter().flatten() {
        resources.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn volume_source(source: &mut Volume) {
    if let Some(secret) = &mut source.secret {
        secret.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(map) = &mut source.config_map {
        map.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(downward) = &mut source.downward_api {
        downward.default_mode.get_or_insert(DEFAULT_MODE);
        downward.items.iter_mut().flatten().filter_map(|item| item.field_ref.as_mut()).for_each(|field| set(&mut field.api_version, "v1"));
    }
    if let Some(projected) = &mut source.projected {
        projected.default_mode.get_or_insert(DEFAULT_MODE);
        for part in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut part.service_account_token {
                token.expiration_seconds.get_or_insert(HOUR);
            }
            if let Some(downward) = &mut part.downward_api {
                let fields = downward.items.iter_mut().flatten().filter_map(|item| item.field_ref.as_mut());
                fields.for_each(|field| set(&mut field.api_version, "v1"));
            }
        }
    }
    if let Some(path) = &mut source.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(iscsi) = &mut source.iscsi {
        set(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut source.rbd {
        set(&mut rbd.pool, "rbd");
        set(&mut rbd.user, "admin");
        set(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut source.azure_disk {
        set(&mut disk.caching_mode, "ReadWrite");
        set(&mut disk.kind, "Shared");
        set(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale_io) = &mut source.scale_io {
        set(&mut scale_io.storage_mode, "ThinProvisioned");
        set(&mut scale_io.fs_type, "xfs");
    }
    if let Some(image) = &mut source.image {
        set(&mut image.pull_policy, pull_policy(image.reference.as_deref()));
    }
    if let Some(template) = source.ephemeral.as_mut().and_then(|ephemeral| ephemeral.volume_claim_template.as_mut()) {
        volume::default_claim(&mut template.spec);
    }
    if is_bare(source) {
        source.empty_dir = Some(Default::default());
    }
}

/// Whether a volume names no source: then it is an emptyDir.
fn is_bare(source: &Volume) -> bool {
    *source == Volume { name: source.name.clone(), ..Default::default() }
}
