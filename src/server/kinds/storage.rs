//! storage.k8s.io: classes, drivers, attachments.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity, StorageClass, TokenRequest, VolumeAttachment, VolumeAttributesClass,
};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

const DEFAULT_CLASS: &[&str] = &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

kind!(StorageClass: CLUSTER { returns_deleted: true, singular: "storageclass", short: &["sc"], generation: false }
    fn apply_defaults(&mut self) {
        self.reclaim_policy.get_or_insert_with(|| "Delete".into());
        self.volume_binding_mode.get_or_insert_with(|| "Immediate".into());
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        check_provisioner(&mut errors, &Path::new("provisioner"), &self.provisioner);
        rules::optional_one_of(&mut errors, &Path::new("reclaimPolicy"), &self.reclaim_policy, &["Delete", "Retain"]);
        rules::optional_one_of(
            &mut errors, &Path::new("volumeBindingMode"), &self.volume_binding_mode, &["Immediate", "WaitForFirstConsumer"],
        );
        check_parameters(&mut errors, self.parameters.as_ref());
        let terms = self.allowed_topologies.as_deref().unwrap_or_default();
        for (index, term) in terms.iter().enumerate() {
            let path = Path::new("allowedTopologies").index(index);
            check_topology(&mut errors, &path, term);
            if terms[..index].contains(term) {
                errors.push(FieldError::duplicate(path.at("matchLabelExpressions"), ""));
            }
        }
        if let Some(old) = old {
            let frozen = [
                ("parameters", self.parameters != old.parameters),
                ("provisioner", self.provisioner != old.provisioner),
                ("reclaimPolicy", self.reclaim_policy != old.reclaim_policy),
            ];
            for (field, changed) in frozen {
                if changed {
                    errors.push(FieldError::forbidden(field, format!("updates to {field} are forbidden.")));
                }
            }
            rules::immutable(&mut errors, &Path::new("volumeBindingMode"), &self.volume_binding_mode, &old.volume_binding_mode);
        }
        errors
    }
    columns!(StorageClass;
        "Name" string: "Name of the class, with a mark at the default." => |class, _| {
            let name = class.metadata.name.clone().unwrap_or_default();
            let is = |key: &&str| class.metadata.annotations.as_ref().and_then(|all| all.get(*key)).is_some_and(|value| value == "true");
            print::text(if DEFAULT_CLASS.iter().any(is) { format!("{name} (default)") } else { name })
        },
        "Provisioner" string: "Who makes the volumes." => |class, _| print::text(&class.provisioner),
        "ReclaimPolicy" string: "What becomes of released volumes." =>
            |class, _| print::text(class.reclaim_policy.as_deref().unwrap_or("Delete")),
        "VolumeBindingMode" string: "When volumes are bound." =>
            |class, _| print::text(class.volume_binding_mode.as_deref().unwrap_or("Immediate")),
        "AllowVolumeExpansion" string: "Whether volumes may grow." =>
            |class, _| print::text(class.allow_volume_expansion.unwrap_or_default().to_string()),
        "Age" string: "Time since creation." => print::age,
    );
);

fn check_provisioner(errors: &mut Errors, path: &Path, name: &str) {
    if rules::required(errors, path, name)
        && let Err(why) = names::qualified(&name.to_lowercase())
    {
        errors.push(FieldError::invalid(path, name, why));
    }
}

/// What a driver is told is bounded.
fn check_parameters(errors: &mut Errors, parameters: Option<&BTreeMap<String, String>>) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 * 1024;
    let Some(parameters) = parameters else { return };
    if parameters.len() > MOST {
        errors.push(FieldError::too_long("parameters", MOST));
        return;
    }
    for (key, _) in parameters.iter().filter(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid("parameters", key, "field can not be empty."));
    }
    if parameters.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LARGEST {
        errors.push(FieldError::too_long("parameters", LARGEST));
    }
}

/// Where volumes may be made: each key once, with values that differ.
fn check_topology(errors: &mut Errors, path: &Path, term: &TopologySelectorTerm) {
    let all = term.match_label_expressions.as_deref().unwrap_or_default();
    for (index, one) in all.iter().enumerate() {
        let path = path.at("matchLabelExpressions").index(index);
        if one.values.is_empty() {
            errors.push(FieldError::required(path.at("values"), ""));
        }
        for (index, value) in one.values.iter().enumerate().filter(|(index, value)| one.values[..*index].contains(value)) {
            errors.push(FieldError::duplicate(path.at("values").index(index), value));
        }
        rules::syntax(errors, &path.at("key"), &one.key, names::qualified);
        if all[..index].iter().any(|other| other.key == one.key) {
            errors.push(FieldError::duplicate(path.at("key"), &one.key));
        }
    }
}

kind!(VolumeAttachment: CLUSTER { returns_deleted: true, singular: "volumeattachment", generation: false, subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let path = Path::new("spec");
        rules::required_syntax(&mut errors, &path.at("attacher"), &self.spec.attacher.to_lowercase(), names::qualified);
        rules::required_syntax(&mut errors, &path.at("nodeName"), &self.spec.node_name, names::subdomain);
        const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        let source = &self.spec.source;
        match (&source.persistent_volume_name, &source.inline_volume_spec) {
            (None, None) => errors.push(FieldError::required(path.at("source"), ONE)),
            (Some(_), Some(_)) => errors.push(FieldError::forbidden(path.at("source"), ONE)),
            (Some(name), None) if name.is_empty() => {
                let why = "must specify non empty persistentVolumeName";
                errors.push(FieldError::required(path.at("source.persistentVolumeName"), why));
            }
            _ => {}
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path, &self.spec, &old.spec);
        }
        errors
    }
    columns!(VolumeAttachment;
        "Attacher" string: "The driver." => |one, _| print::text(&one.spec.attacher),
        "PV" string: "The volume." => |one, _| print::opt(&one.spec.source.persistent_volume_name),
        "Node" string: "Where it is attached." => |one, _| print::text(&one.spec.node_name),
        "Attached" boolean: "Whether it is." => |one, _| print::text(one.status.as_ref().is_some_and(|status| status.attached).to_string()),
        "Age" string: "Time since creation." => print::age,
    );
);

kind!(CSIDriver: CLUSTER { returns_deleted: true, singular: "csidriver" }
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".into());
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".into()]);
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let path = Path::new("spec");
        rules::optional_one_of(
            &mut errors, &path.at("fsGroupPolicy"), &self.spec.fs_group_policy, &["ReadWriteOnceWithFSType", "File", "None"],
        );
        for mode in self.spec.volume_lifecycle_modes.iter().flatten() {
            rules::one_of_listed(&mut errors, &path.at("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
        check_token_requests(&mut errors, &path.at("tokenRequests"), self.spec.token_requests.as_deref().unwrap_or_default());
        if let Some(period) = self.spec.node_allocatable_update_period_seconds.filter(|period| *period < 10) {
            let why = "must be greater than or equal to 10 seconds";
            errors.push(FieldError::invalid(path.at("nodeAllocatableUpdatePeriodSeconds"), period, why));
        }
        if let Some(old) = old {
            // Upstream's own spelling of the field.
            rules::immutable(&mut errors, &path.at("attachedRequired"), &self.spec.attach_required, &old.spec.attach_required);
            let (new_modes, old_modes) = (&self.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
            rules::immutable(&mut errors, &path.at("volumeLifecycleModes"), new_modes, old_modes);
        }
        errors
    }
    columns!(CSIDriver;
        "AttachRequired" boolean: "Whether volumes are attached." =>
            |one, _| print::text(one.spec.attach_required.unwrap_or(true).to_string()),
        "PodInfoOnMount" boolean: "Whether the pod is told." =>
            |one, _| print::text(one.spec.pod_info_on_mount.unwrap_or_default().to_string()),
        "StorageCapacity" boolean: "Whether capacity is tracked." =>
            |one, _| print::text(one.spec.storage_capacity.unwrap_or_default().to_string()),
        "TokenRequests" string: "Audiences of tokens." => |one, _| {
            let audiences: Vec<&str> = one.spec.token_requests.iter().flatten().map(|request| request.audience.as_str()).collect();
            print::text(if audiences.is_empty() { print::UNSET.into() } else { audiences.join(",") })
        },
        "RequiresRepublish" boolean: "Whether it is mounted again and again." =>
            |one, _| print::text(one.spec.requires_republish.unwrap_or_default().to_string()),
        "Modes" string: "Lifecycles it knows." => |one, _| {
            let modes = one.spec.volume_lifecycle_modes.as_deref().unwrap_or_default().join(",");
            print::text(if modes.is_empty() { print::NONE.into() } else { modes })
        },
        "Age" string: "Time since creation." => print::age,
    );
);

/// Each audience once; one of them may be left out, which means the API server.
fn check_token_requests(errors: &mut Errors, path: &Path, requests: &[TokenRequest]) {
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        if requests[..index].iter().any(|other| other.audience == request.audience) {
            errors.push(FieldError::duplicate(path.at("audience"), &request.audience));
            continue;
        }
        match request.expiration_seconds {
            Some(seconds) if seconds < 600 => {
                let why = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(path.at("expirationSeconds"), seconds, why));
            }
            Some(seconds) if seconds > 1 << 32 => {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.push(FieldError::invalid(path.at("expirationSeconds"), seconds, why));
            }
            _ => {}
        }
    }
}

kind!(CSINode: CLUSTER { returns_deleted: true, singular: "csinode", generation: false }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let path = Path::new("spec").at("drivers");
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            check_driver(&mut errors, &path.index(index), driver);
            if self.spec.drivers[..index].iter().any(|other| other.name == driver.name) {
                errors.push(FieldError::duplicate(path.index(index).at("name"), &driver.name));
            }
        }
        // How many volumes fit is measured anew.
        let fixed = |driver: &CSINodeDriver| CSINodeDriver { allocatable: None, ..driver.clone() };
        for before in old.iter().flat_map(|old| &old.spec.drivers) {
            for now in self.spec.drivers.iter().filter(|now| now.name == before.name) {
                rules::immutable(&mut errors, &path, &fixed(now), &fixed(before));
            }
        }
        errors
    }
    columns!(CSINode;
        "Drivers" integer: "How many drivers there are." => |one, _| print::count(one.spec.drivers.len()),
        "Age" string: "Time since creation." => print::age);
);

fn check_driver(errors: &mut Errors, path: &Path, driver: &CSINodeDriver) {
    const LONGEST_NAME: usize = 63;
    const LONGEST_ID: usize = 192;
    if rules::required(errors, &path.at("name"), &driver.name) {
        if driver.name.len() > LONGEST_NAME {
            errors.push(FieldError::too_long(path.at("name"), LONGEST_NAME));
        }
        if let Err(why) = names::subdomain(&driver.name.to_lowercase()) {
            errors.push(FieldError::invalid(path.at("name"), &driver.name, why));
        }
    }
    rules::required(errors, &path.at("nodeID"), &driver.node_id);
    if driver.node_id.len() > LONGEST_ID {
        errors.push(FieldError::invalid(path.at("nodeID"), &driver.node_id, format!("must be {LONGEST_ID} characters or less")));
    }
    let count = driver.allocatable.as_ref().and_then(|amounts| amounts.count);
    rules::optional_non_negative(errors, &path.at("allocatable.count"), count);
    let keys = driver.topology_keys.as_deref().unwrap_or_default();
    for (index, key) in keys.iter().enumerate() {
        rules::required(errors, path, key);
        if keys[..index].contains(key) {
            errors.push(FieldError::duplicate(path, key));
        }
        rules::syntax(errors, path, key, names::qualified);
    }
}

kind!(CSIStorageCapacity: NAMESPACED { singular: "csistoragecapacity", generation: false }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        rules::required_syntax(&mut errors, &Path::new("storageClassName"), &self.storage_class_name, names::subdomain);
        rules::label_selector(&mut errors, &Path::new("nodeTopology"), self.node_topology.as_ref());
        for (field, amount) in [("capacity", &self.capacity), ("maximumVolumeSize", &self.maximum_volume_size)] {
            if let Some(amount) = amount {
                rules::quantity(&mut errors, &Path::new(field), amount);
            }
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("nodeTopology"), &self.node_topology, &old.node_topology);
            rules::immutable(&mut errors, &Path::new("storageClassName"), &self.storage_class_name, &old.storage_class_name);
        }
        errors
    }
    columns!(CSIStorageCapacity;
        "StorageClassName" string: "The class." => |one, _| print::text(&one.storage_class_name),
        "Capacity" string: "What is left." => |one, _| print::text(one.capacity.as_ref().map_or(print::UNSET, |amount| amount.0.as_str())));
);

kind!(VolumeAttributesClass: CLUSTER { returns_deleted: true, singular: "volumeattributesclass", short: &["vac"], generation: false }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        check_provisioner(&mut errors, &Path::new("driverName"), &self.driver_name);
        check_parameters(&mut errors, self.parameters.as_ref());
        if self.parameters.as_ref().is_none_or(|all| all.is_empty()) {
            errors.push(FieldError::required("parameters", "must contain at least one key/value pair"));
        }
        if let Some(old) = old {
            let frozen = [("driverName", self.driver_name != old.driver_name), ("parameters", self.parameters != old.parameters)];
            for (field, changed) in frozen {
                if changed {
                    errors.push(FieldError::forbidden(field, format!("updates to {field} are forbidden.")));
                }
            }
        }
        errors
    }
    columns!(VolumeAttributesClass;
        "DriverName" string: "The driver." => |one, _| print::text(&one.driver_name),
        "Age" string: "Time since creation." => print::age);
);
