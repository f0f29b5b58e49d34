//! Rules of a version's `openAPIV3Schema`.
//!
//! Three passes, as upstream: is it structural and are its defaults good ([`crate::api::structural`]), is each node one that this server
//! knows what to do with (here), and do its rules compile ([`super::rules`]).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use serde_json::Value;

use super::super::support::path::{Errors, Path};
use super::{Options, rules};
use crate::api::FieldError;
use crate::api::structural::{self, Schema};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Every violated rule of the schema. `status`: whether the status subresource is served. `structural`: whether it must be structural.
/// `cheap`: whether single expressions may be as costly as they like, since they were accepted before.
pub(super) fn check(
    errors: &mut Errors,
    path: &Path,
    schema: Option<&JSONSchemaProps>,
    status: bool,
    options: &Options,
    structural: bool,
    cheap: bool,
) {
    let Some(schema) = schema else { return };
    let path = path.at("openAPIV3Schema");
    let before = errors.len();
    if status {
        root_with_status(errors, &path, schema);
    }
    if schema.nullable == Some(true) {
        errors.push(FieldError::forbidden(path.at("nullable"), "nullable cannot be true at the root"));
    }
    let mut unparsed = None;
    let mut expressions = None;
    if structural {
        let text = path.to_string();
        let at = structural::Path::root(&text);
        match Schema::parse(schema) {
            Err(why) => unparsed = Some(FieldError::invalid(&path, "", why)),
            Ok(parsed) => {
                let mut found = structural::check(&parsed, at);
                if found.is_empty() {
                    found = structural::check_defaults(&parsed, options.require_pruned, at);
                }
                if found.is_empty() {
                    expressions = Some(rules::Compiler::new(cheap));
                }
                errors.extend(found);
            }
        }
    }
    let mut found = Found::default();
    let place =
        Place { path: &path, root: true, in_meta: false, no_defaults: None, uncorrelated: None, expressible: expressions.is_some() };
    let mut walk = Walk { options, rules: expressions };
    walk.node(schema, place, rules::Depth::root(), &mut found);
    errors.extend(found.schema);
    errors.extend(found.rules);
    if errors.len() == before {
        errors.extend(unparsed);
    }
    if let Some(rules) = &walk.rules {
        rules.total(errors, &path);
    }
}

/// With a status subresource little may be said at the root: the status is validated by its own part of the schema.
fn root_with_status(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps) {
    const ALLOWED: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern \
                           MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields \
                           XValidations]";
    if let Some(kind) = schema.type_.as_deref().filter(|kind| !kind.is_empty() && *kind != "object") {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return errors.push(FieldError::invalid(path.at("type"), kind, why));
    }
    let more = [
        schema.ref_path.is_some(),
        schema.id.is_some(),
        schema.schema.is_some(),
        schema.default.is_some(),
        schema.nullable == Some(true),
        schema.max_properties.is_some(),
        schema.min_properties.is_some(),
        schema.enum_.is_some(),
        schema.all_of.is_some(),
        schema.one_of.is_some(),
        schema.any_of.is_some(),
        schema.not.is_some(),
        schema.additional_properties.is_some(),
        schema.pattern_properties.is_some(),
        schema.dependencies.is_some(),
        schema.additional_items.is_some(),
        schema.definitions.is_some(),
        schema.x_kubernetes_embedded_resource == Some(true),
        schema.x_kubernetes_int_or_string == Some(true),
        schema.x_kubernetes_list_map_keys.is_some(),
        schema.x_kubernetes_list_type.is_some(),
        schema.x_kubernetes_map_type.is_some(),
    ];
    if more.contains(&true) {
        let why = format!("only {ALLOWED} fields are allowed at the root of the schema if the status subresource is enabled");
        errors.push(FieldError::invalid(path, schema, why));
    }
}

/// Errors of nodes and of rules: the latter are only looked for where there are none of the former.
#[derive(Default)]
pub(super) struct Found {
    pub schema: Errors,
    pub rules: Errors,
}

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    root: bool,
    /// Within `apiVersion`, `kind` or `metadata` of a resource.
    in_meta: bool,
    /// Why defaults may not be set, if they may not.
    no_defaults: Option<&'a str>,
    /// The outermost node whose parts can't be told apart between two states of an object.
    uncorrelated: Option<&'a Path>,
    /// Whether rules may be here at all.
    expressible: bool,
}

struct Walk<'a> {
    options: &'a Options,
    rules: Option<rules::Compiler>,
}

impl Walk<'_> {
    fn node(&mut self, schema: &JSONSchemaProps, place: Place<'_>, depth: rules::Depth, found: &mut Found) {
        let mut here = Found::default();
        unsupported(&mut here.schema, schema, place, self.options);
        self.children(schema, place, depth, &mut here);
        extensions(&mut here.schema, place.path, schema, self.options);
        if !schema.x_kubernetes_validations.as_deref().unwrap_or_default().is_empty() {
            rules::form(&mut here.schema, place.path, schema);
            if let Some(compiler) = self.rules.as_mut().filter(|_| here.schema.is_empty() && place.expressible) {
                let resource = place.root || schema.x_kubernetes_embedded_resource == Some(true);
                let site = rules::Site { path: place.path, resource, depth, uncorrelated: place.uncorrelated };
                compiler.node(&mut here.rules, schema, site);
            }
        }
        if let Some(default) = schema.default.as_ref().filter(|_| self.rules.is_some() && here.schema.is_empty()) {
            rules::check_default(&mut here.rules, place.path, schema, &default.0);
        }
        found.schema.append(&mut here.schema);
        found.rules.append(&mut here.rules);
    }

    fn children(&mut self, schema: &JSONSchemaProps, place: Place<'_>, depth: rules::Depth, found: &mut Found) {
        let path = place.path;
        let below = Place { root: false, ..place };
        if let Some(additional) = &schema.additional_properties {
            let has_properties = schema.properties.as_ref().is_some_and(|properties| !properties.is_empty());
            if has_properties && *additional != JSONSchemaPropsOrBool::Bool(true) {
                let why = "additionalProperties and properties are mutual exclusive";
                found.schema.push(FieldError::forbidden(path.at("additionalProperties"), why));
            }
            if let JSONSchemaPropsOrBool::Schema(other) = additional {
                let no_defaults =
                    if place.in_meta { Some("inside additionalProperties applying to object metadata") } else { place.no_defaults };
                let path = path.at("additionalProperties");
                self.node(other, Place { path: &path, no_defaults, ..below }, depth.values(schema), found);
            }
        }
        for (name, field) in schema.properties.iter().flatten() {
            let is_meta = (place.root || schema.x_kubernetes_embedded_resource == Some(true))
                && ["metadata", "kind", "apiVersion"].contains(&name.as_str());
            let reason = format!("in top-level {name}");
            let no_defaults = if is_meta && place.root { Some(reason.as_str()) } else { place.no_defaults };
            let atomic = schema.x_kubernetes_map_type.as_deref() == Some("atomic");
            let uncorrelated = place.uncorrelated.or(atomic.then_some(path));
            let path = path.at("properties").key(name);
            let place = Place { path: &path, in_meta: place.in_meta || is_meta, no_defaults, uncorrelated, ..below };
            self.node(field, place, depth, found);
        }
        let mute = Place { expressible: false, ..below };
        if let Some(not) = &schema.not {
            self.node(not, Place { path: &path.at("not"), ..mute }, depth, found);
        }
        for (name, list) in [("allOf", &schema.all_of), ("oneOf", &schema.one_of), ("anyOf", &schema.any_of)] {
            for (index, one) in list.iter().flatten().enumerate() {
                self.node(one, Place { path: &path.at(name).index(index), ..mute }, depth, found);
            }
        }
        for (name, map) in [("definitions", &schema.definitions), ("patternProperties", &schema.pattern_properties)] {
            for (key, one) in map.iter().flatten() {
                self.node(one, Place { path: &path.at(name).key(key), ..mute }, depth, found);
            }
        }
        let listed = schema.x_kubernetes_list_type.as_deref() == Some("map");
        let uncorrelated = place.uncorrelated.or((!listed).then_some(path));
        match &schema.items {
            None => {}
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                let path = path.at("items");
                self.node(items, Place { path: &path, uncorrelated, ..below }, depth.items(schema), found);
            }
            Some(JSONSchemaPropsOrArray::Schemas(many)) => {
                for (index, items) in many.iter().enumerate() {
                    self.node(items, Place { path: &path.at("items").index(index), ..mute }, depth, found);
                }
            }
        }
    }
}

/// What OpenAPI knows and this server does not.
fn unsupported(errors: &mut Errors, schema: &JSONSchemaProps, place: Place<'_>, options: &Options) {
    let path = place.path;
    let kind = schema.type_.as_deref().unwrap_or_default();
    if options.require_types && !has_known_type(schema) {
        errors.push(FieldError::not_supported(path.at("type"), kind, &TYPES));
    }
    if let Some(reason) = place.no_defaults.filter(|_| schema.default.is_some()) {
        errors.push(FieldError::forbidden(path.at("default"), format!("must not be set {reason}")));
    }
    let some = |map: bool| map;
    for (there, field) in [
        (schema.id.as_deref().is_some_and(|id| !id.is_empty()), "id"),
        (schema.additional_items.is_some(), "additionalItems"),
        (some(schema.pattern_properties.as_ref().is_some_and(|map| !map.is_empty())), "patternProperties"),
        (some(schema.definitions.as_ref().is_some_and(|map| !map.is_empty())), "definitions"),
        (schema.dependencies.is_some(), "dependencies"),
        (schema.ref_path.is_some(), "$ref"),
    ] {
        if there {
            errors.push(FieldError::forbidden(path.at(field), format!("{field} is not supported")));
        }
    }
    if kind == "null" {
        errors.push(FieldError::forbidden(path.at("type"), "type cannot be set to null, use nullable as an alternative"));
    }
    if matches!(&schema.items, Some(JSONSchemaPropsOrArray::Schemas(_))) {
        errors.push(FieldError::forbidden(path.at("items"), "items must be a schema object and not an array"));
    }
    if place.in_meta && schema.x_kubernetes_embedded_resource == Some(true) {
        errors.push(FieldError::forbidden(path.at("x-kubernetes-embedded-resource"), "must not be used inside of resource meta"));
    }
    if schema.unique_items == Some(true) {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(path.at("uniqueItems"), why));
    }
}

/// Rules of `x-kubernetes-*`.
fn extensions(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps, options: &Options) {
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        errors.push(FieldError::invalid(path.at("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"));
    }
    let kind = schema.type_.as_deref().unwrap_or_default();
    let wants = |errors: &mut Errors, wanted: &str, why: &str| {
        let path = path.at("type");
        match kind {
            kind if kind == wanted => return true,
            "" => errors.push(FieldError::required(path, why)),
            kind => errors.push(FieldError::invalid(path, kind, why)),
        }
        false
    };
    if let Some(map_type) = &schema.x_kubernetes_map_type {
        wants(errors, "object", "must be object if x-kubernetes-map-type is specified");
        if !["atomic", "granular"].contains(&map_type.as_str()) {
            errors.push(FieldError::not_supported(path.at("x-kubernetes-map-type"), map_type, &["atomic", "granular"]));
        }
    }
    let items = item_schema(schema);
    if let Some(list_type) = &schema.x_kubernetes_list_type {
        if wants(errors, "array", "must be array if x-kubernetes-list-type is specified") && options.require_atomic_sets {
            set_of_composites(errors, path, schema);
        }
        if !["atomic", "set", "map"].contains(&list_type.as_str()) {
            errors.push(FieldError::not_supported(path.at("x-kubernetes-list-type"), list_type, &["atomic", "set", "map"]));
        }
    }
    let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
    let why = "must be map if x-kubernetes-list-map-keys is non-empty";
    match schema.x_kubernetes_list_type.as_deref() {
        None if !keys.is_empty() => errors.push(FieldError::required(path.at("x-kubernetes-list-type"), why)),
        Some("map") => map_list(errors, path, schema, keys),
        Some(other) if !keys.is_empty() => errors.push(FieldError::invalid(path.at("x-kubernetes-list-type"), other, why)),
        _ => {}
    }
    if let Some(items) = items.filter(|_| options.require_map_keys) {
        map_keys(errors, path, schema, items);
    }
}

fn item_schema(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

fn set_of_composites(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps) {
    let Some(items) = item_schema(schema).filter(|_| is_set_of_composites(schema)) else { return };
    let field = if items.type_.as_deref() == Some("array") { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" };
    let value = items.x_kubernetes_list_type.as_deref().unwrap_or("null");
    errors.push(FieldError::invalid(path.at("items").at(field), value, "must be atomic as item of a list with x-kubernetes-list-type=set"));
}

/// A set whose elements are themselves granular.
pub(super) fn is_set_of_composites(schema: &JSONSchemaProps) -> bool {
    let Some(items) = item_schema(schema).filter(|_| schema.x_kubernetes_list_type.as_deref() == Some("set")) else { return false };
    match items.type_.as_deref() {
        Some("array") => items.x_kubernetes_list_type.as_deref().is_some_and(|kind| kind != "atomic"),
        Some("object") => items.x_kubernetes_map_type.as_deref() != Some("atomic"),
        _ => false,
    }
}

fn map_list(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps, keys: &[String]) {
    let keys_path = path.at("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items = match &schema.items {
        None => return errors.push(FieldError::required(path.at("items"), "must have a schema if x-kubernetes-list-type is map")),
        Some(JSONSchemaPropsOrArray::Schemas(many)) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            return errors.push(FieldError::invalid(path.at("items"), many, why));
        }
        Some(JSONSchemaPropsOrArray::Schema(items)) => items,
    };
    let kind = items.type_.as_deref().unwrap_or_default();
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.push(FieldError::invalid(path.at("items.type"), kind, why));
    }
    let mut seen = std::collections::HashSet::new();
    for key in keys {
        match items.properties.as_ref().and_then(|properties| properties.get(key)) {
            Some(field) if matches!(field.type_.as_deref(), Some("array" | "object")) => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(path.at("items.properties").key(key).at("type"), kind, why));
            }
            Some(_) => {}
            None => errors.push(FieldError::invalid(&keys_path, keys, "entries must all be names of item properties")),
        }
        if !seen.insert(key) {
            errors.push(FieldError::invalid(&keys_path, keys, "must not contain duplicate entries"));
        }
    }
}

/// Keys of a map list must always be there.
fn map_keys(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps, items: &JSONSchemaProps) {
    let Some(kind) = schema.x_kubernetes_list_type.as_deref().filter(|kind| ["set", "map"].contains(kind)) else { return };
    let path = path.at("items");
    if items.nullable == Some(true) {
        errors.push(FieldError::forbidden(path.at("nullable"), format!("cannot be nullable when x-kubernetes-list-type is {kind}")));
    }
    if kind != "map" {
        return;
    }
    for key in schema.x_kubernetes_list_map_keys.iter().flatten() {
        let Some(field) = items.properties.as_ref().and_then(|properties| properties.get(key)) else { continue };
        let path = path.at("properties").key(key);
        let required = items.required.as_ref().is_some_and(|required| required.contains(key));
        if !required && field.default.is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(path.at("default"), why));
        }
        if field.nullable == Some(true) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(path.at("nullable"), why));
        }
    }
}

/// Whether keys of a map list, or elements of a set, may be missing or null.
pub(super) fn has_loose_map_keys(schema: &JSONSchemaProps) -> bool {
    let mut errors = Errors::new();
    if let Some(items) = item_schema(schema) {
        map_keys(&mut errors, &Path::new(""), schema, items);
    }
    !errors.is_empty()
}

/// Whether the type is none, or one of OpenAPI's.
pub(super) fn has_known_type(schema: &JSONSchemaProps) -> bool {
    schema.type_.as_deref().is_none_or(|kind| kind.is_empty() || TYPES.contains(&kind))
}

/// Whether a schema uses `x-kubernetes-*`.
pub(super) fn has_extensions(schema: &JSONSchemaProps) -> bool {
    schema.x_kubernetes_embedded_resource == Some(true)
        || schema.x_kubernetes_preserve_unknown_fields.is_some()
        || schema.x_kubernetes_int_or_string == Some(true)
        || schema.x_kubernetes_list_map_keys.as_ref().is_some_and(|keys| !keys.is_empty())
        || schema.x_kubernetes_list_type.is_some()
        || schema.x_kubernetes_validations.as_ref().is_some_and(|rules| !rules.is_empty())
}

/// Whether a node of the schema satisfies `test`.
pub(super) fn any(schema: &JSONSchemaProps, test: &dyn Fn(&JSONSchemaProps) -> bool) -> bool {
    let lists = [&schema.all_of, &schema.any_of, &schema.one_of].into_iter().flatten().flatten();
    let maps = [&schema.properties, &schema.pattern_properties, &schema.definitions].into_iter().flatten().flat_map(|map| map.values());
    let items = match &schema.items {
        None => &[][..],
        Some(JSONSchemaPropsOrArray::Schema(one)) => std::slice::from_ref(&**one),
        Some(JSONSchemaPropsOrArray::Schemas(many)) => many,
    };
    let additional = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(other)) => Some(&**other),
        _ => None,
    };
    test(schema) || lists.chain(maps).chain(items).chain(schema.not.as_deref()).chain(additional).any(|below| any(below, test))
}

/// A schema as JSON.
pub(super) fn to_json(schema: &JSONSchemaProps) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}
