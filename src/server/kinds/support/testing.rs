//! Helpers of the table tests: YAML in, data out.

use jiff::Timestamp;

use crate::server::registry::strategy::{Cell, Strategy};

/// The time that the tables call now.
pub const NOW: &str = "2026-01-02T00:00:00Z";

/// An object from YAML, with its defaults.
pub fn object<T: Strategy>(yaml: &str) -> T {
    let mut object: T = serde_yaml::from_str(yaml).expect("the table's YAML is an object of this kind");
    object.apply_defaults();
    object
}

/// An object as it is stored when it is created from this YAML.
pub fn created<T: Strategy>(yaml: &str) -> T {
    let mut object = object::<T>(yaml);
    object.prepare_create();
    object
}

/// Every violated rule of a creation, as `path: message`.
pub fn errors<T: Strategy>(yaml: &str) -> Vec<String> {
    created::<T>(yaml).validate(None).iter().map(ToString::to_string).collect()
}

/// Every violated rule of an update.
pub fn update_errors<T: Strategy>(old: &str, new: &str) -> Vec<String> {
    object::<T>(new).validate(Some(&object::<T>(old))).iter().map(ToString::to_string).collect()
}

/// The cells of the columns that are always shown, or of all.
pub fn row<T: Strategy>(yaml: &str, wide: bool) -> Vec<String> {
    let object: T = serde_yaml::from_str(yaml).expect("the table's YAML is an object of this kind");
    let now: Timestamp = NOW.parse().expect("a time");
    let columns = T::columns().iter().filter(|column| wide || column.priority == 0);
    let text = |cell| match cell {
        Cell::Text(text) => text,
        Cell::Int(number) => number.to_string(),
        Cell::Bool(value) => value.to_string(),
        Cell::Number(value) => value.to_string(),
        Cell::Null => "null".into(),
    };
    columns.map(|column| text((column.cell)(&object, now))).collect()
}

/// The value at `pointer` of the defaulted object, as JSON.
pub fn defaulted<T: Strategy>(yaml: &str, pointer: &str) -> serde_json::Value {
    let once = object::<T>(yaml);
    let mut twice = once.clone();
    twice.apply_defaults();
    assert_eq!(once.to_value(), twice.to_value(), "defaulting is idempotent");
    once.to_value().pointer(pointer).cloned().unwrap_or(serde_json::Value::Null)
}
