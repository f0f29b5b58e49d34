//! Pods and claims keep to the LimitRanges of their namespace (kubernetes `plugin/pkg/admission/limitranger`).
//!
//! The decisions are [`limits`](super::limits)'. Containers of a pod that exists can't change but by a resize, so that no other change of
//! a pod is looked at.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{LimitRange, PersistentVolumeClaim, Pod};

use super::{Check, Operation, Request, limits, unreadable};
use crate::api::{Scope, Status};

pub(super) struct LimitRanger;

impl Check for LimitRanger {
    fn handles(&self, request: &Request<'_>) -> bool {
        let any = request.object.as_any();
        let looked_at = match (request.operation, request.subresource()) {
            (Operation::Create, "") => any.is::<Pod>() || any.is::<PersistentVolumeClaim>(),
            (Operation::Update, "") => any.is::<PersistentVolumeClaim>(),
            (Operation::Update, "resize") => any.is::<Pod>(),
            _ => false,
        };
        looked_at && request.old.is_none_or(|old| old.meta().deletion_timestamp.is_none())
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if !request.object.as_any().is::<Pod>() {
            return Ok(());
        }
        for range in ranges(request)? {
            if let Some(pod) = request.object::<Pod>() {
                limits::fill(&range, pod);
            }
        }
        Ok(())
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for range in ranges(request)? {
            let any = request.object.as_any();
            let wrong = match (any.downcast_ref::<Pod>(), any.downcast_ref::<PersistentVolumeClaim>()) {
                (Some(pod), _) => limits::check_pod(&range, pod),
                (_, Some(claim)) => limits::check_claim(&range, claim),
                _ => Vec::new(),
            };
            if let Some(why) = limits::summary(wrong) {
                return Err(request.forbidden(why));
            }
        }
        Ok(())
    }
}

fn ranges(request: &Request<'_>) -> Result<Vec<Arc<LimitRange>>, Status> {
    let scope = Scope::of_namespace::<LimitRange>(&request.namespace());
    request.snapshot.range(&scope).map(|entry| entry.typed::<LimitRange>().map_err(unreadable)).collect()
}
