//! Sets of fields: which parts of an object somebody owns.
//!
//! Words: a *field set* is a tree whose edges are [`Element`]s in their written form (`f:NAME`, `k:{...}`, `v:...`, `i:N`), exactly as
//! `managedFields` shows it in `fieldsV1`. A node is a *member* of the set when it has no children or has the child `.`. The written
//! form is the identity of an element, so that sets are combined without being parsed: what comes from outside goes once through
//! [`FieldSet::read`], which brings it into the one form.
//!
//! Invariants: every node is an object; no node but the root is without members; the root itself is never a member.
//!
//! Follows structured-merge-diff's `fieldpath` (set.go, element.go, serialize.go, serialize-pe.go).
//!
//! Never: looks at objects or schemas; see [`crate::api::apply`].

mod element;

use serde_json::{Map, Value, map};

pub use element::{Element, write_text};

/// The child that makes a node with children a member.
const SELF: &str = ".";

/// A set of fields, in the form of `fieldsV1`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet(Map<String, Value>);

/// One node while a set is built.
#[derive(Debug, Default)]
pub struct Node {
    /// Whether the field itself is in the set.
    pub member: bool,
    /// What is below it.
    pub children: FieldSet,
}

impl Node {
    /// A field without anything below it.
    pub fn leaf() -> Node {
        Node { member: true, children: FieldSet::default() }
    }

    /// Whether there is nothing to insert.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.0.is_empty()
    }

    /// Adds all that `other` has.
    pub fn merge(&mut self, other: Node) {
        self.member |= other.member;
        if self.children.0.is_empty() {
            self.children = other.children;
        } else {
            union(&mut self.children.0, &other.children.0);
        }
    }
}

/// Whether a node is in the set, not only something below it.
fn is_member(node: &Map<String, Value>) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// Makes the node a member or not; `false` when that leaves nothing of it.
fn mark(node: &mut Map<String, Value>, member: bool) -> bool {
    node.remove(SELF);
    if node.is_empty() {
        return member;
    }
    if member {
        node.insert(SELF.into(), Value::Object(Map::new()));
    }
    true
}

/// The children of a node, which is an object by the invariant.
fn inner(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}

fn union(to: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from.iter().filter(|(key, _)| *key != SELF) {
        match to.entry(key) {
            map::Entry::Vacant(slot) => {
                slot.insert(value.clone());
            }
            map::Entry::Occupied(mut slot) => {
                if let (Some(to), Some(from)) = (slot.get_mut().as_object_mut(), inner(value)) {
                    let member = is_member(to) || is_member(from);
                    union(to, from);
                    mark(to, member);
                }
            }
        }
    }
}

fn subtract(from: &mut Map<String, Value>, what: &Map<String, Value>, whole: bool) {
    for (key, gone) in what.iter().filter(|(key, _)| *key != SELF) {
        let Some(gone) = inner(gone) else { continue };
        let Some(node) = from.get_mut(key).and_then(Value::as_object_mut) else { continue };
        let keep = if whole && is_member(gone) {
            false
        } else {
            let member = is_member(node) && !is_member(gone);
            subtract(node, gone, whole);
            mark(node, member)
        };
        if !keep {
            from.remove(key);
        }
    }
}

fn intersect(a: &Map<String, Value>, b: &Map<String, Value>) -> FieldSet {
    let mut both = FieldSet::default();
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    for (key, value) in small.iter().filter(|(key, _)| *key != SELF) {
        if let (Some(a), Some(b)) = (inner(value), large.get(key).and_then(inner)) {
            both.put(key, Node { member: is_member(a) && is_member(b), children: intersect(a, b) });
        }
    }
    both
}

impl FieldSet {
    /// The set that a client wrote: every element is brought into its one written form.
    ///
    /// # Errors
    /// What is wrong with it, when it is no set of fields.
    pub fn read(value: &Value) -> Result<FieldSet, String> {
        let Some(tree) = value.as_object() else { return Err("fields must be an object".into()) };
        let mut set = FieldSet::default();
        for (key, value) in tree {
            if key == SELF {
                continue;
            }
            let below = FieldSet::read(value)?;
            let member = value.as_object().is_some_and(is_member);
            let mut one = FieldSet::default();
            one.put(&Element::parse(key)?.to_string_form(), Node { member, children: below });
            union(&mut set.0, &one.0);
        }
        Ok(set)
    }

    /// A set that this module wrote before.
    pub fn stored(value: Value) -> FieldSet {
        match value {
            Value::Object(tree) => FieldSet(tree),
            _ => FieldSet::default(),
        }
    }

    /// As `fieldsV1` shows it.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The set of one path of field names.
    pub fn of_path(path: &[&str]) -> FieldSet {
        let mut set = FieldSet::default();
        if let Some((first, rest)) = path.split_first() {
            let node = if rest.is_empty() { Node::leaf() } else { Node { member: false, children: FieldSet::of_path(rest) } };
            set.put(&field_key(first), node);
        }
        set
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Inserts a node that is not there yet, unless it is empty.
    pub fn put(&mut self, key: &str, node: Node) {
        if !node.is_empty() {
            let mut tree = node.children.0;
            if !tree.is_empty() {
                mark(&mut tree, node.member);
            }
            self.0.insert(key.to_owned(), Value::Object(tree));
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &FieldSet) {
        if self.is_empty() {
            self.0.clone_from(&other.0);
        } else {
            union(&mut self.0, &other.0);
        }
    }

    /// Takes away what is in `other`; what lies below a member of it stays.
    pub fn remove(&mut self, other: &FieldSet) {
        subtract(&mut self.0, &other.0, false);
    }

    /// Takes away what is in `other`, and all below it.
    pub fn remove_whole(&mut self, other: &FieldSet) {
        subtract(&mut self.0, &other.0, true);
    }

    /// What is in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        intersect(&self.0, &other.0)
    }

    /// What is below `key`, whether or not `key` itself is a member. `None`: nothing.
    pub fn below(&self, key: &str) -> Option<&Map<String, Value>> {
        self.0.get(key).and_then(inner).filter(|node| !node.is_empty())
    }

    /// Whether it has this path of field names.
    pub fn has(&self, path: &[&str]) -> bool {
        let mut node = &self.0;
        for name in path {
            match node.get(&field_key(name)).and_then(inner) {
                Some(next) => node = next,
                None => return false,
            }
        }
        !path.is_empty() && is_member(node)
    }

    /// Only what matches one of the patterns: paths of field names, in which `*` is any element. All below a match is kept.
    pub fn only(&self, patterns: &[&[&str]]) -> FieldSet {
        FieldSet(keep(&self.0, patterns))
    }

    /// Its members in upstream's order: paths before what is below them, siblings by their elements.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut found = Vec::new();
        list_paths(&self.0, &mut Vec::new(), &mut found);
        found
    }

    /// The tree, to look at.
    pub fn tree(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// Whether a node of [`FieldSet::tree`] is itself in the set.
pub fn node_is_member(node: &Map<String, Value>) -> bool {
    is_member(node)
}

/// The elements below a node of [`FieldSet::tree`].
pub fn node_children(node: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    node.iter().filter(|(key, _)| *key != SELF).filter_map(|(key, value)| inner(value).map(|tree| (key, tree)))
}

/// The written form of a field's name.
pub fn field_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 2);
    key.push_str("f:");
    key.push_str(name);
    key
}

fn keep(tree: &Map<String, Value>, patterns: &[&[&str]]) -> Map<String, Value> {
    let mut kept = FieldSet::default();
    for (key, node) in node_children(tree) {
        let fits = |first: &str| first == "*" || key.strip_prefix("f:") == Some(first);
        let rest: Vec<&[&str]> =
            patterns.iter().filter_map(|p| p.split_first()).filter(|(first, _)| fits(first)).map(|(_, rest)| rest).collect();
        if rest.iter().any(|rest| rest.is_empty()) {
            kept.0.insert(key.clone(), Value::Object(node.clone()));
        } else if !rest.is_empty() {
            // As upstream, a member on the way to a match is kept as well.
            kept.put(key, Node { member: is_member(node), children: FieldSet(keep(node, &rest)) });
        }
    }
    kept.0
}

fn list_paths(tree: &Map<String, Value>, path: &mut Vec<Element>, found: &mut Vec<Vec<Element>>) {
    let mut children: Vec<_> = node_children(tree).filter_map(|(key, node)| Some((Element::parse(key).ok()?, node))).collect();
    children.sort_by(|a, b| a.0.cmp(&b.0));
    for (element, node) in &children {
        if is_member(node) {
            path.push(element.clone());
            found.push(path.clone());
            path.pop();
        }
    }
    for (element, node) in children {
        path.push(element);
        list_paths(node, path, found);
        path.pop();
    }
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub fn show_path(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
