//! admissionregistration.k8s.io: webhooks and policies.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, RuleWithOperations,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration, WebhookClientConfig,
};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

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

kind!(ValidatingAdmissionPolicy: CLUSTER { singular: "validatingadmissionpolicy", subresources: &[Subresource::Status] }
    separate_status!();
    fn apply_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.failure_policy.get_or_insert_with(|| "Fail".into());
            spec.match_constraints.iter_mut().for_each(default_match);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        check_match(&mut errors, &path.at("matchConstraints"), spec.match_constraints.as_ref());
        if spec.validations.as_ref().is_none_or(Vec::is_empty) && spec.audit_annotations.as_ref().is_none_or(Vec::is_empty) {
            errors.push(FieldError::required(path.at("validations"), "validations or auditAnnotations must be non-empty"));
        }
        for (index, validation) in spec.validations.iter().flatten().enumerate() {
            rules::required(&mut errors, &path.at("validations").index(index).at("expression"), validation.expression.trim());
        }
        errors
    }
    columns!(ValidatingAdmissionPolicy;
        "Validations" integer: "How many expressions there are." =>
            |one, _| print::count(rules::part(&one.spec).validations.as_ref().map_or(0, Vec::len)),
        "ParamKind" string: "The kind of its parameters." => |one, _| print::text(rules::part(&one.spec).param_kind.as_ref().map_or_else(
            || print::UNSET.into(), |kind| format!("{}/{}", rules::str_of(&kind.api_version), rules::str_of(&kind.kind)))),
        "Age" string: "Time since creation." => print::age);
);

kind!(ValidatingAdmissionPolicyBinding: CLUSTER { singular: "validatingadmissionpolicybinding" }
    fn apply_defaults(&mut self) {
        self.spec.match_resources.iter_mut().for_each(default_match);
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        rules::required(&mut errors, &path.at("policyName"), &spec.policy_name);
        if spec.validation_actions.is_empty() {
            errors.push(FieldError::required(path.at("validationActions"), "at least one validation action is required"));
        }
        for (index, action) in spec.validation_actions.iter().enumerate() {
            rules::one_of(&mut errors, &path.at("validationActions").index(index), action, &["Audit", "Deny", "Warn"]);
        }
        errors
    }
    columns!(ValidatingAdmissionPolicyBinding;
        "PolicyName" string: "The policy." => |one, _| print::text(&one.spec.policy_name),
        "ParamRef" string: "Its parameters." => |one, _| print::text(one.spec.param_ref.as_ref().map_or_else(
            || print::UNSET.into(), |param| param_ref(&param.namespace, &param.name))),
        "Age" string: "Time since creation." => print::age);
);

kind!(MutatingAdmissionPolicy: CLUSTER { singular: "mutatingadmissionpolicy" }
    fn apply_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.failure_policy.get_or_insert_with(|| "Fail".into());
            spec.match_constraints.iter_mut().for_each(default_match);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        check_match(&mut errors, &path.at("matchConstraints"), spec.match_constraints.as_ref());
        if spec.mutations.as_ref().is_none_or(Vec::is_empty) {
            errors.push(FieldError::required(path.at("mutations"), "mutations must contain at least one item"));
        }
        let policy = rules::str_of(&spec.reinvocation_policy);
        rules::required_one_of(&mut errors, &path.at("reinvocationPolicy"), policy, &["IfNeeded", "Never"]);
        errors
    }
    columns!(MutatingAdmissionPolicy;
        "Mutations" integer: "How many mutations there are." =>
            |one, _| print::count(rules::part(&one.spec).mutations.as_ref().map_or(0, Vec::len)),
        "ParamKind" string: "The kind of its parameters." => |one, _| print::text(rules::part(&one.spec).param_kind.as_ref().map_or_else(
            || print::UNSET.into(), |kind| format!("{}/{}", rules::str_of(&kind.api_version), rules::str_of(&kind.kind)))),
        "Age" string: "Time since creation." => print::age);
);

kind!(MutatingAdmissionPolicyBinding: CLUSTER { singular: "mutatingadmissionpolicybinding" }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        rules::required(&mut errors, &Path::new("spec").at("policyName"), rules::str_of(&rules::part(&self.spec).policy_name));
        errors
    }
    columns!(MutatingAdmissionPolicyBinding;
        "PolicyName" string: "The policy." => |one, _| print::opt(&rules::part(&one.spec).policy_name),
        "ParamRef" string: "Its parameters." => |one, _| print::text(rules::part(&one.spec).param_ref.as_ref().map_or_else(
            || print::UNSET.into(), |param| param_ref(&param.namespace, &param.name))),
        "Age" string: "Time since creation." => print::age);
);

fn param_ref(namespace: &Option<String>, name: &Option<String>) -> String {
    let name = name.as_deref().unwrap_or("*");
    namespace.as_ref().map_or_else(|| name.into(), |namespace| format!("{namespace}/{name}"))
}

fn default_client(config: &mut WebhookClientConfig) {
    if let Some(service) = &mut config.service {
        service.port.get_or_insert(443);
    }
}

fn default_rule(rule: &mut RuleWithOperations) {
    rule.scope.get_or_insert_with(|| "*".into());
}

fn default_match(constraints: &mut MatchResources) {
    constraints.match_policy.get_or_insert_with(|| "Equivalent".into());
    constraints.namespace_selector.get_or_insert_default();
    constraints.object_selector.get_or_insert_default();
}

fn check_client(errors: &mut Errors, path: &Path, config: &WebhookClientConfig) {
    match (&config.url, &config.service) {
        (Some(url), None) if !url.starts_with("https://") => {
            errors.push(FieldError::invalid(
                path.at("url"),
                url,
                "'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ));
        }
        (Some(_), None) => {}
        (None, Some(service)) => {
            rules::required(errors, &path.at("service.name"), &service.name);
            rules::required(errors, &path.at("service.namespace"), &service.namespace);
            if let Some(port) = service.port {
                rules::port_number(errors, &path.at("service.port"), port);
            }
            if let Some(path_text) = service.path.as_ref().filter(|text| !text.starts_with('/')) {
                errors.push(FieldError::invalid(path.at("service.path"), path_text, "must start with a '/'"));
            }
        }
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn check_versions(errors: &mut Errors, path: &Path, versions: &[String]) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, "must specify one of v1, v1beta1"));
    } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        errors.push(FieldError::invalid(path, versions, "must include at least one of v1, v1beta1"));
    }
}

fn check_rule(errors: &mut Errors, path: &Path, rule: &RuleWithOperations) {
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
            let why = format!("if '*' is present, must not specify other {}", if field == "apiVersions" { "API versions" } else { field });
            errors.push(FieldError::invalid(path.at(field), list, why));
        }
    }
    for (index, operation) in rule.operations.iter().flatten().enumerate() {
        rules::one_of(errors, &path.at("operations").index(index), operation, OPERATIONS);
    }
    rules::optional_one_of(errors, &path.at("scope"), &rule.scope, &["*", "Cluster", "Namespaced"]);
}

fn check_match(errors: &mut Errors, path: &Path, constraints: Option<&MatchResources>) {
    let Some(constraints) = constraints else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    if constraints.resource_rules.as_ref().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(path.at("resourceRules"), ""));
    }
    rules::label_selector(errors, &path.at("namespaceSelector"), constraints.namespace_selector.as_ref());
    rules::label_selector(errors, &path.at("objectSelector"), constraints.object_selector.as_ref());
}
