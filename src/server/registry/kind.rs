//! `KindDef`: one row of KINDS, a kind's [`Strategy`] with its type erased into a table of function pointers.
//!
//! Words: the *served* type is what clients of this group and version see; the *stored* type is what the store holds. They
//! differ only for a kind served in two versions ([`KindDef::version_of`]); conversion happens here and nowhere else.
//!
//! Invariant: an object handed to a row's function was made by the same row (looked up by URL or by [`TypeId`]), so a downcast
//! can't fail.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde_json::Value;

use super::strategy::{Cell, Info, Scale, Strategy};
use crate::api::{FieldError, Key, Object, Rev, Scope, Status};
use crate::server::store::{Draft, Entry};

/// One row of KINDS: a kind with its functions, type erased. Built by `KindDef::of::<Pod>()`.
pub struct KindDef {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version, such as `v1`.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `pods`.
    pub resource: &'static str,
    /// Its facts.
    pub info: &'static Info,
    /// JSON schema (schemars 1, `$defs` named as k8s-openapi names them) of the type and its dependencies.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Column names etc. of the Table, Name first.
    pub columns: fn() -> Vec<ColumnDef>,
    /// Cells of one object's row.
    pub row: fn(&Entry, jiff::Timestamp) -> Result<Vec<Cell>, Status>,
    functions: Functions,
    storage: Option<Conversion>,
}

/// A Table column without its function.
#[derive(Clone, Debug)]
pub struct ColumnDef {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type.
    pub kind: &'static str,
    /// OpenAPI format.
    pub format: &'static str,
    /// 0 always, 1 with `-o wide`.
    pub priority: i32,
    /// Description.
    pub description: &'static str,
}

/// A body that is not an object of the kind: the path of the field at fault, and why.
#[derive(Debug)]
pub(super) struct Fault {
    pub path: String,
    pub error: serde_json::Error,
}

/// Hears of each unknown field.
pub(super) type Ignored<'a> = &'a mut dyn FnMut(&serde_ignored::Path<'_>);
/// Tree to object.
type Decode = fn(Value, Ignored<'_>) -> Result<Box<dyn Object>, Fault>;

/// The strategy of the served type, erased.
struct Functions {
    type_id: fn() -> TypeId,
    schema_name: fn() -> Cow<'static, str>,
    decode: Decode,
    typed: fn(&Entry) -> Result<Arc<dyn Object>, Status>,
    apply_defaults: fn(&mut dyn Object),
    prepare_create: fn(&mut dyn Object),
    prepare_update: fn(&mut dyn Object, &dyn Object),
    prepare_status: fn(&mut dyn Object, &dyn Object),
    validate: fn(&dyn Object, Option<&dyn Object>) -> Vec<FieldError>,
    validate_status: fn(&dyn Object, &dyn Object) -> Vec<FieldError>,
    validate_name: fn(&str) -> Result<(), String>,
    field: fn(&dyn Object, &str) -> Option<String>,
    fields: &'static [&'static str],
    scale: fn(&dyn Object) -> Option<Scale>,
    set_scale: fn(&mut dyn Object, i32),
    spec_changed: fn(&dyn Object, &dyn Object) -> bool,
    grace: fn(&dyn Object, Option<i64>) -> Option<i64>,
}

/// How a served version becomes the stored one and back.
struct Conversion {
    group: &'static str,
    resource: &'static str,
    to_storage: fn(Value) -> Value,
    from_storage: fn(Value) -> Value,
    stored_draft: fn(Value) -> Result<Draft, serde_json::Error>,
}

/// Lets associated constants of a type parameter be promoted to statics inside a `const fn`.
struct Row<T>(std::marker::PhantomData<T>);

impl<T: Strategy> Row<T> {
    const INFO: &'static Info = &T::INFO;
}

impl KindDef {
    /// The row of `T`.
    pub const fn of<T: Strategy + JsonSchema>() -> KindDef {
        KindDef::row_of::<T>(None)
    }

    const fn row_of<T: Strategy + JsonSchema>(storage: Option<Conversion>) -> KindDef {
        KindDef {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            resource: T::URL_PATH_SEGMENT,
            info: Row::<T>::INFO,
            schema: erased::schema::<T>,
            columns: erased::columns::<T>,
            row: erased::row::<T>,
            functions: Functions {
                type_id: TypeId::of::<T>,
                schema_name: T::schema_name,
                decode: erased::decode::<T>,
                typed: erased::typed::<T>,
                apply_defaults: |object| erased::cast_mut::<T>(object).apply_defaults(),
                prepare_create: |object| erased::cast_mut::<T>(object).prepare_create(),
                prepare_update: |object, old| erased::cast_mut::<T>(object).prepare_update(erased::cast(old)),
                prepare_status: |object, old| erased::cast_mut::<T>(object).prepare_status(erased::cast(old)),
                validate: |object, old| erased::cast::<T>(object).validate(old.map(erased::cast)),
                validate_status: |object, old| erased::cast::<T>(object).validate_status(erased::cast(old)),
                validate_name: T::validate_name,
                field: |object, path| erased::cast::<T>(object).field(path),
                fields: T::FIELDS,
                scale: |object| erased::cast::<T>(object).scale(),
                set_scale: |object, replicas| erased::cast_mut::<T>(object).set_scale(replicas),
                spec_changed: |object, old| erased::cast::<T>(object).spec_changed(erased::cast(old)),
                grace: |object, requested| erased::cast::<T>(object).grace(requested),
            },
            storage,
        }
    }

    /// The row of `T`, a second served version of the kind stored as `S`: converted through JSON by `to_storage` and `from_storage`.
    /// Both work on whole objects; `apiVersion` and `kind` are set here.
    pub const fn version_of<T: Strategy + JsonSchema, S: Strategy>(
        to_storage: fn(Value) -> Value,
        from_storage: fn(Value) -> Value,
    ) -> KindDef {
        let storage = Conversion {
            group: S::GROUP,
            resource: S::URL_PATH_SEGMENT,
            to_storage,
            from_storage,
            stored_draft: erased::stored_draft::<S>,
        };
        KindDef::row_of::<T>(Some(storage))
    }

    /// `apps/v1`, or `v1` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether this row's objects are kept under another row's keys.
    pub fn is_converted(&self) -> bool {
        self.storage.is_some()
    }

    fn stored_as(&self) -> (&'static str, &'static str) {
        self.storage.as_ref().map_or((self.group, self.resource), |to| (to.group, to.resource))
    }

    /// Where the store keeps the object. `None` when no object can have this name (a part contains `/`).
    pub(super) fn key(&self, namespace: &str, name: &str) -> Option<Key> {
        let (group, resource) = self.stored_as();
        let legal = !namespace.contains('/') && !name.contains('/') && !name.is_empty();
        legal.then(|| Key::new(group, resource, namespace, name))
    }

    /// Where the store keeps all objects of `namespace` (empty: of all namespaces).
    pub(super) fn scope(&self, namespace: &str) -> Scope {
        let (group, resource) = self.stored_as();
        if namespace.is_empty() { Scope::resource(group, resource) } else { Scope::namespace(group, resource, namespace) }
    }

    /// The Rust type of its objects.
    pub(super) fn type_id(&self) -> TypeId {
        (self.functions.type_id)()
    }

    /// Name of its definition, such as `io.k8s.api.core.v1.Pod`. `None` if the type computes it at run time, which none of ours does.
    pub(super) fn schema_name(&self) -> Option<&'static str> {
        match (self.functions.schema_name)() {
            Cow::Borrowed(name) => Some(name),
            Cow::Owned(_) => None,
        }
    }

    /// Decodes a tree; `ignored` hears of each unknown field.
    pub(super) fn decode(&self, value: Value, ignored: Ignored<'_>) -> Result<Box<dyn Object>, Fault> {
        (self.functions.decode)(value, ignored)
    }

    /// The object of an entry, in the served version. Shared with other readers unless it must be converted.
    pub(super) fn load(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let Some(conversion) = &self.storage else { return (self.functions.typed)(entry) };
        let stored = serde_json::from_slice(&entry.json).map_err(|error| undecodable(entry, &error))?;
        let served = self.relabel((conversion.from_storage)(stored));
        let object = self.decode(served, &mut |_| ()).map_err(|fault| undecodable(entry, &fault.error))?;
        Ok(Arc::from(object))
    }

    /// What to commit for an object of the served version.
    pub(super) fn draft(&self, object: &dyn Object) -> Result<Draft, Status> {
        let Some(conversion) = &self.storage else { return Ok(Draft::keeping(object.clone_object())) };
        (conversion.stored_draft)((conversion.to_storage)(object.to_value()))
            .map_err(|error| Status::internal(format_args!("converting a {} to its stored version: {error}", self.kind)))
    }

    /// The entry that a client of this version sees: the stored one itself, or its conversion.
    pub(super) fn present(&self, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
        if self.storage.is_none() {
            return Ok(entry.clone());
        }
        Ok(Arc::new(self.entry(self.load(entry)?.as_ref(), entry.key.clone(), entry.rev)))
    }

    /// An entry of the served version that is not in the store: a dry run's result, or a past state under a new revision.
    pub(super) fn entry(&self, object: &dyn Object, key: Key, rev: Rev) -> Entry {
        Draft::keeping(object.clone_object()).at(key, rev)
    }

    fn relabel(&self, mut value: Value) -> Value {
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".into(), self.api_version().into());
            map.insert("kind".into(), self.kind.into());
        }
        value
    }

    pub(super) fn apply_defaults(&self, object: &mut dyn Object) {
        (self.functions.apply_defaults)(object);
    }
    pub(super) fn prepare_create(&self, object: &mut dyn Object) {
        (self.functions.prepare_create)(object);
    }
    pub(super) fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object) {
        (self.functions.prepare_update)(object, old);
    }
    pub(super) fn prepare_status(&self, object: &mut dyn Object, old: &dyn Object) {
        (self.functions.prepare_status)(object, old);
    }
    pub(super) fn validate(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<FieldError> {
        (self.functions.validate)(object, old)
    }
    pub(super) fn validate_status(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        (self.functions.validate_status)(object, old)
    }
    pub(super) fn validate_name(&self, name: &str) -> Result<(), String> {
        (self.functions.validate_name)(name)
    }
    pub(super) fn field(&self, object: &dyn Object, path: &str) -> Option<String> {
        (self.functions.field)(object, path)
    }
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub fn fields(&self) -> &'static [&'static str] {
        self.functions.fields
    }
    pub(super) fn scale(&self, object: &dyn Object) -> Option<Scale> {
        (self.functions.scale)(object)
    }
    pub(super) fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        (self.functions.set_scale)(object, replicas);
    }
    pub(super) fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool {
        (self.functions.spec_changed)(object, old)
    }
    pub(super) fn grace(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64> {
        (self.functions.grace)(object, requested)
    }
}

impl std::fmt::Debug for KindDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

/// The stored bytes are not of the kind: a fault of ours or of the disk, never of the client.
fn undecodable(entry: &Entry, error: &dyn std::fmt::Display) -> Status {
    Status::internal(format_args!("{entry:?} can't be read as what it should be: {error}"))
}

/// The generic functions behind [`Functions`].
mod erased {
    use super::*;

    pub fn cast<T: Any>(object: &dyn Object) -> &T {
        object.as_any().downcast_ref().expect("a row of KINDS is only handed objects that it made")
    }

    pub fn cast_mut<T: Any>(object: &mut dyn Object) -> &mut T {
        object.as_any_mut().downcast_mut().expect("a row of KINDS is only handed objects that it made")
    }

    pub fn schema<T: JsonSchema>(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }

    pub fn columns<T: Strategy>() -> Vec<ColumnDef> {
        let name = ColumnDef {
            name: "Name",
            kind: "string",
            format: "name",
            priority: 0,
            description: "Name must be unique within a namespace and is how the object is addressed.",
        };
        let others = T::columns().iter().map(|column| ColumnDef {
            name: column.name,
            kind: column.kind,
            format: column.format,
            priority: column.priority,
            description: column.description,
        });
        (!names_itself::<T>()).then_some(name).into_iter().chain(others).collect()
    }

    /// Whether the kind lists its name among its own columns, in a place or form of its own.
    fn names_itself<T: Strategy>() -> bool {
        T::columns().iter().any(|column| column.format == "name")
    }

    pub fn row<T: Strategy>(entry: &Entry, now: jiff::Timestamp) -> Result<Vec<Cell>, Status> {
        let object = entry.typed::<T>().map_err(|error| undecodable(entry, &error))?;
        let name = (!names_itself::<T>()).then(|| Cell::Text(entry.meta.name.clone().unwrap_or_default()));
        Ok(name.into_iter().chain(T::columns().iter().map(|column| (column.cell)(&object, now))).collect())
    }

    pub fn decode<T: Strategy>(value: Value, ignored: Ignored<'_>) -> Result<Box<dyn Object>, Fault> {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        match serde_ignored::deserialize::<_, _, T>(tracked, |path| ignored(&path)) {
            Ok(object) => Ok(Box::new(object)),
            Err(error) => Err(Fault { path: track.path().to_string(), error }),
        }
    }

    pub fn typed<T: Strategy>(entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = entry.typed::<T>().map_err(|error| undecodable(entry, &error))?;
        Ok(object)
    }

    pub fn stored_draft<S: Strategy>(mut value: Value) -> Result<Draft, serde_json::Error> {
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".into(), S::API_VERSION.into());
            map.insert("kind".into(), S::KIND.into());
        }
        Ok(Draft::keeping(Box::new(serde_json::from_value::<S>(value)?)))
    }
}
