//! Immutable views of everything at one revision.

use std::ops::Bound;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use super::index::Term;
use super::{Entry, Index};
use crate::api::selector::LabelSelector;
use crate::api::{Key, Rev, Scope};

/// How far postings are counted.
const FEW: usize = 64;

/// A consistent, immutable view of all objects at one revision. Cheap to clone: a persistent map shares what did not change.
#[derive(Clone, Default)]
pub struct Snapshot {
    rev: Rev,
    map: OrdMap<Key, Arc<Entry>>,
    /// By resource (`GROUP/RESOURCE/`): the revision of its newest change, a removal too.
    changed: OrdMap<Arc<str>, Rev>,
    indexes: &'static [Index],
    postings: OrdSet<(Term, Key)>,
}

impl Snapshot {
    /// The revision of this view.
    pub fn rev(&self) -> Rev {
        self.rev
    }

    /// The revision of the newest change (a removal too) of the resource that `scope` belongs to; the default if there never was one.
    /// What is derived from one resource alone stays right while this stays the same.
    pub fn changed(&self, scope: &Scope) -> Rev {
        self.changed.get(resource_of(scope.prefix())).copied().unwrap_or_default()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.map.get(key)
    }

    /// All objects of a scope in key order.
    pub fn range(&self, scope: &Scope) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        self.from(Bound::Included(scope.prefix()), scope)
    }

    /// The same, starting after `after` (exclusive): how a list continues.
    pub fn range_after(&self, scope: &Scope, after: &Key) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        self.from(Bound::Excluded(after.as_str()), scope)
    }

    /// The objects of a scope that have this term of an index, in key order. Looks at all of the scope where the store was not told to keep
    /// the index: slow, yet right.
    pub fn found<'a>(&'a self, index: &'a Index, term: &[&str], scope: &Scope) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + Send + 'a> {
        if self.indexes().any(|kept| kept.name == index.name) {
            return Box::new(self.found_from(Bound::Included(scope.first()), index, term, scope));
        }
        let term = index.term(term);
        Box::new(self.range(scope).filter(move |entry| index.terms_of(entry).contains(&term)))
    }

    fn found_from(&self, start: Bound<Key>, index: &Index, term: &[&str], scope: &Scope) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        let (term, scope) = (index.term(term), scope.clone());
        let postings = self.postings.range((start.map(|key| (term, key)), Bound::Unbounded));
        let having = postings.take_while(move |(found, key)| *found == term && scope.contains(key));
        having.filter_map(|(_, key)| self.map.get(key))
    }

    /// How many objects of a scope have a term, up to a few: enough to tell a rare one from a common one.
    fn some_of(&self, term: Term, scope: &Scope) -> usize {
        let having =
            self.postings.range((term, scope.first())..).take(FEW).take_while(|(found, key)| *found == term && scope.contains(key));
        having.count()
    }

    /// The objects of a scope that these labels select, after `after` where that is given, in key order. Looks at those alone that have one
    /// of the labels which the selector asks for, if there is any: the rarest.
    pub fn selected<'a>(
        &'a self,
        scope: &Scope,
        after: Option<&Key>,
        labels: &'a LabelSelector,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + Send + 'a> {
        let start = after.map_or_else(|| Bound::Included(scope.first()), |after| Bound::Excluded(after.clone()));
        let selected = |entry: &&Arc<Entry>| labels.matches(entry.meta().labels.as_ref());
        match labels.pairs().min_by_key(|(name, value)| self.some_of(Index::LABEL.term(&[name, value]), scope)) {
            Some((name, value)) => Box::new(self.found_from(start, &Index::LABEL, &[name, value], scope).filter(selected)),
            None => Box::new(self.from(start.as_ref().map(Key::as_str), scope).filter(selected)),
        }
    }

    /// All objects that name an owner of this uid, in key order.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        self.found(&Index::OWNER, &[uid], &Scope::all())
    }

    fn from(&self, start: Bound<&str>, scope: &Scope) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        let scope = scope.clone();
        self.map.range::<_, str>((start, Bound::Unbounded)).map(|(_, entry)| entry).take_while(move |entry| scope.contains(&entry.key))
    }

    /// What differs between an older view of the same store and this one: each changed key's entry before and after. Costs about as much
    /// as there are changes, for what is the same is shared and skipped.
    pub fn changes_since<'a>(&'a self, older: &'a Snapshot) -> impl Iterator<Item = (Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>)> {
        older.map.diff(&self.map).map(|change| match change {
            DiffItem::Add(_, new) => (None, Some(new)),
            DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
            DiffItem::Remove(_, old) => (Some(old), None),
        })
    }

    /// A view made by hand.
    #[cfg(test)]
    pub(crate) fn of(rev: Rev, objects: impl IntoIterator<Item = (Key, Rev, super::Draft)>) -> Snapshot {
        let mut snapshot = Snapshot::empty(Rev(0), &[]);
        for (key, rev, draft) in objects {
            snapshot.apply(&Arc::new(draft.at(key, rev)), false);
        }
        Snapshot { rev, ..snapshot }
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// An empty view at `rev`.
    pub(super) fn empty(rev: Rev, indexes: &'static [Index]) -> Snapshot {
        Snapshot { rev, indexes, ..Snapshot::default() }
    }

    /// Moves to the next revision by one change; returns what the key held.
    pub(super) fn apply(&mut self, entry: &Arc<Entry>, deleted: bool) -> Option<Arc<Entry>> {
        self.rev = self.rev.max(entry.rev);
        let resource = resource_of(entry.key.as_str());
        match self.changed.get_mut(resource) {
            Some(rev) => *rev = entry.rev,
            None => drop(self.changed.insert(resource.into(), entry.rev)),
        }
        let prev = match deleted {
            true => self.map.remove(&entry.key),
            false => self.map.insert(entry.key.clone(), entry.clone()),
        };
        self.repost(prev.as_deref(), (!deleted).then_some(&**entry));
        prev
    }

    fn indexes(&self) -> impl Iterator<Item = &'static Index> + use<> {
        [&Index::OWNER, &Index::LABEL].into_iter().chain(self.indexes)
    }

    /// Keeps the postings of one object.
    fn repost(&mut self, before: Option<&Entry>, after: Option<&Entry>) {
        let Some(key) = after.or(before).map(|entry| &entry.key) else { return };
        for index in self.indexes() {
            let [old, new] = [before, after].map(|entry| entry.map(|entry| index.terms_of(entry)).unwrap_or_default());
            if old == new {
                continue;
            }
            for term in old {
                self.postings.remove(&(term, key.clone()));
            }
            for term in new {
                self.postings.insert((term, key.clone()));
            }
        }
    }
}

/// `GROUP/RESOURCE/` of a key or scope; all of it when it is shorter.
fn resource_of(text: &str) -> &str {
    text.match_indices('/').nth(1).map_or(text, |(at, _)| &text[..=at])
}
