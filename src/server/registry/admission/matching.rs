//! Which requests the rules and selectors of webhooks and admission policies are about.
//!
//! Words: a *rule* names operations, groups, versions, resources and a scope; a match is *equivalent* when a rule names another version of
//! what the request is about, and then the hook is shown the object in the version that it knows.
//!
//! Follows upstream's `apiserver/pkg/admission/plugin/webhook/predicates` and `plugin/policy/matching`. Pure: a function of the
//! request and its snapshot.

use std::borrow::Cow;

use k8s_openapi::api::admissionregistration::v1::{MatchResources, NamedRuleWithOperations, RuleWithOperations};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::{Operation, Request};
use crate::api::selector::LabelSelector;
use crate::api::{Key, Status};
use crate::server::registry::KindRef;
use crate::server::registry::strategy::Subresource;

/// The kinds of admissionregistration.k8s.io that no hook and no policy is asked about, or nobody could mend a broken one.
const EXEMPT: &[&str] = &[
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Whether hooks and policies are never asked about this resource.
pub(super) fn is_exempt(group: &str, resource: &str) -> bool {
    group == "admissionregistration.k8s.io" && EXEMPT.contains(&resource)
}

/// What a request is about, as rules see it.
#[derive(Clone, Debug)]
struct About<'a> {
    operation: &'static str,
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    /// Of a Namespace, its own name.
    namespace: Cow<'a, str>,
    name: Cow<'a, str>,
}

impl Operation {
    /// As rules and reviews write it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// One rule, with the names that it is limited to (policies only; none: all).
#[derive(Clone, Debug, Default)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
    names: Vec<String>,
}

impl From<&RuleWithOperations> for Rule {
    fn from(rule: &RuleWithOperations) -> Rule {
        let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        Rule {
            operations: all(&rule.operations),
            groups: all(&rule.api_groups),
            versions: all(&rule.api_versions),
            resources: all(&rule.resources),
            scope: rule.scope.clone(),
            names: Vec::new(),
        }
    }
}

impl From<&NamedRuleWithOperations> for Rule {
    fn from(rule: &NamedRuleWithOperations) -> Rule {
        let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        Rule {
            operations: all(&rule.operations),
            groups: all(&rule.api_groups),
            versions: all(&rule.api_versions),
            resources: all(&rule.resources),
            scope: rule.scope.clone(),
            names: all(&rule.resource_names),
        }
    }
}

impl Rule {
    fn matches(&self, about: &About<'_>) -> bool {
        let any = |list: &[String], asked: &str| list.iter().any(|item| item == "*" || item == asked);
        self.in_scope(about)
            && any(&self.operations, about.operation)
            && any(&self.groups, about.group)
            && any(&self.versions, about.version)
            && self.resources.iter().any(|pattern| covers(pattern, about.resource, about.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| *name == about.name))
    }

    /// Whether it might match another version of the same resource.
    fn could_match(&self, about: &About<'_>) -> bool {
        self.operations.iter().any(|operation| operation == "*" || operation == about.operation)
            && self.resources.iter().any(|pattern| covers(pattern, about.resource, about.subresource))
    }

    fn in_scope(&self, about: &About<'_>) -> bool {
        // Namespaces are cluster-scoped although their requests have a namespace.
        let cluster = about.namespace.is_empty() || (about.group.is_empty() && about.resource == "namespaces");
        match self.scope.as_deref() {
            Some("Namespaced") => !cluster,
            Some("Cluster") => cluster,
            _ => true,
        }
    }
}

/// `pods`, `pods/*` (with the object itself, as upstream), `*/scale`, `*` (all resources, but no subresource).
fn covers(pattern: &str, resource: &str, subresource: &str) -> bool {
    let (wanted, part) = pattern.split_once('/').unwrap_or((pattern, ""));
    (wanted == "*" || wanted == resource) && (part == "*" || part == subresource)
}

/// Compiled rules and selectors.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether having no rule at all means everything (policy bindings), else nothing.
    unruled: bool,
    equivalent: bool,
    /// An error is told to whoever the rules match, as upstream.
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

/// What a [`Matcher`] says of a request that it matches.
#[derive(Clone, Debug)]
pub(super) enum Matched {
    /// A rule names the version of the request.
    AsRequested,
    /// A rule names this other version; the object is to be shown in it.
    As(KindRef),
}

impl Matcher {
    /// Of a webhook.
    pub(super) fn webhook(
        rules: Option<&[RuleWithOperations]>,
        match_policy: Option<&str>,
        namespaces: Option<&meta::LabelSelector>,
        objects: Option<&meta::LabelSelector>,
    ) -> Matcher {
        Matcher {
            rules: rules.unwrap_or_default().iter().map(Rule::from).collect(),
            excluded: Vec::new(),
            unruled: false,
            equivalent: match_policy == Some("Equivalent"),
            namespaces: selector(namespaces),
            objects: selector(objects),
        }
    }

    /// Of a policy's constraints, or of a binding's.
    pub(super) fn policy(constraints: &MatchResources) -> Matcher {
        let all = |rules: &Option<Vec<NamedRuleWithOperations>>| rules.iter().flatten().map(Rule::from).collect();
        Matcher {
            rules: all(&constraints.resource_rules),
            excluded: all(&constraints.exclude_resource_rules),
            unruled: true,
            equivalent: constraints.match_policy.as_deref() != Some("Exact"),
            namespaces: selector(constraints.namespace_selector.as_ref()),
            objects: selector(constraints.object_selector.as_ref()),
        }
    }

    /// Whether the request is meant. The error is that a selector can't be evaluated.
    pub(super) fn matches(&self, request: &Request<'_>) -> Result<Option<Matched>, Status> {
        let about = about(request);
        if self.find(&self.excluded, request, &about).is_some() {
            return Ok(None);
        }
        let found = match self.unruled && self.rules.is_empty() {
            true => Some(Matched::AsRequested),
            false => self.find(&self.rules, request, &about),
        };
        // Whoever no rule names is not told of broken selectors either.
        let Some(found) = found else { return Ok(None) };
        let matches = self.namespace_matches(request, &about)? && self.object_matches(request)?;
        Ok(matches.then_some(found))
    }

    fn find(&self, rules: &[Rule], request: &Request<'_>, about: &About<'_>) -> Option<Matched> {
        if rules.iter().any(|rule| rule.matches(about)) {
            return Some(Matched::AsRequested);
        }
        // Equivalents share their resource's name, so that for most requests there is nothing to look for.
        if !self.equivalent || !rules.iter().any(|rule| rule.could_match(about)) {
            return None;
        }
        let others = equivalents(request);
        // Earlier rules are honoured first.
        rules.iter().find_map(|rule| {
            let named = |kind: &&KindRef| {
                rule.matches(&About { group: kind.group(), version: kind.version(), resource: kind.resource(), ..about.clone() })
            };
            others.iter().find(named).cloned().map(Matched::As)
        })
    }

    fn namespace_matches(&self, request: &Request<'_>, about: &About<'_>) -> Result<bool, Status> {
        let is_namespace = about.resource == "namespaces" && about.group.is_empty();
        if about.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && about.subresource.is_empty() && writes {
            return Ok(selector.matches(request.object.meta().labels.as_ref()));
        }
        let entry = request.snapshot.get(&Key::of::<Namespace>("", &about.namespace));
        let entry = entry.ok_or_else(|| Status::not_found("", "namespaces", &about.namespace))?;
        Ok(selector.matches(entry.meta().labels.as_ref()))
    }

    fn object_matches(&self, request: &Request<'_>) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        // What is no object has no labels that could be selected, not even by their absence.
        if request.operation == Operation::Connect {
            return Ok(false);
        }
        let old = || request.old.is_some_and(|old| selector.matches(old.meta().labels.as_ref()));
        let new = request.operation != Operation::Delete && selector.matches(request.object.meta().labels.as_ref());
        Ok(new || old())
    }
}

fn selector(selector: Option<&meta::LabelSelector>) -> Result<LabelSelector, String> {
    match selector {
        None => Ok(LabelSelector::default()),
        some => LabelSelector::from_api(some).map_err(|error| error.to_string()),
    }
}

fn about<'a>(request: &'a Request<'_>) -> About<'a> {
    let kind = request.kind;
    About {
        operation: request.operation.as_str(),
        group: kind.group(),
        version: kind.version(),
        resource: kind.resource(),
        subresource: request.subresource(),
        namespace: request.namespace_asked().into(),
        name: request.name_asked().into(),
    }
}

/// The other served versions of what the request is about that have the same subresource.
fn equivalents(request: &Request<'_>) -> Vec<KindRef> {
    let part = match request.subresource() {
        "" => None,
        "status" => Some(Subresource::Status),
        "scale" => Some(Subresource::Scale),
        // Subresources with a meaning of their own exist in one version only.
        _ => return Vec::new(),
    };
    let mut others = request.registry.versions_of(request.kind);
    others.retain(|kind| kind.names() != request.kind.names() && part.is_none_or(|part| kind.info.subresources.contains(&part)));
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources() {
        for (pattern, resource, subresource, want) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/*", "pods", "status", true),
            ("pods/*", "pods", "", true),
            ("pods/log", "pods", "exec", false),
            ("*", "pods", "", true),
            ("*", "pods", "status", false),
            ("*/*", "pods", "status", true),
            ("*/scale", "deployments", "scale", true),
            ("*/*", "pods", "", true),
        ] {
            assert_eq!(covers(pattern, resource, subresource), want, "{pattern} {resource}/{subresource}");
        }
    }

    #[test]
    fn rules() {
        let pod = |namespace: &'static str| About {
            operation: "CREATE",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: namespace.into(),
            name: "p".into(),
        };
        let namespace = About { resource: "namespaces", ..pod("n") };
        let node = About { resource: "nodes", ..pod("") };
        let rule = |text: &str| -> Rule {
            let base = "operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: ['*']";
            let rule: NamedRuleWithOperations = serde_yaml::from_str(&format!("{{{base}, {text}}}")).expect("a test rule");
            Rule::from(&rule)
        };
        for (text, about, want) in [
            ("scope: '*'", &pod("n"), true),
            ("scope: Namespaced", &pod("n"), true),
            ("scope: Cluster", &pod("n"), false),
            ("scope: Namespaced", &namespace, false),
            ("scope: Cluster", &namespace, true),
            ("scope: Namespaced", &node, false),
            ("scope: Cluster", &node, true),
            ("resourceNames: [p]", &pod("n"), true),
            ("resourceNames: [q]", &pod("n"), false),
        ] {
            assert_eq!(rule(text).matches(about), want, "{text} {about:?}");
        }
        let other = About { operation: "DELETE", ..pod("n") };
        assert!(!rule("scope: '*'").matches(&other));
        let other = About { version: "v2", ..pod("n") };
        assert!(!rule("scope: '*'").matches(&other));
    }

    #[test]
    fn exempt_kinds() {
        assert!(is_exempt("admissionregistration.k8s.io", "mutatingwebhookconfigurations"));
        assert!(!is_exempt("", "mutatingwebhookconfigurations") && !is_exempt("apps", "deployments"));
    }
}
