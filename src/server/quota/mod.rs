//! What objects take of a namespace's quota: who is measured how, which quota is meant, and whether there is room.
//!
//! Words: the *measure* of an object is an amount by resource name (`pods: 1, requests.cpu: 500m`); a quota *governs* an object when it
//! bounds at least one name that such objects are measured in and all its scopes match; a *charge* is what one write adds.
//!
//! Follows `pkg/quota/v1` and apiserver `pkg/admission/plugin/resourcequota/controller.go`. Used by admission, which must not let a
//! write through that has no room, and by the controller that shows what is used: both must count alike.
//!
//! Never: I/O or a clock of its own; time comes in as an argument.

mod charge;
mod measure;
mod scopes;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::api::{Kind, Object};
use crate::server::store::Entry;

pub use charge::{Standing, charge, hard};
pub use measure::{Measure, is_counted, measure, tracks};

/// An object in the form that quotas look at.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    /// Measured by what it asks for.
    Pod(&'a Pod),
    /// Measured by its ports.
    Service(&'a Service),
    /// Measured by its size.
    Volume(&'a PersistentVolumeClaim),
    /// Measured by its devices.
    Devices(&'a ResourceClaim),
    /// Counted.
    Other,
}

impl<'a> Item<'a> {
    /// An object of any kind.
    pub fn of(object: &'a dyn Object) -> Item<'a> {
        let any = object.as_any();
        None.or_else(|| any.downcast_ref().map(Item::Pod))
            .or_else(|| any.downcast_ref().map(Item::Service))
            .or_else(|| any.downcast_ref().map(Item::Volume))
            .or_else(|| any.downcast_ref().map(Item::Devices))
            .unwrap_or(Item::Other)
    }
}

/// Calls `look` with a stored object, decoded only if its kind is not merely counted. One that can't be read is counted.
pub fn with_item<R>(entry: &Entry, look: impl FnOnce(Item<'_>) -> R) -> R {
    fn typed<T: Kind>(entry: &Entry) -> Option<Arc<T>> {
        entry.typed().ok()
    }
    match (entry.key.group(), entry.key.resource()) {
        ("", "pods") => look(typed(entry).as_deref().map_or(Item::Other, Item::Pod)),
        ("", "services") => look(typed(entry).as_deref().map_or(Item::Other, Item::Service)),
        ("", "persistentvolumeclaims") => look(typed(entry).as_deref().map_or(Item::Other, Item::Volume)),
        ("resource.k8s.io", "resourceclaims") => look(typed(entry).as_deref().map_or(Item::Other, Item::Devices)),
        _ => look(Item::Other),
    }
}

/// What a stored object takes of a quota; `None` when it is none of its business.
pub fn share(quota: &ResourceQuota, entry: &Entry) -> Option<Measure> {
    let (group, resource) = (entry.key.group(), entry.key.resource());
    if !is_counted(group, resource) {
        return None;
    }
    with_item(entry, |item| governs(quota, group, resource, item).then(|| measure(group, resource, item)))
}

/// Whether a quota is about this object.
pub fn governs(quota: &ResourceQuota, group: &str, resource: &str, item: Item<'_>) -> bool {
    let Some(spec) = &quota.spec else { return false };
    spec.hard.iter().flatten().any(|(name, _)| tracks(group, resource, name)) && scopes::all_match(spec, item)
}
