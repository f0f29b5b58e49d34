//! One step of a path: a field's name, a list item's keys, its value, or its place.
//!
//! The written form is Go's JSON (which escapes `<`, `>` and `&`) with keys in alphabetical order, so that equal elements are written
//! alike. Follows structured-merge-diff's `fieldpath/element.go`, `fieldpath/serialize-pe.go` and `value/value.go` (order and text).

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// A field of a struct or an entry of a map.
    Field(String),
    /// The item of a list with these values in its key fields, by name.
    Key(Vec<(String, Value)>),
    /// The item of a set with this value.
    Value(Value),
    /// The item at this place.
    Index(i64),
}

impl Element {
    /// Reads the written form.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn parse(text: &str) -> Result<Element, String> {
        let (kind, rest) = match text.as_bytes() {
            [_, b':', ..] => text.split_at(2),
            [_, _, ..] => return Err(format!("missing colon: {text}")),
            _ => return Err("key must be 2 characters long:".into()),
        };
        match kind {
            "f:" => Ok(Element::Field(rest.to_owned())),
            "v:" => serde_json::from_str(rest).map(Element::Value).map_err(|error| error.to_string()),
            "k:" => match serde_json::from_str(rest) {
                // The map is sorted by name.
                Ok(Value::Object(fields)) => Ok(Element::Key(fields.into_iter().collect())),
                Ok(_) => Err(format!("the keys are no object: {text}")),
                Err(error) => Err(error.to_string()),
            },
            "i:" => rest.parse().map(Element::Index).map_err(|_| format!("the index is no number: {text}")),
            _ => Err("unknown path element type".into()),
        }
    }

    /// The written form.
    pub fn to_string_form(&self) -> String {
        let mut out = String::new();
        match self {
            Element::Field(name) => {
                out.push_str("f:");
                out.push_str(name);
            }
            Element::Key(fields) => {
                out.push_str("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(name, &mut out);
                    out.push(':');
                    write_value(value, &mut out);
                }
                out.push('}');
            }
            Element::Value(value) => {
                out.push_str("v:");
                write_value(value, &mut out);
            }
            Element::Index(index) => {
                out.push_str("i:");
                out.push_str(&index.to_string());
            }
        }
        out
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Element) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Element) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => {
                let each = a.iter().zip(b).map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| order(av, bv)));
                each.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Element::Value(a), Element::Value(b)) => order(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

/// Upstream's order of values: numbers, text, booleans, lists, maps, null.
fn order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or_default().total_cmp(&y.as_f64().unwrap_or_default()),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::Array(x), Value::Array(y)) => {
            let each = x.iter().zip(y).map(|(x, y)| order(x, y));
            each.fold(Ordering::Equal, Ordering::then).then(x.len().cmp(&y.len()))
        }
        (Value::Object(x), Value::Object(y)) => {
            let each = x.iter().zip(y).map(|((xk, xv), (yk, yv))| xk.cmp(yk).then_with(|| order(xv, yv)));
            each.fold(Ordering::Equal, Ordering::then).then(x.len().cmp(&y.len()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

/// Text as Go's JSON writes it.
pub fn write_text(text: &str, out: &mut String) {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && !b"\"\\<>&".contains(&byte));
    if plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A value as Go's JSON writes it; whole floats are written as integers, so that equal numbers are written alike.
pub(super) fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, out),
        Value::Number(number) => match number.as_f64() {
            #[allow(clippy::cast_possible_truncation)]
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => out.push_str(&(float as i64).to_string()),
            _ => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (name, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// As messages show it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(fields) => {
                f.write_str("[")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", Shown(value))?;
                }
                f.write_str("]")
            }
            Element::Value(value) => write!(f, "[={}]", Shown(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value as upstream's `value.ToString` shows it.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => write!(f, "{text:?}"),
            Value::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}", Shown(item))?;
                }
                f.write_str("]")
            }
            Value::Object(map) => {
                f.write_str("{")?;
                for (index, (name, value)) in map.iter().enumerate() {
                    let separator = if index > 0 { ";" } else { "" };
                    write!(f, "{separator}{name}={}", Shown(value))?;
                }
                f.write_str("}")
            }
            other => write!(f, "{other}"),
        }
    }
}
