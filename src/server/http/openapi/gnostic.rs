//! The OpenAPI 2.0 document as protobuf: the messages of `openapi.v2` (gnostic's `openapiv2/OpenAPIv2.proto`) that ours and those of
//! extension servers need.
//!
//! Clients up to kubectl 1.30 parse this form. A `oneof` is written as a message with optional fields, of which one is set:
//! on the wire that is the same. Maps are lists of name and value; vendor extensions are YAML text, for which JSON will do.

use prost::Message;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Schemas>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "2")]
    get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    delete: Option<Operation>,
    #[prost(message, optional, tag = "6")]
    options: Option<Operation>,
    #[prost(message, optional, tag = "7")]
    head: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, repeated, tag = "1")]
    tags: Vec<String>,
    #[prost(string, tag = "2")]
    summary: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "5")]
    operation_id: String,
    #[prost(string, repeated, tag = "6")]
    produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    responses: Option<Responses>,
    #[prost(string, repeated, tag = "10")]
    schemes: Vec<String>,
    #[prost(bool, tag = "11")]
    deprecated: bool,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(message, optional, tag = "1")]
    body: Option<BodyParameter>,
    #[prost(message, optional, tag = "2")]
    non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct BodyParameter {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(bool, tag = "4")]
    required: bool,
    #[prost(message, optional, tag = "5")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    query: Option<QueryParameter>,
    #[prost(message, optional, tag = "4")]
    path: Option<PathParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    kind: String,
    #[prost(bool, tag = "20")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PathParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    kind: String,
    #[prost(bool, tag = "19")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Responses {
    #[prost(message, repeated, tag = "1")]
    response_code: Vec<NamedResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedResponseValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(message, optional, tag = "2")]
    schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaItem {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<Schema>>,
    #[prost(bool, optional, tag = "2")]
    boolean: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "3")]
    title: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(message, optional, tag = "5")]
    default: Option<Any>,
    #[prost(double, tag = "6")]
    multiple_of: f64,
    #[prost(double, tag = "7")]
    maximum: f64,
    #[prost(bool, tag = "8")]
    exclusive_maximum: bool,
    #[prost(double, tag = "9")]
    minimum: f64,
    #[prost(bool, tag = "10")]
    exclusive_minimum: bool,
    #[prost(int64, tag = "11")]
    max_length: i64,
    #[prost(int64, tag = "12")]
    min_length: i64,
    #[prost(string, tag = "13")]
    pattern: String,
    #[prost(int64, tag = "14")]
    max_items: i64,
    #[prost(int64, tag = "15")]
    min_items: i64,
    #[prost(bool, tag = "16")]
    unique_items: bool,
    #[prost(int64, tag = "17")]
    max_properties: i64,
    #[prost(int64, tag = "18")]
    min_properties: i64,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, repeated, tag = "20")]
    values: Vec<Any>,
    #[prost(message, optional, tag = "21")]
    additional_properties: Option<SchemaItem>,
    #[prost(message, optional, tag = "22")]
    kind: Option<Strings>,
    #[prost(message, optional, tag = "23")]
    items: Option<SchemaList>,
    #[prost(message, repeated, tag = "24")]
    all_of: Vec<Schema>,
    #[prost(message, optional, tag = "25")]
    properties: Option<Schemas>,
    #[prost(bool, tag = "27")]
    read_only: bool,
    #[prost(message, optional, tag = "30")]
    example: Option<Any>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct Strings {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaList {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schemas {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

/// Encodes a document of [`super::swagger`].
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let none = Object::new();
    let members = |value: &Value, name: &str| value.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let info = document.get("info").and_then(Value::as_object).unwrap_or(&none);
    let message = Document {
        swagger: text(document.as_object().unwrap_or(&none), "swagger"),
        info: Some(Info { title: text(info, "title"), version: text(info, "version") }),
        paths: Some(Paths {
            path: members(document, "paths")
                .into_iter()
                .filter_map(|(name, item)| Some(NamedPathItem { name, value: Some(path_item(item.as_object()?)) }))
                .collect(),
        }),
        definitions: Some(schemas(&members(document, "definitions"))),
    };
    message.encode_to_vec()
}

fn text(object: &Object, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(object: &Object, name: &str) -> Vec<String> {
    let items = object.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn flag(object: &Object, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn extensions(object: &Object) -> Vec<NamedAny> {
    let found = object.iter().filter(|(name, _)| name.starts_with("x-"));
    found.map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) }).collect()
}

fn any(value: &Value) -> Any {
    Any { yaml: format!("{value}\n") }
}

fn number(object: &Object, name: &str) -> f64 {
    object.get(name).and_then(Value::as_f64).unwrap_or_default()
}

fn count(object: &Object, name: &str) -> i64 {
    object.get(name).and_then(Value::as_i64).unwrap_or_default()
}

fn path_item(item: &Object) -> PathItem {
    let verb = |method: &str| item.get(method).and_then(Value::as_object).map(operation);
    PathItem {
        get: verb("get"),
        put: verb("put"),
        post: verb("post"),
        delete: verb("delete"),
        options: verb("options"),
        head: verb("head"),
        patch: verb("patch"),
        parameters: parameters(item),
    }
}

fn operation(operation: &Object) -> Operation {
    let response = |(code, response): (&String, &Value)| {
        let schema = response.get("schema").and_then(Value::as_object).map(schema);
        let schema = schema.map(|schema| SchemaItem { schema: Some(Box::new(schema)), boolean: None });
        let description = response.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        NamedResponseValue { name: code.clone(), value: Some(ResponseValue { response: Some(Response { description, schema }) }) }
    };
    let responses = operation.get("responses").and_then(Value::as_object);
    Operation {
        tags: texts(operation, "tags"),
        summary: text(operation, "summary"),
        deprecated: flag(operation, "deprecated"),
        description: text(operation, "description"),
        operation_id: text(operation, "operationId"),
        produces: texts(operation, "produces"),
        consumes: texts(operation, "consumes"),
        parameters: parameters(operation),
        responses: responses.map(|responses| Responses { response_code: responses.iter().map(response).collect() }),
        schemes: texts(operation, "schemes"),
        vendor_extension: extensions(operation),
    }
}

fn parameters(of: &Object) -> Vec<ParametersItem> {
    let found = of.get("parameters").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    found.map(|parameter| ParametersItem { parameter: Some(self::parameter(parameter)) }).collect()
}

fn parameter(of: &Object) -> Parameter {
    let (name, place) = (text(of, "name"), text(of, "in"));
    let (required, unique_items) = (flag(of, "required"), flag(of, "uniqueItems"));
    let (description, kind) = (text(of, "description"), text(of, "type"));
    match place.as_str() {
        "body" => {
            let schema = of.get("schema").and_then(Value::as_object).map(schema);
            Parameter { body: Some(BodyParameter { name, place, required, schema }), non_body: None }
        }
        "path" => {
            let path = PathParameter { required, place, description, name, kind, unique_items };
            Parameter { body: None, non_body: Some(NonBodyParameter { query: None, path: Some(path) }) }
        }
        _ => {
            let query = QueryParameter { required, place, description, name, kind, unique_items };
            Parameter { body: None, non_body: Some(NonBodyParameter { query: Some(query), path: None }) }
        }
    }
}

fn schemas(named: &Object) -> Schemas {
    let one = |(name, value): (&String, &Value)| NamedSchema { name: name.clone(), value: value.as_object().map(schema) };
    Schemas { additional_properties: named.iter().map(one).collect() }
}

fn schema(of: &Object) -> Schema {
    let kind = text(of, "type");
    let item = |value: &Value| SchemaItem { schema: value.as_object().map(schema).map(Box::new), boolean: value.as_bool() };
    let list = |name: &str| of.get(name).and_then(Value::as_array).into_iter().flatten();
    Schema {
        reference: text(of, "$ref"),
        format: text(of, "format"),
        title: text(of, "title"),
        description: text(of, "description"),
        default: of.get("default").map(any),
        multiple_of: number(of, "multipleOf"),
        maximum: number(of, "maximum"),
        exclusive_maximum: flag(of, "exclusiveMaximum"),
        minimum: number(of, "minimum"),
        exclusive_minimum: flag(of, "exclusiveMinimum"),
        max_length: count(of, "maxLength"),
        min_length: count(of, "minLength"),
        pattern: text(of, "pattern"),
        max_items: count(of, "maxItems"),
        min_items: count(of, "minItems"),
        unique_items: flag(of, "uniqueItems"),
        max_properties: count(of, "maxProperties"),
        min_properties: count(of, "minProperties"),
        required: texts(of, "required"),
        values: list("enum").map(any).collect(),
        all_of: list("allOf").filter_map(Value::as_object).map(schema).collect(),
        read_only: flag(of, "readOnly"),
        example: of.get("example").map(any),
        additional_properties: of.get("additionalProperties").map(item),
        kind: (!kind.is_empty()).then(|| Strings { value: vec![kind] }),
        items: of.get("items").and_then(Value::as_object).map(|items| SchemaList { schema: vec![schema(items)] }),
        properties: of.get("properties").and_then(Value::as_object).map(schemas),
        vendor_extension: extensions(of),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Name, type and extensions of a definition.
    pub type Definition = (String, String, Vec<String>);

    /// Each definition, and the query parameters of each PATCH: what clients look for.
    pub fn summary(bytes: &[u8]) -> (Vec<Definition>, Vec<(String, Vec<String>)>) {
        let document = Document::decode(bytes).unwrap();
        assert_eq!((document.swagger.as_str(), document.info.unwrap().title.as_str()), ("2.0", "Kubernetes"));
        let definition = |named: NamedSchema| {
            let schema = named.value.unwrap();
            let kind = schema.kind.map(|kind| kind.value.join(",")).unwrap_or_default();
            let extensions = schema.vendor_extension.into_iter().map(|e| format!("{}: {}", e.name, e.value.unwrap().yaml.trim()));
            (named.name, kind, extensions.collect())
        };
        let patch = |named: NamedPathItem| {
            let query = |item: ParametersItem| item.parameter?.non_body?.query.map(|query| query.name);
            let patch = named.value?.patch?;
            Some((named.name, patch.parameters.into_iter().filter_map(query).collect()))
        };
        let definitions = document.definitions.unwrap().additional_properties.into_iter().map(definition).collect();
        (definitions, document.paths.unwrap().path.into_iter().filter_map(patch).collect())
    }
}
