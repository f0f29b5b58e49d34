//! The schema of a custom kind as OpenAPI documents show it (apiextensions-apiserver `pkg/controller/openapi/builder`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::version::Version;

const ABOUT: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// The whole schema; `$ref`s to Kubernetes' own types are added to the generator.
pub(super) fn schema(version: &Version, generator: &mut SchemaGenerator) -> Value {
    let metadata = generator.subschema_for::<ObjectMeta>().to_value();
    let mut schema = Value::clone(&version.merge_schema);
    embedded(&mut schema, &metadata);
    resource(&mut schema, &metadata);
    if let Some(map) = schema.as_object_mut() {
        // Rules are for the server.
        map.entry("type").or_insert_with(|| "object".into());
        if !version.selectable.is_empty() {
            let fields: Vec<Value> = version.selectable.iter().map(|path| json!({"fieldPath": path})).collect();
            map.insert("x-kubernetes-selectable-fields".into(), fields.into());
        }
    }
    schema
}

/// `apiVersion`, `kind` and `metadata` of a resource, whatever the definition says of them.
fn resource(schema: &mut Value, metadata: &Value) {
    let Some(map) = schema.as_object_mut() else { return };
    let properties = map.entry("properties").or_insert_with(|| Map::new().into());
    let Some(properties) = properties.as_object_mut() else { return };
    let version = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the \
                   latest internal value, and may reject unrecognized values.";
    let kind = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the \
                client submits requests to. Cannot be updated. In CamelCase.";
    properties.insert("apiVersion".into(), json!({"type": "string", "description": format!("{version} More info: {ABOUT}#resources")}));
    properties.insert("kind".into(), json!({"type": "string", "description": format!("{kind} More info: {ABOUT}#types-kinds")}));
    let described = format!("Standard object's metadata. More info: {ABOUT}#metadata");
    properties.insert("metadata".into(), json!({"description": described, "allOf": [metadata]}));
}

/// The same in resources within the resource.
fn embedded(schema: &mut Value, metadata: &Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            nested(inner, metadata);
        }
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| nested(property, metadata));
    }
}

fn nested(schema: &mut Value, metadata: &Value) {
    embedded(schema, metadata);
    if schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        resource(schema, metadata);
    }
}
