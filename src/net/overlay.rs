//! The way to the pods of other nodes, as the kernel has it: the VXLAN device, its entries, and the routes.
//!
//! Level-triggered: what is there is read from the kernel each time, so that whatever was lost (a link that was down takes its routes with
//! it) or left over (from before a restart) is put right by the same few lines.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use parking_lot::Mutex;

use super::NetError;
use super::link::Links;
use super::neighbour::Table;
use super::peers::{Entries, Peers, Step, mac, steps, wanted};

/// Our VXLAN device.
pub(crate) const DEVICE: &str = "orch.vx";
/// Its network; no other program's default, so that two may share a machine.
const NETWORK: u32 = 0x6f_7263;
/// Its UDP port, the one that flannel uses and firewalls know.
const PORT: u16 = 8472;
/// Bytes that VXLAN adds to a packet: Ethernet, IPv4, UDP and its own header.
pub(crate) const OVERHEAD: u32 = 50;

/// See the module.
pub(crate) struct Overlay {
    links: Links,
    /// The first address of this node's range: the device's, and so the source of what the node itself sends by it.
    address: Ipv4Addr,
    mtu: u32,
    /// No link counts as shared.
    always: bool,
    peers: Mutex<Option<Peers>>,
}

fn failed(doing: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
    let what = what.into();
    move |source| NetError::Netlink { doing, what, source }
}

impl Overlay {
    /// For a node with these pods; `always`: even for nodes on a link that this one is on too. Makes the device.
    pub fn open(pods: Ipv4Net, mtu: u32, always: bool) -> Result<Overlay, NetError> {
        let links = Links::here().map_err(failed("opening", "a route socket"))?;
        let overlay = Overlay { links, address: pods.network(), mtu, always, peers: Mutex::new(None) };
        overlay.device()?;
        Ok(overlay)
    }

    fn device(&self) -> Result<u32, NetError> {
        let index = self.links.vxlan(DEVICE, mac(self.address), self.mtu, NETWORK, PORT).map_err(failed("making", DEVICE))?;
        let own = Ipv4Net::new_assert(self.address, 32);
        let all = self.links.addresses().map_err(failed("listing", "addresses"))?;
        let (right, stale): (Vec<_>, Vec<_>) =
            all.into_iter().filter(|(link, _)| *link == index).map(|(_, net)| net).partition(|net| *net == own);
        for stale in stale {
            self.links.remove_address(index, stale).map_err(failed("removing address", format!("{stale} from {DEVICE}")))?;
        }
        // What is there is not written again: the kernel tells all of it, and what it tells is answered by coming here.
        if right.is_empty() {
            self.links.address(index, own).map_err(failed("adding address", format!("{own} to {DEVICE}")))?;
        }
        Ok(index)
    }

    /// Makes these the peers, or puts right what is there for those there are.
    pub fn apply(&self, peers: Option<Peers>) -> Result<(), NetError> {
        let mut current = self.peers.lock();
        if peers.is_some() {
            *current = peers;
        }
        let Some(peers) = &*current else { return Ok(()) };
        let device = self.device()?;
        let connected = self.connected().map_err(failed("listing", "addresses"))?;
        let have = self.present(device).map_err(failed("listing", "routes to other nodes"))?;
        let mut failure = None;
        for step in steps(&have, &wanted(peers, device, &connected)) {
            tracing::debug!(?step, "the way to pods of another node");
            // One node that can't be reached is no reason to leave the others.
            let done = self.carry_out(device, &step).map_err(failed("changing the way to another node's pods:", format!("{step:?}")));
            failure = failure.or(done.err());
        }
        failure.map_or(Ok(()), Err)
    }

    /// The prefixes on shared links whose nodes are routers.
    fn connected(&self) -> io::Result<Vec<(u32, Ipv4Net)>> {
        if self.always {
            return Ok(Vec::new());
        }
        let ours = |name: &str| name == DEVICE || name == super::node::BRIDGE;
        let links = self.links.list()?;
        let shared: BTreeSet<u32> = links.iter().filter(|link| link.shared && !ours(&link.name)).map(|link| link.index).collect();
        Ok(self.links.addresses()?.into_iter().filter(|(link, net)| shared.contains(link) && net.prefix_len() < 32).collect())
    }

    fn present(&self, device: u32) -> io::Result<Entries> {
        Ok(Entries {
            forwarding: self.links.entries(Table::Forwarding, device)?.into_iter().collect(),
            neighbours: self.links.entries(Table::Neighbours, device)?.into_iter().map(|(mac, ip)| (ip, mac)).collect(),
            routes: self.links.peer_routes()?,
        })
    }

    fn carry_out(&self, device: u32, step: &Step) -> io::Result<()> {
        let links = &self.links;
        match *step {
            Step::Forward(mac, node) => links.put_entry(Table::Forwarding, device, mac, node),
            Step::Neighbour(ip, mac) => links.put_entry(Table::Neighbours, device, mac, ip),
            Step::Route(to, way, replace) => links.route_to_peer(to, way, replace),
            Step::RemoveRoute(to, way) => links.remove_peer_route(to, way),
            Step::RemoveNeighbour(ip, mac) => links.remove_entry(Table::Neighbours, device, mac, ip),
            Step::RemoveForward(mac, node) => links.remove_entry(Table::Forwarding, device, mac, node),
        }
    }
}
