//! CustomResourceDefinition: the kind that defines kinds.
//!
//! Words: what all versions say alike is *common*; upstream's internal form holds it once for the definition, and its messages name it
//! there (`spec.validation.openAPIV3Schema`, `spec.additionalPrinterColumns`), so ours do.
//!
//! Follows apiextensions-apiserver `pkg/apis/apiextensions/{v1,validation}` and `pkg/registry/customresourcedefinition`.
//!
//! Never: what a definition brings about; that is `kinds::custom` and the controllers.

mod openapi;
mod rules;
mod spec;
#[cfg(test)]
mod tests;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::support::path::{Errors, Path};
use super::support::{print, rules as shared};
use crate::api::structural::{self, Schema};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

/// The finalizer that lets the instances go first.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Kubernetes' own groups may only be extended with this annotation.
const APPROVED: &str = "api-approved.kubernetes.io";

kind!(CustomResourceDefinition: CLUSTER {
        singular: "customresourcedefinition", short: &["crd", "crds"], categories: &["api-extensions"],
        subresources: &[Subresource::Status], plain_finalizers: true,
    }
    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
        note_stored_version(self);
    }
    fn prepare_update(&mut self, old: &Self) {
        self.status = old.status.clone();
        note_stored_version(self);
    }
    fn prepare_status(&mut self, old: &Self) {
        let sent = std::mem::replace(self, old.clone());
        self.metadata = sent.metadata;
        self.status = sent.status;
    }
    fn prepare_delete(&mut self, now: &Time) {
        let finalizers = self.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
            finalizers.push(CLEANUP.into());
        }
        let conditions = self.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "Terminating");
        conditions.push(CustomResourceDefinitionCondition {
            type_: "Terminating".into(),
            status: "True".into(),
            reason: Some("InstanceDeletionPending".into()),
            message: Some("CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".into()),
            last_transition_time: Some(now.clone()),
            ..CustomResourceDefinitionCondition::default()
        });
    }
    fn apply_defaults(&mut self) {
        let names = &mut self.spec.names;
        if names.singular.as_ref().is_none_or(String::is_empty) {
            names.singular = Some(names.kind.to_lowercase());
        }
        if names.list_kind.as_ref().is_none_or(String::is_empty) && !names.kind.is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        let conversion = self.spec.conversion.get_or_insert_with(|| CustomResourceConversion {
            strategy: "None".into(), webhook: None,
        });
        let client = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
        if let Some(service) = client.and_then(|client| client.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors { check(self, old) }
    fn validate_status(&self, _old: &Self) -> Errors {
        let mut errors = Errors::new();
        accepted_names(&mut errors, self);
        errors
    }
    columns!(CustomResourceDefinition;
        "Created At" date: "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata" =>
            |crd, _| print::created_at(&crd.metadata));
);

/// The storage version is one in which objects may be stored from now on.
fn note_stored_version(crd: &mut CustomResourceDefinition) {
    let Some(name) = crd.spec.versions.iter().find(|version| version.storage).map(|version| version.name.clone()) else { return };
    let stored = crd.status.get_or_insert_default().stored_versions.get_or_insert_default();
    if !stored.contains(&name) {
        stored.push(name);
    }
}

/// What the previous state of a definition excuses, as upstream's `validationOptions`.
struct Options {
    /// The definition is established: what the storage depends on can't change.
    immutable: bool,
    require_schemas: bool,
    require_types: bool,
    require_structural: bool,
    require_pruned: bool,
    require_atomic_sets: bool,
    require_map_keys: bool,
    require_review_version: bool,
    allow_bad_bundle: bool,
    /// Versions whose schemas the update leaves as they are.
    unchanged: Vec<String>,
}

impl Options {
    fn new(crd: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> Options {
        let Some(old) = old else {
            return Options {
                immutable: false,
                require_schemas: true,
                require_types: true,
                require_structural: true,
                require_pruned: true,
                require_atomic_sets: true,
                require_map_keys: true,
                require_review_version: true,
                allow_bad_bundle: true,
                unchanged: Vec::new(),
            };
        };
        let schemas: Vec<&JSONSchemaProps> = old.spec.versions.iter().filter_map(schema_of).collect();
        let parsed: Vec<Result<Schema, String>> = schemas.iter().map(|props| Schema::parse(props)).collect();
        let structural = |schema: &Result<Schema, String>| {
            schema.as_ref().is_ok_and(|schema| structural::check(schema, structural::Path::ROOT).is_empty())
        };
        let pruned = |schema: &Result<Schema, String>| {
            let Ok(schema) = schema else { return true };
            let errors = structural::check_defaults(schema, true, structural::Path::ROOT);
            !errors.iter().any(|error| error.message.ends_with("must not have unknown fields"))
        };
        let established = is_established(old);
        let webhook = old.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
        let reviews = webhook.map(|webhook| webhook.conversion_review_versions.as_slice()).unwrap_or_default();
        let bundle = webhook.and_then(|webhook| webhook.client_config.as_ref()?.ca_bundle.as_ref()).map(|bundle| bundle.0.as_slice());
        Options {
            immutable: established,
            require_schemas: old.spec.versions.iter().all(|version| schema_of(version).is_some()),
            require_types: !schemas.iter().any(|schema| openapi::any(schema, &|one| !openapi::has_known_type(one))),
            require_structural: parsed.iter().all(structural),
            require_pruned: parsed.iter().all(pruned),
            require_atomic_sets: !schemas.iter().any(|schema| openapi::any(schema, &openapi::is_set_of_composites)),
            require_map_keys: !schemas.iter().any(|schema| openapi::any(schema, &openapi::has_loose_map_keys)),
            require_review_version: reviews.is_empty() || reviews.iter().any(|version| spec::REVIEWS.contains(&version.as_str())),
            allow_bad_bundle: !established
                || bundle.is_some_and(|bundle| !bundle.is_empty() && super::support::webhook::bundle(bundle).is_err()),
            unchanged: unchanged(crd, old),
        }
    }
}

fn unchanged(crd: &CustomResourceDefinition, old: &CustomResourceDefinition) -> Vec<String> {
    let same = |version: &&CustomResourceDefinitionVersion| {
        old.spec.versions.iter().any(|other| other.name == version.name && other.schema == version.schema)
    };
    crd.spec.versions.iter().filter(same).map(|version| version.name.clone()).collect()
}

/// The schema of a version, if it has one.
fn schema_of(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Every violated rule.
fn check(crd: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> Errors {
    let mut errors = Errors::new();
    let options = Options::new(crd, old);
    let path = Path::new("spec");
    if old.is_none() {
        let wanted = format!("{}.{}", crd.spec.names.plural, crd.spec.group);
        let name = crd.metadata.name.as_deref().unwrap_or_default();
        if name != wanted {
            errors.push(FieldError::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
        }
    }
    spec::check(&mut errors, &path, &crd.spec, &options);
    if let Some(old) = old {
        if options.immutable {
            shared::immutable(&mut errors, &path.at("scope"), &crd.spec.scope, &old.spec.scope);
            shared::immutable(&mut errors, &path.at("names.kind"), &crd.spec.names.kind, &old.spec.names.kind);
        }
        shared::immutable(&mut errors, &path.at("group"), &crd.spec.group, &old.spec.group);
        shared::immutable(&mut errors, &path.at("names.plural"), &crd.spec.names.plural, &old.spec.names.plural);
    }
    accepted_names(&mut errors, crd);
    stored_versions(&mut errors, crd);
    approval(&mut errors, crd, old);
    let preserves = |crd: &CustomResourceDefinition| crd.spec.preserve_unknown_fields == Some(true);
    if preserves(crd) && !old.is_some_and(preserves) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(path.at("preserveUnknownFields"), true, why));
    }
    errors
}

fn accepted_names(errors: &mut Errors, crd: &CustomResourceDefinition) {
    if let Some(names) = crd.status.as_ref().and_then(|status| status.accepted_names.as_ref()) {
        spec::check_names(errors, &Path::new("status.acceptedNames"), names);
    }
}

fn stored_versions(errors: &mut Errors, crd: &CustomResourceDefinition) {
    let path = Path::new("status.storedVersions");
    let stored = crd.status.as_ref().and_then(|status| status.stored_versions.as_deref()).unwrap_or_default();
    if stored.is_empty() {
        return errors.push(FieldError::invalid(path, Value::Array(Vec::new()), "must have at least one stored version"));
    }
    for version in crd.spec.versions.iter().filter(|version| version.storage && !stored.contains(&version.name)) {
        errors.push(FieldError::invalid(&path, stored, format!("must have the storage version {}", version.name)));
    }
    for (index, name) in stored.iter().enumerate() {
        if !crd.spec.versions.iter().any(|version| version.name == *name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage \
                 migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(path.index(index), name, why));
        }
    }
}

/// Whether a definition in one of Kubernetes' own groups was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The group needs none.
    Unneeded,
    /// The annotation is not there.
    Missing,
    /// The annotation is a URL.
    Approved,
    /// The annotation says that it is unapproved.
    Bypassed,
    /// The annotation is anything else.
    Invalid,
}

/// Whether the definition is approved, and why not.
pub fn approval_of(crd: &CustomResourceDefinition) -> (Approval, String) {
    let group = crd.spec.group.as_str();
    if !["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}"))) {
        return (Approval::Unneeded, String::new());
    }
    let annotation = crd.metadata.annotations.as_ref().and_then(|map| map.get(APPROVED)).map(String::as_str).unwrap_or_default();
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let is_url =
        || annotation.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.starts_with('/') && !rest.is_empty());
    match annotation {
        "" => (Approval::Missing, format!("protected groups must have approval annotation {APPROVED:?}, {SEE}")),
        text if text.starts_with("unapproved") => (Approval::Bypassed, format!("not approved: {text:?}")),
        text if is_url() => (Approval::Approved, format!("approved in {text}")),
        _ => {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            );
            (Approval::Invalid, why)
        }
    }
}

fn approval(errors: &mut Errors, crd: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) {
    let (state, why) = approval_of(crd);
    if old.is_some_and(|old| approval_of(old).0 == state) {
        return;
    }
    let path = Path::new("metadata.annotations").key(APPROVED);
    match state {
        Approval::Missing => errors.push(FieldError::required(path, why)),
        Approval::Invalid => {
            let value = crd.metadata.annotations.as_ref().and_then(|map| map.get(APPROVED));
            errors.push(FieldError::invalid(path, value, why));
        }
        Approval::Unneeded | Approval::Approved | Approval::Bypassed => {}
    }
}

/// A DNS-1035 label, whatever its case.
fn mixed_case(errors: &mut Errors, path: &Path, value: &str) {
    if let Err(why) = names::dns1035_label(&value.to_lowercase()) {
        errors.push(FieldError::invalid(path, value, format!("may have mixed case, but should otherwise match: {why}")));
    }
}
