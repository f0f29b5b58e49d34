//! Certificate signing requests: nodes' own are approved, approved ones are signed, old ones are removed; and whom to trust is published.
//!
//! Follows upstream's `pkg/controller/certificates`.

pub mod approve;
pub mod clean;
pub mod sign;
pub mod trust_bundle;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

/// A condition of this type that holds.
fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).any(|condition| condition.type_ == kind && condition.status == "True")
}

fn conditions(request: &CertificateSigningRequest) -> impl Iterator<Item = &CertificateSigningRequestCondition> {
    request.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

/// The certificate, if there is one.
fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let bytes = &request.status.as_ref()?.certificate.as_ref()?.0;
    (!bytes.is_empty()).then_some(bytes)
}

/// A condition that holds from now on.
fn condition(kind: &str, reason: &str, message: String, now: jiff::Timestamp) -> CertificateSigningRequestCondition {
    let time = || Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    CertificateSigningRequestCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: time(),
        last_transition_time: time(),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use base64::Engine;

    /// A signing request object, YAML, with `more` in its spec.
    pub(crate) fn request(cn: &str, organization: &str, more: &str) -> String {
        request_for(cn, organization, more, &[]).0
    }

    /// The same for names and addresses, and the hash of its key.
    pub(crate) fn request_for(cn: &str, organization: &str, more: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let hash = crate::api::csr::Csr::parse(pem.as_bytes()).unwrap().key_hash();
        let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
        let object = format!("kind: CertificateSigningRequest\nmetadata: {{name: r}}\nspec: {{request: {encoded}, {more}}}\n");
        (object, hash)
    }
}
