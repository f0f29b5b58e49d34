//! Named formats of strings (apiserver `pkg/cel/library/format.go`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::operators::texts;
use super::{Context, Res, Row, Value, regexes};
use crate::api::cel::error::EvalError;
use crate::api::cel::opaque::Opaque;
use crate::api::cel::time;
use crate::api::names;

/// A format.
#[derive(Debug)]
pub struct NamedFormat {
    /// As `format.named` knows it.
    pub name: &'static str,
    check: fn(&str) -> Result<(), String>,
}

impl PartialEq for NamedFormat {
    fn eq(&self, other: &NamedFormat) -> bool {
        self.name == other.name
    }
}

static FORMATS: &[NamedFormat] = &[
    NamedFormat { name: "dns1123Label", check: names::label },
    NamedFormat { name: "dns1123Subdomain", check: names::subdomain },
    NamedFormat { name: "dns1035Label", check: names::dns1035_label },
    NamedFormat { name: "qualifiedName", check: names::qualified },
    NamedFormat { name: "dns1123LabelPrefix", check: |text| names::label(&prefix(text)) },
    NamedFormat { name: "dns1123SubdomainPrefix", check: |text| names::subdomain(&prefix(text)) },
    NamedFormat { name: "dns1035LabelPrefix", check: |text| names::dns1035_label(&prefix(text)) },
    NamedFormat { name: "labelValue", check: names::label_value },
    NamedFormat { name: "uri", check: |text| super::url::Url::check(text).map_err(|why| format!("parse {text:?}: {why}")) },
    NamedFormat { name: "uuid", check: |text| holds(is_uuid(text), "does not match the UUID format") },
    NamedFormat { name: "byte", check: |text| holds(STANDARD.decode(text).is_ok(), "invalid base64") },
    NamedFormat { name: "date", check: |text| holds(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "invalid date") },
    NamedFormat { name: "datetime", check: |text| holds(time::parse_declared(text).is_some(), "invalid datetime") },
];

macro_rules! constant {
    ($name:literal, $index:literal) => {
        Row(concat!("format.", $name), |_, _| Ok(Opaque::Format(&FORMATS[$index]).into()), &["() -> kubernetes.NamedFormat"])
    };
}

pub(super) const TABLE: &[Row] = &[
    Row("format.named", named, &["format-named|(string) -> optional(kubernetes.NamedFormat)"]),
    Row("validate", validate, &["format-validate|kubernetes.NamedFormat.(string) -> optional(list(string))"]),
    constant!("dns1123Label", 0),
    constant!("dns1123Subdomain", 1),
    constant!("dns1035Label", 2),
    constant!("qualifiedName", 3),
    constant!("dns1123LabelPrefix", 4),
    constant!("dns1123SubdomainPrefix", 5),
    constant!("dns1035LabelPrefix", 6),
    constant!("labelValue", 7),
    constant!("uri", 8),
    constant!("uuid", 9),
    constant!("byte", 10),
    constant!("date", 11),
    constant!("datetime", 12),
];

/// A prefix may end in a dash; like upstream's `maskTrailingDash`, what stands before it is not looked at.
fn prefix(text: &str) -> String {
    let mut before = text.strip_suffix('-').unwrap_or_default().chars();
    if before.next_back().is_some() { format!("{}a", before.as_str()) } else { text.into() }
}

fn holds(holds: bool, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.into()) }
}

fn is_uuid(text: &str) -> bool {
    regexes::compile("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").is_ok_and(|uuid| uuid.is_match(text))
}

fn named<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let name = args[0].str()?;
    let found = FORMATS.iter().find(|format| format.name == name);
    Ok(Value::Optional(found.map(|format| Arc::new(Opaque::Format(format).into()))))
}

fn validate<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let Value::Opaque(opaque) = &args[0] else { return Err(EvalError::no_such_overload()) };
    let Opaque::Format(format) = &**opaque else { return Err(EvalError::no_such_overload()) };
    let fault = (format.check)(args[1].str()?).err();
    Ok(Value::Optional(fault.map(|fault| Arc::new(texts(std::iter::once(fault))))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_reached_by_its_own_name() {
        let constants = TABLE.iter().filter_map(|Row(name, ..)| name.strip_prefix("format.")).filter(|name| *name != "named");
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        assert_eq!(constants.collect::<Vec<_>>(), names);
        for (index, (good, bad)) in [
            ("a-b", "a.b"),
            ("a.b", "A"),
            ("a", "1"),
            ("a.b/c", "/"),
            ("a-", "-"),
            ("a.b-", "."),
            ("a-", "1a-"),
            ("", "-"),
            ("http://x", "x"),
            ("123e4567-e89b-12d3-a456-426614174000", "123"),
            ("aGVsbG8=", "?"),
            ("2021-01-01", "2021"),
            ("2021-01-01T00:00:00Z", "x"),
        ]
        .into_iter()
        .enumerate()
        {
            let check = FORMATS[index].check;
            assert!(check(good).is_ok() && check(bad).is_err(), "{}", FORMATS[index].name);
        }
    }
}
