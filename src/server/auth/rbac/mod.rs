//! Role based access control: who is granted which rules.
//!
//! Words: a *subject* is whom a binding names; a *rule* grants verbs on resources or paths ([`rule`]); a *grant* is a role in the hands of
//! a subject. Rules only ever grant.
//!
//! Invariant: an [`Index`] belongs to one state of roles and bindings. Whoever keeps one asks it only about states in which those are
//! the same ([`super::authz::Authority`] sees to that), so that a request costs a few look-ups, however many bindings there are.
//!
//! Follows upstream's `pkg/registry/rbac/validation/rule.go` and `plugin/pkg/auth/authorizer/rbac`. Aggregated roles are what their
//! `rules` say: a controller fills them.

pub mod escalation;
pub mod rule;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use parking_lot::RwLock;

use super::authz::{Attributes, Decision};
use super::lookup::Lookup;
use crate::server::registry::User;

/// The role behind a binding.
#[derive(Clone)]
enum Found {
    Cluster(Arc<ClusterRole>),
    Local(Arc<Role>),
    /// `clusterrole.rbac.authorization.k8s.io "x" not found`.
    Missing(String),
}

/// A role in the hands of one subject.
#[derive(Clone)]
pub struct Grant {
    role: Found,
    /// `RBAC: allowed by ...`
    reason: String,
}

impl Grant {
    /// What it grants.
    pub fn rules(&self) -> &[PolicyRule] {
        match &self.role {
            Found::Cluster(role) => role.rules.as_deref().unwrap_or_default(),
            Found::Local(role) => role.rules.as_deref().unwrap_or_default(),
            Found::Missing(_) => &[],
        }
    }
}

/// The grants of the cluster's bindings, or of one namespace's, by subject.
#[derive(Default)]
struct Grants {
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

impl Grants {
    fn add(&mut self, binding: &str, namespace: &str, role: &RoleRef, found: &Found, subjects: &[Subject]) {
        for subject in subjects {
            let home = subject.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(namespace);
            let (map, key, shown) = match subject.kind.as_str() {
                "User" => (&mut self.users, subject.name.clone(), subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone(), subject.name.clone()),
                "ServiceAccount" if !home.is_empty() => {
                    let user = format!("system:serviceaccount:{home}:{}", subject.name);
                    (&mut self.users, user, format!("{}/{home}", subject.name))
                }
                _ => continue,
            };
            let reason = format!("RBAC: allowed by {binding} of {} {:?} to {} {shown:?}", role.kind, role.name, subject.kind);
            map.entry(key).or_default().push(Arc::new(Grant { role: found.clone(), reason }));
        }
    }

    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Arc<Grant>> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        self.users.get(&user.name).into_iter().chain(groups).flatten()
    }
}

/// All grants of one state, made as they are asked for.
#[derive(Default)]
pub struct Index {
    cluster: OnceLock<Grants>,
    /// Only namespaces with bindings, so that questions about made-up ones leave nothing behind.
    namespaces: RwLock<HashMap<String, Arc<Grants>>>,
}

impl Index {
    fn cluster(&self, state: &impl Lookup) -> &Grants {
        self.cluster.get_or_init(|| {
            let mut grants = Grants::default();
            for binding in state.list::<ClusterRoleBinding>(None) {
                let name = format!("ClusterRoleBinding {:?}", binding.metadata.name.as_deref().unwrap_or_default());
                let found = find(state, &binding.role_ref, "");
                grants.add(&name, "", &binding.role_ref, &found, binding.subjects.as_deref().unwrap_or_default());
            }
            grants
        })
    }

    fn namespace(&self, state: &impl Lookup, namespace: &str) -> Option<Arc<Grants>> {
        if namespace.is_empty() {
            return None;
        }
        if let Some(known) = self.namespaces.read().get(namespace) {
            return Some(known.clone());
        }
        let bindings = state.list::<RoleBinding>(Some(namespace));
        if bindings.is_empty() {
            return None;
        }
        let mut grants = Grants::default();
        for binding in bindings {
            let name = format!("RoleBinding \"{}/{namespace}\"", binding.metadata.name.as_deref().unwrap_or_default());
            let found = find(state, &binding.role_ref, namespace);
            grants.add(&name, namespace, &binding.role_ref, &found, binding.subjects.as_deref().unwrap_or_default());
        }
        let grants = Arc::new(grants);
        self.namespaces.write().insert(namespace.to_owned(), grants.clone());
        Some(grants)
    }

    /// Decides for anybody.
    pub fn authorize(&self, state: &impl Lookup, user: &User, asked: &Attributes) -> Decision {
        let mut missing: Vec<&str> = Vec::new();
        let local = self.namespace(state, &asked.namespace);
        let local = local.iter().flat_map(|grants| grants.of(user));
        for grant in self.cluster(state).of(user).chain(local) {
            if let Found::Missing(role) = &grant.role
                && !missing.contains(&role.as_str())
            {
                missing.push(role);
            }
            if grant.rules().iter().any(|rule| rule::grants(rule, asked)) {
                return Decision::Allow(grant.reason.clone());
            }
        }
        Decision::Deny(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// All grants of `user` in `namespace` (empty: the cluster).
    pub fn granted(&self, state: &impl Lookup, user: &User, namespace: &str) -> Vec<Arc<Grant>> {
        let local = self.namespace(state, namespace);
        self.cluster(state).of(user).chain(local.iter().flat_map(|grants| grants.of(user))).cloned().collect()
    }
}

fn find(state: &impl Lookup, role: &RoleRef, namespace: &str) -> Found {
    let found = match role.kind.as_str() {
        "ClusterRole" => state.get::<ClusterRole>("", &role.name).map(Found::Cluster),
        "Role" if !namespace.is_empty() => state.get::<Role>(namespace, &role.name).map(Found::Local),
        _ => None,
    };
    found.unwrap_or_else(|| Found::Missing(format!("{}.rbac.authorization.k8s.io {:?} not found", role.kind.to_lowercase(), role.name)))
}

/// Whether a selector object selects these labels; an operator that is not known selects nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|term| {
            let value = labels.get(&term.key);
            let listed = || value.is_some_and(|v| term.values.iter().flatten().any(|w| w == v));
            match term.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::super::lookup::memory::Memory;
    use super::*;

    const ROLES: &str = "
metadata: {name: reader}
rules:
- {apiGroups: [''], resources: [pods, pods/log], verbs: [get, list]}
- {apiGroups: [''], resources: [secrets], resourceNames: [one], verbs: [get]}
- {nonResourceURLs: [/metrics, /logs/*], verbs: [get]}
---
metadata: {name: scaler}
rules: [{apiGroups: ['*'], resources: ['*/scale'], verbs: ['*']}]
";
    const CLUSTER: &str = "
metadata: {name: a}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: User, name: ann}, {kind: ServiceAccount, namespace: kube, name: sa}]
---
metadata: {name: b}
roleRef: {kind: ClusterRole, name: scaler}
subjects: [{kind: Group, name: scalers}]
---
metadata: {name: c}
roleRef: {kind: ClusterRole, name: gone}
subjects: [{kind: User, name: lost}]
";
    const LOCAL: &str = "
metadata: {name: d, namespace: ns}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: User, name: bob}, {kind: ServiceAccount, name: here}]
---
metadata: {name: e, namespace: ns}
roleRef: {kind: Role, name: editor}
subjects: [{kind: User, name: bob}]
";
    const ROLE: &str = "
metadata: {name: editor, namespace: ns}
rules: [{apiGroups: [apps], resources: ['*'], verbs: [update]}]
";

    fn state() -> Memory {
        Memory::default().with::<ClusterRole>(ROLES).with::<ClusterRoleBinding>(CLUSTER).with::<RoleBinding>(LOCAL).with::<Role>(ROLE)
    }

    /// `USER VERB GROUP/RESOURCE[/SUB] NAMESPACE/NAME` or `USER VERB PATH -`.
    fn check(question: &str, want: bool) {
        let [name, verb, what, place] = question.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let user = match name {
            "scalers" => User { name: "x".into(), groups: vec![name.into()], ..User::default() },
            _ => User { name: name.into(), ..User::default() },
        };
        let mut asked = Attributes { verb: verb.into(), ..Attributes::default() };
        if place == "-" {
            asked.path = what.into();
        } else {
            let mut parts = what.split('/').map(String::from);
            asked.group = parts.next().unwrap();
            asked.resource = parts.next().unwrap();
            asked.subresource = parts.next().unwrap_or_default();
            let (namespace, object) = place.split_once('/').unwrap();
            (asked.namespace, asked.name) = (namespace.into(), object.into());
        }
        assert_eq!(Index::default().authorize(&state(), &user, &asked).allowed(), want, "{question}");
    }

    #[test]
    fn who_may_what() {
        for (question, want) in [
            ("ann get /pods ns/a", true),
            ("ann list /pods /", true),
            ("ann get /pods/log ns/a", true),
            ("ann get /pods/exec ns/a", false),
            ("ann delete /pods ns/a", false),
            ("ann get apps/pods ns/a", false),
            ("ann get /secrets ns/one", true),
            ("ann get /secrets ns/two", false),
            ("ann list /secrets ns/", false),
            ("ann get /metrics -", true),
            ("ann get /metrics/x -", false),
            ("ann get /logs/x -", true),
            ("bob get /metrics -", false),
            ("bob get /pods ns/a", true),
            ("bob get /pods other/a", false),
            ("bob list /pods /", false),
            ("bob update apps/deployments ns/a", true),
            ("bob update apps/deployments/status ns/a", true),
            ("system:serviceaccount:kube:sa get /pods ns/a", true),
            ("system:serviceaccount:ns:here get /pods ns/a", true),
            ("system:serviceaccount:other:here get /pods ns/a", false),
            ("scalers update apps/deployments/scale ns/a", true),
            ("scalers update apps/deployments ns/a", false),
            ("nobody get /pods ns/a", false),
        ] {
            check(question, want);
        }
    }

    #[test]
    fn a_missing_role_is_named() {
        let user = User { name: "lost".into(), ..User::default() };
        let asked = Attributes { verb: "get".into(), resource: "pods".into(), ..Attributes::default() };
        let want = r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#;
        assert_eq!(Index::default().authorize(&state(), &user, &asked), Decision::Deny(want.into()));
    }

    #[test]
    fn a_grant_is_named_in_full() {
        let user = User { name: "system:serviceaccount:ns:here".into(), ..User::default() };
        let asked = Attributes { verb: "get".into(), resource: "pods".into(), namespace: "ns".into(), ..Attributes::default() };
        let want = r#"RBAC: allowed by RoleBinding "d/ns" of ClusterRole "reader" to ServiceAccount "here/ns""#;
        let index = Index::default();
        assert_eq!(index.authorize(&state(), &user, &asked), Decision::Allow(want.into()));
        assert_eq!(index.granted(&state(), &user, "ns").len(), 1);
        let made_up = Attributes { namespace: "made-up".into(), ..asked };
        assert!(!index.authorize(&state(), &user, &made_up).allowed());
        assert_eq!(index.namespaces.read().len(), 1, "what has no bindings is not remembered");
    }

    #[test]
    fn selectors_of_labels() {
        let labels = BTreeMap::from([("to".to_owned(), "total".to_owned())]);
        for (selector, want) in [
            ("{matchLabels: {to: total}}", true),
            ("{matchLabels: {to: x}}", false),
            ("{matchExpressions: [{key: to, operator: In, values: [total]}]}", true),
            ("{matchExpressions: [{key: to, operator: NotIn, values: [total]}]}", false),
            ("{matchExpressions: [{key: to, operator: Like, values: [total]}]}", false),
            ("{}", true),
        ] {
            assert_eq!(selects(&serde_yaml::from_str(selector).unwrap(), &labels), want, "{selector}");
        }
    }
}
