//! A configuration laid over an object. Follows structured-merge-diff's `typed/merge.go`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map as Json, Value};

use super::Fault;
use super::compare::shown;
use crate::api::apply::index::{items, name_of};
use crate::api::apply::schema::{Form, List, ListKind, Map, Schema, TypeRef};

/// `live` with all that `config` states. Nothing is removed; items of lists keep the order of `live` unless `config` changes it.
///
/// # Errors
/// The faults of lists whose items can't be told apart; of duplicates in `config`.
pub fn merge(schema: &Schema, live: &Value, config: &Value) -> Result<Value, Vec<Fault>> {
    let mut walk = Walk { schema, faults: Vec::new() };
    let merged = walk.place(schema.root(), Some(live), Some(config));
    if walk.faults.is_empty() { Ok(merged.unwrap_or(Value::Null)) } else { Err(walk.faults) }
}

struct Walk<'a> {
    schema: &'a Schema,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn place(&mut self, of: TypeRef, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
        let schema = self.schema;
        match schema.get(of).form(right.or(left)?)? {
            Form::Scalar(_) => right.or(left).cloned(),
            Form::List(list) => {
                let (old, new) = (left.filter(|v| v.is_array()), right.filter(|v| v.is_array()));
                if matches!(list.kind, ListKind::Atomic) || (items(old).is_empty() && items(new).is_empty()) {
                    return right.or(left).cloned();
                }
                self.list(list, items(old), items(new))
            }
            Form::Map(map) => {
                let (old, new) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
                if map.atomic || (old.is_none_or(Json::is_empty) && new.is_none_or(Json::is_empty)) {
                    return right.or(left).cloned();
                }
                self.map(map, old, new)
            }
        }
    }

    fn map(&mut self, map: &Map, left: Option<&Json<String, Value>>, right: Option<&Json<String, Value>>) -> Option<Value> {
        let mut merged = Json::new();
        let new = right.into_iter().flatten().filter(|(name, _)| !left.is_some_and(|left| left.contains_key(*name)));
        for (name, _) in left.into_iter().flatten().chain(new) {
            let (old, new) = (left.and_then(|left| left.get(name)), right.and_then(|right| right.get(name)));
            let Some(of) = map.field(name).0 else {
                self.faults.push(Fault::new("field not declared in schema").below(name).below("."));
                continue;
            };
            let faults = self.faults.len();
            if let Some(value) = self.place(of, old, new) {
                merged.insert(name.clone(), value);
            }
            self.locate(faults, || format!(".{name}"));
        }
        (!merged.is_empty()).then_some(Value::Object(merged))
    }

    fn list(&mut self, list: &List, left: &[Value], right: &[Value]) -> Option<Value> {
        let faults = self.faults.len();
        let new = self.names(list, right, false);
        let old = self.names(list, left, true);
        if self.faults.len() > faults {
            return None;
        }
        let merged = Merger { walk: self, of: list.item, left: index(&old), right: index(&new), old: &old, new: &new }.run();
        (!merged.is_empty()).then_some(Value::Array(merged))
    }

    fn names<'v>(&mut self, list: &List, all: &'v [Value], duplicates: bool) -> Vec<(String, &'v Value)> {
        let mut named: Vec<(String, &Value)> = Vec::with_capacity(all.len());
        let mut seen = HashSet::with_capacity(all.len());
        for (place, item) in all.iter().enumerate() {
            match name_of(&list.kind, item) {
                Ok(name) if seen.insert(name.clone()) || duplicates => named.push((name, item)),
                Ok(name) => self.faults.push(Fault::new(format!("duplicate entries for key {}", shown(&name)))),
                Err(why) => self.faults.push(Fault::new(format!("element {place}: {why}"))),
            }
        }
        named
    }

    fn locate(&mut self, from: usize, element: impl Fn() -> String) {
        if self.faults.len() > from {
            let element = element();
            let faults = self.faults.split_off(from);
            self.faults.extend(faults.into_iter().map(|fault| fault.below(&element)));
        }
    }
}

type Named<'v> = (String, &'v Value);

static NULL: Value = Value::Null;

/// Items by name. A duplicate stands for nothing: it is not merged with, but replaced.
fn index<'v, 'n>(named: &'n [Named<'v>]) -> HashMap<&'n str, &'v Value> {
    let mut found: HashMap<&str, &Value> = HashMap::with_capacity(named.len());
    for (name, item) in named {
        found.entry(name).and_modify(|item| *item = &NULL).or_insert(item);
    }
    found
}

/// Merges two lists item by item. The items that both have come in the right list's order; what only the left has stays before the
/// shared item that it stood before.
struct Merger<'w, 's, 'n, 'v> {
    walk: &'w mut Walk<'s>,
    of: TypeRef,
    left: HashMap<&'n str, &'v Value>,
    right: HashMap<&'n str, &'v Value>,
    old: &'n [Named<'v>],
    new: &'n [Named<'v>],
}

impl<'n, 'v> Merger<'_, '_, 'n, 'v> {
    fn run(mut self) -> Vec<Value> {
        let mut merged = Vec::with_capacity(self.old.len().max(self.new.len()));
        let (old, new) = (self.old, self.new);
        let shared: Vec<&str> = new.iter().map(|(name, _)| name.as_str()).filter(|name| self.left.contains_key(name)).collect();
        let mut shared = shared.into_iter();
        let mut next = shared.next();
        let mut done: HashSet<&str> = HashSet::with_capacity(new.len());
        let (mut l, mut r) = (0, 0);
        while l < old.len() || r < new.len() {
            if let (Some((a, _)), Some((b, _))) = (old.get(l), new.get(r)) {
                if a == b {
                    done.insert(a);
                    merged.extend(self.both(a));
                    (l, r) = (l + 1, r + 1);
                    next = shared.next();
                    continue;
                }
                if self.right.contains_key(a.as_str()) && next.is_some_and(|next| next != a) {
                    // Shared, but its turn comes later.
                    l += 1;
                    continue;
                }
            }
            if let Some((a, item)) = old.get(l) {
                if !self.right.contains_key(a.as_str()) {
                    merged.extend(self.one(a, item));
                    l += 1;
                    continue;
                }
                if done.contains(a.as_str()) {
                    // A duplicate of what was merged already.
                    l += 1;
                }
            }
            if let Some((b, _)) = new.get(r) {
                done.insert(b);
                merged.extend(self.both(b));
                r += 1;
                if next.is_some_and(|next| next == b) {
                    next = shared.next();
                }
            }
        }
        merged
    }

    fn both(&mut self, name: &str) -> Option<Value> {
        let (left, right) = (self.left.get(name).copied(), self.right.get(name).copied());
        self.item(name, left, right)
    }

    fn one(&mut self, name: &str, item: &Value) -> Option<Value> {
        self.item(name, Some(item), None)
    }

    fn item(&mut self, name: &str, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
        let faults = self.walk.faults.len();
        let merged = self.walk.place(self.of, left, right);
        self.walk.locate(faults, || shown(name));
        merged
    }
}
