//! Regular expressions with RE2's meaning (cel-go's `matches`, apiserver `pkg/cel/library/regex.go`).
//!
//! The crate `regex` has RE2's running time. Its syntax differs in what classes such as `\d` cover and in what is special inside of
//! brackets, so patterns are translated first.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::operators::texts;
use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;

/// Largest compiled pattern.
const MAX_SIZE: usize = 1 << 20;

pub(super) const TABLE: &[Row] = &[
    Row("matches", matches, &["matches|(string, string) -> bool", "matches_string|string.(string) -> bool"]),
    Row("find", find, &["string_find_string|string.(string) -> string"]),
    Row(
        "findAll",
        find_all,
        &["string_find_all_string|string.(string) -> list(string)", "string_find_all_string_int|string.(string, int) -> list(string)"],
    ),
];

/// Compiles a pattern, or says what is wrong with it.
pub(in crate::api::cel) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern).ok_or_else(|| format!("error parsing regexp: invalid escape sequence: `{pattern}`"))?;
    RegexBuilder::new(&translated).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".into(),
        _ => format!("error parsing regexp: `{pattern}`"),
    })
}

fn pattern<'c>(context: &'c Context<'_, '_>, text: &str) -> Res<Cow<'c, Regex>> {
    if let Some(known) = context.regex(text) {
        return Ok(Cow::Borrowed(known));
    }
    compile(text).map(Cow::Owned).map_err(EvalError::new)
}

fn matches<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(Value::Bool(pattern(context, args[1].str()?)?.is_match(args[0].str()?)))
}

fn find<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let found = pattern(context, args[1].str()?)?.find(args[0].str()?).map(|found| found.as_str().to_string());
    Ok(found.unwrap_or_default().into())
}

fn find_all<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let limit = usize::try_from(args.get(2).map(Value::int).transpose()?.unwrap_or(-1)).unwrap_or(usize::MAX);
    Ok(texts(pattern(context, args[1].str()?)?.find_iter(args[0].str()?).take(limit).map(|found| found.as_str().to_string())))
}

/// RE2's syntax as that of the crate: Perl classes are ASCII, `\Q...\E` quotes, and inside of brackets only RE2's signs are special.
fn translate(pattern: &str) -> Option<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 16);
    let (mut at, mut in_class, mut repeated) = (0, false, Repeated::No);
    while at < chars.len() {
        let c = chars[at];
        if !in_class && let Some(length) = repetition(&chars[at..])? {
            repeated = match (repeated, c) {
                (Repeated::No, _) => Repeated::Greedy,
                (Repeated::Greedy, '?') => Repeated::Lazy,
                _ => return None,
            };
            out.extend(&chars[at..at + length]);
            at += length;
            continue;
        }
        repeated = Repeated::No;
        at += 1;
        if c == '\\' {
            let escaped = *chars.get(at)?;
            at += 1;
            if escaped == 'Q' {
                let end = (at..chars.len()).find(|end| chars[*end] == '\\' && chars.get(end + 1) == Some(&'E'));
                let quoted: String = chars[at..end.unwrap_or(chars.len())].iter().collect();
                out.push_str(&regex::escape(&quoted));
                at = end.map_or(chars.len(), |end| end + 2);
                continue;
            }
            escape(escaped, in_class, &mut out)?;
        } else if !in_class {
            if c == '{' {
                out.push('\\');
            }
            out.push(c);
            if c == '(' && chars.get(at) == Some(&'?') {
                out.push('?');
                at += 1;
            }
            if c == '[' {
                in_class = true;
                for first in ['^', ']'] {
                    if chars.get(at) == Some(&first) {
                        // A bracket right behind the opening one is itself.
                        out.push_str(if first == ']' { "\\]" } else { "^" });
                        at += 1;
                    }
                }
            }
        } else {
            match c {
                ']' => {
                    in_class = false;
                    out.push(']');
                }
                '[' if chars.get(at) == Some(&':') => {
                    let end = (at..chars.len().saturating_sub(1)).find(|end| chars[*end] == ':' && *end > at && chars[end + 1] == ']')?;
                    out.push('[');
                    out.extend(&chars[at..end + 2]);
                    at = end + 2;
                }
                '[' | '&' | '~' => {
                    out.push('\\');
                    out.push(c);
                }
                '-' if chars.get(at) == Some(&'-') => out.push_str("\\-"),
                _ => out.push(c),
            }
        }
    }
    Some(out)
}

/// Whether what stands before is repeated already: RE2 knows no repetition of a repetition.
enum Repeated {
    No,
    Greedy,
    Lazy,
}

/// The length of the operator that `chars` begins with, if it is `*`, `+`, `?` or `{n,m}`; `None` if it repeats too often.
fn repetition(chars: &[char]) -> Option<Option<usize>> {
    match chars.first() {
        Some('*' | '+' | '?') => return Some(Some(1)),
        Some('{') => {}
        _ => return Some(None),
    }
    let Some(end) = chars.iter().position(|c| *c == '}') else { return Some(None) };
    let inner: String = chars[1..end].iter().collect();
    let (low, high) = inner.split_once(',').unwrap_or((&inner, "0"));
    let counts = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if low.is_empty() || !counts(low) || !counts(high) {
        return Some(None);
    }
    let few = |text: &str| text.is_empty() || text.parse::<u32>().is_ok_and(|count| count <= 1000);
    (few(low) && few(high)).then_some(Some(end + 1))
}

fn escape(c: char, in_class: bool, out: &mut String) -> Option<()> {
    let (positive, class) = match c.to_ascii_lowercase() {
        'd' => (c == 'd', "0-9"),
        'w' => (c == 'w', "0-9A-Za-z_"),
        's' => (c == 's', r"\t\n\x0C\r "),
        _ => {
            match c {
                'b' | 'B' if !in_class => out.push_str(&format!("(?-u:\\{c})")),
                // Names, properties and numbers mean the same in both; what is no letter stands for itself.
                'A' | 'z' if !in_class => out.extend(['\\', c]),
                'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'x' | 'p' | 'P' => out.extend(['\\', c]),
                // Not as it is: `\<` is a boundary to the crate.
                c if c.is_ascii_punctuation() => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                _ => return None,
            }
            return Some(());
        }
    };
    match (positive, in_class) {
        (true, true) => out.push_str(class),
        (true, false) => out.push_str(&format!("[{class}]")),
        // A class within a class.
        (false, _) => out.push_str(&format!("[^{class}]")),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_re2_means() {
        for (pattern, text, found) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^\w+$", "ä", false),
            (r"^\W$", "ä", true),
            (r"^[\d.]+$", "1.2", true),
            (r"^[\D]+$", "ab", true),
            (r"^[^\s]$", " ", false),
            (r"^[[a]$", "[", true),
            (r"^[]a]$", "]", true),
            (r"^[^]a]$", "]", false),
            (r"^[[:alpha:]&&b]+$", "a&b", true),
            (r"\Qa.b\E$", "a.b", true),
            (r"\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^a\/b\-c$", "a/b-c", true),
            (r"(?i)^ABC$", "abc", true),
            (r"^(?P<x>a)(?:b)$", "ab", true),
            (r"^\pL+$", "äb", true),
            (r"^.$", "ä", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^{a}$", "{a}", true),
            (r"^a{2,}?b??$", "aaa", true),
            (r"^\<$", "<", true),
        ] {
            assert_eq!(compile(pattern).map(|regex| regex.is_match(text)), Ok(found), "{pattern} {text}");
        }
        for pattern in ["[", "(", "a**", "\\", r"\y", "(?=a)", r"(a)\1", "a{1001}", "a{2}{3}"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
