//! PersistentVolume and PersistentVolumeClaim.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const MODES: &[&str] = &["Block", "Filesystem"];
const LEGACY_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

kind!(PersistentVolume: CLUSTER { returns_deleted: true, singular: "persistentvolume", short: &["pv"], generation: false, subresources: &[Subresource::Status] }
    separate_status!(updates);
    fn prepare_create(&mut self) { self.status.insert(Default::default()).phase = Some("Pending".into()); }
    fn apply_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.persistent_volume_reclaim_policy.get_or_insert_with(|| "Retain".into());
        spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
        if let Some(host_path) = &mut spec.host_path {
            host_path.type_.get_or_insert_default();
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors { check_volume(self, old) }
    columns!(PersistentVolume;
        "Capacity" string: "Its size." => |volume, _| print::text(
            print::storage(rules::part(&volume.spec).capacity.as_ref())),
        "Access Modes" string: "How it can be mounted." =>
            |volume, _| print::text(print::access_modes(rules::part(&volume.spec).access_modes.as_ref())),
        "Reclaim Policy" string: "What becomes of it once released." =>
            |volume, _| print::opt(&rules::part(&volume.spec).persistent_volume_reclaim_policy),
        "Status" string: "Its phase." => |volume, _| {
            let phase = rules::part(&volume.status).phase.clone().unwrap_or_default();
            print::text(if volume.metadata.deletion_timestamp.is_some() { "Terminating".into() } else { phase })
        },
        "Claim" string: "Whose it is." => |volume, _| print::text(rules::part(&volume.spec).claim_ref.as_ref().map_or_else(
            String::new, |claim| format!("{}/{}", rules::str_of(&claim.namespace), rules::str_of(&claim.name)))),
        "StorageClass" string: "Its class." =>
            |volume, _| print::text(class(&volume.metadata.annotations, &rules::part(&volume.spec).storage_class_name)),
        "VolumeAttributesClass" string: "Its attributes." => |volume, _| print::text(
            rules::part(&volume.spec).volume_attributes_class_name.clone().unwrap_or_else(|| print::UNSET.into())),
        "Reason" string: "Why it is in this phase." => |volume, _| print::opt(&rules::part(&volume.status).reason),
        "Age" string: "Time since creation." => print::age,
        "VolumeMode" string wide: "Files or blocks." => |volume, _| print::text(
            rules::part(&volume.spec).volume_mode.clone().unwrap_or_else(|| print::UNSET.into())),
    );
);

kind!(PersistentVolumeClaim: NAMESPACED {
        returns_deleted: true, singular: "persistentvolumeclaim", short: &["pvc"], generation: false, subresources: &[Subresource::Status],
    }
    separate_status!(updates);
    fn prepare_create(&mut self) { self.status.insert(Default::default()).phase = Some("Pending".into()); }
    fn apply_defaults(&mut self) { self.spec.iter_mut().for_each(default_claim); }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        let mut errors = check_claim(&path, &spec);
        if let Some(old) = old {
            check_claim_update(&mut errors, &path, self, old);
        }
        errors
    }
    columns!(PersistentVolumeClaim;
        "Status" string: "Its phase." => |claim, _| {
            let phase = rules::part(&claim.status).phase.clone().unwrap_or_default();
            print::text(if claim.metadata.deletion_timestamp.is_some() { "Terminating".into() } else { phase })
        },
        "Volume" string: "The volume it got." => |claim, _| print::opt(&rules::part(&claim.spec).volume_name),
        "Capacity" string: "Its size." => |claim, _| print::text(match bound(claim) {
            true => print::storage(rules::part(&claim.status).capacity.as_ref()),
            false => String::new(),
        }),
        "Access Modes" string: "How it can be mounted." => |claim, _| print::text(match bound(claim) {
            true => print::access_modes(rules::part(&claim.status).access_modes.as_ref()),
            false => String::new(),
        }),
        "StorageClass" string: "Its class." =>
            |claim, _| print::text(class(&claim.metadata.annotations, &rules::part(&claim.spec).storage_class_name)),
        "VolumeAttributesClass" string: "Its attributes." => |claim, _| print::text(
            rules::part(&claim.spec).volume_attributes_class_name.clone().unwrap_or_else(|| print::UNSET.into())),
        "Age" string: "Time since creation." => print::age,
        "VolumeMode" string wide: "Files or blocks." => |claim, _| print::text(
            rules::part(&claim.spec).volume_mode.clone().unwrap_or_else(|| print::UNSET.into())),
    );
);

fn bound(claim: &PersistentVolumeClaim) -> bool {
    !rules::str_of(&rules::part(&claim.spec).volume_name).is_empty()
}

fn class(annotations: &Option<std::collections::BTreeMap<String, String>>, name: &Option<String>) -> String {
    annotations.as_ref().and_then(|all| all.get(LEGACY_CLASS)).or(name.as_ref()).cloned().unwrap_or_default()
}

/// Defaults of a claim's spec, also within templates.
pub fn default_claim(spec: &mut PersistentVolumeClaimSpec) {
    spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
}

fn check_modes(errors: &mut Errors, path: &Path, modes: &[String]) {
    if modes.is_empty() {
        errors.push(FieldError::required(path.at("accessModes"), "at least 1 access mode is required"));
    }
    for mode in modes {
        rules::one_of(errors, &path.at("accessModes"), mode, ACCESS_MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.push(FieldError::forbidden(path.at("accessModes"), "may not use ReadWriteOncePod with other access modes"));
    }
}

/// Rules of a claim's spec, also within templates.
pub fn check_claim(path: &Path, spec: &PersistentVolumeClaimSpec) -> Errors {
    let mut errors = Errors::new();
    check_modes(&mut errors, path, spec.access_modes.as_deref().unwrap_or_default());
    rules::label_selector(&mut errors, &path.at("selector"), spec.selector.as_ref());
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.push(FieldError::required(path.at("resources").key("storage"), "")),
        Some(amount) => {
            let zero = Quantity::parse("0").ok();
            let path = path.at("resources").key("storage");
            if let Some(parsed) = rules::quantity(&mut errors, &path, amount)
                && Some(parsed) == zero
            {
                errors.push(FieldError::invalid(&path, &amount.0, "must be greater than zero"));
            }
        }
    }
    rules::optional_syntax(&mut errors, &path.at("storageClassName"), &spec.storage_class_name, names::subdomain);
    rules::optional_one_of(&mut errors, &path.at("volumeMode"), &spec.volume_mode, MODES);
    errors
}

fn check_claim_update(errors: &mut Errors, path: &Path, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) {
    let (mut new_spec, old_spec) = (rules::part(&new.spec).into_owned(), rules::part(&old.spec));
    let was_bound = rules::str_of(&rules::part(&old.status).phase) == "Bound";
    let size = |spec: &PersistentVolumeClaimSpec| {
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get("storage")).and_then(|amount| Quantity::parse(&amount.0).ok())
    };
    if let (Some(new_size), Some(old_size)) = (size(&new_spec), size(&old_spec))
        && new_size < old_size
    {
        errors.push(FieldError::forbidden(path.at("resources.requests.storage"), "field can not be less than previous value"));
    }
    // Everything else is frozen but what binding, growing and reclassing write.
    if rules::str_of(&old_spec.volume_name).is_empty() {
        new_spec.volume_name = old_spec.volume_name.clone();
    }
    if was_bound {
        new_spec.resources = old_spec.resources.clone();
    }
    if old_spec.storage_class_name.is_none() {
        new_spec.storage_class_name = None;
    }
    new_spec.volume_attributes_class_name = old_spec.volume_attributes_class_name.clone();
    if new_spec != *old_spec {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden(path, why));
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

fn check_volume(volume: &PersistentVolume, old: Option<&PersistentVolume>) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&volume.spec));
    check_modes(&mut errors, &path, spec.access_modes.as_deref().unwrap_or_default());
    match &spec.capacity {
        Some(capacity) if capacity.contains_key("storage") => {
            if capacity.len() > 1 {
                errors.push(FieldError::not_supported(path.at("capacity"), capacity, &["storage"]));
            }
            rules::resource_list(&mut errors, &path.at("capacity"), Some(capacity));
        }
        Some(capacity) if !capacity.is_empty() => errors.push(FieldError::not_supported(path.at("capacity"), capacity, &["storage"])),
        _ => errors.push(FieldError::required(path.at("capacity"), "")),
    }
    rules::optional_one_of(
        &mut errors,
        &path.at("persistentVolumeReclaimPolicy"),
        &spec.persistent_volume_reclaim_policy,
        &["Delete", "Recycle", "Retain"],
    );
    match sources(&spec)[..] {
        [] => errors.push(FieldError::required(&path, "must specify a volume type")),
        [_] => {}
        [_, ref more @ ..] => {
            errors.extend(more.iter().map(|name| FieldError::forbidden(path.at(name), "may not specify more than 1 volume type")));
        }
    }
    if let Some(host_path) = &spec.host_path {
        rules::required(&mut errors, &path.at("hostPath.path"), &host_path.path);
        if host_path.path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(path.at("hostPath.path"), &host_path.path, "must not contain '..'"));
        }
    }
    if let Some(local) = &spec.local {
        rules::required(&mut errors, &path.at("local.path"), &local.path);
        if spec.node_affinity.is_none() {
            errors.push(FieldError::required("metadata.annotations", "Local volume requires node affinity"));
        }
    }
    if let Some(nfs) = &spec.nfs {
        rules::required(&mut errors, &path.at("nfs.server"), &nfs.server);
        rules::required(&mut errors, &path.at("nfs.path"), &nfs.path);
    }
    if let Some(csi) = &spec.csi {
        rules::required(&mut errors, &path.at("csi.driver"), &csi.driver);
        rules::required(&mut errors, &path.at("csi.volumeHandle"), &csi.volume_handle);
    }
    rules::optional_syntax(&mut errors, &path.at("storageClassName"), &spec.storage_class_name, names::subdomain);
    rules::optional_one_of(&mut errors, &path.at("volumeMode"), &spec.volume_mode, MODES);
    if let Some(old) = old.map(|old| rules::part(&old.spec)) {
        let source =
            |spec: &PersistentVolumeSpec| (spec.host_path.clone(), spec.local.clone(), spec.nfs.clone(), spec.csi.clone(), sources(spec));
        if source(&spec) != source(&old) {
            errors
                .push(FieldError::forbidden(path.at("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation"));
        }
        rules::immutable(&mut errors, &path.at("volumeMode"), &spec.volume_mode, &old.volume_mode);
    }
    errors
}
