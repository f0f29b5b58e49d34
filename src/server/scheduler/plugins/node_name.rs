//! A pod that names a node goes nowhere else.

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::Plugin;

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let wanted = context.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("");
        if wanted.is_empty() || wanted == node.name() { Vec::new() } else { vec!["node(s) didn't match the requested node name".into()] }
    }
}
