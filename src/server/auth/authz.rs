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
pub use crate::server::registry::User;
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

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

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
    /// A state that counts what is read of it.
    #[derive(Default)]
    struct Counted {
        state: Memory,
        reads: std::cell::Cell<usize>,
    }

    impl Lookup for Counted {
        fn get<T: crate::api::Kind>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
            self.reads.set(self.reads.get() + 1);
            self.state.get(namespace, name)
        }
        fn list<T: crate::api::Kind>(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
            self.reads.set(self.reads.get() + 1);
            self.state.list(namespace)
        }
    }

    #[test]
    fn a_second_question_reads_nothing() {
        let state = Counted {
            state: Memory::default()
                .with::<ClusterRole>("{metadata: {name: r}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}")
                .with::<RoleBinding>(
                    "{metadata: {name: b, namespace: ns}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: User, name: u}]}",
                ),
            ..Counted::default()
        };
        let user = User { name: "u".into(), ..User::default() };
        let asked = Attributes { verb: "get".into(), resource: "pods".into(), namespace: "ns".into(), ..Attributes::default() };
        let index = Index::default();
        assert!(authorize(&state, &index, &user, &asked).allowed());
        let first = state.reads.get();
        assert!(authorize(&state, &index, &user, &asked).allowed());
        assert_eq!((first, state.reads.get()), (3, 3), "bindings of the cluster and the namespace and one role, once");
    }

    fn snapshot(rev: u64, bindings: usize, verb: &str) -> Snapshot {
        use crate::api::Key;
        use crate::server::store::Draft;
        let role: ClusterRole =
            serde_yaml::from_str(&format!("{{metadata: {{name: r}}, rules: [{{apiGroups: [''], resources: [pods], verbs: [{verb}]}}]}}"))
                .unwrap();
        let role = (Key::of::<ClusterRole>("", "r"), Rev(rev), Draft::new(&role));
        let binding = |n: usize| {
            let yaml = format!(
                "{{metadata: {{name: b{n}, namespace: ns}}, roleRef: {{kind: ClusterRole, name: r}}, subjects: [{{kind: User, name: u{n}}}]}}"
            );
            (Key::of::<RoleBinding>("ns", &format!("b{n}")), Rev(1), Draft::new(&serde_yaml::from_str::<RoleBinding>(&yaml).unwrap()))
        };
        Snapshot::of(Rev(rev), std::iter::once(role).chain((0..bindings).map(binding)))
    }

    #[test]
    fn answers_follow_the_state_that_is_asked_about() {
        let authority = Authority::default();
        let user = User { name: "u0".into(), ..User::default() };
        let asked = Attributes { verb: "get".into(), resource: "pods".into(), namespace: "ns".into(), ..Attributes::default() };
        let (old, new) = (snapshot(2, 1, "get"), snapshot(3, 1, "list"));
        for (state, want) in [(&old, true), (&new, false), (&old, true), (&new, false)] {
            assert_eq!(authority.authorize(state, &user, &asked).allowed(), want);
        }
    }

    #[test]
    #[ignore = "a measurement: run with --run-ignored all --no-capture"]
    fn how_long_a_question_takes() {
        let state = snapshot(2, 10_000, "get");
        let authority = Authority::default();
        let user = User { name: "u77".into(), groups: vec!["a".into(), "system:authenticated".into()], ..User::default() };
        let asked = Attributes { verb: "get".into(), resource: "pods".into(), namespace: "ns".into(), ..Attributes::default() };
        let begun = std::time::Instant::now();
        assert!(authority.authorize(&state, &user, &asked).allowed());
        let first = begun.elapsed();
        let begun = std::time::Instant::now();
        for _ in 0..100_000 {
            assert!(authority.authorize(&state, &user, &asked).allowed());
        }
        println!("10,000 bindings: the first question {first:?}, each further one {:?}", begun.elapsed() / 100_000);
    }
}
