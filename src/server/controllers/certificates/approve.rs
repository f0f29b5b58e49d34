//! Approves the client certificates of nodes, if whoever asks may have them: a bootstrap token's bearer, or the node itself.
//!
//! Follows upstream's `certificates/approver/sarapprove.go`. Never: approves a serving certificate, or any other sort.

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};

use super::{certificate, condition, conditions};
use crate::api::Key;
use crate::api::csr::Csr;
use crate::server::auth::{Attributes, Authority, User};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// The approver.
pub struct Approver {
    /// Who may.
    pub authority: Arc<Authority>,
}

/// Subresource that must be granted, whether the request must be for the requestor's own name, and what the approval says.
const RECOGNIZED: &[(&str, bool, &str)] = &[
    ("selfnodeclient", true, "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", false, "Auto approving kubelet client certificate after SubjectAccessReview."),
];

fn requestor(spec: &CertificateSigningRequestSpec) -> User {
    User {
        name: spec.username.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    }
}

impl Controller for Approver {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<CertificateSigningRequest>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(request) = view.at::<CertificateSigningRequest>(key) else { return Outcome::default() };
        let decided = conditions(&request).any(|condition| ["Approved", "Denied"].contains(&condition.type_.as_str()));
        if decided || certificate(&request).is_some() || request.spec.signer_name != "kubernetes.io/kube-apiserver-client-kubelet" {
            return Outcome::default();
        }
        let Ok(csr) = Csr::parse(&request.spec.request.0) else { return Outcome::default() };
        if csr.check_kubelet_client(request.spec.usages.as_deref().unwrap_or_default()).is_err() {
            return Outcome::default();
        }
        let user = requestor(&request.spec);
        for (subresource, own, message) in RECOGNIZED {
            if *own && user.name != csr.common_name {
                continue;
            }
            let asked = Attributes {
                verb: "create".into(),
                group: "certificates.k8s.io".into(),
                version: "*".into(),
                resource: "certificatesigningrequests".into(),
                subresource: (*subresource).into(),
                ..Attributes::default()
            };
            if self.authority.authorize(view.snapshot(), &user, &asked).allowed() {
                let mut approved = (*request).clone();
                let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
                conditions.push(condition("Approved", "AutoApproved", (*message).into(), view.now()));
                return vec![Op::UpdateStatus(Box::new(approved))].into();
            }
        }
        Outcome::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::request;
    use super::*;
    use crate::server::reconcile::testing::World;

    #[test]
    fn nodes_get_what_is_theirs() {
        const SPEC: &str = "signerName: kubernetes.io/kube-apiserver-client-kubelet, usages: [digital signature, client auth]";
        let approver = Approver { authority: Arc::default() };
        let key = Key::of::<CertificateSigningRequest>("", "r");
        for (cn, organization, more, want) in [
            ("system:node:a", "system:nodes", format!("{SPEC}, username: x, groups: [system:masters]"), true),
            ("system:node:a", "system:nodes", format!("{SPEC}, username: x"), false),
            ("a", "system:nodes", format!("{SPEC}, username: x, groups: [system:masters]"), false),
            ("system:node:a", "system:nodes", format!("{}, username: x, groups: [system:masters]", SPEC.replace("-kubelet", "")), false),
            (
                "system:node:a",
                "system:nodes",
                format!("{}, username: x, groups: [system:masters]", SPEC.replace("client auth", "server auth")),
                false,
            ),
        ] {
            let mut world = World::of(&request(cn, organization, &more));
            world.settle(&approver, &key);
            let approved = super::super::has(&world.one::<CertificateSigningRequest>("r"), "Approved");
            assert_eq!(approved, want, "{cn} {organization} {more}");
        }
    }
}
