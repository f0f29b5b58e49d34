//! Host ports: one pod per address, protocol and port.

use super::super::cycle::Context;
use super::super::node_info::{NodeInfo, host_ports};
use super::Plugin;

pub(super) struct NodePorts;

/// Whether two host ports can't both be bound; the unspecified address overlaps every other.
fn conflict(a: &(String, String, i32), b: &(String, String, i32)) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

impl Plugin for NodePorts {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let taken = host_ports(context.pod).iter().any(|want| node.ports.iter().any(|used| conflict(want, used)));
        if taken { vec!["node(s) didn't have free ports for the requested pod ports".into()] } else { Vec::new() }
    }
}
