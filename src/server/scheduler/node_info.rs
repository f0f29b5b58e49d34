//! A node and what is placed on it, summed up for the plug-ins.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::plugins::inter_pod_affinity::is_aloof;
use crate::api::pod::{Column, charged};
use crate::api::quantity::{Quantity, QuantityError};

/// Amounts by resource name: `cpu` in thousandths, all else in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources(BTreeMap<String, i64>);

type Amounts = Option<BTreeMap<String, ApiQuantity>>;

impl Resources {
    /// From an API map.
    pub(super) fn of(amounts: &Amounts) -> Result<Resources, QuantityError> {
        let one = |(name, amount): (&String, &ApiQuantity)| {
            let amount = Quantity::parse(&amount.0)?;
            Ok((name.clone(), if name == "cpu" { amount.milli() } else { amount.value() }))
        };
        amounts.iter().flatten().map(one).collect::<Result<_, _>>().map(Resources)
    }

    /// What a pod takes of its node, as upstream's `resourcehelper.PodRequests`: what it asks for, and while a resize is under way the larger
    /// of that and of what it has.
    pub(super) fn of_pod(pod: &Pod) -> Resources {
        let amounts = charged(pod, Column::Requests);
        let one = |(name, amount): (&str, Quantity)| (name.to_owned(), if name == "cpu" { amount.milli() } else { amount.value() });
        Resources(amounts.iter().map(one).collect())
    }

    /// One amount; 0 when it is not listed.
    pub(super) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All amounts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    fn add(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// For scoring: a pod that asks for no cpu or memory still uses some (upstream's `GetNonzeroRequests`).
    pub(super) fn for_score(&self, name: &str) -> i64 {
        match (self.get(name), name) {
            (0, "cpu") => 100,
            (0, "memory") => 200 << 20,
            (amount, _) => amount,
        }
    }
}

/// One node.
pub(super) struct NodeInfo {
    /// The node itself.
    pub(super) node: Arc<Node>,
    /// What pods may ask for together; `None` when the node's status can't be read.
    pub(super) allocatable: Option<Resources>,
    /// What they do ask for.
    pub(super) requested: Resources,
    /// The same for scoring.
    pub(super) scored: BTreeMap<&'static str, i64>,
    /// The pods.
    pub(super) pods: Vec<Arc<Pod>>,
    /// Those of them that keep others off, by a required anti-affinity.
    pub(super) aloof: Vec<Arc<Pod>>,
    /// Host ports in use: address, protocol, port.
    pub(super) ports: Vec<(String, String, i32)>,
}

impl NodeInfo {
    /// An empty node.
    pub(super) fn new(node: Arc<Node>) -> NodeInfo {
        let allocatable = node.status.as_ref().map_or_else(|| Ok(Resources::default()), |status| Resources::of(&status.allocatable)).ok();
        let (requested, scored) = (Resources::default(), BTreeMap::new());
        NodeInfo { node, allocatable, requested, scored, pods: Vec::new(), aloof: Vec::new(), ports: Vec::new() }
    }

    /// Places a pod.
    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        let request = Resources::of_pod(&pod);
        self.requested.add(&request);
        for name in ["cpu", "memory"] {
            *self.scored.entry(name).or_default() += request.for_score(name);
        }
        self.ports.extend(host_ports(&pod));
        if is_aloof(&pod) {
            self.aloof.push(pod.clone());
        }
        self.pods.push(pod);
    }

    /// Name.
    pub(super) fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or("")
    }

    /// One label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// Taints.
    pub(super) fn taints(&self) -> impl Iterator<Item = &Taint> {
        self.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
    }
}

/// The host ports of a pod.
pub(super) fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let own = |port: &ContainerPort| {
        let number = port.host_port.or(Some(port.container_port).filter(|_| spec.host_network == Some(true)))?;
        let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
        (number > 0).then(|| (address, port.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
    };
    ports.filter_map(own).collect()
}
