//! The cost of one call, by its arguments and its result.

use super::range::scale;
use super::{AUTHZ_CHECK, FORMAT_REGEX, REGEX, STRING};
use crate::api::cel::value::{Key, List, Map, Value};

/// What counts as the size of a value.
fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::Opaque(opaque) => opaque.cost_size(),
        other => other.size().map_or(1, |size| size as u64),
    }
}

fn string(value: &Value<'_>, factor: f64) -> u64 {
    scale(size(value), factor)
}

/// The cost of walking all of a value.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.as_str().len() as f64 * STRING) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * STRING) as u64,
        Value::List(List::Json(items, _)) => items.iter().map(json_traversal).sum(),
        Value::List(List::Owned(items)) => items.iter().map(traversal).sum(),
        Value::Map(Map::Json(map, _)) => map.iter().map(|(key, value)| (key.len() as f64 * STRING) as u64 + json_traversal(value)).sum(),
        Value::Map(Map::Owned(map)) => map.iter().map(|(key, value)| key_traversal(key) + traversal(value)).sum(),
        _ => 1,
    }
}

fn key_traversal(key: &Key<'_>) -> u64 {
    traversal(&key.to_value())
}

fn json_traversal(json: &serde_json::Value) -> u64 {
    match json {
        serde_json::Value::String(text) => (text.len() as f64 * STRING) as u64,
        serde_json::Value::Array(items) => items.iter().map(json_traversal).sum(),
        serde_json::Value::Object(map) => map.iter().map(|(key, value)| (key.len() as f64 * STRING) as u64 + json_traversal(value)).sum(),
        _ => 1,
    }
}

/// What is known to be spent before the function runs.
pub fn before(function: &str, args: &[Value<'_>]) -> u64 {
    match (function, args) {
        ("check", _) => AUTHZ_CHECK,
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", [of, ..]) => traversal(of),
        ("url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR", [of, ..])
        | ("quantity" | "isQuantity" | "semver" | "isSemver", [of, ..])
        | ("startsWith" | "endsWith", [_, of])
        | ("bytes" | "string", [of @ (Value::String(_) | Value::Bytes(_))]) => string(of, STRING),
        ("ip", [of @ Value::String(_)]) => string(of, STRING),
        ("replace" | "split" | "ip.isCanonical", [of, ..]) => string(of, 2.0 * STRING),
        ("join", _) => 0,
        ("find" | "findAll" | "matches", [text, pattern, ..]) => scale(size(text) + 1, STRING).saturating_mul(string(pattern, REGEX)),
        ("contains", [text, part]) => string(text, STRING).saturating_mul(string(part, STRING)),
        ("containsIP" | "containsCIDR", [cidr, other]) => {
            let own = scale(2 * size(cidr), STRING);
            let parse = if matches!(other, Value::String(_)) { string(other, STRING) } else { 0 };
            own + parse + if function == "containsCIDR" { string(cidr, STRING) + 1 } else { 0 }
        }
        ("validate", [_, text]) => scale(string(text, STRING), FORMAT_REGEX * REGEX),
        ("@in", [_, of @ Value::List(_)]) => size(of),
        ("sets.contains" | "sets.intersects", [a, b]) => size(a).saturating_mul(size(b)).saturating_add(1),
        ("sets.equivalent", [a, b]) => size(a).saturating_mul(size(b)).saturating_mul(2).saturating_add(1),
        ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => scale(size(a).min(size(b)), STRING),
        ("_+_", [a @ (Value::String(_) | Value::Bytes(_)), b]) => scale(size(a) + size(b), STRING),
        ("distinct" | "sort", [of]) => size(of).saturating_mul(size(of)),
        ("flatten" | "reverse" | "slice" | "@sortByAssociatedKeys", [of, ..]) => size(of),
        ("lists.range", [Value::Int(count)]) => u64::try_from(*count).unwrap_or(0),
        ("format", [of, _]) => string(of, STRING),
        _ => 1,
    }
}

/// What is known only by the result.
pub fn after(function: &str, result: &Value<'_>) -> u64 {
    if function == "join" { string(result, 2.0 * STRING) } else { 0 }
}
