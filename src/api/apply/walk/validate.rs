//! Whether a value is of a schema. Follows structured-merge-diff's `typed/validate.go` and `typed/helpers.go`, texts included.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::Fault;
use super::compare::shown;
use crate::api::apply::index::name_of;
use crate::api::apply::schema::{Form, List, ListKind, Map, Scalar, Schema, TypeRef};

/// Faults reported at most, so that a hostile value can't make a large answer.
const MAX_FAULTS: usize = 100;

/// Whether items of sets and keyed lists may be there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// Yes: what was stored long ago may have them.
    Allowed,
    /// No.
    Refused,
}

/// Every place where the value is not of the schema.
pub fn validate(schema: &Schema, value: &Value, duplicates: Duplicates) -> Vec<Fault> {
    let mut walk = Walk { schema, duplicates, faults: Vec::new() };
    walk.place(schema.root(), value);
    walk.faults.truncate(MAX_FAULTS);
    walk.faults
}

struct Walk<'a> {
    schema: &'a Schema,
    duplicates: Duplicates,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn place(&mut self, of: TypeRef, value: &Value) {
        let schema = self.schema;
        match schema.get(of).form(value) {
            Some(Form::Map(map)) => self.map(map, value),
            Some(Form::List(list)) => self.list(list, value),
            Some(Form::Scalar(scalar)) => self.scalar(scalar, value),
            None => {}
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        let why = match (scalar, value) {
            (_, Value::Null)
            | (Scalar::Number, Value::Number(_))
            | (Scalar::Text, Value::String(_))
            | (Scalar::Bool, Value::Bool(_))
            | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => return,
            (Scalar::Number, value) => format!("expected numeric (int or float), got {}", go_type(value)),
            (Scalar::Text, value) => format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)),
            (Scalar::Bool, value) => format!("expected boolean, got &{{{}}}", go_text(value)),
            (Scalar::Any, value) => format!("expected any scalar, got &{{{}}}", go_text(value)),
        };
        self.faults.push(Fault::new(why));
    }

    fn map(&mut self, map: &Map, value: &Value) {
        let fields = match value {
            Value::Null => return,
            Value::Object(fields) => fields,
            other => return self.faults.push(Fault::new(format!("expected map, got &{{{}}}", go_text(other)))),
        };
        for (name, value) in fields {
            let Some(of) = map.field(name).0 else {
                self.faults.push(Fault::new("field not declared in schema").below(name).below("."));
                return;
            };
            let from = self.faults.len();
            self.place(of, value);
            self.locate(from, || format!(".{name}"));
        }
    }

    fn list(&mut self, list: &List, value: &Value) {
        let items = match value {
            Value::Null => return,
            Value::Array(items) => items,
            other => return self.faults.push(Fault::new(format!("expected list, got &{{{}}}", go_text(other)))),
        };
        let mut seen = HashSet::new();
        for (place, item) in items.iter().enumerate() {
            let mut element = format!("[{place}]");
            if !matches!(list.kind, ListKind::Atomic) {
                match name_of(&list.kind, item) {
                    Ok(name) => {
                        element = shown(&name);
                        if !seen.insert(name) && self.duplicates == Duplicates::Refused {
                            self.faults.push(Fault::new(format!("duplicate entries for key {element}")));
                        }
                    }
                    Err(why) => return self.faults.push(Fault::new(format!("element {place}: {why}"))),
                }
            }
            let from = self.faults.len();
            self.place(list.item, item);
            self.locate(from, || element.clone());
        }
    }

    fn locate(&mut self, from: usize, element: impl Fn() -> String) {
        if self.faults.len() > from {
            let element = element();
            let faults = self.faults.split_off(from);
            self.faults.extend(faults.into_iter().map(|fault| fault.below(&element)));
        }
    }
}

/// The Go type that upstream's decoder makes of a value.
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

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "interface {}(nil)".into(),
        Value::Array(items) => format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let fields: Vec<_> = map.iter().map(|(name, value)| format!("{name:?}:{}", go_syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// A value as Go's `%v` prints it.
fn go_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut out = String::from("map[");
            for (index, (name, value)) in map.iter().enumerate() {
                let space = if index > 0 { " " } else { "" };
                let _ = write!(out, "{space}{name}:{}", go_text(value));
            }
            out.push(']');
            out
        }
        other => other.to_string(),
    }
}
