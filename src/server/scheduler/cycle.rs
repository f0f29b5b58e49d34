//! One scheduling cycle: filter, score, choose.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use super::node_info::{NodeInfo, Resources};
use super::plugins::image_locality::Holders;
use super::plugins::inter_pod_affinity::Affinities;
use super::plugins::pod_topology_spread::Spread;
use super::plugins::{MAX_SCORE, PLUGINS};
use crate::server::reconcile::View;

/// What plug-ins are given beside the node.
pub(super) struct Context<'a> {
    /// The pod to place.
    pub(super) pod: &'a Pod,
    /// What it asks for.
    pub(super) request: &'a Resources,
    /// All nodes.
    pub(super) nodes: &'a [NodeInfo],
    /// Labels of the namespaces.
    pub(super) namespaces: &'a HashMap<String, BTreeMap<String, String>>,
    /// What is found once for the pod, by the plug-in that asks for it first.
    pub(super) affinities: OnceCell<Affinities<'a>>,
    /// As `affinities`.
    pub(super) spreads: OnceCell<Vec<Spread<'a>>>,
    /// As `affinities`.
    pub(super) images: OnceCell<Vec<Holders<'a>>>,
}

/// The nodes with what is placed on them, decisions of this run included.
pub(super) struct Cluster {
    nodes: Vec<NodeInfo>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
}

impl Cluster {
    /// The cluster as the snapshot has it.
    pub(super) fn new(view: &View) -> Cluster {
        let mut nodes: Vec<NodeInfo> =
            view.list::<Node>(None).filter(|node| node.metadata.deletion_timestamp.is_none()).map(NodeInfo::new).collect();
        let at: HashMap<String, usize> = nodes.iter().enumerate().map(|(at, node)| (node.name().to_owned(), at)).collect();
        for pod in view.list::<Pod>(None) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).and_then(|name| at.get(name));
            let ended = matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
            if let Some(at) = node.filter(|_| !ended) {
                nodes[*at].add(pod);
            }
        }
        let labels = |namespace: std::sync::Arc<Namespace>| {
            let meta = namespace.metadata.clone();
            (meta.name.unwrap_or_default(), meta.labels.unwrap_or_default())
        };
        Cluster { nodes, namespaces: view.list::<Namespace>(None).map(labels).collect() }
    }

    /// The best node for a pod, which from now on counts as being there; or why there is none, in upstream's words.
    pub(super) fn place(&mut self, pod: &std::sync::Arc<Pod>) -> Result<String, String> {
        if self.nodes.is_empty() {
            return Err("no nodes available to schedule pods".into());
        }
        let request = Resources::of_pod(pod);
        let (affinities, spreads, images) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let context = Context { pod, request: &request, nodes: &self.nodes, namespaces: &self.namespaces, affinities, spreads, images };
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let mut fit = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            // The first plug-in that refuses a node speaks for it.
            match PLUGINS.iter().map(|plugin| plugin.filter(&context, node)).find(|why| !why.is_empty()) {
                None => fit.push(at),
                Some(why) => why.into_iter().for_each(|why| *reasons.entry(why).or_default() += 1),
            }
        }
        let Some(best) = choose(&context, &fit) else { return Err(message(self.nodes.len(), &reasons)) };
        self.nodes[best].add(pod.clone());
        Ok(self.nodes[best].name().to_owned())
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
fn message(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut lines: Vec<String> = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
    lines.sort();
    format!("0/{nodes} nodes are available: {}.", lines.join(", "))
}

/// The node with the highest weighted score. Of equals, the one that the pod's name and the node's hash to: deterministic, and yet
/// different pods go to different nodes.
fn choose(context: &Context<'_>, fit: &[usize]) -> Option<usize> {
    let mut totals = vec![0i64; fit.len()];
    if fit.len() > 1 {
        for plugin in PLUGINS {
            let raw: Vec<i64> = fit.iter().map(|at| plugin.score(context, &context.nodes[*at])).collect();
            for (total, score) in totals.iter_mut().zip(plugin.scale().apply(&raw)) {
                *total += plugin.weight() * score.clamp(0, MAX_SCORE);
            }
        }
    }
    let name = context.pod.metadata.name.as_deref().unwrap_or("");
    let lot = |at: usize| spread(&format!("{name}/{}", context.nodes[at].name()));
    let highest = totals.iter().copied().max()?;
    fit.iter().zip(totals).filter(|(_, total)| *total == highest).map(|(at, _)| *at).max_by_key(|at| lot(*at))
}

/// FNV-1a with a final mix, so that names that differ in their last letter differ in the high bits too.
fn spread(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
