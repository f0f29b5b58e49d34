//! Nodes that already hold the pod's images are better, the larger the images and the more nodes hold them.

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

/// The size of an image on a node. Nodes may report the full name of a short one (`docker.io/library/nginx:1`).
fn size_on(node: &NodeInfo, image: &str) -> Option<i64> {
    let images = node.node.status.iter().flat_map(|status| status.images.iter().flatten());
    let suffix = format!("/{image}");
    let is = |name: &String| name == image || name.ends_with(&suffix);
    images.into_iter().find(|held| held.names.iter().flatten().any(is)).and_then(|held| held.size_bytes)
}

impl Plugin for ImageLocality {
    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let Some(spec) = &context.pod.spec else { return 0 };
        let containers: Vec<_> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
        let all = i64::try_from(context.nodes.len()).unwrap_or(i64::MAX).max(1);
        let worth = |image: &String| {
            let image = normalised(image);
            let holders = context.nodes.iter().filter(|node| size_on(node, &image).is_some()).count();
            size_on(node, &image).map_or(0, |size| size.saturating_mul(i64::try_from(holders).unwrap_or(1)) / all)
        };
        let sum: i64 = containers.iter().filter_map(|container| container.image.as_ref()).map(worth).sum();
        let most = MOST * i64::try_from(containers.len()).unwrap_or(1).max(1);
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
