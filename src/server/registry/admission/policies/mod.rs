//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules of the cluster's own, written in CEL.
//!
//! Words: a policy is *active* when a binding names it; a *judgement* is one active policy with one binding and one parameter; a
//! *denial* is a judgement against the request.
//!
//! Invariants: without an active policy there is no work; programs are compiled once for each revision of a policy; no policy is asked
//! about policies, bindings and webhooks.
//!
//! Follows upstream's `apiserver/pkg/admission/plugin/policy/{generic,validating,mutating}`.

mod atomics;
mod configured;
pub(super) mod input;
mod mutating;
mod params;
mod patches;
mod validating;

use futures::future::BoxFuture;

use super::webhooks::concerns;
use super::{AsyncCheck, Request};
use crate::api::Status;
pub(in crate::server::registry) use configured::Policies;

/// `MutatingAdmissionPolicy`.
pub(super) struct Mutating;
/// `ValidatingAdmissionPolicy`.
pub(super) struct Validating;

impl AsyncCheck for Mutating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !request.policies.mutating(&request.snapshot).is_empty() && concerns(request)
    }

    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(mutating::mutate(request))
    }

    fn validate<'a>(&'a self, _: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl AsyncCheck for Validating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !request.policies.validating(&request.snapshot).is_empty() && concerns(request)
    }

    fn mutate<'a>(&'a self, _: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(validating::validate(request))
    }
}
