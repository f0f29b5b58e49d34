//! Behaviour of kinds that are Rust types, from their [`Strategy`].

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde_json::Value;

use super::{Behaviour, ColumnDef, Fault, MergeSchema, Names, Unknown, undecodable};
use crate::api::{FieldError, Kind, Object, Status, decode};
use crate::server::registry::strategy::{Cell, Scale, Strategy};
use crate::server::store::Entry;

/// The behaviour of `T`. `fn() -> T`: holds none, so it may cross threads whatever `T` is.
pub(super) struct Builtin<T>(PhantomData<fn() -> T>);

impl<T> Builtin<T> {
    pub(super) fn new() -> Builtin<T> {
        Builtin(PhantomData)
    }
}

/// How `T` is called.
pub(super) fn names<T: Kind>() -> Names {
    Names {
        group: T::GROUP.into(),
        version: T::VERSION.into(),
        kind: T::KIND.into(),
        list_kind: format!("{}List", T::KIND).into(),
        resource: T::URL_PATH_SEGMENT.into(),
    }
}

pub(super) fn cast<T: Any>(object: &dyn Object) -> &T {
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
        Ok(Box::new(tree::<T>(value, unknown)?))
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
    fn prepare_delete(&self, object: &mut dyn Object, now: &Time) {
        cast_mut::<T>(object).prepare_delete(now);
    }
    fn validate(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<FieldError> {
        cast::<T>(object).validate(old.map(cast))
    }
    fn validate_status(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        cast::<T>(object).validate_status(cast(old))
    }
    fn prepare_subresource(&self, object: &mut dyn Object, old: &dyn Object, name: &str) {
        cast_mut::<T>(object).prepare_subresource(cast(old), name);
    }
    fn validate_subresource(&self, object: &dyn Object, old: &dyn Object, name: &str) -> Vec<FieldError> {
        cast::<T>(object).validate_subresource(cast(old), name)
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
        Ok(cells(&*object, now))
    }
}

/// A tree to a `T`.
pub(super) fn tree<T: Kind>(value: Value, unknown: Unknown<'_>) -> Result<T, Fault> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut report = |path: serde_ignored::Path<'_>| unknown(dotted(&path));
    let noticing = serde_ignored::Deserializer::new(tracked, &mut report);
    decode::erased(noticing).map_err(|error| Fault { path: track.path().to_string(), error: error.to_string() })
}

/// The cells of one object's row.
pub(super) fn cells<T: Strategy>(object: &T, now: jiff::Timestamp) -> Vec<Cell> {
    let name = (!names_itself::<T>()).then(|| Cell::Text(object.meta().name.clone().unwrap_or_default()));
    name.into_iter().chain(T::columns().iter().map(|column| (column.cell)(object, now))).collect()
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
