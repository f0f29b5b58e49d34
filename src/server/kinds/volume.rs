//! PersistentVolume and PersistentVolumeClaim.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::support::path::{Errors, Path};
use super::support::{print, resource_names, rules};
use super::volume_rules::{MODES, basic, check_modes, check_volume, positive};
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

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
    fn validate_status(&self, _old: &Self) -> Errors { check_claim_status(self) }
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

/// Rules of a claim's spec, also within templates.
pub fn check_claim(path: &Path, spec: &PersistentVolumeClaimSpec) -> Errors {
    let mut errors = Errors::new();
    check_modes(&mut errors, path, spec.access_modes.as_deref().unwrap_or_default(), "at least 1 access mode is required");
    rules::label_selector(&mut errors, &path.at("selector"), spec.selector.as_ref());
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.push(FieldError::required(path.at("resources").key("storage"), "")),
        Some(amount) => positive(&mut errors, &path.at("resources").key("storage"), amount),
    }
    rules::optional_syntax(&mut errors, &path.at("storageClassName"), &spec.storage_class_name, names::subdomain);
    if let Some(mode) = &spec.volume_mode {
        rules::one_of(&mut errors, &path.at("volumeMode"), mode, MODES);
    }
    check_data_sources(&mut errors, path, spec);
    rules::optional_syntax(&mut errors, &path.at("volumeAttributesClassName"), &spec.volume_attributes_class_name, names::subdomain);
    errors
}

/// What a claim's volume is filled from: a claim, or an object of another group.
fn check_data_sources(errors: &mut Errors, path: &Path, spec: &PersistentVolumeClaimSpec) {
    let (source, reference) = (spec.data_source.as_ref(), spec.data_source_ref.as_ref());
    let parts = [
        ("dataSource", source.map(|source| (&source.name, &source.kind, &source.api_group))),
        ("dataSourceRef", reference.map(|source| (&source.name, &source.kind, &source.api_group))),
    ];
    for (field, part) in parts {
        let Some((name, kind, group)) = part else { continue };
        let path = path.at(field);
        rules::required(errors, &path.at("name"), name);
        rules::required(errors, &path.at("kind"), kind);
        match rules::str_of(group) {
            "" if kind != "PersistentVolumeClaim" => {
                let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
                errors.push(FieldError::invalid(&path, kind, why));
            }
            "" => {}
            group => rules::syntax(errors, &path.at("apiGroup"), group, names::subdomain),
        }
    }
    let Some(reference) = reference else { return };
    rules::optional_syntax(errors, &path.at("dataSourceRef.namespace"), &reference.namespace, names::label);
    let Some(source) = source else { return };
    // Upstream shows the path as the value.
    let shown = String::from(path.at("dataSource"));
    if !rules::str_of(&reference.namespace).is_empty() {
        errors.push(FieldError::invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified"));
    } else if (&source.api_group, &source.kind, &source.name) != (&reference.api_group, &reference.kind, &reference.name) {
        errors.push(FieldError::invalid(path, shown, "must match dataSourceRef"));
    }
}

fn check_claim_update(errors: &mut Errors, path: &Path, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) {
    let (mut spec, old_spec) = (rules::part(&new.spec).into_owned(), rules::part(&old.spec));
    let is_bound = rules::str_of(&rules::part(&new.status).phase) == "Bound";
    let annotation = |claim: &PersistentVolumeClaim| claim.metadata.annotations.as_ref().and_then(|all| all.get(LEGACY_CLASS)).cloned();
    let (new_class, old_class) = (annotation(new), annotation(old));
    if old_spec.storage_class_name.is_none() && old_class.as_ref().is_none_or(|class| spec.storage_class_name.as_ref() == Some(class)) {
        spec.storage_class_name = None;
    } else if new_class != old_class {
        let path = Path::new("metadata").at("annotations").key(LEGACY_CLASS);
        errors.push(FieldError::invalid(path, new_class.unwrap_or_default(), rules::IMMUTABLE));
    }
    // Everything else is frozen but what binding, growing and reclassing write.
    if rules::str_of(&old_spec.volume_name).is_empty() {
        spec.volume_name.clone_from(&old_spec.volume_name);
    }
    let amount = |spec: &PersistentVolumeClaimSpec| {
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get("storage")).cloned()
    };
    let (wanted, before) = (amount(&spec), amount(&old_spec));
    if is_bound {
        if let (Some(requests), Some(before)) = (spec.resources.as_mut().and_then(|resources| resources.requests.as_mut()), &before) {
            requests.insert("storage".into(), before.clone());
        }
        if spec.volume_attributes_class_name.is_some() {
            spec.volume_attributes_class_name.clone_from(&old_spec.volume_attributes_class_name);
        }
    }
    if spec != *old_spec {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden(path, why));
    }
    let parsed = |amount: Option<&Amount>| amount.and_then(|amount| Quantity::parse(&amount.0).ok()).unwrap_or(Quantity::ZERO);
    let has = parsed(old.status.as_ref().and_then(|status| status.capacity.as_ref()).and_then(|capacity| capacity.get("storage")));
    let wanted = parsed(wanted.as_ref());
    // A growth that fails may be taken back, to what there is.
    if wanted < parsed(before.as_ref()) && wanted <= has {
        errors.push(FieldError::forbidden(path.at("resources.requests.storage"), "field can not be less than status.capacity"));
    }
    let (new_spec, attributes) = (rules::part(&new.spec), path.at("volumeAttributesClassName"));
    rules::immutable(errors, &Path::new("volumeMode"), &new_spec.volume_mode, &old_spec.volume_mode);
    if old_spec.volume_attributes_class_name.is_some() {
        match new_spec.volume_attributes_class_name.as_deref() {
            None => errors.push(FieldError::forbidden(attributes, "update from non-nil value to nil is forbidden")),
            Some("") => errors.push(FieldError::forbidden(attributes, "update from non-nil value to an empty string is forbidden")),
            Some(_) => {}
        }
    }
}

/// What a claim's status says is left.
fn check_claim_status(claim: &PersistentVolumeClaim) -> Errors {
    const STATES: &[&str] =
        &["ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"];
    let mut errors = Errors::new();
    let (path, status) = (Path::new("status"), rules::part(&claim.status));
    for (name, amount) in status.capacity.iter().flatten() {
        basic(&mut errors, &path.at("capacity").key(name), amount);
    }
    for (name, state) in status.allocated_resource_statuses.iter().flatten() {
        resource_key(&mut errors, &path.at("allocatedResourceStatus"), name);
        rules::one_of(&mut errors, &path.at("allocatedResourceStatus"), state, STATES);
    }
    for (name, amount) in status.allocated_resources.iter().flatten() {
        resource_key(&mut errors, &path.at("allocatedResources"), name);
        basic(&mut errors, &path.at("allocatedResources").key(name), amount);
    }
    errors
}

fn resource_key(errors: &mut Errors, path: &Path, name: &str) {
    rules::syntax(errors, path, name, names::qualified);
    if resource_names::is_native(name) {
        rules::one_of(errors, path, name, &["storage"]);
    }
}
