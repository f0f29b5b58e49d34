//! Node: a machine that runs pods.

use k8s_openapi::api::core::v1::{Node, NodeSystemInfo};

use super::support::path::{Errors, Path};
use super::support::{print, resource_names, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::{Cell, Subresource};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
pub(super) const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

kind!(Node: CLUSTER { singular: "node", short: &["no"], generation: false, subresources: &[Subresource::Status] }
    const FIELDS: &'static [&'static str] = &["spec.unschedulable"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "spec.unschedulable").then(|| rules::part(&self.spec).unschedulable.unwrap_or_default().to_string())
    }
    fn apply_defaults(&mut self) {
        if let Some(status) = &mut self.status && status.allocatable.is_none() {
            status.allocatable = status.capacity.clone();
        }
    }
    // A kubelet creates its node with the status it has already: upstream keeps it.
    fn prepare_update(&mut self, old: &Self) { self.status = old.status.clone(); }
    fn prepare_status(&mut self, old: &Self) { self.spec = old.spec.clone(); }
    fn validate(&self, old: Option<&Self>) -> Errors { check(self, old) }
    fn validate_status(&self, _old: &Self) -> Errors { check_status(self) }
    columns!(Node;
        "Status" string: "Whether it takes pods." => |node, _| print::text(status(node)),
        "Roles" string: "Its roles, from labels." => |node, _| print::text(roles(node)),
        "Age" string: "Time since creation." => print::age,
        "Version" string: "Version of its agent." => |node, _| info(node, |info| &info.kubelet_version),
        "Internal-IP" string wide: "Its address within the cluster." => |node, _| address(node, "InternalIP"),
        "External-IP" string wide: "Its address for the world." => |node, _| address(node, "ExternalIP"),
        "OS-Image" string wide: "Its operating system." => |node, _| known(node, |info| &info.os_image),
        "Kernel-Version" string wide: "Its kernel." => |node, _| known(node, |info| &info.kernel_version),
        "Container-Runtime" string wide: "What runs its containers." => |node, _| known(node, |info| &info.container_runtime_version),
    );
);

fn status(node: &Node) -> String {
    let status = rules::part(&node.status);
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let mut parts = vec![match ready {
        None => "Unknown",
        Some(condition) if condition.status == "True" => "Ready",
        Some(_) => "NotReady",
    }];
    if rules::part(&node.spec).unschedulable == Some(true) {
        parts.push("SchedulingDisabled");
    }
    parts.join(",")
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { print::NONE.into() } else { roles.join(",") }
}

fn info(node: &Node, field: fn(&NodeSystemInfo) -> &String) -> Cell {
    print::text(node.status.as_ref().and_then(|status| status.node_info.as_ref()).map(field).cloned().unwrap_or_default())
}

fn known(node: &Node, field: fn(&NodeSystemInfo) -> &String) -> Cell {
    match info(node, field) {
        Cell::Text(text) if text.is_empty() => print::text("<unknown>"),
        cell => cell,
    }
}

fn address(node: &Node, kind: &str) -> Cell {
    let status = rules::part(&node.status);
    let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
    print::or_none(found.map(|address| address.address.as_str()))
}

fn check(node: &Node, old: Option<&Node>) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&node.spec));
    for (index, taint) in spec.taints.iter().flatten().enumerate() {
        // Upstream names taints below the metadata.
        let path = Path::new("metadata").at("taints").index(index);
        rules::syntax(&mut errors, &path.at("key"), &taint.key, names::qualified);
        rules::optional_syntax(&mut errors, &path.at("value"), &taint.value, names::label_value);
        rules::required_one_of(&mut errors, &path.at("effect"), &taint.effect, TAINT_EFFECTS);
        let earlier = &spec.taints.as_deref().unwrap_or_default()[..index];
        if earlier.iter().any(|other| other.key == taint.key && other.effect == taint.effect) {
            let mut error = FieldError::duplicate(&path, taint);
            error.message.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
    }
    let cidrs = spec.pod_cidrs.as_deref().unwrap_or_default();
    for (index, cidr) in cidrs.iter().enumerate() {
        rules::syntax(&mut errors, &path.at("podCIDRs").index(index), cidr, names::cidr);
        if cidrs[..index].contains(cidr) {
            errors.push(FieldError::duplicate(path.at("podCIDRs").index(index), cidr));
        }
    }
    let six = cidrs.iter().filter(|cidr| cidr.contains(':')).count();
    if six > 1 || cidrs.len() - six > 1 {
        errors.push(FieldError::invalid(path.at("podCIDRs"), cidrs, "may specify no more than one CIDR for each IP family"));
    }
    if let Some(old) = old {
        let old = rules::part(&old.spec);
        if old.pod_cidrs.as_ref().is_some_and(|cidrs| !cidrs.is_empty()) && spec.pod_cidrs != old.pod_cidrs {
            errors.push(FieldError::forbidden(path.at("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"));
        }
        if !rules::str_of(&old.provider_id).is_empty() && spec.provider_id != old.provider_id {
            errors.push(FieldError::forbidden(path.at("providerID"), "node updates may not change providerID except from \"\" to valid"));
        }
    } else {
        errors.extend(check_status(node));
    }
    errors
}

fn check_status(node: &Node) -> Errors {
    let mut errors = Errors::new();
    let (path, status) = (Path::new("status"), rules::part(&node.status));
    for (field, list) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (name, amount) in list.iter().flatten() {
            resource_names::check_amount(&mut errors, &path.at(field).at(name), name, amount);
        }
    }
    let addresses = status.addresses.as_deref().unwrap_or_default();
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            errors.push(FieldError::duplicate(path.at("addresses").index(index), address));
        }
    }
    errors
}
