//! Simple JSON paths (`.spec.replicas`), as scale and selectable fields use them.

use serde_json::{Map, Value};

/// The parts of a path.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('.').unwrap_or(path).split('.')
}

/// What is at the path.
pub(super) fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    parts(path).try_fold(value, |value, part| value.as_object()?.get(part))
}

/// An integer at the path; none there is 0. `Err` in the words of upstream's `unstructured.NestedInt64`.
pub(super) fn integer(value: &Value, path: &str) -> Result<i64, String> {
    match get(value, path) {
        None => Ok(0),
        Some(found) => {
            found.as_i64().ok_or_else(|| format!("{path} accessor error: {found} is of the type {}, expected int64", go_type(found)))
        }
    }
}

/// A text at the path; none there is empty.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> Result<&'a str, String> {
    match get(value, path) {
        None => Ok(""),
        Some(found) => {
            found.as_str().ok_or_else(|| format!("{path} accessor error: {found} is of the type {}, expected string", go_type(found)))
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Writes at the path, making the objects on the way.
pub(super) fn set(map: &mut Map<String, Value>, path: &str, value: Value) {
    let mut parts = parts(path).peekable();
    let mut map = map;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            map.insert(part.into(), value);
            return;
        }
        let below = map.entry(part).or_insert_with(|| Map::new().into());
        if !below.is_object() {
            *below = Map::new().into();
        }
        map = below.as_object_mut().expect("was just made an object");
    }
}
