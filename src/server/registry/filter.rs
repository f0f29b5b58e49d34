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

fn is_metadata(field: &str) -> bool {
    field == NAME || field == NAMESPACE
}

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

    /// Whether the metadata alone decides.
    pub fn is_by_metadata(&self) -> bool {
        self.fields.iter().all(|one| is_metadata(&one.field))
    }

    /// The labels it asks for.
    pub fn labels(&self) -> &LabelSelector {
        &self.labels
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

    /// Whether an entry in served form passes.
    pub fn matches(&self, kind: &KindDef, entry: &Entry) -> Result<bool, Status> {
        if !self.may_match(entry) {
            return Ok(false);
        }
        if self.is_by_metadata() {
            return Ok(true);
        }
        let object = kind.object(entry)?;
        let mut rest = self.fields.iter().filter(|one| !is_metadata(&one.field));
        Ok(rest.all(|one| (kind.field(object.as_ref(), &one.field).unwrap_or_default() == one.value) != one.negated))
    }

    /// Whether an entry in any form passes as far as its metadata tells, which is the same in all forms.
    pub fn may_match(&self, entry: &Entry) -> bool {
        let passes = |one: &Requirement| match one.field.as_str() {
            NAME => (entry.key.name() == one.value) != one.negated,
            NAMESPACE => (entry.key.namespace() == one.value) != one.negated,
            _ => true,
        };
        self.labels.matches(entry.meta().labels.as_ref()) && self.fields.iter().all(passes)
    }
}
