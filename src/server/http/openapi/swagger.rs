//! The OpenAPI 2.0 document: every kind in one.

use serde_json::{Map, Value, json};

use super::KindDoc;
use super::operations::{Parameter, Path, Payload, Verb, description, operation_id, paths};
use super::schemas::{INT_OR_STRING, QUANTITY, Schemas};
use super::v3::{PATCHES, VERSION, answers, identity, meaning, payload, tag};

/// The document of all kinds.
pub(super) fn document(kinds: &[KindDoc]) -> Value {
    let schemas = Schemas::of(kinds);
    let mut documented = Map::new();
    for (kind, name) in kinds.iter().zip(&schemas.kinds) {
        for path in paths(kind) {
            let mut item = Map::new();
            item.insert("parameters".into(), path.parameters.iter().map(parameter).collect());
            for verb in path.verbs {
                item.insert(verb.method.into(), operation(kind, name, &path, verb));
            }
            documented.insert(path.path, item.into());
        }
    }
    let mut definitions = schemas.all;
    for (name, schema) in &mut definitions {
        if schemas.custom.contains(name) {
            forget(schema, true);
        }
        match name.as_str() {
            QUANTITY => *schema = json!({ "description": schema["description"].take(), "type": "string" }),
            INT_OR_STRING => {
                *schema = json!({ "description": schema["description"].take(), "format": "int-or-string", "type": "string" });
            }
            _ => lower(schema),
        }
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": documented,
        "definitions": definitions,
    })
}

/// How v2 refers to a schema.
fn reference(name: &str) -> String {
    format!("#/definitions/{name}")
}

/// Drops from the schema of a custom kind what OpenAPI 2.0, or clients that validate by it, do not understand.
///
/// Follows apiextensions-apiserver `pkg/controller/openapi/v2/conversion.go` and `builder.go`.
fn forget(schema: &mut Value, root: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    // References are ours: `metadata` of this and of embedded resources.
    if object.get("allOf").is_some_and(|all| all.pointer("/0/$ref").is_some()) {
        return;
    }
    for combination in ["allOf", "anyOf", "oneOf", "not"] {
        object.remove(combination);
    }
    let set = |object: &Map<String, Value>, name: &str| object.get(name).is_some_and(|value| value == true);
    if root && set(object, "x-kubernetes-preserve-unknown-fields") {
        // kubectl would refuse every field that is not described.
        object.retain(|name, _| name == "type" || name == "x-kubernetes-group-version-kind");
        return;
    }
    if set(object, "nullable") {
        for name in ["type", "nullable", "items", "properties", "additionalProperties"] {
            object.remove(name);
        }
    }
    if set(object, "x-kubernetes-preserve-unknown-fields") {
        object.remove("items");
        object.remove("properties");
    }
    if set(object, "x-kubernetes-int-or-string") {
        object.remove("type");
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            forget(inner, false);
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| forget(property, false));
    }
}

/// Rewrites a schema of v3 to one of v2, where a reference may have siblings and there is no `oneOf`.
fn lower(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let wrapped = object.get("allOf").and_then(|all| all.pointer("/0/$ref")).cloned();
    if let Some(reference) = wrapped {
        object.remove("allOf");
        object.insert("$ref".into(), reference);
    }
    // A default beside a reference says nothing that clients of v2 use.
    if object.contains_key("$ref") {
        object.remove("default");
    }
    object.remove("oneOf");
    if let Some(Value::String(path)) = object.get_mut("$ref")
        && let Some(name) = path.rsplit('/').next()
    {
        *path = reference(name);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            lower(inner);
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(lower);
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "type": parameter.kind,
        "uniqueItems": true,
    });
    if parameter.place == "path" {
        value["required"] = true.into();
    }
    value
}

fn operation(kind: &KindDoc, name: &str, path: &Path, verb: &Verb) -> Value {
    let mut responses = Map::new();
    for code in verb.codes {
        let schema = payload(verb.answer, kind, name, path).map(|name| json!({ "$ref": reference(&name) }));
        responses.insert(code.to_string(), json!({ "description": meaning(*code), "schema": schema }));
    }
    responses.insert("401".into(), json!({ "description": meaning(401) }));
    let mut parameters: Vec<Value> = verb.parameters.iter().map(parameter).collect();
    if let Some(body) = payload(verb.body, kind, name, path) {
        let mut body = json!({ "in": "body", "name": "body", "schema": { "$ref": reference(&body) } });
        if verb.body != Payload::DeleteOptions {
            body["required"] = true.into();
        }
        parameters.push(body);
    }
    json!({
        "description": description(kind, path, verb),
        "operationId": operation_id(kind, path, verb),
        "tags": [tag(kind)],
        "schemes": ["https"],
        "consumes": if verb.body == Payload::Patch { PATCHES } else { &["*/*"] },
        "produces": answers(kind, verb),
        "parameters": parameters,
        "responses": responses,
        "x-kubernetes-action": verb.action,
        "x-kubernetes-group-version-kind": identity(kind, path),
    })
}
