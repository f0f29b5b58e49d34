//! UDP flows that were translated to an endpoint which is no longer one.
//!
//! A UDP flow has no end, so the kernel's connection tracking would keep translating it to where it once went for as long as the client keeps
//! sending. After a change of the forwards those flows are deleted, and their next packet is decided anew (as upstream's
//! `pkg/proxy/conntrack`). Only read when a UDP forward changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use imbl::ordmap::DiffItem;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};

use super::super::netlink::{Attrs, Channel, attribute};
use super::super::{Forward, Forwards, HostPort, Protocol};

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const UDP: u8 = 17;

/// A tracked UDP flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where the client sent it.
    pub sent_to: SocketAddrV4,
    /// Who answers.
    pub answered_by: SocketAddrV4,
    /// The original tuple as the kernel gave it, to name the flow by.
    tuple: Vec<u8>,
}

/// Where UDP goes: from an address (`None`: any of the node's) and port to these.
type Targets = BTreeMap<(Option<Ipv4Addr>, u16), BTreeSet<SocketAddr>>;

fn targets<'a>(services: impl Iterator<Item = &'a Forward>, host_ports: &[HostPort]) -> Targets {
    let mut targets = Targets::new();
    for forward in services.filter(|f| f.protocol == Protocol::Udp) {
        let at = forward.addresses.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some((Some(*a), forward.port)) } else { None });
        for key in at.chain(forward.node_port.map(|port| (None, port))) {
            targets.entry(key).or_default().extend(forward.endpoints.iter().chain(forward.inside.iter().flatten()));
        }
    }
    for port in host_ports.iter().filter(|p| p.protocol == Protocol::Udp) {
        match port.address {
            Some(IpAddr::V4(address)) => targets.entry((Some(address), port.port)).or_default().insert(port.to),
            None => targets.entry((None, port.port)).or_default().insert(port.to),
            Some(IpAddr::V6(_)) => continue,
        };
    }
    targets
}

/// What changed for UDP between the two: the places whose flows must be looked at, with where they may go now. Services that are the same in
/// both are not looked at.
pub(crate) fn changes(old: &Forwards, new: &Forwards) -> Changes {
    let (mut gone, mut come): (Vec<&Forward>, Vec<&Forward>) = (Vec::new(), Vec::new());
    for item in old.services.diff(&new.services) {
        match item {
            DiffItem::Add(_, is) => come.extend(is.iter()),
            DiffItem::Update { old: (_, was), new: (_, is) } => {
                gone.extend(was.iter());
                come.extend(is.iter());
            }
            DiffItem::Remove(_, was) => gone.extend(was.iter()),
        }
    }
    let (was, is) = (targets(gone.into_iter(), &old.host_ports), targets(come.into_iter(), &new.host_ports));
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).copied().collect();
    Changes(
        keys.into_iter().filter(|key| was.get(key) != is.get(key)).map(|key| (key, is.get(&key).cloned().unwrap_or_default())).collect(),
    )
}

/// See [`changes`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changes(Targets);

impl Changes {
    /// Nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_stale(&self, flow: &Flow) -> bool {
        let (ip, port) = (*flow.sent_to.ip(), flow.sent_to.port());
        let exact = self.0.get(&(Some(ip), port));
        exact.or_else(|| self.0.get(&(None, port))).is_some_and(|now| !now.contains(&SocketAddr::V4(flow.answered_by)))
    }
}

/// Deletes the stale flows; says how many.
pub(crate) fn forget_stale(channel: &Channel, changes: &Changes) -> io::Result<usize> {
    let header = [libc::AF_INET as u8, 0, 0, 0];
    let mut count = 0;
    for (_, payload) in channel.request(GET, NLM_F_DUMP, Attrs::after(&header).done())? {
        let Some(flow) = payload.get(4..).and_then(parse).filter(|flow| changes.is_stale(flow)) else { continue };
        match channel.request(DELETE, NLM_F_ACK, Attrs::after(&header).nest(TUPLE_ORIGINAL, Attrs::after(&flow.tuple)).done()) {
            Ok(_) => count += 1,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {} // ended by itself
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

fn parse(attributes: &[u8]) -> Option<Flow> {
    let original = attribute(attributes, TUPLE_ORIGINAL)?;
    let reply = attribute(attributes, TUPLE_REPLY)?;
    Some(Flow { sent_to: end(original, 2, 3)?, answered_by: end(reply, 1, 2)?, tuple: original.to_vec() })
}

/// One end of a UDP tuple: the address attribute and the port attribute of that number.
fn end(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddrV4> {
    let (ip, proto) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    if attribute(proto, 1)? != [UDP] {
        return None;
    }
    let ip = Ipv4Addr::from(*attribute(ip, address)?.first_chunk::<4>()?);
    Some(SocketAddrV4::new(ip, u16::from_be_bytes(*attribute(proto, port)?.first_chunk::<2>()?)))
}

#[cfg(test)]
mod tests {
    use super::super::super::Masquerade;
    use super::*;

    fn forwards(endpoints: &[&str]) -> Forwards {
        let endpoints = endpoints.iter().map(|e| e.parse().expect("an address")).collect();
        let forward = Forward {
            name: "dns".into(),
            protocol: Protocol::Udp,
            addresses: vec!["10.43.0.9".parse().expect("an address")],
            port: 53,
            node_port: Some(30053),
            endpoints,
            affinity: None,
            inside: None,
            masquerade: Masquerade::FromOutside,
        };
        Forwards::of([forward], vec![])
    }

    fn check(old: &[&str], new: &[&str], sent_to: &str, answered_by: &str, stale: bool) {
        let parse = |text: &str| text.parse().expect("an address");
        let flow = Flow { sent_to: parse(sent_to), answered_by: parse(answered_by), tuple: vec![] };
        assert_eq!(changes(&forwards(old), &forwards(new)).is_stale(&flow), stale, "{old:?} {new:?} {sent_to} {answered_by}");
    }

    #[test]
    fn flows_to_what_went_are_stale() {
        let (a, b) = ("10.42.0.2:53", "10.42.0.3:53");
        check(&[a, b], &[a], "10.43.0.9:53", b, true);
        check(&[a, b], &[a], "10.43.0.9:53", a, false);
        check(&[a], &[a], "10.43.0.9:53", b, false); // nothing changed, nothing is looked at
        check(&[], &[a], "10.43.0.9:53", "10.43.0.9:53", true); // went nowhere until now
        check(&[a], &[], "192.0.2.1:30053", a, true);
        check(&[a], &[], "192.0.2.1:53", a, false); // somebody else's
    }
}
