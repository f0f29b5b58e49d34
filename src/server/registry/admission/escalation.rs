//! Roles and bindings give nobody more than their writer has: asked of the authorizer, which knows the rules.

use super::{Check, Request};
use crate::api::Status;

/// The check. It belongs to a kind's storage in upstream, so that it comes after completion and before validation.
pub(super) struct Escalation;

impl Check for Escalation {
    fn reserve(&self, request: &mut Request<'_>) -> Result<(), Status> {
        // The newest state: a right that was just taken away must not be handed on.
        request.authorizer.escalation(&(request.latest)(), request.user(), request.object.as_ref(), request.old)
    }
}
