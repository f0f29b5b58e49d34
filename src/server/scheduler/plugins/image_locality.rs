//! Nodes that already hold the pod's images are better, the larger the images and the more nodes hold them.

use std::collections::HashMap;

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::{MAX_SCORE, Plugin};

pub(super) struct ImageLocality;

const MIB: i64 = 1 << 20;
/// Below this the images do not matter.
const LEAST: i64 = 23 * MIB;
/// Per container, more than this does not matter.
const MOST: i64 = 1000 * MIB;

/// The name that nodes report an image by: with a tag.
fn normalised(image: &str) -> String {
    let after_registry = image.rsplit('/').next().unwrap_or(image);
    if after_registry.contains(':') || image.contains('@') { image.into() } else { format!("{image}:latest") }
}

/// The nodes that hold an image, by name, with its size there: found once for a pod, not once for each node.
pub(in crate::server::scheduler) struct Holders<'a>(HashMap<&'a str, i64>);

impl<'a> Holders<'a> {
    fn of(nodes: &'a [NodeInfo], image: &str) -> Holders<'a> {
        let image = normalised(image);
        // Nodes may report the full name of a short one (`docker.io/library/nginx:1`).
        let suffix = format!("/{image}");
        let is = |name: &String| *name == image || name.ends_with(&suffix);
        let size_on = |node: &NodeInfo| {
            let mut images = node.node.status.iter().flat_map(|status| status.images.iter().flatten());
            images.find(|held| held.names.iter().flatten().any(is)).and_then(|held| held.size_bytes)
        };
        Holders(nodes.iter().filter_map(|node| Some((node.name(), size_on(node)?))).collect())
    }

    /// What it is worth that a node holds it, if it does: the more do, the more.
    fn worth(&self, node: &NodeInfo, all: i64) -> i64 {
        let holders = i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        self.0.get(node.name()).map_or(0, |size| size.saturating_mul(holders) / all)
    }
}

impl Plugin for ImageLocality {
    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let Some(spec) = &context.pod.spec else { return 0 };
        let containers: Vec<_> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
        let all = i64::try_from(context.nodes.len()).unwrap_or(i64::MAX).max(1);
        let images = || containers.iter().filter_map(|container| container.image.as_ref());
        let holders = context.images.get_or_init(|| images().map(|image| Holders::of(context.nodes, image)).collect());
        let sum: i64 = holders.iter().map(|holders| holders.worth(node, all)).sum();
        let most = MOST * i64::try_from(containers.len()).unwrap_or(1).max(1);
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
