//! The fields that a value states. Follows structured-merge-diff's `typed/tofieldset.go`.

use std::collections::HashMap;

use serde_json::Value;

use crate::api::apply::index::{items, name_of};
use crate::api::apply::schema::{Form, List, ListKind, Map, Schema, TypeRef};
use crate::api::fields::{FieldSet, Node, field_key};

/// Every leaf and item that `value` states. What is not of the schema is left out; [`super::validate`] finds it.
pub fn owned(schema: &Schema, value: &Value) -> FieldSet {
    place(schema, schema.root(), value).children
}

fn place(schema: &Schema, of: TypeRef, value: &Value) -> Node {
    match schema.get(of).form(value) {
        Some(Form::Map(map)) if map.atomic => Node::leaf(),
        Some(Form::Map(map)) => fields(schema, map, value),
        Some(Form::List(list)) if matches!(list.kind, ListKind::Atomic) => Node::leaf(),
        Some(Form::List(list)) => list_items(schema, list, value),
        Some(Form::Scalar(_)) => Node::leaf(),
        None => Node::default(),
    }
}

fn fields(schema: &Schema, map: &Map, value: &Value) -> Node {
    let mut node = Node::default();
    for (name, value) in value.as_object().into_iter().flatten() {
        let (Some(of), named) = map.field(name) else { continue };
        let mut below = place(schema, of, value);
        let nothing = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        below.member |= nothing || !named;
        node.children.put(&field_key(name), below);
    }
    node
}

fn list_items(schema: &Schema, list: &List, value: &Value) -> Node {
    let named: Vec<_> = items(Some(value)).iter().filter_map(|item| name_of(&list.kind, item).ok().map(|name| (name, item))).collect();
    let mut counts: HashMap<&str, usize> = HashMap::with_capacity(named.len());
    for (name, _) in &named {
        *counts.entry(name).or_default() += 1;
    }
    let mut node = Node::default();
    for (name, item) in &named {
        // Of duplicates only the name is owned, by whoever states them.
        let mut below = if counts.get(name.as_str()) == Some(&1) { place(schema, list.item, item) } else { Node::default() };
        below.member = true;
        node.children.put(name, below);
    }
    node
}
