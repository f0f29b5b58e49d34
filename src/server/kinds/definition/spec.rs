//! Rules of a definition's spec.

use std::collections::HashSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, CustomResourceSubresources, JSONSchemaProps, SelectableField,
};

use super::super::support::path::{Errors, Path};
use super::super::support::{rules, webhook};
use super::{Options, mixed_case, openapi, schema_of};
use crate::api::structural::{Schema, valid_field_path};
use crate::api::{FieldError, names};

/// The forms of ConversionReview that servers know.
pub(super) const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MOST_SELECTABLE: usize = 8;

/// Every violated rule of the spec.
pub(super) fn check(errors: &mut Errors, path: &Path, spec: &CustomResourceDefinitionSpec, options: &Options) {
    if rules::required(errors, &path.at("group"), &spec.group) {
        match names::subdomain(&spec.group) {
            Err(why) => errors.push(FieldError::invalid(path.at("group"), &spec.group, why)),
            Ok(()) if !spec.group.contains('.') => {
                errors.push(FieldError::invalid(path.at("group"), &spec.group, "should be a domain with at least one dot"));
            }
            Ok(()) => {}
        }
    }
    rules::required_one_of(errors, &path.at("scope"), &spec.scope, &["Cluster", "Namespaced"]);
    let preserves = spec.preserve_unknown_fields == Some(true);
    schemas_are_there(errors, path, spec, options, preserves);
    let has = |test: &dyn Fn(&JSONSchemaProps) -> bool| spec.versions.iter().filter_map(schema_of).any(|schema| openapi::any(schema, test));
    let defaults = has(&|schema| schema.default.is_some());
    if defaults && preserves {
        errors.push(FieldError::invalid(path.at("preserveUnknownFields"), true, "must be false in order to use defaults in the schema"));
    }
    let structural = options.require_structural || !preserves || defaults || has(&openapi::has_extensions);
    versions(errors, path, spec, options, structural);
    required_names(errors, &path.at("names"), &spec.names);
    check_names(errors, &path.at("names"), &spec.names);
    let common = Common::of(&spec.versions);
    let all = "";
    if common.schema {
        let status = spec.versions.iter().any(has_status);
        let schema = spec.versions.first().and_then(schema_of);
        let cheap = spec.versions.first().is_some_and(|version| options.unchanged.contains(&version.name));
        openapi::check(errors, &path.at("validation"), schema, status, options, structural, cheap);
    }
    if let Some(first) = spec.versions.first() {
        if common.subresources {
            subresources(errors, &path.at("subresources"), first.subresources.as_ref());
        }
        if common.columns {
            columns(errors, &path.at("additionalPrinterColumns"), first.additional_printer_columns.as_deref());
        }
        if common.selectable {
            selectable(errors, &path.at("selectableFields"), first.selectable_fields.as_deref(), schema_of(first), all);
        }
    }
    conversion(errors, &path.at("conversion"), spec.conversion.as_ref(), preserves, options);
}

/// What all versions say alike.
struct Common {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Common {
    fn of(versions: &[CustomResourceDefinitionVersion]) -> Common {
        let Some((first, others)) = versions.split_first() else {
            return Common { schema: false, subresources: false, columns: false, selectable: false };
        };
        Common {
            schema: others.iter().all(|other| other.schema == first.schema),
            subresources: others.iter().all(|other| other.subresources == first.subresources),
            columns: others.iter().all(|other| other.additional_printer_columns == first.additional_printer_columns),
            selectable: others.iter().all(|other| other.selectable_fields == first.selectable_fields),
        }
    }
}

fn schemas_are_there(errors: &mut Errors, path: &Path, spec: &CustomResourceDefinitionSpec, options: &Options, preserves: bool) {
    let (required, why) = match (options.require_schemas, preserves) {
        (true, _) => (true, "schemas are required"),
        (false, false) => (false, "because otherwise all fields are pruned"),
        (false, true) => return,
    };
    for (index, version) in spec.versions.iter().enumerate() {
        if (required || version.served) && schema_of(version).is_none() {
            errors.push(FieldError::required(path.at("versions").index(index).at("schema.openAPIV3Schema"), why));
        }
    }
}

fn has_status(version: &CustomResourceDefinitionVersion) -> bool {
    version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some())
}

fn versions(errors: &mut Errors, path: &Path, spec: &CustomResourceDefinitionSpec, options: &Options, structural: bool) {
    let common = Common::of(&spec.versions);
    let mut seen = HashSet::new();
    let mut unique = true;
    for (index, version) in spec.versions.iter().enumerate() {
        let path = path.at("versions").index(index);
        unique &= seen.insert(&version.name);
        if let Err(why) = names::dns1035_label(&version.name) {
            errors.push(FieldError::invalid(path.at("name"), &version.name, why));
        }
        for why in deprecation(version.deprecated.unwrap_or_default(), version.deprecation_warning.as_deref()) {
            errors.push(FieldError::invalid(path.at("deprecationWarning"), &version.deprecation_warning, why));
        }
        if !common.schema {
            let cheap = options.unchanged.contains(&version.name);
            openapi::check(errors, &path.at("schema"), schema_of(version), has_status(version), options, structural, cheap);
        }
        if !common.subresources {
            subresources(errors, &path.at("subresources"), version.subresources.as_ref());
        }
        if !common.columns {
            columns(errors, &path.at("additionalPrinterColumns"), version.additional_printer_columns.as_deref());
        }
        if !common.selectable {
            let why = "selectableFields may only be set when version.schema.openAPIV3Schema is not included";
            selectable(errors, &path.at("selectableFields"), version.selectable_fields.as_deref(), schema_of(version), why);
        }
    }
    if !unique {
        errors.push(FieldError::invalid(path.at("versions"), &spec.versions, "must contain unique version names"));
    }
    if spec.versions.iter().filter(|version| version.storage).count() != 1 {
        errors.push(FieldError::invalid(path.at("versions"), &spec.versions, "must have exactly one version marked as storage version"));
    }
    // Upstream's internal form repeats the first version's name.
    if let Some(first) = spec.versions.first().filter(|first| !first.name.is_empty())
        && let Err(why) = names::dns1035_label(&first.name)
    {
        errors.push(FieldError::invalid(path.at("version"), &first.name, why));
    }
}

fn deprecation(deprecated: bool, warning: Option<&str>) -> Vec<String> {
    let Some(warning) = warning else { return Vec::new() };
    if !deprecated {
        return vec!["can only be set for deprecated versions".into()];
    }
    let mut errors = Vec::new();
    if warning.len() > 256 {
        errors.push("must be <= 256 characters long".into());
    }
    if warning.is_empty() {
        errors.push("must not be an empty string".into());
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' ')) {
        errors.push(format!("must only contain printable UTF-8 characters; non-printable character found at index {index}"));
    }
    errors
}

fn required_names(errors: &mut Errors, path: &Path, names: &CustomResourceDefinitionNames) {
    for (field, value) in [
        ("plural", names.plural.as_str()),
        ("singular", rules::str_of(&names.singular)),
        ("kind", names.kind.as_str()),
        ("listKind", rules::str_of(&names.list_kind)),
    ] {
        rules::required(errors, &path.at(field), value);
    }
}

/// The syntax of names, wanted or accepted ones.
pub(super) fn check_names(errors: &mut Errors, path: &Path, given: &CustomResourceDefinitionNames) {
    for (field, value) in [("plural", given.plural.as_str()), ("singular", rules::str_of(&given.singular))] {
        if !value.is_empty() {
            rules::syntax(errors, &path.at(field), value, names::dns1035_label);
        }
    }
    let list_kind = rules::str_of(&given.list_kind);
    for (field, value) in [("kind", given.kind.as_str()), ("listKind", list_kind)] {
        if !value.is_empty() {
            mixed_case(errors, &path.at(field), value);
        }
    }
    let each = |errors: &mut Errors, field: &str, list: &Option<Vec<String>>| {
        for (index, value) in list.iter().flatten().enumerate() {
            rules::syntax(errors, &path.at(field).index(index), value, names::dns1035_label);
        }
    };
    each(errors, "shortNames", &given.short_names);
    if !given.kind.is_empty() && given.kind == list_kind {
        errors.push(FieldError::invalid(path.at("listKind"), list_kind, "kind and listKind may not be the same"));
    }
    each(errors, "categories", &given.categories);
}

fn subresources(errors: &mut Errors, path: &Path, given: Option<&CustomResourceSubresources>) {
    let Some(scale) = given.and_then(|given| given.scale.as_ref()) else { return };
    let mut under = |field: &str, value: &str, roots: &[&str], why: &str| {
        let path = path.at("scale").at(field);
        if !simple_path(errors, &path, value) {
            return;
        }
        if !roots.iter().any(|root| value.starts_with(root)) {
            errors.push(FieldError::invalid(path, value, why));
        }
    };
    under("specReplicasPath", &scale.spec_replicas_path, &[".spec."], "should be a json path under .spec");
    under("statusReplicasPath", &scale.status_replicas_path, &[".status."], "should be a json path under .status");
    if let Some(selector) = scale.label_selector_path.as_deref().filter(|path| !path.is_empty()) {
        under("labelSelectorPath", selector, &[".spec.", ".status."], "should be a json path under either .spec or .status");
    }
}

/// A JSON path that starts with a dot. Returns whether it is one.
fn simple_path(errors: &mut Errors, path: &Path, value: &str) -> bool {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return false;
    }
    if !value.starts_with('.') {
        errors.push(FieldError::invalid(path, value, "must be a simple json path starting with ."));
        return false;
    }
    true
}

fn columns(errors: &mut Errors, path: &Path, given: Option<&[CustomResourceColumnDefinition]>) {
    for (index, column) in given.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        rules::required(errors, &path.at("name"), &column.name);
        let types = || format!("must be one of {}", COLUMN_TYPES.join(","));
        if column.type_.is_empty() {
            errors.push(FieldError::required(path.at("type"), types()));
        } else if !COLUMN_TYPES.contains(&column.type_.as_str()) {
            errors.push(FieldError::invalid(path.at("type"), &column.type_, types()));
        }
        if let Some(format) = column.format.as_deref().filter(|format| !format.is_empty() && !COLUMN_FORMATS.contains(format)) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(path.at("format"), format, why));
        }
        simple_path(errors, &path.at("JSONPath"), &column.json_path);
    }
}

fn selectable(errors: &mut Errors, path: &Path, fields: Option<&[SelectableField]>, schema: Option<&JSONSchemaProps>, unschemed: &str) {
    let fields = fields.unwrap_or_default();
    if fields.is_empty() {
        return;
    }
    let Some(schema) = schema else {
        let why = if unschemed.is_empty() { "selectableFields may only be set when validations.schema is included" } else { unschemed };
        return errors.push(FieldError::invalid(path, "", why));
    };
    let Ok(schema) = Schema::parse(schema) else { return };
    let mut unique = HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index).at("jsonPath");
        if !rules::required(errors, &path, &field.json_path) {
            continue;
        }
        let found = match valid_field_path(&field.json_path, &schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(path, &field.json_path, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.root == "metadata" {
            errors.push(FieldError::invalid(&path, &field.json_path, "must not point to fields in metadata"));
        }
        if !found.schema.is_some_and(|schema| ["string", "boolean", "integer"].contains(&schema.type_.as_str())) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&path, &field.json_path, why));
        }
        if !unique.insert(found.shown) {
            errors.push(FieldError::duplicate(path, &field.json_path));
        }
    }
    if unique.len() > MOST_SELECTABLE {
        errors.push(rules::too_many(path, unique.len(), MOST_SELECTABLE));
    }
}

fn conversion(errors: &mut Errors, path: &Path, given: Option<&CustomResourceConversion>, preserves: bool, options: &Options) {
    let Some(given) = given else { return };
    if given.strategy != "None" && preserves {
        errors.push(FieldError::invalid(path.at("strategy"), &given.strategy, "must be None if spec.preserveUnknownFields is true"));
    }
    if rules::required(errors, &path.at("strategy"), &given.strategy) && !["None", "Webhook"].contains(&given.strategy.as_str()) {
        errors.push(FieldError::not_supported(path.at("strategy"), &given.strategy, &["None", "Webhook"]));
    }
    let client = given.webhook.as_ref().and_then(|webhook| webhook.client_config.as_ref());
    let reviews = given.webhook.as_ref().map(|webhook| webhook.conversion_review_versions.as_slice()).unwrap_or_default();
    let client_path = path.at("webhookClientConfig");
    let reviews_path = path.at("conversionReviewVersions");
    if given.strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(client_path, why));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(reviews_path, why));
        }
        return;
    }
    match client {
        None => errors.push(FieldError::required(client_path, "required when strategy is set to Webhook")),
        Some(client) => {
            match (&client.url, &client.service) {
                (Some(url), None) => webhook::url(errors, &client_path.at("url"), url),
                (None, Some(service)) => {
                    let port = service.port.unwrap_or(443);
                    let path = client_path.at("service");
                    webhook::service(errors, &path, &service.name, &service.namespace, service.path.as_deref(), port);
                }
                _ => errors.push(FieldError::required(&client_path, "exactly one of url or service is required")),
            }
            let bundle = client.ca_bundle.as_ref().filter(|bundle| !bundle.0.is_empty() && !options.allow_bad_bundle);
            if let Some((bundle, Err(why))) = bundle.map(|bundle| (bundle, webhook::bundle(&bundle.0))) {
                errors.push(FieldError::invalid(client_path.at("caBundle"), bundle, why));
            }
        }
    }
    review_versions(errors, &reviews_path, reviews, options);
}

fn review_versions(errors: &mut Errors, path: &Path, versions: &[String], options: &Options) {
    if versions.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.push(FieldError::invalid(path.index(index), version, "duplicate version"));
        } else {
            rules::syntax(errors, &path.index(index), version, names::dns1035_label);
        }
    }
    if options.require_review_version && !versions.iter().any(|version| REVIEWS.contains(&version.as_str())) {
        errors.push(FieldError::invalid(path, versions, format!("must include at least one of {}", REVIEWS.join(", "))));
    }
}
