//! The node's network as one object: bridge, pods and rules.
//!
//! Order matters in two places. Attaching writes the lease before the link exists, so that a crash between can't give the address away twice;
//! detaching removes the link before the lease is freed, for the same reason.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::events::Changes;
use super::ipam::Ipam;
use super::link::Links;
use super::nft::rules::Layout;
use super::nft::{Table, conntrack};
use super::overlay::{OVERHEAD, Overlay};
use super::peers::{Peers, mac};
use super::{Attachment, Forwards, NetConfig, NetError, sysctl};

/// Our bridge.
pub(crate) const BRIDGE: &str = "orch0";
/// The least that IPv4 asks of a link for all practical purposes.
const MIN_MTU: u32 = 576;
/// What pods call their link.
const POD_LINK: &str = "eth0";

/// See [`super::Net`].
pub(crate) struct Node {
    config: NetConfig,
    /// The network namespace that all of it is in.
    namespace: File,
    gateway: Ipv4Addr,
    links: Links,
    bridge: u32,
    mtu: u32,
    ipam: Mutex<Ipam>,
    rules: Mutex<Rules>,
    overlay: Overlay,
}

struct Rules {
    table: Table,
    layout: Layout,
    forwards: Forwards,
}

fn netlink(doing: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
    let what = what.into();
    move |source| NetError::Netlink { doing, what, source }
}

/// The node's end of a pod's link. 15 characters, the most a link may have.
fn host_link(id: &str) -> String {
    let hex: String = Sha256::digest(id.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("veth{}", &hex[..11])
}

/// Whether a link of this name is the node's end of a pod's.
pub(crate) fn is_host_link(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|rest| rest.len() == 11 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Node {
    /// See [`super::Net::open`].
    pub fn open(config: NetConfig) -> Result<Node, NetError> {
        let ipam = Ipam::open(&config.data_dir, config.pod_cidr)?;
        let links = Links::here().map_err(netlink("opening", "a route socket"))?;
        let gateway = Ipv4Addr::from_bits(config.pod_cidr.network().to_bits() + 1);
        let path = Path::new("/proc/thread-self/ns/net");
        let namespace = File::open(path).map_err(|source| NetError::Io { doing: "opening", path: path.into(), source })?;
        let below = match config.node_ip {
            IpAddr::V4(address) => links.mtu_of(address),
            IpAddr::V6(_) => links.default_mtu(),
        };
        // One size for all packets of pods, so that none has to find out on its way that the next hop is a tunnel.
        let mtu = below.map_err(netlink("reading", "the MTU of the node's link"))?.saturating_sub(OVERHEAD).max(MIN_MTU);
        // Its address is the one that older kernels take for the bridge's broadcast address, unless it was there first.
        let overlay = Overlay::open(config.pod_cidr, mtu, config.always_vxlan)?;
        let bridge = links.bridge(BRIDGE, mac(gateway), mtu).map_err(netlink("making bridge", BRIDGE))?;
        let address = Ipv4Net::new_assert(gateway, config.pod_cidr.prefix_len());
        // Of another range, which the node had before.
        let all = links.addresses().map_err(netlink("listing", "addresses"))?;
        let stale = |(link, net): &(u32, Ipv4Net)| *link == bridge && *net != address && !config.service_cidr.contains(&net.addr());
        for (_, stale) in all.into_iter().filter(stale) {
            links.remove_address(bridge, stale).map_err(netlink("removing address", format!("{stale} from {BRIDGE}")))?;
        }
        links.address(bridge, address).map_err(netlink("adding address", format!("{address} to {BRIDGE}")))?;
        // A process of the node that connects to a Service needs some route to its address, to get a source address before translation. Not
        // every node has a default route.
        let to = config.service_cidr;
        links.route(bridge, to, None, Some(gateway)).map_err(netlink("adding route", format!("{to} by {BRIDGE}")))?;
        sysctl::apply(&config.data_dir)?;
        let layout = Layout { cluster: config.cluster_cidr, pods: config.pod_cidr, services: config.service_cidr, own: Vec::new() };
        let mut table = Table::open().map_err(netlink("opening", "a netfilter socket"))?;
        let forwards = Forwards::default();
        table.apply(&layout, &forwards).map_err(netlink("replacing", "nftables table ip orch"))?;
        let rules = Mutex::new(Rules { table, layout, forwards });
        Ok(Node { config, namespace, gateway, links, bridge, mtu, ipam: Mutex::new(ipam), rules, overlay })
    }

    /// See [`super::Net::peers`].
    pub fn peers(&self, peers: Option<Peers>) -> Result<(), NetError> {
        self.overlay.apply(peers)
    }

    /// See [`super::Net::changes`].
    pub fn changes(&self) -> Result<Changes, NetError> {
        Changes::of(&self.namespace).map_err(netlink("subscribing to", "changes of links"))
    }

    /// The bridge's address.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// All pods of this node.
    pub fn pod_cidr(&self) -> Ipv4Net {
        self.config.pod_cidr
    }

    /// See [`super::Net::attach`].
    pub fn attach(&self, id: &str, pid: i32) -> Result<Attachment, NetError> {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(|source| NetError::Io { doing: "opening", path: path.clone().into(), source })?;
        let address = self.ipam.lock().take(id)?;
        let pod = Links::of(&namespace).map_err(netlink("entering", path))?;
        let name = host_link(id);
        let what = format!("{name} for {id}");
        if !self.is_linked(&name, &pod).map_err(netlink("looking for", what.as_str()))? {
            self.links.remove(&name).map_err(netlink("removing stale link", what.as_str()))?;
            self.links
                .veth(&name, self.bridge, POD_LINK, mac(address), &namespace, self.mtu)
                .map_err(netlink("making link", what.as_str()))?;
        }
        self.set_up_pod(&pod, address).map_err(netlink("setting up the pod's end of", what.as_str()))?;
        Ok(Attachment { address, gateway: self.gateway })
    }

    /// Both ends are where they belong already (attached before a restart). A pair of which one end is elsewhere is not.
    fn is_linked(&self, name: &str, pod: &Links) -> io::Result<bool> {
        let host = self.links.find(name)?;
        Ok(host.is_some_and(|link| link.controller == Some(self.bridge)) && pod.find(POD_LINK)?.is_some())
    }

    fn set_up_pod(&self, pod: &Links, address: Ipv4Addr) -> io::Result<()> {
        let missing = || io::Error::from_raw_os_error(libc::ENODEV);
        pod.up(pod.find("lo")?.ok_or_else(missing)?.index)?;
        let link = pod.find(POD_LINK)?.ok_or_else(missing)?.index;
        pod.up(link)?;
        pod.address(link, Ipv4Net::new_assert(address, 32))?;
        // The gateway is outside the /32: first the way to it, then the way by it.
        pod.route(link, Ipv4Net::new_assert(self.gateway, 32), None, None)?;
        pod.route(link, Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0), Some(self.gateway), None)
    }

    /// See [`super::Net::detach`].
    pub fn detach(&self, id: &str) -> Result<(), NetError> {
        let name = host_link(id);
        self.links.remove(&name).map_err(netlink("removing link", format!("{name} of {id}")))?;
        self.ipam.lock().free(id)
    }

    /// See [`super::Net::retain`]. Removes as much as it can; returns the first failure.
    pub fn retain(&self, ids: &[String]) -> Result<(), NetError> {
        let names: BTreeSet<String> = ids.iter().map(|id| host_link(id)).collect();
        let mut failure = None;
        for link in self.links.list().map_err(netlink("listing", "links"))? {
            if link.controller == Some(self.bridge) && is_host_link(&link.name) && !names.contains(&link.name) {
                let removed = self.links.remove(&link.name).map_err(netlink("removing link", link.name));
                failure = failure.or(removed.err());
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => self.ipam.lock().retain(&ids.iter().map(String::as_str).collect()),
        }
    }

    /// See [`super::Net::forward`].
    pub fn forward(&self, forwards: Forwards) -> Result<(), NetError> {
        let mut rules = self.rules.lock();
        if rules.forwards == forwards {
            return Ok(());
        }
        let rules = &mut *rules;
        rules.table.apply(&rules.layout, &forwards).map_err(netlink("changing", "nftables table ip orch"))?;
        let changes = conntrack::changes(&rules.forwards, &forwards);
        rules.forwards = forwards;
        if !changes.is_empty() {
            // The rules are in force; flows that could not be looked through are no reason to say they are not.
            match conntrack::forget_stale(rules.table.channel(), &changes) {
                Ok(count) => tracing::debug!(count, "forgot stale UDP flows"),
                Err(error) => {
                    tracing::warn!(%error, "can't forget stale UDP flows; they go to endpoints that are gone until they time out")
                }
            }
        }
        Ok(())
    }

    /// See [`super::Net::own`].
    pub fn own(&self, address: Ipv4Addr) -> Result<(), NetError> {
        let net = Ipv4Net::new_assert(address, 32);
        self.links.address(self.bridge, net).map_err(netlink("adding address", format!("{net} to {BRIDGE}")))?;
        let mut rules = self.rules.lock();
        let rules = &mut *rules;
        if !rules.layout.own.contains(&address) {
            rules.layout.own.push(address);
        }
        rules.table.apply(&rules.layout, &rules.forwards).map_err(netlink("changing", "nftables table ip orch"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_and_are_recognised() {
        let name = host_link("3f0c8c9e-0000-4000-8000-000000000000");
        assert_eq!(name.len(), 15);
        assert!(is_host_link(&name));
        assert_eq!(name, host_link("3f0c8c9e-0000-4000-8000-000000000000"));
        for other in ["veth0", "vethabcdefghijk", "eth0", "veth0123456789ab"] {
            assert!(!is_host_link(other), "{other}");
        }
    }
}
