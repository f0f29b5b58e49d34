//! apiextensions.k8s.io, apiregistration.k8s.io, storagemigration.k8s.io: what extends the API.

use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionSpec,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

kind!(CustomResourceDefinition: CLUSTER {
        singular: "customresourcedefinition", short: &["crd", "crds"], categories: &["api-extensions"],
        subresources: &[Subresource::Status],
    }
    separate_status!(updates);
    fn prepare_create(&mut self) {
        let stored = self.spec.versions.iter().filter(|version| version.storage).map(|version| version.name.clone());
        let status = self.status.insert(Default::default());
        status.stored_versions = Some(stored.collect());
    }
    fn apply_defaults(&mut self) {
        let names = &mut self.spec.names;
        if names.singular.as_ref().is_none_or(String::is_empty) {
            names.singular = Some(names.kind.to_lowercase());
        }
        if names.list_kind.as_ref().is_none_or(String::is_empty) && !names.kind.is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        self.spec.conversion.get_or_insert_with(|| CustomResourceConversion {
            strategy: "None".into(), webhook: None,
        });
    }
    fn validate(&self, old: Option<&Self>) -> Errors { check_definition(self, old) }
    columns!(CustomResourceDefinition;
        "Created At" date: "When it was made." => |crd, _| print::created_at(&crd.metadata));
);

kind!(APIService: CLUSTER {
        singular: "apiservice", categories: &["api-extensions"], generation: false, subresources: &[Subresource::Status],
    }
    separate_status!();
    fn apply_defaults(&mut self) {
        if let Some(service) = self.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }
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

fn check_definition(crd: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &crd.spec);
    let wanted = format!("{}.{}", spec.names.plural, spec.group);
    let name = crd.metadata.name.as_deref().unwrap_or_default();
    if name != wanted {
        errors.push(FieldError::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
    }
    if rules::required(&mut errors, &path.at("group"), &spec.group) {
        rules::syntax(&mut errors, &path.at("group"), &spec.group, names::subdomain);
        if !spec.group.contains('.') {
            errors.push(FieldError::invalid(path.at("group"), &spec.group, "should be a domain with at least one dot"));
        }
    }
    rules::required_one_of(&mut errors, &path.at("scope"), &spec.scope, &["Cluster", "Namespaced"]);
    check_versions(&mut errors, &path, spec);
    let names_path = path.at("names");
    for (field, value) in [("plural", spec.names.plural.as_str()), ("singular", rules::str_of(&spec.names.singular))] {
        rules::required_syntax(&mut errors, &names_path.at(field), value, names::dns1035_label);
    }
    for (field, value) in [("kind", spec.names.kind.as_str()), ("listKind", rules::str_of(&spec.names.list_kind))] {
        if rules::required(&mut errors, &names_path.at(field), value)
            && let Err(why) = names::dns1035_label(&value.to_lowercase())
        {
            errors.push(FieldError::invalid(
                names_path.at(field),
                value,
                format!("may have mixed case, but should otherwise match: {why}"),
            ));
        }
    }
    if spec.names.list_kind.as_deref() == Some(spec.names.kind.as_str()) && !spec.names.kind.is_empty() {
        errors.push(FieldError::invalid(names_path.at("listKind"), &spec.names.list_kind, "kind and listKind may not be the same"));
    }
    if let Some(old) = old {
        rules::immutable(&mut errors, &path.at("group"), &spec.group, &old.spec.group);
        rules::immutable(&mut errors, &path.at("scope"), &spec.scope, &old.spec.scope);
        rules::immutable(&mut errors, &names_path.at("plural"), &spec.names.plural, &old.spec.names.plural);
        rules::immutable(&mut errors, &names_path.at("kind"), &spec.names.kind, &old.spec.names.kind);
    }
    errors
}

fn check_versions(errors: &mut Errors, path: &Path, spec: &CustomResourceDefinitionSpec) {
    if spec.versions.iter().filter(|version| version.storage).count() != 1 {
        errors.push(FieldError::invalid(path.at("versions"), &spec.versions, "must have exactly one version marked as storage version"));
    }
    for (index, version) in spec.versions.iter().enumerate() {
        let path = path.at("versions").index(index);
        rules::required_syntax(errors, &path.at("name"), &version.name, names::dns1035_label);
        if spec.versions[..index].iter().any(|other| other.name == version.name) {
            errors.push(FieldError::duplicate(path.at("name"), &version.name));
        }
        match version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) {
            None => errors.push(FieldError::required(path.at("schema.openAPIV3Schema"), "schemas are required")),
            Some(schema) if schema.type_.as_deref() != Some("object") => {
                let path = path.at("schema.openAPIV3Schema.type");
                match rules::str_of(&schema.type_) {
                    "" => errors.push(FieldError::required(path, "must not be empty at the root")),
                    other => errors.push(FieldError::invalid(path, other, "must be object at the root")),
                }
            }
            Some(_) => {}
        }
    }
}

fn check_service(service: &APIService) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&service.spec));
    let (group, version) = (rules::str_of(&spec.group), rules::str_of(&spec.version));
    let wanted = format!("{version}.{group}");
    if service.metadata.name.as_deref() != Some(wanted.as_str()) {
        errors.push(FieldError::invalid("metadata.name", &service.metadata.name, "must be `spec.version+\".\"+spec.group`"));
    }
    if !group.is_empty() {
        rules::syntax(&mut errors, &path.at("group"), group, names::subdomain);
    }
    rules::required_syntax(&mut errors, &path.at("version"), version, names::dns1035_label);
    for (field, value, max) in
        [("groupPriorityMinimum", spec.group_priority_minimum, 20000), ("versionPriority", spec.version_priority, 1000)]
    {
        if value <= 0 || value > max {
            errors.push(FieldError::invalid(path.at(field), value, format!("must be positive and less than {max}")));
        }
    }
    match &spec.service {
        Some(target) => {
            rules::required(&mut errors, &path.at("service.namespace"), rules::str_of(&target.namespace));
            rules::required(&mut errors, &path.at("service.name"), rules::str_of(&target.name));
        }
        None if spec.insecure_skip_tls_verify == Some(true) => {
            errors.push(FieldError::invalid(
                path.at("insecureSkipTLSVerify"),
                true,
                "local APIServices must not specify insecureSkipTLSVerify",
            ));
        }
        None => {}
    }
    errors
}
