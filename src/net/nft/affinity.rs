//! Forwards that remember their clients (`sessionAffinity: ClientIP`). Pure.
//!
//! Each endpoint has a set of the clients that it served lately, which forget by themselves, and a chain that puts a client there and leads
//! to the endpoint. Sets and chains are the forward's own; their names hold what they are, so that clients are remembered while other
//! endpoints come and go.

use std::net::SocketAddrV4;

use sha2::{Digest, Sha256};

use super::super::Forward;
use super::claims::Fragment;
use super::model::{Chain, Data, Expr, Field, Kind, Reg, Rule, Set, Verdict};
use super::rules::Layout;
use super::ways::{lead_inside, masquerade};

/// 64 bits of a text: enough to tell all Services of a cluster apart.
#[derive(Clone, Copy)]
struct Id([u8; 8]);

impl Id {
    fn of(text: &str) -> Id {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&Sha256::digest(text.as_bytes())[..8]);
        Id(bytes)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The chain of a forward that remembers its clients. Its name holds what the forward *is*, not where it goes, so that it lives on when
/// endpoints change.
pub(crate) fn chain(
    fragment: &mut Fragment,
    layout: &Layout,
    forward: &Forward,
    seconds: u32,
    endpoints: &[SocketAddrV4],
    inside: Option<&[SocketAddrV4]>,
) -> String {
    let what =
        format!("{} {:?} {:?} {} {:?} {seconds}", forward.name, forward.protocol, forward.addresses, forward.port, forward.node_port);
    let mut rules = Vec::new();
    if let Some(inside) = inside {
        let id = Id::of(&format!("{what} inside"));
        let chain = format!("in-{id}");
        let chosen = choose(fragment, id, seconds, inside);
        fragment.chains.insert(chain.clone(), Chain { hook: None, rules: chosen });
        rules.extend(lead_inside(layout, &chain));
    }
    rules.extend(masquerade(layout, forward.masquerade));
    let id = Id::of(&what);
    rules.extend(choose(fragment, id, seconds, endpoints));
    if let Some(first) = rules.first_mut() {
        *first = std::mem::take(first).note(&forward.name);
    }
    let chain = format!("svc-{id}");
    fragment.chains.insert(chain.clone(), Chain { hook: None, rules });
    chain
}

fn index_key(n: usize) -> Vec<u8> {
    (n as u32).to_ne_bytes().to_vec()
}

/// Each endpoint has a chain and a set of the clients it served lately. A client found in one goes there again and stays in the set; any other
/// is sent somewhere and remembered. No endpoints: the packet is dropped, for it may not be answered here.
fn choose(fragment: &mut Fragment, id: Id, seconds: u32, endpoints: &[SocketAddrV4]) -> Vec<Rule> {
    if endpoints.is_empty() {
        return vec![Rule::new().verdict(Verdict::Drop)];
    }
    let load = |endpoint: SocketAddrV4| {
        let port = endpoint.port().to_be_bytes();
        Rule::new()
            .then(Expr::Load { to: Reg(0), value: endpoint.ip().octets().to_vec() })
            .then(Expr::Load { to: Reg(1), value: vec![port[0], port[1]] })
            .then(Expr::Dnat { address: Reg(0), port: Reg(1) })
    };
    let mut rules = Vec::new();
    let mut elements = Vec::new();
    for (n, endpoint) in endpoints.iter().enumerate() {
        let hash = Id::of(&format!("{id} {endpoint} {seconds}"));
        let (chain, set) = (format!("ep-{hash}"), format!("clients-{hash}"));
        fragment.sets.insert(set.clone(), Set::new(&[Field::Address], Kind::Timed(seconds)));
        let remember = Rule::new().source(0).then(Expr::Update { set: set.clone(), key: Reg(0) });
        fragment.chains.insert(chain.clone(), Chain { hook: None, rules: vec![remember, load(*endpoint)] });
        rules.push(Rule::new().source(0).then(Expr::InSet { set, key: Reg(0) }).verdict(Verdict::Goto(chain.clone())));
        elements.push((index_key(n), Data::Verdict(Verdict::Goto(chain))));
    }
    rules.push(Rule::new().then(Expr::Random { below: endpoints.len() as u32, to: Reg(0) }).then(Expr::OwnMap {
        kind: Kind::IndexVerdictMap,
        elements,
        key: Reg(0),
        to: Reg(0),
    }));
    rules
}
