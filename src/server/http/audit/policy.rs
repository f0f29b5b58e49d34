//! What is recorded of which request: `Policy` of `audit.k8s.io/v1`.
//!
//! Follows upstream's `apiserver/pkg/apis/audit` and `pkg/audit/policy/checker.go`: the first rule that fits, decides; what fits none, is not
//! recorded.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::api::{FieldError, names};
use crate::server::http::path::RequestInfo;
use crate::server::registry::User;

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what, when, and with which outcome.
    Metadata,
    /// And what was sent.
    Request,
    /// And what was answered.
    RequestResponse,
}

const LEVELS: &[(&str, Level)] =
    &[("None", Level::None), ("Metadata", Level::Metadata), ("Request", Level::Request), ("RequestResponse", Level::RequestResponse)];

impl Level {
    /// As events say it.
    pub fn as_str(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("None", |(name, _)| name)
    }
}

/// When something is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before it is handled.
    RequestReceived,
    /// A stream begins.
    ResponseStarted,
    /// The answer is sent.
    ResponseComplete,
    /// The handler failed.
    Panic,
}

const STAGES: &[(&str, Stage)] = &[
    ("RequestReceived", Stage::RequestReceived),
    ("ResponseStarted", Stage::ResponseStarted),
    ("ResponseComplete", Stage::ResponseComplete),
    ("Panic", Stage::Panic),
];

impl Stage {
    /// As events say it.
    pub fn as_str(self) -> &'static str {
        STAGES.iter().find(|(_, stage)| *stage == self).map_or("", |(name, _)| name)
    }
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    fn of(names: &[String]) -> Stages {
        let bit = |(index, (name, _)): (usize, &(&str, Stage))| u8::from(names.iter().any(|n| n == name)) << index;
        Stages(STAGES.iter().enumerate().map(bit).sum())
    }

    /// Whether it holds `stage`.
    pub fn has(self, stage: Stage) -> bool {
        STAGES.iter().position(|(_, known)| *known == stage).is_some_and(|index| self.0 >> index & 1 == 1)
    }
}

/// What is recorded of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How much.
    pub level: Level,
    /// When not.
    pub omit: Stages,
    /// Whether `metadata.managedFields` are left out of objects.
    pub omit_managed: bool,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    #[serde(default)]
    rules: Vec<RuleFile>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    level: String,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a policy can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It can't be read.
    #[error("reading the audit policy {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no policy.
    #[error("the audit policy {path} can't be used: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// All that is wrong.
        why: String,
    },
}

/// A checked policy.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<(RuleFile, Wanted)>,
}

impl Policy {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Policy, PolicyError> {
        let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.into(), source })?;
        Policy::parse(&text).map_err(|why| PolicyError::Invalid { path: path.into(), why })
    }

    /// Reads and checks YAML.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let file: File = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        if file.api_version != "audit.k8s.io/v1" || file.kind != "Policy" {
            return Err(format!("it is a {:?} of {:?}, not a Policy of audit.k8s.io/v1", file.kind, file.api_version));
        }
        if file.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".into());
        }
        let mut errors = Vec::new();
        stages(&file.omit_stages, "omitStages", &mut errors);
        for (index, rule) in file.rules.iter().enumerate() {
            rule.validate(&format!("rules[{index}]"), &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
        let always = Stages::of(&file.omit_stages);
        let ready = |rule: RuleFile| {
            let wanted = Wanted {
                level: LEVELS.iter().find(|(name, _)| *name == rule.level).map_or(Level::None, |(_, level)| *level),
                omit: Stages(Stages::of(&rule.omit_stages).0 | always.0),
                omit_managed: rule.omit_managed_fields.unwrap_or(file.omit_managed_fields),
            };
            (rule, wanted)
        };
        Ok(Policy { rules: file.rules.into_iter().map(ready).collect() })
    }

    /// What is recorded of a request by `user` (none: nobody was recognised).
    pub fn wanted(&self, user: Option<&User>, request: &RequestInfo) -> Wanted {
        self.rules.iter().find(|(rule, _)| rule.fits(user, request)).map_or(Wanted::default(), |(_, wanted)| *wanted)
    }
}

fn stages(names: &[String], at: &str, errors: &mut Vec<FieldError>) {
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !STAGES.iter().any(|(known, _)| known == name)) {
        let allowed = STAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
        errors.push(FieldError::invalid(format!("{at}[{index}]"), name, format!("allowed stages are {allowed}")));
    }
}

impl RuleFile {
    fn validate(&self, at: &str, errors: &mut Vec<FieldError>) {
        if self.level.is_empty() {
            errors.push(FieldError::required(format!("{at}.level"), ""));
        } else if !LEVELS.iter().any(|(name, _)| *name == self.level) {
            let allowed: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
            errors.push(FieldError::not_supported(format!("{at}.level"), &self.level, &allowed));
        }
        let urls = format!("{at}.nonResourceURLs");
        for (index, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let at = format!("{urls}[{index}]");
            if !url.starts_with('/') {
                errors.push(FieldError::invalid(&at, url, "non-resource URL rules must begin with a '/' character"));
            }
            if url.strip_suffix('*').unwrap_or(url).contains('*') {
                errors.push(FieldError::invalid(&at, url, "non-resource URL wildcards '*' must be the final character of the rule"));
            }
        }
        for resources in &self.resources {
            let at = format!("{at}.resources");
            if !resources.group.is_empty()
                && let Err(why) = names::subdomain(&resources.group)
            {
                errors.push(FieldError::invalid(format!("{at}.group"), &resources.group, why));
            }
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                errors.push(FieldError::invalid(format!("{at}.resourceNames"), &resources.resource_names, why));
            }
        }
        stages(&self.omit_stages, &format!("{at}.omitStages"), errors);
        if !self.non_resource_urls.is_empty() && (!self.resources.is_empty() || !self.namespaces.is_empty()) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(urls, &self.non_resource_urls, why));
        }
    }

    fn fits(&self, user: Option<&User>, request: &RequestInfo) -> bool {
        let has = |names: &[String], wanted: &str| names.iter().any(|name| name == wanted);
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        if !self.user_groups.is_empty() && !user.is_some_and(|user| user.groups.iter().any(|group| has(&self.user_groups, group))) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, request.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return request.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, &request.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|resources| resources.fit(request)));
        }
        if !self.non_resource_urls.is_empty() {
            let fits = |url: &String| {
                url == "*" || *url == request.path || url.strip_suffix('*').is_some_and(|root| request.path.starts_with(root))
            };
            return !request.is_resource && self.non_resource_urls.iter().any(fits);
        }
        true
    }
}

impl Resources {
    fn fit(&self, request: &RequestInfo) -> bool {
        if self.group != request.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let (resource, subresource) = (request.resource.as_str(), request.subresource.as_str());
        let fits = |pattern: &String| match pattern.split_once('/') {
            None => pattern == "*" || (subresource.is_empty() && pattern == resource),
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((of, "*")) => of == resource,
            Some((of, sub)) => of == resource && sub == subresource,
        };
        (self.resource_names.is_empty() || self.resource_names.contains(&request.name)) && self.resources.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::query::Query;

    fn policy(rules: &str) -> Result<Policy, String> {
        Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}"))
    }

    #[test]
    fn what_is_wrong_is_said_as_upstream_says_it() {
        for (rules, want) in [
            ("rules: []", "loaded illegal policy with 0 rules"),
            ("rules: [{}]", "rules[0].level: Required value"),
            (
                "rules: [{level: All}]",
                "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
            ),
            (
                "rules: [{level: None, nonResourceURLs: [healthz]}]",
                "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin",
            ),
            ("rules: [{level: None, nonResourceURLs: ['/*/x']}]", "wildcards '*' must be the final character"),
            (
                "rules: [{level: None, nonResourceURLs: ['/x'], namespaces: [a]}]",
                "rules cannot apply to both regular resources and non-resource URLs",
            ),
            ("rules: [{level: None, resources: [{group: a/v1}]}]", "rules[0].resources.group: Invalid value: \"a/v1\""),
            ("rules: [{level: None, resources: [{resourceNames: [a]}]}]", "using resourceNames requires at least one resource"),
            ("rules: [{level: None, omitStages: [Later]}]", "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"),
            ("rules: [{level: None, user: [a]}]", "unknown field `user`"),
        ] {
            let error = policy(rules).map(|_| ()).unwrap_err();
            assert!(error.contains(want), "{rules}: {error}");
        }
        assert!(Policy::parse("apiVersion: v1\nkind: Policy\nrules: []").unwrap_err().contains("not a Policy of audit.k8s.io/v1"));
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = policy(
            "omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n\
             - {level: None, users: ['system:kube-proxy'], verbs: [watch]}\n\
             - {level: None, nonResourceURLs: ['/healthz*', '/version']}\n\
             - {level: Metadata, resources: [{resources: [secrets, configmaps]}], omitStages: [Panic]}\n\
             - {level: RequestResponse, resources: [{group: apps}], omitManagedFields: false}\n\
             - {level: Request, resources: [{resources: ['pods/*']}], namespaces: [ns]}\n\
             - {level: None, resources: [{resources: ['*/status']}]}\n\
             - {level: None, resources: [{resources: [nodes], resourceNames: [n1]}]}\n\
             - {level: Metadata, userGroups: ['system:authenticated']}\n",
        )
        .unwrap();
        let user = User { name: "u".into(), groups: vec!["system:authenticated".into()], ..User::default() };
        let proxy = User { name: "system:kube-proxy".into(), ..user.clone() };
        for (user, method, uri, want) in [
            (Some(&proxy), "GET", "/api/v1/services?watch=1", "None"),
            (Some(&proxy), "GET", "/api/v1/services", "Metadata"),
            (Some(&user), "GET", "/healthz/ping", "None"),
            (Some(&user), "GET", "/versions", "Metadata"),
            (Some(&user), "PUT", "/api/v1/namespaces/a/secrets/b", "Metadata"),
            (Some(&user), "PUT", "/apis/apps/v1/namespaces/a/deployments/b/scale", "RequestResponse"),
            (Some(&user), "PUT", "/api/v1/namespaces/ns/pods/b", "Request"),
            (Some(&user), "PUT", "/api/v1/namespaces/ns/pods/b/status", "Request"),
            (Some(&user), "PUT", "/api/v1/namespaces/other/pods/b/status", "None"),
            (Some(&user), "GET", "/api/v1/nodes/n1", "None"),
            (Some(&user), "GET", "/api/v1/nodes/n2", "Metadata"),
            (None, "GET", "/api/v1/nodes/n2", "None"),
        ] {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let info = RequestInfo::parse(method, path, &Query::parse(query)).unwrap();
            assert_eq!(policy.wanted(user, &info).level.as_str(), want, "{method} {uri}");
        }
        let info = RequestInfo::parse("GET", "/api/v1/secrets", &Query::default()).unwrap();
        let wanted = policy.wanted(Some(&user), &info);
        assert!(wanted.omit.has(Stage::RequestReceived) && wanted.omit.has(Stage::Panic) && !wanted.omit.has(Stage::ResponseComplete));
        let info = RequestInfo::parse("GET", "/apis/apps/v1/deployments", &Query::default()).unwrap();
        assert!(wanted.omit_managed && !policy.wanted(Some(&user), &info).omit_managed);
    }
}
