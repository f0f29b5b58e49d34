//! The scheduling rules, one file each, one row each in [`PLUGINS`].
//!
//! A plug-in is pure. `filter` returns why a node is refused (nothing: it fits), in upstream's words; `score` says how good it is.

pub(super) mod image_locality;
pub(super) mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
pub(super) mod pod_topology_spread;
mod taint_toleration;

use super::cycle::Context;
use super::node_info::NodeInfo;

/// The best score, after scaling.
pub(super) const MAX_SCORE: i64 = 100;

/// A scheduling rule.
pub(super) trait Plugin: Sync {
    /// Why the pod can't go there; empty when it can.
    fn filter(&self, _context: &Context<'_>, _node: &NodeInfo) -> Vec<String> {
        Vec::new()
    }
    /// How good the node is.
    fn score(&self, _context: &Context<'_>, _node: &NodeInfo) -> i64 {
        0
    }
    /// How scores become 0 to 100.
    fn scale(&self) -> Scale {
        Scale::AsIs
    }
    /// How much its scores count.
    fn weight(&self) -> i64 {
        1
    }
}

/// How raw scores become 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// They are already.
    AsIs,
    /// Linearly, the highest becoming 100.
    Highest,
    /// Linearly, the highest becoming 0.
    Lowest,
    /// Linearly from the lowest (0) to the highest (100).
    Range,
}

impl Scale {
    /// Scales the scores of all nodes.
    pub(super) fn apply(self, raw: &[i64]) -> Vec<i64> {
        let (low, high) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
        let one = |score: i64| match self {
            Scale::AsIs => score,
            Scale::Highest if high == 0 => 0,
            Scale::Highest => score * MAX_SCORE / high,
            Scale::Lowest if high == 0 => MAX_SCORE,
            Scale::Lowest => MAX_SCORE - score * MAX_SCORE / high,
            Scale::Range if high == low => 0,
            Scale::Range => (score - low) * MAX_SCORE / (high - low),
        };
        raw.iter().map(|score| one(*score)).collect()
    }
}

/// All rules, in the order in which they refuse.
pub(super) static PLUGINS: &[&dyn Plugin] = &[
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources::Fit,
    &node_resources::Balanced,
    &pod_topology_spread::PodTopologySpread,
    &inter_pod_affinity::InterPodAffinity,
    &image_locality::ImageLocality,
];
