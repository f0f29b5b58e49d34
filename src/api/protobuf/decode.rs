//! Messages into a JSON tree.
//!
//! As Go does: of a field that is there twice the last one counts, messages are merged, lists grow; a zero that is no pointer is as good
//! as absent. Depth is counted as JSON has it, since what is read is stored as JSON and must be readable again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::schema::{Field, Many, Message, Schema, Type};
use super::wire::{Reader, Wire};
use super::{Error, MAGIC, special};

/// Levels of objects and lists. serde_json reads 128.
const MAX_DEPTH: usize = 120;

pub(super) struct Decoder {
    pub schema: &'static Schema,
}

impl Decoder {
    /// Reads the fields of a message into an object at `depth`.
    pub fn message(&self, message: &Message, bytes: &[u8], depth: usize, into: &mut Map<String, Value>) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            let Some(field) = message.field(number) else { continue };
            match field.many {
                Many::One => self.one(field, wire, depth, into)?,
                Many::Inline => {
                    let Type::Message(index) = field.ty else { continue };
                    // One level of JSON, two of messages: counted, or a chain of such could outgrow the stack.
                    self.message(&self.schema.messages[index], expect_bytes(field, wire)?, depth + 1, into)?;
                }
                Many::List => {
                    let list = into.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                    let Value::Array(list) = list else { continue };
                    self.elements(field, wire, depth + 1, list)?;
                }
                Many::Map => {
                    let map = into.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                    let Value::Object(map) = map else { continue };
                    self.entry(field, expect_bytes(field, wire)?, depth + 1, map)?;
                }
            }
        }
        Ok(())
    }

    fn one(&self, field: &Field, wire: Wire<'_>, depth: usize, into: &mut Map<String, Value>) -> Result<(), Error> {
        if let Type::Message(index) = field.ty {
            let slot = into.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(object) = slot else { return Ok(()) };
            return self.message(&self.schema.messages[index], expect_bytes(field, wire)?, depth + 1, object);
        }
        match self.value(field, wire, depth + 1)? {
            Some(value) if field.pointer || !is_zero(field.ty, &value) => into.insert(field.name.into(), value),
            _ => into.remove(field.name),
        };
        Ok(())
    }

    /// One element of a list, or many numbers in one piece.
    fn elements(&self, field: &Field, wire: Wire<'_>, depth: usize, list: &mut Vec<Value>) -> Result<(), Error> {
        if let (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) = (field.ty, wire) {
            let mut packed = Reader::new(packed);
            while !packed.is_empty() {
                list.push(number(field.ty, packed.varint()?));
            }
            return Ok(());
        }
        list.push(self.value(field, wire, depth + 1)?.unwrap_or(Value::Null));
        Ok(())
    }

    fn entry(&self, field: &Field, bytes: &[u8], depth: usize, map: &mut Map<String, Value>) -> Result<(), Error> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match number {
                1 => key = text(field, expect_bytes(field, wire)?)?.to_owned(),
                2 => value = self.value(field, wire, depth + 1)?,
                _ => {}
            }
        }
        map.insert(key, value.unwrap_or_else(|| zero(field.ty)));
        Ok(())
    }

    /// One value; `None` stands for null. `depth` is that of the value.
    fn value(&self, field: &Field, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        Ok(Some(match (field.ty, wire) {
            (Type::Bool | Type::Int32 | Type::Int64, Wire::Varint(value)) => number(field.ty, value),
            (Type::Double, Wire::Fixed64(bits)) => {
                let value = Number::from_f64(f64::from_bits(bits));
                Value::Number(value.ok_or_else(|| unfit(field, "not a finite number"))?)
            }
            (Type::Bool | Type::Int32 | Type::Int64 | Type::Double, _) => return Err(wrong(field)),
            (ty, Wire::Bytes(bytes)) => return self.composite(field, ty, bytes, depth),
            _ => return Err(wrong(field)),
        }))
    }

    fn composite(&self, field: &Field, ty: Type, bytes: &[u8], depth: usize) -> Result<Option<Value>, Error> {
        Ok(Some(match ty {
            Type::String => text(field, bytes)?.into(),
            Type::Bytes => STANDARD.encode(bytes).into(),
            Type::Message(index) => {
                let mut object = Map::new();
                self.message(&self.schema.messages[index], bytes, depth, &mut object)?;
                Value::Object(object)
            }
            Type::Time | Type::MicroTime => return time(field, bytes),
            Type::Duration => special::show_duration(Parts::read(field, bytes)?.numbers[1] as i64).into(),
            Type::Quantity => match Parts::read(field, bytes)?.texts[1] {
                "" => "0".into(),
                text => text.into(),
            },
            Type::IntOrString => {
                let parts = Parts::read(field, bytes)?;
                if parts.numbers[1] == 1 { parts.texts[3].into() } else { (parts.numbers[2] as i32).into() }
            }
            Type::Json => return self.json(field, bytes, depth),
            Type::Strings => Value::Array(strings(field, bytes, 1)?),
            Type::SchemaOrBool | Type::SchemaOrSchemas | Type::SchemaOrStrings => return self.union(field, bytes, depth),
            Type::Bool | Type::Int32 | Type::Int64 | Type::Double => return Err(wrong(field)),
        }))
    }

    /// JSON as bytes. A client may have put a whole document there instead.
    fn json(&self, field: &Field, bytes: &[u8], depth: usize) -> Result<Option<Value>, Error> {
        let mut raw = &[][..];
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            if number == 1 {
                raw = expect_bytes(field, wire)?;
            }
        }
        if raw.is_empty() {
            return Ok(None);
        }
        if raw.starts_with(MAGIC) {
            return self.document(raw, None, depth).map(Some);
        }
        let value: Value = serde_json::from_slice(raw).map_err(|error| unfit(field, error))?;
        if depth + height(&value) > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        Ok(Some(value).filter(|value| !value.is_null()))
    }

    /// A schema, or what may stand in its place.
    fn union(&self, field: &Field, bytes: &[u8], depth: usize) -> Result<Option<Value>, Error> {
        let schema_number = if field.ty == Type::SchemaOrBool { 2 } else { 1 };
        let message = &self.schema.messages[self.schema.json_schema];
        let (mut schema, mut allows, mut others): (Option<Map<String, Value>>, _, Vec<Value>) = (None, false, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (field.ty, number, wire) {
                (_, number, wire) if number == schema_number => {
                    self.message(message, expect_bytes(field, wire)?, depth, schema.get_or_insert_default())?;
                }
                (Type::SchemaOrBool, 1, Wire::Varint(value)) => allows = value != 0,
                (Type::SchemaOrSchemas, 2, wire) => {
                    let mut one = Map::new();
                    self.message(message, expect_bytes(field, wire)?, depth + 1, &mut one)?;
                    others.push(Value::Object(one));
                }
                (Type::SchemaOrStrings, 2, wire) => others.push(text(field, expect_bytes(field, wire)?)?.into()),
                (_, 1 | 2, _) => return Err(wrong(field)),
                _ => {}
            }
        }
        Ok(match (schema, field.ty) {
            // As upstream writes its union as JSON: several schemas win over one.
            (_, Type::SchemaOrSchemas) if !others.is_empty() => Some(Value::Array(others)),
            (Some(schema), Type::SchemaOrSchemas | Type::SchemaOrBool) => Some(Value::Object(schema)),
            (None, Type::SchemaOrBool) => Some(allows.into()),
            (_, Type::SchemaOrStrings) if !others.is_empty() => Some(Value::Array(others)),
            (Some(schema), _) => Some(Value::Object(schema)),
            (None, _) => None,
        })
    }
}

/// The fields 1 to 3 of a small message of numbers and texts.
#[derive(Default)]
struct Parts<'a> {
    numbers: [u64; 4],
    texts: [&'a str; 4],
}

impl<'a> Parts<'a> {
    fn read(field: &Field, bytes: &'a [u8]) -> Result<Parts<'a>, Error> {
        let mut parts = Parts::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (number, wire) {
                (1..=3, Wire::Varint(value)) => parts.numbers[number as usize] = value,
                (1..=3, Wire::Bytes(bytes)) => parts.texts[number as usize] = text(field, bytes)?,
                (1..=3, _) => return Err(wrong(field)),
                _ => {}
            }
        }
        Ok(parts)
    }
}

fn time(field: &Field, bytes: &[u8]) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let parts = Parts::read(field, bytes)?;
    let shown = special::show_time(parts.numbers[1] as i64, parts.numbers[2] as i32, field.ty == Type::MicroTime);
    Ok(shown.map_err(|why| unfit(field, why))?.map(Value::String))
}

fn strings(field: &Field, bytes: &[u8], wanted: u32) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            all.push(text(field, expect_bytes(field, wire)?)?.into());
        }
    }
    Ok(all)
}

fn number(ty: Type, value: u64) -> Value {
    match ty {
        Type::Bool => (value != 0).into(),
        // Too large numbers are cut, as the code that upstream generates does.
        Type::Int32 => (value as i32).into(),
        _ => (value as i64).into(),
    }
}

/// The value of a map entry that has none.
fn zero(ty: Type) -> Value {
    match ty {
        Type::String | Type::Bytes => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Strings => Value::Array(Vec::new()),
        Type::Message(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn is_zero(ty: Type, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(yes) => !yes && ty == Type::Bool,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Levels of objects and lists within a value.
fn height(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(height).max().unwrap_or(0),
        _ => 0,
    }
}

fn expect_bytes<'a>(field: &Field, wire: Wire<'a>) -> Result<&'a [u8], Error> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong(field)),
    }
}

fn text<'a>(field: &Field, bytes: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8(field.name.into()))
}

fn wrong(field: &Field) -> Error {
    Error::WrongWireType(field.name.into())
}

fn unfit(field: &Field, why: impl ToString) -> Error {
    Error::Unfit { field: field.name.into(), why: why.to_string() }
}
