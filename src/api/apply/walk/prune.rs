//! Fields taken out of an object, and sets of fields brought in line with a schema. Follows structured-merge-diff's
//! `typed/remove.go`, `typed/reconcile_schema.go` and `fieldpath/set.go` (`EnsureNamedFieldsAreMembers`).

use serde_json::{Map as Json, Value};

use super::owned;
use crate::api::apply::index::name_of;
use crate::api::apply::schema::{Form, ListKind, Schema, TypeRef};
use crate::api::fields::{FieldSet, Node, field_key, node_children, node_is_member};

/// `value` without the fields and items in `gone`.
pub fn prune(schema: &Schema, value: Value, gone: &FieldSet) -> Value {
    place(schema, schema.root(), value, gone.tree())
}

fn place(schema: &Schema, of: TypeRef, value: Value, gone: &Json<String, Value>) -> Value {
    let below = |key: &str| gone.get(key).and_then(Value::as_object);
    match (schema.get(of).form(&value), value) {
        (Some(Form::Scalar(_)), value) => value,
        (Some(Form::List(list)), Value::Array(items)) if !matches!(list.kind, ListKind::Atomic) => {
            let keep = |item: Value| {
                let Ok(name) = name_of(&list.kind, &item) else { return Some(item) };
                match below(&name) {
                    Some(node) if node_is_member(node) => None,
                    Some(node) => Some(place(schema, list.item, item, node)),
                    None => Some(item),
                }
            };
            let kept: Vec<_> = items.into_iter().filter_map(keep).collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Some(Form::Map(map)), Value::Object(fields)) if !map.atomic => {
            let keep = |(name, value): (String, Value)| match below(&field_key(&name)) {
                Some(node) if node_is_member(node) => None,
                Some(node) => {
                    let value = match map.field(&name).0 {
                        Some(of) => place(schema, of, value, node),
                        None => value,
                    };
                    Some((name, value))
                }
                None => Some((name, value)),
            };
            let kept: Json<_, _> = fields.into_iter().filter_map(keep).collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        // What is owned as a whole has nothing of its own below.
        _ => Value::Null,
    }
}

/// The set, with every field that the schema names and of which something is in it.
pub fn name_structs(schema: &Schema, set: &FieldSet) -> FieldSet {
    named(schema, Some(schema.root()), set.tree())
}

fn named(schema: &Schema, of: Option<TypeRef>, tree: &Json<String, Value>) -> FieldSet {
    let of = of.map(|of| schema.get(of));
    let mut set = FieldSet::default();
    for (key, node) in node_children(tree) {
        let (next, is_named) = match (key.strip_prefix("f:"), of) {
            (Some(name), Some(of)) => of.map.as_ref().map_or((None, false), |map| map.field(name)),
            (None, Some(of)) if key.starts_with("k:") => (of.list.as_ref().map(|list| list.item), false),
            _ => (None, false),
        };
        let children = named(schema, next, node);
        set.put(key, Node { member: node_is_member(node) || is_named, children });
    }
    set
}

/// The set as it would be had it been written with this schema, where lists and maps have since become atomic or stopped being so.
/// `None`: it is as it should be.
pub fn reconcile(schema: &Schema, set: &FieldSet, live: &Value) -> Option<FieldSet> {
    if schema.is_deduced() {
        return None;
    }
    let mut changes = Reconciled { schema, live, stated: None, gone: FieldSet::default(), new: FieldSet::default() };
    let mut path = Vec::new();
    changes.children(schema.root(), set.tree(), &mut path);
    if changes.gone.is_empty() && changes.new.is_empty() {
        return None;
    }
    let mut result = set.clone();
    result.remove_whole(&changes.gone);
    result.add(&changes.new);
    Some(result)
}

struct Reconciled<'a> {
    schema: &'a Schema,
    live: &'a Value,
    /// All that the live object states, once it is needed.
    stated: Option<FieldSet>,
    gone: FieldSet,
    new: FieldSet,
}

impl<'a> Reconciled<'a> {
    fn children(&mut self, of: TypeRef, tree: &'a Json<String, Value>, path: &mut Vec<&'a str>) {
        let schema = self.schema;
        let of = schema.get(of);
        for (key, node) in node_children(tree) {
            let next = match key.strip_prefix("f:") {
                Some(name) => of.map.as_ref().and_then(|map| map.field(name).0),
                None => of.list.as_ref().map(|list| list.item),
            };
            // A field that the schema no longer has stays with its owner.
            let Some(next) = next else { continue };
            path.push(key);
            self.node(next, node, path);
            path.pop();
        }
    }

    fn node(&mut self, of: TypeRef, node: &'a Json<String, Value>, path: &mut Vec<&'a str>) {
        // A member without children was owned as a whole, or is a scalar or empty.
        let whole = node.is_empty();
        let schema = self.schema;
        let known = schema.get(of);
        match (&known.map, &known.list) {
            (Some(map), _) if map.atomic && !whole => return self.make_whole(path),
            (Some(map), _) if !map.atomic && whole => return self.break_up(path),
            (None, Some(list)) if matches!(list.kind, ListKind::Atomic) && !whole => return self.make_whole(path),
            (None, Some(list)) if !matches!(list.kind, ListKind::Atomic) && whole => return self.break_up(path),
            _ => {}
        }
        self.children(of, node, path);
    }

    fn make_whole(&mut self, path: &[&str]) {
        let set = of_keys(path, Node::leaf());
        self.gone.add(&set);
        self.new.add(&set);
    }

    fn break_up(&mut self, path: &[&str]) {
        let (schema, live) = (self.schema, self.live);
        let stated = self.stated.get_or_insert_with(|| owned(schema, live));
        let found = path.iter().try_fold(stated.tree(), |tree, key| tree.get(*key).and_then(Value::as_object));
        let children = found.map(|tree| FieldSet::stored(Value::Object(tree.clone()))).unwrap_or_default();
        if !children.is_empty() {
            self.new.add(&of_keys(path, Node { member: true, children }));
        }
    }
}

/// The set of one node at a path of written elements.
fn of_keys(path: &[&str], leaf: Node) -> FieldSet {
    let mut node = leaf;
    for key in path.iter().rev() {
        let mut children = FieldSet::default();
        children.put(key, node);
        node = Node { member: false, children };
    }
    node.children
}
