//! Resources: what the node has left, how empty it is, and how evenly cpu and memory are used.

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::{MAX_SCORE, Plugin};

/// `NodeResourcesFit` with the LeastAllocated strategy.
pub(super) struct Fit;

/// `NodeResourcesBalancedAllocation`.
pub(super) struct Balanced;

/// The part of `name` in use with the pod placed, in thousandths; `None` when the node has none of it.
fn used(context: &Context<'_>, node: &NodeInfo, name: &str) -> Option<i64> {
    let have = i128::from(node.allocatable.as_ref()?.get(name));
    let want = i128::from(node.scored.get(name).copied().unwrap_or(0)) + i128::from(context.request.for_score(name));
    if have <= 0 { None } else { i64::try_from((want * 1000 / have).min(1000)).ok() }
}

impl Plugin for Fit {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let Some(have) = node.allocatable.as_ref() else {
            return vec!["node(s) had resources that can't be read".into()];
        };
        let mut reasons = Vec::new();
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= have.get("pods") {
            reasons.push("Too many pods".into());
        }
        for (name, want) in context.request.iter() {
            if want > 0 && want > have.get(name).saturating_sub(node.requested.get(name)) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        reasons
    }

    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let free: Vec<i64> = ["cpu", "memory"].iter().filter_map(|name| used(context, node, name)).map(|used| 1000 - used).collect();
        let count = i64::try_from(free.len()).unwrap_or(1).max(1);
        free.iter().sum::<i64>() * MAX_SCORE / (1000 * count)
    }
}

impl Plugin for Balanced {
    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        match (used(context, node, "cpu"), used(context, node, "memory")) {
            // The deviation of two values is half their distance.
            (Some(cpu), Some(memory)) => (1000 - (cpu - memory).abs() / 2) * MAX_SCORE / 1000,
            _ => MAX_SCORE,
        }
    }
}
