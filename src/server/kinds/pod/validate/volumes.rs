//! Rules of volumes: unique names, exactly one source, well formed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Volume};

use super::env::{field_ref, resource_ref};
use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;
use crate::server::kinds::{volume as claims, volume_rules as named};

/// The volumes of a pod, by name.
pub type Names<'a> = BTreeMap<&'a str, &'a Volume>;

const DOWNWARD_PATHS: &[&str] = &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Checks all volumes and returns those that mounts may name: the good ones.
pub fn check<'a>(errors: &mut Errors, path: &Path, volumes: &'a [Volume]) -> Names<'a> {
    let mut good = Names::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let before = errors.len();
        sources(errors, &path, volume);
        check_source(errors, &path, volume);
        rules::required_syntax(errors, &path.at("name"), &volume.name, names::label);
        if good.contains_key(volume.name.as_str()) {
            errors.push(FieldError::duplicate(path.at("name"), &volume.name));
        }
        if errors.len() == before {
            good.insert(&volume.name, volume);
        }
    }
    good
}

/// A relative path that stays below its root.
pub fn local_path(errors: &mut Errors, path: &Path, text: &str) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}

fn sources(errors: &mut Errors, path: &Path, volume: &Volume) {
    let all = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    let mut there = all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name);
    if there.next().is_none() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    errors.extend(there.map(|name| FieldError::forbidden(path.at(name), "may not specify more than 1 volume type")));
}

fn check_source(errors: &mut Errors, path: &Path, volume: &Volume) {
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()) {
        rules::quantity(errors, &path.at("emptyDir.sizeLimit"), limit);
    }
    if let Some(source) = &volume.host_path {
        named::check_host_path(errors, &path.at("hostPath"), source);
    }
    if let Some(source) = &volume.secret {
        let path = path.at("secret");
        rules::required(errors, &path.at("secretName"), rules::str_of(&source.secret_name));
        mode(errors, &path.at("defaultMode"), source.default_mode);
        items(errors, &path.at("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.config_map {
        let path = path.at("configMap");
        rules::required(errors, &path.at("name"), &source.name);
        mode(errors, &path.at("defaultMode"), source.default_mode);
        items(errors, &path.at("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.downward_api {
        let path = path.at("downwardAPI");
        mode(errors, &path.at("defaultMode"), source.default_mode);
        downward(errors, &path, source.items.as_deref());
    }
    if let Some(source) = &volume.projected {
        projected(errors, &path.at("projected"), source);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        rules::required(errors, &path.at("persistentVolumeClaim.claimName"), &source.claim_name);
    }
    if let Some(source) = &volume.nfs {
        named::check_nfs(errors, &path.at("nfs"), source);
    }
    if let Some(source) = &volume.csi {
        let path = path.at("csi");
        named::check_driver(errors, &path.at("driver"), &source.driver);
        if let Some(secret) = &source.node_publish_secret_ref {
            rules::required(errors, &path.at("nodePublishSecretRef.name"), &secret.name);
            rules::optional_syntax(errors, &path.at("name"), &Some(secret.name.clone()), names::subdomain);
        }
    }
    if let Some(source) = &volume.ephemeral {
        let path = path.at("ephemeral.volumeClaimTemplate");
        match &source.volume_claim_template {
            None => errors.push(FieldError::required(&path, "")),
            Some(template) => errors.extend(claims::check_claim(&path.at("spec"), &template.spec)),
        }
    }
    if let Some(source) = &volume.image {
        rules::required(errors, &path.at("image.reference"), rules::str_of(&source.reference));
        rules::optional_one_of(errors, &path.at("image.pullPolicy"), &source.pull_policy, &["Always", "IfNotPresent", "Never"]);
    }
}

fn mode(errors: &mut Errors, path: &Path, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(FieldError::invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn items(errors: &mut Errors, path: &Path, items: Option<&[KeyToPath]>) {
    for (index, item) in items.into_iter().flatten().enumerate() {
        let path = path.index(index);
        rules::required(errors, &path.at("key"), &item.key);
        item_path(errors, &path.at("path"), &item.path);
        mode(errors, &path.at("mode"), item.mode);
    }
}

fn item_path(errors: &mut Errors, path: &Path, text: &str) {
    if rules::required(errors, path, text) {
        local_path(errors, path, text);
        if text.starts_with("..") && !text.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(path, text, "must not start with '..'"));
        }
    }
}

fn downward(errors: &mut Errors, path: &Path, files: Option<&[DownwardAPIVolumeFile]>) {
    for (index, file) in files.into_iter().flatten().enumerate() {
        let path = path.at("items").index(index);
        item_path(errors, &path.at("path"), &file.path);
        mode(errors, &path.at("mode"), file.mode);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(_), Some(_)) => {
                errors.push(FieldError::invalid(&path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
            }
            (None, None) => errors.push(FieldError::required(&path, "one of fieldRef and resourceFieldRef is required")),
            (Some(field), None) => field_ref(errors, &path.at("fieldRef"), field, DOWNWARD_PATHS),
            (None, Some(resource)) => {
                // Outside of a container there is none to mean without its name.
                let path = path.at("resourceFieldRef");
                if rules::required(errors, &path.at("containerName"), rules::str_of(&resource.container_name)) {
                    resource_ref(errors, &path, resource);
                }
            }
        }
    }
}

fn projected(errors: &mut Errors, path: &Path, source: &ProjectedVolumeSource) {
    mode(errors, &path.at("defaultMode"), source.default_mode);
    for (index, part) in source.sources.iter().flatten().enumerate() {
        let path = path.at("sources").index(index);
        let all = [
            ("secret", part.secret.is_some()),
            ("downwardAPI", part.downward_api.is_some()),
            ("configMap", part.config_map.is_some()),
            ("serviceAccountToken", part.service_account_token.is_some()),
            ("clusterTrustBundle", part.cluster_trust_bundle.is_some()),
            ("podCertificate", part.pod_certificate.is_some()),
        ];
        let mut there = all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name);
        if there.next().is_none() {
            errors.push(FieldError::required(&path, "must specify a volume type"));
        }
        errors.extend(there.map(|_| FieldError::forbidden(&path, "may not specify more than 1 volume type")));
        if let Some(secret) = &part.secret {
            rules::required(errors, &path.at("secret.name"), &secret.name);
            items(errors, &path.at("secret.items"), secret.items.as_deref());
        }
        if let Some(map) = &part.config_map {
            rules::required(errors, &path.at("configMap.name"), &map.name);
            items(errors, &path.at("configMap.items"), map.items.as_deref());
        }
        if let Some(source) = &part.downward_api {
            downward(errors, &path.at("downwardAPI"), source.items.as_deref());
        }
        if let Some(token) = &part.service_account_token {
            let path = path.at("serviceAccountToken");
            if let Some(seconds) = token.expiration_seconds.filter(|seconds| *seconds < 600) {
                errors.push(FieldError::invalid(path.at("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"));
            }
            item_path(errors, &path.at("path"), &token.path);
        }
    }
}
