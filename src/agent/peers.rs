//! Nodes to ways: tells the node's network where the pods of the other nodes are, as the API's Node objects have it.
//!
//! Nothing polls: it sleeps until a Node changed, or something of this node's own links, addresses and routes did.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures::StreamExt;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::watcher;
use tokio::sync::watch;

use super::AgentError;
use super::node::Own;
use crate::client::{Change, Client, changes};
use crate::net::{Net, NetError, Peers};

/// The wait after a failure, doubled each time up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What matters of a Node.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    created: Option<Timestamp>,
    address: Option<Ipv4Addr>,
    pods: Option<Ipv4Net>,
}

impl Place {
    fn of(node: &Node) -> Place {
        let addresses = node.status.iter().filter_map(|status| status.addresses.as_ref()).flatten();
        let internal = addresses.filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok());
        let spec = node.spec.as_ref();
        let ranges =
            spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten().chain(spec.and_then(|spec| spec.pod_cidr.as_ref()));
        Place {
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
            address: internal,
            pods: ranges.filter_map(|range| range.parse().ok()).next(),
        }
    }
}

type Places = BTreeMap<String, Place>;

/// All nodes but this one that have pods, and can be reached. Of two that claim the same addresses the older has them, so that all nodes agree;
/// what this node has is nobody else's.
fn peers(places: &Places, own: &str, own_pods: Ipv4Net) -> Peers {
    let mut others: Vec<(&String, &Place)> = places.iter().filter(|(name, _)| *name != own).collect();
    others.sort_by_key(|(name, place)| (place.created, *name));
    let mut found: BTreeMap<Ipv4Net, Ipv4Addr> = BTreeMap::new();
    for (name, place) in others {
        let (Some(address), Some(pods)) = (place.address, place.pods) else { continue };
        let overlaps = |range: &Ipv4Net| range.contains(&pods) || pods.contains(range);
        if let Some(range) = std::iter::once(&own_pods).chain(found.keys()).find(|range| overlaps(range)) {
            tracing::warn!(node = name, %pods, %range, "another node has these pod addresses already; delete this Node and restart its agent");
            continue;
        }
        found.insert(pods.trunc(), address);
    }
    Peers(found)
}

/// Takes a change in.
fn learn(places: &mut Places, change: Change<Node>) {
    let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
    match change {
        Change::Reset(nodes) => *places = nodes.iter().map(|node| (name(node), Place::of(node))).collect(),
        Change::Set(node) => drop(places.insert(name(&node), Place::of(&node))),
        Change::Gone(node) => drop(places.remove(&name(&node))),
    }
}

/// What a change says of the node's own Node; `None`: nothing.
fn of_own(change: &Change<Node>, own: &str) -> Option<Own> {
    let is_own = |node: &&Node| node.metadata.name.as_deref() == Some(own);
    let there = |node: &Node| Own::There(Box::new(node.clone()));
    match change {
        Change::Reset(nodes) => Some(nodes.iter().find(is_own).map_or(Own::Gone, there)),
        Change::Set(node) => Some(node).filter(is_own).map(there),
        Change::Gone(node) => Some(node).filter(is_own).map(|_| Own::Gone),
    }
}

/// Keeps the ways true for ever. They stay when the agent ends: pods talk on. What the API has of the node itself is told to `told_own`.
pub(super) async fn run(client: Client, net: Net, own: String, told_own: watch::Sender<Own>) -> Result<(), AgentError> {
    let mut links = net.changes()?;
    let mut nodes = std::pin::pin!(changes(Api::<Node>::all(client), watcher::Config::default()));
    let (mut places, mut told) = (Places::new(), None);
    let mut wait: Option<Duration> = None;
    loop {
        let retry = tokio::time::sleep(wait.unwrap_or_default());
        tokio::select! {
            change = nodes.next() => {
                let Some(change) = change else { return Ok(()) };
                if let Some(news) = of_own(&change, &own) {
                    told_own.send_replace(news);
                }
                let before = places.clone();
                learn(&mut places, change);
                if told.is_some() && places == before {
                    continue;
                }
                warn_of_another_range(&places, &own, net.pod_cidr());
                let peers = peers(&places, &own, net.pod_cidr());
                if told.as_ref() == Some(&peers) {
                    continue;
                }
                tracing::info!(nodes = peers.0.len(), "other nodes whose pods can be reached");
                wait = after(net.peers(peers.clone()).await, wait);
                told = Some(peers);
            }
            changed = links.next() => {
                changed.map_err(|source| NetError::Netlink { doing: "listening to", what: "changes of links".into(), source })?;
                wait = after(net.refresh().await, wait);
            }
            () = retry, if wait.is_some() => wait = after(net.refresh().await, wait),
        }
    }
}

/// How long to wait until it is tried again, if it failed.
fn after(result: Result<(), NetError>, wait: Option<Duration>) -> Option<Duration> {
    let error = result.err()?;
    let wait = wait.map_or(BACKOFF.0, |wait| (wait * 2).min(BACKOFF.1));
    tracing::error!(%error, retry = ?wait, "the way to the pods of other nodes");
    Some(wait)
}

fn warn_of_another_range(places: &Places, own: &str, pods: Ipv4Net) {
    if let Some(range) = places.get(own).and_then(|place| place.pods).filter(|range| *range != pods) {
        tracing::error!(%range, present = %pods, "the Node has another pod range than its pods; drain it and restart the agent");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(name: &str, created: u8, address: &str, pods: &str) -> Node {
        let yaml = format!(
            "metadata: {{name: {name}, creationTimestamp: 2026-01-01T00:00:{created:02}Z}}\nspec: {{podCIDRs: ['fd00::/64', {pods}]}}\n\
             status: {{addresses: [{{type: Hostname, address: {name}}}, {{type: InternalIP, address: '{address}'}}]}}"
        );
        serde_yaml::from_str(&yaml).unwrap()
    }

    #[test]
    fn who_is_a_peer() {
        let mut places = Places::new();
        let all = vec![
            node("own", 0, "192.0.2.1", "10.42.0.0/24"),
            node("b", 1, "192.0.2.2", "10.42.1.0/24"),
            node("claims-b", 2, "192.0.2.3", "10.42.1.128/25"),
            node("claims-own", 3, "192.0.2.4", "10.42.0.0/24"),
            node("no-address", 4, "fd00::1", "10.42.5.0/24"),
            node("no-range", 5, "192.0.2.6", "''"),
        ];
        let mut check = |change, expect: &[(&str, &str)]| {
            learn(&mut places, change);
            let found = peers(&places, "own", "10.42.0.0/24".parse().unwrap());
            assert_eq!(found.0.iter().map(|(pods, at)| (pods.to_string(), at.to_string())).collect::<Vec<_>>(), {
                expect.iter().map(|(pods, at)| (pods.to_string(), at.to_string())).collect::<Vec<_>>()
            });
        };
        check(Change::Reset(all.clone()), &[("10.42.1.0/24", "192.0.2.2")]);
        check(Change::Set(node("b", 1, "192.0.2.77", "10.42.1.0/24")), &[("10.42.1.0/24", "192.0.2.77")]);
        check(Change::Gone(all[1].clone()), &[("10.42.1.128/25", "192.0.2.3")]);
        check(Change::Reset(vec![all[0].clone()]), &[]);
    }
}
