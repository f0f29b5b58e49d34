//! `KindDef`: one row of the table of kinds, whether built in or defined by an object in the store.
//!
//! Words: the *stored* form is what the store holds, the *working* form what the verbs decide on, the *sent* form what a client of this
//! group and version sees. All three are one for most kinds. A built-in kind served in a second version is worked on as it is stored and
//! only sent (and read from clients) as asked for, so that one set of rules holds for all versions ([`KindDef::present`]). A custom kind
//! is worked on in the version of the request, since each version has a schema of its own, and converted at the border to the store
//! ([`KindDef::serve`], [`KindDef::draft`]).
//! What a kind does is a [`Behaviour`]: [`builtin`] makes one of any [`Strategy`]; custom resources bring one of their own.
//!
//! Invariant: an object handed to a row's behaviour was made by the same row, so a downcast can't fail.

mod builtin;
mod second;

use std::any::TypeId;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde_json::Value;

use super::strategy::{Cell, Info, Scale, Strategy, Subresource};
use crate::api::apply::{Schema, compile};
use crate::api::{FieldError, Key, Kind, Object, Rev, Scope, Status, schema};
use crate::server::store::{Draft, Entry, Snapshot};
pub use second::Stricter;

/// A row, shared. Built-in rows live as long as the registry, custom ones as long as their definition and whoever uses them.
pub type KindRef = Arc<KindDef>;

/// One row of the table of kinds. Built by `KindDef::of::<Pod>()`, or by [`KindDef::new`] for kinds that exist at run time only.
pub struct KindDef {
    names: Names,
    /// Its facts.
    pub info: Facts,
    /// Group and resource under whose keys the store keeps the objects.
    stored_as: (Cow<'static, str>, Cow<'static, str>),
    /// The version that they are kept in.
    stored_version: Cow<'static, str>,
    behaviour: Box<dyn Behaviour>,
    converter: Option<Box<dyn Converter>>,
    structure: OnceLock<Structure>,
}

/// What field ownership needs to know of a kind, made at its first write.
pub struct Structure {
    /// Its lists and maps.
    pub schema: Schema,
    /// An object before anything is set.
    pub zero: Value,
}

/// How a kind is called on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// Version, such as `v1`.
    pub version: Cow<'static, str>,
    /// `Pod`.
    pub kind: Cow<'static, str>,
    /// `PodList`.
    pub list_kind: Cow<'static, str>,
    /// `pods`.
    pub resource: Cow<'static, str>,
}

/// [`Info`] of a kind that may exist at run time only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Singular name, such as `pod`.
    pub singular: Cow<'static, str>,
    /// Short names, such as `po`.
    pub short: Vec<Cow<'static, str>>,
    /// Categories, such as `all`.
    pub categories: Vec<Cow<'static, str>>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Generic subresources.
    pub subresources: Vec<Subresource>,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Create only: nothing is stored.
    pub virtual_only: bool,
    /// Read only, and made when it is asked for.
    pub computed: bool,
    /// Whether a PUT of a name that is not there creates it.
    pub update_may_create: bool,
    /// Whether a deletion that is done at once answers with the object.
    pub returns_deleted: bool,
    /// Whether finalizers need no domain.
    pub plain_finalizers: bool,
}

impl From<&Info> for Facts {
    fn from(info: &Info) -> Facts {
        let all = |names: &[&'static str]| names.iter().map(|name| Cow::Borrowed(*name)).collect();
        Facts {
            singular: info.singular.into(),
            short: all(info.short),
            categories: all(info.categories),
            namespaced: info.namespaced,
            subresources: info.subresources.to_vec(),
            generation: info.generation,
            virtual_only: info.virtual_only,
            computed: info.computed,
            update_may_create: info.update_may_create,
            returns_deleted: info.returns_deleted,
            plain_finalizers: info.plain_finalizers,
        }
    }
}

/// A Table column without its function.
#[derive(Clone, Debug)]
pub struct ColumnDef {
    /// Heading.
    pub name: Cow<'static, str>,
    /// OpenAPI type.
    pub kind: Cow<'static, str>,
    /// OpenAPI format.
    pub format: Cow<'static, str>,
    /// 0 always, 1 with `-o wide`.
    pub priority: i32,
    /// Description.
    pub description: Cow<'static, str>,
}

/// A body that is not an object of the kind: the path of the field at fault, and why.
#[derive(Debug)]
pub struct Fault {
    /// Such as `spec.replicas`; empty or `.` where it is the whole.
    pub path: String,
    /// Why.
    pub error: String,
}

/// Hears the path of each unknown field, as upstream writes it: `spec.containers[0].foo`.
pub type Unknown<'a> = &'a mut dyn FnMut(String);

/// What says how the lists and maps of a kind merge.
#[derive(Clone, Debug)]
pub enum MergeSchema {
    /// The built-in type of this schema name, in [`crate::api::schema`].
    Type(&'static str),
    /// An OpenAPI v3 schema with `x-kubernetes-*` extensions.
    OpenApi(Arc<Value>),
    /// Nothing is known: lists are atomic, maps merge.
    Deduced,
}

/// What a kind does with one object at a time; all of it pure. The erased form of [`Strategy`], which says what each function is for.
#[allow(missing_docs)]
pub trait Behaviour: Send + Sync {
    /// The Rust type of its objects, where they have one of their own.
    fn type_id(&self) -> Option<TypeId> {
        None
    }
    /// Whether this version is the one that the objects are stored in.
    fn is_stored(&self) -> bool {
        true
    }
    /// How its lists and maps merge.
    fn merge_schema(&self) -> MergeSchema;
    /// JSON schema (schemars 1, `$defs` named as k8s-openapi names them) of the kind and its dependencies.
    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
    /// What a client sent, to the working object.
    fn decode(&self, value: Value, unknown: Unknown<'_>) -> Result<Box<dyn Object>, Fault>;
    /// The working object of an entry in working (or sent) form, shared with other readers where it can be.
    fn object(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status>;
    /// A working object as it is sent, as a tree.
    fn tree(&self, object: &dyn Object) -> Result<Value, Status> {
        Ok(object.to_value())
    }
    fn apply_defaults(&self, object: &mut dyn Object);
    fn prepare_create(&self, object: &mut dyn Object);
    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object);
    fn prepare_status(&self, object: &mut dyn Object, old: &dyn Object);
    fn prepare_delete(&self, _object: &mut dyn Object, _now: &Time) {}
    fn validate(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<FieldError>;
    fn validate_status(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError>;
    fn prepare_subresource(&self, _object: &mut dyn Object, _old: &dyn Object, _name: &str) {}
    fn validate_subresource(&self, _object: &dyn Object, _old: &dyn Object, _name: &str) -> Vec<FieldError> {
        Vec::new()
    }
    fn validate_name(&self, name: &str) -> Result<(), String>;
    /// Names of the selectable fields beyond `metadata.name` and `metadata.namespace`.
    fn fields(&self) -> Vec<&str>;
    fn field(&self, object: &dyn Object, path: &str) -> Option<String>;
    fn scale(&self, object: &dyn Object) -> Option<Scale>;
    fn set_scale(&self, object: &mut dyn Object, replicas: i32);
    /// Where the replicas are that a Scale shows.
    fn replicas_path(&self) -> Vec<String> {
        vec!["spec".into(), "replicas".into()]
    }
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool;
    fn grace(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64>;
    /// Columns of the Table, Name first.
    fn columns(&self) -> Vec<ColumnDef>;
    /// A working entry as it is sent.
    fn present(&self, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
        Ok(entry.clone())
    }
    /// Cells of one object's row; the entry is in sent form.
    fn row(&self, entry: &Entry, now: jiff::Timestamp) -> Result<Vec<Cell>, Status>;
    /// What a client that uses this version is told each time, such as that it is deprecated.
    fn warning(&self) -> Option<String> {
        None
    }
    /// Why nothing may be created or changed any more (405), if so.
    fn closed(&self, _verb: &str) -> Option<String> {
        None
    }
    /// The version that objects are stored in, where that is not this one.
    fn stored_version(&self) -> Option<String> {
        None
    }
    /// The object that defines the kind, for kinds that exist at run time only.
    fn definition(&self) -> Option<Key> {
        None
    }
    /// Whether that object, in its present state, still defines this very kind. Watches end when it does not.
    fn is_defined_by(&self, _definition: &Entry) -> bool {
        true
    }
}

/// How the stored form becomes the working one and back. May call out (conversion webhooks), hence async.
pub trait Converter: Send + Sync {
    /// Stored entries in working form, in the same order, under the same keys and revisions.
    fn serve<'a>(&'a self, kind: &'a KindDef, entries: Vec<Arc<Entry>>) -> BoxFuture<'a, Result<Vec<Arc<Entry>>, Status>>;
    /// What to commit for a working object.
    fn store<'a>(&'a self, kind: &'a KindDef, object: &'a dyn Object) -> BoxFuture<'a, Result<Draft, Status>>;
}

/// Kinds that exist because of objects in the store. All is a function of a snapshot, so that a kind is there in the moment in which
/// its definition is.
pub trait Extensions: Send + Sync {
    /// The kind behind `/apis/GROUP/VERSION/RESOURCE`.
    fn kind(&self, state: &Snapshot, group: &str, version: &str, resource: &str) -> Option<KindRef>;
    /// The kind under whose keys objects of this group and resource are kept, in its stored version.
    fn stored(&self, state: &Snapshot, group: &str, resource: &str) -> Option<KindRef>;
    /// All of them, in all served versions.
    fn kinds(&self, state: &Snapshot) -> Vec<KindRef>;
}

impl KindDef {
    /// A row made at run time.
    pub fn new(names: Names, info: Facts, behaviour: Box<dyn Behaviour>, converter: Option<Box<dyn Converter>>) -> KindDef {
        let stored_as = (names.group.clone(), names.resource.clone());
        let stored_version = behaviour.stored_version().map_or_else(|| names.version.clone(), Cow::Owned);
        KindDef { names, info, stored_as, stored_version, behaviour, converter, structure: OnceLock::new() }
    }

    /// The row of `T`.
    pub fn of<T: Strategy + JsonSchema>() -> KindRef {
        Arc::new(KindDef::new(builtin::names::<T>(), Facts::from(&T::INFO), Box::new(builtin::Builtin::<T>::new()), None))
    }

    /// The row of `T`, a second version of the kind `S`: converted through JSON by `to_storage` and `from_storage`. Both work on whole
    /// objects; `apiVersion` and `kind` are set here. `renamed`: selectable fields whose names differ, as `T` and as `S` has them.
    /// `stricter`: rules that hold for what is sent in this version only.
    pub fn version_of<T: Kind + JsonSchema, S: Strategy + JsonSchema>(
        to_storage: fn(Value) -> Value,
        from_storage: fn(Value) -> Value,
        renamed: &'static [(&'static str, &'static str)],
        stricter: Stricter<S>,
    ) -> KindRef {
        let behaviour = Box::new(second::Second::<T, S>::new(to_storage, from_storage, renamed, stricter));
        let mut kind = KindDef::new(builtin::names::<T>(), Facts::from(&S::INFO), behaviour, None);
        kind.stored_as = (S::GROUP.into(), S::URL_PATH_SEGMENT.into());
        kind.stored_version = S::VERSION.into();
        Arc::new(kind)
    }

    /// API group, empty for core.
    pub fn group(&self) -> &str {
        &self.names.group
    }

    /// Version, such as `v1`.
    pub fn version(&self) -> &str {
        &self.names.version
    }

    /// `Pod`.
    pub fn kind(&self) -> &str {
        &self.names.kind
    }

    /// `PodList`.
    pub fn list_kind(&self) -> &str {
        &self.names.list_kind
    }

    /// `pods`.
    pub fn resource(&self) -> &str {
        &self.names.resource
    }

    /// Group and version that objects are kept in.
    pub fn storage_version(&self) -> (&str, &str) {
        (&self.stored_as.0, &self.stored_version)
    }

    /// All of its names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// `apps/v1`, or `v1` for core.
    pub fn api_version(&self) -> String {
        if self.group().is_empty() { self.version().into() } else { format!("{}/{}", self.group(), self.version()) }
    }

    /// What field ownership needs to know of it.
    pub fn structure(&self) -> &Structure {
        self.structure.get_or_init(|| match self.merge_schema() {
            MergeSchema::Type(name) => {
                Structure { schema: compile::built_in(|generator| self.behaviour.schema(generator)), zero: schema::zero(name) }
            }
            MergeSchema::OpenApi(tree) => Structure { schema: compile::custom(&tree), zero: Value::Object(serde_json::Map::new()) },
            MergeSchema::Deduced => Structure { schema: Schema::deduced(), zero: Value::Object(serde_json::Map::new()) },
        })
    }

    /// Whether both are versions of one kind.
    pub fn is_version_of(&self, other: &KindDef) -> bool {
        self.stored_as == other.stored_as
    }

    /// What the kind does.
    pub fn behaviour(&self) -> &dyn Behaviour {
        &*self.behaviour
    }

    /// Whether the working form may differ from the stored one.
    pub fn is_converted(&self) -> bool {
        self.converter.is_some()
    }

    /// Where the store keeps the object. `None` when no object can have this name (a part contains `/`).
    pub fn key(&self, namespace: &str, name: &str) -> Option<Key> {
        let (group, resource) = &self.stored_as;
        let legal = !namespace.contains('/') && !name.contains('/') && !name.is_empty();
        legal.then(|| Key::new(group, resource, namespace, name))
    }

    /// Where the store keeps all objects of `namespace` (empty: of all namespaces).
    pub fn scope(&self, namespace: &str) -> Scope {
        let (group, resource) = &self.stored_as;
        if namespace.is_empty() { Scope::resource(group, resource) } else { Scope::namespace(group, resource, namespace) }
    }

    /// Stored entries in working form.
    pub async fn serve(&self, entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
        match &self.converter {
            Some(converter) if !entries.is_empty() => converter.serve(self, entries).await,
            _ => Ok(entries),
        }
    }

    /// [`KindDef::serve`] of one entry.
    pub async fn serve_one(&self, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
        match &self.converter {
            None => Ok(entry.clone()),
            Some(converter) => {
                let mut served = converter.serve(self, vec![entry.clone()]).await?;
                served.pop().ok_or_else(|| Status::internal(format_args!("converting {entry:?} gave nothing")))
            }
        }
    }

    /// What to commit for a working object.
    pub(super) async fn draft(&self, object: Box<dyn Object>) -> Result<Draft, Status> {
        match &self.converter {
            None => Ok(Draft::keeping(object)),
            Some(converter) => converter.store(self, object.as_ref()).await,
        }
    }

    /// A working entry that is not in the store: a dry run's result, or a past state under a new revision.
    pub fn entry(&self, object: &dyn Object, key: Key, rev: Rev) -> Entry {
        Draft::keeping(object.clone_object()).at(key, rev)
    }

    /// `value` with this row's `apiVersion` and `kind`.
    pub fn relabel(&self, mut value: Value) -> Value {
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".into(), self.api_version().into());
            map.insert("kind".into(), self.kind().into());
        }
        value
    }
}

impl std::ops::Deref for KindDef {
    type Target = dyn Behaviour;
    fn deref(&self) -> &Self::Target {
        &*self.behaviour
    }
}

/// Whether two lists of kinds are of the very same rows.
pub fn same_kinds(one: &[KindRef], other: &[KindRef]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

impl std::fmt::Debug for KindDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind())
    }
}

/// The bytes are not of the kind: a fault of ours or of the disk, never of the client.
pub fn undecodable(entry: &Entry, error: &dyn std::fmt::Display) -> Status {
    Status::internal(format_args!("{entry:?} can't be read as what it should be: {error}"))
}
