//! Strings (cel-go `common/stdlib` and `ext/strings.go`). Positions count code points.

use super::operators::texts;
use super::{Context, Res, Row, Value, lists};
use crate::api::cel::error::EvalError;

/// No string made on the way is longer, in bytes.
pub(super) const MAX_TEXT: usize = 16 << 20;

pub(super) const TABLE: &[Row] = &[
    Row("contains", |_, args| Ok(Value::Bool(args[0].str()?.contains(args[1].str()?))), &["contains_string|string.(string) -> bool"]),
    Row(
        "startsWith",
        |_, args| Ok(Value::Bool(args[0].str()?.starts_with(args[1].str()?))),
        &["starts_with_string|string.(string) -> bool"],
    ),
    Row("endsWith", |_, args| Ok(Value::Bool(args[0].str()?.ends_with(args[1].str()?))), &["ends_with_string|string.(string) -> bool"]),
    Row("charAt", char_at, &["string_char_at_int|string.(int) -> string"]),
    Row(
        "indexOf",
        index_of,
        &[
            "string_index_of_string|string.(string) -> int",
            "string_index_of_string_int|string.(string, int) -> int",
            "list_a_index_of_int|list(A).(A) -> int",
        ],
    ),
    Row(
        "lastIndexOf",
        last_index_of,
        &[
            "string_last_index_of_string|string.(string) -> int",
            "string_last_index_of_string_int|string.(string, int) -> int",
            "list_a_last_index_of_int|list(A).(A) -> int",
        ],
    ),
    Row("lowerAscii", |_, args| Ok(args[0].str()?.to_ascii_lowercase().into()), &["string_lower_ascii|string.() -> string"]),
    Row("upperAscii", |_, args| Ok(args[0].str()?.to_ascii_uppercase().into()), &["string_upper_ascii|string.() -> string"]),
    Row("trim", |_, args| Ok(args[0].str()?.trim().to_string().into()), &["string_trim|string.() -> string"]),
    Row(
        "replace",
        replace,
        &[
            "string_replace_string_string|string.(string, string) -> string",
            "string_replace_string_string_int|string.(string, string, int) -> string",
        ],
    ),
    Row(
        "split",
        split,
        &["string_split_string|string.(string) -> list(string)", "string_split_string_int|string.(string, int) -> list(string)"],
    ),
    Row("substring", substring, &["string_substring_int|string.(int) -> string", "string_substring_int_int|string.(int, int) -> string"]),
    Row("join", join, &["list_join|list(string).() -> string", "list_join_string|list(string).(string) -> string"]),
    Row("reverse", reverse, &["string_reverse|string.() -> string", "list_reverse|list(T).() -> list(T)"]),
    Row("strings.quote", |_, args| Ok(quote(args[0].str()?).into()), &["strings_quote|(string) -> string"]),
];

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

/// A position from 0 to `length`.
fn position(value: &Value<'_>, length: usize) -> Res<usize> {
    let index = value.int()?;
    usize::try_from(index).ok().filter(|index| *index <= length).ok_or_else(|| out_of_range(index))
}

/// Byte offset of a code point.
fn offset(text: &str, position: usize) -> usize {
    text.char_indices().nth(position).map_or(text.len(), |(at, _)| at)
}

fn char_at<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let text = args[0].str()?;
    let at = position(&args[1], text.chars().count())?;
    Ok(text.chars().nth(at).map(String::from).unwrap_or_default().into())
}

fn index_of<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    if let Value::List(list) = &args[0] {
        return lists::index_of(context, list, &args[1], false);
    }
    let (text, part) = (args[0].str()?, args[1].str()?);
    let from = args.get(2).map(|from| position(from, text.chars().count())).transpose()?.unwrap_or(0);
    let start = offset(text, from);
    let found = text[start..].find(part).map(|at| text[..start + at].chars().count() as i64);
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    if let Value::List(list) = &args[0] {
        return lists::index_of(context, list, &args[1], true);
    }
    let (text, part) = (args[0].str()?, args[1].str()?);
    let length = text.chars().count();
    let last = args.get(2).map(|from| position(from, length)).transpose()?.unwrap_or(length);
    // A match may begin at the last position at the latest.
    let end = (offset(text, last) + part.len()).min(text.len());
    let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    let found = text[..end].rfind(part).map(|at| text[..at].chars().count());
    Ok(Value::Int(found.filter(|at| *at <= last).map_or(-1, |at| at as i64)))
}

/// `text` as a value, unless it is unreasonably long.
fn bounded<'a>(text: String) -> Res<Value<'a>> {
    if text.len() > MAX_TEXT { Err(EvalError::new("string is too long")) } else { Ok(text.into()) }
}

fn replace<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (text, from, to) = (args[0].str()?, args[1].str()?, args[2].str()?);
    let limit = args.get(3).map(Value::int).transpose()?.unwrap_or(-1);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let times = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    if text.len().saturating_add(times.min(limit).saturating_mul(to.len())) > MAX_TEXT {
        return Err(EvalError::new("string is too long"));
    }
    bounded(text.replacen(from, to, limit))
}

fn split<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (text, by) = (args[0].str()?, args[1].str()?);
    let limit = usize::try_from(args.get(2).map(Value::int).transpose()?.unwrap_or(-1)).unwrap_or(usize::MAX);
    if by.is_empty() {
        // By code points; the last part takes what is left.
        let count = text.chars().count().min(limit);
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).take(count).collect();
        let end = |index: usize| if index + 1 < count { starts[index + 1] } else { text.len() };
        return Ok(texts(starts.iter().enumerate().map(|(index, at)| text[*at..end(index)].to_string())));
    }
    Ok(texts(text.splitn(limit, by).map(String::from)))
}

fn substring<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let text = args[0].str()?;
    let length = text.chars().count();
    let start = position(&args[1], length)?;
    let end = args.get(2).map(|end| position(end, length)).transpose()?.unwrap_or(length);
    if start > end {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    Ok(text[offset(text, start)..offset(text, end)].to_string().into())
}

fn join<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let by = args.get(1).map(Value::str).transpose()?.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in args[0].as_list()?.iter().enumerate() {
        if index > 0 {
            joined.push_str(by);
        }
        joined.push_str(item?.str()?);
        if joined.len() > MAX_TEXT {
            return Err(EvalError::new("string is too long"));
        }
    }
    Ok(joined.into())
}

fn reverse<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    if let Value::List(list) = &args[0] {
        let mut items = list.iter().collect::<Res<Vec<_>>>()?;
        items.reverse();
        return Ok(items.into());
    }
    Ok(args[0].str()?.chars().rev().collect::<String>().into())
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let escape = match c {
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{b}' => "\\v",
            '\\' => "\\\\",
            '"' => "\\\"",
            _ => {
                quoted.push(c);
                continue;
            }
        };
        quoted.push_str(escape);
    }
    quoted.push('"');
    quoted
}
