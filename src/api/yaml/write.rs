//! Trees of JSON as YAML, in the look of upstream's: lists at their key's column, quotes where the text alone would be read as
//! something else, several lines as a block. Long lines are not folded.

use serde_json::{Map, Value};

use super::scalar;

/// A key longer than this is written as `? KEY`; readers take no more than 1024 characters before a colon.
const LONG_KEY: usize = 128;

/// The document, with a final line break.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => entries(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => list(&mut out, items, 0, false),
        // At the top there is no parent to indent a block by.
        Value::String(text) if text.contains('\n') => out.push_str(&format!("{}\n", double_quoted(text))),
        other => out.push_str(&format!("{}\n", inline(other))),
    }
    out
}

fn pad(out: &mut String, columns: usize) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// The entries of a map at a column; `led`: the first begins where the line is already.
fn entries(out: &mut String, map: &Map<String, Value>, column: usize, led: bool) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || !led {
            pad(out, column);
        }
        let key = if key.contains('\n') { double_quoted(key) } else { line(key) };
        if key.len() > LONG_KEY {
            out.push_str(&format!("? {key}\n"));
            pad(out, column);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                entries(out, map, column + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, column, false);
            }
            other => leaf(out, other, column),
        }
    }
}

fn list(out: &mut String, items: &[Value], column: usize, led: bool) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !led {
            pad(out, column);
        }
        out.push('-');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push(' ');
                entries(out, map, column + 2, true);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push(' ');
                list(out, items, column + 2, true);
            }
            other => leaf(out, other, column),
        }
    }
}

/// What has no parts, after a colon or a dash at `column`.
fn leaf(out: &mut String, value: &Value, column: usize) {
    out.push(' ');
    match value {
        Value::String(text) if text.contains('\n') && fits_block(text) => block(out, text, column + 2),
        Value::String(text) if text.contains('\n') => out.push_str(&format!("{}\n", double_quoted(text))),
        other => out.push_str(&format!("{}\n", inline(other))),
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Object(_) => "{}".into(),
        Value::Array(_) => "[]".into(),
        Value::String(text) => line(text),
        other => other.to_string(),
    }
}

/// Whether a reader of the block is sure to get the same text.
fn fits_block(text: &str) -> bool {
    let plain = text.chars().all(|c| c == '\n' || is_shown(c));
    plain && !text.contains(" \n") && !text.ends_with(' ') && !text.starts_with([' ', '\n', '\t'])
}

/// `|` with what says how many line breaks end it.
fn block(out: &mut String, text: &str, column: usize) {
    let body = text.trim_end_matches('\n');
    out.push_str(match text.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            pad(out, column);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Text of one line: plain if that is read back as this text.
fn line(text: &str) -> String {
    if text.is_empty() || !text.chars().all(is_shown) || text.contains('\t') || (is_plain(text) && says_more(text)) {
        double_quoted(text)
    } else if is_plain(text) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Whether a plain text would be no text to a reader: a number, a truth, a date, or one of YAML 1.1's numbers with colons.
fn says_more(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let date = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..6);
    let sixties = text.contains(':')
        && text.starts_with(['+', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '_' | '.' | '+' | '-'));
    date || sixties || text == "<<" || text == "=" || !matches!(scalar::resolve(text, None, true), Ok(Value::String(_)))
}

/// libyaml's `analyze_scalar`, for text outside `[]` and `{}`.
fn is_plain(text: &str) -> bool {
    let followed = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let first = text.chars().next().unwrap_or(' ');
    let begins_well = match first {
        '-' | '?' | ':' => !followed(&text[1..]),
        _ => !" #,[]{}&*!|>'\"%@`".contains(first),
    };
    let colons = text.match_indices(':').any(|(at, _)| followed(&text[at + 1..]));
    begins_well && !colons && !text.ends_with(' ') && !text.contains(" #") && !text.starts_with("---") && !text.starts_with("...")
}

/// JSON's escapes are YAML's; what JSON leaves bare and YAML does not is escaped too.
fn double_quoted(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        if is_shown(c) {
            out.push(c)
        } else {
            out.push_str(&format!("\\U{:08x}", u32::from(c)))
        }
        out
    })
}

/// Whether a character may stand as it is: no control, no break, no mark of byte order.
fn is_shown(c: char) -> bool {
    super::is_allowed(c) && !matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}
