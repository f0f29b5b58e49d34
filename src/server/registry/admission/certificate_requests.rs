//! Certificate signing requests say who made them, and each subresource changes its own part only.
//!
//! Follows upstream's `pkg/registry/certificates/certificates/strategy.go`, which is handed the user and the subresource, as kinds here
//! are not: `/approval` changes conditions, `/status` everything but approvals and denials.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Check, Operation, Request};
use crate::api::Status;

/// The check.
pub(super) struct CertificateRequests;

const APPROVER: &str = "system:serviceaccount:kube-system:certificate-controller";

type Condition = CertificateSigningRequestCondition;

fn is_verdict(condition: &Condition) -> bool {
    ["Approved", "Denied"].contains(&condition.type_.as_str())
}

/// Gives conditions that are new or changed their times.
fn stamp(conditions: &mut [Condition], old: &[Condition], now: &Time) {
    for condition in conditions {
        let before = old.iter().find(|other| other.type_ == condition.type_);
        if condition.last_update_time.is_none() {
            condition.last_update_time = Some(now.clone());
        }
        if condition.last_transition_time.is_none() {
            let same = before.filter(|before| before.status == condition.status);
            condition.last_transition_time = same.and_then(|before| before.last_transition_time.clone()).or_else(|| Some(now.clone()));
        }
    }
}

impl Check for CertificateRequests {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.object.as_any().is::<CertificateSigningRequest>()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let user = request.options.user.clone();
        let (operation, subresource) = (request.operation, request.subresource().to_owned());
        let old = request.old::<CertificateSigningRequest>().map(|old| old.status.clone().unwrap_or_default());
        let Some(object) = request.object::<CertificateSigningRequest>() else { return Ok(()) };
        if operation == Operation::Create {
            let spec = &mut object.spec;
            // Whatever the client says about itself is not believed.
            spec.username = Some(user.name.clone());
            spec.uid = Some(user.uid.clone()).filter(|uid| !uid.is_empty());
            spec.groups = Some(user.groups.clone());
            spec.extra = Some(user.extra.clone()).filter(|extra| !extra.is_empty());
            return Ok(());
        }
        let old = old.unwrap_or_default();
        let before = old.conditions.clone().unwrap_or_default();
        match subresource.as_str() {
            "approval" => {
                let conditions = object.status.take().and_then(|status| status.conditions);
                object.status = Some(old);
                object.status.get_or_insert_default().conditions = conditions;
            }
            // The approver writes its verdicts with the rest of the status; whoever bears its name may approve anyway.
            "status" if user.name != APPROVER => {
                let conditions = object.status.get_or_insert_default().conditions.get_or_insert_default();
                conditions.retain(|condition| !is_verdict(condition));
                conditions.splice(0..0, before.iter().filter(|condition| is_verdict(condition)).cloned());
            }
            _ => return Ok(()),
        }
        if let Some(conditions) = object.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            stamp(conditions, &before, &crate::server::registry::now());
        }
        Ok(())
    }
}
