//! Role based access control, evaluated over one snapshot.
//!
//! Words: a *subject* is whom a binding names; a *rule* grants verbs on resources or paths. Rules only ever grant.
//!
//! Follows upstream's `pkg/registry/rbac/validation/rule.go` and `plugin/pkg/auth/authorizer/rbac`. Aggregated ClusterRoles are evaluated
//! through their selectors, so that no controller has to copy rules first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::authz::{Attributes, Decision};
use super::lookup::Lookup;
use crate::server::registry::User;

/// Decides for anybody.
pub fn authorize(state: &impl Lookup, user: &User, asked: &Attributes) -> Decision {
    let mut missing = Vec::new();
    let mut allowed = None;
    visit(state, user, &asked.namespace, &mut |source, rule| {
        match rule {
            Ok(rule) if allowed.is_none() && grants(rule, asked) => allowed = Some(format!("RBAC: allowed by {source}")),
            Ok(_) => {}
            Err(role) => missing.push(role),
        }
        allowed.is_none()
    });
    match allowed {
        Some(reason) => Decision::Allow(reason),
        None if missing.is_empty() => Decision::Deny(String::new()),
        None => Decision::Deny(format!("RBAC: {} not found", missing.join(", "))),
    }
}

/// All rules that apply to `user` in `namespace` (empty: the cluster).
pub fn rules_of(state: &impl Lookup, user: &User, namespace: &str) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    visit(state, user, namespace, &mut |_, rule| {
        rules.extend(rule.ok().cloned());
        true
    });
    rules
}

/// Calls `each` with every rule that applies, and with the name of every role that a binding names in vain, until it returns false.
fn visit(state: &impl Lookup, user: &User, namespace: &str, each: &mut dyn FnMut(&str, Result<&PolicyRule, String>) -> bool) {
    for binding in state.list::<ClusterRoleBinding>(None) {
        if applies(&binding.subjects, user, "") {
            let source = format!("ClusterRoleBinding {:?}", binding.metadata.name.as_deref().unwrap_or_default());
            if !walk(state, &binding.role_ref, "", &source, each) {
                return;
            }
        }
    }
    if namespace.is_empty() {
        return;
    }
    for binding in state.list::<RoleBinding>(Some(namespace)) {
        if applies(&binding.subjects, user, namespace) {
            let source = format!("RoleBinding \"{}/{namespace}\"", binding.metadata.name.as_deref().unwrap_or_default());
            if !walk(state, &binding.role_ref, namespace, &source, each) {
                return;
            }
        }
    }
}

fn walk(
    state: &impl Lookup,
    role: &RoleRef,
    namespace: &str,
    source: &str,
    each: &mut dyn FnMut(&str, Result<&PolicyRule, String>) -> bool,
) -> bool {
    let rules = match role.kind.as_str() {
        "ClusterRole" => state.get::<ClusterRole>("", &role.name).map(|found| cluster_rules(state, found)),
        "Role" if !namespace.is_empty() => state.get::<Role>(namespace, &role.name).map(|found| found.rules.clone().unwrap_or_default()),
        _ => None,
    };
    let Some(rules) = rules else {
        return each(source, Err(format!("{}.rbac.authorization.k8s.io {:?}", role.kind.to_lowercase(), role.name)));
    };
    let source = format!("{source} of {} {:?}", role.kind, role.name);
    rules.iter().all(|rule| each(&source, Ok(rule)))
}

/// The rules of a ClusterRole with those of all roles that it aggregates, each role once.
fn cluster_rules(state: &impl Lookup, role: Arc<ClusterRole>) -> Vec<PolicyRule> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![role];
    let mut rules = Vec::new();
    while let Some(role) = todo.pop() {
        if !seen.insert(role.metadata.name.clone()) {
            continue;
        }
        rules.extend(role.rules.iter().flatten().cloned());
        let Some(selectors) = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref()) else { continue };
        let empty = BTreeMap::new();
        todo.extend(state.list::<ClusterRole>(None).into_iter().filter(|other| {
            let labels = other.metadata.labels.as_ref().unwrap_or(&empty);
            selectors.iter().any(|selector| selects(selector, labels))
        }));
    }
    rules
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

fn applies(subjects: &Option<Vec<Subject>>, user: &User, namespace: &str) -> bool {
    subjects.iter().flatten().any(|subject| match subject.kind.as_str() {
        "User" => subject.name == user.name,
        "Group" => user.groups.contains(&subject.name),
        "ServiceAccount" => {
            let home = subject.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
            !home.is_empty() && user.name == format!("system:serviceaccount:{home}:{}", subject.name)
        }
        _ => false,
    })
}

fn has(list: &Option<Vec<String>>, wanted: &str) -> bool {
    list.iter().flatten().any(|entry| entry == "*" || entry == wanted)
}

/// Whether one rule grants what is asked.
fn grants(rule: &PolicyRule, asked: &Attributes) -> bool {
    if !rule.verbs.iter().any(|verb| verb == "*" || *verb == asked.verb) {
        return false;
    }
    if asked.resource.is_empty() {
        return rule.non_resource_urls.iter().flatten().any(|url| match url.strip_suffix('*') {
            Some(prefix) => asked.path.starts_with(prefix),
            None => *url == asked.path,
        });
    }
    let full = asked.full_resource();
    let any_with_subresource = format!("*/{}", asked.subresource);
    let resource = rule
        .resources
        .iter()
        .flatten()
        .any(|entry| entry == "*" || *entry == full || (!asked.subresource.is_empty() && *entry == any_with_subresource));
    let named = rule.resource_names.as_ref().is_none_or(|names| names.is_empty() || names.contains(&asked.name));
    resource && named && has(&rule.api_groups, &asked.group)
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
metadata: {name: scaler, labels: {to: sum}}
rules: [{apiGroups: ['*'], resources: ['*/scale'], verbs: ['*']}]
---
metadata: {name: sum, labels: {to: total}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: sum}}]}
---
metadata: {name: total}
aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: to, operator: In, values: [total]}]}]}
";
    const CLUSTER: &str = "
metadata: {name: a}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: User, name: ann}, {kind: ServiceAccount, namespace: kube, name: sa}]
---
metadata: {name: b}
roleRef: {kind: ClusterRole, name: total}
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
        assert_eq!(authorize(&state(), &user, &asked).allowed(), want, "{question}");
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
        assert_eq!(authorize(&state(), &user, &asked), Decision::Deny(want.into()));
    }

    #[test]
    fn rules_are_listed_once_per_aggregation() {
        let user = User { groups: vec!["scalers".into()], ..User::default() };
        assert_eq!(rules_of(&state(), &user, "ns").len(), 1);
    }

    /// The roles that every cluster starts with decode, and every binding names one of them.
    #[test]
    fn bootstrap_manifests_are_whole() {
        let text = include_str!("../../../manifests/rbac.yaml");
        let (mut roles, mut named) = (BTreeSet::new(), Vec::new());
        for document in serde_yaml::Deserializer::from_str(text) {
            let value = <serde_yaml::Value as serde::Deserialize>::deserialize(document).unwrap();
            match value["kind"].as_str().unwrap() {
                "ClusterRole" => {
                    let role: ClusterRole = serde_yaml::from_value(value).unwrap();
                    assert!(roles.insert(role.metadata.name.unwrap()));
                }
                "ClusterRoleBinding" => named.push(serde_yaml::from_value::<ClusterRoleBinding>(value).unwrap().role_ref.name),
                "Role" => drop(serde_yaml::from_value::<Role>(value).unwrap()),
                "RoleBinding" => drop(serde_yaml::from_value::<RoleBinding>(value).unwrap()),
                other => panic!("unexpected kind {other}"),
            }
        }
        assert!(roles.contains("cluster-admin") && roles.contains("view"));
        assert!(named.iter().all(|name| roles.contains(name)), "{named:?}");
    }
}
