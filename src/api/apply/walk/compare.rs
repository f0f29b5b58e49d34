//! What differs between two objects: three sets of fields. Follows structured-merge-diff's `typed/compare.go`.

use std::collections::HashMap;

use serde_json::Value;

use super::{Fault, is_empty, same};
use crate::api::apply::index::{items, name_of};
use crate::api::apply::schema::{Form, List, ListKind, Map, Schema, TypeRef};
use crate::api::fields::{FieldSet, Node, field_key};

/// What differs.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Only on the left.
    pub removed: FieldSet,
    /// On both sides, with another value.
    pub modified: FieldSet,
    /// Only on the right.
    pub added: FieldSet,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// What differs between `left` and `right`.
///
/// # Errors
/// The faults of lists whose items can't be told apart.
pub fn compare(schema: &Schema, left: &Value, right: &Value) -> Result<Changes, Vec<Fault>> {
    let mut walk = Walk { schema, faults: Vec::new() };
    let found = walk.place(schema.root(), Some(left), Some(right));
    if walk.faults.is_empty() {
        Ok(Changes { removed: found.removed.children, modified: found.modified.children, added: found.added.children })
    } else {
        Err(walk.faults)
    }
}

/// What differs at and below one place.
#[derive(Default)]
struct Found {
    removed: Node,
    modified: Node,
    added: Node,
}

impl Found {
    fn put(&mut self, key: &str, below: Found) {
        self.removed.children.put(key, below.removed);
        self.modified.children.put(key, below.modified);
        self.added.children.put(key, below.added);
    }

    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    fn merge(&mut self, other: Found) {
        self.removed.merge(other.removed);
        self.modified.merge(other.modified);
        self.added.merge(other.added);
    }
}

struct Walk<'a> {
    schema: &'a Schema,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn place(&mut self, of: TypeRef, left: Option<&Value>, right: Option<&Value>) -> Found {
        let schema = self.schema;
        let of = schema.get(of);
        let forms = (left.and_then(|value| of.form(value)), right.and_then(|value| of.form(value)));
        match forms {
            (None, Some(form)) | (Some(form), None) => self.form(form, left, right),
            (Some(a), Some(b)) if a.same(&b) => self.form(b, left, right),
            (Some(a), Some(b)) => {
                let mut found = self.form(a, left, right);
                found.merge(self.form(b, left, right));
                found
            }
            (None, None) => Found::default(),
        }
    }

    fn form(&mut self, form: Form<'_>, left: Option<&Value>, right: Option<&Value>) -> Found {
        match form {
            Form::Scalar(_) => leaf(left, right),
            Form::List(list) => {
                let (old, new) = (left.filter(|v| v.is_array()), right.filter(|v| v.is_array()));
                if matches!(list.kind, ListKind::Atomic) || (is_empty(old) && is_empty(new)) {
                    return leaf(left, right);
                }
                let below = self.list(list, old, new);
                container(below, left, right)
            }
            Form::Map(map) => {
                let (old, new) = (left.filter(|v| v.is_object()), right.filter(|v| v.is_object()));
                if map.atomic || (is_empty(old) && is_empty(new)) {
                    return leaf(left, right);
                }
                let below = self.map(map, old, new);
                container(below, left, right)
            }
        }
    }

    fn map(&mut self, map: &Map, left: Option<&Value>, right: Option<&Value>) -> Found {
        let (left, right) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
        let mut found = Found::default();
        for (name, old) in left.into_iter().flatten() {
            self.field(map, name, Some(old), right.and_then(|right| right.get(name)), &mut found);
        }
        for (name, new) in right.into_iter().flatten() {
            if !left.is_some_and(|left| left.contains_key(name)) {
                self.field(map, name, None, Some(new), &mut found);
            }
        }
        found
    }

    fn field(&mut self, map: &Map, name: &str, left: Option<&Value>, right: Option<&Value>, found: &mut Found) {
        let Some(of) = map.field(name).0 else {
            self.faults.push(Fault::new("field not declared in schema").below(name).below("."));
            return;
        };
        let faults = self.faults.len();
        let below = self.place(of, left, right);
        if !below.is_empty() {
            found.put(&field_key(name), below);
        }
        if self.faults.len() > faults {
            self.locate(faults, &format!(".{name}"));
        }
    }

    fn list(&mut self, list: &List, left: Option<&Value>, right: Option<&Value>) -> Found {
        // What did not change costs no names.
        if let (Some(left), Some(right)) = (left, right)
            && left == right
        {
            return Found::default();
        }
        let mut order: Vec<&str> = Vec::new();
        let (old, new) = (self.names(list, left), self.names(list, right));
        let (old, new) = (group(&old, &mut order), group(&new, &mut order));
        let none = Vec::new();
        let mut found = Found::default();
        for name in order {
            let (old, new) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
            let faults = self.faults.len();
            let below = self.item(list.item, old, new);
            if !below.is_empty() {
                found.put(name, below);
            }
            if self.faults.len() > faults {
                self.locate(faults, &shown(name));
            }
        }
        found
    }

    fn names<'v>(&mut self, list: &List, value: Option<&'v Value>) -> Vec<(String, &'v Value)> {
        let mut named = Vec::new();
        for (place, item) in items(value).iter().enumerate() {
            match name_of(&list.kind, item) {
                Ok(name) => named.push((name, item)),
                Err(why) => self.faults.push(Fault::new(format!("element {place}: {why}"))),
            }
        }
        named
    }

    /// Items of one name. There is one on each side, unless a list has duplicates: those are owned together, as a leaf.
    fn item(&mut self, of: TypeRef, old: &[&Value], new: &[&Value]) -> Found {
        match (old, new) {
            ([] | [_], [] | [_]) => self.place(of, old.first().copied(), new.first().copied()),
            ([_, _, ..], [_, _, ..]) => {
                let equal = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same(a, b));
                if equal { Found::default() } else { Found { modified: Node::leaf(), ..Found::default() } }
            }
            ([_, _, ..], new) => {
                let mut found = new.first().map(|new| self.place(of, None, Some(new))).unwrap_or_default();
                found.removed.member = true;
                found
            }
            (old, _) => {
                let mut found = old.first().map(|old| self.place(of, Some(old), None)).unwrap_or_default();
                found.added.member = true;
                found
            }
        }
    }

    fn locate(&mut self, from: usize, element: &str) {
        let faults = self.faults.split_off(from);
        self.faults.extend(faults.into_iter().map(|fault| fault.below(element)));
    }
}

fn group<'v, 'n>(named: &'n [(String, &'v Value)], order: &mut Vec<&'n str>) -> HashMap<&'n str, Vec<&'v Value>> {
    let mut groups: HashMap<&str, Vec<&Value>> = HashMap::with_capacity(named.len());
    for (name, item) in named {
        let group = groups.entry(name).or_default();
        if group.is_empty() && !order.contains(&name.as_str()) {
            order.push(name);
        }
        group.push(item);
    }
    groups
}

pub(super) fn shown(name: &str) -> String {
    crate::api::fields::Element::parse(name).map_or_else(|_| name.to_owned(), |element| element.to_string())
}

fn leaf(left: Option<&Value>, right: Option<&Value>) -> Found {
    let mut found = Found::default();
    match (left, right) {
        (None, Some(_)) => found.added.member = true,
        (Some(_), None) => found.removed.member = true,
        (Some(left), Some(right)) if !same(left, right) => found.modified.member = true,
        _ => {}
    }
    found
}

/// A list or map that appears or goes is itself among what changed.
fn container(mut below: Found, left: Option<&Value>, right: Option<&Value>) -> Found {
    below.added.member |= left.is_none();
    below.removed.member |= right.is_none();
    below
}
