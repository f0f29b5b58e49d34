//! admissionregistration.k8s.io: admission policies and their bindings.
//!
//! Expressions are compiled here to say what is wrong with them; what is enforced is compiled by admission.
//!
//! Follows upstream's `pkg/apis/admissionregistration/validation/validation.go` and `v1/defaults.go`.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, Mutation, NamedRuleWithOperations, ParamKind,
    ParamRef, RuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, Validation, Variable,
};

use super::admission::check_rule;
use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::policy::{Conditions, ObjectTypes, Policy, Sources};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

/// Most `auditAnnotations`.
const MAX_ANNOTATIONS: usize = 20;
/// Longest expression of an audit annotation, in bytes.
const MAX_ANNOTATION: usize = 5 * 1024;
/// Most `matchConditions`.
const MAX_CONDITIONS: usize = 64;

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
        let policy = Policy::new(&Sources::validating(&spec), &ObjectTypes::default());
        rules::required_one_of(&mut errors, &path.at("failurePolicy"), rules::str_of(&spec.failure_policy), &["Fail", "Ignore"]);
        check_param_kind(&mut errors, &path.at("paramKind"), spec.param_kind.as_ref());
        check_constraints(&mut errors, &path.at("matchConstraints"), spec.match_constraints.as_ref());
        check_conditions(&mut errors, &path.at("matchConditions"), spec.match_conditions.as_deref(), &policy.conditions);
        check_variables(&mut errors, &path.at("variables"), spec.variables.as_deref(), &policy);
        let (validations, annotations) = (spec.validations.as_deref().unwrap_or_default(), spec.audit_annotations.as_deref().unwrap_or_default());
        if validations.is_empty() && annotations.is_empty() {
            for field in ["validations", "auditAnnotations"] {
                errors.push(FieldError::required(path.at(field), "validations or auditAnnotations must contain at least one item"));
            }
        }
        for (index, (validation, compiled)) in validations.iter().zip(&policy.validations).enumerate() {
            check_validation(&mut errors, &path.at("validations").index(index), validation, compiled);
        }
        if annotations.len() > MAX_ANNOTATIONS {
            let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
            errors.push(FieldError::invalid(path.at("auditAnnotations"), annotations, why));
        }
        for (index, (annotation, (_, compiled))) in annotations.iter().zip(&policy.annotations).enumerate() {
            let path = path.at("auditAnnotations").index(index);
            match self.metadata.name.as_deref() {
                Some(name) if !name.is_empty() => rules::syntax(&mut errors, &path.at("key"), &format!("{name}/{}", annotation.key), names::qualified),
                _ => errors.push(FieldError::invalid(path.at("key"), &annotation.key, "requires metadata.name be non-empty")),
            }
            let source = annotation.value_expression.trim();
            if source.is_empty() {
                errors.push(FieldError::required(path.at("valueExpression"), "valueExpression is not specified"));
            } else if source.len() > MAX_ANNOTATION {
                errors.push(FieldError::required(path.at("valueExpression"), format!("must not exceed {MAX_ANNOTATION} bytes in length")));
            } else if let Err(why) = compiled {
                errors.push(FieldError::invalid(path.at("valueExpression"), &annotation.value_expression, why));
            }
            if annotations[..index].iter().any(|before| before.key == annotation.key) {
                errors.push(FieldError::duplicate(path.at("key"), &annotation.key));
            }
        }
        errors
    }
    columns!(ValidatingAdmissionPolicy;
        "Validations" integer: "How many expressions there are." =>
            |one, _| print::count(rules::part(&one.spec).validations.as_ref().map_or(0, Vec::len)),
        "ParamKind" string: "The kind of its parameters." => |one, _| print::text(shown_kind(rules::part(&one.spec).param_kind.as_ref())),
        "Age" string: "Time since creation." => print::age);
);

kind!(ValidatingAdmissionPolicyBinding: CLUSTER { singular: "validatingadmissionpolicybinding" }
    fn apply_defaults(&mut self) {
        self.spec.match_resources.iter_mut().for_each(default_match);
        self.spec.param_ref.iter_mut().for_each(default_param_ref);
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        rules::required_syntax(&mut errors, &path.at("policyName"), &spec.policy_name, names::subdomain);
        check_param_ref(&mut errors, &path.at("paramRef"), spec.param_ref.as_ref());
        check_match(&mut errors, &path.at("matchResouces"), spec.match_resources.as_ref());
        check_actions(&mut errors, &path.at("validationActions"), &spec.validation_actions);
        errors
    }
    columns!(ValidatingAdmissionPolicyBinding;
        "PolicyName" string: "The policy." => |one, _| print::text(&one.spec.policy_name),
        "ParamRef" string: "Its parameters." => |one, _| print::text(shown_ref(one.spec.param_ref.as_ref())),
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
        let policy = Policy::new(&Sources::mutating(&spec), &ObjectTypes::default());
        rules::required_one_of(&mut errors, &path.at("failurePolicy"), rules::str_of(&spec.failure_policy), &["Fail", "Ignore"]);
        check_param_kind(&mut errors, &path.at("paramKind"), spec.param_kind.as_ref());
        check_constraints(&mut errors, &path.at("matchConstraints"), spec.match_constraints.as_ref());
        check_conditions(&mut errors, &path.at("matchConditions"), spec.match_conditions.as_deref(), &policy.conditions);
        check_variables(&mut errors, &path.at("variables"), spec.variables.as_deref(), &policy);
        let mutations = spec.mutations.as_deref().unwrap_or_default();
        if mutations.is_empty() {
            errors.push(FieldError::required(path.at("mutations"), "mutations must contain at least one item"));
        }
        for (index, (mutation, compiled)) in mutations.iter().zip(&policy.mutations).enumerate() {
            check_mutation(&mut errors, &path.at("mutations").index(index), mutation, compiled.expression.as_ref().err());
        }
        let again = rules::str_of(&spec.reinvocation_policy);
        rules::required_one_of(&mut errors, &path.at("reinvocationPolicy"), again, &["IfNeeded", "Never"]);
        errors
    }
    columns!(MutatingAdmissionPolicy;
        "Mutations" integer: "How many mutations there are." =>
            |one, _| print::count(rules::part(&one.spec).mutations.as_ref().map_or(0, Vec::len)),
        "ParamKind" string: "The kind of its parameters." => |one, _| print::text(shown_kind(rules::part(&one.spec).param_kind.as_ref())),
        "Age" string: "Time since creation." => print::age);
);

kind!(MutatingAdmissionPolicyBinding: CLUSTER { singular: "mutatingadmissionpolicybinding" }
    fn apply_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.match_resources.iter_mut().for_each(default_match);
            spec.param_ref.iter_mut().for_each(default_param_ref);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        rules::required_syntax(&mut errors, &path.at("policyName"), rules::str_of(&spec.policy_name), names::subdomain);
        check_param_ref(&mut errors, &path.at("paramRef"), spec.param_ref.as_ref());
        check_match(&mut errors, &path.at("matchResources"), spec.match_resources.as_ref());
        errors
    }
    columns!(MutatingAdmissionPolicyBinding;
        "PolicyName" string: "The policy." => |one, _| print::opt(&rules::part(&one.spec).policy_name),
        "ParamRef" string: "Its parameters." => |one, _| print::text(shown_ref(rules::part(&one.spec).param_ref.as_ref())),
        "Age" string: "Time since creation." => print::age);
);

fn shown_ref(param: Option<&ParamRef>) -> String {
    let Some(param) = param else { return print::UNSET.into() };
    let name = param.name.as_deref().unwrap_or("*");
    param.namespace.as_ref().map_or_else(|| name.into(), |namespace| format!("{namespace}/{name}"))
}

fn shown_kind(kind: Option<&ParamKind>) -> String {
    kind.map_or_else(|| print::UNSET.into(), |kind| format!("{}/{}", rules::str_of(&kind.api_version), rules::str_of(&kind.kind)))
}

fn default_match(constraints: &mut MatchResources) {
    constraints.match_policy.get_or_insert_with(|| "Equivalent".into());
    constraints.namespace_selector.get_or_insert_default();
    constraints.object_selector.get_or_insert_default();
    for rule in constraints.resource_rules.iter_mut().chain(&mut constraints.exclude_resource_rules).flatten() {
        rule.scope.get_or_insert_with(|| "*".into());
    }
}

fn default_param_ref(param: &mut ParamRef) {
    param.parameter_not_found_action.get_or_insert_with(|| "Deny".into());
}

fn check_constraints(errors: &mut Errors, path: &Path, constraints: Option<&MatchResources>) {
    if constraints.is_none() {
        errors.push(FieldError::required(path, ""));
    }
    check_match(errors, path, constraints);
    if constraints.is_some_and(|constraints| constraints.resource_rules.as_ref().is_none_or(Vec::is_empty)) {
        errors.push(FieldError::required(path.at("resourceRules"), ""));
    }
}

fn check_match(errors: &mut Errors, path: &Path, constraints: Option<&MatchResources>) {
    let Some(constraints) = constraints else { return };
    rules::required_one_of(errors, &path.at("matchPolicy"), rules::str_of(&constraints.match_policy), &["Equivalent", "Exact"]);
    rules::label_selector(errors, &path.at("namespaceSelector"), constraints.namespace_selector.as_ref());
    rules::label_selector(errors, &path.at("objectSelector"), constraints.object_selector.as_ref());
    for (field, list) in [("resourceRules", &constraints.resource_rules), ("excludeResourceRules", &constraints.exclude_resource_rules)] {
        for (index, rule) in list.iter().flatten().enumerate() {
            check_named_rule(errors, &path.at(field).index(index), rule);
        }
    }
}

fn check_named_rule(errors: &mut Errors, path: &Path, rule: &NamedRuleWithOperations) {
    let named = rule.resource_names.as_deref().unwrap_or_default();
    for (index, name) in named.iter().enumerate() {
        let path = path.at("resourceNames").index(index);
        rules::syntax(errors, &path, name, names::path_segment);
        if named[..index].contains(name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
    let plain = RuleWithOperations {
        operations: rule.operations.clone(),
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    };
    check_rule(errors, path, &plain);
}

fn check_param_kind(errors: &mut Errors, path: &Path, kind: Option<&ParamKind>) {
    let Some(kind) = kind else { return };
    let (api_version, at) = (rules::str_of(&kind.api_version), path.at("apiVersion"));
    match api_version.split('/').collect::<Vec<_>>().as_slice() {
        _ if api_version.is_empty() => errors.push(FieldError::required(at, "")),
        [version] => rules::syntax(errors, &at, version, names::dns1035_label),
        [_, ""] => errors.push(FieldError::invalid(at, api_version, "version must be specified")),
        [group, version] => {
            rules::syntax(errors, &at, group, names::subdomain);
            rules::syntax(errors, &at, version, names::dns1035_label);
        }
        _ => errors.push(FieldError::invalid(at, api_version, format!("unexpected GroupVersion string: {api_version}"))),
    }
    let name = rules::str_of(&kind.kind);
    if name.is_empty() {
        errors.push(FieldError::required(path.at("kind"), ""));
    } else if let Err(why) = names::dns1035_label(&name.to_lowercase()) {
        errors.push(FieldError::invalid(path.at("kind"), name, format!("may have mixed case, but should otherwise match: {why}")));
    }
}

fn check_param_ref(errors: &mut Errors, path: &Path, param: Option<&ParamRef>) {
    let Some(param) = param else { return };
    let named = param.name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named {
        rules::syntax(errors, &path.at("name"), name, names::path_segment);
    }
    rules::label_selector(errors, &path.at("selector"), param.selector.as_ref());
    match (named, &param.selector) {
        (Some(_), Some(_)) => {
            for field in ["name", "selector"] {
                errors.push(FieldError::forbidden(path.at(field), "name and selector are mutually exclusive"));
            }
        }
        (None, None) => errors.push(FieldError::required(path, "one of name or selector must be specified")),
        _ => {}
    }
    let action = rules::str_of(&param.parameter_not_found_action);
    rules::required_one_of(errors, &path.at("parameterNotFoundAction"), action, &["Deny", "Allow"]);
}

fn check_actions(errors: &mut Errors, path: &Path, actions: &[String]) {
    for (index, action) in actions.iter().enumerate() {
        rules::one_of(errors, &path.index(index), action, &["Audit", "Deny", "Warn"]);
        if actions[..index].contains(action) {
            errors.push(FieldError::duplicate(path.index(index), action));
        }
    }
    let has = |wanted: &str| actions.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers \
                   serves no purpose)";
        errors.push(FieldError::invalid(path, actions, why));
    }
    if actions.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}

pub(super) fn check_conditions(errors: &mut Errors, path: &Path, conditions: Option<&[MatchCondition]>, compiled: &Conditions) {
    let conditions = conditions.unwrap_or_default();
    if conditions.len() > MAX_CONDITIONS {
        errors.push(rules::too_many(path, conditions.len(), MAX_CONDITIONS));
    }
    for (index, (condition, fault)) in conditions.iter().zip(compiled.faults()).enumerate() {
        let path = path.index(index);
        match (condition.expression.trim(), fault) {
            ("", _) => errors.push(FieldError::required(path.at("expression"), "")),
            (source, Some(why)) => errors.push(FieldError::invalid(path.at("expression"), source, why)),
            _ => {}
        }
        rules::required_syntax(errors, &path.at("name"), &condition.name, names::qualified);
        if conditions[..index].iter().any(|before| before.name == condition.name) && !condition.name.is_empty() {
            errors.push(FieldError::duplicate(path.at("name"), &condition.name));
        }
    }
}

fn check_variables(errors: &mut Errors, path: &Path, variables: Option<&[Variable]>, policy: &Policy) {
    for (index, (variable, (_, compiled))) in variables.unwrap_or_default().iter().zip(&policy.variables).enumerate() {
        let path = path.index(index);
        if variable.name.trim().is_empty() {
            errors.push(FieldError::required(path.at("name"), "name is not specified"));
        } else if !is_identifier(&variable.name) {
            errors.push(FieldError::invalid(path.at("name"), &variable.name, "name is not a valid CEL identifier"));
        }
        if variable.expression.trim().is_empty() {
            errors.push(FieldError::required(path.at("expression"), "expression is not specified"));
        } else if let Err(why) = compiled {
            errors.push(FieldError::invalid(path.at("expression"), &variable.expression, why));
        }
    }
}

/// Words that an expression can't use as a name are those that property names are escaped for.
fn is_identifier(name: &str) -> bool {
    let plain = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain && crate::api::cel::escape(name).is_some_and(|escaped| escaped == name || name.contains("__"))
}

fn check_validation(errors: &mut Errors, path: &Path, validation: &Validation, compiled: &crate::api::policy::Validation) {
    if validation.expression.trim().is_empty() {
        errors.push(FieldError::required(path.at("expression"), "expression is not specified"));
    } else if let Err(why) = &compiled.expression {
        errors.push(FieldError::invalid(path.at("expression"), &validation.expression, why));
    }
    let message_expression = rules::str_of(&validation.message_expression);
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        errors.push(FieldError::invalid(path.at("messageExpression"), message_expression, "must be non-empty if specified"));
    } else if let Some(Err(why)) = &compiled.message {
        errors.push(FieldError::invalid(path.at("messageExpression"), message_expression, why));
    }
    let message = rules::str_of(&validation.message);
    if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(path.at("message"), message, "message must be non-empty if specified"));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(FieldError::invalid(path.at("message"), message, "message must not contain line breaks"));
    }
    if let Some(reason) = &validation.reason {
        rules::one_of(errors, &path.at("reason"), reason, &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"]);
    }
}

fn check_mutation(errors: &mut Errors, path: &Path, mutation: &Mutation, fault: Option<&String>) {
    let by_type = match mutation.patch_type.as_str() {
        "" => return errors.push(FieldError::required(path.at("patchType"), "")),
        "ApplyConfiguration" => ("applyConfiguration", mutation.apply_configuration.as_ref().map(|patch| &patch.expression)),
        "JSONPatch" => ("jsonPatch", mutation.json_patch.as_ref().map(|patch| &patch.expression)),
        other => {
            return errors.push(FieldError::not_supported(path.at("patchType"), other, &["ApplyConfiguration", "JSONPatch"]));
        }
    };
    match by_type {
        (field, None) => errors.push(FieldError::required(path.at(field), "")),
        (field, Some(source)) if rules::str_of(source).trim().is_empty() => {
            errors.push(FieldError::required(path.at(field).at("expression"), "expression is not specified"));
        }
        (field, Some(source)) => {
            if let Some(why) = fault {
                errors.push(FieldError::invalid(path.at(field).at("expression"), rules::str_of(source), why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::strategy::Strategy;

    fn faults<T: Strategy + serde::de::DeserializeOwned>(text: &str) -> Vec<String> {
        let mut object: T = serde_yaml::from_str(text).expect("a test object");
        object.apply_defaults();
        object.validate(None).iter().map(ToString::to_string).collect()
    }

    const RULES: &str = "matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [pods]}]}";

    #[test]
    fn policies() {
        for (spec, wanted) in [
            ("validations: [{expression: 'object.a > 1', messageExpression: \"'a'\"}]", vec![]),
            (
                "validations: []",
                vec![
                    "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                    "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
                ],
            ),
            ("validations: [{expression: ' '}]", vec!["spec.validations[0].expression: Required value: expression is not specified"]),
            (
                "validations: [{expression: '1'}]",
                vec!["spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool but got int"],
            ),
            (
                "validations: [{expression: 'x'}]",
                vec![
                    "spec.validations[0].expression: Invalid value: \"x\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^",
                ],
            ),
            (
                "validations: [{expression: 'true', reason: Nope}]",
                vec![
                    "spec.validations[0].reason: Unsupported value: \"Nope\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\", \"Unauthorized\"",
                ],
            ),
            (
                "auditAnnotations: [{key: k, valueExpression: '1'}]",
                vec![
                    "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int",
                ],
            ),
            (
                "variables: [{name: 'in', expression: '1'}], validations: [{expression: 'true'}]",
                vec!["spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier"],
            ),
            (
                "variables: [{name: a, expression: '1'}, {name: b, expression: 'variables.a + 1'}], validations: [{expression: 'variables.b == 2'}]",
                vec![],
            ),
            (
                "matchConditions: [{name: '', expression: ''}], validations: [{expression: 'true'}]",
                vec!["spec.matchConditions[0].expression: Required value", "spec.matchConditions[0].name: Required value"],
            ),
            ("paramKind: {apiVersion: v1}, validations: [{expression: 'params.x == 1'}]", vec!["spec.paramKind.kind: Required value"]),
        ] {
            let text = format!("{{metadata: {{name: p}}, spec: {{{RULES}, {spec}}}}}");
            assert_eq!(faults::<ValidatingAdmissionPolicy>(&text), wanted, "{spec}");
        }
        for (spec, wanted) in [
            ("mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{}'}}]", vec![]),
            ("mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: \"remove\", path: \"/a\"}]'}}]", vec![]),
            ("mutations: []", vec!["spec.mutations: Required value: mutations must contain at least one item"]),
            ("mutations: [{patchType: JSONPatch}]", vec!["spec.mutations[0].jsonPatch: Required value"]),
            (
                "mutations: [{patchType: JSONPatch, jsonPatch: {expression: '1'}}]",
                vec!["spec.mutations[0].jsonPatch.expression: Invalid value: \"1\": must evaluate to list(JSONPatch) but got int"],
            ),
        ] {
            let text = format!("{{metadata: {{name: p}}, spec: {{{RULES}, reinvocationPolicy: Never, {spec}}}}}");
            assert_eq!(faults::<MutatingAdmissionPolicy>(&text), wanted, "{spec}");
        }
    }

    #[test]
    fn bindings() {
        for (spec, wanted) in [
            ("policyName: p, validationActions: [Deny]", vec![]),
            (
                "policyName: p, validationActions: []",
                vec!["spec.validationActions: Required value: at least one validation action is required"],
            ),
            ("policyName: p, validationActions: [Audit, Audit]", vec!["spec.validationActions[1]: Duplicate value: \"Audit\""]),
            (
                "policyName: p, validationActions: [Deny], paramRef: {}",
                vec!["spec.paramRef: Required value: one of name or selector must be specified"],
            ),
            (
                "policyName: p, validationActions: [Deny], paramRef: {name: a, selector: {}}",
                vec![
                    "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                    "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                ],
            ),
        ] {
            let text = format!("{{metadata: {{name: b}}, spec: {{{spec}}}}}");
            assert_eq!(faults::<ValidatingAdmissionPolicyBinding>(&text), wanted, "{spec}");
        }
    }
}
