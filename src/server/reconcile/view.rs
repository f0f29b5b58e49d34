//! What a controller sees.
//!
//! Never: a write, or a second snapshot. Two reads of one view always agree.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::OpFailure;
use crate::api::meta::is_controlled_by;
use crate::api::selector::LabelSelector;
use crate::api::{Key, Kind, Rev, Scope};
use crate::server::store::{Entry, Index, Snapshot};

/// What a controller sees: one consistent snapshot and the time at which it was taken.
pub struct View {
    snapshot: Snapshot,
    now: Timestamp,
    failure: Option<OpFailure>,
}

/// How many objects that do not decode are remembered, so that each is logged once.
const UNDECODABLE_KEPT: usize = 1024;

/// Objects that do not decode, by key and revision.
static UNDECODABLE: LazyLock<Mutex<HashSet<(Key, Rev)>>> = LazyLock::new(Mutex::default);

impl View {
    /// A view of `snapshot` at `now`.
    pub fn new(snapshot: Snapshot, now: Timestamp) -> View {
        View { snapshot, now, failure: None }
    }

    /// The same, telling the controller why the last run of this key failed.
    pub fn with_failure(self, failure: Option<OpFailure>) -> View {
        View { failure, ..self }
    }

    /// The time of this decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The snapshot itself, for those who decide over one.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The snapshot's revision.
    pub fn rev(&self) -> Rev {
        self.snapshot.rev()
    }

    /// Why the last run of this key was cut short, if it was (conflicts do not count).
    pub fn failure(&self) -> Option<&OpFailure> {
        self.failure.as_ref()
    }

    /// One object, if it is there (and decodes; one that does not is logged once and skipped).
    pub fn get<T: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.snapshot.get(&Key::of::<T>(namespace, name)).and_then(|entry| decode(entry))
    }

    /// The object a key names.
    pub fn at<T: Kind>(&self, key: &Key) -> Option<Arc<T>> {
        self.get(key.namespace(), key.name())
    }

    /// All `T` (of one namespace, when given).
    pub fn list<T: Kind>(&self, namespace: Option<&str>) -> impl Iterator<Item = Arc<T>> + use<'_, T> {
        let scope = namespace.map_or_else(Scope::of::<T>, Scope::of_namespace::<T>);
        self.snapshot.range(&scope).filter_map(decode)
    }

    /// The `T`s of one namespace (or of all) that these labels select: costs as much as there are that have one of the labels asked for.
    pub fn selected<'a, T: Kind>(
        &'a self,
        namespace: Option<&str>,
        labels: &'a LabelSelector,
    ) -> impl Iterator<Item = Arc<T>> + use<'a, T> {
        let scope = namespace.map_or_else(Scope::of::<T>, Scope::of_namespace::<T>);
        self.snapshot.selected(&scope, None, labels).filter_map(decode)
    }

    /// The `T`s in `namespace` whose managing owner has this uid.
    pub fn owned<'a, T: Kind>(&'a self, namespace: &str, uid: &'a str) -> impl Iterator<Item = Arc<T>> + use<'a, T> {
        let scope = Scope::of_namespace::<T>(namespace);
        let owned = self.snapshot.found(&Index::OWNER, &[uid], &scope).filter(move |entry| is_controlled_by(entry.meta(), uid));
        owned.filter_map(decode)
    }

    /// All objects that name an owner of this uid.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        self.snapshot.dependents(uid)
    }

    /// One undecoded entry.
    pub fn entry(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.snapshot.get(key)
    }

    /// Undecoded entries, for kind-agnostic controllers.
    pub fn entries(&self, scope: &Scope) -> impl Iterator<Item = &Arc<Entry>> {
        self.snapshot.range(scope)
    }
}

fn decode<T: Kind>(entry: &Arc<Entry>) -> Option<Arc<T>> {
    match entry.typed::<T>() {
        Ok(object) => Some(object),
        Err(error) => {
            let mut seen = UNDECODABLE.lock();
            if seen.len() < UNDECODABLE_KEPT && seen.insert((entry.key.clone(), entry.rev)) {
                tracing::error!(%error, "an object in the store does not decode; controllers act as if it were not there");
            }
            None
        }
    }
}
