//! What the node forwards, as a ruleset. Pure. The shape follows upstream's nftables proxier (`pkg/proxy/nftables`), with fewer chains.
//!
//! - `services` (from prerouting and output): the destination is looked up once in `service-ips` or `node-ports`, whose verdicts lead
//!   to a chain. A look-up costs the same for ten Services and ten thousand.
//! - that chain marks what must be masqueraded and chooses an endpoint at random, by a number; all forwards that are alike share it (see
//!   [`super::ways`]). With session affinity a forward has a chain of its own, and each endpoint one and a set of recent clients.
//! - `check` (from input, forward and output): what nobody answers is refused at once: a Service without endpoints, another port of a
//!   Service's address, an unassigned Service address (dropped, as upstream).
//! - `postrouting`: masquerade of what is marked, of a pod that reached itself, and of what leaves the cluster.
//!
//! When two Services claim one address and port, the first by name has it. Not forwarded: node ports on loopback addresses (as upstream's
//! nftables mode), and IPv6.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::super::{Forward, Forwards, HostPort, Protocol};
use super::affinity;
use super::claims::{Change, Fragment};
use super::model::{Chain, Ct, Data, Expr, Field, Hook, Kind, Reg, Rule, Ruleset, Set, Verdict};
use super::ways::{self, By, Way};

/// The packet mark of what is to be masqueraded, as upstream's kube-proxy.
pub(super) const MASQUERADE: u32 = 0x4000;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const CT_NEW: u32 = 8;
/// `IPS_DST_NAT`.
const CT_DNAT: u32 = 1 << 5;

const ADDRESS_PORT: &[Field] = &[Field::Address, Field::Port];
const VIRTUAL: &[Field] = &[Field::Address, Field::Protocol, Field::Port];
const NODE_PORT: &[Field] = &[Field::Protocol, Field::Port];
/// The owner of the host ports. No Service is called so.
const HOST_PORTS: &str = "";

/// What the rules need to know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// All pods of the cluster.
    pub cluster: ipnet::Ipv4Net,
    /// Pods of this node.
    pub pods: ipnet::Ipv4Net,
    /// Service addresses.
    pub services: ipnet::Ipv4Net,
    /// Service addresses a process of this node answers itself.
    pub own: Vec<Ipv4Addr>,
}

/// What is there without any forward.
pub(crate) fn base(layout: &Layout) -> Ruleset {
    let mut ruleset = Ruleset { chains: base_chains(layout), sets: base_sets() };
    let own = &mut ruleset.sets.get_mut("own-addresses").expect("a base set").elements;
    own.extend(layout.own.iter().map(|address| (address.octets().to_vec(), Data::None)));
    ruleset
}

/// Whose part of the table differs between the two. Work is proportional to the change.
pub(crate) fn changes(layout: &Layout, old: &Forwards, new: &Forwards) -> Vec<Change> {
    let of = |forwards: &[Forward]| {
        let mut fragment = Fragment::default();
        forwards.iter().for_each(|forward| add_forward(&mut fragment, layout, forward));
        fragment
    };
    let change = |item: DiffItem<'_, '_, String, Arc<[Forward]>>| match item {
        DiffItem::Add(owner, is) => Change { owner: owner.clone(), was: Fragment::default(), is: of(is) },
        DiffItem::Update { old: (owner, was), new: (_, is) } => Change { owner: owner.clone(), was: of(was), is: of(is) },
        DiffItem::Remove(owner, was) => Change { owner: owner.clone(), was: of(was), is: Fragment::default() },
    };
    let mut changes: Vec<Change> = old.services.diff(&new.services).map(change).collect();
    if old.host_ports != new.host_ports {
        let of = |ports| host_ports(layout, ports);
        changes.push(Change { owner: HOST_PORTS.into(), was: of(&old.host_ports), is: of(&new.host_ports) });
    }
    changes
}

fn host_ports(layout: &Layout, ports: &[HostPort]) -> Fragment {
    let mut fragment = Fragment::default();
    for port in ports {
        let SocketAddr::V4(to) = port.to else { continue };
        let value = Data::Value(endpoint_bytes(to));
        match port.address {
            Some(IpAddr::V4(address)) => insert(&mut fragment, "host-ports-at", virtual_key(address, port.protocol, port.port), value),
            None => insert(&mut fragment, "host-ports", port_key(port.protocol, port.port), value),
            Some(IpAddr::V6(_)) => continue,
        };
        hairpin(&mut fragment, layout, to);
    }
    fragment
}

/// The sets that all forwards share, without elements.
pub(crate) fn base_sets() -> BTreeMap<String, Set> {
    [
        ("service-ips", VIRTUAL, Kind::VerdictMap),
        ("node-ports", NODE_PORT, Kind::VerdictMap),
        ("refused-ips", VIRTUAL, Kind::VerdictMap),
        ("refused-node-ports", NODE_PORT, Kind::VerdictMap),
        ("host-ports", NODE_PORT, Kind::Map(ADDRESS_PORT)),
        ("host-ports-at", VIRTUAL, Kind::Map(ADDRESS_PORT)),
        ("cluster-ips", &[Field::Address], Kind::Set),
        ("own-addresses", &[Field::Address], Kind::Set),
        ("hairpin", &[Field::Address, Field::Address], Kind::Set),
    ]
    .into_iter()
    .chain(ways::MAPS.map(|(_, _, name, key)| (name, key, ways::ENDPOINTS)))
    .map(|(name, key, kind)| (name.to_owned(), Set::new(key, kind)))
    .collect()
}

fn base_chains(layout: &Layout) -> BTreeMap<String, Chain> {
    let hook = |kind, number, priority| Some(Hook { kind, number, priority });
    let jump = |to: &str| vec![Rule::new().verdict(Verdict::Jump(to.into()))];
    let new = |to: &str| vec![Rule::new().ct_bit(Ct::State, CT_NEW, 0).verdict(Verdict::Jump(to.into()))];
    [
        ("nat-prerouting", hook("nat", 0, -100), jump("services")),
        ("nat-output", hook("nat", 3, -100), jump("services")),
        ("nat-postrouting", hook("nat", 4, 100), postrouting(layout)),
        ("filter-input", hook("filter", 1, 0), new("check")),
        ("filter-forward", hook("filter", 2, 0), new("check")),
        ("filter-output", hook("filter", 3, 0), new("check")),
        ("services", None, services()),
        ("check", None, check(layout)),
        ("refuse", None, vec![Rule::new().then(Expr::Reject)]),
    ]
    .into_iter()
    .map(|(name, hook, rules)| (name.to_owned(), Chain { hook, rules }))
    .collect()
}

fn own_returns() -> Rule {
    Rule::new().destination(0).then(Expr::InSet { set: "own-addresses".into(), key: Reg(0) }).verdict(Verdict::Return)
}

fn services() -> Vec<Rule> {
    let dnat = |rule: Rule, map: &str, key: u32| {
        rule.then(Expr::Map { map: map.into(), key: Reg(key), to: Reg(4) }).then(Expr::Dnat { address: Reg(4), port: Reg(5) })
    };
    let verdicts = |rule: Rule, map: &str, key: u32| rule.then(Expr::VerdictMap { map: map.into(), key: Reg(key) });
    vec![
        own_returns(),
        verdicts(Rule::new().destination(0).protocol_port(1), "service-ips", 0),
        dnat(Rule::new().destination(0).protocol_port(1), "host-ports-at", 0),
        verdicts(Rule::new().for_this_host(0).protocol_port(1), "node-ports", 1),
        dnat(Rule::new().for_this_host(0).protocol_port(1), "host-ports", 1),
    ]
}

fn check(layout: &Layout) -> Vec<Rule> {
    let verdicts = |rule: Rule, map: &str, key: u32| rule.then(Expr::VerdictMap { map: map.into(), key: Reg(key) });
    vec![
        own_returns(),
        verdicts(Rule::new().destination(0).protocol_port(1), "refused-ips", 0),
        verdicts(Rule::new().for_this_host(0).protocol_port(1), "refused-node-ports", 1),
        Rule::new().destination(0).then(Expr::InSet { set: "cluster-ips".into(), key: Reg(0) }).verdict(Verdict::Goto("refuse".into())),
        Rule::new().destination(0).within(0, layout.services, true).verdict(Verdict::Drop).note("unassigned service address"),
    ]
}

fn postrouting(layout: &Layout) -> Vec<Rule> {
    let multicast = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    let pair = |rule: Rule| rule.source(0).destination(1).then(Expr::InSet { set: "hairpin".into(), key: Reg(0) });
    let outside = Rule::new().source(0).within(0, layout.pods, true).destination(0).within(0, layout.cluster, false);
    vec![
        Rule::new().take_mark(MASQUERADE, 0).then(Expr::Masquerade),
        pair(Rule::new().ct_bit(Ct::Status, CT_DNAT, 0)).then(Expr::Masquerade).note("a pod that reached itself"),
        outside.destination(0).within(0, multicast, false).then(Expr::Masquerade).note("pods to the world"),
    ]
}

/// Claims an element, unless the same owner did so already.
fn insert(fragment: &mut Fragment, set: &'static str, key: Vec<u8>, data: Data) {
    fragment.elements.entry((set, key)).or_insert(data);
}

fn hairpin(fragment: &mut Fragment, layout: &Layout, to: SocketAddrV4) {
    if layout.pods.contains(to.ip()) {
        let pair = [to.ip().octets(), to.ip().octets()].concat();
        insert(fragment, "hairpin", pair, Data::None);
    }
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Protocol and port as they lie in registers: each at the start of four bytes.
fn port_key(protocol: Protocol, port: u16) -> Vec<u8> {
    let port = port.to_be_bytes();
    vec![protocol_number(protocol), 0, 0, 0, port[0], port[1], 0, 0]
}

fn virtual_key(address: Ipv4Addr, protocol: Protocol, port: u16) -> Vec<u8> {
    [address.octets().to_vec(), port_key(protocol, port)].concat()
}

pub(super) fn endpoint_bytes(endpoint: SocketAddrV4) -> Vec<u8> {
    let port = endpoint.port().to_be_bytes();
    [&endpoint.ip().octets()[..], &port, &[0, 0]].concat()
}

fn only_v4(endpoints: &[SocketAddr]) -> Vec<SocketAddrV4> {
    endpoints.iter().filter_map(|e| if let SocketAddr::V4(e) = e { Some(*e) } else { None }).collect()
}

fn add_forward(fragment: &mut Fragment, layout: &Layout, forward: &Forward) {
    let endpoints = only_v4(&forward.endpoints);
    let inside = forward.inside.as_deref().map(only_v4);
    let keys = keys(forward);
    for address in v4_addresses(forward).filter(|address| layout.services.contains(address) && !layout.own.contains(address)) {
        insert(fragment, "cluster-ips", address.octets().to_vec(), Data::None);
    }
    if endpoints.is_empty() && inside.as_ref().is_none_or(Vec::is_empty) {
        for (by, key) in keys {
            let refused = if by == By::Address { "refused-ips" } else { "refused-node-ports" };
            insert(fragment, refused, key, Data::Verdict(Verdict::Goto("refuse".into())));
        }
        return;
    }
    for endpoint in endpoints.iter().chain(inside.iter().flatten()) {
        hairpin(fragment, layout, *endpoint);
    }
    let own = forward.affinity.filter(|_| endpoints.len() > 1 || inside.as_ref().is_some_and(|inside| inside.len() > 1));
    let own = own.map(|seconds| affinity::chain(fragment, layout, forward, seconds, &endpoints, inside.as_deref()));
    for (by, key) in keys {
        let chain = own.clone().unwrap_or_else(|| {
            by.lead(fragment, &key, false, &endpoints);
            by.lead(fragment, &key, true, inside.as_deref().unwrap_or_default());
            let way = Way { by, masquerade: forward.masquerade, count: endpoints.len(), inside: inside.as_ref().map(Vec::len) };
            way.add(fragment, layout)
        });
        let verdicts = if by == By::Address { "service-ips" } else { "node-ports" };
        insert(fragment, verdicts, key, Data::Verdict(Verdict::Goto(chain)));
    }
}

fn v4_addresses(forward: &Forward) -> impl Iterator<Item = Ipv4Addr> + use<'_> {
    forward.addresses.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None })
}

/// What a forward is found by.
fn keys(forward: &Forward) -> Vec<(By, Vec<u8>)> {
    let at = |address| (By::Address, virtual_key(address, forward.protocol, forward.port));
    let node_port = forward.node_port.map(|port| (By::NodePort, port_key(forward.protocol, port)));
    v4_addresses(forward).map(at).chain(node_port).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::Masquerade;
    use super::super::claims::Claims;
    use super::super::diff::{Message, diff};
    use super::*;

    fn layout() -> Layout {
        let net = |text: &str| text.parse().expect("a range");
        Layout { cluster: net("10.42.0.0/16"), pods: net("10.42.0.0/24"), services: net("10.43.0.0/16"), own: vec![] }
    }

    fn service(n: u16, endpoints: &[&str]) -> Forward {
        let [high, low] = n.to_be_bytes();
        Forward {
            name: format!("default/s{n}:http"),
            protocol: Protocol::Tcp,
            addresses: vec![Ipv4Addr::new(10, 43, high, low).into()],
            port: 80,
            node_port: None,
            endpoints: endpoints.iter().map(|e| e.parse().expect("an address")).collect(),
            inside: None,
            masquerade: Masquerade::FromOutside,
            affinity: None,
        }
    }

    fn table(services: Vec<Forward>) -> Ruleset {
        let new = Forwards::of(services, vec![]);
        let (_, mut all) = Claims::default().change(changes(&layout(), &Forwards::default(), &new), &base_sets());
        all.extend(base(&layout()));
        all
    }

    #[test]
    fn a_change_costs_the_same_among_thousands() {
        let many = |last: &[&str]| Forwards::of((0..2000).map(|n| service(n, if n == 1999 { last } else { &["10.42.1.9:8080"] })), vec![]);
        let old = many(&["10.42.1.1:8080"]);
        let mut new = old.clone();
        let changed = many(&["10.42.1.1:8080", "10.42.1.2:8080"]).services["default/s1999:http"].clone();
        new.services.insert("default/s1999:http".into(), changed);
        assert!(changes(&layout(), &old, &old).is_empty());
        let mut claims = Claims::default();
        claims.change(changes(&layout(), &Forwards::default(), &old), &base_sets());
        let (was, is) = claims.change(changes(&layout(), &old, &new), &base_sets());
        let messages = diff(&was, &is);
        let of = |message: &Message| match message {
            Message::AddChain { name, .. } => format!("chain {name}"),
            Message::AddRule { chain, .. } => format!("rule of {chain}"),
            Message::AddElements { set, elements } => format!("+{} {set}", elements.len()),
            Message::DeleteElements { set, keys } => format!("-{} {set}", keys.len()),
            other => format!("{other:?}"),
        };
        let to = "address-to-2-hide-outside";
        assert_eq!(
            messages.iter().map(of).collect::<Vec<_>>(),
            [
                &format!("chain {to}"),
                "-1 service-ips",
                &format!("rule of {to}"),
                &format!("rule of {to}"),
                "+1 endpoints",
                "+1 service-ips"
            ]
        );
        // And back: what nobody needs any more goes, what the others need stays.
        let (was, is) = claims.change(changes(&layout(), &new, &old), &base_sets());
        let chains: Vec<_> =
            diff(&was, &is).iter().filter(|m| matches!(m, Message::DeleteChain(_) | Message::AddChain { .. })).cloned().collect();
        assert_eq!(chains, [Message::DeleteChain(to.into())]);
    }

    #[test]
    fn what_is_alike_shares_a_chain() {
        let mut outside = service(3, &["10.42.0.2:80"]);
        (outside.node_port, outside.masquerade) = (Some(30080), Masquerade::Never);
        outside.inside = Some(vec!["10.42.0.2:80".parse().unwrap(), "10.42.1.2:80".parse().unwrap()]);
        let all = table(vec![service(1, &["10.42.1.9:8080"]), service(2, &["10.42.1.8:8080"]), outside]);
        let chains: Vec<_> = all.chains.keys().filter(|name| name.starts_with("address-") || name.starts_with("node-port-")).collect();
        assert_eq!(
            chains,
            [
                "address-inside-2",
                "address-to-1-hide-outside",
                "address-to-1-inside-2-as-it-is",
                "node-port-inside-2",
                "node-port-to-1-inside-2-as-it-is"
            ]
        );
        let elements = |name: &str| all.sets[name].elements.len();
        assert_eq!(ways::MAPS.map(|(_, _, name, _)| elements(name)), [3, 1, 2, 2]);
    }

    #[test]
    fn without_endpoints_it_is_refused_and_has_no_chain() {
        let table = table(vec![service(7, &[])]);
        assert_eq!(table.sets["refused-ips"].elements.len(), 1);
        assert!(table.sets["service-ips"].elements.is_empty());
        assert_eq!(table.chains.len(), base(&layout()).chains.len());
    }

    #[test]
    fn the_first_by_name_has_the_address() {
        let (first, mut second) = (service(7, &["10.42.0.2:80"]), service(7, &["10.42.0.3:80"]));
        second.name = "default/thief:http".into();
        let both = table(vec![second, first.clone()]);
        assert_eq!(both.sets["service-ips"], table(vec![first]).sets["service-ips"]);
    }

    #[test]
    fn only_pods_of_this_node_reach_themselves_here() {
        let table = table(vec![service(7, &["10.42.0.2:80", "10.42.1.2:80", "192.0.2.1:80"])]);
        assert_eq!(table.sets["hairpin"].elements.len(), 1);
    }

    #[test]
    fn affinity_remembers_clients_per_endpoint() {
        let mut forward = service(7, &["10.42.0.2:80", "10.42.0.3:80"]);
        forward.affinity = Some(60);
        let table = table(vec![forward]);
        assert_eq!(table.sets.values().filter(|set| set.kind == Kind::Timed(60)).count(), 2);
        assert_eq!(table.chains.keys().filter(|name| name.starts_with("ep-")).count(), 2);
    }
}
