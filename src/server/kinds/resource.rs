//! resource.k8s.io: devices, and claims to them.

use k8s_openapi::api::resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use serde_json::Value;

use super::support::path::{Errors, Path};
use super::support::{convert, print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

kind!(DeviceClass: CLUSTER { returns_deleted: true, singular: "deviceclass" }
    columns!(DeviceClass; "Age" string: "Time since creation." => print::age);
);

kind!(DeviceTaintRule: CLUSTER { returns_deleted: true, singular: "devicetaintrule", subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let path = Path::new("spec").at("taint");
        rules::syntax(&mut errors, &path.at("key"), &self.spec.taint.key, names::qualified);
        rules::required_one_of(&mut errors, &path.at("effect"), &self.spec.taint.effect, &["NoExecute", "NoSchedule", "None"]);
        errors
    }
    columns!(DeviceTaintRule; "Age" string: "Time since creation." => print::age);
);

kind!(ResourceClaim: NAMESPACED { returns_deleted: true, singular: "resourceclaim", generation: false, subresources: &[Subresource::Status] }
    separate_status!();
    fn apply_defaults(&mut self) { default_claim(self.spec.get_or_insert_default()); }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check_claim(&Path::new("spec"), &rules::part(&self.spec));
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("spec"), &self.spec, &old.spec);
        }
        errors
    }
    columns!(ResourceClaim;
        "State" string: "Whether it is allocated and used." => |claim, _| print::text(state(claim)),
        "Age" string: "Time since creation." => print::age);
);

kind!(ResourceClaimTemplate: NAMESPACED { returns_deleted: true, singular: "resourceclaimtemplate", generation: false }
    fn apply_defaults(&mut self) { default_claim(self.spec.get_or_insert_default().spec.get_or_insert_default()); }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check_claim(&Path::new("spec").at("spec"), &rules::part(&rules::part(&self.spec).spec));
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("spec"), &self.spec, &old.spec);
        }
        errors
    }
    columns!(ResourceClaimTemplate; "Age" string: "Time since creation." => print::age);
);

kind!(ResourceSlice: CLUSTER { returns_deleted: true, singular: "resourceslice" }
    const FIELDS: &'static [&'static str] = &["spec.nodeName", "spec.driver"];
    fn field(&self, path: &str) -> Option<String> {
        match path {
            "spec.nodeName" => Some(self.spec.node_name.clone().unwrap_or_default()),
            "spec.driver" => Some(self.spec.driver.clone()),
            _ => None,
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        rules::required_syntax(&mut errors, &path.at("driver"), &spec.driver, names::subdomain);
        rules::required(&mut errors, &path.at("pool.name"), &spec.pool.name);
        let ways = [
            spec.node_name.is_some(), spec.node_selector.is_some(), spec.all_nodes == Some(true),
            spec.per_device_node_selection == Some(true),
        ];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            errors.push(FieldError::required(&path, why));
        }
        for (index, device) in spec.devices.iter().flatten().enumerate() {
            rules::required_syntax(&mut errors, &path.at("devices").index(index).at("name"), &device.name, names::label);
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path.at("driver"), &spec.driver, &old.spec.driver);
            rules::immutable(&mut errors, &path.at("pool.name"), &spec.pool.name, &old.spec.pool.name);
            rules::immutable(&mut errors, &path.at("nodeName"), &spec.node_name, &old.spec.node_name);
        }
        errors
    }
    columns!(ResourceSlice;
        "Node" string: "The node with the devices." => |slice, _| print::text(slice.spec.node_name.as_deref().unwrap_or(print::UNSET)),
        "Driver" string: "The driver." => |slice, _| print::text(&slice.spec.driver),
        "Pool" string: "The pool." => |slice, _| print::text(&slice.spec.pool.name),
        "Age" string: "Time since creation." => print::age);
);

fn default_claim(spec: &mut k8s_openapi::api::resource::v1::ResourceClaimSpec) {
    for request in spec.devices.iter_mut().flat_map(|devices| devices.requests.iter_mut().flatten()) {
        if let Some(exactly) = &mut request.exactly {
            let mode = exactly.allocation_mode.get_or_insert_with(|| "ExactCount".into());
            if mode == "ExactCount" {
                exactly.count.get_or_insert(1);
            }
        }
        for sub in request.first_available.iter_mut().flatten() {
            let mode = sub.allocation_mode.get_or_insert_with(|| "ExactCount".into());
            if mode == "ExactCount" {
                sub.count.get_or_insert(1);
            }
        }
    }
}

fn check_claim(path: &Path, spec: &k8s_openapi::api::resource::v1::ResourceClaimSpec) -> Errors {
    let mut errors = Errors::new();
    for (index, request) in spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten()).enumerate() {
        let path = path.at("devices.requests").index(index);
        rules::required_syntax(&mut errors, &path.at("name"), &request.name, names::label);
        match (&request.exactly, request.first_available.as_ref().is_some_and(|list| !list.is_empty())) {
            (Some(exactly), false) => {
                rules::required_syntax(&mut errors, &path.at("exactly.deviceClassName"), &exactly.device_class_name, names::subdomain);
            }
            (None, true) => {}
            (None, false) => errors.push(FieldError::required(&path, "exactly one of `exactly` or `firstAvailable` is required")),
            (Some(_), true) => {
                errors.push(FieldError::invalid(
                    &path,
                    request,
                    "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
                ));
            }
        }
    }
    errors
}

fn state(claim: &ResourceClaim) -> String {
    let status = rules::part(&claim.status);
    let mut states = Vec::new();
    if claim.metadata.deletion_timestamp.is_some() {
        states.push("deleted");
    }
    if status.allocation.is_some() {
        states.push("allocated");
        if status.reserved_for.as_ref().is_some_and(|users| !users.is_empty()) {
            states.push("reserved");
        }
    } else {
        states.push("pending");
    }
    states.join(",")
}

/// v1beta1 keeps the fields of an exact request in the request itself.
pub fn claim_to_v1(mut value: Value) -> Value {
    for requests in ["/spec/devices/requests", "/spec/spec/devices/requests"] {
        convert::each(&mut value, requests, |request| convert::sink(request, "exactly", &["name", "firstAvailable"]));
    }
    value
}

/// The reverse of [`claim_to_v1`].
pub fn claim_from_v1(mut value: Value) -> Value {
    for requests in ["/spec/devices/requests", "/spec/spec/devices/requests"] {
        convert::each(&mut value, requests, |request| convert::hoist(request, "exactly"));
    }
    value
}

/// v1beta1 keeps the properties of a device in `basic`.
pub fn slice_to_v1(mut value: Value) -> Value {
    convert::each(&mut value, "/spec/devices", |device| convert::hoist(device, "basic"));
    value
}

/// The reverse of [`slice_to_v1`].
pub fn slice_from_v1(mut value: Value) -> Value {
    convert::each(&mut value, "/spec/devices", |device| convert::sink(device, "basic", &["name"]));
    value
}
