//! The node's packet rules: one nftables table, `ip orch`, written by netlink messages of our own.
//!
//! | file | what it is |
//! |---|---|
//! | [`model`] | chains, rules, sets and maps as data |
//! | [`rules`] | [`Forwards`](super::Forwards) to what they need in the table, pure |
//! | [`ways`] | how a packet gets to an endpoint: chains that all forwards which are alike share, pure |
//! | [`affinity`] | chains of forwards that remember their clients, pure |
//! | [`claims`] | who needs what, and what of the table a change concerns, pure |
//! | [`diff`] | two rulesets to the messages that lead from one to the other, pure |
//! | [`encode`] | a message to bytes |
//! | [`conntrack`] | which translated UDP flows are stale, and their deletion |
//!
//! Invariants: a change is one kernel transaction, so packets meet the old rules or the new ones, never a mixture. At the first apply the
//! table is replaced whole, whatever it holds. Tables of others are never read or touched. IPv4 only.

pub(crate) mod affinity;
pub(crate) mod claims;
pub(crate) mod conntrack;
pub(crate) mod diff;
pub(crate) mod encode;
pub(crate) mod model;
pub(crate) mod rules;
pub(crate) mod ways;

use std::io;

use super::Forwards;
use super::netlink::{Channel, Refusal};
use claims::Claims;
use diff::{Message, diff, replace};
use rules::Layout;

pub(crate) const NETLINK_NETFILTER: isize = 12;

/// The table as last applied, and the socket to change it.
pub(crate) struct Table {
    channel: Channel,
    applied: Option<Applied>,
}

/// What the kernel's table was made from.
struct Applied {
    layout: Layout,
    forwards: Forwards,
    claims: Claims,
}

impl Table {
    /// Of the calling thread's network namespace.
    pub fn open() -> io::Result<Table> {
        Ok(Table { channel: Channel::open(NETLINK_NETFILTER)?, applied: None })
    }

    /// The socket, for conntrack.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Makes the kernel's table that of these forwards; work is proportional to what changed since the last time. Should the difference be
    /// refused, because somebody else changed our table, it is replaced whole.
    pub fn apply(&mut self, layout: &Layout, new: &Forwards) -> io::Result<()> {
        let shared = rules::base_sets();
        if let Some(mut applied) = self.applied.take().filter(|applied| applied.layout == *layout) {
            let (was, is) = applied.claims.change(rules::changes(layout, &applied.forwards, new), &shared);
            let messages = diff(&was, &is);
            match self.send(&messages) {
                Ok(()) => {
                    applied.forwards = new.clone();
                    self.applied = Some(applied);
                    return Ok(());
                }
                Err(refusal) => {
                    let at = refusal.index.and_then(|index| messages.get(index.saturating_sub(1)));
                    tracing::warn!(error = %refusal.source, at = ?at, "table ip orch was changed by somebody else, replacing it");
                }
            }
        }
        let mut claims = Claims::default();
        let (_, mut whole) = claims.change(rules::changes(layout, &Forwards::default(), new), &shared);
        whole.extend(rules::base(layout));
        self.send(&replace(&whole)).map_err(|refusal| refusal.source)?;
        self.applied = Some(Applied { layout: layout.clone(), forwards: new.clone(), claims });
        Ok(())
    }

    /// Removes the table, whatever is in it; says whether there was one.
    pub fn remove(mut self) -> io::Result<bool> {
        self.applied = None;
        match self.send(&[Message::DeleteTable]) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            // No nftables in this kernel: no table either.
            Err(refusal) if refusal.source.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(false),
            Err(refusal) => Err(refusal.source),
        }
    }

    fn send(&self, messages: &[Message]) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Ok(());
        }
        self.channel.transact(&encode::batch(messages)).map(drop)
    }
}
