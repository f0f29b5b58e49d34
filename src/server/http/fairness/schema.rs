//! Which flow schema a request belongs to.
//!
//! Follows upstream's `util/flowcontrol/rule.go`: schemas are tried by precedence, then by name; the first whose rules fit, takes the
//! request. Compiled once per change, so that matching neither allocates nor decodes.

use std::sync::Arc;

use k8s_openapi::api::flowcontrol::v1 as api;

use crate::server::registry::User;

/// What matters of a request.
#[derive(Clone, Copy, Debug)]
pub struct Digest<'a> {
    /// Who asks.
    pub user: &'a User,
    /// Such as `list`; the lower-case method for plain paths.
    pub verb: &'a str,
    /// Whether the following four say something; else `path` does.
    pub is_resource: bool,
    /// API group.
    pub group: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// Such as `status`.
    pub subresource: &'a str,
    /// Or empty.
    pub namespace: &'a str,
    /// Or empty.
    pub name: &'a str,
    /// The path.
    pub path: &'a str,
}

/// A list of names in which `*` is everything.
enum Names {
    All,
    Some(Vec<String>),
}

impl Names {
    fn of(names: &[String]) -> Names {
        if names.iter().any(|name| name == "*") { Names::All } else { Names::Some(names.to_vec()) }
    }

    fn has(&self, wanted: &str) -> bool {
        match self {
            Names::All => true,
            Names::Some(names) => names.iter().any(|name| name == wanted),
        }
    }

    /// `resource` or `resource/subresource`, without building that.
    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        let Names::Some(names) = self else { return true };
        names.iter().any(|name| match name.split_once('/') {
            None => subresource.is_empty() && name == resource,
            Some((r, s)) => r == resource && s == subresource,
        })
    }

    /// A path, or one that ends in `/*` and means everything below.
    fn has_path(&self, path: &str) -> bool {
        let Names::Some(names) = self else { return true };
        names.iter().any(|name| match name.strip_suffix("/*") {
            Some(root) => path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')),
            None => name == path,
        })
    }
}

enum Subject {
    AnyUser,
    User(String),
    AnyGroup,
    Group(String),
    /// `system:serviceaccount:NAMESPACE:`, and a name.
    ServiceAccount(String, Option<String>),
}

impl Subject {
    fn of(subject: &api::Subject) -> Option<Subject> {
        match subject.kind.as_str() {
            "User" => subject.user.as_ref().map(|u| if u.name == "*" { Subject::AnyUser } else { Subject::User(u.name.clone()) }),
            "Group" => subject.group.as_ref().map(|g| if g.name == "*" { Subject::AnyGroup } else { Subject::Group(g.name.clone()) }),
            "ServiceAccount" => subject.service_account.as_ref().map(|account| {
                let prefix = format!("system:serviceaccount:{}:", account.namespace);
                Subject::ServiceAccount(prefix, (account.name != "*").then(|| account.name.clone()))
            }),
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::AnyUser | Subject::AnyGroup => true,
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.groups.iter().any(|group| group == name),
            Subject::ServiceAccount(prefix, name) => {
                user.name.strip_prefix(prefix).is_some_and(|rest| name.as_ref().is_none_or(|name| name == rest))
            }
        }
    }
}

struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<(Names, Names)>,
}

impl Rule {
    fn of(rule: &api::PolicyRulesWithSubjects) -> Rule {
        let resource = |rule: &api::ResourcePolicyRule| ResourceRule {
            verbs: Names::of(&rule.verbs),
            groups: Names::of(&rule.api_groups),
            resources: Names::of(&rule.resources),
            namespaces: Names::of(rule.namespaces.as_deref().unwrap_or_default()),
            cluster: rule.cluster_scope.unwrap_or(false),
        };
        Rule {
            subjects: rule.subjects.iter().filter_map(Subject::of).collect(),
            resources: rule.resource_rules.iter().flatten().map(resource).collect(),
            paths: rule.non_resource_rules.iter().flatten().map(|r| (Names::of(&r.verbs), Names::of(&r.non_resource_urls))).collect(),
        }
    }

    fn fits(&self, request: &Digest<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(request.user)) {
            return false;
        }
        if !request.is_resource {
            return self.paths.iter().any(|(verbs, paths)| verbs.has(request.verb) && paths.has_path(request.path));
        }
        self.resources.iter().any(|rule| {
            let scope = if request.namespace.is_empty() { rule.cluster } else { rule.namespaces.has(request.namespace) };
            scope
                && rule.verbs.has(request.verb)
                && rule.groups.has(request.group)
                && rule.resources.has_resource(request.resource, request.subresource)
        })
    }
}

/// How flows are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    /// All requests are one flow.
    None,
    /// By user name.
    User,
    /// By namespace.
    Namespace,
}

impl Distinguisher {
    /// The request's flow.
    pub fn of<'a>(self, request: &Digest<'a>) -> &'a str {
        match self {
            Distinguisher::None => "",
            Distinguisher::User => &request.user.name,
            Distinguisher::Namespace => request.namespace,
        }
    }
}

/// A schema, compiled.
pub struct Matcher {
    /// Its name.
    pub name: String,
    /// Lower is tried first.
    pub precedence: i32,
    /// How its flows are told apart.
    pub distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

impl Matcher {
    /// Compiles.
    pub fn of(schema: &api::FlowSchema) -> Matcher {
        let method = schema.spec.distinguisher_method.as_ref().map(|method| method.type_.as_str());
        Matcher {
            name: schema.metadata.name.clone().unwrap_or_default(),
            precedence: schema.spec.matching_precedence.unwrap_or(1000),
            distinguisher: match method {
                Some("ByUser") => Distinguisher::User,
                Some("ByNamespace") => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: schema.spec.rules.iter().flatten().map(Rule::of).collect(),
        }
    }

    /// Whether the request is this schema's.
    pub fn fits(&self, request: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule.fits(request))
    }
}

/// The order in which schemas are tried.
pub fn sort<T>(schemas: &mut [(Arc<Matcher>, T)]) {
    schemas.sort_by(|(a, _), (b, _)| a.precedence.cmp(&b.precedence).then_with(|| a.name.cmp(&b.name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(rules: &str) -> Matcher {
        let text = format!("metadata: {{name: s}}\nspec: {{priorityLevelConfiguration: {{name: p}}, rules: [{rules}]}}");
        Matcher::of(&serde_yaml::from_str(&text).unwrap())
    }

    #[test]
    fn requests_find_their_rules() {
        let any = "subjects: [{kind: Group, group: {name: g}}]";
        let resource = |rule: &str| format!("{{{any}, resourceRules: [{{{rule}}}]}}");
        let all = "verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*']";
        for (rules, user, request, want) in [
            (resource(all), "u", "list  pods - ns", true),
            (resource(all), "u", "list  nodes - -", false),
            (resource(&format!("{all}, clusterScope: true")), "u", "list  nodes - -", true),
            (resource("verbs: [get], apiGroups: [apps], resources: [deployments], namespaces: [ns]"), "u", "get apps deployments - ns", true),
            (resource("verbs: [get], apiGroups: [apps], resources: [deployments], namespaces: [ns]"), "u", "get apps deployments scale ns", false),
            (resource("verbs: [get], apiGroups: [apps], resources: [deployments/scale], namespaces: [ns]"), "u", "get apps deployments scale ns", true),
            (resource("verbs: [get], apiGroups: [apps], resources: [deployments], namespaces: [ns]"), "u", "get apps deployments - other", false),
            (format!("{{{any}, nonResourceRules: [{{verbs: [get], nonResourceURLs: ['/healthz', '/apis/*']}}]}}"), "u", "get /healthz", true),
            (format!("{{{any}, nonResourceRules: [{{verbs: [get], nonResourceURLs: ['/healthz', '/apis/*']}}]}}"), "u", "get /apis/apps", true),
            (format!("{{{any}, nonResourceRules: [{{verbs: [get], nonResourceURLs: ['/healthz', '/apis/*']}}]}}"), "u", "get /apis", false),
            ("{subjects: [{kind: ServiceAccount, serviceAccount: {namespace: ns, name: '*'}}], nonResourceRules: [{verbs: ['*'], nonResourceURLs: ['*']}]}".into(), "system:serviceaccount:ns:a", "get /x", true),
            ("{subjects: [{kind: ServiceAccount, serviceAccount: {namespace: ns, name: b}}], nonResourceRules: [{verbs: ['*'], nonResourceURLs: ['*']}]}".into(), "system:serviceaccount:ns:a", "get /x", false),
            ("{subjects: [{kind: User, user: {name: u}}], nonResourceRules: [{verbs: ['*'], nonResourceURLs: ['*']}]}".into(), "v", "get /x", false),
        ] {
            let user = User { name: user.into(), groups: vec!["g".into()], ..User::default() };
            let parts: Vec<&str> = request.split(' ').map(|part| if part == "-" { "" } else { part }).collect();
            let mut digest =
                Digest { user: &user, verb: parts[0], is_resource: parts.len() > 2, group: "", resource: "", subresource: "", namespace: "", name: "", path: parts[1] };
            if let [_, group, resource, subresource, namespace] = parts[..] {
                digest = Digest { group, resource, subresource, namespace, path: "", ..digest };
            }
            assert_eq!(schema(&rules).fits(&digest), want, "{rules} {request}");
        }
    }
}
