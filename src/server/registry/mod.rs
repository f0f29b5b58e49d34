//! The verbs, once, for all kinds: what upstream's generic registry does (apiserver `pkg/registry/generic/registry/store.go` and
//! `pkg/registry/rest`).
//!
//! Words: a *kind* is a row of KINDS ([`KindDef`]); a *strategy* is what that row knows about its kind; an *entry* is one object at
//! one revision, encoded. *Admission* is the slice of cross-kind checks in [`admission`].
//!
//! The way of a write: decode, default, prepare, admit, default again (admission adds things), validate, commit with the revision it
//! was decided on. A lost race is decided again on what won it.
//!
//! Never: knows how objects are stored or sent, or runs a controller; and no write passes the store by another way.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Key, Object, Status};
use crate::server::store::{Entry, Store, StoreError};

mod admission;
mod create;
mod decode;
mod delete;
mod filter;
mod kind;
mod list;
mod meta;
mod options;
mod patch;
mod scale;
pub mod strategy;
mod update;
mod watch;

pub use admission::RegistryConfig;
pub use kind::{ColumnDef, KindDef};
pub use options::{
    Body, DeleteOptions, Deleted, FieldValidation, List, ListOptions, Part, Patch, User, WatchEvent, WatchOptions, WriteOptions, Written,
};
pub use watch::ObjectWatch;

/// The registry. Cheap to clone (an `Arc` inside). Handed the table of kinds; knows no kind by name but where upstream's generic
/// code is overridden for one (namespaces, whose deletion has a step more).
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    kinds: &'static [KindDef],
    by_path: HashMap<(&'static str, &'static str, &'static str), &'static KindDef>,
    by_type: HashMap<std::any::TypeId, &'static KindDef>,
    config: RegistryConfig,
    reservations: admission::Reservations,
    pages: list::Pages,
}

impl Registry {
    /// A registry over `store`, with the default ranges for services.
    pub fn new(store: Store, kinds: &'static [KindDef]) -> Registry {
        Registry::with_config(store, kinds, RegistryConfig::default())
    }

    /// A registry over `store`.
    pub fn with_config(store: Store, kinds: &'static [KindDef], config: RegistryConfig) -> Registry {
        let by_path = kinds.iter().map(|kind| ((kind.group, kind.version, kind.resource), kind)).collect();
        let by_type = kinds.iter().map(|kind| (kind.type_id(), kind)).collect();
        let (reservations, pages) = (admission::Reservations::default(), list::Pages::default());
        Registry { inner: Arc::new(Inner { store, kinds, by_path, by_type, config, reservations, pages }) }
    }

    /// Its store (for snapshots and watches by the runner).
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// All kinds served.
    pub fn kinds(&self) -> &'static [KindDef] {
        self.inner.kinds
    }

    /// The kind behind `/apis/GROUP/VERSION/RESOURCE`.
    pub fn kind(&self, group: &str, version: &str, resource: &str) -> Option<&'static KindDef> {
        // The map's keys are 'static, so a borrowed triple can look them up only through a shortened copy of its type.
        let by_path: &HashMap<(&str, &str, &str), &'static KindDef> = &self.inner.by_path;
        by_path.get(&(group, version, resource)).copied()
    }

    /// The kind that an object is of, by its Rust type.
    pub fn kind_of(&self, object: &dyn Object) -> Option<&'static KindDef> {
        self.inner.by_type.get(&Any::type_id(object.as_any())).copied()
    }

    /// The kind of a stored object: the row under whose keys it is kept.
    pub fn kind_of_key(&self, key: &Key) -> Option<&'static KindDef> {
        self.inner.kinds.iter().find(|kind| !kind.is_converted() && kind.group == key.group() && kind.resource == key.resource())
    }

    /// GET.
    pub fn get(&self, kind: &KindDef, namespace: &str, name: &str) -> Result<Arc<Entry>, Status> {
        let (_, entry) = self.current(kind, namespace, name)?;
        kind.present(&entry)
    }

    /// The stored entry of a name, or 404.
    fn current(&self, kind: &KindDef, namespace: &str, name: &str) -> Result<(Key, Arc<Entry>), Status> {
        let missing = || Status::not_found(kind.group, kind.resource, name);
        let key = kind.key(namespace, name).ok_or_else(missing)?;
        let entry = self.inner.store.snapshot().get(&key).cloned().ok_or_else(missing)?;
        Ok((key, entry))
    }
}

/// The time of a write, to the second, as the API shows it.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// A store's failure other than a lost race, which each verb answers in its own way.
fn store_failure(error: &StoreError) -> Status {
    match error {
        StoreError::Backend(why) => Status::unavailable(format!(
            "the server's disk is full or broken, nothing was written: {why}; free space on the data directory or repair it, then try again"
        )),
        StoreError::Closed => Status::unavailable("the server is shutting down, nothing was written; try again"),
        StoreError::Conflict(_) => Status::internal("a lost race was not handled by its verb"),
    }
}

#[cfg(test)]
mod tests;
