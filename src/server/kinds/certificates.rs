//! certificates.k8s.io: signing requests and trust bundles.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest};

use super::support::path::{Errors, Path};
use super::support::{duration, print, rules};
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
    fn validate(&self, _old: Option<&Self>) -> Errors { check_request(self) }
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

fn check_request(request: &CertificateSigningRequest) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &request.spec);
    if spec.request.0.is_empty() {
        errors.push(FieldError::required(path.at("request"), ""));
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
