//! Schemas as upstream publishes them, made from those of `k8s-openapi` and the facts that they lack.

use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Status};

use super::KindDoc;
use crate::api::schema::{Field, ListType, lookup};

pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
pub(super) const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// Types that are any JSON: published with a description only.
const ANYTHING: &[&str] = &[
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// The schemas of some kinds and of all that they refer to, in the form of v3.
pub(super) struct Schemas {
    /// By name.
    pub all: Map<String, Value>,
    /// Schema names of the kinds, in their order.
    pub kinds: Vec<String>,
    /// Names of those that no Rust type stands for: custom kinds. They are published as they come.
    pub custom: BTreeSet<String>,
}

impl Schemas {
    pub(super) fn of(kinds: &[KindDoc]) -> Schemas {
        let settings = SchemaSettings::openapi3().with(|settings| settings.transforms.clear());
        let mut generator = SchemaGenerator::new(settings);
        let mut inline = Map::new();
        let names: Vec<String> = kinds
            .iter()
            .map(|kind| {
                let schema = (kind.schema)(&mut generator);
                match schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
                    Some(name) => name.to_owned(),
                    None => {
                        let name = name_of(kind);
                        inline.insert(name.clone(), schema.to_value());
                        name
                    }
                }
            })
            .collect();
        generator.subschema_for::<DeleteOptions>();
        generator.subschema_for::<Status>();
        generator.subschema_for::<ListMeta>();
        if kinds.iter().any(|kind| kind.subresources.contains(&crate::server::registry::strategy::Subresource::Scale)) {
            generator.subschema_for::<Scale>();
        }
        let mut all = generator.take_definitions(false);
        for (name, schema) in &mut all {
            publish(name, schema);
        }
        let custom = inline.keys().cloned().collect();
        all.extend(inline);
        for (kind, name) in kinds.iter().zip(&names) {
            if let Some(schema) = all.get_mut(name) {
                identify(schema, &kind.group, &kind.version, &kind.kind);
                // k8s-openapi always has metadata, upstream never demands it.
                not_required(schema, "metadata");
            }
            if !kind.virtual_only {
                all.insert(list_name(kind, name), list(kind, name));
            }
        }
        add_machinery(&mut all, kinds);
        Schemas { all, kinds: names, custom }
    }
}

/// What upstream calls a custom type: its group backwards, version and kind.
fn name_of(kind: &KindDoc) -> String {
    let group = kind.group.split('.').rev().collect::<Vec<_>>().join(".");
    if group.is_empty() { format!("{}.{}", kind.version, kind.kind) } else { format!("{group}.{}.{}", kind.version, kind.kind) }
}

/// What the schema of a kind's list is called.
pub(super) fn list_name(kind: &KindDoc, name: &str) -> String {
    match name.rsplit_once('.') {
        Some((package, _)) => format!("{package}.{}", kind.list_kind),
        None => kind.list_kind.to_string(),
    }
}

/// Adds what operations take and return, and says in whose name.
fn add_machinery(all: &mut Map<String, Value>, kinds: &[KindDoc]) {
    all.insert(
        PATCH.into(),
        json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
            "type": "object",
        }),
    );
    if let Some(status) = all.get_mut(STATUS) {
        identify(status, "", "v1", "Status");
        not_required(status, "metadata");
    }
    if let Some(options) = all.get_mut(DELETE_OPTIONS) {
        let mut versions: Vec<_> = kinds.iter().map(|kind| (&*kind.group, &*kind.version)).chain([("", "v1")]).collect();
        versions.sort_unstable();
        versions.dedup();
        for (group, version) in versions {
            identify(options, group, version, "DeleteOptions");
        }
    }
    if let Some(scale) = all.get_mut(SCALE) {
        if !kinds.iter().any(|kind| kind.kind == "Scale") {
            identify(scale, "autoscaling", "v1", "Scale");
        }
        not_required(scale, "metadata");
    }
}

fn identify(schema: &mut Value, group: &str, version: &str, kind: &str) {
    let Some(schema) = schema.as_object_mut() else { return };
    let identities = schema.entry("x-kubernetes-group-version-kind").or_insert_with(|| json!([]));
    if let Some(identities) = identities.as_array_mut() {
        identities.push(json!({ "group": group, "kind": kind, "version": version }));
    }
}

fn not_required(schema: &mut Value, field: &str) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != field);
        if required.is_empty() {
            schema.remove("required");
        }
    }
}

/// The schema of a list of a kind.
fn list(kind: &KindDoc, item: &str) -> Value {
    let about = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
    let meaning = |what: &str, section: &str| format!("{what} More info: {about}#{section}");
    json!({
        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": meaning("Group and version of this form of the list.", "resources") },
            "kind": { "type": "string", "description": meaning("The list's kind, in CamelCase.", "types-kinds") },
            "metadata": {
                "allOf": [{ "$ref": reference(LIST_META) }],
                "default": {},
                "description": meaning("Standard list metadata.", "types-kinds"),
            },
            "items": {
                "type": "array",
                "description": format!("List of {} objects.", kind.kind),
                "items": { "allOf": [{ "$ref": reference(item) }], "default": {} },
            },
        },
        "x-kubernetes-group-version-kind": [{ "group": kind.group, "kind": kind.list_kind, "version": kind.version }],
    })
}

/// How v3 refers to a schema.
pub(super) fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// Turns one definition into its published form.
fn publish(name: &str, schema: &mut Value) {
    let description = schema.get("description").cloned().unwrap_or_default();
    match name {
        QUANTITY => *schema = json!({ "description": description, "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        INT_OR_STRING => {
            *schema = json!({
                "description": description, "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }],
            });
        }
        _ if ANYTHING.contains(&name) => *schema = json!({ "description": description }),
        _ => {
            let facts = lookup(name);
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                for (property, schema) in properties.iter_mut() {
                    publish_property(schema, facts.and_then(|facts| facts.field(property)));
                }
            }
            if facts.is_some_and(|facts| facts.atomic)
                && let Some(schema) = schema.as_object_mut()
            {
                schema.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
        }
    }
}

fn publish_property(schema: &mut Value, facts: Option<&Field>) {
    wrap_references(schema);
    let Some(schema) = schema.as_object_mut() else { return };
    let is_list = schema.get("type").is_some_and(|kind| kind == "array");
    if is_list {
        let (kind, keys) = match facts.map(|facts| facts.list) {
            Some(ListType::Set) => ("set", None),
            Some(ListType::Map(keys)) => ("map", Some(keys)),
            Some(ListType::Atomic) | None => ("atomic", None),
        };
        schema.insert("x-kubernetes-list-type".into(), kind.into());
        if let Some(keys) = keys {
            schema.insert("x-kubernetes-list-map-keys".into(), json!(keys));
        }
    }
    let Some(facts) = facts else { return };
    if let Some(atomic) = facts.atomic {
        schema.insert("x-kubernetes-map-type".into(), if atomic { "atomic" } else { "granular" }.into());
    }
    if let Some(strategy) = facts.patch.published() {
        schema.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
    if !facts.patch.key.is_empty() {
        schema.insert("x-kubernetes-patch-merge-key".into(), facts.patch.key.into());
    }
}

/// A reference with a description beside it is no valid OpenAPI 3.0: it becomes `allOf`. Goes through items and map values.
fn wrap_references(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            wrap_references(inner);
        }
    }
    if object.len() > 1
        && let Some(reference) = object.remove("$ref")
    {
        object.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}
