//! Who owns which fields: [`crate::api::apply`] put to work for every write.
//!
//! Follows the places of the field manager in apiserver's `pkg/endpoints/handlers/{create,update,patch}.go`: it sees the object after
//! defaulting and before admission, so that what admission changes is nobody's. A write that can't be followed goes through all the
//! same, without managed fields; an apply is refused.
//!
//! The rules are pure and ask for conversions between versions, which may call out. So they are run until all conversions that they
//! ask for have been made: what is missing is noted, made, and the rules run again.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::strategy::Subresource;
use super::{KindDef, KindRef, Registry, Structure, WriteOptions, now, undecodable};
use crate::api::apply::manager::{self, Applied, Live, Writer};
use crate::api::apply::{Filter, Schema, Versions};
use crate::api::{Key, Object, Rev, Status, schema};
use crate::server::store::Entry;

/// Conversions that one write may need: a few for each version that somebody wrote in.
const MAX_CONVERSIONS: usize = 64;
/// Subresources whose writes upstream does not follow: they change the object past its field manager.
const UNTRACKED: &[&str] = &["binding", "eviction"];

/// `managedFields` as a write leaves them.
pub(super) type Entries = Option<Vec<ManagedFieldsEntry>>;

/// A conversion: the object, its version, the version wanted.
type Wanted = (Value, String, String);

/// The versions of a kind that the rules may ask about, and the conversions made so far.
struct Versioned<'a> {
    registry: &'a Registry,
    kind: &'a KindDef,
    version: &'a str,
    /// All versions of the kind, once another one is asked for.
    others: OnceCell<Vec<KindRef>>,
    filter: Filter,
    made: Vec<(Wanted, Value)>,
    missing: RefCell<Option<Wanted>>,
}

impl Versioned<'_> {
    fn find(&self, version: &str) -> Option<&KindDef> {
        if version == self.version {
            return Some(self.kind);
        }
        let others = self.others.get_or_init(|| self.registry.versions_of(self.kind));
        others.iter().find(|kind| kind.api_version() == version).map(|kind| &**kind)
    }
}

impl Versions for Versioned<'_> {
    fn schema(&self, version: &str) -> Option<&Schema> {
        self.find(version).map(|kind| &kind.structure().schema)
    }

    fn convert(&self, value: &Value, from: &str, to: &str) -> Result<Value, String> {
        let fits = |(had, a, b): &Wanted| a == from && b == to && had == value;
        if let Some((_, made)) = self.made.iter().find(|(wanted, _)| fits(wanted)) {
            return Ok(made.clone());
        }
        self.missing.replace(Some((value.clone(), from.into(), to.into())));
        Err(format!("no conversion from {from} to {to} yet"))
    }

    fn filter(&self, _: &str) -> Filter {
        self.filter
    }
}

/// An object before it is written, as clients of the kind's version see it. Its bytes are read once, however many look at them.
pub(super) struct Before<'a> {
    /// Its entry in working form; `None` when it is created.
    entry: Option<&'a Arc<Entry>>,
    read: OnceLock<(Value, Entries)>,
}

impl<'a> Before<'a> {
    /// What the write creates was not there before.
    pub fn nothing() -> Before<'static> {
        Before { entry: None, read: OnceLock::new() }
    }

    /// What is there.
    pub fn of(entry: &'a Arc<Entry>) -> Before<'a> {
        Before { entry: Some(entry), read: OnceLock::new() }
    }

    fn read(&self, kind: &KindDef) -> Result<Option<&(Value, Entries)>, Status> {
        let Some(entry) = self.entry else { return Ok(None) };
        if let Some(read) = self.read.get() {
            return Ok(Some(read));
        }
        let sent = kind.present(entry)?;
        let mut tree: Value = serde_json::from_slice(&sent.json).map_err(|error| undecodable(entry, &error))?;
        let managed = tree.get_mut("metadata").and_then(Value::as_object_mut).and_then(|metadata| metadata.remove("managedFields"));
        // The bytes were written by this server: what can't be read as entries is as good as none.
        let managed = managed.and_then(|managed| serde_json::from_value(managed).ok());
        Ok(Some(self.read.get_or_init(|| (tree, managed))))
    }

    /// The object without its managed fields.
    pub fn tree(&self, kind: &KindDef) -> Result<Option<&Value>, Status> {
        Ok(self.read(kind)?.map(|(tree, _)| tree))
    }

    /// Its managed fields.
    pub fn managed(&self, kind: &KindDef) -> Result<Option<&Vec<ManagedFieldsEntry>>, Status> {
        Ok(self.read(kind)?.and_then(|(_, managed)| managed.as_ref()))
    }
}

/// An object as clients of the kind's version see it, without its managed fields.
fn whole(kind: &KindDef, object: &dyn Object) -> Result<Value, Status> {
    let mut value = kind.tree(object)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

impl Registry {
    /// What a write other than an apply leaves as `managedFields`. Takes what the client sent as such out of the object.
    pub(super) async fn track(&self, kind: &KindDef, before: &Before<'_>, object: &mut dyn Object, options: &WriteOptions) -> Entries {
        let given = object.meta_mut().managed_fields.take();
        if UNTRACKED.contains(&&*options.subresource) {
            return before.managed(kind).ok().flatten().cloned();
        }
        match self.follow(kind, before, object, given, options).await {
            Ok(entries) => entries,
            Err(why) => {
                let (namespace, name) = (object.meta().namespace.as_deref().unwrap_or_default(), object.meta().name.as_deref());
                let name = name.unwrap_or_default();
                tracing::warn!("{kind:?} {namespace}/{name} is written without managed fields: {why}");
                None
            }
        }
    }

    async fn follow(
        &self,
        kind: &KindDef,
        before: &Before<'_>,
        object: &dyn Object,
        given: Entries,
        options: &WriteOptions,
    ) -> Result<Entries, String> {
        let text = |status: Status| status.message;
        let zero = &kind.structure().zero;
        let mut new = whole(kind, object).map_err(text)?;
        schema::fill(&mut new, zero);
        let is_new = before.entry.is_none();
        let live = match before.tree(kind).map_err(text)? {
            Some(live) if schema::is_filled(live, zero) => Cow::Borrowed(live),
            Some(live) => {
                let mut live = live.clone();
                schema::fill(&mut live, zero);
                Cow::Owned(live)
            }
            None => Cow::Borrowed(zero),
        };
        let entries = before.managed(kind).map_err(text)?;
        let now = now();
        let version = kind.api_version();
        let writer = writer(options, &version, &now);
        let run = |versions: &dyn Versions| {
            let live = Live { value: &live, entries: entries.cloned(), is_new };
            manager::update(live, &new, given.clone(), writer, versions)
        };
        self.settle_conversions(kind, &version, options, run).await
    }

    /// Server-side apply: the merged object as a tree, and its `managedFields`.
    pub(super) async fn merge_applied(
        &self,
        kind: &KindDef,
        before: &Before<'_>,
        (config, force): (&Value, bool),
        options: &WriteOptions,
    ) -> Result<(Value, Entries), Status> {
        let Structure { zero, .. } = kind.structure();
        let live = match before.tree(kind)? {
            Some(live) => Cow::Borrowed(live),
            None => Cow::Owned(kind.relabel(Value::Object(serde_json::Map::new()))),
        };
        let (is_new, entries) = (before.entry.is_none(), before.managed(kind)?);
        let now = now();
        let version = kind.api_version();
        let writer = writer(options, &version, &now);
        let run = |versions: &dyn Versions| {
            let live = Live { value: &live, entries: entries.cloned(), is_new };
            let mut zero = zero.clone();
            if is_new {
                // What is created has nobody before its first applier.
                zero.clone_from(live.value);
            }
            manager::apply(live, Applied { config, kind: kind.kind(), force, zero: &zero }, writer, versions)
        };
        Ok(self.settle_conversions(kind, &version, options, run).await?)
    }

    /// Runs the rules until they have all conversions that they ask for.
    async fn settle_conversions<T, E: From<String>>(
        &self,
        kind: &KindDef,
        version: &str,
        options: &WriteOptions,
        run: impl Fn(&dyn Versions) -> Result<T, E>,
    ) -> Result<T, E> {
        let has_status = kind.info.subresources.contains(&Subresource::Status);
        let filter = schema::filter(kind.group(), kind.resource(), &options.subresource, has_status);
        let (others, missing) = (OnceCell::new(), RefCell::default());
        let mut versions = Versioned { registry: self, kind, version, others, filter, made: Vec::new(), missing };
        loop {
            let result = run(&versions);
            let Some(wanted) = versions.missing.take() else { return result };
            if versions.made.len() >= MAX_CONVERSIONS {
                return Err(E::from(format!("more than {MAX_CONVERSIONS} conversions between versions")));
            }
            let (from, to) = (versions.find(&wanted.1), versions.find(&wanted.2));
            let (Some(from), Some(to)) = (from, to) else { return result };
            let made = convert(from, to, &wanted.0).await.map_err(|status| E::from(status.message))?;
            versions.made.push((wanted, made));
        }
    }
}

fn writer<'a>(options: &'a WriteOptions, version: &'a str, now: &'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) -> Writer<'a> {
    Writer { manager: &options.field_manager, version, subresource: &options.subresource, now }
}

/// An object of one served version in another, by way of the store's.
async fn convert(from: &KindDef, to: &KindDef, value: &Value) -> Result<Value, Status> {
    let object = from.decode(value.clone(), &mut |_| ()).map_err(|fault| Status::internal(fault.error))?;
    let meta = object.meta();
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    // What is applied without a name is converted under one of its own.
    let name = if name.is_empty() { "-".to_owned() } else { name };
    let key: Key = to.key(&namespace, &name).ok_or_else(|| Status::internal("an object without a name can't be converted"))?;
    let entry = Arc::new(from.draft(object).await?.at(key, Rev(0)));
    let sent = to.present(&to.serve_one(&entry).await?)?;
    let mut converted: Value = serde_json::from_slice(&sent.json).map_err(Status::internal)?;
    // The revision is no part of what is converted.
    if let Some(metadata) = converted.get_mut("metadata").and_then(Value::as_object_mut) {
        match value.pointer("/metadata/resourceVersion") {
            Some(revision) => metadata.insert("resourceVersion".into(), revision.clone()),
            None => metadata.remove("resourceVersion"),
        };
    }
    Ok(converted)
}
