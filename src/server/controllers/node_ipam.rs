//! Gives each node a range of pod addresses: the lowest of the cluster's that no other node has.
//!
//! Follows upstream's `pkg/controller/nodeipam/ipam/range_allocator.go`. One key decides for all nodes, one run after the other, so that no
//! two are given the same. What a node has is never changed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;

use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Prefix length of a node's range, as upstream's `--node-cidr-mask-size`.
const MASK: u8 = 24;

/// The controller.
pub struct NodeRanges {
    /// All pods of the cluster; at least one range of a node.
    pub cluster: Ipv4Net,
}

/// Stands for all nodes; no name of a node looks like this.
fn all() -> Key {
    Key::of::<Node>("", "*")
}

/// The ranges of a node, as written: `podCIDRs`, or the older `podCIDR`.
fn written(node: &Node) -> impl Iterator<Item = &String> {
    let spec = node.spec.as_ref();
    let many = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    many.chain(spec.and_then(|spec| spec.pod_cidr.as_ref())).filter(|cidr| !cidr.is_empty())
}

impl Controller for NodeRanges {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        // A node that wants a range, or one that leaves its own to others.
        let concerns = |event: &Event| {
            let wants = event.entry.typed::<Node>().is_ok_and(|node| written(&node).next().is_none());
            if event.deleted || wants { vec![all()] } else { Vec::new() }
        };
        vec![Trigger { scope: Scope::of::<Node>, map: concerns }]
    }

    fn startup(&self) -> Vec<Key> {
        vec![all()]
    }

    fn workers(&self) -> usize {
        1
    }

    fn user(&self) -> String {
        "system:serviceaccount:kube-system:node-controller".into()
    }

    fn reconcile(&self, _: &Key, view: &View) -> Outcome {
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        for node in view.list::<Node>(None) {
            let wants = written(&node).next().is_none() && node.metadata.deletion_timestamp.is_none();
            taken.extend(written(&node).filter_map(|cidr| cidr.parse::<Ipv4Net>().ok()));
            waiting.extend(wants.then_some(node));
        }
        // First come, first served.
        waiting.sort_by_key(|node| (node.metadata.creation_timestamp.clone(), node.metadata.name.clone()));
        let mut free = free(self.cluster, &taken);
        let give = |node: std::sync::Arc<Node>| match free.next() {
            Some(range) => {
                let mut node = Node::clone(&node);
                let spec = node.spec.get_or_insert_default();
                spec.pod_cidr = Some(range.to_string());
                spec.pod_cidrs = Some(vec![range.to_string()]);
                Op::Update(Box::new(node))
            }
            None => {
                let name = node.metadata.name.as_deref().unwrap_or("");
                Op::normal(&*node, "CIDRNotAvailable", format!("Node {name} status is now: CIDRNotAvailable"))
            }
        };
        waiting.into_iter().map(give).collect::<Vec<Op>>().into()
    }
}

/// The ranges of the cluster that overlap none of these, lowest first.
fn free(cluster: Ipv4Net, taken: &[Ipv4Net]) -> impl Iterator<Item = Ipv4Net> {
    let (wide, narrow): (Vec<Ipv4Net>, Vec<Ipv4Net>) = taken.iter().partition(|range| range.prefix_len() < MASK);
    let narrow: BTreeSet<Ipv4Addr> = narrow.iter().map(Ipv4Net::network).collect();
    let overlaps = move |range: &Ipv4Net| {
        wide.iter().any(|wide| wide.contains(range)) || narrow.range(range.network()..=range.broadcast()).next().is_some()
    };
    cluster.subnets(MASK).into_iter().flatten().filter(move |range| !overlaps(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check};

    fn ranges(cluster: &str, spec: &[&str]) -> Vec<String> {
        let world: String = spec
            .iter()
            .enumerate()
            .map(|(n, spec)| {
                format!("---\nkind: Node\nmetadata: {{name: n{n}, creationTimestamp: 2026-01-01T00:00:{n:02}Z}}\nspec: {{{spec}}}\n")
            })
            .collect();
        let mut world = World::of(&world);
        let controller = NodeRanges { cluster: cluster.parse().expect("a range") };
        world.settle(&controller, &all());
        let mut nodes = world.all::<Node>();
        nodes.sort_by_key(|node| node.metadata.name.clone());
        let range = |node: &Node| {
            let spec = node.spec.clone().unwrap_or_default();
            assert_eq!(spec.pod_cidr.iter().collect::<Vec<_>>(), spec.pod_cidrs.iter().flatten().take(1).collect::<Vec<_>>());
            spec.pod_cidr.unwrap_or_else(|| "none".into())
        };
        world.events.dedup();
        nodes.iter().map(range).chain(world.events).collect()
    }

    #[test]
    fn each_node_gets_its_own() {
        let held = |cidr: &str| format!("podCIDR: {cidr}, podCIDRs: [{cidr}]");
        assert_eq!(ranges("10.42.0.0/16", &["", "", ""]), ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);
        assert_eq!(ranges("10.42.0.0/16", &["", &held("10.42.0.0/24"), ""]), ["10.42.1.0/24", "10.42.0.0/24", "10.42.2.0/24"]);
        // Of another size, as somebody may have written them.
        let odd = ["", &held("10.42.0.0/23"), &held("10.42.2.128/25"), ""];
        assert_eq!(ranges("10.42.0.0/16", &odd), ["10.42.3.0/24", "10.42.0.0/23", "10.42.2.128/25", "10.42.4.0/24"]);
    }

    #[test]
    fn there_may_be_none_left() {
        let told = "CIDRNotAvailable: Node n2 status is now: CIDRNotAvailable";
        assert_eq!(ranges("10.42.0.0/23", &["", "", ""]), ["10.42.0.0/24", "10.42.1.0/24", "none", told]);
    }

    #[test]
    fn a_node_that_goes_gets_none() {
        let node = "kind: Node\nmetadata: {name: n, deletionTimestamp: 2026-01-01T00:00:00Z, finalizers: [a/b]}\n";
        check(&NodeRanges { cluster: "10.42.0.0/16".parse().expect("a range") }, node, &all(), &[]);
    }
}
