//! Defaults, and nulls that are none (`pkg/apiserver/schema/defaulting`).

use serde_json::Value;

use super::schema::{Additional, Schema};

/// Whether a value is a null that its schema does not know.
fn is_stray_null(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

/// Drops nulls from where they are no values, unless a default will replace them.
pub fn drop_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let below = schema.and_then(|schema| schema.child(name));
            if below.is_some_and(|schema| is_stray_null(value, schema) && schema.default.is_none()) {
                return false;
            }
            drop_nulls(value, below);
            true
        }),
        Value::Array(list) => {
            let items = schema.and_then(|schema| schema.items.as_deref());
            list.iter_mut().for_each(|value| drop_nulls(value, items));
        }
        _ => {}
    }
}

/// Fills in defaults.
pub fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.properties {
                let Some(default) = &field.default else { continue };
                if map.get(name).is_none_or(|value| is_stray_null(value, field)) {
                    map.insert(name.clone(), Value::clone(default));
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(field) = schema.properties.get(name) {
                    fill(value, field);
                } else if let Additional::Schema(other) = &schema.additional {
                    replace(value, other);
                    fill(value, other);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for value in list {
                replace(value, items);
                fill(value, items);
            }
        }
        _ => {}
    }
}

fn replace(value: &mut Value, schema: &Schema) {
    if let Some(default) = schema.default.as_ref().filter(|_| is_stray_null(value, schema)) {
        *value = Value::clone(default);
    }
}
