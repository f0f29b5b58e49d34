//! admissionregistration.k8s.io: webhooks. Policies are in [`super::policies`].

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration, WebhookClientConfig,
};

use super::policies::check_conditions;
use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::policy::Conditions;
use crate::api::{FieldError, names};

macro_rules! webhooks {
    ($type:ty, $singular:literal, |$hook:ident| { $($more:expr;)? }) => {
        kind!($type: CLUSTER { singular: $singular }
            fn apply_defaults(&mut self) {
                for $hook in self.webhooks.iter_mut().flatten() {
                    $hook.failure_policy.get_or_insert_with(|| "Fail".into());
                    $hook.match_policy.get_or_insert_with(|| "Equivalent".into());
                    $hook.namespace_selector.get_or_insert_default();
                    $hook.object_selector.get_or_insert_default();
                    $hook.timeout_seconds.get_or_insert(10);
                    default_client(&mut $hook.client_config);
                    $hook.rules.iter_mut().flatten().for_each(default_rule);
                    $($more;)?
                }
            }
            fn validate(&self, _old: Option<&Self>) -> Errors {
                let mut errors = Errors::new();
                let mut seen: Vec<&str> = Vec::new();
                for (index, hook) in self.webhooks.iter().flatten().enumerate() {
                    let path = Path::new("webhooks").index(index);
                    rules::required_syntax(&mut errors, &path.at("name"), &hook.name, names::fully_qualified);
                    if seen.contains(&hook.name.as_str()) {
                        errors.push(FieldError::duplicate(path.at("name"), &hook.name));
                    }
                    seen.push(&hook.name);
                    check_client(&mut errors, &path.at("clientConfig"), &hook.client_config);
                    rules::required_one_of(&mut errors, &path.at("sideEffects"), &hook.side_effects, &["None", "NoneOnDryRun"]);
                    rules::optional_one_of(&mut errors, &path.at("failurePolicy"), &hook.failure_policy, &["Fail", "Ignore"]);
                    rules::optional_one_of(&mut errors, &path.at("matchPolicy"), &hook.match_policy, &["Equivalent", "Exact"]);
                    check_versions(&mut errors, &path.at("admissionReviewVersions"), &hook.admission_review_versions);
                    if let Some(seconds) = hook.timeout_seconds.filter(|seconds| !(1..=30).contains(seconds)) {
                        let why = "the timeout value must be between 1 and 30 seconds";
                        errors.push(FieldError::invalid(path.at("timeoutSeconds"), seconds, why));
                    }
                    rules::label_selector(&mut errors, &path.at("namespaceSelector"), hook.namespace_selector.as_ref());
                    rules::label_selector(&mut errors, &path.at("objectSelector"), hook.object_selector.as_ref());
                    for (index, rule) in hook.rules.iter().flatten().enumerate() {
                        check_rule(&mut errors, &path.at("rules").index(index), rule);
                    }
                    let conditions = hook.match_conditions.as_deref();
                    let sources = conditions.unwrap_or_default().iter().map(|one| (one.name.as_str(), one.expression.as_str()));
                    let compiled = Conditions::new(sources, false);
                    check_conditions(&mut errors, &path.at("matchConditions"), conditions, &compiled);
                }
                errors
            }
            columns!($type;
                "Webhooks" integer: "How many webhooks there are." => |one, _| print::count(one.webhooks.as_ref().map_or(0, Vec::len)),
                "Age" string: "Time since creation." => print::age);
        );
    };
}

webhooks!(ValidatingWebhookConfiguration, "validatingwebhookconfiguration", |hook| {});
webhooks!(MutatingWebhookConfiguration, "mutatingwebhookconfiguration", |hook| {
    hook.reinvocation_policy.get_or_insert_with(|| "Never".into());
});

fn default_client(config: &mut WebhookClientConfig) {
    if let Some(service) = &mut config.service {
        service.port.get_or_insert(443);
    }
}

fn default_rule(rule: &mut RuleWithOperations) {
    rule.scope.get_or_insert_with(|| "*".into());
}

fn check_client(errors: &mut Errors, path: &Path, config: &WebhookClientConfig) {
    match (&config.url, &config.service) {
        (Some(url), None) => check_url(errors, &path.at("url"), url),
        (None, Some(service)) => {
            let path = path.at("service");
            if service.name.is_empty() {
                errors.push(FieldError::required(path.at("name"), "service name is required"));
            }
            if service.namespace.is_empty() {
                errors.push(FieldError::required(path.at("namespace"), "service namespace is required"));
            }
            if let Some(port) = service.port.filter(|port| !(1..=65535).contains(port)) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(path.at("port"), port, why));
            }
            if let Some(text) = &service.path {
                check_path(errors, &path.at("path"), text);
            }
        }
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn check_url(errors: &mut Errors, path: &Path, url: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let authority = if scheme.is_empty() { "" } else { before.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        errors.push(FieldError::invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if host.is_empty() {
        errors.push(FieldError::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if !user.is_empty() {
        errors.push(FieldError::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(FieldError::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(FieldError::invalid(path, query, "query parameters are not permitted in the URL"));
    }
}

fn check_path(errors: &mut Errors, path: &Path, text: &str) {
    if text.is_empty() || text == "/" {
        return;
    }
    if text == "//" {
        errors.push(FieldError::invalid(path, text, "segment[0] may not be empty"));
        return;
    }
    if !text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must start with a '/'"));
    }
    let inner = text.strip_prefix('/').unwrap_or(text);
    for (index, segment) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if segment.is_empty() {
            errors.push(FieldError::invalid(path, text, format!("segment[{index}] may not be empty")));
        } else if let Err(why) = names::subdomain(segment) {
            errors.push(FieldError::invalid(path, text, format!("segment[{index}]: {why}")));
        }
    }
}

fn check_versions(errors: &mut Errors, path: &Path, versions: &[String]) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(path.index(index), version, "duplicate version"));
        } else if let Err(why) = names::dns1035_label(version) {
            errors.push(FieldError::invalid(path.index(index), version, why));
        }
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        errors.push(FieldError::invalid(path, versions, "must include at least one of v1, v1beta1"));
    }
}

/// The resources of a rule: those that a wildcard beside them covers already may not be named.
fn check_resources(errors: &mut Errors, path: &Path, resources: &[String]) {
    let has = |pattern: &str| resources.iter().any(|resource| resource == pattern);
    for (index, resource) in resources.iter().enumerate() {
        let path = path.index(index);
        match resource.split_once('/') {
            _ if resource.is_empty() => errors.push(FieldError::required(path, "")),
            _ if resource == "*" || resource == "*/*" => {}
            Some((main, part)) if part != "*" && has(&format!("{main}/*")) => {
                errors.push(FieldError::invalid(path, resource, format!("if '{main}/*' is present, must not specify {resource}")));
            }
            Some((main, part)) if main != "*" && has(&format!("*/{part}")) => {
                errors.push(FieldError::invalid(path, resource, format!("if '*/{part}' is present, must not specify {resource}")));
            }
            None if has(&format!("{resource}/*")) => {
                errors.push(FieldError::invalid(path, resource, format!("if '{resource}/*' is present, must not specify {resource}")));
            }
            _ => {}
        }
    }
    if resources.len() > 1 && has("*/*") {
        errors.push(FieldError::invalid(path, resources, "if '*/*' is present, must not specify other resources"));
    }
    if has("*") && resources.iter().any(|resource| resource != "*" && !resource.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, resources, why));
    }
}

pub(super) fn check_rule(errors: &mut Errors, path: &Path, rule: &RuleWithOperations) {
    const OPERATIONS: &[&str] = &["*", "CREATE", "UPDATE", "DELETE", "CONNECT"];
    let lists = [
        ("operations", &rule.operations),
        ("apiGroups", &rule.api_groups),
        ("apiVersions", &rule.api_versions),
        ("resources", &rule.resources),
    ];
    for (field, list) in lists {
        let list = list.as_deref().unwrap_or_default();
        if list.is_empty() {
            errors.push(FieldError::required(path.at(field), ""));
        }
        if list.len() > 1 && list.iter().any(|one| one == "*") && field != "resources" {
            let others = match field {
                "apiVersions" => "API versions",
                "apiGroups" => "API groups",
                other => other,
            };
            let why = format!("if '*' is present, must not specify other {others}");
            errors.push(FieldError::invalid(path.at(field), list, why));
        }
    }
    for (index, operation) in rule.operations.iter().flatten().enumerate() {
        rules::one_of(errors, &path.at("operations").index(index), operation, OPERATIONS);
    }
    check_resources(errors, &path.at("resources"), rule.resources.as_deref().unwrap_or_default());
    rules::optional_one_of(errors, &path.at("scope"), &rule.scope, &["*", "Cluster", "Namespaced"]);
}
