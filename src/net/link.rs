//! Links, addresses and routes, over rtnetlink.
//!
//! Every call says what should be, and finding it so already is success. Nothing is asked by interface name through the calling thread's
//! namespace: a [`Links`] speaks for the namespace its socket was opened in.
//!
//! Pods get a /32 and a route to the gateway, not the bridge's prefix. So what one pod sends to its neighbour passes the node's IP layer,
//! where Service translation is undone on the way back; with a shared prefix the answer would take the bridge's short cut past it unless
//! br_netfilter is in force. Where it is in force (another program's choice, left alone) the kernel translates on the bridge and hands the
//! packet from port to port, so ports are not isolated from each other, and are in hairpin mode for a pod that reaches itself.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use ipnet::Ipv4Net;
use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSerializable, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::Channel;

const NETLINK_ROUTE: isize = 0;
/// What a link carries where nothing says otherwise.
pub(crate) const DEFAULT_MTU: u32 = 1500;

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// The bridge it is a port of.
    pub controller: Option<u32>,
    /// Largest packet.
    pub mtu: Option<u32>,
}

/// Links of one network namespace.
pub(crate) struct Links(Channel);

impl Links {
    /// Of the calling thread's namespace.
    pub fn here() -> io::Result<Links> {
        Channel::open(NETLINK_ROUTE).map(Links)
    }

    /// Of another namespace.
    pub fn of(namespace: &File) -> io::Result<Links> {
        Channel::open_in(namespace, NETLINK_ROUTE).map(Links)
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<(u16, Vec<u8>)>> {
        let mut payload = vec![0; <RouteNetlinkMessage as Emitable>::buffer_len(&message)];
        message.serialize(&mut payload);
        self.0.request(message.message_type(), flags, payload)
    }

    /// A link by its name.
    pub fn find(&self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
            Ok(answers) => answers.first().map(|(_, payload)| parse_link(payload)).transpose(),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All links.
    pub fn list(&self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        answers.iter().map(|(_, payload)| parse_link(payload)).collect()
    }

    /// MTU of the interface the default route leaves by; [`DEFAULT_MTU`] where there is none.
    pub fn default_mtu(&self) -> io::Result<u32> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        let mut out = None;
        for (_, payload) in &answers {
            let route = RouteMessage::parse(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            if route.header.destination_prefix_length == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN {
                out = out.or(route.attributes.iter().find_map(|a| if let RouteAttribute::Oif(index) = a { Some(*index) } else { None }));
            }
        }
        let Some(index) = out else { return Ok(DEFAULT_MTU) };
        Ok(self.list()?.into_iter().find(|l| l.index == index).and_then(|l| l.mtu).unwrap_or(DEFAULT_MTU))
    }

    /// Makes a bridge that is up. Its hardware address is given, because one taken from the ports would change under the pods' ARP caches.
    pub fn bridge(&self, name: &str, mac: [u8; 6], mtu: u32) -> io::Result<u32> {
        if self.find(name)?.is_none() {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(name.into()),
                LinkAttribute::Address(mac.to_vec()),
                LinkAttribute::Mtu(mtu),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
            ];
            self.ask(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
        }
        let link = self.find(name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        self.up(link.index)?;
        Ok(link.index)
    }

    /// Sets a link up.
    pub fn up(&self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Makes a veth pair: this end a port of the bridge, the other one born inside `namespace` under the name `peer`, so that it never
    /// shows under a temporary name in this one. That end is still down: it can't be up before it has its peer.
    pub fn veth(&self, name: &str, bridge: u32, peer: &str, mac: [u8; 6], namespace: &File, mtu: u32) -> io::Result<()> {
        let mut inner = LinkMessage::default();
        inner.attributes = vec![
            LinkAttribute::IfName(peer.into()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner)))]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
        self.hairpin(name)
    }

    /// Lets a bridge port send back what came from it.
    fn hairpin(&self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
            ]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(message), NLM_F_ACK).map(drop)
    }

    /// Removes a link; its being gone already is fine.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(libc::ENODEV) => Err(e),
            _ => Ok(()),
        }
    }

    /// Gives a link an address.
    pub fn address(&self, index: u32, address: Ipv4Net) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        message.header.scope = AddressScope::Universe;
        let ip = IpAddr::V4(address.addr());
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Routes `to` out of a link, by way of `via` if given, with `source` as the preferred own address.
    pub fn route(&self, index: u32, to: Ipv4Net, via: Option<Ipv4Addr>, source: Option<Ipv4Addr>) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = to.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if via.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(index));
        if to.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(to.network())));
        }
        message.attributes.extend(via.map(|ip| RouteAttribute::Gateway(RouteAddress::Inet(ip))));
        message.attributes.extend(source.map(|ip| RouteAttribute::PrefSource(RouteAddress::Inet(ip))));
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }
}

fn parse_link(payload: &[u8]) -> io::Result<Link> {
    let message = LinkMessage::parse(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    let mut link = Link { index: message.header.index, ..Link::default() };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = Some(mtu),
            _ => {}
        }
    }
    Ok(link)
}
