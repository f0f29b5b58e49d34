//! Claims and ingresses that name no class get the default one (kubernetes `plugin/pkg/admission/storage/storageclass/setdefault`,
//! `plugin/pkg/admission/network/defaultingressclass`): of several defaults the newest, and of those the first by name.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Check, Operation, Request};
use crate::api::{Kind, Scope, Status};
use crate::server::store::Snapshot;

const LEGACY_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const LEGACY_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

/// For claims.
pub(super) struct DefaultStorageClass;
/// For ingresses.
pub(super) struct DefaultIngressClass;

impl Check for DefaultStorageClass {
    fn handles(&self, request: &Request<'_>) -> bool {
        creates::<PersistentVolumeClaim>(request)
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let default = default_of::<StorageClass>(
            &request.snapshot,
            &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
        );
        let Some(claim) = request.object::<PersistentVolumeClaim>() else { return Ok(()) };
        let legacy = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEGACY_STORAGE_CLASS));
        let class = &mut claim.spec.get_or_insert_default().storage_class_name;
        if !legacy && class.is_none() {
            *class = default;
        }
        Ok(())
    }
}

impl Check for DefaultIngressClass {
    fn handles(&self, request: &Request<'_>) -> bool {
        creates::<Ingress>(request)
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let default = default_of::<IngressClass>(&request.snapshot, &["ingressclass.kubernetes.io/is-default-class"]);
        let Some(ingress) = request.object::<Ingress>() else { return Ok(()) };
        let legacy = ingress.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEGACY_INGRESS_CLASS));
        let class = &mut ingress.spec.get_or_insert_default().ingress_class_name;
        if !legacy && class.is_none() {
            *class = default;
        }
        Ok(())
    }
}

fn creates<T: Kind>(request: &Request<'_>) -> bool {
    request.operation == Operation::Create && request.subresource().is_empty() && request.object.as_any().is::<T>()
}

fn default_of<T: Kind>(snapshot: &Snapshot, annotations: &[&str]) -> Option<String> {
    let marked =
        |all: &std::collections::BTreeMap<String, String>| annotations.iter().any(|key| all.get(*key).is_some_and(|value| value == "true"));
    let scope = Scope::of::<T>();
    let defaults = snapshot.range(&scope).filter(|entry| entry.meta().annotations.as_ref().is_some_and(marked));
    // Of equally new ones the first wins: the range is in the order of names, and `max_by` would take the last.
    let newest = defaults.reduce(|best, other| if other.meta().creation_timestamp > best.meta().creation_timestamp { other } else { best });
    newest.and_then(|entry| entry.meta().name.clone())
}
