//! JSON schemas into [`Schema`]s: those of the API's own types together with [`crate::api::schema`]'s facts, and those of custom
//! resources with their `x-kubernetes-*` extensions.
//!
//! Follows kube-openapi's `schemaconv` and, for what custom resources are given beside their own schema, apiextensions'
//! `controller/openapi/builder`.
//!
//! Invariant: recursive definitions end, since a named type is compiled once.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map as Json, Value};

use super::schema::{Draft, Key, List, ListKind, Map, Scalar, Schema, Type, TypeRef};
use crate::api::schema::{Field, ListType, key_default, lookup};

/// Deepest nesting of a custom schema; what is below is taken as anything.
const MAX_DEPTH: usize = 100;

/// The schema of a built-in type, from the function that adds its JSON schema to a generator.
pub fn built_in(of: impl FnOnce(&mut SchemaGenerator) -> schemars::Schema) -> Schema {
    let mut generator = SchemaGenerator::new(SchemaSettings::openapi3().with(|settings| settings.transforms.clear()));
    let root = of(&mut generator).to_value();
    compile(&generator.take_definitions(false), &root, false)
}

/// The schema of a custom resource, from its `openAPIV3Schema`.
pub fn custom(schema: &Value) -> Schema {
    let mut generator = SchemaGenerator::new(SchemaSettings::openapi3().with(|settings| settings.transforms.clear()));
    generator.subschema_for::<ObjectMeta>();
    compile(&generator.take_definitions(false), schema, true)
}

fn compile(definitions: &Json<String, Value>, root: &Value, custom: bool) -> Schema {
    let mut compiler = Compiler { definitions, draft: Draft::default(), named: HashMap::new() };
    let root = compiler.type_of(root, Place { embedded: custom, ..Place::default() });
    compiler.draft.finish(root)
}

struct Compiler<'a> {
    definitions: &'a Json<String, Value>,
    draft: Draft,
    named: HashMap<&'a str, TypeRef>,
}

/// What is known of a schema beside its own text.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Facts of the built-in field that it is the schema of.
    facts: Option<&'static Field>,
    /// Whether the built-in type that it is the schema of is owned as a whole.
    atomic: bool,
    /// The name of the built-in type that it is the schema of.
    named: Option<&'static str>,
    /// Whether unknown fields are kept here, by a schema further out.
    keeps_unknown: bool,
    /// Whether it is a whole object, with metadata.
    embedded: bool,
    depth: usize,
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn reference(schema: &Value) -> Option<&str> {
    let path = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"))?;
    path.as_str()?.rsplit('/').next()
}

impl<'a> Compiler<'a> {
    fn type_of(&mut self, schema: &'a Value, place: Place) -> TypeRef {
        if place.depth > MAX_DEPTH {
            return self.draft.anything();
        }
        if let Some(name) = reference(schema) {
            return self.named_type(name, place.facts);
        }
        let keeps_unknown = place.keeps_unknown || flag(schema, "x-kubernetes-preserve-unknown-fields");
        let place = Place { keeps_unknown, ..place };
        if flag(schema, "x-kubernetes-int-or-string") {
            return self.scalar(Scalar::Any);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.map(schema, place),
            Some("array") => self.list(schema, place),
            Some("integer" | "number") => self.scalar(Scalar::Number),
            Some("boolean") => self.scalar(Scalar::Bool),
            // Upstream knows the shape of plain text and of bytes only.
            Some("string") => match schema.get("format").and_then(Value::as_str) {
                None | Some("" | "byte") => self.scalar(Scalar::Text),
                Some(_) => self.scalar(Scalar::Any),
            },
            _ if schema.get("properties").is_some() => self.map(schema, place),
            _ => self.draft.anything(),
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> TypeRef {
        self.draft.add(Type { scalar: Some(scalar), ..Type::default() })
    }

    /// A type by its name. A field that overrides whether it is owned as a whole gets a type of its own.
    fn named_type(&mut self, name: &str, facts: Option<&'static Field>) -> TypeRef {
        let Some((name, schema)) = self.definitions.get_key_value(name) else { return self.draft.anything() };
        let place = match self.named.get(name.as_str()) {
            Some(place) => *place,
            None => {
                let place = self.draft.reserve();
                self.named.insert(name, place);
                let known = lookup(name);
                let named = known.map(|known| known.name);
                let made = self.type_of(schema, Place { atomic: known.is_some_and(|t| t.atomic), named, ..Place::default() });
                let made = self.draft.get(made).clone();
                self.draft.set(place, made);
                place
            }
        };
        let Some(atomic) = facts.and_then(|field| field.atomic) else { return place };
        let mut own = self.draft.get(place).clone();
        match &mut own.map {
            Some(map) => map.atomic = atomic,
            None => return place,
        }
        self.draft.add(own)
    }

    fn map(&mut self, schema: &'a Value, place: Place) -> TypeRef {
        let inner = Place { keeps_unknown: place.keeps_unknown, depth: place.depth + 1, ..Place::default() };
        let facts_of = place.named.and_then(lookup);
        let mut map = Map {
            atomic: place.facts.and_then(|field| field.atomic).unwrap_or(place.atomic)
                || schema.get("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic"),
            ..Map::default()
        };
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let facts = facts_of.and_then(|known| known.field(name));
            let embedded = flag(property, "x-kubernetes-embedded-resource");
            map.fields.push((name.clone(), self.type_of(property, Place { facts, embedded, ..inner })));
        }
        if place.embedded {
            let text = self.scalar(Scalar::Text);
            let metadata = self.named_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", None);
            for (name, of) in [("apiVersion", text), ("kind", text), ("metadata", metadata)] {
                map.fields.retain(|(field, _)| field != name);
                map.fields.push((name.into(), of));
            }
        }
        map.fields.sort_by(|a, b| a.0.cmp(&b.0));
        map.values = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(values @ Value::Object(_)) => {
                let embedded = flag(values, "x-kubernetes-embedded-resource");
                Some(self.type_of(values, Place { embedded, ..inner }))
            }
            Some(_) => Some(self.draft.anything()),
            None if place.keeps_unknown || map.fields.is_empty() => Some(self.draft.anything()),
            None => None,
        };
        self.draft.add(Type { map: Some(map), ..Type::default() })
    }

    fn list(&mut self, schema: &'a Value, place: Place) -> TypeRef {
        let items = schema.get("items");
        let inner = Place { keeps_unknown: place.keeps_unknown, depth: place.depth + 1, ..Place::default() };
        let item = match items {
            Some(items) => {
                let embedded = flag(items, "x-kubernetes-embedded-resource");
                self.type_of(items, Place { embedded, ..inner })
            }
            None => self.draft.anything(),
        };
        let stated = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
        let kind = match (place.facts.map(|field| field.list), stated) {
            (Some(ListType::Set), _) | (None, Some("set")) => ListKind::Set,
            (Some(ListType::Map(keys)), _) => self.keyed(keys.iter().copied(), items),
            (None, Some("map")) => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                self.keyed(keys.into_iter().flatten().filter_map(Value::as_str), items)
            }
            _ => ListKind::Atomic,
        };
        self.draft.add(Type { list: Some(List { item, kind }), ..Type::default() })
    }

    fn keyed<'k>(&self, names: impl Iterator<Item = &'k str>, items: Option<&Value>) -> ListKind {
        let (item, built_in) = match items.and_then(reference) {
            Some(name) => (self.definitions.get(name), true),
            None => (items, false),
        };
        let mut keys: Vec<Key> = names
            .map(|name| {
                let default = if built_in { Self::default_of(item, name) } else { item.and_then(|item| custom_default(item, name)) };
                Key { name: name.to_owned(), default }
            })
            .collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        ListKind::Keyed(keys)
    }

    /// Upstream's schemas give every field that is always encoded the default of its Go type.
    fn default_of(item: Option<&Value>, name: &str) -> Option<Value> {
        let property = item?.pointer(&format!("/properties/{name}"))?;
        if let Some(default) = key_default(name) {
            return Some(default.into());
        }
        let always = item?.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|field| field == name));
        match property.get("type").and_then(Value::as_str) {
            Some("string") if always => Some("".into()),
            Some("integer") if always => Some(0.into()),
            _ => None,
        }
    }
}

fn custom_default(item: &Value, name: &str) -> Option<Value> {
    item.get("properties")?.get(name)?.get("default").filter(|default| !default.is_null()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::apply::schema::Form;

    fn at<'a>(schema: &'a Schema, path: &[&str]) -> &'a Type {
        let mut of = schema.get(schema.root());
        for name in path {
            let next = match (*name, &of.list, &of.map) {
                ("[]", Some(list), _) => list.item,
                (_, _, Some(map)) => map.field(name).0.unwrap_or_else(|| panic!("{name} of {path:?}")),
                _ => panic!("{name} of {path:?}"),
            };
            of = schema.get(next);
        }
        of
    }

    fn keys(of: &Type) -> Vec<(&str, Option<&Value>)> {
        match &of.list.as_ref().unwrap().kind {
            ListKind::Keyed(keys) => keys.iter().map(|key| (key.name.as_str(), key.default.as_ref())).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn built_in_types() {
        let schema = built_in(|generator| generator.subschema_for::<k8s_openapi::api::apps::v1::Deployment>());
        let pod = ["spec", "template", "spec"];
        let below = |rest: &[&str]| at(&schema, &[&pod[..], rest].concat());
        let tcp = Value::from("TCP");
        assert_eq!(keys(below(&["containers", "[]", "ports"])), [("containerPort", Some(&0.into())), ("protocol", Some(&tcp))]);
        assert!(at(&schema, &["spec", "selector"]).map.as_ref().unwrap().atomic);
        assert!(below(&["nodeSelector"]).map.as_ref().unwrap().atomic);
        assert!(!below(&["securityContext"]).map.as_ref().unwrap().atomic);
        assert!(matches!(at(&schema, &["metadata", "finalizers"]).list.as_ref().unwrap().kind, ListKind::Set));
        assert!(matches!(below(&["tolerations"]).list.as_ref().unwrap().kind, ListKind::Atomic));
        assert_eq!(at(&schema, &["spec", "replicas"]).scalar, Some(Scalar::Number));
        assert_eq!(below(&["containers", "[]", "resources", "limits", "cpu"]).scalar, Some(Scalar::Any));
        assert!(at(&schema, &["spec"]).map.as_ref().unwrap().field("replica").0.is_none());
    }

    #[test]
    fn types_that_contain_themselves() {
        use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
        let schema = built_in(|generator| generator.subschema_for::<CustomResourceDefinition>());
        let versions = at(&schema, &["spec", "versions", "[]", "schema", "openAPIV3Schema", "properties", "x", "properties", "y", "type"]);
        assert_eq!(versions.scalar, Some(Scalar::Text));
    }

    #[test]
    fn custom_types() {
        let schema: Value = serde_yaml::from_str(
            "
type: object
properties:
  spec:
    type: object
    properties:
      ports:
        type: array
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [port, protocol]
        items:
          type: object
          required: [port]
          properties: {port: {type: integer}, protocol: {type: string, default: TCP}}
      tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
      plain: {type: array, items: {type: string}}
      whole: {type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: string}}
      loose: {type: object, x-kubernetes-preserve-unknown-fields: true}
      either: {x-kubernetes-int-or-string: true}
      template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
",
        )
        .unwrap();
        let schema = custom(&schema);
        assert_eq!(keys(at(&schema, &["spec", "ports"])), [("port", None), ("protocol", Some(&"TCP".into()))]);
        assert!(matches!(at(&schema, &["spec", "tags"]).list.as_ref().unwrap().kind, ListKind::Set));
        assert!(matches!(at(&schema, &["spec", "plain"]).list.as_ref().unwrap().kind, ListKind::Atomic));
        assert!(at(&schema, &["spec", "whole"]).map.as_ref().unwrap().atomic);
        let loose = at(&schema, &["spec", "loose", "x"]);
        assert!(matches!(loose.form(&serde_json::json!({})), Some(Form::Map(map)) if !map.atomic));
        assert_eq!(at(&schema, &["spec", "either"]).scalar, Some(Scalar::Any));
        assert!(at(&schema, &["metadata", "labels"]).map.is_some());
        assert!(at(&schema, &["spec", "template", "metadata", "finalizers"]).list.is_some());
        assert!(at(&schema, &["spec"]).map.as_ref().unwrap().values.is_none());
    }
}
