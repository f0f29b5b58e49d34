//! What may be written into flow schemas and priority levels, with upstream's texts (`pkg/apis/flowcontrol/validation/validation.go`).

use k8s_openapi::api::flowcontrol::v1 as api;
use serde::Serialize;

use super::support::path::{Errors, Path};
use super::support::rules;
use crate::api::{FieldError, fairness, names};

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// Queues of a level at most, and bits of a hash that a hand may need (upstream's `shufflesharding.MaxHashBits`).
const MOST_QUEUES: i32 = 10_000_000;
const HASH_BITS: u32 = 60;

fn fixed<T: PartialEq + Serialize>(errors: &mut Errors, name: &str, spec: &T, shipped: &T) {
    if spec != shipped {
        errors.push(FieldError::invalid("spec", spec, format!("spec of '{name}' must equal the fixed value")));
    }
}

/// A flow schema.
pub(super) fn schema(schema: &api::FlowSchema) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &schema.spec);
    let name = rules::str_of(&schema.metadata.name);
    let precedence = spec.matching_precedence.unwrap_or(0);
    let why = match precedence {
        ..=0 => "must be a positive value",
        10_001.. => "must not be greater than 10000",
        1 if name != "exempt" => "only the schema named 'exempt' may have matchingPrecedence 1",
        _ => "",
    };
    if !why.is_empty() {
        errors.push(FieldError::invalid(path.at("matchingPrecedence"), precedence, why));
    }
    if let Some(method) = spec.distinguisher_method.as_ref().filter(|method| !["ByNamespace", "ByUser"].contains(&method.type_.as_str())) {
        errors.push(FieldError::not_supported(path.at("distinguisherMethod.type"), method, &["ByNamespace", "ByUser"]));
    }
    let (level, at) = (&spec.priority_level_configuration.name, path.at("priorityLevelConfiguration.name"));
    if level.is_empty() {
        errors.push(FieldError::required(at, "must reference a priority level"));
    } else {
        rules::syntax(&mut errors, &at, level, names::subdomain);
    }
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        policy_rule(&mut errors, &path.at("rules").index(index), rule);
    }
    if let Some(shipped) =
        fairness::shipped().schemas.iter().find(|s| s.metadata.name == schema.metadata.name && fairness::MANDATORY.contains(&name))
    {
        fixed(&mut errors, name, spec, &shipped.spec);
    }
    errors
}

fn policy_rule(errors: &mut Errors, path: &Path, rule: &api::PolicyRulesWithSubjects) {
    if rule.subjects.is_empty() {
        errors.push(FieldError::required(path.at("subjects"), "subjects must contain at least one value"));
    }
    for (index, one) in rule.subjects.iter().enumerate() {
        subject(errors, &path.at("subjects").index(index), one);
    }
    let (resources, paths) = (rule.resource_rules.as_deref().unwrap_or_default(), rule.non_resource_rules.as_deref().unwrap_or_default());
    if resources.is_empty() && paths.is_empty() {
        errors.push(FieldError::required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for (index, rule) in resources.iter().enumerate() {
        resource_rule(errors, &path.at("resourceRules").index(index), rule);
    }
    for (index, rule) in paths.iter().enumerate() {
        let path = path.at("nonResourceRules").index(index);
        verbs(errors, &path, &rule.verbs);
        let (urls, at) = (&rule.non_resource_urls, path.at("nonResourceURLs"));
        if several(errors, &at, urls, "nonResourceURLs must contain at least one value", "non-resource URLs") {
            urls.iter().enumerate().for_each(|(index, url)| url_path(errors, &at.index(index), url));
        }
    }
}

fn subject(errors: &mut Errors, path: &Path, subject: &api::Subject) {
    let kind = subject.kind.as_str();
    let parts = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    if !parts.iter().any(|(known, ..)| *known == kind) {
        return errors.push(FieldError::not_supported(path.at("kind"), kind, &["Group", "ServiceAccount", "User"]));
    }
    for (of, field, present) in parts {
        match (of == kind, present) {
            (true, false) => errors.push(FieldError::required(path.at(field), format!("{field} is required when subject kind is '{of}'"))),
            (false, true) => {
                errors.push(FieldError::forbidden(path.at(field), format!("{field} is forbidden when subject kind is not '{of}'")))
            }
            _ => {}
        }
    }
    match kind {
        "User" | "Group" => {
            let name = match kind {
                "User" => subject.user.as_ref().map(|user| &user.name),
                _ => subject.group.as_ref().map(|group| &group.name),
            };
            if name.is_some_and(String::is_empty) {
                errors.push(FieldError::required(path.at(if kind == "User" { "user.name" } else { "group.name" }), ""));
            }
        }
        _ => {
            let Some(account) = &subject.service_account else { return };
            if account.name != "*" {
                rules::required_syntax(errors, &path.at("serviceAccount.name"), &account.name, names::subdomain);
            }
            let at = path.at("serviceAccount.namespace");
            if account.namespace.is_empty() {
                errors.push(FieldError::required(at, "must specify namespace for service account"));
            } else {
                rules::syntax(errors, &at, &account.namespace, names::label);
            }
        }
    }
}

/// Refuses an empty list, and `*` beside others. Says whether the list is of single names.
fn several(errors: &mut Errors, path: &Path, list: &[String], missing: &str, what: &str) -> bool {
    if list.is_empty() {
        errors.push(FieldError::required(path, missing));
        return false;
    }
    let all = list.iter().any(|name| name == "*");
    if all && list.len() > 1 {
        errors.push(FieldError::invalid(path, list, format!("if '*' is present, must not specify other {what}")));
    }
    !all
}

fn verbs(errors: &mut Errors, path: &Path, list: &[String]) {
    let at = path.at("verbs");
    if several(errors, &at, list, "verbs must contain at least one value", "verbs")
        && list.iter().any(|verb| !VERBS.contains(&verb.as_str()))
    {
        errors.push(FieldError::not_supported(at, list, VERBS));
    }
}

fn resource_rule(errors: &mut Errors, path: &Path, rule: &api::ResourcePolicyRule) {
    verbs(errors, path, &rule.verbs);
    several(errors, &path.at("apiGroups"), &rule.api_groups, "resource rules must supply at least one api group", "api groups");
    several(errors, &path.at("resources"), &rule.resources, "resource rules must supply at least one resource", "resources");
    let (namespaces, at) = (rule.namespaces.as_deref().unwrap_or_default(), path.at("namespaces"));
    if namespaces.is_empty() && rule.cluster_scope == Some(true) {
        return;
    }
    let missing = "resource rules that are not cluster scoped must supply at least one namespace";
    if several(errors, &at, namespaces, missing, "namespaces") {
        for (index, namespace) in namespaces.iter().enumerate() {
            if let Err(why) = names::label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.push(FieldError::invalid(at.index(index), namespace, why));
            }
        }
    }
}

fn url_path(errors: &mut Errors, path: &Path, url: &str) {
    let stars = url.matches('*').count();
    let why = match url {
        "" => "must not be empty",
        "/" => return,
        url if !url.starts_with('/') => "must start with slash",
        url if url.contains(' ') => "must not contain white-space",
        url if url.contains("//") => "must not contain double slash",
        url if stars > 1 || (stars == 1 && !url.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return,
    };
    errors.push(FieldError::invalid(path, url, why));
}

/// A priority level.
pub(super) fn level(level: &api::PriorityLevelConfiguration) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &level.spec);
    let name = rules::str_of(&level.metadata.name);
    if (name == "exempt") != (spec.type_ == "Exempt") {
        errors.push(FieldError::invalid(path.at("type"), &spec.type_, "type must be 'Exempt' if and only if name is 'exempt'"));
    }
    match (spec.type_.as_str(), &spec.limited, &spec.exempt) {
        ("Exempt", limited, exempt) => {
            if limited.is_some() {
                errors.push(FieldError::forbidden(path.at("limited"), "must be nil if the type is not Limited"));
            }
            if let Some(exempt) = exempt {
                shares(&mut errors, &path.at("exempt"), exempt.nominal_concurrency_shares, exempt.lendable_percent);
            }
        }
        ("Limited", limited, exempt) => {
            if exempt.is_some() {
                errors.push(FieldError::forbidden(path.at("exempt"), "must be nil if the type is Limited"));
            }
            match limited {
                None => errors.push(FieldError::required(path.at("limited"), "must not be empty when type is Limited")),
                Some(limited) => limited_level(&mut errors, &path.at("limited"), limited),
            }
        }
        (other, ..) => rules::one_of(&mut errors, &path.at("type"), other, &["Exempt", "Limited"]),
    }
    if let Some(shipped) =
        fairness::shipped().levels.iter().find(|l| l.metadata.name == level.metadata.name && fairness::MANDATORY.contains(&name))
    {
        // How much the exempt level lends is the administrator's choice.
        let shipped = api::PriorityLevelConfigurationSpec { exempt: spec.exempt.clone(), ..shipped.spec.clone() };
        fixed(&mut errors, name, spec, &shipped);
    }
    errors
}

fn shares(errors: &mut Errors, path: &Path, nominal: Option<i32>, lendable: Option<i32>) {
    if let Some(nominal) = nominal.filter(|nominal| *nominal < 0) {
        errors.push(FieldError::invalid(path.at("nominalConcurrencyShares"), nominal, "must be a non-negative integer"));
    }
    if let Some(lendable) = lendable.filter(|percent| !(0..=100).contains(percent)) {
        errors.push(FieldError::invalid(path.at("lendablePercent"), lendable, "must be between 0 and 100, inclusive"));
    }
}

fn limited_level(errors: &mut Errors, path: &Path, limited: &api::LimitedPriorityLevelConfiguration) {
    shares(errors, path, limited.nominal_concurrency_shares, limited.lendable_percent);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        errors.push(FieldError::invalid(path.at("borrowingLimitPercent"), percent, "if specified, must be a non-negative integer"));
    }
    let (response, path) = (&limited.limit_response, path.at("limitResponse"));
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            errors.push(FieldError::forbidden(path.at("queuing"), "must be nil if limited.limitResponse.type is not Limited"));
        }
        ("Queue", None) => {
            errors.push(FieldError::required(path.at("queuing"), "must not be empty if limited.limitResponse.type is Limited"));
        }
        ("Queue", Some(queuing)) => queues(errors, &path.at("queuing"), queuing),
        ("Reject", None) => {}
        (other, _) => errors.push(FieldError::not_supported(path.at("type"), other, &["Queue", "Reject"])),
    }
}

fn queues(errors: &mut Errors, path: &Path, queuing: &api::QueuingConfiguration) {
    let value = |value: Option<i32>| value.unwrap_or(0);
    let (queues, hand, length) = (value(queuing.queues), value(queuing.hand_size), value(queuing.queue_length_limit));
    if length <= 0 {
        errors.push(FieldError::invalid(path.at("queueLengthLimit"), length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(FieldError::invalid(path.at("queues"), queues, "must be positive"));
    } else if queues > MOST_QUEUES {
        errors.push(FieldError::invalid(path.at("queues"), queues, format!("must not be greater than {MOST_QUEUES}")));
    }
    let why = if hand <= 0 {
        "must be positive".to_owned()
    } else if hand > queues {
        format!("should not be greater than queues ({queues})")
    } else if entropy(queues, hand) > HASH_BITS {
        format!("required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}")
    } else {
        return;
    };
    errors.push(FieldError::invalid(path.at("handSize"), hand, why));
}

/// Bits that dealing a hand of a deck uses up (upstream's `shufflesharding.RequiredEntropyBits`).
fn entropy(deck: i32, hand: i32) -> u32 {
    (0..hand).map(|dealt| f64::from(deck - dealt).log2()).sum::<f64>().ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(errors: Errors) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_shipped_is_right() {
        let all = fairness::shipped();
        assert_eq!(all.schemas.iter().flat_map(schema).chain(all.levels.iter().flat_map(level)).collect::<Errors>(), []);
    }

    #[test]
    fn schemas() {
        let rule = |rule: &str| format!("{{name: a, rules: [{{subjects: [{{kind: User, user: {{name: u}}}}], {rule}}}]}}");
        let all = "nonResourceRules: [{verbs: ['*'], nonResourceURLs: ['*']}]";
        for (text, want) in [
            ("{name: a, precedence: 1}".to_owned(), "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt'"),
            ("{name: a, precedence: 10001}".into(), "must not be greater than 10000"),
            ("{name: a, level: ''}".into(), "spec.priorityLevelConfiguration.name: Required value: must reference a priority level"),
            ("{name: exempt, precedence: 1}".into(), "spec of 'exempt' must equal the fixed value"),
            (
                "{name: a, rules: [{subjects: []}]}".into(),
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
            ),
            (
                "{name: a, rules: [{subjects: []}]}".into(),
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules",
            ),
            (
                format!("{{name: a, rules: [{{subjects: [{{kind: User, group: {{name: g}}}}], {all}}}]}}"),
                "user is required when subject kind is 'User'",
            ),
            (
                format!("{{name: a, rules: [{{subjects: [{{kind: User, group: {{name: g}}}}], {all}}}]}}"),
                "group is forbidden when subject kind is not 'Group'",
            ),
            (
                format!("{{name: a, rules: [{{subjects: [{{kind: Robot}}], {all}}}]}}"),
                "supported values: \"Group\", \"ServiceAccount\", \"User\"",
            ),
            (rule("nonResourceRules: [{verbs: [get, '*'], nonResourceURLs: ['/*/x']}]"), "if '*' is present, must not specify other verbs"),
            (rule("nonResourceRules: [{verbs: [get], nonResourceURLs: ['/*/x']}]"), "wildcard can only do suffix matching"),
            (
                rule("nonResourceRules: [{verbs: [post], nonResourceURLs: ['/x']}]"),
                "spec.rules[0].nonResourceRules[0].verbs: Unsupported value",
            ),
            (rule("resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*']}]"), "must supply at least one namespace"),
            (
                rule("resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: [A]}]"),
                "must be '*' or a DNS-1123 label",
            ),
            (rule("resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true}]"), ""),
        ] {
            let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
            let level = value["level"].as_str().unwrap_or("l");
            let object = serde_json::json!({"metadata": {"name": value["name"]}, "spec": {"priorityLevelConfiguration": {"name": level},
                "matchingPrecedence": value["precedence"].as_i64().unwrap_or(500), "rules": value["rules"]}});
            let object: api::FlowSchema = serde_json::from_value(with_type(object, "FlowSchema")).unwrap();
            let errors = said(schema(&object));
            assert!(if want.is_empty() { errors.is_empty() } else { errors.contains(want) }, "{text}: {errors}");
        }
    }

    fn with_type(mut object: serde_json::Value, kind: &str) -> serde_json::Value {
        object["apiVersion"] = "flowcontrol.apiserver.k8s.io/v1".into();
        object["kind"] = kind.into();
        object
    }

    #[test]
    fn levels() {
        for (name, spec, want) in [
            ("a", "{type: Exempt}", "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'"),
            ("a", "{type: Limited}", "spec.limited: Required value: must not be empty when type is Limited"),
            ("a", "{type: Some}", "spec.type: Unsupported value"),
            ("a", "{type: Limited, limited: {limitResponse: {type: Queue}}}", "spec.limited.limitResponse.queuing: Required value"),
            (
                "a",
                "{type: Limited, limited: {lendablePercent: 101, limitResponse: {type: Reject}}}",
                "must be between 0 and 100, inclusive",
            ),
            (
                "a",
                "{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 4, handSize: 5, queueLengthLimit: 1}}}}",
                "should not be greater than queues (4)",
            ),
            (
                "a",
                "{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 512, handSize: 8, queueLengthLimit: 1}}}}",
                "required entropy bits of deckSize 512 and handSize 8 should not be greater than 60",
            ),
            (
                "a",
                "{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 64, handSize: 8, queueLengthLimit: 0}}}}",
                "queueLengthLimit: Invalid value: 0: must be positive",
            ),
            ("catch-all", "{type: Limited, limited: {limitResponse: {type: Reject}}}", "spec of 'catch-all' must equal the fixed value"),
            ("exempt", "{type: Exempt, exempt: {nominalConcurrencyShares: 5, lendablePercent: 50}}", ""),
        ] {
            let spec: serde_json::Value = serde_yaml::from_str(spec).unwrap();
            let object = with_type(serde_json::json!({"metadata": {"name": name}, "spec": spec}), "PriorityLevelConfiguration");
            let errors = said(level(&serde_json::from_value(object).unwrap()));
            assert!(if want.is_empty() { errors.is_empty() } else { errors.contains(want) }, "{name} {spec}: {errors}");
        }
    }
}
