//! `topologySpreadConstraints`: matching pods spread evenly over zones, nodes, or whatever label is named.
//!
//! Follows upstream's `podtopologyspread`: skew counts against the emptiest eligible domain; nodes outside the pod's node
//! selection are not domains (`nodeAffinityPolicy: Honor`), tainted ones are (`nodeTaintsPolicy: Ignore`) unless told otherwise.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::node_affinity::required;
use super::taint_toleration::tolerated;
use super::{Plugin, Scale};
use crate::api::selector::LabelSelector;

pub(super) struct PodTopologySpread;

/// The constraint's selector, with the pod's own values of `matchLabelKeys`. `None` when it selects nothing.
fn selector(pod: &Pod, constraint: &TopologySpreadConstraint) -> Option<LabelSelector> {
    let mut api = constraint.label_selector.clone()?;
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
            api.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
        }
    }
    LabelSelector::from_api(Some(&api)).ok()
}

fn is_domain(context: &Context<'_>, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> bool {
    let affine = constraint.node_affinity_policy.as_deref() == Some("Ignore") || required(context, node);
    let refuses = |taint: &k8s_openapi::api::core::v1::Taint| taint.effect != "PreferNoSchedule" && !tolerated(context.pod, taint);
    affine && !(constraint.node_taints_policy.as_deref() == Some("Honor") && node.taints().any(refuses))
}

/// Matching pods per domain.
fn counts<'a>(context: &Context<'a>, constraint: &TopologySpreadConstraint) -> BTreeMap<&'a str, i64> {
    let selector = selector(context.pod, constraint);
    let mut counts = BTreeMap::new();
    for node in context.nodes.iter().filter(|node| is_domain(context, constraint, node)) {
        let Some(domain) = node.label(&constraint.topology_key) else { continue };
        let same = |pod: &&std::sync::Arc<Pod>| {
            pod.metadata.namespace == context.pod.metadata.namespace
                && pod.metadata.deletion_timestamp.is_none()
                && selector.as_ref().is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref()))
        };
        *counts.entry(domain).or_default() += i64::try_from(node.pods.iter().filter(same).count()).unwrap_or(i64::MAX);
    }
    counts
}

/// A constraint of the pod, with what it says of all nodes: found once for the pod, not once for each node.
pub(in crate::server::scheduler) struct Spread<'a> {
    constraint: &'a TopologySpreadConstraint,
    counts: BTreeMap<&'a str, i64>,
    /// What the emptiest domain has.
    least: i64,
    /// Whether the pod counts itself.
    itself: bool,
}

impl<'a> Spread<'a> {
    fn all(context: &Context<'a>) -> Vec<Spread<'a>> {
        let one = |constraint: &'a TopologySpreadConstraint| {
            let itself = selector(context.pod, constraint).is_some_and(|selector| selector.matches(context.pod.metadata.labels.as_ref()));
            let counts = counts(context, constraint);
            let few = constraint.min_domains.is_some_and(|least| counts.len() < usize::try_from(least).unwrap_or(0));
            let least = if few { 0 } else { counts.values().copied().min().unwrap_or(0) };
            Spread { constraint, counts, least, itself }
        };
        context.pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten()).map(one).collect()
    }

    fn is_hard(&self) -> bool {
        self.constraint.when_unsatisfiable == "DoNotSchedule"
    }

    fn count(&self, domain: &str) -> i64 {
        self.counts.get(domain).copied().unwrap_or(0)
    }
}

impl Plugin for PodTopologySpread {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        for spread in context.spreads.get_or_init(|| Spread::all(context)).iter().filter(|spread| spread.is_hard()) {
            let Some(domain) = node.label(&spread.constraint.topology_key) else {
                return vec!["node(s) didn't match pod topology spread constraints (missing required label)".into()];
            };
            let skew = spread.count(domain) + i64::from(spread.itself) - spread.least;
            if skew > i64::from(spread.constraint.max_skew) {
                return vec!["node(s) didn't match pod topology spread constraints".into()];
            }
        }
        Vec::new()
    }

    /// Pods already in the domains of the soft constraints: fewer is better.
    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let crowd = |spread: &Spread<'_>| match node.label(&spread.constraint.topology_key) {
            Some(domain) => spread.count(domain),
            // Not being in a domain at all is as bad as the fullest one.
            None => spread.counts.values().copied().max().unwrap_or(0) + 1,
        };
        context.spreads.get_or_init(|| Spread::all(context)).iter().filter(|spread| !spread.is_hard()).map(crowd).sum()
    }

    fn scale(&self) -> Scale {
        Scale::Lowest
    }

    fn weight(&self) -> i64 {
        2
    }
}
