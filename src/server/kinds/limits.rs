//! LimitRange and ResourceQuota: bounds of a namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
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
        rules::resource_list(&mut errors, &path.at("hard"), spec.hard.as_ref());
        for (index, scope) in spec.scopes.iter().flatten().enumerate() {
            if !SCOPES.contains(&scope.as_str()) {
                errors.push(FieldError::invalid(path.at("scopes").index(index), scope, "unsupported scope"));
            }
        }
        if let Some(old) = old && rules::part(&old.spec).scopes != spec.scopes {
            errors.push(FieldError::invalid(path.at("scopes"), &spec.scopes, rules::IMMUTABLE));
        }
        errors
    }
    fn validate_status(&self, _old: &Self) -> Errors {
        let mut errors = Errors::new();
        let status = rules::part(&self.status);
        rules::resource_list(&mut errors, &Path::new("status").at("hard"), status.hard.as_ref());
        rules::resource_list(&mut errors, &Path::new("status").at("used"), status.used.as_ref());
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
    rules::required_syntax(errors, &path.at("type"), &item.type_, names::qualified);
    if item.type_ == "Pod" {
        for (field, list) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
            if list.as_ref().is_some_and(|list| !list.is_empty()) {
                errors.push(FieldError::forbidden(path.at(field), "may not be specified when `type` is 'Pod'"));
            }
        }
    }
    for (field, list) in [("max", &item.max), ("min", &item.min), ("default", &item.default), ("defaultRequest", &item.default_request)] {
        rules::resource_list(errors, &path.at(field), list.as_ref());
    }
    let ordered = [
        ("min", &item.min, "max", &item.max),
        ("min", &item.min, "defaultRequest", &item.default_request),
        ("defaultRequest", &item.default_request, "max", &item.max),
        ("defaultRequest", &item.default_request, "default", &item.default),
        ("default", &item.default, "max", &item.max),
    ];
    for (low_field, low, high_field, high) in ordered {
        for (name, amount) in low.iter().flatten() {
            let Some(bound) = high.as_ref().and_then(|high| high.get(name)) else { continue };
            let (Ok(value), Ok(limit)) =
                (crate::api::quantity::Quantity::parse(&amount.0), crate::api::quantity::Quantity::parse(&bound.0))
            else {
                continue;
            };
            if value > limit {
                let why = format!("{low_field} value {} is greater than {high_field} value {}", amount.0, bound.0);
                errors.push(FieldError::invalid(path.at(low_field).key(name), &amount.0, why));
            }
        }
    }
}
