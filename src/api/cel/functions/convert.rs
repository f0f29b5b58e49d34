//! Conversions between types (cel-go `common/types`), and base64.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::time::{self, Instant};
use crate::api::cel::types::Type;

pub(super) const TABLE: &[Row] = &[
    Row("dyn", |_, args| Ok(args[0].clone()), &["to_dyn|(A) -> dyn"]),
    Row("type", |_, args| Ok(Value::Type(args[0].type_of())), &["type|(A) -> type(A)"]),
    Row("bool", to_bool, &["bool_to_bool|(bool) -> bool", "string_to_bool|(string) -> bool"]),
    Row(
        "int",
        to_int,
        &[
            "int64_to_int64|(int) -> int",
            "double_to_int64|(double) -> int",
            "duration_to_int64|(duration) -> int",
            "string_to_int64|(string) -> int",
            "timestamp_to_int64|(timestamp) -> int",
            "uint64_to_int64|(uint) -> int",
        ],
    ),
    Row(
        "uint",
        to_uint,
        &[
            "uint64_to_uint64|(uint) -> uint",
            "double_to_uint64|(double) -> uint",
            "int64_to_uint64|(int) -> uint",
            "string_to_uint64|(string) -> uint",
        ],
    ),
    Row(
        "double",
        to_double,
        &[
            "double_to_double|(double) -> double",
            "int64_to_double|(int) -> double",
            "string_to_double|(string) -> double",
            "uint64_to_double|(uint) -> double",
        ],
    ),
    Row(
        "string",
        to_string,
        &[
            "string_to_string|(string) -> string",
            "bool_to_string|(bool) -> string",
            "bytes_to_string|(bytes) -> string",
            "double_to_string|(double) -> string",
            "duration_to_string|(duration) -> string",
            "int64_to_string|(int) -> string",
            "timestamp_to_string|(timestamp) -> string",
            "uint64_to_string|(uint) -> string",
            "ip_to_string|(net.IP) -> string",
            "cidr_to_string|(net.CIDR) -> string",
        ],
    ),
    Row("bytes", to_bytes, &["bytes_to_bytes|(bytes) -> bytes", "string_to_bytes|(string) -> bytes"]),
    Row(
        "timestamp",
        to_timestamp,
        &[
            "timestamp_to_timestamp|(timestamp) -> timestamp",
            "int64_to_timestamp|(int) -> timestamp",
            "string_to_timestamp|(string) -> timestamp",
        ],
    ),
    Row("duration", to_duration, &["duration_to_duration|(duration) -> duration", "string_to_duration|(string) -> duration"]),
    Row("base64.encode", |_, args| encode(&args[0]), &["(bytes) -> string"]),
    Row("base64.decode", |_, args| decode(&args[0]), &["(string) -> bytes"]),
];

fn failed(value: &Value<'_>, to: Type) -> EvalError {
    EvalError::new(format!("type conversion error from '{}' to '{}'", value.type_name(), crate::api::cel::value::type_head(&to)))
}

fn range(what: &'static str) -> EvalError {
    EvalError::new(what)
}

fn to_bool<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    match &args[0] {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => Err(failed(&args[0], Type::Bool)),
        },
        other => Err(failed(other, Type::Bool)),
    }
}

fn to_int<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(Value::Int(match &args[0] {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| range("integer overflow"))?,
        Value::Double(value) if *value > -9_223_372_036_854_775_808.0 && *value < 9_223_372_036_854_775_808.0 => *value as i64,
        Value::Double(_) => return Err(range("integer overflow")),
        Value::String(text) => text.as_str().parse().map_err(|_| failed(&args[0], Type::Int))?,
        Value::Timestamp(at) => at.nanos().div_euclid(i128::from(time::SECOND)) as i64,
        Value::Duration(nanos) => *nanos,
        other => return Err(failed(other, Type::Int)),
    }))
}

fn to_uint<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(Value::Uint(match &args[0] {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| range("unsigned integer overflow"))?,
        Value::Double(value) if *value >= 0.0 && *value < 18_446_744_073_709_551_616.0 => *value as u64,
        Value::Double(_) => return Err(range("unsigned integer overflow")),
        Value::String(text) if !text.as_str().starts_with('+') => text.as_str().parse().map_err(|_| failed(&args[0], Type::Uint))?,
        other => return Err(failed(other, Type::Uint)),
    }))
}

fn to_double<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(Value::Double(match &args[0] {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => text.as_str().parse().map_err(|_| failed(&args[0], Type::Double))?,
        other => return Err(failed(other, Type::Double)),
    }))
}

fn to_string<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match &args[0] {
        text @ Value::String(_) => text.clone(),
        Value::Bool(value) => value.to_string().into(),
        Value::Int(value) => value.to_string().into(),
        Value::Uint(value) => value.to_string().into(),
        Value::Double(value) => double_text(*value).into(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_string().into(),
            Err(_) => return Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Timestamp(at) => at.to_string().into(),
        Value::Duration(nanos) => time::format_duration(*nanos).into(),
        Value::Opaque(opaque) => opaque.to_text().ok_or_else(|| failed(&args[0], Type::String))?.into(),
        other => return Err(failed(other, Type::String)),
    })
}

/// As Go's `%g` with the shortest digits that read back the same.
pub(super) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..21).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

fn to_bytes<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    match &args[0] {
        bytes @ Value::Bytes(_) => Ok(bytes.clone()),
        Value::String(text) => Ok(Value::Bytes(Arc::from(text.as_str().as_bytes()))),
        other => Err(failed(other, Type::Bytes)),
    }
}

fn to_timestamp<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let at = match &args[0] {
        Value::Timestamp(at) => Some(*at),
        Value::Int(seconds) => match Instant::from_nanos(i128::from(*seconds) * i128::from(time::SECOND)) {
            Some(at) => Some(at),
            None => return Err(EvalError::new("timestamp overflow")),
        },
        Value::String(text) => time::parse_timestamp(text.as_str()),
        _ => None,
    };
    at.map(Value::Timestamp).ok_or_else(|| failed(&args[0], Type::Timestamp))
}

fn to_duration<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let nanos = match &args[0] {
        Value::Duration(nanos) => Some(*nanos),
        Value::String(text) => time::parse_duration(text.as_str()),
        _ => None,
    };
    nanos.map(Value::Duration).ok_or_else(|| failed(&args[0], Type::Duration))
}

fn encode<'a>(value: &Value<'a>) -> Res<Value<'a>> {
    match value {
        Value::Bytes(bytes) => Ok(STANDARD.encode(bytes).into()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn decode<'a>(value: &Value<'a>) -> Res<Value<'a>> {
    let text = value.str()?;
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    bytes.map(|bytes| Value::Bytes(bytes.into())).map_err(|_| EvalError::new("illegal base64 data"))
}
