//! Which nodes a pod may be on: the rules that the scheduler, the node lifecycle and DaemonSets share. Pure.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// Whether a toleration matches a taint, as upstream's `ToleratesTaint`: an empty effect matches every effect, an empty key (with
/// `Exists`) every key.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("").to_owned();
    let (effect, key, operator) = (text(&toleration.effect), text(&toleration.key), text(&toleration.operator));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match operator.as_str() {
        "Exists" => key.is_empty() || key == taint.key,
        "" | "Equal" => key == taint.key && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

fn label<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// Whether the node satisfies `nodeSelector` and the required node affinity.
pub fn node_selected(spec: &PodSpec, node: &Node) -> bool {
    let selected = spec.node_selector.iter().flatten().all(|(name, value)| label(node, name) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && terms.is_none_or(|terms| terms.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// All of a term's requirements; an empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref().unwrap_or_default(), term.match_fields.as_deref().unwrap_or_default());
    let field =
        |requirement: &NodeSelectorRequirement| requirement.key == "metadata.name" && holds(requirement, node.metadata.name.as_deref());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| holds(requirement, label(node, &requirement.key)))
        && fields.iter().all(field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|listed| listed == value);
    let compare = |value: &str| -> Option<std::cmp::Ordering> {
        let bound: i64 = values.first()?.parse().ok()?;
        value.parse::<i64>().ok().map(|value| value.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(compare).is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => value.and_then(compare).is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}
