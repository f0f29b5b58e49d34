//! Immutable views of everything at one revision.

use std::ops::Bound;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::Entry;
use crate::api::{Key, Rev, Scope};

/// A consistent, immutable view of all objects at one revision. Cheap to clone: a persistent map shares what did not change.
#[derive(Clone, Default)]
pub struct Snapshot {
    rev: Rev,
    map: OrdMap<Key, Arc<Entry>>,
    /// By resource (`GROUP/RESOURCE/`): the revision of its newest change, a removal too.
    changed: OrdMap<Arc<str>, Rev>,
    /// By an owner's uid: the objects that name it.
    dependents: OrdMap<Arc<str>, OrdSet<Key>>,
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

    /// All objects that name an owner of this uid, in key order.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|key| self.map.get(key))
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
        let mut snapshot = Snapshot::empty(Rev(0));
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
    pub(super) fn empty(rev: Rev) -> Snapshot {
        Snapshot { rev, ..Snapshot::default() }
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
        let owners = if deleted { &[] } else { owners_of(entry) };
        self.relink(&entry.key, prev.as_ref().map_or(&[], owners_of), owners);
        prev
    }

    /// Keeps the dependents of an object's owners.
    fn relink(&mut self, key: &Key, before: &[OwnerReference], after: &[OwnerReference]) {
        if before == after {
            return;
        }
        for owner in before {
            let Some(keys) = self.dependents.get_mut(owner.uid.as_str()) else { continue };
            keys.remove(key);
            if keys.is_empty() {
                self.dependents.remove(owner.uid.as_str());
            }
        }
        for owner in after {
            match self.dependents.get_mut(owner.uid.as_str()) {
                Some(keys) => drop(keys.insert(key.clone())),
                None => drop(self.dependents.insert(owner.uid.as_str().into(), OrdSet::unit(key.clone()))),
            }
        }
    }
}

fn owners_of(entry: &Arc<Entry>) -> &[OwnerReference] {
    entry.meta().owner_references.as_deref().unwrap_or_default()
}

/// `GROUP/RESOURCE/` of a key or scope; all of it when it is shorter.
fn resource_of(text: &str) -> &str {
    text.match_indices('/').nth(1).map_or(text, |(at, _)| &text[..=at])
}
