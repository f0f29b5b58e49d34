//! Rules of what containers and pods ask for: names, amounts, and requests within limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use crate::api::pod::{Column, is_pod_level, total};
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::resource_names::{self, check_amount, check_of_container, is_hugepages, overcommits};
use crate::server::kinds::support::rules;

type List = Option<BTreeMap<String, Amount>>;

/// What a container asks for; `claims` are the names of its pod's claims.
pub fn check(errors: &mut Errors, path: &Path, resources: &ResourceRequirements, claims: &[&str]) {
    amounts(errors, path, resources, check_of_container);
    check_claims(errors, &path.at("claims"), resources, claims);
}

/// What a pod sets aside for itself, besides its containers.
pub fn check_overhead(errors: &mut Errors, path: &Path, overhead: &List) {
    amounts(errors, path, &ResourceRequirements { limits: overhead.clone(), ..Default::default() }, check_of_container);
}

/// What a pod asks for as a whole: enough for all of its containers, and no less than any may use.
pub fn check_pod(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let Some(resources) = &spec.resources else { return };
    if resources.claims.is_some() {
        errors.push(FieldError::forbidden(path.at("claims"), "claims cannot be set for Resources at pod-level"));
    }
    amounts(errors, path, resources, pod_name);
    let without = PodSpec { resources: None, overhead: None, ..spec.clone() };
    for (name, wanted) in total(&without, Column::Requests).iter().filter(|(name, _)| is_pod_level(name)) {
        let have = resources.requests.as_ref().and_then(|requests| requests.get(name));
        let amount = have.and_then(|amount| Quantity::parse(&amount.0).ok()).unwrap_or(Quantity::ZERO);
        if wanted > amount {
            let why = format!("must be greater than or equal to aggregate container requests of {wanted}");
            errors.push(FieldError::invalid(path.at("requests").key(name), amount.to_string(), why));
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        within_pod(errors, &path.at("containers").index(index), container, &resources.limits);
    }
}

fn within_pod(errors: &mut Errors, path: &Path, container: &Container, pod: &List) {
    for (name, limit) in container.resources.iter().flat_map(|resources| resources.limits.iter().flatten()) {
        let Some(bound) = pod.as_ref().and_then(|limits| limits.get(name)) else { continue };
        if let (Ok(limit), Ok(bound)) = (Quantity::parse(&limit.0), Quantity::parse(&bound.0))
            && limit > bound
        {
            let why = format!("must be less than or equal to pod limits of {bound}");
            errors.push(FieldError::invalid(path.key(name).at("limits"), limit.to_string(), why));
        }
    }
}

fn pod_name(errors: &mut Errors, path: &Path, name: &str) {
    let before = errors.len();
    resource_names::check(errors, path, name);
    if errors.len() == before && !is_hugepages(name) {
        rules::one_of(errors, path, name, &["cpu", "hugepages-", "memory"]);
    }
}

fn amounts(errors: &mut Errors, path: &Path, resources: &ResourceRequirements, check_name: fn(&mut Errors, &Path, &str)) {
    let (limits, requests) = (resources.limits.iter().flatten(), resources.requests.iter().flatten());
    for (list, name, amount) in
        limits.map(|(name, amount)| ("limits", name, amount)).chain(requests.map(|(name, amount)| ("requests", name, amount)))
    {
        let at = path.at(list).key(name);
        check_name(errors, &at, name);
        let Some(quantity) = check_amount(errors, &at, name, amount) else { continue };
        if list == "requests" {
            within_limit(errors, path, name, quantity, &resources.limits);
        }
        if is_hugepages(name) && !divides(name, quantity) {
            let why = format!("{quantity} is not positive integer multiple of {name}");
            errors.push(FieldError::invalid(&at, quantity.to_string(), why));
        }
    }
    let all = || resources.limits.iter().flatten().chain(resources.requests.iter().flatten()).map(|(name, _)| name.as_str());
    if all().any(is_hugepages) && !all().any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn within_limit(errors: &mut Errors, path: &Path, name: &str, asked: Quantity, limits: &List) {
    let limit = limits.as_ref().and_then(|limits| limits.get(name));
    match limit.map(|limit| Quantity::parse(&limit.0)) {
        None if !overcommits(name) => {
            errors.push(FieldError::required(path.at("limits"), "Limit must be set for non overcommitable resources"));
        }
        Some(Ok(limit)) if asked != limit && !overcommits(name) => {
            errors.push(FieldError::invalid(path.at("requests"), asked.to_string(), format!("must be equal to {name} limit of {limit}")));
        }
        Some(Ok(limit)) if asked > limit => {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(path.at("requests"), asked.to_string(), why));
        }
        _ => {}
    }
}

/// Whether the amount is a number of pages of the size that the name says.
fn divides(name: &str, amount: Quantity) -> bool {
    let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    size.filter(|size| size.value() > 0 && size.milli() % 1000 == 0).is_some_and(|size| amount.value() % size.value() == 0)
}

/// The devices of a container are of the claims of its pod, each of them or one request of it once.
fn check_claims(errors: &mut Errors, path: &Path, resources: &ResourceRequirements, claims: &[&str]) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, claim) in resources.claims.iter().flatten().enumerate() {
        let (path, name, request) = (path.index(index), claim.name.as_str(), rules::str_of(&claim.request));
        if !rules::required(errors, &path, name) {
            continue;
        }
        if !request.is_empty() {
            rules::syntax(errors, &path.at("request"), request, names::label);
        }
        if let Some((_, other)) =
            seen.iter().find(|(of, other)| *of == name && (*other == request || other.is_empty() || request.is_empty()))
        {
            let shown = if other.is_empty() || request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errors.push(FieldError::duplicate(&path, shown));
        }
        seen.push((name, request));
        if !claims.contains(&name) {
            let mut sorted = claims.to_vec();
            sorted.sort_unstable();
            let known = if sorted.is_empty() { " which is empty".into() } else { format!(": {}", sorted.join(", ")) };
            let mut error = FieldError::not_found(&path, name);
            error.message.push_str(&format!(": must be one of the names in pod.spec.resourceClaims{known}"));
            errors.push(error);
        }
    }
}
