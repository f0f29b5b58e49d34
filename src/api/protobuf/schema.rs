//! The table of messages, read once from `messages.txt`, whose head says how it is written.
//!
//! Invariant: the text is part of the executable and read by a test, so that reading it can't fail in the field.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("messages.txt");
/// The package of what all groups share.
const META: &str = "meta.v1";
/// Kinds of [`META`] that clients send under the version of any group, as upstream's `meta/v1` `AddToGroupVersion` registers them.
const EVERYWHERE: &[&str] = &["DeleteOptions", "WatchEvent"];

/// Of which type a field, or an element of it, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    Json,
    Strings,
    SchemaOrBool,
    SchemaOrSchemas,
    SchemaOrStrings,
    Message(usize),
}

/// How often a field may be there, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    One,
    List,
    Map,
    /// A message whose fields are the parent's, in JSON.
    Inline,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub number: u32,
    /// In JSON.
    pub name: &'static str,
    pub ty: Type,
    pub many: Many,
    /// Whether zero is a value like any other.
    pub pointer: bool,
    /// Whether no published .proto confirms the number.
    #[cfg_attr(not(test), allow(dead_code))]
    pub unconfirmed: bool,
}

/// A field as JSON shows it: `outer` are the numbers of the messages it is inlined from, outermost first.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub field: Field,
    pub outer: Box<[u32]>,
}

#[derive(Debug)]
pub(super) struct Message {
    #[cfg_attr(not(test), allow(dead_code))]
    pub package: &'static str,
    pub name: &'static str,
    /// By number.
    fields: Vec<Field>,
    /// By name, inlined ones included.
    shown: Vec<Shown>,
}

impl Message {
    /// The field with this number.
    pub fn field(&self, number: u32) -> Option<&Field> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok().map(|index| &self.fields[index])
    }

    /// The field of this name in JSON.
    pub fn shown(&self, name: &str) -> Option<&Shown> {
        self.shown.binary_search_by(|shown| shown.field.name.cmp(name)).ok().map(|index| &self.shown[index])
    }

    /// Number and message of a field that is one, or a list of such.
    pub fn message_field<'a>(&self, schema: &'a Schema, name: &str) -> Option<(u32, &'a Message)> {
        let field = &self.shown(name)?.field;
        let Type::Message(index) = field.ty else { return None };
        Some((field.number, &schema.messages[index]))
    }

    #[cfg(test)]
    pub fn all_fields(&self) -> &[Field] {
        &self.fields
    }
}

/// All messages.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub messages: Vec<Message>,
    /// By package (its last two parts) and name.
    by_name: HashMap<(&'static str, &'static str), usize>,
    /// The package of an `apiVersion`.
    packages: HashMap<&'static str, &'static str>,
    /// `JSONSchemaProps`, which the unions of JSON schemas hold.
    pub json_schema: usize,
}

/// The table.
pub(super) fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::read(TEXT).expect("a test reads the very same text"));
    &SCHEMA
}

impl Schema {
    /// The message of a kind.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let package = self.packages.get(api_version);
        let own = package.and_then(|package| self.by_name.get(&(*package, kind)));
        let shared =
            || if ["v1", ""].contains(&api_version) || EVERYWHERE.contains(&kind) { self.by_name.get(&(META, kind)) } else { None };
        own.or_else(shared).map(|index| &self.messages[*index])
    }

    fn read(text: &'static str) -> Result<Schema, String> {
        let mut schema = Schema::default();
        let lines = || text.lines().filter(|line| !line.starts_with('#'));
        let mut package = "";
        // Names first: messages refer to each other in both directions.
        for line in lines() {
            if let Some(head) = line.strip_prefix("@ ") {
                let (name, api_version) = head.split_once(' ').ok_or_else(|| format!("{line}: no version"))?;
                package = short(name);
                schema.packages.insert(api_version, package);
            } else if !line.starts_with(' ') {
                schema.by_name.insert((package, line), schema.messages.len());
                schema.messages.push(Message { package, name: line, fields: Vec::new(), shown: Vec::new() });
            }
        }
        schema.json_schema = schema.named("apiextensions.v1", "JSONSchemaProps")?;
        let mut current = None;
        for line in lines().filter(|line| !line.starts_with('@')) {
            match line.strip_prefix(' ') {
                None => current = Some(current.map_or(0, |index: usize| index + 1)),
                Some(field) => {
                    let index = current.ok_or_else(|| format!("{line}: a field before any message"))?;
                    let field = schema.field(schema.messages[index].package, field)?;
                    schema.messages[index].fields.push(field);
                }
            }
        }
        for index in 0..schema.messages.len() {
            schema.messages[index].fields.sort_by_key(|field| field.number);
            let mut shown = schema.flatten(index, &[], 0)?;
            shown.sort_by_key(|shown| shown.field.name);
            schema.messages[index].shown = shown;
        }
        Ok(schema)
    }

    fn named(&self, package: &str, name: &str) -> Result<usize, String> {
        self.by_name.get(&(package, name)).copied().ok_or_else(|| format!("{package}.{name} is no message"))
    }

    fn field(&self, package: &str, line: &'static str) -> Result<Field, String> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or_else(|| format!("{line}: number, name and type are wanted"));
        let number = word()?.parse().map_err(|e| format!("{line}: {e}"))?;
        let (name, ty) = (word()?, word()?);
        let (many, ty) = match (ty.strip_prefix("[]"), ty.strip_prefix("{}"), ty.strip_prefix('^')) {
            (Some(ty), ..) => (Many::List, ty),
            (_, Some(ty), _) => (Many::Map, ty),
            (.., Some(ty)) => (Many::Inline, ty),
            _ => (Many::One, ty),
        };
        let pointer = ty.ends_with('?');
        let ty = match ty.trim_end_matches('?') {
            "string" => Type::String,
            "bool" => Type::Bool,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "time" => Type::Time,
            "microtime" => Type::MicroTime,
            "duration" => Type::Duration,
            "quantity" => Type::Quantity,
            "intorstring" => Type::IntOrString,
            "json" => Type::Json,
            "strings" => Type::Strings,
            "schema|bool" => Type::SchemaOrBool,
            "schema|schemas" => Type::SchemaOrSchemas,
            "schema|strings" => Type::SchemaOrStrings,
            name => match name.rsplit_once('.') {
                Some((package, name)) => Type::Message(self.named(package, name)?),
                None => Type::Message(self.named(package, name)?),
            },
        };
        Ok(Field { number, name, ty, many, pointer, unconfirmed: words.next() == Some("!") })
    }

    /// The fields of a message as JSON shows them.
    fn flatten(&self, index: usize, outer: &[u32], depth: usize) -> Result<Vec<Shown>, String> {
        if depth > 4 {
            return Err(format!("{} is inlined into itself", self.messages[index].name));
        }
        let mut shown = Vec::new();
        for field in &self.messages[index].fields {
            match (field.many, field.ty) {
                (Many::Inline, Type::Message(inner)) => {
                    let path: Vec<u32> = outer.iter().copied().chain([field.number]).collect();
                    shown.extend(self.flatten(inner, &path, depth + 1)?);
                }
                _ => shown.push(Shown { field: *field, outer: outer.into() }),
            }
        }
        Ok(shown)
    }
}

/// The last two parts of a package's name.
fn short(package: &'static str) -> &'static str {
    package.rmatch_indices('.').nth(1).map_or(package, |(index, _)| &package[index + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_can_be_read() {
        let schema = Schema::read(TEXT).unwrap();
        assert!(schema.messages.len() > 600, "{}", schema.messages.len());
        for message in &schema.messages {
            assert!(message.fields.windows(2).all(|two| two[0].number != two[1].number), "a number twice in {message:?}");
            assert!(message.shown.windows(2).all(|two| two[0].field.name != two[1].field.name), "a name twice in {message:?}");
        }
    }

    #[test]
    fn kinds_are_found_under_their_version() {
        let schema = schema();
        for (api_version, kind, want) in [
            ("v1", "Pod", Some("core.v1")),
            ("v1", "PodList", Some("core.v1")),
            ("apps/v1", "Deployment", Some("apps.v1")),
            ("apps/v1", "Pod", None),
            ("v1", "Status", Some("meta.v1")),
            ("meta.k8s.io/v1", "PartialObjectMetadataList", Some("meta.v1")),
            ("policy/v1", "DeleteOptions", Some("meta.v1")),
            ("example.com/v1", "Status", None),
            ("example.com/v1", "Pod", None),
            ("autoscaling/v1", "Scale", Some("autoscaling.v1")),
        ] {
            assert_eq!(schema.kind(api_version, kind).map(|message| message.package), want, "{api_version} {kind}");
        }
    }

    #[test]
    fn inlined_fields_know_their_way() {
        let message = schema().kind("admissionregistration.k8s.io/v1", "NamedRuleWithOperations").unwrap();
        let outer = |name: &str| message.shown(name).map(|shown| shown.outer.to_vec());
        assert_eq!(outer("resourceNames"), Some(vec![]));
        assert_eq!(outer("operations"), Some(vec![2]));
        assert_eq!(outer("apiGroups"), Some(vec![2, 2]));
    }
}
