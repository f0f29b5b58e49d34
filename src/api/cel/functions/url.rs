//! URLs (apiserver `pkg/cel/library/urls.go`, Go's `net/url.ParseRequestURI`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::operators::texts;
use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::opaque::Opaque;
use crate::api::cel::value::{Key, Map, Text};

pub(super) const TABLE: &[Row] = &[
    Row(
        "url",
        |_, args| {
            let text = args[0].str()?;
            let url = Url::parse(text)
                .map_err(|why| EvalError::new(format!("URL parse error during conversion from string: parse {text:?}: {why}")))?;
            Ok(Opaque::Url(url).into())
        },
        &["string_to_url|(string) -> kubernetes.URL"],
    ),
    Row("isURL", |_, args| Ok(Value::Bool(Url::parse(args[0].str()?).is_ok())), &["is_url_string|(string) -> bool"]),
    Row("getScheme", |_, args| Ok(url(&args[0])?.scheme.clone().into()), &["url_get_scheme|kubernetes.URL.() -> string"]),
    Row("getHost", |_, args| Ok(url(&args[0])?.host.clone().into()), &["url_get_host|kubernetes.URL.() -> string"]),
    Row("getHostname", |_, args| Ok(url(&args[0])?.split_host().0.to_string().into()), &["url_get_hostname|kubernetes.URL.() -> string"]),
    Row("getPort", |_, args| Ok(url(&args[0])?.split_host().1.to_string().into()), &["url_get_port|kubernetes.URL.() -> string"]),
    Row("getEscapedPath", |_, args| Ok(url(&args[0])?.path.clone().into()), &["url_get_escaped_path|kubernetes.URL.() -> string"]),
    Row("getQuery", query, &["url_get_query|kubernetes.URL.() -> map(string, list(string))"]),
];

fn url<'v>(value: &'v Value<'_>) -> Res<&'v Url> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn query<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // Like Go, what is malformed is left out.
    for pair in url(&args[0])?.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (unescape(name), unescape(value)) {
            found.entry(name).or_default().push(value);
        }
    }
    let entries = found.into_iter().map(|(name, values)| (Key::String(Text::Shared(name.into())), texts(values.into_iter())));
    Ok(Value::Map(Map::Owned(Arc::new(entries.collect()))))
}

/// Percent escapes and plus signs of a query, resolved.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))?);
                rest = &rest[2..];
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A URL in its parts, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
    text: String,
}

impl Url {
    /// An absolute URL, or an absolute path.
    fn parse(text: &str) -> Result<Url, String> {
        if text.is_empty() {
            return Err("empty url".into());
        }
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err("net/url: invalid control character in URL".into());
        }
        let (scheme, rest) = scheme(text)?;
        if scheme.is_empty() && !rest.starts_with('/') {
            return Err("invalid URI for request".into());
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !scheme.is_empty() && !before.starts_with('/') {
            return Err("invalid URI for request".into());
        }
        let (authority, path) = match before.strip_prefix("//") {
            Some(after) if !scheme.is_empty() || !after.starts_with('/') => after.split_at(after.find('/').unwrap_or(after.len())),
            _ => ("", before),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        check_host(host)?;
        check_escapes(path)?;
        Ok(Url { scheme: scheme.to_ascii_lowercase(), host: host.into(), path: encode_path(path), query: query.into(), text: text.into() })
    }

    /// Says what is wrong with `text`, if it is no URL.
    pub(super) fn check(text: &str) -> Result<(), String> {
        Url::parse(text).map(drop)
    }

    /// Name or address without brackets, and port.
    fn split_host(&self) -> (&str, &str) {
        let (name, port) = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => (name, port),
            _ => (self.host.as_str(), ""),
        };
        (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".into()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if let Some(rest) = host.strip_prefix('[') {
        let Some((_, port)) = rest.split_once(']') else { return Err("missing ']' in host".into()) };
        port
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    let valid = port.is_empty() || (port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit()));
    if !valid {
        return Err(format!("invalid port {port:?} after host"));
    }
    match host.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        Some(c) => Err(format!("invalid character \"{c}\" in host name")),
        None => Ok(()),
    }
}

fn check_escapes(path: &str) -> Result<(), String> {
    for (at, _) in path.match_indices('%') {
        let escape = path.get(at..at + 3).unwrap_or(&path[at..]);
        if escape.len() < 3 || !escape[1..].bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    Ok(())
}

/// What a path may not hold plainly is escaped, what is escaped stays so.
fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            out.push(byte as char)
        } else {
            out.push_str(&format!("%{byte:02X}"))
        }
    }
    out
}
