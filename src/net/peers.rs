//! How the pods of other nodes are reached: from who is where to what the kernel must be told. Pure.
//!
//! A node on a link that this one is on too is a plain router of its range. Any other gets the packets in VXLAN: the route goes by the
//! VXLAN device to a neighbour that stands for the whole node. Its IP address is the first of the range (as flannel's), its hardware
//! address is made of that, so every node knows everybody's without being told, and a restart changes nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::link::Way;
use super::neighbour::Mac;

/// The other nodes: where the pods of each range are. The whole desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(pub BTreeMap<Ipv4Net, Ipv4Addr>);

/// A hardware address made of an IP address, as CNI's plug-ins do: the same address is always at the same place.
pub(crate) fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// What the kernel holds of ours for other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    /// To which node the VXLAN device sends what is for a hardware address.
    pub forwarding: BTreeMap<Mac, Ipv4Addr>,
    /// Hardware addresses of the VXLAN device's neighbours.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    /// Routes to ranges.
    pub routes: BTreeMap<Ipv4Net, Way>,
}

/// One thing to tell the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Forward(Mac, Ipv4Addr),
    Neighbour(Ipv4Addr, Mac),
    /// `true`: in place of one of ours.
    Route(Ipv4Net, Way, bool),
    RemoveRoute(Ipv4Net, Way),
    RemoveNeighbour(Ipv4Addr, Mac),
    RemoveForward(Mac, Ipv4Addr),
}

/// What should be there, given the VXLAN device and which prefixes are on shared links that this node is on.
pub(crate) fn wanted(peers: &Peers, device: u32, connected: &[(u32, Ipv4Net)]) -> Entries {
    let mut entries = Entries::default();
    for (pods, node) in &peers.0 {
        let near = connected.iter().filter(|(_, net)| net.contains(node)).max_by_key(|(_, net)| net.prefix_len());
        let way = match near {
            Some((link, _)) => Way { link: *link, gateway: *node, onlink: false },
            None => {
                let stand_in = pods.network();
                entries.forwarding.insert(mac(stand_in), *node);
                entries.neighbours.insert(stand_in, mac(stand_in));
                Way { link: device, gateway: stand_in, onlink: true }
            }
        };
        entries.routes.insert(*pods, way);
    }
    entries
}

/// What leads from one to the other. A route comes after what it needs and goes before it.
pub(crate) fn steps(have: &Entries, want: &Entries) -> Vec<Step> {
    let mut steps: Vec<Step> = new(&have.forwarding, &want.forwarding).map(|(mac, node)| Step::Forward(*mac, *node)).collect();
    steps.extend(new(&have.neighbours, &want.neighbours).map(|(ip, mac)| Step::Neighbour(*ip, *mac)));
    steps.extend(new(&have.routes, &want.routes).map(|(to, way)| Step::Route(*to, *way, have.routes.contains_key(to))));
    steps.extend(gone(&have.routes, &want.routes).map(|(to, way)| Step::RemoveRoute(*to, *way)));
    steps.extend(gone(&have.neighbours, &want.neighbours).map(|(ip, mac)| Step::RemoveNeighbour(*ip, *mac)));
    steps.extend(gone(&have.forwarding, &want.forwarding).map(|(mac, node)| Step::RemoveForward(*mac, *node)));
    steps
}

fn new<'a, K: Ord, V: PartialEq>(have: &BTreeMap<K, V>, want: &'a BTreeMap<K, V>) -> impl Iterator<Item = (&'a K, &'a V)> {
    want.iter().filter(|(key, value)| have.get(key) != Some(value))
}

fn gone<'a, K: Ord, V>(have: &'a BTreeMap<K, V>, want: &BTreeMap<K, V>) -> impl Iterator<Item = (&'a K, &'a V)> {
    have.iter().filter(|(key, _)| !want.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: u32 = 9;

    fn peers(rows: &[(&str, &str)]) -> Peers {
        Peers(rows.iter().map(|(pods, node)| (pods.parse().expect("a range"), node.parse().expect("an address"))).collect())
    }

    fn connected() -> Vec<(u32, Ipv4Net)> {
        [(2, "192.0.2.1/24"), (3, "192.0.2.129/28")].map(|(link, net)| (link, net.parse().expect("a prefix"))).into()
    }

    /// A step as one line.
    fn line(step: &Step) -> String {
        let hex = |mac: &Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
        match step {
            Step::Forward(mac, node) => format!("+{} to {node}", hex(mac)),
            Step::Neighbour(ip, mac) => format!("+{ip} is {}", hex(mac)),
            Step::Route(to, way, false) => format!("+{to} via {} link {}", way.gateway, way.link),
            Step::Route(to, way, true) => format!("={to} via {} link {}", way.gateway, way.link),
            Step::RemoveRoute(to, _) => format!("-{to}"),
            Step::RemoveNeighbour(ip, _) => format!("-{ip}"),
            Step::RemoveForward(mac, _) => format!("-{}", hex(mac)),
        }
    }

    fn check(have: &[(&str, &str)], want: &[(&str, &str)], expect: &[&str]) {
        let [have, want] = [have, want].map(|rows| wanted(&peers(rows), DEVICE, &connected()));
        assert_eq!(steps(&have, &want).iter().map(line).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn near_by_plain_route_and_far_by_vxlan() {
        let (near, narrow, far) = (("10.42.1.0/24", "192.0.2.2"), ("10.42.2.0/24", "192.0.2.130"), ("10.42.3.0/24", "198.51.100.7"));
        check(
            &[],
            &[near, narrow, far],
            &[
                "+0a:58:0a:2a:03:00 to 198.51.100.7",
                "+10.42.3.0 is 0a:58:0a:2a:03:00",
                "+10.42.1.0/24 via 192.0.2.2 link 2",
                "+10.42.2.0/24 via 192.0.2.130 link 3",
                "+10.42.3.0/24 via 10.42.3.0 link 9",
            ],
        );
        check(&[near, far], &[near, far], &[]);
        check(&[near, far], &[near], &["-10.42.3.0/24", "-10.42.3.0", "-0a:58:0a:2a:03:00"]);
        check(&[near], &[], &["-10.42.1.0/24"]);
        let moved = ("10.42.3.0/24", "198.51.100.8");
        check(&[far], &[moved], &["+0a:58:0a:2a:03:00 to 198.51.100.8"]);
        let came = ("10.42.3.0/24", "192.0.2.3");
        check(&[far], &[came], &["=10.42.3.0/24 via 192.0.2.3 link 2", "-10.42.3.0", "-0a:58:0a:2a:03:00"]);
    }
}
