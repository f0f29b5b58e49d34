//! JSON into messages, in one pass: serde_json's parser drives, what it meets is appended at once, lengths are put in afterwards.
//!
//! Order and repetition are as in the JSON; keys that the table does not know, and nulls, are passed over.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::schema::{Many, Message, Schema, Shown, Type};
use super::{Error, special, wire};

/// Appends fields.
pub(super) struct Writer<'a> {
    pub schema: &'static Schema,
    pub out: &'a mut Vec<u8>,
}

/// Where the length of a message goes.
#[derive(Clone, Copy)]
pub(super) struct Start(usize);

impl Writer<'_> {
    pub fn varint(&mut self, value: u64) {
        wire::put_varint(self.out, value);
    }

    pub fn tag(&mut self, number: u32, kind: u32) {
        self.varint(u64::from(number << 3 | kind));
    }

    fn number(&mut self, number: u32, value: u64) {
        self.tag(number, wire::VARINT);
        self.varint(value);
    }

    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, wire::LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// Starts a message.
    pub fn begin(&mut self, number: u32) -> Start {
        self.tag(number, wire::LENGTH_DELIMITED);
        // Most messages are short: one byte is kept for the length.
        self.out.push(0);
        Start(self.out.len())
    }

    /// Ends a message.
    pub fn end(&mut self, Start(start): Start) {
        let length = self.out.len() - start;
        if length < 0x80 {
            self.out[start - 1] = length as u8;
            return;
        }
        let extra = wire::varint_length(length as u64) - 1;
        self.out.resize(start + length + extra, 0);
        self.out.copy_within(start..start + length, start + extra);
        let mut at = start - 1;
        let mut left = length;
        while left >= 0x80 {
            self.out[at] = (left & 0x7f) as u8 | 0x80;
            left >>= 7;
            at += 1;
        }
        self.out[at] = left as u8;
    }

    /// The `typeMeta` of a document.
    pub fn type_meta(&mut self, api_version: &str, kind: &str) {
        let start = self.begin(super::TYPE_META);
        self.bytes(1, api_version.as_bytes());
        self.bytes(2, kind.as_bytes());
        self.end(start);
    }

    /// The fields of a JSON object, without a tag.
    pub fn object(&mut self, message: &'static Message, json: &[u8]) -> Result<(), Error> {
        let mut parser = serde_json::Deserializer::from_slice(json);
        parser.deserialize_map(Fields { message, writer: self })?;
        Ok(parser.end()?)
    }
}

/// `apiVersion` and `kind` of a JSON object.
pub(super) fn type_of(json: &[u8]) -> Result<(String, String), Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TypeMeta {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
    }
    // Our own objects begin with the two; then the rest need not be read.
    let mut found = (None, None);
    let mut parser = serde_json::Deserializer::from_slice(json);
    let _ = parser.deserialize_map(First(&mut found));
    if let (Some(api_version), Some(kind)) = found {
        return Ok((api_version, kind));
    }
    let meta: TypeMeta = serde_json::from_slice(json)?;
    Ok((meta.api_version, meta.kind))
}

/// Reads the first two keys, if they are `apiVersion` and `kind`, and then gives up.
struct First<'a>(&'a mut (Option<String>, Option<String>));

impl<'de> Visitor<'de> for First<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for _ in 0..2 {
            match map.next_key::<Cow<'de, str>>()?.as_deref() {
                Some("apiVersion") => self.0.0 = Some(map.next_value()?),
                Some("kind") => self.0.1 = Some(map.next_value()?),
                _ => break,
            }
        }
        Err(A::Error::custom("the rest is not needed"))
    }
}

/// The fields of a message.
struct Fields<'a, 'w> {
    message: &'static Message,
    writer: &'a mut Writer<'w>,
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fields of a {}", self.message.name)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut aside = Aside::default();
        while let Some(shown) = map.next_key_seed(Key(self.message))? {
            let Some(shown) = shown else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let start = self.writer.out.len();
            let field = shown.field;
            map.next_value_seed(Put { number: field.number, ty: field.ty, many: field.many, writer: self.writer })?;
            if !shown.outer.is_empty() {
                aside.take(&shown.outer, self.writer.out, start);
            }
        }
        aside.put(0, self.writer);
        Ok(())
    }
}

/// Inlined fields, collected by the messages they belong to: each such message is written once, as upstream does.
#[derive(Default)]
struct Aside(Vec<(&'static [u32], Vec<u8>)>);

impl Aside {
    /// Moves what was written since `start`.
    fn take(&mut self, outer: &'static [u32], out: &mut Vec<u8>, start: usize) {
        match self.0.iter_mut().find(|(path, _)| *path == outer) {
            Some((_, bytes)) => bytes.extend_from_slice(&out[start..]),
            None => self.0.push((outer, out[start..].to_vec())),
        }
        out.truncate(start);
    }

    /// Writes all of it; the messages of the first `depth` numbers are open.
    fn put(mut self, depth: usize, writer: &mut Writer<'_>) {
        for (_, bytes) in self.0.extract_if(.., |(path, _)| path.len() == depth) {
            writer.out.extend_from_slice(&bytes);
        }
        while let Some(number) = self.0.first().and_then(|(path, _)| path.get(depth).copied()) {
            let same = Aside(self.0.extract_if(.., |(path, _)| path.get(depth) == Some(&number)).collect());
            let start = writer.begin(number);
            same.put(depth + 1, writer);
            writer.end(start);
        }
    }
}

/// A key, looked up.
struct Key(&'static Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Shown>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static Shown>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.shown(key))
    }
}

/// One value, or the values of a list or map, under a number.
struct Put<'a, 'w> {
    number: u32,
    ty: Type,
    many: Many,
    writer: &'a mut Writer<'w>,
}

impl<'de> DeserializeSeed<'de> for Put<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.many == Many::One && self.ty == Type::Json {
            let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?.get();
            if raw != "null" {
                let start = self.writer.begin(self.number);
                self.writer.bytes(1, raw.as_bytes());
                self.writer.end(start);
            }
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl Put<'_, '_> {
    /// A message with what `fill` writes in it.
    fn message(self, fill: impl FnOnce(&mut Writer<'_>)) {
        let start = self.writer.begin(self.number);
        fill(self.writer);
        self.writer.end(start);
    }

    fn unfit<E: serde::de::Error>(&self, what: fmt::Arguments<'_>) -> E {
        E::custom(format_args!("{what} is no value of type {:?}", self.ty))
    }

    fn integer<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match (self.many, self.ty) {
            (Many::One, Type::Int64) => self.writer.number(self.number, value as u64),
            (Many::One, Type::Int32) if i32::try_from(value).is_ok() => self.writer.number(self.number, value as u64),
            (Many::One, Type::IntOrString) if i32::try_from(value).is_ok() => self.message(|writer| {
                writer.number(1, 0);
                writer.number(2, value as u64);
                writer.bytes(3, b"");
            }),
            (Many::One, Type::Double) => return self.double(value as f64),
            (Many::One, Type::Quantity) => self.message(|writer| writer.bytes(1, value.to_string().as_bytes())),
            _ => return Err(self.unfit(format_args!("{value}"))),
        }
        Ok(())
    }

    fn double<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if self.many != Many::One || self.ty != Type::Double {
            return Err(self.unfit(format_args!("{value}")));
        }
        self.writer.tag(self.number, wire::FIXED64);
        self.writer.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let bad = |put: &Put<'_, '_>| Err(put.unfit(format_args!("{text:?}")));
        if self.many != Many::One {
            return bad(&self);
        }
        match self.ty {
            Type::String => self.writer.bytes(self.number, text.as_bytes()),
            Type::Bytes => match STANDARD.decode(text) {
                Ok(bytes) => self.writer.bytes(self.number, &bytes),
                Err(_) => return bad(&self),
            },
            Type::Time | Type::MicroTime => {
                let Some((seconds, nanos)) = special::time(text) else { return bad(&self) };
                let nanos = if self.ty == Type::Time { 0 } else { nanos / 1000 * 1000 };
                self.message(|writer| {
                    writer.number(1, seconds as u64);
                    writer.number(2, nanos as u64);
                });
            }
            Type::Duration => match special::duration(text) {
                Some(nanos) => self.message(|writer| writer.number(1, nanos as u64)),
                None => return bad(&self),
            },
            Type::Quantity => self.message(|writer| writer.bytes(1, text.as_bytes())),
            Type::IntOrString => self.message(|writer| {
                writer.number(1, 1);
                writer.number(2, 0);
                writer.bytes(3, text.as_bytes());
            }),
            _ => return bad(&self),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Put<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {:?}", self.ty)
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match (self.many, self.ty) {
            (Many::One, Type::Bool) => self.writer.number(self.number, u64::from(value)),
            (Many::One, Type::SchemaOrBool) => self.message(|writer| writer.number(1, u64::from(value))),
            _ => return Err(self.unfit(format_args!("{value}"))),
        }
        Ok(())
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => self.double(value as f64),
        }
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match (self.many, self.ty) {
            (Many::One, Type::Quantity) => self.message(|writer| writer.bytes(1, value.to_string().as_bytes())),
            _ => return self.double(value),
        }
        Ok(())
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (number, ty, wrapped) = match (self.many, self.ty) {
            (Many::List, ty) => (self.number, ty, false),
            (Many::One, Type::Strings) => (1, Type::String, true),
            (Many::One, Type::SchemaOrStrings) => (2, Type::String, true),
            (Many::One, Type::SchemaOrSchemas) => (2, Type::Message(self.writer.schema.json_schema), true),
            _ => return Err(self.unfit(format_args!("a list"))),
        };
        let start = wrapped.then(|| self.writer.begin(self.number));
        while let Some(()) = seq.next_element_seed(Put { number, ty, many: Many::One, writer: self.writer })? {}
        if let Some(start) = start {
            self.writer.end(start);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let schema = self.writer.schema;
        let json_schema = Type::Message(schema.json_schema);
        match (self.many, self.ty) {
            (Many::One, Type::Message(index)) => {
                let start = self.writer.begin(self.number);
                Fields { message: &schema.messages[index], writer: self.writer }.visit_map(map)?;
                self.writer.end(start);
            }
            (Many::Map, ty) => {
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let start = self.writer.begin(self.number);
                    self.writer.bytes(1, key.as_bytes());
                    map.next_value_seed(Put { number: 2, ty, many: Many::One, writer: self.writer })?;
                    self.writer.end(start);
                }
            }
            (Many::One, Type::SchemaOrBool | Type::SchemaOrSchemas | Type::SchemaOrStrings) => {
                let start = self.writer.begin(self.number);
                let number = if self.ty == Type::SchemaOrBool { 2 } else { 1 };
                if self.ty == Type::SchemaOrBool {
                    self.writer.number(1, 1);
                }
                Put { number, ty: json_schema, many: Many::One, writer: self.writer }.visit_map(map)?;
                self.writer.end(start);
            }
            _ => return Err(self.unfit(format_args!("an object"))),
        }
        Ok(())
    }
}
