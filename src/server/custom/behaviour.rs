//! What a custom kind does with its objects (`pkg/registry/customresource/{strategy,status_strategy,validator}.go`).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::version::{Definition, Version};
use super::{Dynamic, columns, has, paths, publish, serves_alike};
use crate::api::structural::{self, Additional, Coerce, Path};
use crate::api::{FieldError, Key, Object, Status, names};
use crate::server::registry::strategy::{Cell, Scale};
use crate::server::registry::{Behaviour, ColumnDef, Fault, MergeSchema, Unknown, undecodable};
use crate::server::store::Entry;

/// One version of a definition.
pub(super) struct Custom {
    pub definition: Arc<Definition>,
    pub index: usize,
}

fn cast(object: &dyn Object) -> &Dynamic {
    object.as_any().downcast_ref().expect("a row is only handed objects that it made")
}

fn cast_mut(object: &mut dyn Object) -> &mut Dynamic {
    object.as_any_mut().downcast_mut().expect("a row is only handed objects that it made")
}

/// Makes a tree an object of the version: what is not described goes, metadata of embedded resources is made well-formed.
pub(super) fn shape(version: &Version, content: &mut Value, drop_malformed: bool, unknown: Unknown<'_>) -> Result<(), FieldError> {
    if !version.preserve {
        structural::prune(content, &version.schema, unknown);
        structural::drop_nulls(content, Some(&version.schema));
    }
    structural::coerce(content, &version.schema, Coerce { root: false, drop_malformed }, unknown)
}

impl Custom {
    fn version(&self) -> &Arc<Version> {
        self.definition.version(self.index)
    }

    /// Every violated rule of a state. `scale_spec`: whether the scale's part of the spec is looked at.
    fn check(&self, object: &Dynamic, old: Option<&Dynamic>, scale_spec: bool) -> Vec<FieldError> {
        let version = self.version();
        let mut errors = type_errors(version, object);
        if !errors.is_empty() {
            return errors;
        }
        let needs_meta = looks_at_metadata(version);
        let whole = |object: &Dynamic| if needs_meta { object.to_value() } else { object.content.clone() };
        // Without metadata in the schema the tree as it is will do.
        let (new_tree, old_tree) = (needs_meta.then(|| whole(object)), old.filter(|_| needs_meta).map(whole));
        let new = new_tree.as_ref().unwrap_or(&object.content);
        let old = old.map(|old| old_tree.as_ref().unwrap_or(&old.content));
        errors.extend(match old {
            None => structural::validate(new, &version.schema, Path::ROOT),
            Some(old) => structural::validate_update(new, old, &version.schema, Path::ROOT),
        });
        scale_errors(version, new, scale_spec, &mut errors);
        errors.extend(structural::validate_embedded(new, &version.schema, false, Path::ROOT));
        let listed = structural::validate_list_types(new, &version.schema);
        if !listed.is_empty() && old.is_none_or(|old| structural::validate_list_types(old, &version.schema).is_empty()) {
            errors.extend(listed);
        }
        if let Some(rules) = &version.rules {
            match errors.iter().any(blocks_rules) {
                true => errors.push(FieldError::invalid(
                    "<nil>",
                    "null",
                    "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
                )),
                false => errors.extend(rules.run(&version.schema, new, old)),
            }
        }
        errors
    }
}

/// Rules written in CEL need values of the right form.
fn blocks_rules(error: &FieldError) -> bool {
    ["FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"]
        .contains(&error.reason)
}

fn type_errors(version: &Version, object: &Dynamic) -> Vec<FieldError> {
    let pairs = [("kind", &version.kind), ("apiVersion", &version.api_version)];
    let wrong = pairs.into_iter().filter(|(field, wanted)| object.text(field) != *wanted);
    wrong.map(|(field, wanted)| FieldError::invalid(field, object.text(field), format!("must be {wanted}"))).collect()
}

/// Whether the root of the schema says something that metadata takes part in.
fn looks_at_metadata(version: &Version) -> bool {
    let schema = &version.schema;
    let combined = [&schema.all_of, &schema.any_of, &schema.one_of].iter().any(|list| !list.is_empty()) || schema.not.is_some();
    version.rules.is_some()
        || combined
        || schema.properties.contains_key("metadata")
        || schema.required.iter().any(|name| name == "metadata")
        || schema.max_properties.is_some()
        || schema.min_properties.is_some()
        || schema.enumeration.is_some()
        || schema.additional != Additional::Unset
}

fn scale_errors(version: &Version, object: &Value, spec: bool, errors: &mut Vec<FieldError>) {
    let Some(scale) = &version.scale else { return };
    let counts = [spec.then_some(&scale.spec_replicas_path), Some(&scale.status_replicas_path)];
    for path in counts.into_iter().flatten() {
        match paths::integer(object, path) {
            Err(why) => errors.push(FieldError::invalid(path, 0, why)),
            Ok(count) if count < 0 => errors.push(FieldError::invalid(path, count, "should be a non-negative integer")),
            Ok(count) if count > i64::from(i32::MAX) => {
                errors.push(FieldError::invalid(path, count, format!("should be less than or equal to {}", i32::MAX)));
            }
            Ok(_) => {}
        }
    }
    if let Some((path, Err(why))) = scale.label_selector_path.as_ref().map(|path| (path, paths::text(object, path))) {
        errors.push(FieldError::invalid(path, "", why));
    }
}

impl Behaviour for Custom {
    fn is_stored(&self) -> bool {
        self.index == self.definition.storage()
    }

    fn merge_schema(&self) -> MergeSchema {
        MergeSchema::OpenApi(self.version().merge_schema.clone())
    }

    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::Schema::try_from(publish::schema(self.version(), generator)).unwrap_or_default()
    }

    fn decode(&self, mut value: Value, unknown: Unknown<'_>) -> Result<Box<dyn Object>, Fault> {
        let fault = |path: &str, error: String| Fault { path: path.into(), error };
        let version = self.version();
        let body = value.to_string();
        let Some(map) = value.as_object_mut() else { return Err(fault("", "it is not an object".into())) };
        if map.get("kind").is_none_or(|kind| kind.as_str().is_none_or(str::is_empty)) {
            return Err(fault("", format!("Object 'Kind' is missing in '{body}'")));
        }
        if map.get("apiVersion").is_none_or(|version| version.as_str().is_none_or(str::is_empty)) {
            return Err(fault("", format!("Object 'apiVersion' is missing in '{body}'")));
        }
        let meta = match map.remove("metadata") {
            None | Some(Value::Null) => Default::default(),
            Some(meta) => structural::metadata(meta, false, &mut |field| unknown(format!("metadata.{field}")))
                .map_err(|error| fault("metadata", error))?,
        };
        shape(version, &mut value, false, unknown).map_err(|error| fault(&error.field, error.message))?;
        Ok(Box::new(Dynamic { meta, content: value }))
    }

    fn object(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = Dynamic::of(entry).map_err(|error| undecodable(entry, &error))?;
        Ok(object)
    }

    fn apply_defaults(&self, object: &mut dyn Object) {
        let version = self.version();
        if version.defaults && !version.preserve {
            structural::fill(&mut cast_mut(object).content, &version.schema);
        }
    }

    fn prepare_create(&self, object: &mut dyn Object) {
        if self.version().status {
            cast_mut(object).map_mut().remove("status");
        }
    }

    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object) {
        if !self.version().status {
            return;
        }
        let map = cast_mut(object).map_mut();
        match cast(old).content.get("status") {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.remove("status"),
        };
    }

    fn prepare_status(&self, object: &mut dyn Object, old: &dyn Object) {
        let sent = cast_mut(object);
        let status = sent.map_mut().remove("status");
        let managed = sent.meta.managed_fields.take();
        *sent = cast(old).clone();
        sent.meta.managed_fields = managed;
        match status {
            Some(status) => sent.map_mut().insert("status".into(), status),
            None => sent.map_mut().remove("status"),
        };
    }

    fn validate(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<FieldError> {
        self.check(cast(object), old.map(cast), true)
    }

    fn validate_status(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        self.check(cast(object), Some(cast(old)), false)
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::subdomain(name)
    }

    fn fields(&self) -> Vec<&str> {
        self.version().selectable.iter().map(String::as_str).collect()
    }

    fn field(&self, object: &dyn Object, path: &str) -> Option<String> {
        let value = paths::get(&cast(object).content, path)?;
        (!value.is_null()).then(|| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn scale(&self, object: &dyn Object) -> Option<Scale> {
        let scale = self.version().scale.as_ref()?;
        let content = &cast(object).content;
        let count = |path: &str| paths::integer(content, path).ok().and_then(|count| i32::try_from(count).ok()).unwrap_or_default();
        let selector = scale.label_selector_path.as_deref().and_then(|path| paths::text(content, path).ok()).unwrap_or_default();
        Some(Scale { replicas: count(&scale.spec_replicas_path), observed: count(&scale.status_replicas_path), selector: selector.into() })
    }

    fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        if let Some(scale) = &self.version().scale {
            paths::set(cast_mut(object).map_mut(), &scale.spec_replicas_path, replicas.into());
        }
    }

    /// All but metadata; the status too, unless it has a subresource of its own.
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool {
        let (new, old) = (&cast(object).content, &cast(old).content);
        if !self.version().status {
            return new != old;
        }
        let rest = |value: &Value| {
            value
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| *name != "status")
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect::<Vec<_>>()
        };
        rest(new) != rest(old)
    }

    fn grace(&self, _: &dyn Object, _: Option<i64>) -> Option<i64> {
        None
    }

    fn columns(&self) -> Vec<ColumnDef> {
        columns::headings(&self.version().columns)
    }

    fn row(&self, entry: &Entry, now: Timestamp) -> Result<Vec<Cell>, Status> {
        let object = Dynamic::of(entry).map_err(|error| undecodable(entry, &error))?;
        let name = object.meta.name.as_deref().unwrap_or_default();
        Ok(columns::row(&self.version().columns, name, &object.to_value(), now))
    }

    fn warning(&self) -> Option<String> {
        self.version().warning.clone()
    }

    fn closed(&self, verb: &str) -> Option<String> {
        self.definition.is_terminating().then(|| format!("{verb} not allowed while custom resource definition is terminating"))
    }

    fn stored_version(&self) -> Option<String> {
        Some(self.definition.crd.spec.versions[self.definition.storage()].name.clone())
    }

    fn definition(&self) -> Option<Key> {
        Some(self.definition.key.clone())
    }

    fn is_defined_by(&self, entry: &Entry) -> bool {
        let Ok(crd) = entry.typed::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>() else {
            return false;
        };
        // Terminating alone does not end watches: they see the instances go.
        let mut now = crd.as_ref().clone();
        if has(&now, "Terminating") != self.definition.is_terminating() {
            now.status = self.definition.crd.status.clone();
        }
        serves_alike(&self.definition.crd, &now)
    }
}
