//! Rules of what containers see of volumes: mounts and devices.

use k8s_openapi::api::core::v1::{Container, VolumeDevice, VolumeMount};

use super::volumes::{Names, local_path};
use crate::api::FieldError;
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

/// The mounts and devices of a container.
pub fn check(errors: &mut Errors, path: &Path, container: &Container, volumes: &Names<'_>) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let list = path.at("volumeMounts");
    for (index, mount) in mounts.iter().enumerate() {
        let path = list.index(index);
        rules::required(errors, &path.at("name"), &mount.name);
        if !volumes.contains_key(mount.name.as_str()) {
            errors.push(FieldError::not_found(path.at("name"), &mount.name));
        }
        rules::required(errors, &path.at("mountPath"), &mount.mount_path);
        if mounts[..index].iter().any(|other| other.mount_path == mount.mount_path) {
            errors.push(FieldError::invalid(path.at("mountPath"), &mount.mount_path, "must be unique"));
        }
        if devices.iter().any(|device| device.name == mount.name) {
            errors.push(FieldError::invalid(path.at("name"), &mount.name, "must not already exist in volumeDevices"));
        }
        if devices.iter().any(|device| device.device_path == mount.mount_path) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(path.at("mountPath"), &mount.mount_path, why));
        }
        check_parts(errors, &list, &path, mount, container);
    }
    for (index, device) in devices.iter().enumerate() {
        check_device(errors, &path.at("volumeDevices").index(index), device, &devices[..index], mounts, volumes);
    }
}

/// Which part is mounted, and how. Upstream names most of these fields below the list, not below its element.
fn check_parts(errors: &mut Errors, list: &Path, path: &Path, mount: &VolumeMount, container: &Container) {
    let (sub, expr) = (rules::str_of(&mount.sub_path), rules::str_of(&mount.sub_path_expr));
    if !sub.is_empty() {
        local_path(errors, &list.at("subPath"), sub);
    }
    if !expr.is_empty() {
        if !sub.is_empty() {
            errors.push(FieldError::invalid(path.at("subPathExpr"), expr, "subPathExpr and subPath are mutually exclusive"));
        }
        local_path(errors, &list.at("subPathExpr"), expr);
    }
    let propagation = rules::str_of(&mount.mount_propagation);
    if mount.mount_propagation.is_some() {
        rules::one_of(errors, &list.at("mountPropagation"), propagation, &["Bidirectional", "HostToContainer", "None"]);
        let privileged = container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
        if propagation == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(list.at("mountPropagation"), why));
        }
    }
    let Some(recursive) = &mount.recursive_read_only else { return };
    let path = list.at("recursiveReadOnly");
    match recursive.as_str() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if mount.read_only != Some(true) {
                errors.push(FieldError::forbidden(&path, "may only be specified when readOnly is true"));
            }
            if !matches!(propagation, "" | "None") {
                errors.push(FieldError::forbidden(&path, "may only be specified when mountPropagation is None or not specified"));
            }
        }
        other => rules::one_of(errors, &path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn check_device(
    errors: &mut Errors,
    path: &Path,
    device: &VolumeDevice,
    earlier: &[VolumeDevice],
    mounts: &[VolumeMount],
    volumes: &Names<'_>,
) {
    let (name, place) = (device.name.as_str(), device.device_path.as_str());
    let mut invalid = |field: &str, value: &str, why: &str| errors.push(FieldError::invalid(path.at(field), value, why));
    if name.is_empty() {
        errors.push(FieldError::required(path.at("name"), ""));
    } else if earlier.iter().any(|other| other.name == name) {
        invalid("name", name, "must be unique");
    }
    match volumes.get(name) {
        None => errors.push(FieldError::not_found(path.at("name"), name)),
        Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => {
            let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.push(FieldError::invalid(path.at("name"), name, why));
        }
        Some(_) => {}
    }
    rules::required(errors, &path.at("devicePath"), place);
    let mut invalid = |field: &str, value: &str, why: &str| errors.push(FieldError::invalid(path.at(field), value, why));
    if earlier.iter().any(|other| other.device_path == place) {
        invalid("devicePath", place, "must be unique");
    }
    if place.split('/').any(|part| part == "..") {
        invalid("devicePath", place, "can not contain backsteps ('..')");
    }
    if mounts.iter().any(|mount| mount.name == name) {
        invalid("name", name, "must not already exist in volumeMounts");
    }
    if mounts.iter().any(|mount| mount.mount_path == place) {
        invalid("devicePath", place, "must not already exist as a path in volumeMounts");
    }
}
