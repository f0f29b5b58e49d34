//! Metadata of resources within resources (`x-kubernetes-embedded-resource`), and how foreign metadata is read.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/schema/objectmeta`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::Path;
use super::schema::{Additional, Schema};
use crate::api::{FieldError, names};

/// How embedded metadata is made well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Coerce {
    /// Whether the value itself is a resource.
    pub root: bool,
    /// Drop fields of the wrong type, rather than refuse.
    pub drop_malformed: bool,
}

/// Reads metadata. `unknown` hears of fields that `ObjectMeta` does not have, by their path below `metadata`. With `drop_malformed`
/// a field of the wrong type is left out.
pub fn metadata(value: Value, drop_malformed: bool, unknown: &mut dyn FnMut(String)) -> Result<ObjectMeta, String> {
    let mut note = |path: serde_ignored::Path<'_>| unknown(path.to_string());
    match serde_ignored::deserialize::<_, _, ObjectMeta>(&value, &mut note) {
        Ok(meta) => Ok(meta),
        Err(error) if !drop_malformed => Err(error.to_string()),
        Err(_) => {
            let Value::Object(fields) = value else { return Err("invalid metadata: expected object".into()) };
            let reads = |name: &str, field: &Value| {
                let one = Map::from_iter([(name.to_owned(), field.clone())]);
                serde_json::from_value::<ObjectMeta>(one.into()).is_ok()
            };
            let kept: Map<String, Value> = fields.into_iter().filter(|(name, field)| reads(name, field)).collect();
            serde_json::from_value(kept.into()).map_err(|error| error.to_string())
        }
    }
}

/// Makes `apiVersion`, `kind` and `metadata` of embedded resources well-formed, dropping what `ObjectMeta` does not have.
/// `unknown` hears the path of each field dropped for being unknown.
pub fn coerce(value: &mut Value, schema: &Schema, how: Coerce, unknown: &mut dyn FnMut(String)) -> Result<(), FieldError> {
    coerce_at(value, schema, how, Path::ROOT, unknown)
}

/// [`coerce`] of a value that stands at `path`.
pub(super) fn coerce_at(
    value: &mut Value,
    schema: &Schema,
    how: Coerce,
    path: Path<'_>,
    unknown: &mut dyn FnMut(String),
) -> Result<(), FieldError> {
    let below = Coerce { root: false, ..how };
    match value {
        Value::Object(map) => {
            if how.root || schema.embedded {
                type_meta(map, how, path)?;
                object_meta(map, how, path, unknown)?;
            }
            for (name, value) in map.iter_mut() {
                if let Some(field) = schema.properties.get(name) {
                    coerce_at(value, field, below, path.field(name), unknown)?;
                } else if let Additional::Schema(other) = &schema.additional {
                    coerce_at(value, other, below, path.key(name), unknown)?;
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return Ok(()) };
            for (index, value) in list.iter_mut().enumerate() {
                coerce_at(value, items, below, path.index(index), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn type_meta(map: &mut Map<String, Value>, how: Coerce, path: Path<'_>) -> Result<(), FieldError> {
    for name in ["apiVersion", "kind"] {
        match map.get(name) {
            None | Some(Value::String(_)) => {}
            Some(_) if how.drop_malformed => drop(map.remove(name)),
            Some(other) => return Err(FieldError::invalid(path.field(name), other, "must be a string")),
        }
    }
    Ok(())
}

fn object_meta(map: &mut Map<String, Value>, how: Coerce, path: Path<'_>, unknown: &mut dyn FnMut(String)) -> Result<(), FieldError> {
    let Some(given) = map.get("metadata") else { return Ok(()) };
    let at = path.field("metadata");
    match metadata(given.clone(), how.drop_malformed, &mut |field| unknown(format!("{at}.{field}"))) {
        Ok(meta) => {
            let meta = serde_json::to_value(meta).map_err(|error| FieldError::invalid(at, given, error))?;
            map.insert("metadata".into(), meta);
            Ok(())
        }
        Err(_) if how.drop_malformed => Ok(()),
        Err(why) => Err(FieldError::invalid(at, given, why)),
    }
}

/// Every violated rule of embedded resources' `apiVersion`, `kind` and `metadata`. `root`: whether the value itself is a resource.
pub fn validate_embedded(value: &Value, schema: &Schema, root: bool, path: Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, root, path, &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, root: bool, path: Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if root || schema.embedded {
                embedded(map, path, errors);
            }
            for (name, value) in map {
                if let Some(field) = schema.properties.get(name) {
                    walk(value, field, false, path.field(name), errors);
                } else if let Additional::Schema(other) = &schema.additional {
                    walk(value, other, false, path.key(name), errors);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for (index, value) in list.iter().enumerate() {
                walk(value, items, false, path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn embedded(map: &Map<String, Value>, path: Path<'_>, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let path = path.field(name);
        match map.get(name) {
            None => errors.push(FieldError::required(path, "")),
            Some(Value::String(text)) if text.is_empty() => errors.push(FieldError::required(path, "")),
            Some(Value::String(text)) if name == "kind" => {
                if let Err(why) = names::dns1035_label(&text.to_lowercase()) {
                    let why = format!("may have mixed case, but should otherwise match: {why}");
                    errors.push(FieldError::invalid(path, text, why));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                errors.push(FieldError::invalid(path, text, format!("unexpected GroupVersion string: {text}")));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.push(FieldError::invalid(path, other, "must be a string")),
        }
    }
    if let Some(given) = map.get("metadata") {
        let path = path.field("metadata");
        match metadata(given.clone(), false, &mut |_| ()) {
            Err(why) => errors.push(FieldError::invalid(path, given, why)),
            Ok(meta) => meta_rules(&meta, path, errors),
        }
    }
}

/// The rules of `ObjectMeta` that hold for any kind (apimachinery `pkg/api/validation/objectmeta.go`).
fn meta_rules(meta: &ObjectMeta, path: Path<'_>, errors: &mut Vec<FieldError>) {
    for (name, value) in [("generateName", &meta.generate_name), ("name", &meta.name)] {
        let value = value.as_deref().unwrap_or_default();
        if !value.is_empty()
            && let Err(why) = names::path_segment(value)
        {
            errors.push(FieldError::invalid(path.field(name), value, why));
        }
    }
    if let Some(Err(why)) = meta.namespace.as_deref().filter(|name| !name.is_empty()).map(names::label) {
        errors.push(FieldError::invalid(path.field("namespace"), &meta.namespace, why));
    }
    if meta.generation.is_some_and(|generation| generation < 0) {
        errors.push(FieldError::invalid(path.field("generation"), meta.generation, "must be greater than or equal to 0"));
    }
    for (key, value) in meta.labels.iter().flatten() {
        for (text, rule) in [(key, names::qualified as fn(&str) -> _), (value, names::label_value)] {
            if let Err(why) = rule(text) {
                errors.push(FieldError::invalid(path.field("labels"), text, why));
            }
        }
    }
    for key in meta.annotations.iter().flatten().map(|(key, _)| key) {
        if let Err(why) = names::qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path.field("annotations"), key, why));
        }
    }
    for finalizer in meta.finalizers.iter().flatten() {
        if let Err(why) = names::qualified(finalizer) {
            errors.push(FieldError::invalid(path.field("finalizers"), finalizer, why));
        }
    }
}
