//! Request bodies into objects.
//!
//! A body is first read into a tree, by a visitor (JSON) or by [`yaml`], which notice duplicate keys (the last one wins, as in Go), or by
//! [`protobuf`], then the tree into the type, noticing unknown fields. Depth is bounded by all parsers (128 levels), size by
//! the HTTP layer. What upstream does in `apimachinery/pkg/runtime/serializer` and answers in `apiserver/pkg/endpoints/handlers/create.go`.
//!
//! Never: looks at what a field means.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::kind::Fault;
use super::{Body, FieldValidation, Format, KindDef, Registry};
use crate::api::{Object, Status, protobuf, yaml};

/// Reports stop after this many unknown or duplicate fields, so that a hostile body can't make a large answer.
const MAX_REPORTED: usize = 100;
/// Bytes of an unreadable body that its refusal shows, as upstream.
const SHOWN: usize = 30;

/// A decoded body with the warnings to send along.
pub(super) type Decoded = (Box<dyn Object>, Vec<String>);

impl Registry {
    /// Decodes and defaults a body as `create` does, for kinds whose objects are answered and not stored (reviews and the like).
    pub fn decode(&self, kind: &KindDef, body: &Body, validation: FieldValidation) -> Result<(Box<dyn Object>, Vec<String>), Status> {
        object(kind, body, validation)
    }
}

/// Body to object, defaults applied.
pub(super) fn object(kind: &KindDef, body: &Body, validation: FieldValidation) -> Result<Decoded, Status> {
    let mut duplicates = Duplicates::default();
    let tree = match body.format {
        Format::Protobuf => message(&kind.api_version(), kind.kind(), &body.bytes)?,
        _ => tree(body, &mut duplicates).map_err(|why| Status::bad_request(unreadable(kind, &why)))?,
    };
    typed(kind, tree, duplicates, validation)
}

/// Keys that a body had twice in one map.
#[derive(Default)]
pub(super) struct Duplicates {
    found: Vec<String>,
    /// Whether it is YAML, whose reader tells of all in one error.
    yaml: bool,
}

impl Duplicates {
    /// As warnings, one each.
    pub fn warnings(&self) -> &[String] {
        &self.found
    }

    /// As the errors of strict decoding.
    pub fn errors(&self) -> Option<String> {
        match (self.found.is_empty(), self.yaml) {
            (true, _) => None,
            (false, false) => Some(self.found.join(", ")),
            (false, true) => Some(format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {}", self.found.join("\n  "))),
        }
    }
}

/// Tree to object, defaults applied; `duplicates` were found while the tree was read.
pub(super) fn typed(kind: &KindDef, tree: Value, duplicates: Duplicates, validation: FieldValidation) -> Result<Decoded, Status> {
    check_type(kind, &tree)?;
    let before_zero = names_year_before_zero(&tree);
    let mut unknown = Vec::new();
    let decoded = kind.decode(tree, &mut |path| {
        if duplicates.found.len() + unknown.len() < MAX_REPORTED {
            unknown.push(format!("unknown field \"{path}\""));
        }
    });
    let mut object = decoded.map_err(|fault| wrong_type(kind, &fault))?;
    if before_zero {
        kind.decode(object.to_value(), &mut |_| {}).map_err(|fault| wrong_type(kind, &fault))?;
    }
    let problems = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => [duplicates.found, unknown].concat(),
        FieldValidation::Strict => {
            let problems: Vec<String> = duplicates.errors().into_iter().chain(unknown).collect();
            if !problems.is_empty() {
                return Err(Status::bad_request(unreadable(kind, &format_args!("strict decoding error: {}", problems.join(", ")))));
            }
            problems
        }
    };
    kind.apply_defaults(object.as_mut());
    Ok((object, problems))
}

/// Reads a protobuf document into a tree; the kind is that of a document that names none.
pub fn message(api_version: &str, kind: &str, bytes: &[u8]) -> Result<Value, Status> {
    protobuf::decode(bytes, Some((api_version, kind))).map_err(|error| {
        if error.is_anonymous() {
            let start = &bytes[..bytes.len().min(SHOWN)];
            let dots = if bytes.len() > SHOWN { " ..." } else { "" };
            let shown = match bytes.first() {
                None => "<empty>".to_owned(),
                Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(start)),
                Some(_) => format!("{}{dots}", start.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            };
            return Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {error} ({shown})"));
        }
        let (named, version) = match &error {
            protobuf::Error::UnknownKind { kind, version } => (kind.as_str(), version.as_str()),
            _ => (kind, api_version),
        };
        let version = version.rsplit('/').next().unwrap_or_default();
        Status::bad_request(format!("{named} in version \"{version}\" cannot be handled as a {kind}: {error}"))
    })
}

/// Reads JSON or YAML into a tree; `duplicates` hears of repeated keys.
pub(super) fn tree(body: &Body, duplicates: &mut Duplicates) -> Result<Value, String> {
    if body.format == Format::Yaml {
        duplicates.yaml = true;
        return yaml::read(&body.bytes, &mut duplicates.found).map_err(|error| format!("error converting YAML to JSON: {error}"));
    }
    let found = RefCell::new(std::mem::take(&mut duplicates.found));
    let seed = Tree { path: &Path::Root, duplicates: &found };
    let mut parser = serde_json::Deserializer::from_slice(&body.bytes);
    let tree = seed.deserialize(&mut parser).and_then(|tree| parser.end().map(|()| tree)).map_err(|error| error.to_string());
    duplicates.found = found.into_inner();
    tree
}

fn unreadable(kind: &KindDef, why: &dyn fmt::Display) -> String {
    format!("{} in version \"{}\" cannot be handled as a {}: {why}", kind.kind(), kind.version(), kind.kind())
}

/// `apiVersion` and `kind`, where given, must be those of the URL.
fn check_type(kind: &KindDef, tree: &Value) -> Result<(), Status> {
    if !tree.is_object() {
        return Err(Status::bad_request(unreadable(kind, &format_args!("the body is {}, not an object", shape(tree)))));
    }
    let expected = kind.api_version();
    if let Some(given) = tree.get("apiVersion").and_then(Value::as_str)
        && given != expected
    {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({expected})"
        )));
    }
    if let Some(given) = tree.get("kind").and_then(Value::as_str)
        && given != kind.kind()
    {
        return Err(Status::bad_request(format!(
            "{given} in version \"{}\" cannot be handled as a {}: objects of this path are of kind {}",
            kind.version(),
            kind.kind(),
            kind.kind()
        )));
    }
    Ok(())
}

/// Whether a text looks like a time before the year zero. Times are read with such years but have no form to be written in (Go's
/// parser refuses them), so that an object with one could not be read again. Whether it stands where a time is meant, only the type knows.
fn names_year_before_zero(tree: &Value) -> bool {
    match tree {
        Value::String(text) => text.starts_with("-0") && text.len() >= "-000001-01-01".len(),
        Value::Array(items) => items.iter().any(names_year_before_zero),
        Value::Object(map) => map.values().any(names_year_before_zero),
        _ => false,
    }
}

/// 400 for a field of the wrong type, naming the field.
fn wrong_type(kind: &KindDef, fault: &Fault) -> Status {
    let place = if fault.path.is_empty() || fault.path == "." { String::new() } else { format!("{}: ", fault.path) };
    Status::bad_request(unreadable(kind, &format_args!("json: cannot unmarshal into field {place}{}", fault.error)))
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn join(parent: String, key: &str) -> String {
    if parent.is_empty() { key.into() } else { format!("{parent}.{key}") }
}

/// Where the tree builder is; lives on the stack, rendered only for a report.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn render(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Key(parent, key) => join(parent.render(), key),
            Path::Index(parent, index) => format!("{}[{index}]", parent.render()),
        }
    }
}

/// Builds a [`Value`] as serde_json does, but hears of duplicate keys.
#[derive(Clone, Copy)]
struct Tree<'a> {
    path: &'a Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(format_args!("{}: not a finite number", self.path.render())))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Tree { path: &Path::Index(self.path, items.len()), ..self })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            if map.contains_key(&key) && self.duplicates.borrow().len() < MAX_REPORTED {
                self.duplicates.borrow_mut().push(format!("duplicate field \"{}\"", path.render()));
            }
            let value = entries.next_value_seed(Tree { path: &path, ..self })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
