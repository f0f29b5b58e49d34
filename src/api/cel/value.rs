//! Values while an expression runs. What comes from objects stays borrowed JSON, read as its declared type only where it is touched.
//!
//! Equality and order are cel-go's: numbers compare by value across their types, everything else only with its own kind.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;

use super::error::EvalError;
use super::opaque::Opaque;
use super::schema::{DeclType, ListKind, Shape, unescape};
use super::time::{self, Instant};
use super::types::Type;

/// The result of anything that can fail.
pub type Res<T> = Result<T, EvalError>;

/// A string, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Of an object or of the expression.
    Borrowed(&'a str),
    /// Made on the way.
    Shared(Arc<str>),
}

impl Text<'_> {
    /// The string.
    pub fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Of an object, with the type that is declared for the list.
    Json(&'a [Json], Option<&'a DeclType>),
    /// Made on the way.
    Owned(Arc<Vec<Value<'a>>>),
}

/// A map, or an object with fields.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Of an object, with the type that is declared for it.
    Json(&'a serde_json::Map<String, Json>, Option<&'a DeclType>),
    /// Made on the way.
    Owned(Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// What a map made on the way is indexed by. Numbers are the same whatever their type.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Key<'a> {
    Bool(bool),
    Number { value: i128, unsigned: bool },
    String(Text<'a>),
}

/// An object that the expression constructs, `Name{...}`.
#[derive(Clone, Debug)]
pub struct Constructed<'a> {
    /// Its type's name.
    pub name: Arc<str>,
    /// What was set.
    pub fields: BTreeMap<String, Value<'a>>,
}

/// A value.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Instant),
    /// In nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Object(Arc<Constructed<'a>>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    Opaque(Arc<Opaque>),
    /// The object whose fields are the named expressions of the activation.
    Variables,
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::String(Text::Shared(text.into()))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::String(Text::Borrowed(text))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Value::List(List::Owned(Arc::new(items)))
    }
}

impl From<Opaque> for Value<'_> {
    fn from(opaque: Opaque) -> Self {
        Value::Opaque(Arc::new(opaque))
    }
}

impl<'a> Value<'a> {
    /// JSON as the value of its declared type; without one, as what it looks like.
    pub fn from_json(json: &'a Json, decl: Option<&'a DeclType>) -> Res<Value<'a>> {
        Ok(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), decl) {
                (_, Some(DeclType { ty: Type::Double, .. })) => Value::Double(number.as_f64().unwrap_or_default()),
                (Some(value), _) => Value::Int(value),
                (None, _) => Value::Double(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => match decl.map(|decl| &decl.ty) {
                Some(Type::Bytes) => Value::Bytes(BASE64.decode(text).map_err(|_| invalid("byte", text))?.into()),
                Some(Type::Timestamp) => Value::Timestamp(time::parse_declared(text).ok_or_else(|| invalid("date-time", text))?),
                Some(Type::Duration) => Value::Duration(time::parse_lenient_duration(text).ok_or_else(|| invalid("duration", text))?),
                _ => Value::String(Text::Borrowed(text)),
            },
            Json::Array(items) => Value::List(List::Json(items, decl)),
            Json::Object(map) => Value::Map(Map::Json(map, decl)),
        })
    }

    /// The value as JSON; `None` for what has no such form (types, authorizers).
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Value::Null | Value::Optional(None) => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Uint(value) => Json::from(*value),
            Value::Double(value) => Json::from(*value),
            Value::String(text) => Json::String(text.as_str().into()),
            Value::Bytes(bytes) => Json::String(BASE64.encode(bytes)),
            Value::Timestamp(at) => Json::String(at.to_string()),
            Value::Duration(nanos) => Json::String(time::format_duration(*nanos)),
            Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Value::List(List::Owned(items)) => Json::Array(items.iter().map(Value::to_json).collect::<Option<_>>()?),
            Value::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
            Value::Map(Map::Owned(map)) => {
                Json::Object(map.iter().map(|(key, value)| Some((key.to_text(), value.to_json()?))).collect::<Option<_>>()?)
            }
            Value::Object(object) => {
                let field = |(name, value): (&String, &Value<'_>)| Some((unescape(name).into_owned(), value.to_json()?));
                Json::Object(object.fields.iter().map(field).collect::<Option<_>>()?)
            }
            Value::Optional(Some(inner)) => inner.to_json()?,
            Value::Opaque(opaque) => Json::String(opaque.to_text()?),
            Value::Type(_) | Value::Variables => return None,
        })
    }

    /// Its type, as `type()` gives it. What is in lists and maps is not looked at.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(Map::Json(_, Some(DeclType { shape: Shape::Object(object), .. }))) => Type::Object(object.clone()),
            Value::Map(_) | Value::Variables => Type::map(Type::Dyn, Type::Dyn),
            Value::Object(object) => {
                Type::Object(Arc::new(super::schema::ObjectType { name: object.name.to_string(), fields: BTreeMap::new() }))
            }
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(of) => Type::Type(Arc::new(of.clone())),
            Value::Opaque(opaque) => Type::Opaque(opaque.type_name()),
        }
    }

    /// The name of its type, for messages.
    pub fn type_name(&self) -> String {
        type_head(&self.type_of())
    }

    /// `size()`, where that exists.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Value::String(text) => text.as_str().chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            _ => return None,
        })
    }

    /// The string, or `no such overload`.
    pub fn str(&self) -> Res<&str> {
        match self {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The integer, or `no such overload`.
    pub fn int(&self) -> Res<i64> {
        match self {
            Value::Int(value) => Ok(*value),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The boolean, or `no such overload`.
    pub fn bool(&self) -> Res<bool> {
        match self {
            Value::Bool(value) => Ok(*value),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The list, or `no such overload`.
    pub fn as_list(&self) -> Res<&List<'a>> {
        match self {
            Value::List(list) => Ok(list),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `a == b`
    pub fn equals(&self, other: &Value<'a>) -> Res<bool> {
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => a.as_str() == b.as_str(),
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => type_head(a) == type_head(b),
            (Value::Opaque(a), Value::Opaque(b)) => a == b,
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => a.equals(b)?,
            (Value::List(a), Value::List(b)) => a.equals(b)?,
            (Value::Map(a), Value::Map(b)) => a.equals(b)?,
            (Value::Object(a), Value::Object(b)) => {
                if a.name != b.name || a.fields.len() != b.fields.len() {
                    return Ok(false);
                }
                for (name, value) in &a.fields {
                    match b.fields.get(name) {
                        Some(other) if value.equals(other)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => numeric(self, other) == Some(Ordering::Equal),
        })
    }

    /// `a < b` and its kin; `no such overload` for what has no order.
    pub fn compare(&self, other: &Value<'a>) -> Res<Option<Ordering>> {
        Ok(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.as_str().cmp(b.as_str())),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ if is_number(self) && is_number(other) => numeric(self, other),
            _ => return Err(EvalError::no_such_overload()),
        })
    }
}

fn invalid(format: &str, text: &str) -> EvalError {
    let shown: String = text.chars().take(64).collect();
    EvalError::new(format!("Invalid {format} {shown}"))
}

/// The name of a type without what it contains.
pub(super) fn type_head(ty: &Type) -> String {
    match ty {
        Type::List(_) => "list".into(),
        Type::Map(_) => "map".into(),
        Type::Optional(_) => "optional_type".into(),
        Type::Type(_) => "type".into(),
        Type::Null => "null_type".into(),
        Type::Timestamp => "google.protobuf.Timestamp".into(),
        Type::Duration => "google.protobuf.Duration".into(),
        other => other.to_string(),
    }
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}

/// Order of numbers by value; `None` with a NaN or something that is no number.
fn numeric(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => compare_double(*a, whole(b)?),
        (a, Value::Double(b)) => compare_double(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

/// Exact: an integer of 64 bits need not have an equal double.
fn compare_double(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Saturates, which keeps the order.
    let truncated = double.trunc() as i128;
    Some(truncated.cmp(&whole).then_with(|| double.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal)))
}

impl<'a> List<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Owned(items) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<Res<Value<'a>>> {
        match self {
            List::Json(items, decl) => items.get(index).map(|json| Value::from_json(json, element(*decl))),
            List::Owned(items) => items.get(index).cloned().map(Ok),
        }
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Res<Value<'a>>> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// Whether an element equals `value`.
    pub fn contains(&self, value: &Value<'a>) -> Res<bool> {
        for item in self.iter() {
            if item?.equals(value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn kind(&self) -> Option<&'a ListKind> {
        match self {
            List::Json(_, Some(DeclType { shape: Shape::List(_, kind), .. })) => Some(kind),
            _ => None,
        }
    }

    fn equals(&self, other: &List<'a>) -> Res<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match self.kind().or(other.kind()) {
            Some(ListKind::Set) => all(self.iter(), |item| other.contains(item)),
            Some(ListKind::Map(keys)) => all(self.iter(), |item| match other.keyed(keys, item)? {
                Some((_, same)) => same.equals(item),
                None => Ok(false),
            }),
            _ => {
                for (a, b) in self.iter().zip(other.iter()) {
                    if !a?.equals(&b?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// The element that has the same keys as `like`.
    fn keyed(&self, keys: &[String], like: &Value<'a>) -> Res<Option<(usize, Value<'a>)>> {
        let key = |value: &Value<'a>, name: &str| match value {
            Value::Map(Map::Json(map, _)) => map.get(name).cloned(),
            Value::Map(map) => map.get_field(name).and_then(Result::ok).and_then(|value| value.to_json()),
            _ => None,
        };
        for (index, item) in self.iter().enumerate() {
            let item = item?;
            if keys.iter().all(|name| key(&item, name) == key(like, name)) {
                return Ok(Some((index, item)));
            }
        }
        Ok(None)
    }

    /// `a + b`: sets unite, keyed elements replace those of the same keys, all others follow.
    pub fn concat(&self, other: &List<'a>) -> Res<List<'a>> {
        let mut items = self.iter().collect::<Res<Vec<_>>>()?;
        for item in other.iter() {
            let item = item?;
            match self.kind() {
                Some(ListKind::Set) if self.contains(&item)? => {}
                Some(ListKind::Map(keys)) => match self.keyed(keys, &item)? {
                    Some((index, _)) => items[index] = item,
                    None => items.push(item),
                },
                _ => items.push(item),
            }
        }
        Ok(List::Owned(Arc::new(items)))
    }
}

fn all<'a>(items: impl Iterator<Item = Res<Value<'a>>>, holds: impl Fn(&Value<'a>) -> Res<bool>) -> Res<bool> {
    for item in items {
        if !holds(&item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn element(decl: Option<&DeclType>) -> Option<&DeclType> {
    match decl {
        Some(DeclType { shape: Shape::List(of, _) | Shape::Map(of), .. }) => Some(of),
        _ => None,
    }
}

impl<'a> Map<'a> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Owned(map) => map.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key or field given by name.
    pub fn get_field(&self, name: &str) -> Option<Res<Value<'a>>> {
        match self {
            Map::Json(map, decl) => {
                let (json, decl) = match decl {
                    Some(DeclType { shape: Shape::Object(object), .. }) => (map.get(&*unescape(name))?, object.fields.get(name)),
                    other => (map.get(name)?, element(*other)),
                };
                Some(Value::from_json(json, decl))
            }
            // The key lives only for the search.
            Map::Owned(map) => find_text(map, name).cloned().map(Ok),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &Value<'a>) -> Res<Option<Value<'a>>> {
        match (self, key) {
            (_, Value::String(name)) => self.get_field(name.as_str()).transpose(),
            (Map::Json(..), Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_)) => Ok(None),
            (Map::Owned(map), key) => match Key::lookup(key) {
                Some(key) => Ok(map.get(&key).cloned()),
                None => Ok(None),
            },
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json(map, _) => map.keys().map(|key| Value::String(Text::Borrowed(key))).collect(),
            Map::Owned(map) => map.keys().map(Key::to_value).collect(),
        }
    }

    fn equals(&self, other: &Map<'a>) -> Res<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if let (Map::Json(a, decl), Map::Json(b, other)) = (self, other)
            && let Some(object @ DeclType { shape: Shape::Object(_), .. }) = decl.or(*other)
        {
            // By property: what the schema does not expose counts too.
            let Shape::Object(fields) = &object.shape else { return Ok(false) };
            for (name, value) in *a {
                let decl = super::schema::escape(name).and_then(|name| fields.fields.get(&name));
                let Some(same) = b.get(name) else { return Ok(false) };
                if !Value::from_json(value, decl)?.equals(&Value::from_json(same, decl)?)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for key in self.keys() {
            match (self.get(&key)?, other.get(&key)?) {
                (Some(a), Some(b)) if a.equals(&b)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn find_text<'m, 'a>(map: &'m BTreeMap<Key<'a>, Value<'a>>, name: &str) -> Option<&'m Value<'a>> {
    // A `Key` of a shorter life can't index the map, so the name is shared for the search.
    map.get(&Key::String(Text::Shared(name.into())))
}

impl<'a> Key<'a> {
    /// A value as a key to store by, or the complaint of cel-go.
    pub fn new(value: &Value<'a>) -> Res<Key<'a>> {
        match value {
            Value::Double(_) => Err(EvalError::new("unsupported key type: double")),
            other => Key::lookup(other).ok_or_else(|| EvalError::new(format!("unsupported key type: {}", other.type_name()))),
        }
    }

    /// A value as a key to look up.
    fn lookup(value: &Value<'a>) -> Option<Key<'a>> {
        match value {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Number { value: i128::from(*value), unsigned: false }),
            Value::Uint(value) => Some(Key::Number { value: i128::from(*value), unsigned: true }),
            Value::Double(value) if value.fract() == 0.0 => Some(Key::Number { value: *value as i128, unsigned: false }),
            Value::String(text) => Some(Key::String(text.clone())),
            _ => None,
        }
    }

    /// The key as a value.
    pub fn to_value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Number { value, unsigned: true } => Value::Uint(*value as u64),
            Key::Number { value, unsigned: false } => Value::Int(*value as i64),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    /// The key as JSON has it.
    pub fn to_text(&self) -> String {
        match self {
            Key::Bool(value) => value.to_string(),
            Key::Number { value, .. } => value.to_string(),
            Key::String(text) => text.as_str().into(),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Number { value, .. } => (1, *value, ""),
            Key::String(text) => (2, 0, text.as_str()),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// Text for a `no such key` complaint.
pub(super) fn shown<'v>(value: &'v Value<'_>) -> Cow<'v, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Int(value) => value.to_string().into(),
        Value::Uint(value) => value.to_string().into(),
        Value::Double(value) => value.to_string().into(),
        Value::Bool(value) => value.to_string().into(),
        other => other.type_name().into(),
    }
}
