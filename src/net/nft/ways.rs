//! How a packet for a forward gets to one of its endpoints. Pure.
//!
//! Words: a *way* is everything by which forwards differ in their rules, but for what they are called and where they lead: all forwards that
//! are alike in it share one chain, and the endpoints lie in maps, by the forward's address or node port and a number. So ten thousand
//! Services are elements of a few maps, which a few rules look into. A rule of each one's own would not do: the kernel looks at all rules that
//! use a map whenever an element comes to it, and at all elements whenever a rule does.

use std::net::SocketAddrV4;

use super::super::Masquerade;
use super::claims::Fragment;
use super::model::{Chain, Data, Expr, Fib, Field, Kind, Reg, Rule, Verdict};
use super::rules::{Layout, MASQUERADE, endpoint_bytes};

/// What a forward is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Address, protocol and port.
    Address,
    /// Protocol and port, on every address of the node.
    NodePort,
}

/// The maps of endpoints: [`By`], whether for clients inside the cluster, and the name and key.
pub(crate) const MAPS: [(By, bool, &str, &[Field]); 4] = [
    (By::Address, false, "endpoints", &[Field::Address, Field::Protocol, Field::Port, Field::Mark]),
    (By::NodePort, false, "node-port-endpoints", &[Field::Protocol, Field::Port, Field::Mark]),
    (By::Address, true, "inside-endpoints", &[Field::Address, Field::Protocol, Field::Port, Field::Mark]),
    (By::NodePort, true, "node-port-inside-endpoints", &[Field::Protocol, Field::Port, Field::Mark]),
];

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub by: By,
    pub masquerade: Masquerade,
    /// How many endpoints there are.
    pub count: usize,
    /// How many there are for clients inside the cluster, if those are led elsewhere.
    pub inside: Option<usize>,
}

impl Way {
    /// Adds the chains of this way; returns the name of the one to go to.
    pub(crate) fn add(&self, fragment: &mut Fragment, layout: &Layout) -> String {
        let mut rules = Vec::new();
        if let Some(count) = self.inside {
            let chain = format!("{}-inside-{count}", self.by.word());
            fragment.chains.insert(chain.clone(), Chain { hook: None, rules: vec![self.choose(true, count)] });
            rules.extend(lead_inside(layout, &chain));
        }
        rules.extend(masquerade(layout, self.masquerade));
        rules.push(self.choose(false, self.count));
        let inside = self.inside.map(|count| format!("-inside-{count}")).unwrap_or_default();
        let masquerade = match self.masquerade {
            Masquerade::Never => "as-it-is",
            Masquerade::FromOutside => "hide-outside",
            Masquerade::Always => "hide-all",
        };
        let chain = format!("{}-to-{}{inside}-{masquerade}", self.by.word(), self.count);
        fragment.chains.insert(chain.clone(), Chain { hook: None, rules });
        chain
    }

    /// The rule that ends at one of so many endpoints. None: the packet is dropped, for it may not be answered here.
    fn choose(&self, inside: bool, count: usize) -> Rule {
        if count == 0 {
            return Rule::new().verdict(Verdict::Drop);
        }
        let (rule, number) = match self.by {
            By::Address => (Rule::new().destination(0).protocol_port(1), Reg(3)),
            By::NodePort => (Rule::new().protocol_port(0), Reg(2)),
        };
        let map = self.by.map(inside).to_owned();
        rule.then(Expr::Random { below: u32::try_from(count).unwrap_or(u32::MAX), to: number })
            .then(Expr::Map { map, key: Reg(0), to: Reg(0) })
            .then(Expr::Dnat { address: Reg(0), port: Reg(1) })
    }
}

impl By {
    /// Claims the elements by which the forward of this key is led to its endpoints.
    pub(crate) fn lead(self, fragment: &mut Fragment, key: &[u8], inside: bool, endpoints: &[SocketAddrV4]) {
        for (number, endpoint) in (0u32..).zip(endpoints) {
            let key = [key, &number.to_ne_bytes()].concat();
            fragment.elements.entry((self.map(inside), key)).or_insert_with(|| Data::Value(endpoint_bytes(*endpoint)));
        }
    }

    fn map(self, inside: bool) -> &'static str {
        let found = MAPS.iter().find(|(by, within, ..)| *by == self && *within == inside);
        found.map(|(_, _, name, _)| *name).expect("MAPS has all four")
    }

    fn word(self) -> &'static str {
        match self {
            By::Address => "address",
            By::NodePort => "node-port",
        }
    }
}

/// The kind of all of [`MAPS`].
pub(crate) const ENDPOINTS: Kind = Kind::Map(&[Field::Address, Field::Port]);

/// Clients inside the cluster, and the node itself, are led to another chain than the rest of the world.
pub(crate) fn lead_inside(layout: &Layout, chain: &str) -> [Rule; 2] {
    let goto = || Verdict::Goto(chain.to_owned());
    [
        Rule::new().source(0).within(0, layout.cluster, true).verdict(goto()),
        Rule::new().local(Fib::Source, 0).mark(MASQUERADE, 0).verdict(goto()),
    ]
}

/// Marks what must be masqueraded.
pub(crate) fn masquerade(layout: &Layout, whose: Masquerade) -> Option<Rule> {
    match whose {
        Masquerade::Never => None,
        Masquerade::FromOutside => Some(Rule::new().source(0).within(0, layout.cluster, false).mark(MASQUERADE, 0)),
        Masquerade::Always => Some(Rule::new().mark(MASQUERADE, 0)),
    }
}
