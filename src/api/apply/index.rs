//! Which item of a list is which: the element that names an item of a set or of a keyed list.
//!
//! Follows structured-merge-diff's `typed/helpers.go`, texts included.

use serde_json::Value;

use super::schema::{Key, ListKind};
use crate::api::fields::{Element, write_text};

/// The written form of the element that names `item`; for a list that has such names.
///
/// # Errors
/// Why the item has no name.
pub(super) fn name_of(kind: &ListKind, item: &Value) -> Result<String, String> {
    match kind {
        ListKind::Atomic => Err("invalid indexing of non-associative list".into()),
        ListKind::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            Value::String(text) => {
                let mut name = String::with_capacity(text.len() + 4);
                name.push_str("v:");
                write_text(text, &mut name);
                Ok(name)
            }
            other => Ok(Element::Value(other.clone()).to_string_form()),
        },
        ListKind::Keyed(keys) => keyed(keys, item),
    }
}

fn keyed(keys: &[Key], item: &Value) -> Result<String, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut name = String::with_capacity(32);
    name.push_str("k:{");
    for (place, key) in keys.iter().enumerate() {
        if place > 0 {
            name.push(',');
        }
        let value = fields.get(&key.name).or(key.default.as_ref()).ok_or_else(|| {
            format!("associative list with keys has an element that omits key field {:?} (and doesn't have default value)", key.name)
        })?;
        write_text(&key.name, &mut name);
        name.push(':');
        match value {
            Value::String(text) => write_text(text, &mut name),
            other => name.push_str(&Element::Value(other.clone()).to_string_form()[2..]),
        }
    }
    name.push('}');
    Ok(name)
}

/// The items of a list by their names, in order. `None` for what is no list.
pub(super) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
