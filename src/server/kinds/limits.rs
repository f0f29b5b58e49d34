//! LimitRange and ResourceQuota: bounds of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::support::path::{Errors, Path};
use super::support::{print, resource_names, rules};
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

kind!(LimitRange: NAMESPACED { singular: "limitrange", short: &["limits"], generation: false, update_may_create: true }
    fn apply_defaults(&mut self) {
        for item in self.spec.iter_mut().flat_map(|spec| spec.limits.iter_mut()).filter(|item| item.type_ == "Container") {
            default_item(item);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec").at("limits"), rules::part(&self.spec));
        for (index, item) in spec.limits.iter().enumerate() {
            if spec.limits[..index].iter().any(|other| other.type_ == item.type_) {
                errors.push(FieldError::duplicate(path.index(index).at("type"), &item.type_));
            }
            check_item(&mut errors, &path.index(index), item);
        }
        errors
    }
    columns!(LimitRange; "Created At" date: "When it was made." => |one, _| print::created_at(&one.metadata));
);

kind!(ResourceQuota: NAMESPACED { returns_deleted: true, singular: "resourcequota", short: &["quota"], generation: false, subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        check_hard(&mut errors, &path.at("hard"), spec.hard.as_ref());
        check_scopes(&mut errors, &path, &spec);
        let set = |spec: &ResourceQuotaSpec| spec.scopes.iter().flatten().cloned().collect::<BTreeSet<String>>();
        if let Some(old) = old && set(&rules::part(&old.spec)) != set(&spec) {
            errors.push(FieldError::invalid(path.at("scopes"), &spec.scopes, rules::IMMUTABLE));
        }
        errors
    }
    fn validate_status(&self, _old: &Self) -> Errors {
        let mut errors = Errors::new();
        let status = rules::part(&self.status);
        check_hard(&mut errors, &Path::new("status").at("hard"), status.hard.as_ref());
        check_hard(&mut errors, &Path::new("status").at("used"), status.used.as_ref());
        errors
    }
    columns!(ResourceQuota;
        "Request" string: "Used and allowed requests and counts." => |quota, _| print::text(usage(quota, false)),
        "Limit" string: "Used and allowed limits." => |quota, _| print::text(usage(quota, true)),
        "Age" string: "Time since creation." => print::age,
    );
);

fn usage(quota: &ResourceQuota, limits: bool) -> String {
    let status = rules::part(&quota.status);
    let used = |name: &str| status.used.as_ref().and_then(|used| used.get(name)).map_or("0", |amount| amount.0.as_str());
    let shown = status.hard.iter().flatten().filter(|(name, _)| name.starts_with("limits") == limits);
    shown.map(|(name, hard)| format!("{name}: {}/{}", used(name), hard.0)).collect::<Vec<_>>().join(", ")
}

fn default_item(item: &mut LimitRangeItem) {
    let fill = |to: &mut Option<BTreeMap<String, Amount>>, from: &Option<BTreeMap<String, Amount>>| {
        for (name, amount) in from.iter().flatten() {
            to.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
        }
    };
    fill(&mut item.default, &item.max);
    fill(&mut item.default_request, &item.default);
    fill(&mut item.default_request, &item.min);
}

fn check_item(errors: &mut Errors, path: &Path, item: &LimitRangeItem) {
    let kind = item.type_.as_str();
    let before = errors.len();
    rules::syntax(errors, &path.at("type"), kind, names::qualified);
    if errors.len() == before && !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind) {
        errors.push(FieldError::invalid(path.at("type"), kind, "must be a standard limit type or fully qualified"));
    }
    let lists = [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ];
    for (field, list) in lists {
        let list = list.iter().flatten();
        if kind == "Pod" && field.starts_with("default") {
            if list.count() > 0 {
                errors.push(FieldError::forbidden(path.at(field), "may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for (name, _) in list {
            let path = path.at(field).key(name);
            if matches!(kind, "Pod" | "Container") {
                resource_names::check_of_container(errors, &path, name);
            } else {
                resource_names::check(errors, &path, name);
            }
        }
    }
    let has_storage = |list: &Option<BTreeMap<String, Amount>>| list.as_ref().is_some_and(|list| list.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !has_storage(&item.min) && !has_storage(&item.max) {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(path.at("limits"), why));
    }
    let names: BTreeSet<&String> = lists.iter().flat_map(|(_, list)| list.iter().flatten().map(|(name, _)| name)).collect();
    for name in names {
        check_amounts(errors, path, item, name);
    }
}

/// The amounts of one resource are in order.
fn check_amounts(errors: &mut Errors, path: &Path, item: &LimitRangeItem, name: &str) {
    let of = |list: &Option<BTreeMap<String, Amount>>| {
        let amount = list.as_ref().and_then(|list| list.get(name));
        amount.and_then(|amount| Quantity::parse(&amount.0).ok())
    };
    let defaults = |list| if item.type_ == "Pod" { None } else { of(list) };
    let (min, max, ratio) = (of(&item.min), of(&item.max), of(&item.max_limit_request_ratio));
    let (default, request) = (defaults(&item.default), defaults(&item.default_request));
    // What may not be more than what; which of them is named and shown is upstream's choice.
    let ordered = [
        ("min", min, "min", min, "max", max),
        ("defaultRequest", request, "min", min, "default request", request),
        ("defaultRequest", request, "default request", request, "max", max),
        ("defaultRequest", request, "default request", request, "default limit", default),
        ("default", min, "min", min, "default", default),
        ("default", max, "default", default, "max", max),
    ];
    for (field, shown, low_name, low, high_name, high) in ordered {
        if let (Some(shown), Some(low), Some(high)) = (shown, low, high)
            && low > high
        {
            let why = format!("{low_name} value {low} is greater than {high_name} value {high}");
            errors.push(FieldError::invalid(path.at(field).key(name), shown.to_string(), why));
        }
    }
    if let Some(ratio) = ratio {
        let path = path.at("maxLimitRequestRatio").key(name);
        if ratio < Quantity::from_milli(1000) {
            errors.push(FieldError::invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1")));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = max.approximate() / min.approximate();
            if ratio.approximate() > most {
                errors.push(FieldError::invalid(path, ratio.to_string(), format!("ratio {ratio} is greater than max/min = {most:.6}")));
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resource_names::overcommits(name)
        && default != request
    {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.push(FieldError::invalid(path.at("defaultRequest").key(name), request.to_string(), why));
    }
}

/// Names and amounts of a quota.
fn check_hard(errors: &mut Errors, path: &Path, list: Option<&BTreeMap<String, Amount>>) {
    for (name, amount) in list.into_iter().flatten() {
        let path = path.key(name);
        resource_names::check(errors, &path, name);
        if !name.contains('/') && !resource_names::is_quota(name) {
            errors.push(FieldError::invalid(&path, name, "must be a standard resource for quota"));
        }
        resource_names::check_amount(errors, &path, name, amount);
    }
}

/// Whether objects that the resource measures are ever in the scope.
fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource_names::is_of_pods(name)
        }
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

/// The scopes of a quota, listed or selected, and that what is bounded is ever in them.
fn check_scopes(errors: &mut Errors, path: &Path, spec: &ResourceQuotaSpec) {
    let hard = || spec.hard.iter().flatten().map(|(name, _)| name.as_str()).filter(|name| resource_names::is_quota(name));
    let list = path.at("scopes");
    for scope in spec.scopes.iter().flatten() {
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(FieldError::invalid(&list, &spec.scopes, "unsupported scope"));
        }
        for _ in hard().filter(|name| !fits(scope, name)) {
            errors.push(FieldError::invalid(&list, &spec.scopes, "unsupported scope applied to resource"));
        }
    }
    let listed: Vec<&str> = spec.scopes.iter().flatten().map(String::as_str).collect();
    check_pairs(errors, &list, &listed, spec);
    let Some(selector) = &spec.scope_selector else { return };
    let path = path.at("scopeSelector.matchExpressions");
    let all = selector.match_expressions.as_deref().unwrap_or_default();
    for one in all {
        if !SCOPES.contains(&one.scope_name.as_str()) {
            errors.push(FieldError::invalid(path.at("scopeName"), &one.scope_name, "unsupported scope"));
        }
        for _ in hard().filter(|name| !fits(&one.scope_name, name)) {
            errors.push(FieldError::invalid(&path, selector, "unsupported scope applied to resource"));
        }
        let valued = matches!(one.scope_name.as_str(), "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&one.scope_name.as_str()) && !valued && one.operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                       ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(path.at("operator"), &one.operator, why));
        }
        let values = one.values.as_deref().unwrap_or_default();
        match one.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(path.at("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(path.at("values"), values, why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(path.at("operator"), other, "not a valid selector operator")),
        }
    }
    let selected: Vec<&str> = all.iter().map(|one| one.scope_name.as_str()).collect();
    check_pairs(errors, &path, &selected, spec);
}

/// No pod is in both scopes of a pair.
fn check_pairs(errors: &mut Errors, path: &Path, scopes: &[&str], spec: &ResourceQuotaSpec) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.push(FieldError::invalid(path, &spec.scopes, "conflicting scopes"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::support::testing::{errors, update_errors};

    #[test]
    fn limits() {
        for (item, want) in [
            ("type: Pod, max: {cpu: 1}", ""),
            ("type: Node", "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified"),
            ("type: Pod, default: {cpu: 1}", "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"),
            ("type: Pod, max: {pods: 1}", "spec.limits[0].max[pods]: Invalid value: \"pods\": must be a standard resource for containers"),
            (
                "type: Container, min: {cpu: 2}, max: {cpu: 1}",
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1 | spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1 | spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
            ),
            (
                "type: Container, default: {cpu: 2}, max: {cpu: 1}",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than max value 1 | spec.limits[0].default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1",
            ),
            (
                "type: Pod, maxLimitRequestRatio: {cpu: 500m}",
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
            (
                "type: Pod, min: {cpu: 1}, max: {cpu: 2}, maxLimitRequestRatio: {cpu: 3}",
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ),
            (
                "type: PersistentVolumeClaim",
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
        ] {
            assert_eq!(errors::<LimitRange>(&format!("{{spec: {{limits: [{{{item}}}]}}}}")).join(" | "), want, "{item}");
        }
    }

    #[test]
    fn quotas() {
        for (spec, want) in [
            ("hard: {pods: 1, count/deployments.apps: 2, requests.example.com/gpu: 3, requests.hugepages-2Mi: 4Mi}", ""),
            ("hard: {storage: 1}", "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota"),
            ("hard: {pods: 1500m}", "spec.hard[pods]: Invalid value: \"1500m\": must be an integer"),
            ("hard: {pods: 1}, scopes: [Sometimes]", "spec.scopes: Invalid value: [\"Sometimes\"]: unsupported scope"),
            ("hard: {cpu: 1}, scopes: [BestEffort]", "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"),
            (
                "hard: {pods: 1}, scopes: [BestEffort, NotBestEffort]",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                "hard: {pods: 1}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In}]}",
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            (
                "hard: {pods: 1}, scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: DoesNotExist}]}",
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"DoesNotExist\": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            ),
        ] {
            assert_eq!(errors::<ResourceQuota>(&format!("{{spec: {{{spec}}}}}")).join(" | "), want, "{spec}");
        }
        let scopes = |scopes: &str| format!("{{spec: {{hard: {{pods: 1}}, scopes: [{scopes}]}}}}");
        assert!(update_errors::<ResourceQuota>(&scopes("Terminating, NotBestEffort"), &scopes("NotBestEffort, Terminating")).is_empty());
        assert_eq!(
            update_errors::<ResourceQuota>(&scopes("Terminating"), &scopes("")),
            ["spec.scopes: Invalid value: []: field is immutable"]
        );
    }
}
