//! Protobuf documents of the API: `application/vnd.kubernetes.protobuf`, to and from the JSON that the store keeps.
//!
//! Words: a *document* is the magic `k8s\0` and a `runtime.Unknown` message: the `apiVersion` and `kind` of an object, and the object's own
//! message as *raw* bytes. A *message* is what [`schema`] says of one Go type. Nothing is generated: [`encode`] copies JSON into
//! messages in one pass, [`decode`] turns messages into a JSON tree, and both look fields up in the table of messages.
//!
//! Invariants: foreign bytes never make more than they are worth: depth is bounded, lengths are checked against what is there, a wrong
//! wire type is an error, unknown fields are skipped. What is written, upstream's clients read as what the JSON says; fields that JSON
//! leaves out are left out, where upstream writes the zero of a Go value: the two read alike.
//!
//! Never: knows a kind by name (but those that every group has), or does I/O. Custom resources and Tables have no messages.
//!
//! Follows upstream's `apimachinery/pkg/runtime/serializer/protobuf` and the code that gogo-protobuf generates from `generated.proto`.

mod decode;
mod encode;
mod schema;
mod special;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use serde_json::{Map, Value};

use decode::Decoder;
use encode::Writer;
use schema::{Message, Schema, schema};
use wire::{Reader, Wire};

/// The media type of documents.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch: frames of a length and a `WatchEvent`.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const MAGIC: &[u8] = b"k8s\0";
/// The fields of `runtime.Unknown`.
const TYPE_META: u32 = 1;
const RAW: u32 = 2;
/// Its empty `contentEncoding` and `contentType`, which upstream writes too.
const UNKNOWN_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// Why a document can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No bytes.
    #[error("empty data")]
    Empty,
    /// What is wrong with the envelope.
    #[error("{0}")]
    Envelope(Box<Error>),
    /// The magic and nothing else.
    #[error("empty body")]
    EmptyBody,
    /// No magic.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// The table has no such kind.
    #[error("no kind {kind:?} is registered for version {version:?}")]
    UnknownKind {
        /// As the document names it.
        kind: String,
        /// Its `apiVersion`.
        version: String,
    },
    /// The bytes end within a value, or a length is larger than what is left.
    #[error("unexpected EOF")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A tag that no message can have.
    #[error("proto: illegal tag {0}")]
    IllegalTag(u64),
    /// A known field in an unknown shape.
    #[error("proto: wrong wireType for field {0}")]
    WrongWireType(String),
    /// A string that is no UTF-8.
    #[error("proto: field {0} contains invalid UTF-8")]
    NotUtf8(String),
    /// A value that the field's JSON form can't show.
    #[error("proto: field {field}: {why}")]
    Unfit {
        /// The field.
        field: String,
        /// What is wrong with the value.
        why: String,
    },
    /// Too many levels.
    #[error("exceeded max depth")]
    TooDeep,
    /// When writing: the JSON is not of the kind it says.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether this was noticed before the document named its kind: upstream's message is another one then.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Error::Empty | Error::EmptyBody | Error::NoMagic | Error::Envelope(_))
    }
}

/// Whether objects of this kind have a protobuf form.
pub fn knows(api_version: &str, kind: &str) -> bool {
    schema().kind(api_version, kind).is_some()
}

/// A JSON object that names its `apiVersion` and `kind` as a document.
pub fn encode(json: &[u8]) -> Result<Vec<u8>, Error> {
    let (api_version, kind) = encode::type_of(json)?;
    let (schema, message) = find(&api_version, &kind)?;
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(MAGIC);
    let mut writer = Writer { schema, out: &mut out };
    writer.type_meta(&api_version, &kind);
    let raw = writer.begin(RAW);
    writer.object(message, json)?;
    writer.end(raw);
    out.extend_from_slice(UNKNOWN_TAIL);
    Ok(out)
}

/// A list as a document that is written item by item, so that nobody needs all of it at once. A document says its size before its items:
/// they are measured first ([`List::measure`]).
pub struct List {
    schema: &'static Schema,
    type_meta: Vec<u8>,
    meta: Vec<u8>,
    number: u32,
    item: &'static Message,
}

impl List {
    /// The list of a kind (`PodList`) with this JSON metadata.
    pub fn new(api_version: &str, kind: &str, meta: &[u8]) -> Result<List, Error> {
        let (schema, list) = find(api_version, kind)?;
        let (meta_field, items_field) = (list.message_field(schema, "metadata"), list.message_field(schema, "items"));
        let (Some((meta_number, meta_message)), Some((number, item))) = (meta_field, items_field) else {
            return Err(Error::UnknownKind { kind: kind.into(), version: api_version.into() });
        };
        let (mut type_meta, mut out) = (Vec::new(), Vec::new());
        Writer { schema, out: &mut type_meta }.type_meta(api_version, kind);
        let mut writer = Writer { schema, out: &mut out };
        let start = writer.begin(meta_number);
        writer.object(meta_message, meta)?;
        writer.end(start);
        Ok(List { schema, type_meta, meta: out, number, item })
    }

    /// Appends a JSON item.
    pub fn item(&self, json: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer { schema: self.schema, out };
        let start = writer.begin(self.number);
        writer.object(self.item, json)?;
        writer.end(start);
        Ok(())
    }

    /// Bytes that a JSON item will take; `scratch` is room to find out.
    pub fn measure(&self, json: &[u8], scratch: &mut Vec<u8>) -> Result<u64, Error> {
        scratch.clear();
        self.item(json, scratch)?;
        Ok(scratch.len() as u64)
    }

    /// What precedes the items, which take so many bytes.
    pub fn head(&self, items: u64) -> Vec<u8> {
        let mut out = [MAGIC, &self.type_meta].concat();
        let mut writer = Writer { schema: self.schema, out: &mut out };
        writer.tag(RAW, wire::LENGTH_DELIMITED);
        writer.varint(self.meta.len() as u64 + items);
        out.extend_from_slice(&self.meta);
        out
    }

    /// What follows the items.
    pub fn tail(&self) -> &'static [u8] {
        UNKNOWN_TAIL
    }
}

/// One event of a watch, framed; `document` is what [`encode`] made of its object.
pub fn watch_frame(event: &str, document: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(document.len() + event.len() + 16);
    out.extend_from_slice(&[0; 4]);
    let mut writer = Writer { schema: schema(), out: &mut out };
    writer.bytes(1, event.as_bytes());
    let extension = writer.begin(2);
    writer.bytes(1, document);
    writer.end(extension);
    // A frame is an object and a few bytes: objects are far below 4 GiB.
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.into()
}

/// A document as a JSON tree, `apiVersion` and `kind` included; `default` is the `apiVersion` and kind of one that does not say.
pub fn decode(document: &[u8], default: Option<(&str, &str)>) -> Result<Value, Error> {
    decode::Decoder { schema: schema() }.document(document, default, 0)
}

fn find(api_version: &str, kind: &str) -> Result<(&'static Schema, &'static Message), Error> {
    let schema = schema();
    let found = schema.kind(api_version, kind);
    Ok((schema, found.ok_or_else(|| Error::UnknownKind { kind: kind.into(), version: api_version.into() })?))
}

impl Decoder {
    /// A document at a depth of JSON (0 but for one within another).
    fn document(&self, document: &[u8], default: Option<(&str, &str)>, depth: usize) -> Result<Value, Error> {
        let body = match document.strip_prefix(MAGIC) {
            None if document.is_empty() => return Err(Error::Empty),
            None => return Err(Error::NoMagic),
            Some([]) => return Err(Error::EmptyBody),
            Some(body) => body,
        };
        let (mut api_version, mut kind, raw) = unknown(body).map_err(|error| Error::Envelope(Box::new(error)))?;
        if let Some((default_version, default_kind)) = default {
            kind = if kind.is_empty() { default_kind.into() } else { kind };
            api_version = if api_version.is_empty() { default_version.into() } else { api_version };
        }
        let Some(message) = self.schema.kind(&api_version, &kind) else { return Err(Error::UnknownKind { kind, version: api_version }) };
        let mut object = Map::new();
        object.insert("apiVersion".into(), api_version.into());
        object.insert("kind".into(), kind.into());
        self.message(message, raw, depth, &mut object)?;
        Ok(Value::Object(object))
    }
}

/// `apiVersion`, kind and raw bytes of a `runtime.Unknown`.
fn unknown(body: &[u8]) -> Result<(String, String, &[u8]), Error> {
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut fields = Reader::new(body);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (TYPE_META, Wire::Bytes(bytes)) => type_meta(bytes, &mut api_version, &mut kind)?,
            (RAW, Wire::Bytes(bytes)) => raw = bytes,
            (TYPE_META | RAW, _) => return Err(Error::WrongWireType(format!("{number} of Unknown"))),
            _ => {}
        }
    }
    Ok((api_version, kind, raw))
}

fn type_meta(bytes: &[u8], api_version: &mut String, kind: &mut String) -> Result<(), Error> {
    let mut fields = Reader::new(bytes);
    while let Some((number, value)) = fields.next()? {
        let (field, name) = match number {
            1 => (&mut *api_version, "apiVersion"),
            2 => (&mut *kind, "kind"),
            _ => continue,
        };
        let Wire::Bytes(text) = value else { return Err(Error::WrongWireType(name.into())) };
        *field = std::str::from_utf8(text).map_err(|_| Error::NotUtf8(name.into()))?.into();
    }
    Ok(())
}
