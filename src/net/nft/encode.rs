//! Messages to bytes, as `linux/netfilter/nf_tables.h` and libnftnl's documentation lay them out.

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};

use super::super::netlink::{Attrs, Frame};
use super::diff::Message;
use super::model::{Data, Expr, Field, Hook, Kind, Reg, Rule, Verdict};

/// The name of our table.
pub(crate) const TABLE: &str = "orch";

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// A set filled by packets is bounded, as upstream's default for nft is.
const TIMED_SIZE: u32 = 65_535;
/// Ports are chosen at random for what is masqueraded, to avoid races between flows (`NF_NAT_RANGE_PROTO_RANDOM_FULLY`).
const RANDOM_FULLY: u32 = 1 << 4;

/// The messages as one transaction. Frame *n + 1* is the first frame of message *n* only as long as no rule has a map of its own.
pub(crate) fn batch(messages: &[Message]) -> Vec<Frame> {
    let mut batch = Batch { frames: Vec::with_capacity(messages.len() + 2), maps: 0 };
    let mark = |kind| Frame { kind, flags: 0, payload: vec![0, 0, 0, SUBSYSTEM as u8] };
    batch.frames.push(mark(BATCH_BEGIN));
    for message in messages {
        batch.message(message);
    }
    if let Some(last) = batch.frames.last_mut() {
        last.flags |= NLM_F_ACK;
    }
    batch.frames.push(mark(BATCH_END));
    batch.frames
}

struct Batch {
    frames: Vec<Frame>,
    /// Maps that belong to a rule get their names from the kernel; until then they are known by a number.
    maps: u32,
}

/// `struct nfgenmsg`: IPv4, version 0, no resource.
fn attrs() -> Attrs {
    Attrs::after(&[libc::AF_INET as u8, 0, 0, 0])
}

impl Batch {
    fn push(&mut self, kind: u16, flags: u16, payload: Attrs) {
        self.frames.push(Frame { kind: SUBSYSTEM << 8 | kind, flags, payload: payload.done() });
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::AddTable => self.push(NEW_TABLE, NLM_F_CREATE, attrs().text(1, TABLE).u32(2, 0)),
            Message::DeleteTable => self.push(DELETE_TABLE, 0, attrs().text(1, TABLE)),
            Message::AddChain { name, hook } => self.push(NEW_CHAIN, NLM_F_CREATE, chain(name, *hook)),
            Message::DeleteChain(name) => self.push(DELETE_CHAIN, 0, attrs().text(1, TABLE).text(3, name)),
            Message::Flush(name) => self.push(DELETE_RULE, 0, attrs().text(1, TABLE).text(2, name)),
            Message::AddRule { chain, rule } => self.rule(chain, rule),
            Message::AddSet { name, key, kind } => {
                self.maps += 1;
                let set = set(name, key, *kind, 0, self.maps);
                self.push(NEW_SET, NLM_F_CREATE, set);
            }
            Message::DeleteSet(name) => self.push(DELETE_SET, 0, attrs().text(1, TABLE).text(2, name)),
            Message::AddElements { set, elements } => self.push(NEW_ELEMENTS, NLM_F_CREATE, element_list(set, None, elements)),
            Message::DeleteElements { set, keys } => {
                let elements: Vec<_> = keys.iter().map(|key| (key.clone(), Data::None)).collect();
                self.push(DELETE_ELEMENTS, 0, element_list(set, None, &elements));
            }
        }
    }

    fn rule(&mut self, chain: &str, rule: &Rule) {
        let mut exprs = Attrs::new();
        for expr in &rule.exprs {
            let own = self.own_map(expr);
            let (name, data) = expression(expr, own);
            exprs = exprs.nest(1, Attrs::new().text(1, name).nest(2, data));
        }
        let mut payload = attrs().text(1, TABLE).text(2, chain).nest(4, exprs);
        if let Some(comment) = &rule.comment {
            // libnftnl's user data: type 0 is a comment, then its length and text with NUL.
            let mut bytes = vec![0, comment.len() as u8 + 1];
            bytes.extend_from_slice(comment.as_bytes());
            bytes.push(0);
            payload = payload.bytes(7, &bytes);
        }
        self.push(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, payload);
    }

    /// A map of the rule's own is made before the rule, and bound by it.
    fn own_map(&mut self, expr: &Expr) -> Option<u32> {
        let Expr::OwnMap { kind, elements, .. } = expr else { return None };
        self.maps += 1;
        let number = self.maps;
        self.push(NEW_SET, NLM_F_CREATE, set("__map%d", &[Field::Integer], *kind, ANONYMOUS | CONSTANT, number));
        for chunk in elements.chunks(400) {
            self.push(NEW_ELEMENTS, NLM_F_CREATE, element_list("__map%d", Some(number), chunk));
        }
        Some(number)
    }
}

fn chain(name: &str, hook: Option<Hook>) -> Attrs {
    let attrs = attrs().text(1, TABLE).text(3, name);
    match hook {
        Some(hook) => attrs.nest(4, Attrs::new().u32(1, hook.number).u32(2, hook.priority as u32)).u32(5, 1).text(7, hook.kind),
        None => attrs,
    }
}

/// nft's number for a concatenation: six bits for each field.
fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | *field as u32)
}

fn set(name: &str, key: &[Field], kind: Kind, flags: u32, id: u32) -> Attrs {
    let (more, data) = match kind {
        Kind::Set => (0, None),
        Kind::Timed(_) => (TIMEOUT | EVAL, None),
        Kind::Map(fields) => (MAP, Some((type_of(fields), Some(4 * fields.len() as u32)))),
        Kind::VerdictMap | Kind::IndexVerdictMap => (MAP, Some((VERDICT_TYPE, None))),
    };
    let mut set = attrs().text(1, TABLE).text(2, name).u32(3, flags | more).u32(4, type_of(key)).u32(5, 4 * key.len() as u32);
    if let Some((kind, len)) = data {
        set = set.u32(6, kind);
        if let Some(len) = len {
            set = set.u32(7, len);
        }
    }
    if let Kind::Timed(seconds) = kind {
        set = set.nest(9, Attrs::new().u32(1, TIMED_SIZE)).u64(11, u64::from(seconds) * 1000);
    }
    set.u32(10, id)
}

fn element_list(set: &str, id: Option<u32>, elements: &[(Vec<u8>, Data)]) -> Attrs {
    let mut list = Attrs::new();
    for (key, data) in elements {
        let mut element = Attrs::new().nest(1, Attrs::new().bytes(1, key));
        match data {
            Data::None => {}
            Data::Value(bytes) => element = element.nest(2, Attrs::new().bytes(1, bytes)),
            Data::Verdict(to) => element = element.nest(2, Attrs::new().nest(2, verdict(to))),
        }
        list = list.nest(1, element);
    }
    debug_assert!(list.len() < 65_000);
    let attrs = attrs().text(1, TABLE).text(2, set).nest(3, list);
    id.map_or(attrs.clone(), |id| attrs.u32(4, id))
}

fn verdict(verdict: &Verdict) -> Attrs {
    let code = |code: i32| Attrs::new().u32(1, code as u32);
    match verdict {
        Verdict::Drop => code(0),
        Verdict::Return => code(-5),
        Verdict::Jump(chain) => code(-3).text(2, chain),
        Verdict::Goto(chain) => code(-4).text(2, chain),
    }
}

/// `NFT_REG32_00` is 8.
fn number(reg: Reg) -> u32 {
    reg.0 + 8
}

fn value(bytes: &[u8]) -> Attrs {
    Attrs::new().bytes(1, bytes)
}

fn expression(expr: &Expr, own: Option<u32>) -> (&'static str, Attrs) {
    let new = Attrs::new;
    match expr {
        Expr::Payload { base, offset, len, to } => ("payload", new().u32(1, number(*to)).u32(2, *base as u32).u32(3, *offset).u32(4, *len)),
        Expr::Meta { key, to } => ("meta", new().u32(1, number(*to)).u32(2, *key as u32)),
        Expr::SetMark(from) => ("meta", new().u32(2, super::model::Meta::Mark as u32).u32(3, number(*from))),
        Expr::Ct { key, to } => ("ct", new().u32(1, number(*to)).u32(2, *key as u32)),
        Expr::FibType { of, to } => ("fib", new().u32(1, number(*to)).u32(2, 3).u32(3, *of as u32)),
        Expr::Cmp { reg, equal, value: bytes } => ("cmp", new().u32(1, number(*reg)).u32(2, u32::from(!*equal)).nest(3, value(bytes))),
        Expr::Bitwise { reg, mask, xor } => {
            ("bitwise", new().u32(1, number(*reg)).u32(2, number(*reg)).u32(3, 4).nest(4, value(mask)).nest(5, value(xor)))
        }
        Expr::Load { to, value: bytes } => ("immediate", new().u32(1, number(*to)).nest(2, value(bytes))),
        Expr::Random { below, to } => ("numgen", new().u32(1, number(*to)).u32(2, *below).u32(3, 1)),
        Expr::InSet { set, key } => ("lookup", new().text(1, set).u32(2, number(*key))),
        Expr::Map { map, key, to } => ("lookup", new().text(1, map).u32(2, number(*key)).u32(3, number(*to))),
        Expr::VerdictMap { map, key } => ("lookup", new().text(1, map).u32(2, number(*key)).u32(3, 0)),
        Expr::OwnMap { kind, key, to, .. } => {
            let to = if matches!(kind, Kind::VerdictMap | Kind::IndexVerdictMap) { 0 } else { number(*to) };
            let lookup = new().text(1, "__map%d").u32(2, number(*key)).u32(3, to);
            ("lookup", own.map_or(lookup.clone(), |id| lookup.u32(4, id)))
        }
        Expr::Update { set, key } => ("dynset", new().text(1, set).u32(3, 1).u32(4, number(*key))),
        Expr::Dnat { address, port } => {
            ("nat", new().u32(1, 1).u32(2, libc::AF_INET as u32).u32(3, number(*address)).u32(5, number(*port)))
        }
        Expr::Masquerade => ("masq", new().u32(1, RANDOM_FULLY)),
        Expr::Reject => ("reject", new().u32(1, 0).u8(2, 3)), // ICMP unreachable, port
        Expr::Verdict(to) => ("immediate", new().u32(1, 0).nest(2, new().nest(2, verdict(to)))),
    }
}
