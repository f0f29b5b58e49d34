//! JSON paths of fields and map keys, checked against a schema: `.spec.a['b']`.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/schema/cel/validation.go`, `ValidFieldPath`.

use super::schema::{Additional, Schema};

/// A path that leads somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidPath<'a> {
    /// As field errors show it: `spec.a[b]`.
    pub shown: String,
    /// Its first part.
    pub root: String,
    /// What is there; `None` when nothing describes it.
    pub schema: Option<&'a Schema>,
}

/// Why a path leads nowhere. The text is upstream's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct FieldPathError(String);

fn wrong<T>(why: impl Into<String>) -> Result<T, FieldPathError> {
    Err(FieldPathError(why.into()))
}

/// Follows `path` down from `schema`. `brackets`: whether `['name']` is allowed.
pub fn valid_field_path<'a>(path: &str, schema: &'a Schema, brackets: bool) -> Result<ValidPath<'a>, FieldPathError> {
    let mut tokens = Tokens(path);
    let mut found = ValidPath { shown: String::new(), root: String::new(), schema: Some(schema) };
    while let Some(token) = tokens.next() {
        let (name, quoted) = match token {
            "." => match tokens.next() {
                Some(name) => (name.to_owned(), false),
                None => return wrong("unexpected end of JSON path"),
            },
            "[" if !brackets => return wrong("array notation is not allowed"),
            "[" => match tokens.next() {
                None => return wrong("unexpected end of JSON path"),
                Some(text) if text.len() < 2 || !text.starts_with('\'') || !text.ends_with('\'') => {
                    return wrong(format!("expected single quoted string but got {text}"));
                }
                Some(text) => (unescape(&text[1..text.len() - 1])?, true),
            },
            other => return wrong(format!("expected [ or . but got: {other}")),
        };
        step(&mut found, &name)?;
        if quoted {
            match tokens.next() {
                Some("]") => {}
                Some(other) => return wrong(format!("expected ] but got {other}")),
                None => return wrong("unexpected end of JSON path"),
            }
        }
    }
    Ok(found)
}

fn step(found: &mut ValidPath<'_>, name: &str) -> Result<(), FieldPathError> {
    let Some(schema) = found.schema else { return wrong("does not refer to a valid field") };
    let is_map = schema.properties.is_empty();
    found.schema = match (schema.properties.get(name), &schema.additional) {
        (Some(field), _) => Some(field),
        (None, Additional::Schema(other)) if is_map => Some(other),
        (None, Additional::Allowed(_)) if is_map => None,
        _ => return wrong("does not refer to a valid field"),
    };
    if found.root.is_empty() {
        found.root = name.into();
        found.shown = if is_map { format!("[{name}]") } else { name.into() };
    } else if is_map {
        found.shown += &format!("[{name}]");
    } else {
        found.shown += &format!(".{name}");
    }
    Ok(())
}

/// `.`, `[`, `]`, quoted strings, and what stands between them.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0;
        let first = text.chars().next()?;
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = text.as_bytes();
                (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\').map_or(text.len(), |at| at + 1)
            }
            _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, FieldPathError> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(c @ ('\'' | '\\')) => out.push(c),
            Some(other) => return wrong(format!("invalid string literal: invalid escape char \\{other}")),
            None => out.push('\\'),
        }
    }
    Ok(out)
}
