//! The roles and bindings that every cluster has: read from the table `manifests/rbac.txt`, and how an old cluster's are brought up to it.
//!
//! Follows upstream's `component-helpers/auth/rbac/reconciliation`: what is missing is added, what an administrator added stays, and an
//! object that says `autoupdate: "false"` is left alone.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::server::auth::rbac::rule;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Says that an object may be put right at each start.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Everything in the table.
#[derive(Default)]
pub(super) struct Policy {
    pub cluster_roles: Vec<ClusterRole>,
    pub roles: Vec<Role>,
    pub cluster_bindings: Vec<ClusterRoleBinding>,
    pub bindings: Vec<RoleBinding>,
}

fn meta(namespace: Option<&str>, name: &str) -> ObjectMeta {
    let one = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    ObjectMeta {
        name: Some(name.into()),
        namespace: namespace.map(String::from),
        labels: one("kubernetes.io/bootstrapping", "rbac-defaults"),
        annotations: one(AUTOUPDATE, "true"),
        ..ObjectMeta::default()
    }
}

fn place(text: &str) -> (Option<&str>, &str) {
    text.split_once('/').map_or((None, text), |(namespace, name)| (Some(namespace), name))
}

fn aggregate_label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

fn verbs(text: &str) -> Vec<String> {
    let named = match text {
        "read" => "get,list,watch",
        "write" => "create,delete,deletecollection,patch,update",
        "readwrite" => "create,delete,deletecollection,get,list,patch,update,watch",
        other => other,
    };
    named.split(',').map(String::from).collect()
}

fn list(text: &str) -> Option<Vec<String>> {
    Some(text.split(',').map(|word| if word == "core" { String::new() } else { word.to_owned() }).collect())
}

fn subject(text: &str) -> Option<Subject> {
    let (kind, name) = text.split_once('=')?;
    let group = Some(GROUP.to_owned());
    Some(match kind {
        "user" => Subject { kind: "User".into(), name: name.into(), api_group: group, namespace: None },
        "group" => Subject { kind: "Group".into(), name: name.into(), api_group: group, namespace: None },
        "account" => {
            let (namespace, name) = name.split_once('/')?;
            Subject { kind: "ServiceAccount".into(), name: name.into(), api_group: None, namespace: Some(namespace.into()) }
        }
        _ => return None,
    })
}

impl Policy {
    /// The table.
    pub fn shipped() -> Policy {
        Policy::parse(include_str!("../../../manifests/rbac.txt")).unwrap_or_else(|line| panic!("manifests/rbac.txt is wrong: {line}"))
    }

    /// Reads the table; the error is the line that can't be read.
    fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        let mut local = false;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (line.starts_with(' '), words.as_slice()) {
                (true, rule) => policy.detail(local, rule).ok_or(line)?,
                (false, ["role", name]) => {
                    let (namespace, name) = place(name);
                    local = namespace.is_some();
                    policy.role(namespace, name);
                }
                (false, ["controller", name]) => {
                    local = false;
                    let role = format!("system:controller:{name}");
                    policy.role(None, &role);
                    policy.bind(None, &role, &role, &[&format!("account=kube-system/{name}")]).ok_or(line)?;
                }
                (false, ["bind", name, role, subjects @ ..]) => {
                    let (namespace, name) = place(name);
                    policy.bind(namespace, name, role, subjects).ok_or(line)?;
                }
                _ => return Err(line.into()),
            }
        }
        Ok(policy)
    }

    fn role(&mut self, namespace: Option<&str>, name: &str) {
        match namespace {
            Some(_) => self.roles.push(Role { metadata: meta(namespace, name), rules: Some(Vec::new()) }),
            None => self.cluster_roles.push(ClusterRole { metadata: meta(None, name), rules: Some(Vec::new()), aggregation_rule: None }),
        }
    }

    /// An indented line: it belongs to the newest role.
    fn detail(&mut self, local: bool, words: &[&str]) -> Option<()> {
        if local {
            self.roles.last_mut()?.rules.get_or_insert_default().push(policy_rule(words)?);
            return Some(());
        }
        let role = self.cluster_roles.last_mut()?;
        match words {
            ["aggregates", to] => {
                let labels = Some(BTreeMap::from([(aggregate_label(to), "true".to_owned())]));
                let selector = LabelSelector { match_labels: labels, match_expressions: None };
                role.aggregation_rule = Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) });
            }
            ["label", to] => drop(role.metadata.labels.get_or_insert_default().insert(aggregate_label(to), "true".into())),
            words => role.rules.get_or_insert_default().push(policy_rule(words)?),
        }
        Some(())
    }

    fn bind(&mut self, namespace: Option<&str>, name: &str, role: &str, subjects: &[&str]) -> Option<()> {
        let subjects = subjects.iter().map(|text| subject(text)).collect::<Option<Vec<_>>>()?;
        let subjects = Some(subjects).filter(|list| !list.is_empty());
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let role_ref = RoleRef { api_group: Some(GROUP.into()), kind: kind.into(), name: role.into() };
        match namespace {
            Some(_) => self.bindings.push(RoleBinding { metadata: meta(namespace, name), role_ref, subjects }),
            None => self.cluster_bindings.push(ClusterRoleBinding { metadata: meta(None, name), role_ref, subjects }),
        }
        Some(())
    }
}

fn policy_rule(words: &[&str]) -> Option<PolicyRule> {
    Some(match words {
        [actions, "url", paths] => PolicyRule { verbs: verbs(actions), non_resource_urls: list(paths), ..PolicyRule::default() },
        [actions, groups, resources, names @ ..] if names.len() < 2 => PolicyRule {
            verbs: verbs(actions),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: names.first().and_then(|names| list(names)),
            non_resource_urls: None,
        },
        _ => return None,
    })
}

/// Adds the labels and annotations that are missing. `None`: the object is not ours to change.
fn merge_meta(present: &mut ObjectMeta, wanted: &ObjectMeta) -> Option<bool> {
    let annotations = present.annotations.get_or_insert_default();
    if annotations.get(AUTOUPDATE).is_some_and(|value| value != "true") {
        return None;
    }
    let mut changed = false;
    for (here, there) in [(annotations, &wanted.annotations), (present.labels.get_or_insert_default(), &wanted.labels)] {
        for (key, value) in there.iter().flatten() {
            changed |= here.insert(key.clone(), value.clone()).as_ref() != Some(value);
        }
    }
    Some(changed)
}

/// Adds the rules that are missing.
fn merge_rules(present: &mut Option<Vec<PolicyRule>>, wanted: &Option<Vec<PolicyRule>>) -> bool {
    let held: Vec<&PolicyRule> = present.iter().flatten().collect();
    let missing = rule::missing(&held, wanted.as_deref().unwrap_or_default());
    let changed = !missing.is_empty();
    present.get_or_insert_default().extend(missing);
    changed
}

fn merge_subjects(present: &mut Option<Vec<Subject>>, wanted: &Option<Vec<Subject>>) -> bool {
    let here = present.get_or_insert_default();
    let missing: Vec<Subject> = wanted.iter().flatten().filter(|subject| !here.contains(subject)).cloned().collect();
    here.extend_from_slice(&missing);
    !missing.is_empty()
}

/// What must be done about an object that is there.
#[derive(Debug, PartialEq)]
pub(super) enum Repair<T> {
    /// Nothing.
    None,
    /// Write this.
    Update(T),
    /// The role of a binding can't change: remove it and write the wanted one.
    Replace,
}

/// A kind of the table.
pub(super) trait Reconciled: Clone {
    /// From what is there and what should be.
    fn repair(&self, wanted: &Self) -> Repair<Self>;
}

macro_rules! reconciled_role {
    ($type:ty, |$present:ident, $wanted:ident| $more:expr) => {
        impl Reconciled for $type {
            fn repair(&self, $wanted: &Self) -> Repair<Self> {
                let mut $present = self.clone();
                let Some(mut changed) = merge_meta(&mut $present.metadata, &$wanted.metadata) else { return Repair::None };
                changed |= $more;
                if changed { Repair::Update($present) } else { Repair::None }
            }
        }
    };
}

reconciled_role!(Role, |present, wanted| merge_rules(&mut present.rules, &wanted.rules));
reconciled_role!(ClusterRole, |present, wanted| match &wanted.aggregation_rule {
    // Its rules are the aggregation controller's.
    Some(rule) => {
        let selectors = present.aggregation_rule.get_or_insert_default().cluster_role_selectors.get_or_insert_default();
        let missing: Vec<_> = rule.cluster_role_selectors.iter().flatten().filter(|s| !selectors.contains(s)).cloned().collect();
        selectors.extend_from_slice(&missing);
        !missing.is_empty()
    }
    None => merge_rules(&mut present.rules, &wanted.rules),
});

macro_rules! reconciled_binding {
    ($type:ty) => {
        impl Reconciled for $type {
            fn repair(&self, wanted: &Self) -> Repair<Self> {
                let mut present = self.clone();
                let Some(changed) = merge_meta(&mut present.metadata, &wanted.metadata) else { return Repair::None };
                if present.role_ref != wanted.role_ref {
                    return Repair::Replace;
                }
                if merge_subjects(&mut present.subjects, &wanted.subjects) | changed { Repair::Update(present) } else { Repair::None }
            }
        }
    };
}

reconciled_binding!(RoleBinding);
reconciled_binding!(ClusterRoleBinding);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_whole() {
        let policy = Policy::shipped();
        let name = |meta: &ObjectMeta| (meta.namespace.clone(), meta.name.clone().unwrap());
        let cluster: BTreeSet<_> = policy.cluster_roles.iter().map(|role| name(&role.metadata).1).collect();
        assert_eq!(cluster.len(), policy.cluster_roles.len(), "no role twice");
        for binding in &policy.cluster_bindings {
            assert!(cluster.contains(&binding.role_ref.name), "{}", binding.role_ref.name);
        }
        let local: BTreeSet<_> = policy.roles.iter().map(|role| name(&role.metadata)).collect();
        for binding in &policy.bindings {
            assert!(local.contains(&(binding.metadata.namespace.clone(), binding.role_ref.name.clone())), "{}", binding.role_ref.name);
        }
        for role in &policy.cluster_roles {
            assert!(role.aggregation_rule.is_some() || !role.rules.as_ref().unwrap().is_empty(), "{:?}", role.metadata.name);
        }
        let edit = policy.cluster_roles.iter().find(|role| role.metadata.name.as_deref() == Some("edit")).unwrap();
        assert_eq!(edit.metadata.labels.as_ref().unwrap()["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
        assert!(Policy::parse("role a\n  get").is_err() && Policy::parse("roll a").is_err() && Policy::parse("bind a b c=d").is_err());
    }

    #[test]
    fn what_is_missing_comes_back_and_what_was_added_stays() {
        let wanted = Policy::parse("role a\n  get core pods\n  label edit\nbind b a user=x").unwrap();
        let (role, binding) = (&wanted.cluster_roles[0], &wanted.cluster_bindings[0]);
        assert_eq!(role.repair(role), Repair::None);
        let mut changed = role.clone();
        changed.rules = Some(vec![policy_rule(&["list", "core", "nodes"]).unwrap()]);
        changed.metadata.labels = None;
        let Repair::Update(repaired) = changed.repair(role) else { panic!("it lacks a rule") };
        assert_eq!(repaired.rules.as_ref().map(Vec::len), Some(2));
        assert_eq!(repaired.metadata.labels, role.metadata.labels);
        changed.metadata.annotations = Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "false".to_owned())]));
        assert_eq!(changed.repair(role), Repair::None);
        let mut other = binding.clone();
        other.subjects = subject("user=y").map(|subject| vec![subject]);
        assert!(matches!(other.repair(binding), Repair::Update(b) if b.subjects.as_ref().map(Vec::len) == Some(2)));
        other.role_ref.name = "else".into();
        assert_eq!(other.repair(binding), Repair::Replace);
    }
}
