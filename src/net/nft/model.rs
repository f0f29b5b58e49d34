//! Chains, rules, sets and maps as plain data, in the terms of nftables (`nft(8)`, `linux/netfilter/nf_tables.h`).
//!
//! Registers are the 32-bit ones, numbered from zero; a concatenated key lies in consecutive registers, each field in one of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A 32-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg(pub u32);

/// Where a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What a map gives for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// A set has no data.
    None,
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// Which part of the packet a payload is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Network = 1,
    Transport = 2,
}

/// Packet facts beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    Mark = 3,
    L4Proto = 16,
}

/// Connection facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ct {
    State = 0,
    Status = 2,
}

/// Which address a route look-up is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fib {
    Source = 1,
    Destination = 2,
}

/// One step of a rule. A step that does not match ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    Payload {
        base: Base,
        offset: u32,
        len: u32,
        to: Reg,
    },
    Meta {
        key: Meta,
        to: Reg,
    },
    SetMark(Reg),
    Ct {
        key: Ct,
        to: Reg,
    },
    /// Type of an address by the routing table (`RTN_LOCAL` is 2).
    FibType {
        of: Fib,
        to: Reg,
    },
    Cmp {
        reg: Reg,
        equal: bool,
        value: Vec<u8>,
    },
    /// `reg = reg & mask ^ xor`.
    Bitwise {
        reg: Reg,
        mask: [u8; 4],
        xor: [u8; 4],
    },
    Load {
        to: Reg,
        value: Vec<u8>,
    },
    Random {
        below: u32,
        to: Reg,
    },
    /// Is the key in the set?
    InSet {
        set: String,
        key: Reg,
    },
    /// The data of the key goes to a register.
    Map {
        map: String,
        key: Reg,
        to: Reg,
    },
    /// The verdict of the key is carried out.
    VerdictMap {
        map: String,
        key: Reg,
    },
    /// As `Map` or `VerdictMap`, over a map that belongs to the rule alone.
    OwnMap {
        kind: Kind,
        elements: Vec<(Vec<u8>, Data)>,
        key: Reg,
        to: Reg,
    },
    /// Adds the key to a set with a timeout, or restarts its time.
    Update {
        set: String,
        key: Reg,
    },
    Dnat {
        address: Reg,
        port: Reg,
    },
    Masquerade,
    Reject,
    Verdict(Verdict),
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub exprs: Vec<Expr>,
    pub comment: Option<String>,
}

/// Where a base chain is called from: its type, hook number and priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub kind: &'static str,
    pub number: u32,
    pub priority: i32,
}

/// A chain of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// The type of a key or a value: its fields, as `nft` numbers them, so that `nft list` shows them properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Integer = 4,
    Address = 7,
    Protocol = 12,
    Port = 13,
    /// Any 32 bits.
    Mark = 19,
}

/// What a set or map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Set,
    /// Elements come from the packet path and vanish after this many seconds.
    Timed(u32),
    /// A map to such a value.
    Map(&'static [Field]),
    VerdictMap,
    /// A verdict map from a random number, numbered by the rule.
    IndexVerdictMap,
}

/// A named set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub key: &'static [Field],
    pub kind: Kind,
    pub elements: BTreeMap<Vec<u8>, Data>,
}

impl Set {
    /// An empty one.
    pub fn new(key: &'static [Field], kind: Kind) -> Set {
        Set { key, kind, elements: BTreeMap::new() }
    }
}

/// A whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

impl Ruleset {
    /// Adds what is in another: chains and sets of other names, elements of other keys.
    pub fn extend(&mut self, other: Ruleset) {
        self.chains.extend(other.chains);
        for (name, set) in other.sets {
            match self.sets.get_mut(&name) {
                Some(known) => known.elements.extend(set.elements),
                None => drop(self.sets.insert(name, set)),
            }
        }
    }
}

/// `RTN_LOCAL`.
const LOCAL: u32 = 2;
const IP_SADDR: u32 = 12;
const IP_DADDR: u32 = 16;

impl Rule {
    /// An empty rule, which matches everything and does nothing.
    pub fn new() -> Rule {
        Rule::default()
    }
    /// One more step.
    pub fn then(mut self, expr: Expr) -> Rule {
        self.exprs.push(expr);
        self
    }
    /// What it is for.
    pub fn note(mut self, comment: &str) -> Rule {
        // The kernel keeps at most 256 bytes of it, with our framing; names are ASCII.
        self.comment = Some(comment.chars().filter(char::is_ascii).take(120).collect());
        self
    }
    /// Source address to a register.
    pub fn source(self, to: u32) -> Rule {
        self.then(Expr::Payload { base: Base::Network, offset: IP_SADDR, len: 4, to: Reg(to) })
    }
    /// Destination address to a register.
    pub fn destination(self, to: u32) -> Rule {
        self.then(Expr::Payload { base: Base::Network, offset: IP_DADDR, len: 4, to: Reg(to) })
    }
    /// Transport protocol and destination port to two registers.
    pub fn protocol_port(self, to: u32) -> Rule {
        self.then(Expr::Meta { key: Meta::L4Proto, to: Reg(to) }).then(Expr::Payload {
            base: Base::Transport,
            offset: 2,
            len: 2,
            to: Reg(to + 1),
        })
    }
    /// Goes on only if the register is (not) within the network.
    pub fn within(self, reg: u32, net: ipnet::Ipv4Net, inside: bool) -> Rule {
        self.then(Expr::Bitwise { reg: Reg(reg), mask: net.netmask().octets(), xor: [0; 4] }).then(Expr::Cmp {
            reg: Reg(reg),
            equal: inside,
            value: net.network().octets().to_vec(),
        })
    }
    /// Goes on only for an address of this host, which is not a loopback one.
    pub fn for_this_host(self, scratch: u32) -> Rule {
        let loopback = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        self.destination(scratch).within(scratch, loopback, false).local(Fib::Destination, scratch)
    }
    /// Goes on only if the address is one of this host's.
    pub fn local(self, of: Fib, scratch: u32) -> Rule {
        let cmp = Expr::Cmp { reg: Reg(scratch), equal: true, value: LOCAL.to_ne_bytes().to_vec() };
        self.then(Expr::FibType { of, to: Reg(scratch) }).then(cmp)
    }
    /// Goes on only if a bit of a connection's fact is set.
    pub fn ct_bit(self, key: Ct, bit: u32, scratch: u32) -> Rule {
        self.then(Expr::Ct { key, to: Reg(scratch) })
            .then(Expr::Bitwise { reg: Reg(scratch), mask: bit.to_ne_bytes(), xor: [0; 4] })
            .then(Expr::Cmp { reg: Reg(scratch), equal: false, value: vec![0; 4] })
    }
    /// Sets bits of the packet mark, leaving the others.
    pub fn mark(self, bit: u32, scratch: u32) -> Rule {
        self.then(Expr::Meta { key: Meta::Mark, to: Reg(scratch) })
            .then(Expr::Bitwise { reg: Reg(scratch), mask: (!bit).to_ne_bytes(), xor: bit.to_ne_bytes() })
            .then(Expr::SetMark(Reg(scratch)))
    }
    /// Goes on only if the bit of the mark is set, and clears it.
    pub fn take_mark(self, bit: u32, scratch: u32) -> Rule {
        self.then(Expr::Meta { key: Meta::Mark, to: Reg(scratch) })
            .then(Expr::Bitwise { reg: Reg(scratch), mask: bit.to_ne_bytes(), xor: [0; 4] })
            .then(Expr::Cmp { reg: Reg(scratch), equal: false, value: vec![0; 4] })
            .then(Expr::Meta { key: Meta::Mark, to: Reg(scratch) })
            .then(Expr::Bitwise { reg: Reg(scratch), mask: (!bit).to_ne_bytes(), xor: [0; 4] })
            .then(Expr::SetMark(Reg(scratch)))
    }
    /// Ends with a verdict.
    pub fn verdict(self, verdict: Verdict) -> Rule {
        self.then(Expr::Verdict(verdict))
    }
}
