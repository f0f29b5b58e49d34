//! What kinds of resources there are, by their names (upstream's `pkg/apis/core/helper`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::path::{Errors, Path};
use super::rules;
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};

/// Those that are counted.
const COUNTED: &[&str] = &[
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// Those that are measured.
const MEASURED: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Pages of a size other than the usual one.
pub fn is_hugepages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Kubernetes' own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Somebody else's, such as a device plug-in's.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_ok()
}

/// One of the names without a domain that have a meaning.
pub fn is_standard(name: &str) -> bool {
    COUNTED.contains(&name) || MEASURED.contains(&name) || is_hugepages(name) || is_quota_hugepages(name)
}

/// Pages, as quotas name them.
pub fn is_quota_hugepages(name: &str) -> bool {
    is_hugepages(name) || name.starts_with("requests.hugepages-")
}

/// One that quotas know.
pub fn is_quota(name: &str) -> bool {
    is_standard(name) && name != "storage"
}

/// One that quotas count or measure pods by.
pub fn is_of_pods(name: &str) -> bool {
    matches!(name, "pods" | "cpu" | "memory" | "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory")
}

/// Whether more may be allowed than is there.
pub fn overcommits(name: &str) -> bool {
    is_native(name) && !is_hugepages(name)
}

/// Upstream's `validateResourceName`.
pub fn check(errors: &mut Errors, path: &Path, name: &str) {
    match names::qualified(name) {
        Err(why) => errors.push(FieldError::invalid(path, name, why)),
        Ok(()) if !name.contains('/') && !is_standard(name) => {
            errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
        }
        Ok(()) => {}
    }
}

/// Upstream's `validateContainerResourceName`.
pub fn check_of_container(errors: &mut Errors, path: &Path, name: &str) {
    check(errors, path, name);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_hugepages(name) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// One that only exists in whole units.
fn is_whole(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// Upstream's `ValidateResourceQuantityValue`; the amount, if it is one and not negative.
pub fn check_amount(errors: &mut Errors, path: &Path, name: &str, amount: &Amount) -> Option<Quantity> {
    let quantity = rules::quantity(errors, path, amount)?;
    if is_whole(name) && quantity.milli() % 1000 != 0 {
        errors.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
    Some(quantity)
}
