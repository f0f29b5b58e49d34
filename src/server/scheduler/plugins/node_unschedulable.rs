//! A cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::Plugin;
use super::taint_toleration::tolerated;

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        if cordoned && !tolerated(context.pod, &taint) { vec!["node(s) were unschedulable".into()] } else { Vec::new() }
    }
}
