//! Rules of PersistentVolumes and of what they share with claims and with the volumes of pods.

use k8s_openapi::api::core::v1::{HostPathVolumeSource, NFSVolumeSource, PersistentVolume, PersistentVolumeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::pod;
use super::support::path::{Errors, Path};
use super::support::rules;
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Files or blocks.
pub const MODES: &[&str] = &["Block", "Filesystem"];

/// How a volume may be mounted; `why` is said of one that may not be at all.
pub fn check_modes(errors: &mut Errors, path: &Path, modes: &[String], why: &str) {
    if modes.is_empty() {
        errors.push(FieldError::required(path.at("accessModes"), why));
    }
    for mode in modes {
        rules::one_of(errors, &path.at("accessModes"), mode, ACCESS_MODES);
    }
    let others = modes.iter().filter(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode.as_str())).count();
    if others > 0 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.push(FieldError::forbidden(path.at("accessModes"), "may not use ReadWriteOncePod with other access modes"));
    }
}

/// Upstream's `ValidatePositiveQuantityValue`.
pub fn positive(errors: &mut Errors, path: &Path, amount: &Amount) {
    match Quantity::parse(&amount.0) {
        Err(why) => errors.push(FieldError::invalid(path, &amount.0, why)),
        Ok(parsed) if parsed <= Quantity::ZERO => {
            errors.push(FieldError::invalid(path, parsed.to_string(), "must be greater than zero"));
        }
        Ok(_) => {}
    }
}

/// Upstream's `validateBasicResource`.
pub fn basic(errors: &mut Errors, path: &Path, amount: &Amount) {
    match Quantity::parse(&amount.0) {
        Err(why) => errors.push(FieldError::invalid(path, &amount.0, why)),
        Ok(parsed) if parsed.value() < 0 => errors.push(FieldError::invalid(path, parsed.value(), "must be a valid resource quantity")),
        Ok(_) => {}
    }
}

/// Names of the sources that a volume has.
fn sources(spec: &PersistentVolumeSpec) -> Vec<&'static str> {
    let all = [
        ("awsElasticBlockStore", spec.aws_elastic_block_store.is_some()),
        ("azureDisk", spec.azure_disk.is_some()),
        ("azureFile", spec.azure_file.is_some()),
        ("cephfs", spec.cephfs.is_some()),
        ("cinder", spec.cinder.is_some()),
        ("csi", spec.csi.is_some()),
        ("fc", spec.fc.is_some()),
        ("flexVolume", spec.flex_volume.is_some()),
        ("flocker", spec.flocker.is_some()),
        ("gcePersistentDisk", spec.gce_persistent_disk.is_some()),
        ("glusterfs", spec.glusterfs.is_some()),
        ("hostPath", spec.host_path.is_some()),
        ("iscsi", spec.iscsi.is_some()),
        ("local", spec.local.is_some()),
        ("nfs", spec.nfs.is_some()),
        ("photonPersistentDisk", spec.photon_persistent_disk.is_some()),
        ("portworxVolume", spec.portworx_volume.is_some()),
        ("quobyte", spec.quobyte.is_some()),
        ("rbd", spec.rbd.is_some()),
        ("scaleIO", spec.scale_io.is_some()),
        ("storageos", spec.storageos.is_some()),
        ("vsphereVolume", spec.vsphere_volume.is_some()),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// Every rule that a volume breaks, and the change to it.
pub fn check_volume(volume: &PersistentVolume, old: Option<&PersistentVolume>) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&volume.spec));
    check_modes(&mut errors, &path, spec.access_modes.as_deref().unwrap_or_default(), "");
    let capacity = rules::part(&spec.capacity);
    if capacity.is_empty() {
        errors.push(FieldError::required(path.at("capacity"), ""));
    }
    if capacity.len() != 1 || !capacity.contains_key("storage") {
        errors.push(FieldError::not_supported(path.at("capacity"), &*capacity, &["storage"]));
    }
    for (name, amount) in capacity.iter() {
        basic(&mut errors, &path.at("capacity").key(name), amount);
        positive(&mut errors, &path.at("capacity").key(name), amount);
    }
    rules::optional_one_of(
        &mut errors,
        &path.at("persistentVolumeReclaimPolicy"),
        &spec.persistent_volume_reclaim_policy,
        &["Delete", "Recycle", "Retain"],
    );
    if let Some(affinity) = &spec.node_affinity {
        let path = path.at("nodeAffinity.required");
        match &affinity.required {
            Some(selector) => pod::validate::node_selector(&mut errors, &path, selector),
            None => errors.push(FieldError::required(path, "must specify required node constraints")),
        }
    }
    match sources(&spec)[..] {
        [] => errors.push(FieldError::required(&path, "must specify a volume type")),
        [_] => {}
        [_, ref more @ ..] => {
            errors.extend(more.iter().map(|name| FieldError::forbidden(path.at(name), "may not specify more than 1 volume type")));
        }
    }
    check_source(&mut errors, &path, &spec);
    rules::optional_syntax(&mut errors, &path.at("storageClassName"), &spec.storage_class_name, names::subdomain);
    if let Some(mode) = &spec.volume_mode {
        rules::one_of(&mut errors, &path.at("volumeMode"), mode, MODES);
    }
    if let Some(class) = &spec.volume_attributes_class_name {
        let path = path.at("volumeAttributesClassName");
        match class.as_str() {
            "" => errors.push(FieldError::required(&path, "an empty string is disallowed")),
            class => rules::syntax(&mut errors, &path, class, names::subdomain),
        }
        if spec.csi.is_none() {
            errors.push(FieldError::required("spec.csi", "has to be specified when using volumeAttributesClassName"));
        }
    }
    if let Some(old) = old.map(|old| rules::part(&old.spec)) {
        check_volume_update(&mut errors, &path, &spec, &old);
    }
    errors
}

/// Rules of the sources that are in use; the others need drivers that no cluster has any more.
fn check_source(errors: &mut Errors, path: &Path, spec: &PersistentVolumeSpec) {
    if let Some(host_path) = &spec.host_path {
        check_host_path(errors, &path.at("hostPath"), host_path);
        let is_root = !host_path.path.is_empty() && host_path.path.split('/').all(|part| part.is_empty() || part == ".");
        if is_root && spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            let why = "may not be 'recycle' for a hostPath mount of '/'";
            errors.push(FieldError::forbidden(path.at("persistentVolumeReclaimPolicy"), why));
        }
    }
    if let Some(local) = &spec.local {
        if rules::required(errors, &path.at("local.path"), &local.path) && local.path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(path.at("local.path"), &local.path, "must not contain '..'"));
        }
        if spec.node_affinity.is_none() {
            errors.push(FieldError::required(path.at("nodeAffinity"), "Local volume requires node affinity"));
        }
    }
    if let Some(nfs) = &spec.nfs {
        check_nfs(errors, &path.at("nfs"), nfs);
    }
    let Some(csi) = &spec.csi else { return };
    let path = path.at("csi");
    check_driver(errors, &path.at("driver"), &csi.driver);
    rules::required(errors, &path.at("volumeHandle"), &csi.volume_handle);
    let secrets = [
        ("controllerPublishSecretRef", &csi.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &csi.controller_expand_secret_ref),
        ("nodePublishSecretRef", &csi.node_publish_secret_ref),
        ("nodeExpandSecretRef", &csi.node_expand_secret_ref),
    ];
    for (field, secret) in secrets {
        let Some(secret) = secret else { continue };
        rules::required_syntax(errors, &path.at(field).at("name"), rules::str_of(&secret.name), names::subdomain);
        rules::required_syntax(errors, &path.at(field).at("namespace"), rules::str_of(&secret.namespace), names::label);
    }
}

/// A file or directory of the host.
pub fn check_host_path(errors: &mut Errors, path: &Path, source: &HostPathVolumeSource) {
    const TYPES: &[&str] = &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if !rules::required(errors, &path.at("path"), &source.path) {
        return;
    }
    if source.path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path.at("path"), &source.path, "must not contain '..'"));
    }
    rules::one_of(errors, &path.at("type"), rules::str_of(&source.type_), TYPES);
}

/// A directory of an NFS server.
pub fn check_nfs(errors: &mut Errors, path: &Path, source: &NFSVolumeSource) {
    rules::required(errors, &path.at("server"), &source.server);
    rules::required(errors, &path.at("path"), &source.path);
    if !source.path.starts_with('/') {
        errors.push(FieldError::invalid(path.at("path"), &source.path, "must be an absolute path"));
    }
}

/// The name of a CSI driver.
pub fn check_driver(errors: &mut Errors, path: &Path, name: &str) {
    const MOST: usize = 63;
    rules::required(errors, path, name);
    if name.len() > MOST {
        errors.push(FieldError::too_long(path, MOST));
    }
    if let Err(why) = names::subdomain(&name.to_lowercase()) {
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn check_volume_update(errors: &mut Errors, path: &Path, new: &PersistentVolumeSpec, old: &PersistentVolumeSpec) {
    // All but the source, and the one secret that may be given later.
    let source = |spec: &PersistentVolumeSpec| {
        let mut bare = PersistentVolumeSpec {
            access_modes: None,
            capacity: None,
            claim_ref: None,
            mount_options: None,
            node_affinity: None,
            persistent_volume_reclaim_policy: None,
            storage_class_name: None,
            volume_attributes_class_name: None,
            volume_mode: None,
            ..spec.clone()
        };
        let unset = old.csi.as_ref().is_some_and(|csi| csi.controller_expand_secret_ref.is_none());
        if let Some(csi) = bare.csi.as_mut().filter(|_| unset) {
            csi.controller_expand_secret_ref = None;
        }
        bare
    };
    if source(new) != source(old) {
        errors.push(FieldError::forbidden(path.at("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation"));
    }
    rules::immutable(errors, &Path::new("volumeMode"), &new.volume_mode, &old.volume_mode);
    if old.node_affinity.is_some() && new.node_affinity != old.node_affinity {
        let why = format!("{}, except for updating from beta label to GA", rules::IMMUTABLE);
        errors.push(FieldError::invalid("nodeAffinity", &new.node_affinity, why));
    }
    if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(path.at("volumeAttributesClassName"), why));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    use super::*;
    use crate::server::kinds::support::testing::{errors, update_errors};

    #[test]
    fn volumes() {
        for (spec, want) in [
            ("hostPath: {path: /a}", ""),
            (
                "hostPath: {path: /}, persistentVolumeReclaimPolicy: Recycle",
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ),
            ("local: {path: /a}", "spec.nodeAffinity: Required value: Local volume requires node affinity"),
            (
                "hostPath: {path: /a}, nodeAffinity: {}",
                "spec.nodeAffinity.required: Required value: must specify required node constraints",
            ),
            ("nfs: {server: s, path: a}", "spec.nfs.path: Invalid value: \"a\": must be an absolute path"),
            (
                "csi: {driver: A.b, volumeHandle: h, nodePublishSecretRef: {name: s}}",
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ),
            (
                "hostPath: {path: /a}, volumeAttributesClassName: a",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ),
        ] {
            let found =
                errors::<PersistentVolume>(&format!("{{spec: {{capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], {spec}}}}}"));
            assert_eq!(found.join(" | "), want, "{spec}");
        }
        let bad = errors::<PersistentVolume>(
            "{spec: {capacity: {storage: 0, cpu: 1}, hostPath: {path: /a}, accessModes: [ReadWriteOncePod, ReadWriteOnce]}}",
        );
        let want = [
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"0\"}: supported values: \"storage\"",
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ];
        assert_eq!(bad, want);
        let volume =
            |csi: &str| format!("{{spec: {{capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], csi: {{driver: d, {csi}}}}}}}");
        let secret = "volumeHandle: h, controllerExpandSecretRef: {name: s, namespace: n}";
        assert!(update_errors::<PersistentVolume>(&volume("volumeHandle: h"), &volume(secret)).is_empty());
        assert_eq!(
            update_errors::<PersistentVolume>(&volume("volumeHandle: h"), &volume("volumeHandle: i")),
            ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
        );
    }

    #[test]
    fn claims() {
        const FROZEN: &str =
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let claim = |spec: &str, phase: &str| {
            format!("{{spec: {{accessModes: [ReadWriteOnce], {spec}}}, status: {{phase: {phase}, capacity: {{storage: 2Gi}}}}}}")
        };
        let size = |size: &str| format!("resources: {{requests: {{storage: {size}}}}}");
        for (extra, want) in [
            (
                "dataSource: {kind: Disk, name: d}",
                "spec.dataSource: Invalid value: \"Disk\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ),
            (
                "dataSource: {kind: PersistentVolumeClaim, name: d}, dataSourceRef: {kind: PersistentVolumeClaim, name: e}",
                "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
            ),
            ("volumeMode: ''", "spec.volumeMode: Unsupported value: \"\": supported values: \"Block\", \"Filesystem\""),
        ] {
            let found = errors::<PersistentVolumeClaim>(&claim(&format!("{}, {extra}", size("1Gi")), "Pending"));
            assert_eq!(found.join(" | "), want, "{extra}");
        }
        for (old, new, phase, want) in [
            (size("3Gi"), size("4Gi"), "Bound", ""),
            (size("3Gi"), size("4Gi"), "Pending", FROZEN),
            (size("4Gi"), size("3Gi"), "Bound", ""),
            (size("4Gi"), size("2Gi"), "Bound", "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"),
            (size("1Gi"), format!("{}, volumeName: v", size("1Gi")), "Pending", ""),
            (size("1Gi"), format!("{}, storageClassName: s", size("1Gi")), "Pending", ""),
            (format!("{}, storageClassName: s", size("1Gi")), format!("{}, storageClassName: t", size("1Gi")), "Pending", FROZEN),
            (
                format!("{}, volumeAttributesClassName: a", size("1Gi")),
                size("1Gi"),
                "Bound",
                "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims | spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden",
            ),
        ] {
            let found = update_errors::<PersistentVolumeClaim>(&claim(&old, phase), &claim(&new, phase));
            assert_eq!(found.join(" | "), want, "{old} to {new}, {phase}");
        }
    }
}
