//! Regular expressions in Go's dialect (RE2), which differs from that of the `regex` crate in details.
//!
//! In Go `\d`, `\w`, `\s` and `\b` are of ASCII, `[` within brackets is itself, and `&&`, `--`, `~~` within brackets mean nothing.

use regex::{Regex, RegexBuilder};

/// Most bytes that a compiled expression may take.
const MOST: usize = 1 << 20;

/// An expression as written, compiled once.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    compiled: Result<Regex, String>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Compiles; see [`Pattern::error`].
    pub fn new(text: &str) -> Pattern {
        let compiled = RegexBuilder::new(&translate(text)).size_limit(MOST).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("error parsing regexp: expression too large: `{text}`"),
            _ => format!("error parsing regexp: invalid expression: `{text}`"),
        });
        Pattern { text: text.into(), compiled }
    }
    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Why it is no expression, if it is none.
    pub fn error(&self) -> Option<&str> {
        self.compiled.as_ref().err().map(String::as_str)
    }
    /// Whether it is found in `value`. `Err` when it does not compile.
    pub fn is_match(&self, value: &str) -> Result<bool, &str> {
        self.compiled.as_ref().map(|compiled| compiled.is_match(value)).map_err(String::as_str)
    }
}

/// Go's dialect, written in that of the `regex` crate.
pub fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    // Within brackets: how many characters of the class came before, for the rule that a leading `]` is itself.
    let mut class: Option<usize> = None;
    while let Some(c) = chars.next() {
        match (c, class) {
            ('\\', _) => {
                let Some(escaped) = chars.next() else {
                    out.push('\\');
                    break;
                };
                escape(escaped, class.is_some(), &mut chars, &mut out);
                class = class.map(|count| count + 1);
            }
            ('[', None) => {
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                class = Some(0);
            }
            (']', Some(0)) => {
                out.push_str("\\]");
                class = Some(1);
            }
            (']', Some(_)) => {
                out.push(']');
                class = None;
            }
            ('[', Some(count)) => {
                // `[:alpha:]` is the same in both; any other bracket is itself.
                out.push_str(if chars.peek() == Some(&':') { "[" } else { "\\[" });
                if chars.peek() == Some(&':') {
                    for c in chars.by_ref() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                }
                class = Some(count + 1);
            }
            ('&' | '~', Some(count)) => {
                out.push('\\');
                out.push(c);
                class = Some(count + 1);
            }
            ('-', Some(count)) if chars.peek() == Some(&'-') => {
                // `+--` is a range that ends with a dash; two bare dashes would be a difference.
                chars.next();
                out.push_str("-\\-");
                class = Some(count + 2);
            }
            (other, inside) => {
                out.push(other);
                class = inside.map(|count| count + 1);
            }
        }
    }
    out
}

fn escape(escaped: char, inside: bool, rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let ascii = match (escaped, inside) {
        ('d', false) => "[0-9]",
        ('D', false) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('W', false) => "[^0-9A-Za-z_]",
        ('s', false) => "[\\t\\n\\f\\r ]",
        ('S', false) => "[^\\t\\n\\f\\r ]",
        ('b', false) => "(?-u:\\b)",
        ('d', true) => "0-9",
        ('D', true) => "[^0-9]",
        ('w', true) => "0-9A-Za-z_",
        ('W', true) => "[^0-9A-Za-z_]",
        ('s', true) => "\\t\\n\\f\\r ",
        ('S', true) => "[^\\t\\n\\f\\r ]",
        ('Q', false) => {
            let mut quoted = String::new();
            while let Some(c) = rest.next() {
                if c == '\\' && rest.next_if_eq(&'E').is_some() {
                    break;
                }
                quoted.push(c);
            }
            out.push_str(&regex::escape(&quoted));
            return;
        }
        (other, _) => {
            out.push('\\');
            out.push(other);
            return;
        }
    };
    out.push_str(ascii);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_dialect() {
        for (pattern, yes, no) in [
            (r"^\d+$", "123", "١٢٣"),
            (r"^\w+$", "az_9", "ä"),
            (r"^[\w.-]+$", "a.b-c", "a b"),
            (r"^[[a]$", "[", "b"),
            (r"^[]a]$", "]", "b"),
            (r"^[^]a]$", "b", "]"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[+--]$", ",", "x"),
            (r"^[[:alpha:]_]+$", "ab_", "1"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", "* * *"),
            (r"^\p{Greek}$", "α", "a"),
        ] {
            let compiled = Pattern::new(pattern);
            assert_eq!(compiled.error(), None, "{pattern}");
            assert_eq!((compiled.is_match(yes), compiled.is_match(no)), (Ok(true), Ok(false)), "{pattern}");
        }
        for bad in ["(", "[", "a{2,1}", "(?=x)", "\\"] {
            assert!(Pattern::new(bad).error().is_some(), "{bad}");
        }
    }
}
