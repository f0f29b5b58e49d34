//! The node's packet rules: one nftables table, `ip orch`, written by netlink messages of our own.
//!
//! | file | what it is |
//! |---|---|
//! | [`model`] | chains, rules, sets and maps as data |
//! | [`rules`] | [`Forwards`](super::Forwards) to a [`Ruleset`](model::Ruleset), pure |
//! | [`diff`] | two rulesets to the messages that lead from one to the other, pure |
//! | [`encode`] | a message to bytes |
//! | [`conntrack`] | which translated UDP flows are stale, and their deletion |
//!
//! Invariants: a change is one kernel transaction, so packets meet the old rules or the new ones, never a mixture. At the first apply the
//! table is replaced whole, whatever it holds. Tables of others are never read or touched. IPv4 only.

pub(crate) mod conntrack;
pub(crate) mod diff;
pub(crate) mod encode;
pub(crate) mod model;
pub(crate) mod rules;

use std::io;

use super::netlink::{Channel, Refusal};
use diff::{Message, diff, replace};
use model::Ruleset;

pub(crate) const NETLINK_NETFILTER: isize = 12;

/// The table as last applied, and the socket to change it.
pub(crate) struct Table {
    channel: Channel,
    applied: Option<Ruleset>,
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

    /// Makes the kernel's table this one. Should the difference be refused, because somebody else changed our table, it is replaced whole.
    pub fn apply(&mut self, new: Ruleset) -> io::Result<()> {
        if let Some(old) = &self.applied {
            let messages = diff(old, &new);
            match self.send(&messages) {
                Ok(()) => {
                    self.applied = Some(new);
                    return Ok(());
                }
                Err(refusal) => {
                    let at = refusal.index.and_then(|index| messages.get(index.saturating_sub(1)));
                    tracing::warn!(error = %refusal.source, at = ?at, "table ip orch was changed by somebody else, replacing it");
                }
            }
        }
        self.applied = None;
        self.send(&replace(&new)).map_err(|refusal| refusal.source)?;
        self.applied = Some(new);
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
