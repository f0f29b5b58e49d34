//! Links, addresses and routes, over rtnetlink.
//!
//! Every call says what should be, and finding it so already is success. Nothing is asked by interface name through the calling thread's
//! namespace: a [`Links`] speaks for the namespace its socket was opened in.
//!
//! Pods get a /32 and a route to the gateway, not the bridge's prefix. So what one pod sends to its neighbour passes the node's IP layer,
//! where Service translation is undone on the way back; with a shared prefix the answer would take the bridge's short cut past it unless
//! br_netfilter is in force. Where it is in force (another program's choice, left alone) the kernel translates on the bridge and hands the
//! packet from port to port, so ports are not isolated from each other, and are in hairpin mode for a pod that reaches itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use ipnet::Ipv4Net;
use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSerializable, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::Channel;

pub(crate) const NETLINK_ROUTE: isize = 0;
/// Who made a route to pods of another node, so that ours are told from others' (`rtm_protocol`; a number that nobody else has).
const OURS: RouteProtocol = RouteProtocol::Other(110);
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
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// Neighbours are found by ARP: an Ethernet, not a tunnel.
    pub shared: bool,
    /// Network and UDP port of a VXLAN device.
    pub vxlan: Option<(u32, u16)>,
}

/// How the packets for a range leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// By this link.
    pub link: u32,
    /// To this neighbour.
    pub gateway: Ipv4Addr,
    /// Which is there although no address of the link says so.
    pub onlink: bool,
}

/// Links of one network namespace.
pub(crate) struct Links(pub(super) Channel);

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
            let route = RouteMessage::parse(payload).map_err(unreadable)?;
            if route.header.destination_prefix_length == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN {
                out = out.or(route.attributes.iter().find_map(|a| if let RouteAttribute::Oif(index) = a { Some(*index) } else { None }));
            }
        }
        let Some(index) = out else { return Ok(DEFAULT_MTU) };
        Ok(self.list()?.into_iter().find(|l| l.index == index).and_then(|l| l.mtu).unwrap_or(DEFAULT_MTU))
    }

    /// MTU of the link that has this address; that of the default route where none has it.
    pub fn mtu_of(&self, address: Ipv4Addr) -> io::Result<u32> {
        let Some((index, _)) = self.addresses()?.into_iter().find(|(_, net)| net.addr() == address) else { return self.default_mtu() };
        Ok(self.list()?.into_iter().find(|link| link.index == index).and_then(|link| link.mtu).unwrap_or(DEFAULT_MTU))
    }

    /// Makes a bridge that is up. Its hardware address is given, because one taken from the ports would change under the pods' ARP caches.
    pub fn bridge(&self, name: &str, mac: [u8; 6], mtu: u32) -> io::Result<u32> {
        self.device(name, mac, mtu, vec![LinkInfo::Kind(InfoKind::Bridge)])
    }

    /// Makes a VXLAN device that is up and knows only what it is told: it learns nothing and floods nothing.
    pub fn vxlan(&self, name: &str, mac: [u8; 6], mtu: u32, network: u32, port: u16) -> io::Result<u32> {
        if self.find(name)?.is_some_and(|link| link.vxlan != Some((network, port))) {
            self.remove(name)?;
        }
        let data = vec![InfoVxlan::Id(network), InfoVxlan::Port(port), InfoVxlan::Learning(false)];
        self.device(name, mac, mtu, vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))])
    }

    fn device(&self, name: &str, mac: [u8; 6], mtu: u32, info: Vec<LinkInfo>) -> io::Result<u32> {
        let missing = || io::Error::from_raw_os_error(libc::ENODEV);
        if self.find(name)?.is_none() {
            let mut message = LinkMessage::default();
            let name = LinkAttribute::IfName(name.into());
            message.attributes = vec![name, LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu), LinkAttribute::LinkInfo(info)];
            self.ask(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
        }
        let link = self.find(name)?.ok_or_else(missing)?;
        if link.mac != Some(mac) || link.mtu != Some(mtu) {
            let mut message = LinkMessage::default();
            message.header.index = link.index;
            message.attributes = vec![LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu)];
            self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)?;
        }
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

    /// All addresses: of which link, with the prefix that is connected by it.
    pub fn addresses(&self) -> io::Result<Vec<(u32, Ipv4Net)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        let mut found = Vec::new();
        for (_, payload) in &answers {
            let message = AddressMessage::parse(payload).map_err(unreadable)?;
            let local = |a: &AddressAttribute| if let AddressAttribute::Local(IpAddr::V4(ip)) = a { Some(*ip) } else { None };
            let net = message.attributes.iter().find_map(local).and_then(|ip| Ipv4Net::new(ip, message.header.prefix_len).ok());
            found.extend(net.map(|net| (message.header.index, net)));
        }
        Ok(found)
    }

    /// Gives a link an address.
    pub fn address(&self, index: u32, address: Ipv4Net) -> io::Result<()> {
        let message = address_message(index, address);
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Takes an address from a link; its being gone already is fine.
    pub fn remove_address(&self, index: u32, address: Ipv4Net) -> io::Result<()> {
        match self.ask(RouteNetlinkMessage::DelAddress(address_message(index, address)), NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(libc::EADDRNOTAVAIL) => Err(e),
            _ => Ok(()),
        }
    }

    /// The routes that [`Links::route_to_peer`] made.
    pub fn peer_routes(&self) -> io::Result<BTreeMap<Ipv4Net, Way>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        let mut found = BTreeMap::new();
        for (_, payload) in &answers {
            let route = RouteMessage::parse(payload).map_err(unreadable)?;
            if route.header.table != RouteHeader::RT_TABLE_MAIN || route.header.protocol != OURS {
                continue;
            }
            let (mut to, mut way) = (None, Way { link: 0, gateway: Ipv4Addr::UNSPECIFIED, onlink: false });
            way.onlink = route.header.flags.contains(RouteFlags::Onlink);
            for attribute in route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(ip)) => {
                        to = Ipv4Net::new(ip, route.header.destination_prefix_length).ok()
                    }
                    RouteAttribute::Gateway(RouteAddress::Inet(ip)) => way.gateway = ip,
                    RouteAttribute::Oif(link) => way.link = link,
                    _ => {}
                }
            }
            found.extend(to.map(|to| (to, way)));
        }
        Ok(found)
    }

    /// Routes a range to where the pods of another node are. `replace`: a route of ours is there, which goes elsewhere; otherwise one that
    /// somebody else made is an error, and stays.
    pub fn route_to_peer(&self, to: Ipv4Net, way: Way, replace: bool) -> io::Result<()> {
        let how = if replace { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
        self.ask(RouteNetlinkMessage::NewRoute(peer_route(to, way)), NLM_F_ACK | how).map(drop)
    }

    /// Removes such a route; its being gone already is fine.
    pub fn remove_peer_route(&self, to: Ipv4Net, way: Way) -> io::Result<()> {
        match self.ask(RouteNetlinkMessage::DelRoute(peer_route(to, way)), NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
            _ => Ok(()),
        }
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

fn unreadable(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn address_message(index: u32, address: Ipv4Net) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    let ip = IpAddr::V4(address.addr());
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn peer_route(to: Ipv4Net, way: Way) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = to.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = OURS;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.flags = if way.onlink { RouteFlags::Onlink } else { RouteFlags::empty() };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(to.network())),
        RouteAttribute::Oif(way.link),
        RouteAttribute::Gateway(RouteAddress::Inet(way.gateway)),
    ];
    message
}

pub(super) fn parse_link(payload: &[u8]) -> io::Result<Link> {
    let message = LinkMessage::parse(payload).map_err(unreadable)?;
    let flags = message.header.flags;
    let shared = flags.contains(LinkFlags::Broadcast) && !flags.intersects(LinkFlags::Noarp | LinkFlags::Pointopoint);
    let mut link = Link { index: message.header.index, shared, ..Link::default() };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = Some(mtu),
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
            LinkAttribute::LinkInfo(info) => {
                link.vxlan = info.iter().find_map(|info| if let LinkInfo::Data(InfoData::Vxlan(data)) = info { vxlan(data) } else { None });
            }
            _ => {}
        }
    }
    Ok(link)
}

fn vxlan(data: &[InfoVxlan]) -> Option<(u32, u16)> {
    let id = data.iter().find_map(|d| if let InfoVxlan::Id(id) = d { Some(*id) } else { None })?;
    Some((id, data.iter().find_map(|d| if let InfoVxlan::Port(port) = d { Some(*port) } else { None })?))
}
