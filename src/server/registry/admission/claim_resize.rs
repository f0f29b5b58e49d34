//! Only claims whose class allows it grow (kubernetes `plugin/pkg/admission/storage/persistentvolume/resize`).

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Check, Operation, Request, unreadable};
use crate::api::amounts::Amounts;
use crate::api::{Key, Status};

const LEGACY_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize;

impl Check for PersistentVolumeClaimResize {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.subresource().is_empty() && request.object.as_any().is::<PersistentVolumeClaim>()
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let (Some(new), Some(old)) =
            (request.object.as_any().downcast_ref::<PersistentVolumeClaim>(), request.old::<PersistentVolumeClaim>())
        else {
            return Ok(());
        };
        let size = |claim: &PersistentVolumeClaim| {
            let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
            Amounts::of(resources.and_then(|resources| resources.requests.as_ref())).get("storage").unwrap_or_default()
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if old.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
            return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = class(new);
        let entry = request.snapshot.get(&Key::of::<StorageClass>("", class)).filter(|_| !class.is_empty() && class == self::class(old));
        let allows = match entry {
            Some(entry) => entry.typed::<StorageClass>().map_err(unreadable)?.allow_volume_expansion == Some(true),
            None => false,
        };
        if allows {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(request.forbidden(why))
    }
}

fn class(claim: &PersistentVolumeClaim) -> &str {
    let legacy = claim.metadata.annotations.as_ref().and_then(|all| all.get(LEGACY_CLASS));
    legacy.or(claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref())).map_or("", String::as_str)
}
