//! Lists that are sets or maps (`pkg/apiserver/schema/listtype`).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Path;
use super::schema::{Additional, Schema};
use crate::api::FieldError;

/// Every element that a set or a map has twice.
pub fn validate_list_types(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, Path::ROOT, &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, path: Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(field) = schema.properties.get(name) {
                    walk(value, field, path.field(name), errors);
                } else if let Additional::Schema(other) = &schema.additional {
                    walk(value, other, path.key(name), errors);
                }
            }
        }
        Value::Array(list) => {
            match schema.list_type.as_deref() {
                Some("set") => errors.extend(repeated(list.iter()).map(|(index, value)| FieldError::duplicate(path.index(index), value))),
                Some("map") => unique_keys(list, schema, path, errors),
                _ => {}
            }
            if let Some(items) = &schema.items {
                for (index, value) in list.iter().enumerate() {
                    walk(value, items, path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

/// The second appearance of each value that appears more than once.
fn repeated<'a>(values: impl Iterator<Item = &'a Value>) -> impl Iterator<Item = (usize, &'a Value)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    values.enumerate().filter(move |(_, value)| {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        *times == 2
    })
}

fn unique_keys(list: &[Value], schema: &Schema, path: Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some((index, value)) = list.iter().enumerate().find(|(_, value)| !value.is_null() && !value.is_object()) {
        errors.push(FieldError::invalid(path.index(index), value, "must be an object for an array of list-type map"));
        return;
    }
    let key = |value: &Value| {
        let part = |name: &String| value.get(name).map(|part| (name.clone(), part.clone()));
        Value::Object(schema.list_map_keys.iter().filter_map(part).collect::<Map<_, _>>())
    };
    let keys: Vec<Value> = list.iter().map(key).collect();
    errors.extend(repeated(keys.iter()).map(|(index, key)| FieldError::duplicate(path.index(index), key)));
}
