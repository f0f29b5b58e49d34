//! Who may approve, sign and attest, and what a client certificate may say (kubernetes `plugin/pkg/admission/certificates`).
//!
//! Rights on the resource are not enough: one needs the verb `approve`, `sign` or `attest` on the signer, by name (`example.com/x`) or
//! for all of its domain (`example.com/*`).

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, ClusterTrustBundle};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::super::access::Attributes;
use super::{Check, Operation, Request};
use crate::api::Status;

/// Upstream's `CertificateApproval`.
pub(super) struct CertificateApproval;
/// Upstream's `CertificateSigning`.
pub(super) struct CertificateSigning;
/// Upstream's `ClusterTrustBundleAttest`.
pub(super) struct ClusterTrustBundleAttest;
/// Upstream's `CertificateSubjectRestriction`.
pub(super) struct CertificateSubjectRestriction;

impl Check for CertificateApproval {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.subresource() == "approval"
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(old) = request.old::<CertificateSigningRequest>() else { return Ok(()) };
        let signer = old.spec.signer_name.clone();
        check(request, "approve", &signer, "approve requests with")
    }
}

impl Check for CertificateSigning {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.subresource() == "status"
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let new = request.object.as_any().downcast_ref::<CertificateSigningRequest>();
        let (Some(new), Some(old)) = (new, request.old::<CertificateSigningRequest>()) else { return Ok(()) };
        let content = |one: &CertificateSigningRequest| {
            one.status
                .as_ref()
                .map(|status| (status.certificate.clone(), status.conditions.clone().unwrap_or_default()))
                .unwrap_or_default()
        };
        if content(new) == content(old) {
            return Ok(());
        }
        let signer = old.spec.signer_name.clone();
        check(request, "sign", &signer, "sign requests with")
    }
}

impl Check for ClusterTrustBundleAttest {
    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(new) = request.object.as_any().downcast_ref::<ClusterTrustBundle>() else { return Ok(()) };
        let signer = new.spec.signer_name.clone().unwrap_or_default();
        let same = request.old::<ClusterTrustBundle>().is_some_and(|old| old.spec == new.spec);
        if signer.is_empty() || same {
            return Ok(());
        }
        check(request, "attest", &signer, "attest for")
    }
}

impl Check for CertificateSubjectRestriction {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create
            && request.subresource().is_empty()
            && request.object.as_any().is::<CertificateSigningRequest>()
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
        const MASTERS: &str = "system:masters";
        let Some(csr) = request.object.as_any().downcast_ref::<CertificateSigningRequest>() else { return Ok(()) };
        if csr.spec.signer_name != SIGNER {
            return Ok(());
        }
        let organizations =
            organizations(&csr.spec.request.0).map_err(|why| request.forbidden(format_args!("failed to parse CSR: {why}")))?;
        match organizations.iter().any(|organization| organization == MASTERS) {
            true => Err(request.forbidden(format_args!("use of {SIGNER} signer with {MASTERS} group is not allowed"))),
            false => Ok(()),
        }
    }
}

/// 403 unless the user has `verb` on the signer, or on its domain.
fn check(request: &Request<'_>, verb: &str, signer: &str, what: &str) -> Result<(), Status> {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let may = |name: &str| {
        let asked = Attributes {
            verb: verb.into(),
            group: "certificates.k8s.io".into(),
            version: "*".into(),
            resource: "signers".into(),
            name: name.into(),
            ..Attributes::default()
        };
        request.authorizer.authorize(&request.snapshot, request.user(), &asked).allowed()
    };
    if may(signer) || may(&format!("{domain}/*")) {
        return Ok(());
    }
    Err(request.forbidden(format_args!("user not permitted to {what} signerName \"{signer}\"")))
}

/// The organizations of a request's subject: groups, to the API server.
fn organizations(pem: &[u8]) -> Result<Vec<String>, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| error.to_string())?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err("PEM block type must be CERTIFICATE REQUEST".into());
    }
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|error| error.to_string())?;
    let organizations = request.certification_request_info.subject.iter_organization();
    Ok(organizations.filter_map(|organization| organization.as_str().ok()).map(str::to_owned).collect())
}
