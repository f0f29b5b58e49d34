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

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Key, Kind, Object, Status};
use crate::server::store::{Entry, Snapshot, Store, StoreError};

pub mod access;
mod admission;
mod callout;
mod create;
mod decode;
mod delete;
mod filter;
mod kind;
mod list;
mod meta;
mod options;
mod ownership;
mod patch;
mod scale;
pub mod strategy;
mod update;
mod watch;

pub use admission::{Admitted, ConnectOptions, INDEXES, RegistryConfig, plugins_without};
pub use callout::{Callout, CalloutError};
pub use decode::message;
pub use kind::{
    Behaviour, ColumnDef, Converter, Extensions, Facts, Fault, KindDef, KindRef, MergeSchema, Names, Stricter, Structure, Unknown,
    same_kinds, undecodable,
};
pub use options::{
    Body, DeleteOptions, Deleted, FieldValidation, Format, List, ListOptions, Part, Patch, User, WatchEvent, WatchOptions, WriteOptions,
    Written,
};
pub use scale::ScaleChange;
pub use watch::ObjectWatch;

/// The registry. Cheap to clone (an `Arc` inside). Handed the table of kinds; knows no kind by name but where upstream's generic
/// code is overridden for one (namespaces, whose deletion has a step more).
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// The built-in kinds.
    kinds: Vec<KindRef>,
    /// The same by resource; the few that share one (of other versions, mostly) are told apart by looking.
    by_resource: HashMap<String, Vec<KindRef>>,
    by_type: HashMap<TypeId, KindRef>,
    parts: Parts,
    reservations: admission::Reservations,
    ledger: admission::Ledger,
    hooks: admission::Configured,
    policies: admission::Policies,
    pages: list::Pages,
    authorizer: OnceLock<Arc<dyn access::Authorizer>>,
}

/// What a registry is handed by whoever composes the server.
#[derive(Clone)]
pub struct Parts {
    /// Ranges of addresses and ports.
    pub config: RegistryConfig,
    /// Kinds that exist because of objects in the store.
    pub extensions: Arc<dyn Extensions>,
    /// The way to webhooks.
    pub callout: Arc<dyn Callout>,
    /// Admission plug-ins that do not run, by name.
    pub without: HashSet<&'static str>,
}

impl Default for Parts {
    fn default() -> Parts {
        let (extensions, callout) = (Arc::new(NoExtensions), Arc::new(callout::NoCallout));
        Parts { config: RegistryConfig::default(), extensions, callout, without: HashSet::new() }
    }
}

/// For a registry of built-in kinds only.
struct NoExtensions;

impl Extensions for NoExtensions {
    fn kind(&self, _: &Snapshot, _: &str, _: &str, _: &str) -> Option<KindRef> {
        None
    }
    fn stored(&self, _: &Snapshot, _: &str, _: &str) -> Option<KindRef> {
        None
    }
    fn kinds(&self, _: &Snapshot) -> Vec<KindRef> {
        Vec::new()
    }
}

impl Registry {
    /// A registry over `store`, with the default parts.
    pub fn new(store: Store, kinds: &[KindRef]) -> Registry {
        Registry::with_parts(store, kinds, Parts::default())
    }

    /// A registry over `store`.
    pub fn with_parts(store: Store, kinds: &[KindRef], parts: Parts) -> Registry {
        let mut by_resource: HashMap<String, Vec<KindRef>> = HashMap::new();
        for kind in kinds {
            by_resource.entry(kind.resource().into()).or_default().push(kind.clone());
        }
        let by_type = kinds.iter().filter_map(|kind| Some((kind.behaviour().type_id()?, kind.clone()))).collect();
        let (kinds, reservations, ledger) = (kinds.to_vec(), Default::default(), Default::default());
        let (hooks, policies, pages, authorizer) = (Default::default(), Default::default(), Default::default(), OnceLock::new());
        let inner = Inner { store, kinds, by_resource, by_type, parts, reservations, ledger, hooks, policies, pages, authorizer };
        Registry { inner: Arc::new(inner) }
    }

    /// Tells the registry whom to ask who may what. Only the first call counts.
    pub fn set_authorizer(&self, authorizer: Arc<dyn access::Authorizer>) {
        self.inner.authorizer.set(authorizer).ok();
    }

    /// Whom to ask who may what.
    pub fn authorizer(&self) -> &dyn access::Authorizer {
        self.inner.authorizer.get().map_or(&access::Nobody, |authorizer| &**authorizer)
    }

    /// Its store (for snapshots and watches by the runner).
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// All built-in kinds.
    pub fn builtin(&self) -> &[KindRef] {
        &self.inner.kinds
    }

    /// All kinds served now: the built-in ones, and those that the store defines.
    pub fn kinds(&self) -> Vec<KindRef> {
        let mut kinds = self.inner.kinds.clone();
        kinds.extend(self.inner.parts.extensions.kinds(&self.store().snapshot()));
        kinds
    }

    /// The kind behind `/apis/GROUP/VERSION/RESOURCE`.
    pub fn kind(&self, group: &str, version: &str, resource: &str) -> Option<KindRef> {
        let alike = self.inner.by_resource.get(resource).into_iter().flatten();
        let builtin = alike.into_iter().find(|kind| kind.group() == group && kind.version() == version).cloned();
        builtin.or_else(|| self.inner.parts.extensions.kind(&self.store().snapshot(), group, version, resource))
    }

    /// The built-in kind that an object is of, by its Rust type.
    pub fn kind_of(&self, object: &dyn Object) -> Option<KindRef> {
        self.inner.by_type.get(&Any::type_id(object.as_any())).cloned()
    }

    /// The kind of a stored object: the row under whose keys it is kept, in its stored version.
    pub fn kind_of_key(&self, key: &Key) -> Option<KindRef> {
        let alike = self.inner.by_resource.get(key.resource()).into_iter().flatten();
        let builtin = alike.into_iter().find(|kind| kind.is_stored() && kind.group() == key.group()).cloned();
        builtin.or_else(|| self.inner.parts.extensions.stored(&self.store().snapshot(), key.group(), key.resource()))
    }

    /// All versions in which the kind is served.
    fn versions_of(&self, kind: &KindDef) -> Vec<KindRef> {
        let builtin = self.inner.by_resource.get(kind.resource()).into_iter().flatten();
        let found: Vec<_> = builtin.filter(|other| other.is_version_of(kind)).cloned().collect();
        if !found.is_empty() {
            return found;
        }
        let custom = self.inner.parts.extensions.kinds(&self.store().snapshot());
        custom.into_iter().filter(|other| other.is_version_of(kind)).collect()
    }

    /// GET.
    pub async fn get(&self, kind: &KindDef, namespace: &str, name: &str) -> Result<Arc<Entry>, Status> {
        let (_, entry) = self.current(kind, namespace, name)?;
        kind.present(&kind.serve_one(&entry).await?)
    }

    /// An object of a type whose served form is its stored one, decoded.
    pub fn read<T: Kind>(&self, namespace: &str, name: &str) -> Result<Arc<T>, Status> {
        let missing = || Status::not_found(T::GROUP, T::URL_PATH_SEGMENT, name);
        let legal = !namespace.contains('/') && !name.contains('/') && !name.is_empty();
        let key = legal.then(|| Key::of::<T>(namespace, name)).ok_or_else(missing)?;
        let entry = self.inner.store.snapshot().get(&key).cloned().ok_or_else(missing)?;
        entry.typed::<T>().map_err(Status::internal)
    }

    /// The stored entry of a name, or 404.
    fn current(&self, kind: &KindDef, namespace: &str, name: &str) -> Result<(Key, Arc<Entry>), Status> {
        let missing = || Status::not_found(kind.group(), kind.resource(), name);
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
