//! Selectors applied to entries.

use super::KindDef;
use crate::api::selector::{FieldSelector, LabelSelector};
use crate::api::{Scope, Status};
use crate::server::store::Entry;

/// A label and a field selector, checked against a kind.
#[derive(Clone)]
pub(super) struct Filter {
    labels: LabelSelector,
    fields: Vec<Requirement>,
}

#[derive(Clone)]
struct Requirement {
    field: String,
    value: String,
    negated: bool,
}

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

impl Filter {
    /// 400 when the kind can't be selected by a field that is asked for.
    pub fn new(kind: &KindDef, labels: &LabelSelector, fields: &FieldSelector) -> Result<Filter, Status> {
        let mut checked = Vec::new();
        for requirement in fields.requirements() {
            let field = requirement.field.as_str();
            let known = field == NAME || (field == NAMESPACE && kind.info.namespaced) || kind.fields().contains(&field);
            if !known {
                return Err(Status::bad_request(format!("field label not supported: {field}")));
            }
            checked.push(Requirement { field: field.into(), value: requirement.value.clone(), negated: requirement.negated });
        }
        Ok(Filter { labels: labels.clone(), fields: checked })
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The narrowest scope that holds all that can pass: one object, where its name is asked for.
    pub fn scope(&self, kind: &KindDef, namespace: &str) -> Scope {
        // What can't be a part of a key narrows nothing here; `matches` will find that nothing has it.
        let wanted = |field: &str| {
            let equal = self.fields.iter().find(|one| one.field == field && !one.negated);
            equal.map(|one| one.value.as_str()).filter(|value| !value.contains('/'))
        };
        let namespace = if namespace.is_empty() { wanted(NAMESPACE).unwrap_or_default() } else { namespace };
        let one = wanted(NAME).filter(|_| !namespace.is_empty() || !kind.info.namespaced).and_then(|name| kind.key(namespace, name));
        one.map_or_else(|| kind.scope(namespace), |key| Scope::object(&key))
    }

    /// Whether a stored entry passes.
    pub fn matches(&self, kind: &KindDef, entry: &Entry) -> Result<bool, Status> {
        if !self.labels.matches(entry.meta.labels.as_ref()) {
            return Ok(false);
        }
        for Requirement { field, value, negated } in &self.fields {
            let equal = match field.as_str() {
                NAME => entry.key.name() == value,
                NAMESPACE => entry.key.namespace() == value,
                other => kind.field(kind.load(entry)?.as_ref(), other).unwrap_or_default() == *value,
            };
            if equal == *negated {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
