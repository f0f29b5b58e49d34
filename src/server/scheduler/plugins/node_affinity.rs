//! `nodeSelector` and node affinity.

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::{Plugin, Scale};
use crate::server::reconcile::{node_selected, term_matches};

pub(super) struct NodeAffinity;

/// Whether the node satisfies `nodeSelector` and what is required of it.
pub(super) fn required(context: &Context<'_>, node: &NodeInfo) -> bool {
    context.pod.spec.as_ref().is_none_or(|spec| node_selected(spec, &node.node))
}

impl Plugin for NodeAffinity {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        if required(context, node) { Vec::new() } else { vec!["node(s) didn't match Pod's node affinity/selector".into()] }
    }

    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let affinity = context.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
        let preferred = affinity.iter().flat_map(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten());
        preferred.filter(|term| term_matches(&term.preference, &node.node)).map(|term| i64::from(term.weight)).sum()
    }

    fn scale(&self) -> Scale {
        Scale::Highest
    }

    fn weight(&self) -> i64 {
        2
    }
}
