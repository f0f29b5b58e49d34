//! Rules of what the scheduler reads: tolerations, affinity, spreading, gates.

use k8s_openapi::api::core::v1::{Affinity, NodeSelector, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, WeightedPodAffinityTerm};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::{FieldError, names};
use crate::server::kinds::node::TAINT_EFFECTS;
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

/// All of them.
pub fn check(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    tolerations(errors, &path.at("tolerations"), spec.tolerations.as_deref().unwrap_or_default());
    if let Some(wanted) = &spec.affinity {
        affinity(errors, &path.at("affinity"), wanted);
    }
    spreading(errors, &path.at("topologySpreadConstraints"), spec);
    let gates = spec.scheduling_gates.as_deref().unwrap_or_default();
    for (index, gate) in gates.iter().enumerate() {
        let path = path.at("schedulingGates").index(index);
        rules::syntax(errors, &path, &gate.name, names::qualified);
        if gates[..index].contains(gate) {
            errors.push(FieldError::duplicate(&path, &gate.name));
        }
    }
}

/// Tolerations, of pods and of RuntimeClasses.
pub fn tolerations(errors: &mut Errors, path: &Path, tolerations: &[Toleration]) {
    for (index, one) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator, effect) = (rules::str_of(&one.key), rules::str_of(&one.operator), rules::str_of(&one.effect));
        if !key.is_empty() {
            rules::syntax(errors, &path.at("key"), key, names::qualified);
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(path.at("operator"), operator, why));
        }
        if one.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.push(FieldError::invalid(path.at("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        let value = rules::str_of(&one.value);
        match operator {
            "Equal" | "" => {
                if let Err(why) = names::label_value(value) {
                    errors.push(FieldError::invalid(path.at("operator"), value, why));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.push(FieldError::invalid(path.at("operator"), value, "value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            other => rules::one_of(errors, &path.at("operator"), other, &["Equal", "Exists"]),
        }
        rules::optional_one_of(errors, &path.at("effect"), &one.effect, TAINT_EFFECTS);
    }
}

fn spreading(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let all = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index);
        if one.max_skew <= 0 {
            errors.push(FieldError::invalid(path.at("maxSkew"), one.max_skew, "must be greater than zero"));
        }
        if one.topology_key.is_empty() {
            errors.push(FieldError::required(path.at("topologyKey"), "can not be empty"));
        }
        rules::one_of(errors, &path.at("whenUnsatisfiable"), &one.when_unsatisfiable, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &&_| -> bool {
            let other: &k8s_openapi::api::core::v1::TopologySpreadConstraint = other;
            other.topology_key == one.topology_key && other.when_unsatisfiable == one.when_unsatisfiable
        };
        // Upstream names the first of two.
        if all[index + 1..].iter().any(|other| same(&other)) {
            let pair = format!("{{{}, {}}}", one.topology_key, one.when_unsatisfiable);
            errors.push(FieldError::duplicate(path.at("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(domains) = one.min_domains {
            if domains <= 0 {
                errors.push(FieldError::invalid(path.at("minDomains"), domains, "must be greater than zero"));
            }
            if one.when_unsatisfiable != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", one.when_unsatisfiable);
                errors.push(FieldError::invalid(path.at("minDomains"), domains, why));
            }
        }
        for (field, policy) in [("nodeAffinityPolicy", &one.node_affinity_policy), ("nodeTaintsPolicy", &one.node_taints_policy)] {
            if let Some(policy) = policy {
                rules::one_of(errors, &path.at(field), policy, &["Honor", "Ignore"]);
            }
        }
        spread_keys(errors, &path.at("matchLabelKeys"), one.match_label_keys.as_deref().unwrap_or_default(), one.label_selector.as_ref());
        rules::label_selector(errors, &path.at("labelSelector"), one.label_selector.as_ref());
    }
}

/// The keys that a selector speaks of.
fn keys_of(selector: &LabelSelector) -> impl Iterator<Item = &str> {
    let labels = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str());
    labels.chain(selector.match_expressions.iter().flatten().map(|requirement| requirement.key.as_str()))
}

/// Keys whose values are the pod's own, for a constraint that does not speak of them itself.
fn spread_keys(errors: &mut Errors, path: &Path, keys: &[String], selector: Option<&LabelSelector>) {
    if !keys.is_empty() && selector.is_none() {
        errors.push(FieldError::forbidden(path, "must not be specified when labelSelector is not set"));
    }
    for (index, key) in keys.iter().enumerate() {
        rules::syntax(errors, &path.index(index), key, names::qualified);
        if selector.is_some_and(|selector| keys_of(selector).any(|other| other == key)) {
            errors.push(FieldError::invalid(path.index(index), key, "exists in both matchLabelKeys and labelSelector"));
        }
    }
}

/// The same of a term, whose selector holds requirements that were made of its keys when the pod was created.
fn term_keys(errors: &mut Errors, path: &Path, term: &PodAffinityTerm) {
    let (matching, mismatching) =
        (term.match_label_keys.as_deref().unwrap_or_default(), term.mismatch_label_keys.as_deref().unwrap_or_default());
    for (field, keys) in [("matchLabelKeys", matching), ("mismatchLabelKeys", mismatching)] {
        if !keys.is_empty() && term.label_selector.is_none() {
            errors.push(FieldError::forbidden(path.at(field), "must not be specified when labelSelector is not set"));
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            rules::syntax(errors, &path.at(field).index(index), key, names::qualified);
        }
    }
    for (index, key) in matching.iter().enumerate() {
        // Once is what was made of the key; twice is somebody's own requirement.
        let times = term.label_selector.iter().flat_map(keys_of).filter(|other| other == key).count();
        for _ in 1..times {
            errors.push(FieldError::invalid(path.index(index), key, "exists in both matchLabelKeys and labelSelector"));
        }
    }
    for (index, key) in matching.iter().enumerate().filter(|(_, key)| mismatching.contains(key)) {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(path.at("matchLabelKeys").index(index), key, why));
    }
}

fn affinity(errors: &mut Errors, path: &Path, affinity: &Affinity) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = &affinity.node_affinity {
        let path = path.at("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            node_selector(errors, &path.at(REQUIRED), selector);
        }
        for (index, term) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
            let path = path.at(PREFERRED).index(index);
            weight(errors, &path, term.weight);
            // A preference that no node can meet does no harm.
            node_term(errors, &path.at("preference"), &term.preference, false);
        }
    }
    if let Some(pods) = &affinity.pod_affinity {
        let path = path.at("podAffinity");
        pod_terms(errors, &path.at(REQUIRED), pods.required_during_scheduling_ignored_during_execution.as_deref());
        weighted_terms(errors, &path.at(PREFERRED), pods.preferred_during_scheduling_ignored_during_execution.as_deref());
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let path = path.at("podAntiAffinity");
        pod_terms(errors, &path.at(REQUIRED), pods.required_during_scheduling_ignored_during_execution.as_deref());
        weighted_terms(errors, &path.at(PREFERRED), pods.preferred_during_scheduling_ignored_during_execution.as_deref());
    }
}

fn weight(errors: &mut Errors, path: &Path, weight: i32) {
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(path.at("weight"), weight, "must be in the range 1-100"));
    }
}

/// A node selector has terms; it matches where one of them does.
pub fn node_selector(errors: &mut Errors, path: &Path, selector: &NodeSelector) {
    if selector.node_selector_terms.is_empty() {
        errors.push(FieldError::required(path.at("nodeSelectorTerms"), "must have at least one node selector term"));
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(errors, &path.at("nodeSelectorTerms").index(index), term, true);
    }
}

fn node_term(errors: &mut Errors, path: &Path, term: &NodeSelectorTerm, check_values: bool) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.at("matchExpressions").index(index);
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(path.at("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(FieldError::forbidden(path.at("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Exists" | "DoesNotExist" => {}
            "Gt" | "Lt" if values.len() != 1 => {
                errors.push(FieldError::required(path.at("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "Gt" | "Lt" => {}
            other => errors.push(FieldError::invalid(path.at("operator"), other, "not a valid selector operator")),
        }
        rules::syntax(errors, &path.at("key"), &requirement.key, names::qualified);
        for (index, value) in values.iter().enumerate().filter(|_| check_values) {
            rules::syntax(errors, &path.at("values").index(index), value, names::label_value);
        }
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        let path = path.at("matchFields").index(index);
        if !matches!(requirement.operator.as_str(), "In" | "NotIn") {
            errors.push(FieldError::invalid(path.at("operator"), &requirement.operator, "not a valid selector operator"));
        } else if requirement.values.as_ref().is_none_or(|values| values.len() != 1) {
            errors.push(FieldError::required(
                path.at("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ));
        }
        if requirement.key != "metadata.name" {
            errors.push(FieldError::invalid(path.at("key"), &requirement.key, "not a valid field selector key"));
            continue;
        }
        for (index, name) in requirement.values.iter().flatten().enumerate() {
            rules::syntax(errors, &path.at("values").index(index), name, names::subdomain);
        }
    }
}

fn weighted_terms(errors: &mut Errors, path: &Path, terms: Option<&[WeightedPodAffinityTerm]>) {
    for (index, term) in terms.into_iter().flatten().enumerate() {
        let path = path.index(index);
        weight(errors, &path, term.weight);
        pod_term(errors, &path.at("podAffinityTerm"), &term.pod_affinity_term);
    }
}

fn pod_terms(errors: &mut Errors, path: &Path, terms: Option<&[PodAffinityTerm]>) {
    for (index, term) in terms.into_iter().flatten().enumerate() {
        pod_term(errors, &path.index(index), term);
    }
}

fn pod_term(errors: &mut Errors, path: &Path, term: &PodAffinityTerm) {
    rules::label_selector(errors, &path.at("labelSelector"), term.label_selector.as_ref());
    rules::label_selector(errors, &path.at("namespaceSelector"), term.namespace_selector.as_ref());
    for namespace in term.namespaces.iter().flatten() {
        rules::syntax(errors, &path.at("namespace"), namespace, names::label);
    }
    term_keys(errors, path, term);
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(path.at("topologyKey"), "can not be empty"));
    }
    rules::syntax(errors, &path.at("topologyKey"), &term.topology_key, names::qualified);
}
