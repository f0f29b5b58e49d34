//! apiregistration.k8s.io, storagemigration.k8s.io: what extends the API.

use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

kind!(APIService: CLUSTER {
        singular: "apiservice", categories: &["api-extensions"], generation: false, subresources: &[Subresource::Status],
    }
    separate_status!();
    fn apply_defaults(&mut self) {
        if let Some(service) = self.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }
    // The core group's version is called `v1.`: upstream asks for a path segment only.
    fn validate_name(name: &str) -> Result<(), String> { names::path_segment(name) }
    fn validate(&self, _old: Option<&Self>) -> Errors { check_service(self) }
    columns!(APIService;
        "Service" string: "Who serves it." =>
            |one, _| print::text(rules::part(&one.spec).service.as_ref().map_or_else(|| "Local".into(), |service| {
            format!("{}/{}", rules::str_of(&service.namespace), rules::str_of(&service.name))
        })),
        "Available" string: "Whether it answers." => |one, _| {
            let status = rules::part(&one.status);
            let found = status.conditions.iter().flatten().find(|condition| condition.type_ == "Available");
            print::text(found.map_or_else(|| "Unknown".into(), |condition| match condition.status.as_str() {
                "True" => "True".into(),
                other => format!("{other} ({})", rules::str_of(&condition.reason)),
            }))
        },
        "Age" string: "Time since creation." => print::age,
    );
);

kind!(StorageVersionMigration: CLUSTER { singular: "storageversionmigration", subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        rules::required(&mut errors, &path.at("resource.resource"), &spec.resource.resource);
        if let Some(old) = old {
            rules::immutable(&mut errors, &path, &self.spec, &old.spec);
        }
        errors
    }
    columns!(StorageVersionMigration;
        "Resource" string: "What is migrated." => |one, _| {
            let resource = &rules::part(&one.spec).resource;
            print::text(crate::api::status::qualified(&resource.group, &resource.resource))
        },
        "Age" string: "Time since creation." => print::age,
    );
);

/// Upstream's `kube-aggregator/pkg/apis/apiregistration/validation`.
fn check_service(service: &APIService) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&service.spec));
    let (group, version) = (rules::str_of(&spec.group), rules::str_of(&spec.version));
    let wanted = format!("{version}.{group}");
    if service.metadata.name.as_deref() != Some(wanted.as_str()) {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid("metadata.name", &service.metadata.name, why));
    }
    if group.is_empty() && version != "v1" {
        errors.push(FieldError::required(path.at("group"), "only v1 may have an empty group and it better be legacy kube"));
    }
    if !group.is_empty() {
        rules::syntax(&mut errors, &path.at("group"), group, names::subdomain);
    }
    rules::syntax(&mut errors, &path.at("version"), version, names::dns1035_label);
    for (field, value, max) in
        [("groupPriorityMinimum", spec.group_priority_minimum, 20000), ("versionPriority", spec.version_priority, 1000)]
    {
        if value <= 0 || value > max {
            errors.push(FieldError::invalid(path.at(field), value, format!("must be positive and less than {max}")));
        }
    }
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let Some(target) = &spec.service else {
        if bundle > 0 {
            errors.push(FieldError::invalid(path.at("caBundle"), format!("{bundle} bytes"), "local APIServices may not have a caBundle"));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(path.at("insecureSkipTLSVerify"), true, why));
        }
        return errors;
    };
    rules::required(&mut errors, &path.at("service.namespace"), rules::str_of(&target.namespace));
    rules::required(&mut errors, &path.at("service.name"), rules::str_of(&target.name));
    if let Some(port) = target.port.filter(|port| !(1..=65535).contains(port)) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(path.at("service.port"), port, why));
    }
    if insecure && bundle > 0 {
        errors.push(FieldError::invalid(path.at("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"));
    }
    errors
}
