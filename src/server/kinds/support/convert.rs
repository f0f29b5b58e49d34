//! Conversion between the served versions of a kind, as JSON.
//!
//! The stored form is the newest stable version; the functions here rename the version and reshape the few fields that moved.

use serde_json::{Map, Value};

/// Renames fields of one object; a missing one stays missing.
pub fn rename_fields(value: &mut Value, names: &[(&str, &str)]) {
    let Some(map) = value.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(field) = map.remove(*from) {
            map.insert((*to).into(), field);
        }
    }
}

/// Moves the fields of the object `inner` of `value` up beside it.
pub fn hoist(value: &mut Value, inner: &str) {
    let Some(map) = value.as_object_mut() else { return };
    if let Some(Value::Object(fields)) = map.remove(inner) {
        map.extend(fields);
    }
}

/// Moves the fields of `value` except `kept` down into a new object `inner`, if there are any.
pub fn sink(value: &mut Value, inner: &str, kept: &[&str]) {
    let Some(map) = value.as_object_mut() else { return };
    let (stay, go): (Map<_, _>, Map<_, _>) = std::mem::take(map).into_iter().partition(|(name, _)| kept.contains(&name.as_str()));
    *map = stay;
    if !go.is_empty() {
        map.insert(inner.into(), Value::Object(go));
    }
}

/// Every element of the list behind `pointer`.
pub fn each(value: &mut Value, pointer: &str, mut change: impl FnMut(&mut Value)) {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten().for_each(&mut change);
}
