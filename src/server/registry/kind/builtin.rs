//! Behaviour of kinds that are Rust types, from their [`Strategy`].

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde_json::Value;

use super::{Behaviour, ColumnDef, Converter, Fault, KindDef, MergeSchema, Names, Unknown, undecodable};
use crate::api::{FieldError, Object, Status};
use crate::server::registry::strategy::{Cell, Scale, Strategy};
use crate::server::store::{Draft, Entry};

/// The behaviour of `T`. `fn() -> T`: holds none, so it may cross threads whatever `T` is.
pub(super) struct Builtin<T>(PhantomData<fn() -> T>);

impl<T> Builtin<T> {
    pub(super) fn new() -> Builtin<T> {
        Builtin(PhantomData)
    }
}

/// How `T` is called.
pub(super) fn names<T: Strategy>() -> Names {
    Names {
        group: T::GROUP.into(),
        version: T::VERSION.into(),
        kind: T::KIND.into(),
        list_kind: format!("{}List", T::KIND).into(),
        resource: T::URL_PATH_SEGMENT.into(),
    }
}

fn cast<T: Any>(object: &dyn Object) -> &T {
    object.as_any().downcast_ref().expect("a row is only handed objects that it made")
}

fn cast_mut<T: Any>(object: &mut dyn Object) -> &mut T {
    object.as_any_mut().downcast_mut().expect("a row is only handed objects that it made")
}

impl<T: Strategy + JsonSchema> Behaviour for Builtin<T> {
    fn type_id(&self) -> Option<TypeId> {
        Some(TypeId::of::<T>())
    }

    fn merge_schema(&self) -> MergeSchema {
        match T::schema_name() {
            Cow::Borrowed(name) => MergeSchema::Type(name),
            Cow::Owned(_) => MergeSchema::Deduced,
        }
    }

    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }

    fn decode(&self, value: Value, unknown: Unknown<'_>) -> Result<Box<dyn Object>, Fault> {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        match serde_ignored::deserialize::<_, _, T>(tracked, |path| unknown(dotted(&path))) {
            Ok(object) => Ok(Box::new(object)),
            Err(error) => Err(Fault { path: track.path().to_string(), error: error.to_string() }),
        }
    }

    fn object(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = entry.typed::<T>().map_err(|error| undecodable(entry, &error))?;
        Ok(object)
    }

    fn apply_defaults(&self, object: &mut dyn Object) {
        cast_mut::<T>(object).apply_defaults();
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        cast_mut::<T>(object).prepare_create();
    }
    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object) {
        cast_mut::<T>(object).prepare_update(cast(old));
    }
    fn prepare_status(&self, object: &mut dyn Object, old: &dyn Object) {
        cast_mut::<T>(object).prepare_status(cast(old));
    }
    fn validate(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<FieldError> {
        cast::<T>(object).validate(old.map(cast))
    }
    fn validate_status(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        cast::<T>(object).validate_status(cast(old))
    }
    fn validate_name(&self, name: &str) -> Result<(), String> {
        T::validate_name(name)
    }
    fn fields(&self) -> Vec<&str> {
        T::FIELDS.to_vec()
    }
    fn field(&self, object: &dyn Object, path: &str) -> Option<String> {
        cast::<T>(object).field(path)
    }
    fn scale(&self, object: &dyn Object) -> Option<Scale> {
        cast::<T>(object).scale()
    }
    fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        cast_mut::<T>(object).set_scale(replicas);
    }
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool {
        cast::<T>(object).spec_changed(cast(old))
    }
    fn grace(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64> {
        cast::<T>(object).grace(requested)
    }

    fn columns(&self) -> Vec<ColumnDef> {
        let name = ColumnDef {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            priority: 0,
            description: "Name must be unique within a namespace and is how the object is addressed.".into(),
        };
        let others = T::columns().iter().map(|column| ColumnDef {
            name: column.name.into(),
            kind: column.kind.into(),
            format: column.format.into(),
            priority: column.priority,
            description: column.description.into(),
        });
        (!names_itself::<T>()).then_some(name).into_iter().chain(others).collect()
    }

    fn row(&self, entry: &Entry, now: jiff::Timestamp) -> Result<Vec<Cell>, Status> {
        let object = entry.typed::<T>().map_err(|error| undecodable(entry, &error))?;
        let name = (!names_itself::<T>()).then(|| Cell::Text(entry.meta.name.clone().unwrap_or_default()));
        Ok(name.into_iter().chain(T::columns().iter().map(|column| (column.cell)(&object, now))).collect())
    }
}

/// Whether the kind lists its name among its own columns, in a place or form of its own.
fn names_itself<T: Strategy>() -> bool {
    T::columns().iter().any(|column| column.format == "name")
}

/// A path as upstream writes it: `spec.containers[0].foo`.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path as P;
    match path {
        P::Root => String::new(),
        P::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        P::Map { parent, key } => {
            let parent = dotted(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => dotted(parent),
    }
}

/// A second served version of the kind stored as `S`, through JSON.
pub(super) struct Versions<S> {
    to_storage: fn(Value) -> Value,
    from_storage: fn(Value) -> Value,
    stored: PhantomData<fn() -> S>,
}

impl<S: Strategy> Versions<S> {
    pub(super) fn new(to_storage: fn(Value) -> Value, from_storage: fn(Value) -> Value) -> Versions<S> {
        Versions { to_storage, from_storage, stored: PhantomData }
    }

    fn served(&self, kind: &KindDef, entry: &Entry) -> Result<Arc<Entry>, Status> {
        let stored = serde_json::from_slice(&entry.json).map_err(|error| undecodable(entry, &error))?;
        let served = kind.relabel((self.from_storage)(stored));
        let object = kind.decode(served, &mut |_| ()).map_err(|fault| undecodable(entry, &fault.error))?;
        Ok(Arc::new(Draft::keeping(object).at(entry.key.clone(), entry.rev)))
    }

    fn stored(&self, kind: &KindDef, object: &dyn Object) -> Result<Draft, Status> {
        let mut value = (self.to_storage)(object.to_value());
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".into(), S::API_VERSION.into());
            map.insert("kind".into(), S::KIND.into());
        }
        let stored: S = serde_json::from_value(value)
            .map_err(|error| Status::internal(format_args!("converting a {} to its stored version: {error}", kind.kind())))?;
        Ok(Draft::keeping(Box::new(stored)))
    }
}

impl<S: Strategy> Converter for Versions<S> {
    fn serve<'a>(&'a self, kind: &'a KindDef, entries: Vec<Arc<Entry>>) -> BoxFuture<'a, Result<Vec<Arc<Entry>>, Status>> {
        let served = entries.iter().map(|entry| self.served(kind, entry)).collect();
        futures::future::ready(served).boxed()
    }

    fn store<'a>(&'a self, kind: &'a KindDef, object: &'a dyn Object) -> BoxFuture<'a, Result<Draft, Status>> {
        futures::future::ready(self.stored(kind, object)).boxed()
    }
}
