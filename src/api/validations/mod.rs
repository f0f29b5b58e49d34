//! `x-kubernetes-validations`: rules of a schema, compiled once and run over values.
//!
//! Words: `self` is the value that a rule's schema describes, `oldSelf` what it was before an update; a rule that speaks of `oldSelf` is a
//! *transition* rule and runs where both are known. Values are told apart over time as ratcheting does: by field name and map key, and in
//! lists of type `map` by their keys.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/schema/cel/{compilation,validation}.go`; the texts are part of the API.
//!
//! Invariant: all rules of one object share one budget, so no object and no definition can hold the server up.

mod compile;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use compile::{Compiled, compile_rule};

use super::FieldError;
use super::cel::{Budget, DeclType};
use super::structural::{Additional, Path, Rule, Schema};

/// The rules of a schema and of all below it.
#[derive(Debug)]
pub struct Validations {
    root: Node,
}

/// The rules of one schema; only of those that have some, or have some below.
#[derive(Debug, Default)]
struct Node {
    /// Whether the schema is that of a resource.
    is_resource: bool,
    rules: Vec<(Rule, Compiled)>,
    /// What the rules see; there when there are rules.
    decl: Option<DeclType>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
}

impl Validations {
    /// The rules of a whole resource; `tree` is the schema as JSON. `None` when there is no rule.
    pub fn compile(schema: &Schema, tree: &Value) -> Option<Validations> {
        node(schema, tree, true).map(|root| Validations { root })
    }

    /// The rules of a schema that is no whole resource, for its defaults.
    pub fn of_part(schema: &Schema, tree: &Value) -> Option<Validations> {
        node(schema, tree, schema.embedded).map(|root| Validations { root })
    }

    /// Every violated rule. `old` on update.
    pub fn run(&self, schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        self.run_at(schema, value, old, Path::ROOT)
    }

    /// The same for a value that stands at `path`.
    pub fn run_at(&self, schema: &Schema, value: &Value, old: Option<&Value>, path: Path<'_>) -> Vec<FieldError> {
        let mut run = run::Run { budget: Budget::new(Budget::RUNTIME), errors: Vec::new() };
        // Running out is said by the last error.
        let _ = run.node(&self.root, schema, value, old, run::Ratchet::root(value, old), path);
        run.errors
    }
}

/// The part of a tree under a key.
fn below<'a>(tree: &'a Value, key: &str) -> &'a Value {
    tree.get(key).unwrap_or(&Value::Null)
}

fn node(schema: &Schema, tree: &Value, is_resource: bool) -> Option<Node> {
    let mut made = Node { is_resource, ..Node::default() };
    if !schema.rules.is_empty() {
        let decl = DeclType::from_schema("selfType", tree, is_resource);
        made.rules = schema.rules.iter().map(|rule| (rule.clone(), compile_rule(rule, schema, decl.as_ref()))).collect();
        made.decl = decl;
    }
    let properties = below(tree, "properties");
    for (name, field) in &schema.properties {
        if let Some(node) = node(field, below(properties, name), field.embedded) {
            made.properties.insert(name.clone(), node);
        }
    }
    if let Additional::Schema(other) = &schema.additional {
        made.additional = node(other, below(tree, "additionalProperties"), other.embedded).map(Box::new);
    }
    if let Some(items) = &schema.items {
        made.items = node(items, below(tree, "items"), items.embedded).map(Box::new);
    }
    let empty = made.rules.is_empty() && made.properties.is_empty() && made.additional.is_none() && made.items.is_none();
    (!empty).then_some(made)
}
