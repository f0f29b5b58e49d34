//! Operators (cel-go `common/stdlib/standard.go`, `common/types/overflow.go`).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::{Context, Eval, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::time::Instant;
use crate::api::cel::value::{Key, List, Map, Text, shown};

/// More elements than this has no list that is made on the way.
const MAX_ITEMS: usize = 1_000_000;

pub(super) const TABLE: &[Row] = &[
    Row("_==_", equals, &["equals|(A, A) -> bool"]),
    Row("_!=_", |c, args| Ok(Value::Bool(!equals(c, args)?.bool()?)), &["not_equals|(A, A) -> bool"]),
    Row(
        "_+_",
        add,
        &[
            "add_bytes|(bytes, bytes) -> bytes",
            "add_double|(double, double) -> double",
            "add_duration_duration|(duration, duration) -> duration",
            "add_duration_timestamp|(duration, timestamp) -> timestamp",
            "add_timestamp_duration|(timestamp, duration) -> timestamp",
            "add_int64|(int, int) -> int",
            "add_list|(list(A), list(A)) -> list(A)",
            "add_string|(string, string) -> string",
            "add_uint64|(uint, uint) -> uint",
        ],
    ),
    Row(
        "_-_",
        subtract,
        &[
            "subtract_double|(double, double) -> double",
            "subtract_duration_duration|(duration, duration) -> duration",
            "subtract_int64|(int, int) -> int",
            "subtract_timestamp_duration|(timestamp, duration) -> timestamp",
            "subtract_timestamp_timestamp|(timestamp, timestamp) -> duration",
            "subtract_uint64|(uint, uint) -> uint",
        ],
    ),
    Row(
        "_*_",
        multiply,
        &["multiply_double|(double, double) -> double", "multiply_int64|(int, int) -> int", "multiply_uint64|(uint, uint) -> uint"],
    ),
    Row(
        "_/_",
        divide,
        &["divide_double|(double, double) -> double", "divide_int64|(int, int) -> int", "divide_uint64|(uint, uint) -> uint"],
    ),
    Row("_%_", modulo, &["modulo_int64|(int, int) -> int", "modulo_uint64|(uint, uint) -> uint"]),
    Row("-_", negate, &["negate_double|(double) -> double", "negate_int64|(int) -> int"]),
    Row("!_", |_, args| Ok(Value::Bool(!args[0].bool()?)), &["logical_not|(bool) -> bool"]),
    Row("@in", is_in, &["in_list|(A, list(A)) -> bool", "in_map|(A, map(A, B)) -> bool"]),
    Row(
        "_[_]",
        index,
        &[
            "index_list|(list(A), int) -> A",
            "index_map|(map(A, B), A) -> B",
            "optional_list_index_int|(optional(list(V)), int) -> optional(V)",
            "optional_map_index_value|(optional(map(K, V)), K) -> optional(V)",
        ],
    ),
    Row(
        "_[?_]",
        optional_index,
        &[
            "list_optindex_optional_int|(list(V), int) -> optional(V)",
            "optional_list_optindex_optional_int|(optional(list(V)), int) -> optional(V)",
            "map_optindex_optional_value|(map(K, V), K) -> optional(V)",
            "optional_map_optindex_optional_value|(optional(map(K, V)), K) -> optional(V)",
        ],
    ),
    Row(
        "size",
        |_, args| args[0].size().map(|size| Value::Int(size as i64)).ok_or_else(EvalError::no_such_overload),
        &[
            "size_bytes|(bytes) -> int",
            "bytes_size|bytes.() -> int",
            "size_list|(list(A)) -> int",
            "list_size|list(A).() -> int",
            "size_map|(map(A, B)) -> int",
            "map_size|map(A, B).() -> int",
            "size_string|(string) -> int",
            "string_size|string.() -> int",
        ],
    ),
    Row(
        "cel.@mapInsert",
        map_insert,
        &["@mapInsert_map_map|(map(K, V), map(K, V)) -> map(K, V)", "@mapInsert_map_key_value|(map(K, V), K, V) -> map(K, V)"],
    ),
];

/// The overloads of `<`, `<=`, `>` and `>=`: each type with itself, and numbers with each other.
pub(super) fn relations() -> Vec<(String, Vec<String>)> {
    let names = [("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")];
    let all = names.map(|(function, id)| {
        let mut overloads: Vec<String> = ["bool", "int64", "uint64", "double", "string", "bytes", "timestamp", "duration"]
            .map(|ty| {
                let cel = ty.trim_end_matches("64");
                format!("{id}_{ty}|({cel}, {cel}) -> bool")
            })
            .into();
        for a in ["int", "uint", "double"] {
            overloads.extend(["int", "uint", "double"].iter().filter(|b| **b != a).map(|b| format!("{id}_{a}_{b}|({a}, {b}) -> bool")));
        }
        (function.to_string(), overloads)
    });
    all.into()
}

/// The implementations of [`relations`].
pub(super) static RELATION: LazyLock<HashMap<&'static str, Eval>> = LazyLock::new(|| {
    let all: [(&str, Eval); 4] = [
        ("_<_", |_, args| related(args, |order| order == Ordering::Less)),
        ("_<=_", |_, args| related(args, |order| order != Ordering::Greater)),
        ("_>_", |_, args| related(args, |order| order == Ordering::Greater)),
        ("_>=_", |_, args| related(args, |order| order != Ordering::Less)),
    ];
    all.into()
});

fn related<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Res<Value<'a>> {
    match args[0].compare(&args[1])? {
        Some(order) => Ok(Value::Bool(holds(order))),
        None => Err(EvalError::new("NaN values cannot be ordered")),
    }
}

fn equals<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    args[0].equals(&args[1]).map(Value::Bool)
}

fn overflow<T>(value: Option<T>, what: &'static str) -> Res<T> {
    value.ok_or_else(|| EvalError::new(what))
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

fn shift<'a>(at: Instant, nanos: i128) -> Res<Value<'a>> {
    overflow(Instant::from_nanos(at.nanos() + nanos), TIMESTAMP).map(Value::Timestamp)
}

fn add<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_add(*b), INT)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(overflow(a.checked_add(*b), UINT)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => format!("{}{}", a.as_str(), b.as_str()).into(),
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&a[..], &b[..]].concat().into()),
        (Value::List(a), Value::List(b)) if a.len() + b.len() <= MAX_ITEMS => Value::List(a.concat(b)?),
        (Value::List(_), Value::List(_)) => return Err(EvalError::new(format!("list has more than {MAX_ITEMS} elements"))),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(overflow(a.checked_add(*b), DURATION)?),
        (Value::Timestamp(at), Value::Duration(nanos)) | (Value::Duration(nanos), Value::Timestamp(at)) => shift(*at, i128::from(*nanos))?,
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn subtract<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_sub(*b), INT)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(overflow(a.checked_sub(*b), UINT)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(overflow(a.checked_sub(*b), DURATION)?),
        (Value::Timestamp(at), Value::Duration(nanos)) => shift(*at, -i128::from(*nanos))?,
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = a.nanos() - b.nanos();
            Value::Duration(overflow(i64::try_from(nanos).ok(), DURATION)?)
        }
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn multiply<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_mul(*b), INT)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(overflow(a.checked_mul(*b), UINT)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn divide<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => return Err(EvalError::new("division by zero")),
        (Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_div(*b), INT)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn modulo<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => return Err(EvalError::new("modulus by zero")),
        (Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_rem(*b), INT)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn negate<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match &args[0] {
        Value::Int(value) => Value::Int(overflow(value.checked_neg(), INT)?),
        Value::Double(value) => Value::Double(-value),
        Value::Duration(nanos) => Value::Duration(overflow(nanos.checked_neg(), DURATION)?),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn is_in<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    match &args[1] {
        Value::List(list) => list.contains(&args[0]).map(Value::Bool),
        Value::Map(map) => Ok(Value::Bool(map.get(&args[0])?.is_some())),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A whole number of any numeric type.
fn position(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(at) => Some(*at),
        Value::Uint(at) => i64::try_from(*at).ok(),
        Value::Double(at) if at.fract() == 0.0 && at.abs() < 9e15 => Some(*at as i64),
        _ => None,
    }
}

/// `Ok(None)` where there is nothing; the complaint is for those who insist.
fn at<'a>(of: &Value<'a>, key: &Value<'a>) -> Res<Option<Value<'a>>> {
    match of {
        Value::List(list) => match position(key) {
            Some(index) => usize::try_from(index).ok().and_then(|index| list.get(index)).transpose(),
            None => Err(EvalError::no_such_overload()),
        },
        Value::Map(map) => map.get(key),
        Value::Object(object) => Ok(object.fields.get(key.str()?).cloned()),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `of[key]`
pub(in crate::api::cel) fn index<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    if let Value::Optional(inner) = &args[0] {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return Ok(Value::Optional(at(inner, &args[1])?.map(Arc::new)));
    }
    at(&args[0], &args[1])?.ok_or_else(|| match &args[0] {
        Value::List(_) => EvalError::new(format!("index out of bounds: {}", shown(&args[1]))),
        _ => EvalError::no_such_key(shown(&args[1])),
    })
}

fn optional_index<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let of = match &args[0] {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => inner,
        other => other,
    };
    Ok(Value::Optional(at(of, &args[1])?.map(Arc::new)))
}

fn map_insert<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let Value::Map(Map::Owned(map)) = &args[0] else { return Err(EvalError::no_such_overload()) };
    let mut map = (**map).clone();
    let mut insert = |key: Value<'a>, value: Value<'a>| match map.entry(Key::new(&key)?) {
        std::collections::btree_map::Entry::Occupied(_) => {
            Err(EvalError::new(format!("insert failed: key {} already exists", shown(&key))))
        }
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
    };
    match args {
        [_, key, value] => insert(key.clone(), value.clone())?,
        [_, Value::Map(more)] => {
            for key in more.keys() {
                let value = more.get(&key)?.ok_or_else(EvalError::no_such_overload)?;
                insert(key, value)?;
            }
        }
        _ => return Err(EvalError::no_such_overload()),
    }
    Ok(Value::Map(Map::Owned(Arc::new(map))))
}

/// A list of strings as a value.
pub(super) fn texts<'a>(items: impl Iterator<Item = String>) -> Value<'a> {
    Value::List(List::Owned(Arc::new(items.map(|item| Value::String(Text::Shared(item.into()))).collect())))
}
