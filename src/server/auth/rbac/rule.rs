//! One rule: what it grants, what it covers, how it is shown.
//!
//! Words: a set of rules *covers* another when nobody gains anything by getting the other too.
//!
//! Follows upstream's `pkg/apis/rbac/v1/evaluation_helpers.go`, `component-helpers/auth/rbac/validation/policy_comparator.go` and
//! `pkg/registry/rbac/validation/policy_compact.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::super::authz::Attributes;

/// Most single permissions of one role that are looked at. A role with more is refused rather than multiplied out for minutes.
const MAX_PERMISSIONS: usize = 1_000_000;
/// Most missing permissions that are listed.
const MAX_MISSING: usize = 2_000;

type Names = Option<Vec<String>>;

fn list(names: &Names) -> &[String] {
    names.as_deref().unwrap_or_default()
}

fn has(names: &[String], wanted: &str) -> bool {
    names.iter().any(|name| name == "*" || name == wanted)
}

/// Whether a path pattern (exact, or with a trailing `*`) holds for `path`, which may itself be a pattern.
fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

/// `*/SUB` written as a pattern of resources.
fn any_with(pattern: &str, subresource: &str) -> bool {
    pattern.strip_prefix("*/").is_some_and(|rest| rest == subresource)
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    let exact = pattern.strip_prefix(resource).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest == subresource);
    exact || any_with(pattern, subresource)
}

/// Whether one rule grants what is asked.
pub(super) fn grants(rule: &PolicyRule, asked: &Attributes) -> bool {
    if !has(&rule.verbs, &asked.verb) {
        return false;
    }
    if asked.resource.is_empty() {
        return list(&rule.non_resource_urls).iter().any(|url| path_matches(url, &asked.path));
    }
    let names = list(&rule.resource_names);
    has(list(&rule.api_groups), &asked.group)
        && list(&rule.resources).iter().any(|pattern| resource_matches(pattern, &asked.resource, &asked.subresource))
        && (names.is_empty() || names.contains(&asked.name))
}

/// One permission: the smallest piece of a rule.
#[derive(Clone, Copy, Debug)]
enum Permission<'a> {
    Resource { group: &'a str, resource: &'a str, name: Option<&'a str>, verb: &'a str },
    Path { path: &'a str, verb: &'a str },
}

fn covered(rule: &PolicyRule, wanted: Permission<'_>) -> bool {
    match wanted {
        Permission::Path { path, verb } => {
            has(&rule.verbs, verb) && list(&rule.non_resource_urls).iter().any(|pattern| path_matches(pattern, path))
        }
        Permission::Resource { group, resource, name, verb } => {
            let names = list(&rule.resource_names);
            let (plain, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            has(&rule.verbs, verb)
                && has(list(&rule.api_groups), group)
                && list(&rule.resources).iter().any(|pattern| resource_matches(pattern, plain, subresource))
                && (names.is_empty() || name.is_some_and(|name| names.iter().any(|n| n == name)))
        }
    }
}

/// Calls `each` with every permission of `rule` until it returns false.
fn permissions<'a>(rule: &'a PolicyRule, each: &mut dyn FnMut(Permission<'a>) -> bool) -> bool {
    let names = list(&rule.resource_names);
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let one = |name| Permission::Resource { group, resource, name, verb };
                let goes_on = if names.is_empty() { each(one(None)) } else { names.iter().all(|name| each(one(Some(name)))) };
                if !goes_on {
                    return false;
                }
            }
        }
    }
    list(&rule.non_resource_urls).iter().all(|path| rule.verbs.iter().all(|verb| each(Permission::Path { path, verb })))
}

/// What of `wanted` is not covered by `held`, one rule for each resource (or path and verb). Empty: all is covered.
pub fn missing(held: &[&PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut resources: BTreeMap<(&str, &str, Option<&str>), Vec<&str>> = BTreeMap::new();
    let mut paths: Vec<(&str, &str)> = Vec::new();
    let (mut seen, mut found) = (0usize, 0usize);
    for rule in wanted {
        permissions(rule, &mut |permission| {
            seen += 1;
            if seen <= MAX_PERMISSIONS && held.iter().any(|rule| covered(rule, permission)) {
                return true;
            }
            found += 1;
            match permission {
                Permission::Path { path, verb } => paths.push((path, verb)),
                Permission::Resource { group, resource, name, verb } => {
                    let verbs = resources.entry((group, resource, name)).or_default();
                    if !verbs.contains(&verb) {
                        verbs.push(verb);
                    }
                }
            }
            found < MAX_MISSING
        });
    }
    let one = |text: &str| Some(vec![text.to_owned()]);
    let paths = paths.into_iter().map(|(path, verb)| PolicyRule {
        non_resource_urls: one(path),
        verbs: vec![verb.into()],
        ..PolicyRule::default()
    });
    let resources = resources.into_iter().map(|((group, resource, name), verbs)| PolicyRule {
        api_groups: one(group),
        resources: one(resource),
        resource_names: name.and_then(one),
        verbs: verbs.into_iter().map(String::from).collect(),
        ..PolicyRule::default()
    });
    paths.chain(resources).collect()
}

/// A list as Go's `%q` shows it.
pub(super) fn quoted(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" "))
}

fn shown(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(title, names)| format!("{title}:{}", quoted(names)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

/// Rules as refusals list them: one a line, sorted.
pub(super) fn listing(rules: &[PolicyRule]) -> String {
    rules.iter().map(shown).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(yaml: &str) -> Vec<PolicyRule> {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn what_is_missing_is_listed() {
        for (held, wanted, want) in [
            ("[]", "[]", ""),
            (
                "[{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]",
                "[{apiGroups: [apps], resources: [x/y], resourceNames: [a], verbs: [get]}]",
                "",
            ),
            (
                "[{apiGroups: [''], resources: [pods], verbs: [get]}]",
                "[{apiGroups: [''], resources: [pods, secrets], verbs: [get, list, '*']}]",
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"*\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"*\"]}",
            ),
            (
                "[{apiGroups: [''], resources: [pods], resourceNames: [a], verbs: [get]}]",
                "[{apiGroups: [''], resources: [pods], resourceNames: [a, b], verbs: [get]}, {apiGroups: [''], resources: [pods], verbs: [get]}]",
                "{APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"b\"], Verbs:[\"get\"]}\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}",
            ),
            ("[{apiGroups: ['*'], resources: ['*/scale'], verbs: [get]}]", "[{apiGroups: [apps], resources: [x/scale], verbs: [get]}]", ""),
            (
                "[{nonResourceURLs: ['/logs/*'], verbs: [get]}]",
                "[{nonResourceURLs: ['/logs/a', '/logs/*', '/metrics'], verbs: [get]}]",
                "{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}",
            ),
            (
                "[{nonResourceURLs: ['*'], verbs: ['*']}]",
                "[{apiGroups: [''], resources: [pods], verbs: [get]}]",
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}",
            ),
        ] {
            let (held, wanted) = (rules(held), rules(wanted));
            assert_eq!(listing(&missing(&held.iter().collect::<Vec<_>>(), &wanted)), want, "{wanted:?}");
        }
    }

    #[test]
    fn monstrous_roles_end_soon() {
        let many = |prefix: &str| Some((0..2000).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>());
        let monster = PolicyRule { api_groups: many("g"), resources: many("r"), verbs: many("v").unwrap(), ..PolicyRule::default() };
        let all = rules("[{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]");
        assert_eq!(missing(&[&all[0]], std::slice::from_ref(&monster)).iter().map(|rule| rule.verbs.len()).sum::<usize>(), MAX_MISSING);
    }
}
