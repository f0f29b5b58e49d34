//! Objects with every field that their schema has, for tests of forms and round trips.

use orch::server::registry::KindDef;
use serde_json::{Map, Value, json};

/// Definitions of a kind and its dependencies, by name, and the reference to its own.
fn definitions(kind: &KindDef) -> (Map<String, Value>, Value) {
    let mut generator = schemars::SchemaGenerator::default();
    let root = kind.schema(&mut generator).to_value();
    (generator.take_definitions(true), root)
}

/// An object of the kind with a value in every field, but for schemas within schemas, which end after two levels.
pub fn full(kind: &KindDef) -> Value {
    let (definitions, root) = definitions(kind);
    let mut object = sample(&definitions, &root, &mut Vec::new());
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind().into();
    object
}

fn sample(definitions: &Map<String, Value>, schema: &Value, within: &mut Vec<String>) -> Value {
    // A description beside a reference makes it an `allOf` in some generators, a sibling in this one.
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return reference(definitions, name, within);
    }
    match schema["type"].as_str() {
        Some("array") => json!([sample(definitions, &schema["items"], within)]),
        Some("object") if schema["additionalProperties"].is_object() => {
            json!({"key": sample(definitions, &schema["additionalProperties"], within)})
        }
        Some("object") => properties(definitions, schema, within),
        Some("string") => match schema["format"].as_str() {
            Some("date-time") => "2024-02-29T12:30:59Z".into(),
            Some("byte") => "AAEC/w==".into(),
            _ => "text".into(),
        },
        Some("integer") => 7.into(),
        Some("number") => 1.5.into(),
        Some("boolean") => true.into(),
        other => panic!("a schema of type {other:?}: {schema}"),
    }
}

fn properties(definitions: &Map<String, Value>, schema: &Value, within: &mut Vec<String>) -> Value {
    let properties = schema["properties"].as_object().into_iter().flatten();
    Value::Object(properties.map(|(name, schema)| (name.clone(), sample(definitions, schema, within))).collect())
}

fn reference(definitions: &Map<String, Value>, name: &str, within: &mut Vec<String>) -> Value {
    let within_schema = within.iter().filter(|n| n.ends_with("JSONSchemaProps")).count();
    match name.rsplit('.').next().unwrap_or_default() {
        "Time" => "2024-02-29T12:30:59Z".into(),
        "MicroTime" => "2024-02-29T12:30:59.123456Z".into(),
        "Quantity" => "1500m".into(),
        "IntOrString" => "50%".into(),
        "RawExtension" | "FieldsV1" | "JSON" => json!({"any": {"thing": [1, "two", null, 3.5]}}),
        "JSONSchemaPropsOrBool" if within_schema > 1 => false.into(),
        "JSONSchemaPropsOrStringArray" if within_schema > 1 => json!(["a", "b"]),
        "JSONSchemaPropsOrArray" if within_schema > 1 => json!([{"type": "object"}, {"type": "string"}]),
        "JSONSchemaProps" | "CompositePodGroupTemplate" if within.iter().filter(|n| *n == name).count() > 1 => json!({}),
        "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" | "JSONSchemaPropsOrArray" => {
            let schema = definitions.keys().find(|n| n.ends_with(".JSONSchemaProps")).expect("unions of schemas come with schemas");
            reference(definitions, schema, within)
        }
        _ => {
            within.push(name.to_owned());
            let value = sample(definitions, &definitions[name], within);
            within.pop();
            value
        }
    }
}
