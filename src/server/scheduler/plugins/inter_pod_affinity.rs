//! Affinity and anti-affinity between pods, in the domains of a topology key.
//!
//! Follows upstream's `interpodaffinity`; the required anti-affinity of pods already placed holds against new ones.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::{Plugin, Scale};
use crate::api::selector::LabelSelector;

pub(super) struct InterPodAffinity;

fn affinity(pod: &Pod) -> Option<&Affinity> {
    pod.spec.as_ref()?.affinity.as_ref()
}

fn required_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    let terms = affinity(pod).and_then(|affinity| affinity.pod_affinity.as_ref());
    terms.and_then(|terms| terms.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

fn required_anti_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    let terms = affinity(pod).and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    terms.and_then(|terms| terms.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

/// Preferred terms with their weights; those of anti-affinity count below zero.
fn preferred(pod: &Pod) -> Vec<(i64, &PodAffinityTerm)> {
    let Some(affinity) = affinity(pod) else { return Vec::new() };
    let near = affinity.pod_affinity.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let far = affinity.pod_anti_affinity.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let weigh = |sign: i64| move |term: &'_ WeightedPodAffinityTerm| sign * i64::from(term.weight);
    near.map(|term| (weigh(1)(term), &term.pod_affinity_term)).chain(far.map(|term| (weigh(-1)(term), &term.pod_affinity_term))).collect()
}

/// Whether `term` of `owner` speaks of `other`.
fn concerns(context: &Context<'_>, owner: &Pod, term: &PodAffinityTerm, other: &Pod) -> bool {
    let namespace = other.metadata.namespace.as_deref().unwrap_or("");
    let listed = term.namespaces.iter().flatten().any(|listed| listed == namespace);
    let by_label = term.namespace_selector.as_ref().and_then(|selector| LabelSelector::from_api(Some(selector)).ok());
    let labelled = by_label.is_some_and(|selector| selector.matches(context.namespaces.get(namespace)));
    let own = term.namespaces.as_ref().is_none_or(Vec::is_empty)
        && term.namespace_selector.is_none()
        && owner.metadata.namespace.as_deref() == Some(namespace);
    let mut selector = term.label_selector.clone();
    if let Some(selector) = &mut selector {
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = owner.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
                selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
            }
        }
    }
    let selector = selector.and_then(|selector| LabelSelector::from_api(Some(&selector)).ok());
    (listed || labelled || own) && selector.is_some_and(|selector| selector.matches(other.metadata.labels.as_ref()))
}

/// The pods in the node's domain of `topology_key`; none when the node is in no domain.
fn neighbours<'a>(context: &Context<'a>, node: &NodeInfo, topology_key: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
    let domain = node.label(topology_key).map(str::to_owned);
    let topology_key = topology_key.to_owned();
    let same = move |other: &&'a NodeInfo| domain.is_some() && other.label(&topology_key) == domain.as_deref();
    context.nodes.iter().filter(same).flat_map(|node| &node.pods)
}

impl Plugin for InterPodAffinity {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let pod = context.pod;
        for term in required_affinity(pod) {
            let near = neighbours(context, node, &term.topology_key).any(|other| concerns(context, pod, term, other));
            // The first of a group that wants to be together has nobody to join: its own labels satisfy the term.
            let first = || {
                let nowhere = !context.nodes.iter().flat_map(|node| &node.pods).any(|other| concerns(context, pod, term, other));
                nowhere && node.label(&term.topology_key).is_some() && concerns(context, pod, term, pod)
            };
            if !near && !first() {
                return vec!["node(s) didn't match pod affinity rules".into()];
            }
        }
        for term in required_anti_affinity(pod) {
            if neighbours(context, node, &term.topology_key).any(|other| concerns(context, pod, term, other)) {
                return vec!["node(s) didn't match pod anti-affinity rules".into()];
            }
        }
        let refuses = |other_node: &NodeInfo, other: &Pod| {
            required_anti_affinity(other).iter().any(|term| {
                let domain = node.label(&term.topology_key);
                domain.is_some() && domain == other_node.label(&term.topology_key) && concerns(context, other, term, pod)
            })
        };
        if context.nodes.iter().any(|other_node| other_node.pods.iter().any(|other| refuses(other_node, other))) {
            return vec!["node(s) didn't satisfy existing pods anti-affinity rules".into()];
        }
        Vec::new()
    }

    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let mine = preferred(context.pod).into_iter().map(|(weight, term)| {
            let near = neighbours(context, node, &term.topology_key).filter(|other| concerns(context, context.pod, term, other)).count();
            weight * i64::try_from(near).unwrap_or(i64::MAX)
        });
        mine.sum()
    }

    fn scale(&self) -> Scale {
        Scale::Range
    }

    fn weight(&self) -> i64 {
        2
    }
}
