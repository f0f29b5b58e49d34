//! No write takes more of a namespace than its quotas allow (apiserver `pkg/admission/plugin/resourcequota`).
//!
//! Which writes are charged is said here, as upstream's evaluators' `Handles`; how much each costs is the business of
//! [`quota`](crate::server::quota), and that two writes don't get the same room, that of [`quota_ledger`](super::quota_ledger).

use super::quota_ledger::{Refused, Write};
use super::{Check, Operation, Request, unreadable};
use crate::api::{Rev, Status};
use crate::server::quota::{Item, is_counted};

pub(super) struct ResourceQuotas;

impl Check for ResourceQuotas {
    fn handles(&self, request: &Request<'_>) -> bool {
        let kind = request.kind;
        if !kind.info.namespaced || kind.info.virtual_only || !is_counted(kind.group(), kind.resource()) {
            return false;
        }
        matches!(
            (request.operation, request.subresource(), kind.group(), kind.resource()),
            (Operation::Create, "", ..)
                | (Operation::Update, "", "", "services" | "persistentvolumeclaims")
                | (Operation::Update, "", "resource.k8s.io", "resourceclaims")
                | (Operation::Update, "resize", "", "pods")
        )
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(object) = request.kind.key(&request.namespace(), &request.name()) else { return Ok(()) };
        let base = request.old.and_then(|old| old.meta().resource_version.as_deref()).and_then(Rev::parse);
        let write = Write { object, base, new: Item::of(&**request.object), old: request.old.map(Item::of) };
        match request.ledger.reserve(&write, jiff::Timestamp::now(), request.latest) {
            Ok(room) => {
                request.findings.held.extend(room.map(|room| Box::new(room) as _));
                Ok(())
            }
            Err(Refused::Full(why)) => Err(request.forbidden(why)),
            Err(Refused::Unreadable(error)) => Err(unreadable(error)),
        }
    }
}
