//! Types declared by schemas: what a structural schema or a built-in type's schema says of the values it describes.
//!
//! Follows apiserver `pkg/cel/common/schemas.go`, `pkg/cel/types.go`, `pkg/cel/limits.go` and `pkg/cel/escaping.go`.
//! The sizes are worst cases, for the static cost of expressions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::types::Type;

/// The largest request, from which the size of everything unbounded follows.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
const MAX_DURATION: u64 = 32;
const MAX_DATE_TIME: u64 = 32;
const DATE: u64 = 12;
const MIN_DATE_TIME: u64 = 21;
const MIN_DURATION: u64 = 3;
const MIN_STRING: u64 = 2;

/// Schemas nested deeper than this are not exposed further down.
const MAX_DEPTH: usize = 128;

/// A type with fields.
#[derive(Debug, Default)]
pub struct ObjectType {
    /// As messages show it.
    pub name: String,
    /// By the name expressions use, see [`escape`].
    pub fields: BTreeMap<String, DeclType>,
}

/// When two lists are the same (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Same elements in the same order.
    #[default]
    Atomic,
    /// Same elements.
    Set,
    /// Same elements, told apart by the values of these properties.
    Map(Vec<String>),
}

/// What kind of thing a schema describes.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A boolean, number or string.
    Scalar,
    /// `x-kubernetes-int-or-string`, or what no schema describes.
    Dyn,
    /// An array of these.
    List(Arc<DeclType>, ListKind),
    /// `additionalProperties`: any keys with these values.
    Map(Arc<DeclType>),
    /// `properties`.
    Object(Arc<ObjectType>),
}

/// A declared type with the sizes its values may have.
#[derive(Clone, Debug)]
pub struct DeclType {
    /// What it is made of.
    pub shape: Shape,
    /// The type that expressions see.
    pub ty: Type,
    /// Most characters, items or properties.
    pub max_elements: u64,
    /// Fewest bytes when written as JSON.
    pub min_size: u64,
}

/// Finds the schema that a `$ref` names.
pub type Refs<'s> = &'s dyn Fn(&str) -> Option<&'s Json>;

impl DeclType {
    /// Something of any type.
    pub fn dynamic() -> DeclType {
        DeclType { shape: Shape::Dyn, ty: Type::Dyn, max_elements: 0, min_size: 1 }
    }

    fn scalar(ty: Type, max_elements: u64, min_size: u64) -> DeclType {
        DeclType { shape: Shape::Scalar, ty, max_elements, min_size }
    }

    /// A list of `of`.
    pub fn list(of: DeclType, kind: ListKind, max_elements: u64) -> DeclType {
        DeclType { ty: Type::list(of.ty.clone()), shape: Shape::List(Arc::new(of), kind), max_elements, min_size: 2 }
    }

    /// A map from strings to `of`.
    pub fn map(of: DeclType, max_elements: u64) -> DeclType {
        DeclType { ty: Type::map(Type::String, of.ty.clone()), shape: Shape::Map(Arc::new(of)), max_elements, min_size: 2 }
    }

    /// An object with these fields.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, DeclType)>) -> DeclType {
        let object = Arc::new(ObjectType { name: name.into(), fields: fields.into_iter().collect() });
        DeclType { ty: Type::Object(object.clone()), shape: Shape::Object(object), max_elements: 0, min_size: 2 }
    }

    /// A type of simple values, by its CEL name's type; sizes unbounded.
    pub fn simple(ty: Type) -> DeclType {
        let max = if matches!(ty, Type::String | Type::Bytes) { MAX_REQUEST - 2 } else { 0 };
        DeclType::scalar(ty, max, 1)
    }

    /// The type that `schema` describes, or `None` if expressions can't see its values. Messages name it `name`; `root` says that it
    /// is a whole resource, whose `apiVersion`, `kind`, `metadata.name` and `metadata.generateName` are always visible.
    pub fn from_schema(name: &str, schema: &Json, root: bool) -> Option<DeclType> {
        DeclType::from_schema_with(name, schema, root, &|_| None)
    }

    /// As [`DeclType::from_schema`], for schemas with `$ref`s. A type that contains itself is dynamic where it does.
    pub fn from_schema_with<'s>(name: &str, schema: &'s Json, root: bool, refs: Refs<'s>) -> Option<DeclType> {
        Builder { refs, open: Vec::new(), depth: 0 }.build(name, schema, root)
    }

    /// What a path of [`super::cost`] leads to.
    pub(super) fn walk<'d>(&'d self, path: impl Iterator<Item = &'d str>) -> Option<Walked<'d>> {
        let mut at = Walked::Type(self);
        for step in path {
            let Walked::Type(decl) = at else { return None };
            at = match (step, &decl.shape) {
                ("@items", Shape::List(of, _)) | ("@values", Shape::Map(of)) => Walked::Type(of),
                ("@keys", Shape::Map(_)) => Walked::Key,
                ("@items" | "@values" | "@keys" | "@indices", _) => return None,
                (field, Shape::Object(object)) => Walked::Type(object.fields.get(field)?),
                _ => return None,
            };
        }
        Some(at)
    }
}

/// See [`DeclType::walk`].
pub(super) enum Walked<'d> {
    /// A declared type.
    Type(&'d DeclType),
    /// A key of a map, of which nothing is said.
    Key,
}

struct Builder<'s> {
    refs: Refs<'s>,
    /// References being resolved.
    open: Vec<String>,
    depth: usize,
}

impl<'s> Builder<'s> {
    fn build(&mut self, name: &str, schema: &'s Json, root: bool) -> Option<DeclType> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let built = match reference(schema) {
            Some(target) => self.follow(name, target, root),
            None => self.described(name, schema, root),
        };
        self.depth -= 1;
        built
    }

    fn follow(&mut self, name: &str, target: &str, root: bool) -> Option<DeclType> {
        if self.open.iter().any(|open| open == target) {
            return Some(DeclType::dynamic());
        }
        let schema = (self.refs)(target)?;
        self.open.push(target.into());
        let built = self.build(name, schema, root);
        self.open.pop();
        built
    }

    fn described(&mut self, name: &str, schema: &'s Json, root: bool) -> Option<DeclType> {
        let number = |key: &str| schema.get(key).and_then(Json::as_i64).map(|value| value.max(0) as u64);
        if is_set(schema, "x-kubernetes-int-or-string") || text(schema, "format") == "int-or-string" {
            let max_elements = number("maxLength").map_or(MAX_REQUEST - 2, |max| max.saturating_mul(4));
            return Some(DeclType { max_elements, ..DeclType::dynamic() });
        }
        match if root { "object" } else { text(schema, "type") } {
            "array" => {
                let items = schema.get("items")?;
                let of = self.build(&format!("{name}.@idx"), items, is_set(items, "x-kubernetes-embedded-resource"))?;
                let max = number("maxItems").unwrap_or((MAX_REQUEST - 2) / (of.min_size + 1));
                Some(DeclType::list(of, list_kind(schema), max))
            }
            "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) if !root => {
                    let of = self.build(&format!("{name}.@elem"), values, is_set(values, "x-kubernetes-embedded-resource"))?;
                    let max = number("maxProperties").unwrap_or((MAX_REQUEST - 2) / (of.min_size + 6));
                    Some(DeclType::map(of, max))
                }
                _ => Some(self.object(name, schema, root)),
            },
            "string" => Some(string(schema, number("maxLength"))),
            "boolean" => Some(DeclType::scalar(Type::Bool, 0, 4)),
            "number" => Some(DeclType::scalar(Type::Double, 0, 1)),
            "integer" => Some(DeclType::scalar(Type::Int, 0, 1)),
            _ => None,
        }
    }

    fn object(&mut self, name: &str, schema: &'s Json, root: bool) -> DeclType {
        let properties = schema.get("properties").and_then(Json::as_object);
        let required = |name: &str| {
            schema.get("required").and_then(Json::as_array).is_some_and(|all| all.iter().any(|required| required.as_str() == Some(name)))
        };
        let mut fields = BTreeMap::new();
        let mut min_size = 2;
        for (property, schema) in properties.into_iter().flatten() {
            let embedded = is_set(schema, "x-kubernetes-embedded-resource");
            let Some(field) = self.build(&format!("{name}.{property}"), schema, embedded) else { continue };
            if required(property) && schema.get("default").is_none() {
                min_size += property.len() as u64 + field.min_size + 4;
            }
            if let Some(escaped) = escape(property) {
                fields.insert(escaped, field);
            }
        }
        if root {
            let text = || DeclType::scalar(Type::String, MAX_REQUEST - 2, MIN_STRING);
            for always in ["apiVersion", "kind"] {
                fields.entry(always.into()).or_insert_with(text);
            }
            let names = ["name", "generateName"];
            let named =
                |field: &DeclType| matches!(&field.shape, Shape::Object(object) if names.iter().all(|n| object.fields.contains_key(*n)));
            if !fields.get("metadata").is_some_and(named) {
                let metadata = DeclType::object(&format!("{name}.metadata"), names.map(|name| (name.into(), text())));
                fields.insert("metadata".into(), metadata);
            }
        }
        DeclType { min_size, ..DeclType::object(name, fields) }
    }
}

/// The target of a `$ref`, which may be wrapped in `allOf` to keep its description.
fn reference(schema: &Json) -> Option<&str> {
    let direct = |schema: &'_ Json| schema.get("$ref").and_then(Json::as_str).is_some();
    if direct(schema) {
        return schema.get("$ref").and_then(Json::as_str);
    }
    match schema.get("allOf").and_then(Json::as_array).map(Vec::as_slice) {
        Some([one]) if schema.get("type").is_none() => one.get("$ref").and_then(Json::as_str),
        _ => None,
    }
}

fn is_set(schema: &Json, key: &str) -> bool {
    schema.get(key).and_then(Json::as_bool) == Some(true)
}

fn text<'s>(schema: &'s Json, key: &str) -> &'s str {
    schema.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn list_kind(schema: &Json) -> ListKind {
    match text(schema, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
            ListKind::Map(keys.into_iter().flatten().filter_map(Json::as_str).map(String::from).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn string(schema: &Json, max_length: Option<u64>) -> DeclType {
    match text(schema, "format") {
        "byte" => DeclType::scalar(Type::Bytes, max_length.unwrap_or(MAX_REQUEST - 2), MIN_STRING),
        "duration" => DeclType::scalar(Type::Duration, MAX_DURATION, MIN_DURATION),
        "date" => DeclType::scalar(Type::Timestamp, DATE, DATE),
        "date-time" => DeclType::scalar(Type::Timestamp, MAX_DATE_TIME, MIN_DATE_TIME),
        _ => {
            // Lengths are in code points, of which each may take four bytes.
            let longest = || schema.get("enum").and_then(Json::as_array)?.iter().filter_map(|v| v.as_str().map(str::len)).max();
            let max = match max_length {
                Some(max) => max.saturating_mul(4),
                None => longest().map_or(MAX_REQUEST - 2, |longest| longest as u64),
            };
            DeclType::scalar(Type::String, max, MIN_STRING)
        }
    }
}

/// Words of the language, which as property names are written `__word__`.
const KEYWORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What stands for characters that names may not have.
const ESCAPES: &[(&str, &str)] = &[("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name by which expressions know a property, or `None` if they can't.
pub fn escape(property: &str) -> Option<String> {
    if KEYWORDS.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let first = property.chars().next()?;
    if first.is_ascii_digit() || !property.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c)) {
        return None;
    }
    let mut out = String::with_capacity(property.len());
    let mut rest = property;
    'next: while let Some(c) = rest.chars().next() {
        for (plain, escaped) in ESCAPES {
            if let Some(after) = rest.strip_prefix(plain) {
                out.push_str(escaped);
                rest = after;
                continue 'next;
            }
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(out)
}

/// The property that a name of an expression means; names without escapes are returned as they are.
pub fn unescape(name: &str) -> std::borrow::Cow<'_, str> {
    if !name.contains("__") {
        return name.into();
    }
    if let Some(word) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && KEYWORDS.contains(&word)
    {
        return word.into();
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    'next: while let Some(c) = rest.chars().next() {
        for (plain, escaped) in ESCAPES {
            if let Some(after) = rest.strip_prefix(escaped) {
                out.push_str(plain);
                rest = after;
                continue 'next;
            }
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_escaped_and_back() {
        for (property, name) in [
            ("a", Some("a")),
            ("namespace", Some("__namespace__")),
            ("x-kubernetes", Some("x__dash__kubernetes")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("a__b", Some("a__underscores__b")),
            ("a___b", Some("a__underscores___b")),
            ("_a", Some("_a")),
            ("1a", None),
            ("a b", None),
            ("", None),
            ("ä", None),
        ] {
            assert_eq!(escape(property).as_deref(), name, "{property}");
            if let Some(name) = name {
                assert_eq!(unescape(name), property, "{name}");
            }
        }
    }

    #[test]
    fn schemas_become_types_with_sizes() {
        let max = MAX_REQUEST - 2;
        for (schema, ty, max_elements) in [
            (json!({"type": "string"}), "string", max),
            (json!({"type": "string", "maxLength": 5}), "string", 20),
            (json!({"type": "string", "enum": ["a", "abc"]}), "string", 3),
            (json!({"type": "string", "format": "date-time"}), "timestamp", 32),
            (json!({"type": "string", "format": "byte", "maxLength": 5}), "bytes", 5),
            (json!({"x-kubernetes-int-or-string": true}), "dyn", max),
            (json!({"type": "array", "items": {"type": "integer"}}), "list(int)", max / 2),
            (json!({"type": "array", "maxItems": 4, "items": {"type": "number"}}), "list(double)", 4),
            (json!({"type": "object", "additionalProperties": {"type": "boolean"}}), "map(string, bool)", max / 10),
            (json!({"type": "object", "properties": {"a": {"type": "string"}}}), "self", 0),
        ] {
            let decl = DeclType::from_schema("self", &schema, false).unwrap();
            assert_eq!((decl.ty.to_string().as_str(), decl.max_elements), (ty, max_elements), "{schema}");
        }
        for hidden in [json!({}), json!({"type": "array"}), json!({"x-kubernetes-preserve-unknown-fields": true})] {
            assert!(DeclType::from_schema("self", &hidden, false).is_none(), "{hidden}");
        }
        let itself = json!({"type": "object", "properties": {"again": {"$ref": "#x"}}});
        let decl = DeclType::from_schema_with("self", &json!({"$ref": "#x"}), true, &|_| None);
        assert!(decl.is_none());
        let start = json!({"$ref": "#x"});
        let decl = DeclType::from_schema_with("self", &start, true, &|_| Some(&itself)).unwrap();
        let Shape::Object(object) = &decl.shape else { panic!("{decl:?}") };
        assert!(object.fields["again"].ty.is_dyn());
        assert!(object.fields.contains_key("kind") && object.fields.contains_key("metadata"));
    }
}
