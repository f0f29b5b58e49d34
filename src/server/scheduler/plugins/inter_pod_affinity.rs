//! Affinity and anti-affinity between pods, in the domains of a topology key.
//!
//! Follows upstream's `interpodaffinity`; the required anti-affinity of pods already placed holds against new ones.

use std::collections::{HashMap, HashSet};

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

/// A term, read once.
struct Term<'a> {
    api: &'a PodAffinityTerm,
    owner: Option<&'a str>,
    namespaces: Option<LabelSelector>,
    selector: Option<LabelSelector>,
}

impl<'a> Term<'a> {
    fn of(owner: &'a Pod, api: &'a PodAffinityTerm) -> Term<'a> {
        let mut selector = api.label_selector.clone();
        if let Some(selector) = &mut selector {
            for key in api.match_label_keys.iter().flatten() {
                if let Some(value) = owner.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
                    selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
                }
            }
        }
        Term {
            api,
            owner: owner.metadata.namespace.as_deref(),
            namespaces: api.namespace_selector.as_ref().and_then(|selector| LabelSelector::from_api(Some(selector)).ok()),
            selector: selector.and_then(|selector| LabelSelector::from_api(Some(&selector)).ok()),
        }
    }

    /// Whether it speaks of `other`.
    fn concerns(&self, context: &Context<'_>, other: &Pod) -> bool {
        let namespace = other.metadata.namespace.as_deref().unwrap_or("");
        let listed = || self.api.namespaces.iter().flatten().any(|listed| listed == namespace);
        let labelled = || self.namespaces.as_ref().is_some_and(|selector| selector.matches(context.namespaces.get(namespace)));
        let own = || {
            let nothing_said = self.api.namespaces.as_ref().is_none_or(Vec::is_empty) && self.api.namespace_selector.is_none();
            nothing_said && self.owner == Some(namespace)
        };
        self.selector.as_ref().is_some_and(|selector| selector.matches(other.metadata.labels.as_ref())) && (own() || listed() || labelled())
    }
}

/// The pods that a term of the pod speaks of, counted in the domains of its key.
struct Near<'a> {
    key: &'a str,
    domains: HashMap<&'a str, i64>,
    /// Whether there are none at all, wherever.
    nowhere: bool,
    /// Whether the term speaks of the pod itself.
    itself: bool,
}

impl<'a> Near<'a> {
    fn of(context: &Context<'a>, api: &'a PodAffinityTerm) -> Near<'a> {
        let term = Term::of(context.pod, api);
        let (mut domains, mut nowhere) = (HashMap::new(), true);
        for node in context.nodes {
            let count = node.pods.iter().filter(|other| term.concerns(context, other)).count();
            nowhere &= count == 0;
            if let Some(domain) = node.label(&api.topology_key).filter(|_| count > 0) {
                *domains.entry(domain).or_default() += i64::try_from(count).unwrap_or(i64::MAX);
            }
        }
        Near { key: &api.topology_key, domains, nowhere, itself: term.concerns(context, context.pod) }
    }

    /// How many in the node's domain; none when the node is in no domain.
    fn count(&self, node: &NodeInfo) -> i64 {
        node.label(self.key).and_then(|domain| self.domains.get(domain)).copied().unwrap_or(0)
    }

    /// The first of a group that wants to be together has nobody to join: its own labels satisfy the term.
    fn is_first(&self, node: &NodeInfo) -> bool {
        self.nowhere && self.itself && node.label(self.key).is_some()
    }
}

/// What the terms of one pod, and those of the pods that are there, say of all nodes: found once for the pod, not once for each node.
pub(in crate::server::scheduler) struct Affinities<'a> {
    required: Vec<Near<'a>>,
    refused: Vec<Near<'a>>,
    preferred: Vec<(i64, Near<'a>)>,
    /// The domains, by key, that pods which are there keep this one off.
    kept_off: HashMap<&'a str, HashSet<&'a str>>,
}

impl<'a> Affinities<'a> {
    fn of(context: &Context<'a>) -> Affinities<'a> {
        let mut kept_off: HashMap<&str, HashSet<&str>> = HashMap::new();
        for node in context.nodes {
            for (other, api) in node.aloof.iter().flat_map(|other| required_anti_affinity(other).iter().map(move |term| (other, term))) {
                if let Some(domain) = node.label(&api.topology_key)
                    && Term::of(other, api).concerns(context, context.pod)
                {
                    kept_off.entry(&api.topology_key).or_default().insert(domain);
                }
            }
        }
        let near = |terms: &'a [PodAffinityTerm]| terms.iter().map(|term| Near::of(context, term)).collect();
        Affinities {
            required: near(required_affinity(context.pod)),
            refused: near(required_anti_affinity(context.pod)),
            preferred: preferred(context.pod).into_iter().map(|(weight, term)| (weight, Near::of(context, term))).collect(),
            kept_off,
        }
    }
}

/// Whether a pod keeps others off: it is to be counted where it is placed.
pub(in crate::server::scheduler) fn is_aloof(pod: &Pod) -> bool {
    !required_anti_affinity(pod).is_empty()
}

impl Plugin for InterPodAffinity {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let all = context.affinities.get_or_init(|| Affinities::of(context));
        let keeps_off = |(key, domains): (&&str, &HashSet<&str>)| node.label(key).is_some_and(|domain| domains.contains(domain));
        if !all.required.iter().all(|near| near.count(node) > 0 || near.is_first(node)) {
            return vec!["node(s) didn't match pod affinity rules".into()];
        }
        if all.refused.iter().any(|near| near.count(node) > 0) {
            return vec!["node(s) didn't match pod anti-affinity rules".into()];
        }
        if all.kept_off.iter().any(keeps_off) {
            return vec!["node(s) didn't satisfy existing pods anti-affinity rules".into()];
        }
        Vec::new()
    }

    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let all = context.affinities.get_or_init(|| Affinities::of(context));
        all.preferred.iter().map(|(weight, near)| weight * near.count(node)).sum()
    }

    fn scale(&self) -> Scale {
        Scale::Range
    }

    fn weight(&self) -> i64 {
        2
    }
}
