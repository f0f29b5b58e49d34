//! Field selectors: `metadata.name=a,spec.nodeName!=b`, with `\` before `\`, `,` and `=` in values.

use std::fmt;

use super::SelectorError;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Path, such as `metadata.name`.
    pub field: String,
    /// The value, unescaped.
    pub value: String,
    /// Whether the field must differ (`!=`).
    pub negated: bool,
}

/// A selection by fields. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// Longest match first, as upstream's `termOperators`.
const OPERATORS: &[&str] = &["!=", "==", "="];

impl FieldSelector {
    /// Parses the text form. Empty text selects everything.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms: Vec<&str> = split_terms(text).into_iter().filter(|term| !term.is_empty()).collect();
        terms.sort_unstable();
        let parse = |term: &str| {
            let (field, operator, value) =
                split_term(term).ok_or_else(|| SelectorError::Term { selector: text.into(), term: term.into() })?;
            Ok(FieldRequirement { field: field.into(), value: unescape(value)?, negated: operator == "!=" })
        };
        Ok(FieldSelector { requirements: terms.into_iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Its requirements; all must hold.
    pub fn requirements(&self) -> impl Iterator<Item = &FieldRequirement> {
        self.requirements.iter()
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The selector of one object's name.
    pub fn name(name: &str) -> FieldSelector {
        FieldSelector { requirements: vec![FieldRequirement { field: "metadata.name".into(), value: name.into(), negated: false }] }
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if requirement.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", requirement.field, escape(&requirement.value))?;
        }
        Ok(())
    }
}

/// Splits at commas that no backslash protects.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let operator = OPERATORS.iter().find(|operator| term[at..].starts_with(**operator))?;
        Some((&term[..at], *operator, &term[at + operator.len()..]))
    })
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                Some(c) => return Err(SelectorError::Escape(format!("\\{c}"))),
                None => return Err(SelectorError::Escape("\\".into())),
            },
            ',' | '=' => return Err(SelectorError::Unescaped(c)),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Result<String, String> {
        let show = |r: &FieldRequirement| format!("{}{}{}", r.field, if r.negated { "≠" } else { "=" }, r.value);
        FieldSelector::parse(text).map(|s| s.requirements().map(show).collect::<Vec<_>>().join(" ")).map_err(|e| e.to_string())
    }

    #[test]
    fn parses() {
        for (text, expect) in [
            ("", ""),
            (",", ""),
            ("a=b", "a=b"),
            ("a==b", "a=b"),
            ("a!=b", "a≠b"),
            ("a=", "a="),
            ("z=1,a=2", "a=2 z=1"),
            (r"a=x\,y\=z\\", r"a=x,y=z\"),
            ("metadata.name!=x,status.phase=Running", "metadata.name≠x status.phase=Running"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expect), "{text:?}");
        }
    }

    #[test]
    fn refuses_with_upstreams_words() {
        for (text, message) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
            (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(shown(text), Err(message.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn selects_by_name() {
        assert_eq!(FieldSelector::name("a").to_string(), "metadata.name=a");
        assert!(FieldSelector::default().is_empty() && !FieldSelector::name("a").is_empty());
    }

    proptest! {
        #[test]
        fn any_value_round_trips(value in ".*", negated: bool) {
            let selector = FieldSelector { requirements: vec![FieldRequirement { field: "a.b".into(), value, negated }] };
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        }
    }
}
