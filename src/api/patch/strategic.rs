//! Strategic merge patch: lists merged by key, and directives within the patch.
//!
//! | in the patch | means |
//! |---|---|
//! | `field: null` | remove the field |
//! | `$patch: replace` in an object | replace the object by the rest of this one |
//! | `$patch: delete` in an object | empty the object; in a list's element: remove the element with this key |
//! | `$patch: replace` as a list's element | replace the list by the other elements |
//! | `$patch: merge` | what happens anyway |
//! | `$deleteFromPrimitiveList/f: [..]` | remove these scalars from the list `f` |
//! | `$setElementOrder/f: [..]` | the order of list `f` afterwards |
//! | `$retainKeys: [..]` | drop every field of the object that is not named |
//!
//! Follows apimachinery `pkg/util/strategicpatch/patch.go`. Unlike it, a field that the schema does not know is no error: it is
//! merged if an object and replaced if a list, and the strict decoder has the last word.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::PatchError;
use crate::api::schema::{Field, Target, Type, lookup};

type Object = Map<String, Value>;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Merges `patch` into `target`, an object of type `of`.
pub(super) fn merge_object(mut target: Object, mut patch: Object, of: Option<&'static Type>) -> Result<Object, PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) => match directive.as_str() {
            "merge" => {}
            "replace" => return Ok(patch),
            "delete" => return Ok(Object::new()),
            other => return Err(unknown_directive(other)),
        },
        Some(other) => return Err(unknown_directive(&other.to_string())),
    }
    if let Some(keep) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut target, &patch, keep)?;
    }
    let lists = take_lists(&mut patch)?;
    for (name, list) in lists {
        let field = of.and_then(|of| of.field(&name));
        if let Some(merged) = list.merge(&name, target.remove(&name), field)? {
            target.insert(name, merged);
        }
    }
    for (name, value) in patch {
        let field = of.and_then(|of| of.field(&name));
        match value {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(value) => {
                let inner = field.and_then(|field| field.target_type());
                let old = match target.remove(&name) {
                    Some(Value::Object(old)) => old,
                    _ => Object::new(),
                };
                // The values of a map of objects are typed, the map itself is not.
                let merged = match field.map(|field| field.target) {
                    Some(Target::Values(_)) => merge_values(old, value, inner)?,
                    _ => merge_object(old, value, inner)?,
                };
                target.insert(name, Value::Object(merged));
            }
            value => {
                target.insert(name, value);
            }
        }
    }
    Ok(target)
}

/// Merges a map from strings to objects of type `of`.
fn merge_values(mut target: Object, patch: Object, of: Option<&'static Type>) -> Result<Object, PatchError> {
    let (entries, rest): (Vec<_>, Vec<_>) = patch.into_iter().partition(|(key, value)| value.is_object() && !key.starts_with('$'));
    target = merge_object(target, rest.into_iter().collect(), None)?;
    for (key, value) in entries {
        let old = match target.remove(&key) {
            Some(Value::Object(old)) => old,
            _ => Object::new(),
        };
        let Value::Object(value) = value else { continue };
        target.insert(key, Value::Object(merge_object(old, value, of)?));
    }
    Ok(target)
}

impl Field {
    fn target_type(&self) -> Option<&'static Type> {
        match self.target {
            Target::Leaf => None,
            Target::One(name) | Target::Items(name) | Target::Values(name) => lookup(name),
        }
    }
}

fn unknown_directive(found: &str) -> PatchError {
    PatchError::Directive(format!("invalid value {found:?} of $patch: expected \"delete\", \"merge\" or \"replace\""))
}

/// Drops the fields of `target` that `$retainKeys` does not name.
fn retain_keys(target: &mut Object, patch: &Object, keep: Value) -> Result<(), PatchError> {
    let Value::Array(keep) = keep else {
        return Err(PatchError::Directive("invalid patch format of retainKeys: $retainKeys must be a list".into()));
    };
    let keep: BTreeSet<&str> = keep.iter().filter_map(Value::as_str).collect();
    for (key, value) in patch {
        if !key.starts_with('$') && !value.is_null() && !keep.contains(key.as_str()) {
            return Err(PatchError::Directive(format!(
                "invalid patch format of retainKeys: the patch sets {key:?}, which $retainKeys does not name"
            )));
        }
    }
    target.retain(|key, _| keep.contains(key.as_str()));
    Ok(())
}

/// Everything that a patch says about one list.
#[derive(Default)]
struct ListPatch {
    items: Option<Vec<Value>>,
    order: Option<Vec<Value>>,
    delete: Vec<Value>,
}

/// Takes what concerns lists out of `patch`, by the field's name.
fn take_lists(patch: &mut Object) -> Result<std::collections::BTreeMap<String, ListPatch>, PatchError> {
    let mut lists = std::collections::BTreeMap::<String, ListPatch>::new();
    let about_list = |key: &str, value: &Value| key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER) || value.is_array();
    let keys: Vec<String> = patch.iter().filter(|(key, value)| about_list(key, value)).map(|(key, _)| key.clone()).collect();
    for key in keys {
        let value = patch.remove(&key).expect("the key was just found");
        let Value::Array(items) = value else {
            let what = key.trim_start_matches('$').split('/').next().unwrap_or_default();
            return Err(PatchError::Directive(format!("invalid patch format of {what}: {key} must be a list")));
        };
        if let Some(name) = key.strip_prefix(DELETE_FROM) {
            lists.entry(name.into()).or_default().delete = items;
        } else if let Some(name) = key.strip_prefix(SET_ORDER) {
            lists.entry(name.into()).or_default().order = Some(items);
        } else {
            lists.entry(key).or_default().items = Some(items);
        }
    }
    // `f: null` beside a directive about `f` removes first: leave it to the caller's loop by forgetting the directive.
    lists.retain(|name, _| !patch.get(name).is_some_and(Value::is_null));
    Ok(lists)
}

impl ListPatch {
    /// The list afterwards; `None`: still absent.
    fn merge(self, name: &str, old: Option<Value>, field: Option<&'static Field>) -> Result<Option<Value>, PatchError> {
        let old = match old {
            Some(Value::Array(old)) => Some(old),
            _ => None,
        };
        if old.is_none() && self.items.is_none() {
            return Ok(None);
        }
        let strategy = field.map(|field| field.patch).unwrap_or_default();
        let original = old.unwrap_or_default();
        if !strategy.merge {
            let kept: Vec<Value> = original.into_iter().filter(|item| !self.delete.contains(item)).collect();
            return Ok(Some(Value::Array(match self.items {
                Some(items) => without_directives(items),
                None => kept,
            })));
        }
        let items = self.items.unwrap_or_default();
        let of_objects = original.iter().chain(&items).any(Value::is_object);
        let key = if of_objects { strategy.key } else { "" };
        if of_objects && key.is_empty() {
            return Err(PatchError::Mismatch(format!("cannot merge lists without merge key for {name}")));
        }
        if let Some(order) = &self.order {
            check_order(name, &items, order, key)?;
        }
        let present: Vec<Value> = original.iter().filter(|item| !self.delete.contains(item)).cloned().collect();
        let (merged, stated) = if of_objects {
            merge_elements(present, items, key, field.and_then(|field| field.target_type()))?
        } else {
            (union(present, &items), items)
        };
        let order = self.order.unwrap_or(stated);
        Ok(Some(Value::Array(arrange(merged, &order, &original, key))))
    }
}

/// Elements of a list without a merge strategy: directives mean nothing there.
fn without_directives(items: Vec<Value>) -> Vec<Value> {
    items.into_iter().filter(|item| item.get(DIRECTIVE).is_none()).collect()
}

fn union(mut original: Vec<Value>, items: &[Value]) -> Vec<Value> {
    for item in items {
        if !original.contains(item) {
            original.push(item.clone());
        }
    }
    original
}

/// Merges lists of objects by `key`. Also returns the plain elements of the patch, whose order counts.
fn merge_elements(
    mut list: Vec<Value>,
    items: Vec<Value>,
    key: &str,
    of: Option<&'static Type>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::new();
    let mut replace = false;
    for item in items {
        let Value::Object(mut item) = item else {
            return Err(PatchError::Mismatch(format!("the list merged by {key:?} must hold objects only, found {item}")));
        };
        match item.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default().to_owned()).as_deref() {
            None => plain.push(item),
            Some("merge") => {
                item.remove(DIRECTIVE);
                plain.push(item);
            }
            Some("replace") => replace = true,
            Some("delete") => {
                let value = identity(&item, key)?.clone();
                list.retain(|old| old.get(key) != Some(&value));
            }
            Some(other) => return Err(unknown_directive(other)),
        }
    }
    if replace {
        list.clear();
    }
    let mut stated = Vec::with_capacity(plain.len());
    for item in plain {
        let value = identity(&item, key)?.clone();
        stated.push(Value::Object([(key.to_owned(), value.clone())].into_iter().collect()));
        let place = list.iter().position(|old| old.get(key) == Some(&value));
        let old = match place.map(|place| list[place].take()) {
            Some(Value::Object(old)) => old,
            _ => Object::new(),
        };
        let merged = Value::Object(merge_object(old, item, of)?);
        match place {
            Some(place) => list[place] = merged,
            None => list.push(merged),
        }
    }
    Ok((list, stated))
}

fn identity<'a>(item: &'a Object, key: &str) -> Result<&'a Value, PatchError> {
    item.get(key).ok_or_else(|| {
        let shown = Value::Object(item.clone()).to_string();
        PatchError::Mismatch(format!("map: {shown} does not contain declared merge key: {key}"))
    })
}

/// Whether two elements are the same one: the same scalar, or objects with the same key.
fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

fn place_in(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    list.iter().position(|other| same(other, item, key))
}

/// The elements that a patch sets must stand in its `$setElementOrder` list, in that order.
fn check_order(name: &str, items: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    let mut at = 0;
    let plain = items.iter().filter(|item| item.get(DIRECTIVE).is_none());
    for item in plain {
        match place_in(&order[at..], item, key) {
            Some(step) => at += step + 1,
            None => {
                return Err(PatchError::Mismatch(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder/{name} list:\n{}\n",
                    Value::Array(items.to_vec()),
                    Value::Array(order.to_vec())
                )));
            }
        }
    }
    Ok(())
}

/// Puts the elements named in `order` into that order, and each of the others before the first of them that it preceded originally.
fn arrange(merged: Vec<Value>, order: &[Value], original: &[Value], key: &str) -> Vec<Value> {
    let (mut named, others): (Vec<_>, Vec<_>) = merged.into_iter().partition(|item| place_in(order, item, key).is_some());
    named.sort_by_key(|item| place_in(order, item, key));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    let mut arranged = Vec::new();
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return arranged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => {
                let places = place_in(original, other, key).zip(place_in(original, named, key));
                places.is_some_and(|(other, named)| other < named)
            }
        };
        arranged.extend(if other_first { others.next() } else { named.next() });
    }
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
