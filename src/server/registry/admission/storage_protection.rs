//! Volumes, claims and their classes don't vanish while they are used (kubernetes
//! `plugin/pkg/admission/storage/storageobjectinuseprotection`): the finalizer goes on here, and is taken off by the controller of the
//! same name.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use super::{Check, Operation, Request};
use crate::api::{Object, Status};

pub(super) struct StorageObjectInUseProtection;

impl Check for StorageObjectInUseProtection {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.subresource().is_empty() && finalizer(&**request.object).is_some()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if let Some(finalizer) = finalizer(&**request.object) {
            let finalizers = request.object.meta_mut().finalizers.get_or_insert_default();
            if !finalizers.iter().any(|present| present == finalizer) {
                finalizers.push(finalizer.into());
            }
        }
        Ok(())
    }
}

fn finalizer(object: &dyn Object) -> Option<&'static str> {
    let any = object.as_any();
    [
        (any.is::<PersistentVolumeClaim>(), "kubernetes.io/pvc-protection"),
        (any.is::<PersistentVolume>(), "kubernetes.io/pv-protection"),
        (any.is::<VolumeAttributesClass>(), "kubernetes.io/vac-protection"),
    ]
    .into_iter()
    .find_map(|(is, finalizer)| is.then_some(finalizer))
}
