//! Which objects a quota with scopes is about.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, PodAffinityTerm, ResourceQuotaSpec, ScopedResourceSelectorRequirement, WeightedPodAffinityTerm,
};

use super::Item;
use crate::api::pod::qos_class;

/// Whether all scopes of a quota match. A kind that knows no scopes matches none.
pub fn all_match(spec: &ResourceQuotaSpec, item: Item<'_>) -> bool {
    let plain = spec.scopes.iter().flatten().map(|scope| (scope.as_str(), None));
    let selectors = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let selected = selectors.map(|one| (one.scope_name.as_str(), Some(one)));
    plain.chain(selected).all(|(scope, requirement)| matches(scope, requirement, item))
}

fn matches(scope: &str, requirement: Option<&ScopedResourceSelectorRequirement>, item: Item<'_>) -> bool {
    match item {
        Item::Pod(pod) => match scope {
            "Terminating" => has_deadline(pod),
            "NotTerminating" => !has_deadline(pod),
            "BestEffort" => is_best_effort(pod),
            "NotBestEffort" => !is_best_effort(pod),
            "PriorityClass" => {
                let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
                selects(requirement, &class.filter(|class| !class.is_empty()).into_iter().collect())
            }
            "CrossNamespacePodAffinity" => crosses_namespaces(pod),
            _ => false,
        },
        Item::Volume(claim) => scope == "VolumeAttributesClass" && selects(requirement, &attribute_classes(claim)),
        _ => false,
    }
}

/// A requirement on a name that the object may have several of, or none.
fn selects(requirement: Option<&ScopedResourceSelectorRequirement>, names: &BTreeSet<&str>) -> bool {
    let Some(requirement) = requirement else { return !names.is_empty() };
    let listed = |name: &&str| requirement.values.iter().flatten().any(|value| value == name);
    match requirement.operator.as_str() {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => names.iter().any(listed),
        "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
        _ => false,
    }
}

fn has_deadline(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Pod) -> bool {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()).filter(|class| !class.is_empty()) {
        Some(class) => class == "BestEffort",
        None => pod.spec.as_ref().is_none_or(|spec| qos_class(spec) == "BestEffort"),
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return false };
    let crosses = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|namespaces| !namespaces.is_empty()) || term.namespace_selector.is_some()
    };
    let any = |hard: &Option<Vec<PodAffinityTerm>>, soft: &Option<Vec<WeightedPodAffinityTerm>>| {
        hard.iter().flatten().any(crosses) || soft.iter().flatten().any(|term| crosses(&term.pod_affinity_term))
    };
    let near = affinity.pod_affinity.as_ref().is_some_and(|rules| {
        any(&rules.required_during_scheduling_ignored_during_execution, &rules.preferred_during_scheduling_ignored_during_execution)
    });
    let far = affinity.pod_anti_affinity.as_ref().is_some_and(|rules| {
        any(&rules.required_during_scheduling_ignored_during_execution, &rules.preferred_during_scheduling_ignored_during_execution)
    });
    near || far
}

/// The class that a claim asks for, the one it has, and the one it is on the way to.
fn attribute_classes(claim: &PersistentVolumeClaim) -> BTreeSet<&str> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}
