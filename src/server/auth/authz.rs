//! Whether they may: the chain of authorisers, and the words of a refusal.
//!
//! Order: `system:masters` may everything; a node is judged by [`super::node`]; then RBAC. The first that allows, decides.

use super::lookup::Lookup;
use super::{node, rbac};
use crate::api::Status;
use crate::server::registry::User;

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

    /// The field of the selector that is required to equal something: `spec.nodeName=n1`.
    pub fn required_field(&self, path: &str) -> Option<&str> {
        self.fields
            .split(',')
            .filter_map(|term| term.split_once('='))
            .find_map(|(field, value)| (field.trim() == path).then(|| value.strip_prefix('=').unwrap_or(value).trim()))
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

/// Decides.
pub fn authorize(state: &impl Lookup, user: &User, asked: &Attributes) -> Decision {
    if user.groups.iter().any(|group| group == "system:masters") {
        return Decision::Allow("system:masters may do everything".into());
    }
    let mut why = String::new();
    if let Some(name) = node::node_name(user) {
        match node::authorize(state, name, asked) {
            Decision::Allow(reason) => return Decision::Allow(reason),
            Decision::Deny(reason) => why = reason,
        }
    }
    match rbac::authorize(state, user, asked) {
        Decision::Deny(reason) if reason.is_empty() => Decision::Deny(why),
        decision => decision,
    }
}

/// The refusal, in upstream's words (`pkg/endpoints/handlers/responsewriters/errors.go`).
pub fn refusal(user: &User, asked: &Attributes, reason: &str) -> Status {
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let who = &user.name;
    if asked.resource.is_empty() {
        let message = format!("forbidden: User {who:?} cannot {} path {:?}{reason}", asked.verb, asked.path);
        return Status::new(403, "Forbidden", message);
    }
    let place = match asked.namespace.as_str() {
        "" => " at the cluster scope".into(),
        namespace => format!(" in the namespace {namespace:?}"),
    };
    let (verb, resource, group) = (&asked.verb, asked.full_resource(), &asked.group);
    let why = format!("User {who:?} cannot {verb} resource {resource:?} in API group {group:?}{place}{reason}");
    Status::forbidden(&asked.group, &asked.resource, &asked.name, why)
}

#[cfg(test)]
mod tests {
    use super::super::lookup::memory::Memory;
    use super::*;

    #[test]
    fn refusals_read_as_upstreams() {
        let user = User { name: "x".into(), ..User::default() };
        let pods = Attributes { verb: "list".into(), resource: "pods".into(), namespace: "default".into(), ..Attributes::default() };
        let want = r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#;
        assert_eq!(refusal(&user, &pods, "").message, want);
        let log = Attributes { verb: "get".into(), subresource: "log".into(), name: "a".into(), ..pods.clone() };
        let want = r#"pods "a" is forbidden: User "x" cannot get resource "pods/log" in API group "" in the namespace "default""#;
        assert_eq!(refusal(&user, &log, "").message, want);
        let nodes = Attributes { verb: "list".into(), resource: "nodes".into(), ..Attributes::default() };
        assert!(refusal(&user, &nodes, "").message.ends_with("at the cluster scope"));
        let path = Attributes { verb: "get".into(), path: "/metrics".into(), ..Attributes::default() };
        assert_eq!(refusal(&user, &path, "").message, r#"forbidden: User "x" cannot get path "/metrics""#);
    }

    #[test]
    fn administrators_may_everything() {
        let admin = User { groups: vec!["system:masters".into()], ..User::default() };
        assert!(authorize(&Memory::default(), &admin, &Attributes::default()).allowed());
        assert!(!authorize(&Memory::default(), &User::default(), &Attributes::default()).allowed());
    }

    #[test]
    fn required_fields() {
        let asked = |fields: &str| Attributes { fields: fields.into(), ..Attributes::default() };
        for (fields, want) in [
            ("spec.nodeName=n1", Some("n1")),
            ("status.phase!=Failed,spec.nodeName==n1", Some("n1")),
            ("spec.nodeName!=n1", None),
            ("", None),
        ] {
            assert_eq!(asked(fields).required_field("spec.nodeName"), want, "{fields}");
        }
    }
}
