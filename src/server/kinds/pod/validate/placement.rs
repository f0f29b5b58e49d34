//! Rules of what the scheduler reads: tolerations, affinity, spreading, gates.

use k8s_openapi::api::core::v1::{Affinity, NodeSelector, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, WeightedPodAffinityTerm};

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
        rules::syntax(errors, &path.at("name"), &gate.name, names::qualified);
        if gates[..index].contains(gate) {
            errors.push(FieldError::duplicate(&path, &gate.name));
        }
    }
}

/// Tolerations.
fn tolerations(errors: &mut Errors, path: &Path, tolerations: &[Toleration]) {
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
                errors.push(FieldError::invalid(path.at("operator"), one, "value must be empty when `operator` is 'Exists'"));
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
        } else {
            rules::syntax(errors, &path.at("topologyKey"), &one.topology_key, names::qualified);
        }
        rules::one_of(errors, &path.at("whenUnsatisfiable"), &one.when_unsatisfiable, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &&_| -> bool {
            let other: &k8s_openapi::api::core::v1::TopologySpreadConstraint = other;
            other.topology_key == one.topology_key && other.when_unsatisfiable == one.when_unsatisfiable
        };
        if all[..index].iter().any(|other| same(&other)) {
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
        rules::optional_one_of(errors, &path.at("nodeAffinityPolicy"), &one.node_affinity_policy, &["Honor", "Ignore"]);
        rules::optional_one_of(errors, &path.at("nodeTaintsPolicy"), &one.node_taints_policy, &["Honor", "Ignore"]);
        rules::label_selector(errors, &path.at("labelSelector"), one.label_selector.as_ref());
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
            node_term(errors, &path.at("preference"), &term.preference);
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
        node_term(errors, &path.at("nodeSelectorTerms").index(index), term);
    }
}

fn node_term(errors: &mut Errors, path: &Path, term: &NodeSelectorTerm) {
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
        rules::syntax(errors, &path.at("namespaces"), namespace, names::label);
    }
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(path.at("topologyKey"), "can not be empty"));
    } else {
        rules::syntax(errors, &path.at("topologyKey"), &term.topology_key, names::qualified);
    }
}
