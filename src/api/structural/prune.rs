//! Pruning: what no schema describes is dropped (`pkg/apiserver/schema/pruning`).

use serde_json::Value;

use super::Path;
use super::schema::{Additional, Schema};

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops the fields of a whole resource that `schema` does not describe. `apiVersion`, `kind` and `metadata` stay as they are.
///
/// `unknown` hears the path of each dropped field, as `fieldValidation` reports it.
pub fn prune(value: &mut Value, schema: &Schema, unknown: &mut dyn FnMut(String)) {
    if schema.preserve {
        skip(value, schema, true, Path::ROOT, unknown);
    } else {
        walk(value, Some(schema), true, Path::ROOT, unknown);
    }
}

/// Drops what `schema` does not describe from a value that is no whole resource, such as a default.
pub(super) fn prune_value(value: &mut Value, schema: &Schema) {
    walk(value, Some(schema), schema.embedded, Path::ROOT, &mut |_| ());
}

fn walk(value: &mut Value, schema: Option<&Schema>, embedded: bool, path: Path<'_>, unknown: &mut dyn FnMut(String)) {
    if let Some(schema) = schema.filter(|schema| schema.preserve) {
        return skip(value, schema, embedded, path, unknown);
    }
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                if schema.is_some() && embedded && META.contains(&name.as_str()) {
                    return true;
                }
                let below = schema.and_then(|schema| described(schema, name));
                match below {
                    Some(schema) => walk(value, schema, schema.is_some_and(|schema| schema.embedded), path.field(name), unknown),
                    None if !META.contains(&name.as_str()) || !path.is_root() => unknown(path.field(name).to_string()),
                    None => {}
                }
                below.is_some()
            });
        }
        Value::Array(list) => {
            let items = schema.and_then(|schema| schema.items.as_deref());
            for (index, value) in list.iter_mut().enumerate() {
                walk(value, items, items.is_some_and(|schema| schema.embedded), path.index(index), unknown);
            }
        }
        _ => {}
    }
}

/// Below a schema that preserves unknown fields, known ones are still pruned.
fn skip(value: &mut Value, schema: &Schema, embedded: bool, path: Path<'_>, unknown: &mut dyn FnMut(String)) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if embedded && META.contains(&name.as_str()) {
                    continue;
                }
                if let Some(schema) = described(schema, name) {
                    walk(value, schema, schema.is_some_and(|schema| schema.embedded), path.field(name), unknown);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for (index, value) in list.iter_mut().enumerate() {
                    skip(value, items, items.embedded, path.index(index), unknown);
                }
            }
        }
        _ => {}
    }
}

/// `None`: the field is unknown. `Some(None)`: it is allowed, but nothing in it is described.
fn described<'a>(schema: &'a Schema, name: &str) -> Option<Option<&'a Schema>> {
    match (schema.properties.get(name), &schema.additional) {
        (Some(field), _) => Some(Some(field)),
        (None, Additional::Schema(other)) => Some(Some(other)),
        // As upstream: `additionalProperties: true` keeps the field and empties objects in it.
        (None, Additional::Allowed(_)) => Some(None),
        (None, Additional::Unset) => None,
    }
}
