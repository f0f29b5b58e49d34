//! What objects are found by besides their keys.
//!
//! Words: a *term* is something that an object has in an index, such as a label; a *posting* says that one object has one term.
//!
//! An index is a function of one entry. Its postings are a part of the snapshot, so that they are of the same revision as all else, and are
//! in key order, so that what one namespace has is one range. A write costs what its own terms cost. This is for what would otherwise cost a
//! look at all objects at each change.
//!
//! Never: a term that depends on anything but the entry.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::Entry;

/// Takes a term, in parts.
pub type Take<'a> = &'a mut dyn FnMut(&[&str]);

/// One way to find objects.
pub struct Index {
    /// Its name; no two indexes of a store have the same.
    pub name: &'static str,
    /// Calls with each term of an entry, in parts; with none for an entry that is not of this index's concern.
    pub terms: fn(&Entry, Take<'_>),
}

/// A term, as its hash: short, whatever a label's length. The keys are this process' own, so that nobody can make two terms meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Term(u64, u64);

static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

impl Index {
    /// By the uid of an owner. Every store keeps it.
    pub const OWNER: Index = Index {
        name: "owner",
        terms: |entry, found| entry.meta().owner_references.iter().flatten().for_each(|owner| found(&[&owner.uid])),
    };

    /// By a label's name and value. Every store keeps it.
    pub const LABEL: Index =
        Index { name: "label", terms: |entry, found| entry.meta().labels.iter().flatten().for_each(|(name, value)| found(&[name, value])) };

    /// A term among those of all indexes.
    pub(super) fn term(&self, parts: &[&str]) -> Term {
        let [first, second] = KEYS.each_ref().map(|keys| keys.hash_one((self.name, parts)));
        Term(first, second)
    }

    pub(super) fn terms_of(&self, entry: &Entry) -> Vec<Term> {
        let mut all = Vec::new();
        (self.terms)(entry, &mut |parts| all.push(self.term(parts)));
        all
    }
}
