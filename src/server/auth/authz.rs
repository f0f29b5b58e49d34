//! Whether they may: the chain of authorisers, and the words of a refusal.
//!
//! Order: `system:masters` may everything; a node is judged by [`super::node`]; then RBAC. The first that allows, decides.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};

use super::lookup::Lookup;
use super::node;
use super::rbac::Index;
use super::rbac::escalation::Writer;
use crate::api::{Object, Rev, Scope, Status};
use crate::server::registry::User;
pub use crate::server::registry::access::{Attributes, Authorizer, Decision};
use crate::server::store::Snapshot;

/// May do everything.
pub const MASTERS: &str = "system:masters";

/// Scopes that an index of roles and bindings is made of.
static SCOPES: LazyLock<[Scope; 4]> =
    LazyLock::new(|| [Scope::of::<ClusterRole>(), Scope::of::<ClusterRoleBinding>(), Scope::of::<Role>(), Scope::of::<RoleBinding>()]);

/// An index and the state of roles and bindings that it was made of.
struct Indexed {
    revs: [Rev; 4],
    index: Index,
}

/// Decides, keeping the index of roles and bindings from request to request.
pub struct Authority(ArcSwap<Indexed>);

impl Default for Authority {
    fn default() -> Authority {
        // No state has this revision, so that the first question makes an index.
        Authority(ArcSwap::from_pointee(Indexed { revs: [Rev(u64::MAX); 4], index: Index::default() }))
    }
}

impl Authority {
    fn indexed(&self, state: &Snapshot) -> arc_swap::Guard<Arc<Indexed>> {
        let revs = SCOPES.each_ref().map(|scope| state.changed(scope));
        let known = self.0.load();
        if known.revs == revs {
            return known;
        }
        let fresh = Arc::new(Indexed { revs, index: Index::default() });
        // An older snapshot, still in the hands of some request, must not drive out the index of a newer one.
        if known.revs.iter().max() <= revs.iter().max() || known.revs[0] == Rev(u64::MAX) {
            self.0.store(fresh.clone());
        }
        arc_swap::Guard::from_inner(fresh)
    }

    /// Whether `user` may.
    pub fn authorize(&self, state: &Snapshot, user: &User, asked: &Attributes) -> Decision {
        authorize(state, &self.indexed(state).index, user, asked)
    }

    /// All rules that `user` has in `namespace`.
    pub fn rules(&self, state: &Snapshot, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let granted = self.indexed(state).index.granted(state, user, namespace);
        granted.iter().flat_map(|grant| grant.rules()).cloned().collect()
    }
}

impl Authorizer for Authority {
    fn authorize(&self, state: &Snapshot, user: &User, asked: &Attributes) -> Decision {
        Authority::authorize(self, state, user, asked)
    }

    fn escalation(&self, state: &Snapshot, user: &User, object: &dyn Object, old: Option<&dyn Object>) -> Result<(), Status> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let indexed = self.indexed(state);
        let may = |asked: &Attributes| authorize(state, &indexed.index, user, asked).allowed();
        Writer { state, index: &indexed.index, user, may: &may }.check(object, old)
    }
}

/// Decides over one state and the index of its roles and bindings.
pub fn authorize(state: &impl Lookup, index: &Index, user: &User, asked: &Attributes) -> Decision {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Decision::Allow(String::new());
    }
    let mut why = String::new();
    if let Some(name) = node::node_name(user) {
        match node::authorize(state, name, asked) {
            Decision::Allow(reason) => return Decision::Allow(reason),
            Decision::Deny(reason) => why = reason,
        }
    }
    match index.authorize(state, user, asked) {
        Decision::Deny(reason) if reason.is_empty() => Decision::Deny(why),
        Decision::Deny(reason) if !why.is_empty() => Decision::Deny(format!("{why}\n{reason}")),
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
        let index = Index::default();
        assert!(authorize(&Memory::default(), &index, &admin, &Attributes::default()).allowed());
        assert!(!authorize(&Memory::default(), &index, &User::default(), &Attributes::default()).allowed());
    }
}
