//! Behaviour of a second served version of a built-in kind: read and sent as `T`, worked on and stored as `S`.

use std::any::TypeId;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::builtin::{self, Builtin};
use super::{Behaviour, ColumnDef, Fault, MergeSchema, Unknown, undecodable};
use crate::api::{FieldError, Kind, Object, Status, decode};
use crate::server::registry::strategy::{Cell, Scale, Strategy};
use crate::server::store::{Draft, Entry};

/// See the module.
pub(super) struct Second<T, S> {
    stored: Builtin<S>,
    to_storage: fn(Value) -> Value,
    from_storage: fn(Value) -> Value,
    /// Selectable fields whose names differ, as this version calls them and as the stored one does.
    renamed: &'static [(&'static str, &'static str)],
    stricter: Stricter<S>,
    sent: PhantomData<fn() -> T>,
}

/// Rules of a version besides those of the kind: of an object, and of what it was before an update.
pub type Stricter<S> = fn(&S, Option<&S>) -> Vec<FieldError>;

impl<T: Kind, S: Strategy> Second<T, S> {
    pub(super) fn new(
        to_storage: fn(Value) -> Value,
        from_storage: fn(Value) -> Value,
        renamed: &'static [(&'static str, &'static str)],
        stricter: Stricter<S>,
    ) -> Second<T, S> {
        Second { stored: Builtin::new(), to_storage, from_storage, renamed, stricter, sent: PhantomData }
    }

    fn converted<O: Kind>(value: Value, convert: fn(Value) -> Value) -> Result<O, erased_serde::Error> {
        let mut value = convert(value);
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".into(), O::API_VERSION.into());
            map.insert("kind".into(), O::KIND.into());
        }
        decode::erased(value)
    }

    /// The working object of an entry in either form.
    fn working(&self, entry: &Entry) -> Result<Arc<S>, Status> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Labelled<'a> {
            #[serde(borrow)]
            api_version: Cow<'a, str>,
        }
        let wrong = |error: &dyn std::fmt::Display| undecodable(entry, error);
        let Labelled { api_version } = serde_json::from_slice(&entry.json).map_err(|error| wrong(&error))?;
        if api_version != T::API_VERSION {
            return entry.typed::<S>().map_err(|error| undecodable(entry, &error));
        }
        let value = serde_json::from_slice(&entry.json).map_err(|error| wrong(&error))?;
        Ok(Arc::new(Self::converted(value, self.to_storage).map_err(|error| wrong(&error))?))
    }
}

impl<T: Kind + JsonSchema, S: Strategy + JsonSchema> Behaviour for Second<T, S> {
    fn type_id(&self) -> Option<TypeId> {
        Some(TypeId::of::<T>())
    }
    fn is_stored(&self) -> bool {
        false
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
        let sent = builtin::tree::<T>(value, unknown)?;
        let stored: S = Self::converted(sent.to_value(), self.to_storage)
            .map_err(|error| Fault { path: String::new(), error: format!("converting to {}: {error}", S::API_VERSION) })?;
        Ok(Box::new(stored))
    }

    fn object(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = self.working(entry)?;
        Ok(object)
    }

    fn tree(&self, object: &dyn Object) -> Result<Value, Status> {
        let wrong = |error: &dyn std::fmt::Display| Status::internal(format_args!("converting to {}: {error}", T::API_VERSION));
        let sent: T = Self::converted(object.to_value(), self.from_storage).map_err(|error| wrong(&error))?;
        Ok(sent.to_value())
    }

    fn present(&self, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
        let object = self.working(entry)?;
        let mut sent: T = Self::converted(object.to_value(), self.from_storage).map_err(|error| undecodable(entry, &error))?;
        if sent.meta().managed_fields.is_none() {
            sent.meta_mut().managed_fields = entry.managed_fields();
        }
        Ok(Arc::new(Draft::keeping(Box::new(sent)).at(entry.key.clone(), entry.rev)))
    }

    fn row(&self, entry: &Entry, now: jiff::Timestamp) -> Result<Vec<Cell>, Status> {
        Ok(builtin::cells(&*self.working(entry)?, now))
    }

    fn apply_defaults(&self, object: &mut dyn Object) {
        self.stored.apply_defaults(object);
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        self.stored.prepare_create(object);
    }
    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object) {
        self.stored.prepare_update(object, old);
    }
    fn prepare_delete(&self, object: &mut dyn Object, now: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) {
        self.stored.prepare_delete(object, now);
    }
    fn prepare_status(&self, object: &mut dyn Object, old: &dyn Object) {
        self.stored.prepare_status(object, old);
    }
    fn validate(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<FieldError> {
        let mut errors = self.stored.validate(object, old);
        errors.extend((self.stricter)(builtin::cast(object), old.map(builtin::cast)));
        errors
    }
    fn validate_status(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        self.stored.validate_status(object, old)
    }
    fn validate_name(&self, name: &str) -> Result<(), String> {
        self.stored.validate_name(name)
    }
    fn fields(&self) -> Vec<&str> {
        let here = |stored: &&'static str| self.renamed.iter().find(|(_, there)| there == stored).map_or(*stored, |(here, _)| *here);
        S::FIELDS.iter().map(here).collect()
    }
    fn field(&self, object: &dyn Object, path: &str) -> Option<String> {
        let stored = self.renamed.iter().find(|(here, _)| *here == path).map_or(path, |(_, there)| *there);
        self.stored.field(object, stored)
    }
    fn scale(&self, object: &dyn Object) -> Option<Scale> {
        self.stored.scale(object)
    }
    fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        self.stored.set_scale(object, replicas);
    }
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool {
        self.stored.spec_changed(object, old)
    }
    fn grace(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64> {
        self.stored.grace(object, requested)
    }
    fn columns(&self) -> Vec<ColumnDef> {
        self.stored.columns()
    }
}
