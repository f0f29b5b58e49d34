//! certificates.k8s.io: signing requests and trust bundles.

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, ClusterTrustBundle, PodCertificateRequest,
};

use super::support::path::{Errors, Path};
use super::support::{duration, print, rules};
use crate::api::csr::Csr;
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

const USAGES: &[&str] = &[
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];

kind!(CertificateSigningRequest: CLUSTER {
        singular: "certificatesigningrequest", short: &["csr"], generation: false, subresources: &[Subresource::Status],
    }
    const FIELDS: &'static [&'static str] = &["spec.signerName"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "spec.signerName").then(|| self.spec.signer_name.clone())
    }
    fn validate_name(name: &str) -> Result<(), String> { names::path_segment(name) }
    fn prepare_create(&mut self) { self.status = Some(Default::default()); }
    fn prepare_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
        self.status = old.status.clone();
    }
    fn prepare_status(&mut self, old: &Self) { self.spec = old.spec.clone(); }
    fn validate(&self, old: Option<&Self>) -> Errors { check_request(self, old.is_none()) }
    fn validate_status(&self, old: &Self) -> Errors { check_status(self, old) }
    columns!(CertificateSigningRequest;
        "Age" string: "Time since creation." => print::age,
        "SignerName" string: "Who is asked to sign." => |request, _| print::text(&request.spec.signer_name),
        "Requestor" string: "Who asked." => |request, _| print::opt(&request.spec.username),
        "RequestedDuration" string: "How long the certificate should be valid." => |request, _| {
            print::text(request.spec.expiration_seconds.map_or_else(|| print::NONE.into(), |seconds| duration::human(seconds.into())))
        },
        "Condition" string: "What became of the request." => |request, _| print::text(condition(request)),
    );
);

kind!(ClusterTrustBundle: CLUSTER { singular: "clustertrustbundle", generation: false }
    const FIELDS: &'static [&'static str] = &["spec.signerName"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "spec.signerName").then(|| self.spec.signer_name.clone().unwrap_or_default())
    }
    fn validate_name(name: &str) -> Result<(), String> { names::path_segment(name) }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        rules::required(&mut errors, &Path::new("spec").at("trustBundle"), &self.spec.trust_bundle);
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("spec").at("signerName"), &self.spec.signer_name, &old.spec.signer_name);
        }
        errors
    }
    columns!(ClusterTrustBundle;
        "SignerName" string: "Whose bundle this is." => |bundle, _| print::or_none(bundle.spec.signer_name.as_deref()));
);

kind!(PodCertificateRequest: NAMESPACED {
        singular: "podcertificaterequest", generation: false, subresources: &[Subresource::Status],
    }
    const FIELDS: &'static [&'static str] = &["spec.signerName", "spec.nodeName"];
    fn field(&self, path: &str) -> Option<String> {
        match path {
            "spec.signerName" => Some(self.spec.signer_name.clone()),
            "spec.nodeName" => Some(self.spec.node_name.clone()),
            _ => None,
        }
    }
    separate_status!();
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        let fields = [
            ("signerName", &spec.signer_name), ("podName", &spec.pod_name), ("podUID", &spec.pod_uid), ("nodeName", &spec.node_name),
            ("nodeUID", &spec.node_uid), ("serviceAccountName", &spec.service_account_name),
            ("serviceAccountUID", &spec.service_account_uid),
        ];
        for (name, value) in fields {
            rules::required(&mut errors, &path.at(name), value);
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path, &self.spec, &old.spec);
        }
        errors
    }
    columns!(PodCertificateRequest;
        "PodName" string: "The pod." => |request, _| print::text(&request.spec.pod_name),
        "ServiceAccountName" string: "Its service account." => |request, _| print::text(&request.spec.service_account_name),
        "NodeName" string: "Its node." => |request, _| print::text(&request.spec.node_name),
        "SignerName" string: "Who is asked to sign." => |request, _| print::text(&request.spec.signer_name),
        "State" string: "What became of the request." => |request, _| print::text(
            request.status.iter().flat_map(|status| status.conditions.iter().flatten()).find(|c| c.status == "True")
                .map_or("Pending", |c| c.type_.as_str())
        ),
    );
);

fn condition(request: &CertificateSigningRequest) -> String {
    let status = rules::part(&request.status);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind);
    let mut parts = vec![match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }];
    if has("Failed") {
        parts.push("Failed");
    }
    if status.certificate.as_ref().is_some_and(|certificate| !certificate.0.is_empty()) {
        parts.push("Issued");
    }
    parts.join(",")
}

/// Conditions that hold once they are there, and stay.
const LASTING: &[&str] = &["Approved", "Denied", "Failed"];

fn check_status(request: &CertificateSigningRequest, old: &CertificateSigningRequest) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let (status, old) = (rules::part(&request.status), rules::part(&old.status));
    let conditions = status.conditions.as_deref().unwrap_or_default();
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.at("conditions").index(index);
        rules::required(&mut errors, &at.at("type"), &condition.type_);
        let before = &conditions[..index];
        if rules::required(&mut errors, &at.at("status"), &condition.status) && LASTING.contains(&condition.type_.as_str()) {
            rules::one_of(&mut errors, &at.at("status"), &condition.status, &["True"]);
        }
        if before.iter().any(|other| other.type_ == condition.type_) {
            errors.push(FieldError::duplicate(at.at("type"), &condition.type_));
        }
        let other = match condition.type_.as_str() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => continue,
        };
        if before.iter().any(|condition| condition.type_ == other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(at.at("type"), &condition.type_, why));
        }
    }
    for lasting in LASTING {
        let has = |list: &[CertificateSigningRequestCondition]| list.iter().any(|condition| condition.type_ == *lasting);
        if has(old.conditions.as_deref().unwrap_or_default()) && !has(conditions) {
            let why = format!("updates may not remove a condition of type {lasting:?}");
            errors.push(FieldError::forbidden(path.at("conditions"), why));
        }
    }
    let bytes = |certificate: &Option<k8s_openapi::ByteString>| certificate.as_ref().map_or(Vec::new(), |c| c.0.clone());
    let (certificate, before) = (bytes(&status.certificate), bytes(&old.certificate));
    if certificate != before {
        if certificate.is_empty() {
            errors.push(FieldError::forbidden(path.at("certificate"), "updates may not clear certificate content"));
        } else if !before.is_empty() {
            errors.push(FieldError::forbidden(path.at("certificate"), "updates may not modify existing certificate content"));
        } else if let Err(why) = check_certificate(&certificate) {
            errors.push(FieldError::invalid(path.at("certificate"), "<certificate data>", why));
        }
    }
    errors
}

/// One or more certificates in PEM and nothing else.
fn check_certificate(pem: &[u8]) -> Result<(), &'static str> {
    let mut found = false;
    for block in x509_parser::pem::Pem::iter_from_buffer(pem) {
        let block = block.map_err(|_| "must contain one or more PEM blocks")?;
        if block.label != "CERTIFICATE" {
            return Err("only CERTIFICATE PEM blocks are allowed");
        }
        block.parse_x509().map_err(|_| "a CERTIFICATE PEM block can't be parsed")?;
        found = true;
    }
    if found { Ok(()) } else { Err("must contain one or more PEM blocks") }
}

fn check_request(request: &CertificateSigningRequest, new: bool) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &request.spec);
    // What is there already was read once; reading it again costs a signature check.
    if new && let Err(why) = Csr::parse(&spec.request.0) {
        // Go shows bytes as a literal; a request is no secret, yet nobody needs all of it.
        let bytes: Vec<String> = spec.request.0.iter().take(4096).map(|byte| format!("0x{byte:x}")).collect();
        let message = format!("Invalid value: []byte{{{}}}: {why}", bytes.join(", "));
        errors.push(FieldError { reason: "FieldValueInvalid", field: path.at("request").to_string(), message });
    }
    let usages = spec.usages.as_deref().unwrap_or_default();
    if usages.is_empty() {
        errors.push(FieldError::required(path.at("usages"), "usages is required"));
    }
    for (index, usage) in usages.iter().enumerate() {
        rules::one_of(&mut errors, &path.at("usages").index(index), usage, USAGES);
        if usages[..index].contains(usage) {
            errors.push(FieldError::duplicate(path.at("usages").index(index), usage));
        }
    }
    if new && spec.signer_name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(path.at("signerName"), &spec.signer_name, why));
    }
    if rules::required(&mut errors, &path.at("signerName"), &spec.signer_name) {
        let segments: Vec<&str> = spec.signer_name.split('/').collect();
        match segments[..] {
            [domain, name] if !name.is_empty() => {
                if let Err(why) = names::fully_qualified(domain) {
                    errors.push(FieldError::invalid(path.at("signerName"), domain, why));
                }
            }
            _ => {
                let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
                errors.push(FieldError::invalid(path.at("signerName"), &spec.signer_name, why));
            }
        }
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
        errors.push(FieldError::invalid(
            path.at("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    errors
}
