//! What an ApplyConfiguration may not touch: lists, maps and structs that merge as a whole.
//!
//! Words: a *place* is where in a kind's schema a value stands, and says how it merges. Upstream's `mutating/patch/smd.go`.

use serde_json::Value;

use crate::api::schema::{Field, ListType, Target, Type, lookup};
use crate::server::registry::MergeSchema;

/// The paths at which `config` would replace something as a whole, which policies may not.
pub(super) fn atomics(schema: &MergeSchema, config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let place = match schema {
        MergeSchema::Type(name) => Place::Type { of: lookup(name), field: None },
        MergeSchema::OpenApi(schema) => Place::Schema(Some(schema)),
        MergeSchema::Deduced => Place::Schema(None),
    };
    place.atomics(config, &mut String::new(), &mut found);
    found
}

#[derive(Clone, Copy)]
enum Place<'s> {
    /// Of a built-in type: the type of the object here, and the field that holds it.
    Type { of: Option<&'static Type>, field: Option<&'static Field> },
    /// Of an OpenAPI schema.
    Schema(Option<&'s Value>),
}

impl<'s> Place<'s> {
    fn child(self, name: &str) -> Place<'s> {
        match self {
            Place::Type { of, field } => {
                // In a map from strings all values are alike.
                let values = field.and_then(|field| if let Target::Values(name) = field.target { Some(name) } else { None });
                if let Some(values) = values {
                    return Place::Type { of: lookup(values), field: None };
                }
                let field = of.and_then(|of| of.field(name));
                let of = field.and_then(|field| if let Target::One(name) = field.target { lookup(name) } else { None });
                Place::Type { of, field }
            }
            Place::Schema(schema) => Place::Schema(schema.and_then(|schema| property(schema, name))),
        }
    }

    fn item(self) -> Place<'s> {
        match self {
            Place::Type { field, .. } => {
                let of = field.and_then(|field| if let Target::Items(name) = field.target { lookup(name) } else { None });
                Place::Type { of, field: None }
            }
            Place::Schema(schema) => Place::Schema(schema.and_then(|schema| schema.get("items"))),
        }
    }

    fn is_atomic_map(self) -> bool {
        match self {
            Place::Type { of, field } => field.and_then(|field| field.atomic).unwrap_or_else(|| of.is_some_and(|of| of.atomic)),
            Place::Schema(schema) => schema.is_some_and(|schema| schema["x-kubernetes-map-type"] == "atomic"),
        }
    }

    fn is_atomic_list(self) -> bool {
        match self {
            Place::Type { field, .. } => field.is_none_or(|field| matches!(field.list, ListType::Atomic)),
            Place::Schema(schema) => {
                !schema.is_some_and(|schema| schema["x-kubernetes-list-type"] == "set" || schema["x-kubernetes-list-type"] == "map")
            }
        }
    }

    fn atomics(self, config: &Value, path: &mut String, found: &mut Vec<String>) {
        let length = path.len();
        match config {
            Value::Object(map) => {
                if self.is_atomic_map() {
                    found.push(path.clone());
                }
                for (name, value) in map {
                    path.push('.');
                    path.push_str(name);
                    self.child(name).atomics(value, path, found);
                    path.truncate(length);
                }
            }
            Value::Array(items) => {
                if self.is_atomic_list() {
                    found.push(path.clone());
                }
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    self.item().atomics(item, path, found);
                    path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties").and_then(|properties| properties.get(name)).or_else(|| schema.get("additionalProperties"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_schema_says_what_is_atomic() {
        let schema = MergeSchema::OpenApi(Arc::new(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set"},
            "whole": {"type": "array"},
            "block": {"type": "object", "x-kubernetes-map-type": "atomic"},
        }}}})));
        let config = json!({"spec": {"keyed": [{"k": "a", "w": 2}, {"k": "b"}], "set": ["b", "a"], "m": 2}});
        assert!(atomics(&schema, &config).is_empty());
        assert_eq!(atomics(&schema, &json!({"spec": {"whole": [1], "block": {"a": 1}}})), [".spec.block", ".spec.whole"]);
    }

    #[test]
    fn built_in_types_have_atomic_parts() {
        let pod = MergeSchema::Type("io.k8s.api.core.v1.Pod");
        assert!(
            atomics(&pod, &json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).is_empty()
        );
        assert_eq!(atomics(&pod, &json!({"spec": {"containers": [{"name": "c", "command": ["x"]}]}})), [".spec.containers[0].command"]);
        assert_eq!(atomics(&pod, &json!({"spec": {"nodeSelector": {"a": "b"}}})), [".spec.nodeSelector"]);
    }
}
