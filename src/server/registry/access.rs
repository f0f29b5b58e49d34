//! Who may what, for those parts of a write that must ask: escalation checks, approvals, policies.
//!
//! Words: *attributes* are a question ("may this user list pods in default?"), a *decision* is its answer. The answering is done
//! elsewhere (`server::auth`) and handed to the registry as an [`Authorizer`], so that the registry knows no roles.
//!
//! Follows upstream's `apiserver/pkg/authorization/authorizer`.

use super::User;
use crate::api::selector::FieldSelector;
use crate::api::{Object, Status};
use crate::server::store::Snapshot;

/// What is asked, as upstream's `authorizer.Attributes`.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// `get`, `list`, `create`, ...; the lower-case HTTP method for paths.
    pub verb: String,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource; empty for a path that is no resource.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Object name, or empty.
    pub name: String,
    /// The `fieldSelector` as sent, for what nodes may list.
    pub fields: String,
    /// The path, when `resource` is empty.
    pub path: String,
}

impl Attributes {
    /// `pods` or `pods/log`.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }

    /// What the selector requires `path` to equal. A selector that can't be read requires nothing.
    pub fn required_field(&self, path: &str) -> Option<String> {
        if self.fields.is_empty() {
            return None;
        }
        let selector = FieldSelector::parse(&self.fields).ok()?;
        selector.requirements().find(|term| term.field == path && !term.negated).map(|term| term.value.clone())
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and which rule says so.
    Allow(String),
    /// No rule says so; a further reason, often empty.
    Deny(String),
}

impl Decision {
    /// Whether it is a yes.
    pub fn allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }
}

/// Answers questions about one state.
pub trait Authorizer: Send + Sync {
    /// Whether `user` may.
    fn authorize(&self, state: &Snapshot, user: &User, asked: &Attributes) -> Decision;
    /// 403 or 404 if writing `object` (over `old`, if there is one) would give somebody rights that `user` neither has nor may give.
    /// Objects that give no rights are always fine.
    fn escalation(&self, state: &Snapshot, user: &User, object: &dyn Object, old: Option<&dyn Object>) -> Result<(), Status>;
}

/// Grants nothing: what a registry asks until it is told whom to ask.
pub(super) struct Nobody;

impl Authorizer for Nobody {
    fn authorize(&self, _: &Snapshot, user: &User, _: &Attributes) -> Decision {
        match user.groups.iter().any(|group| group == "system:masters") {
            true => Decision::Allow(String::new()),
            false => Decision::Deny("no authorizer is set".into()),
        }
    }

    fn escalation(&self, _: &Snapshot, _: &User, _: &dyn Object, _: Option<&dyn Object>) -> Result<(), Status> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_fields() {
        let asked = |fields: &str| Attributes { fields: fields.into(), ..Attributes::default() };
        for (fields, want) in [
            ("spec.nodeName=n1", Some("n1")),
            ("status.phase!=Failed,spec.nodeName==n1", Some("n1")),
            ("spec.nodeName=a\\,b", Some("a,b")),
            ("spec.nodeName!=n1", None),
            ("spec.nodeName", None),
            ("", None),
        ] {
            assert_eq!(asked(fields).required_field("spec.nodeName").as_deref(), want, "{fields}");
        }
    }
}
