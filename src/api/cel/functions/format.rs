//! `string.format(list)` (cel-go `ext/formatting.go`).

use super::convert::double_text;
use super::strings::MAX_TEXT;
use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::time;
use crate::api::cel::value::{List, Map};

pub(super) const TABLE: &[Row] = &[Row("format", format, &["string_format|string.(list(dyn)) -> string"])];

/// No number is written with more digits behind the point.
const MAX_PRECISION: usize = 1000;

fn format<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (text, values) = (args[0].str()?, args[1].as_list()?);
    format_text(text, values).map(Into::into)
}

fn format_text(text: &str, values: &List<'_>) -> Res<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let value = values.get(next).ok_or_else(|| EvalError::new(format!("index {next} out of range")))??;
        next += 1;
        let (precision, after) = precision_of(rest)?;
        let verb = after.chars().next().ok_or_else(|| EvalError::new("unexpected end of string"))?;
        out.push_str(&clause(verb, precision, &value)?);
        rest = &after[verb.len_utf8()..];
        if out.len() > MAX_TEXT {
            return Err(EvalError::new("string is too long"));
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn precision_of(text: &str) -> Res<(Option<usize>, &str)> {
    let Some(after) = text.strip_prefix('.') else { return Ok((None, text)) };
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let parsed = after[..end].parse().ok().filter(|precision| *precision <= MAX_PRECISION);
    let precision = parsed.ok_or_else(|| {
        EvalError::new(format!("error while parsing precision: could not convert precision to integer: {}", &after[..end]))
    })?;
    Ok((Some(precision), &after[end..]))
}

fn clause(verb: char, precision: Option<usize>, value: &Value<'_>) -> Res<String> {
    let only = |what: &str| Err(EvalError::new(format!("error during formatting: {what}, was given {}", value.type_name())));
    Ok(match verb {
        's' => text_of(value)?,
        'd' => match value {
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Double(value) if !value.is_finite() => words(*value),
            _ => return only("decimal clause can only be used on integers"),
        },
        'f' | 'e' => {
            let Some(number) = number(value) else {
                let name = if verb == 'f' { "fixed-point" } else { "scientific" };
                return only(&format!("{name} clause can only be used on doubles"));
            };
            match (number.is_finite(), verb) {
                (false, _) => words(number),
                (true, 'f') => format!("{number:.*}", precision.unwrap_or(6)),
                _ => scientific(number, precision.unwrap_or(6)),
            }
        }
        'b' => match value {
            Value::Int(value) => radix(*value < 0, format!("{:b}", value.unsigned_abs())),
            Value::Uint(value) => format!("{value:b}"),
            Value::Bool(value) => u8::from(*value).to_string(),
            _ => return only("only integers and bools can be formatted as binary"),
        },
        'x' | 'X' => {
            let hex = match value {
                Value::Int(value) => radix(*value < 0, format!("{:x}", value.unsigned_abs())),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => text.as_str().bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return only("only integers, byte buffers, and strings can be formatted as hex"),
            };
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        'o' => match value {
            Value::Int(value) => radix(*value < 0, format!("{:o}", value.unsigned_abs())),
            Value::Uint(value) => format!("{value:o}"),
            _ => return only("octal clause can only be used on integers"),
        },
        other => return Err(EvalError::new(format!("could not parse formatting clause: unrecognized formatting clause \"{other}\""))),
    })
}

fn radix(negative: bool, digits: String) -> String {
    if negative { format!("-{digits}") } else { digits }
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn words(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        value if value > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// What `%s` shows.
pub(super) fn text_of(value: &Value<'_>) -> Res<String> {
    Ok(match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) if !value.is_finite() => words(*value),
        Value::Double(value) => double_text(*value),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(nanos) => time::format_duration(*nanos),
        Value::Type(of) => crate::api::cel::value::type_head(of),
        Value::List(list) => {
            let items = list.iter().map(|item| text_of(&item?)).collect::<Res<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => format!("{{{}}}", entries(map)?.join(", ")),
        other => {
            let message = format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                other.type_name()
            );
            return Err(EvalError::new(message));
        }
    })
}

fn entries(map: &Map<'_>) -> Res<Vec<String>> {
    let mut entries = Vec::with_capacity(map.len());
    for key in map.keys() {
        let value = map.get(&key)?.unwrap_or(Value::Null);
        entries.push(format!("{}: {}", text_of(&key)?, text_of(&value)?));
    }
    entries.sort();
    Ok(entries)
}
