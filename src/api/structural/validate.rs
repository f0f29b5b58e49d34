//! Values under schemas, with kube-openapi's messages, and ratcheting on update.
//!
//! Follows kube-openapi `pkg/validation/validate` (each validator here is one there, in the same order) and apiextensions-apiserver
//! `pkg/apiserver/validation/{validation,ratcheting}.go`: an error in a part that the update left as it was is no error. Parts are found
//! again by field name, and in lists of type `map` by their keys; elements of other lists are not, nor is anything below `allOf`,
//! `anyOf`, `oneOf` and `not`.

use serde_json::{Map, Number, Value};

use super::Path;
use super::formats::{is_supported_format, matches};
use super::schema::{Additional, Schema};
use super::verdict::{At, Verdict};
use crate::api::FieldError;

/// Every way in which `value` is not of `schema`. `base` is put before the path of each field.
pub fn validate(value: &Value, schema: &Schema, base: Path<'_>) -> Vec<FieldError> {
    node(value, None, schema, At { base, path: Path::ROOT }).errors
}

/// The same, less what `old` violated too and the update left as it was.
pub fn validate_update(value: &Value, old: &Value, schema: &Schema, base: Path<'_>) -> Vec<FieldError> {
    correlated(value, Some(old), schema, At { base, path: Path::ROOT }).errors
}

/// A value and what it was before, if that is known.
fn correlated(value: &Value, old: Option<&Value>, schema: &Schema, at: At<'_>) -> Verdict {
    let mut verdict = node(value, old, schema, at);
    if !verdict.is_valid() && old.is_some_and(|old| old == value) {
        verdict.errors.clear();
    }
    verdict
}

fn node(value: &Value, old: Option<&Value>, schema: &Schema, at: At<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    types(value, schema, &at, &mut verdict);
    if value.is_null() {
        enumeration(value, schema, &at, &mut verdict);
        return verdict;
    }
    verdict.merge(combinations(value, schema, at));
    match value {
        Value::String(text) => {
            string(text, schema, &at, &mut verdict);
            format(text, schema, &at, &mut verdict);
        }
        Value::Number(number) => numbers(number, schema, &at, &mut verdict),
        Value::Array(list) => array(list, old, schema, at, &mut verdict),
        _ => {}
    }
    enumeration(value, schema, &at, &mut verdict);
    if let Value::Object(map) = value {
        object(map, old, schema, at, &mut verdict);
    }
    // One for each validator that applies, and one for the whole.
    verdict.matches += 4;
    verdict
}

/// JSON's name of a value's type, and the format that Go would see in it.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn types(value: &Value, schema: &Schema, at: &At<'_>, verdict: &mut Verdict) {
    let allowed: &[&str] = match (schema.int_or_string, schema.type_.as_str()) {
        (true, _) => &["integer", "string"],
        (false, "") => &[],
        (false, _) => &[&schema.type_],
    };
    let format = if is_supported_format(&schema.type_, &schema.format) && !schema.int_or_string { schema.format.as_str() } else { "" };
    if allowed.is_empty() && format.is_empty() {
        return;
    }
    verdict.matches += 1;
    let (found, found_format) = type_of(value);
    if value.is_null() {
        if !allowed.is_empty() && !schema.nullable {
            verdict.wrong_type(at, &allowed.join(","), found);
        }
        return;
    }
    let has = |kind: &str| allowed.contains(&kind);
    let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0) && found == "number" && has("integer");
    let fits = has(found) || whole || (found == "integer" && has("number"));
    let is_text = matches!(value, Value::String(_) | Value::Array(_));
    if !is_text && !format.is_empty() && !fits && found_format != format {
        verdict.wrong_type(at, format, found_format);
    } else if is_text && !(has("number") || has("integer") || format.is_empty()) {
        // The format validator says what there is to say.
    } else if !fits {
        verdict.wrong_type(at, &allowed.join(","), found);
    }
}

fn string(text: &str, schema: &Schema, at: &At<'_>, verdict: &mut Verdict) {
    if schema.max_length.is_none() && schema.min_length.is_none() && schema.pattern.is_none() {
        return;
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        return verdict.too_long(at, most);
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        return verdict.refuse(at, text, format_args!("should be at least {least} chars long"));
    }
    if let Some(pattern) = &schema.pattern {
        match pattern.is_match(text) {
            Ok(true) => {}
            Ok(false) => verdict.refuse(at, text, format_args!("should match '{}'", pattern.text())),
            Err(why) => verdict.refuse(at, text, format_args!("should match '{}, but pattern is invalid: {why}'", pattern.text())),
        }
    }
}

fn format(text: &str, schema: &Schema, at: &At<'_>, verdict: &mut Verdict) {
    let known = matches!(schema.type_.as_str(), "" | "string") && !schema.format.is_empty() && !schema.int_or_string;
    if known && !matches(&schema.format, text) {
        verdict.wrong_type(at, &schema.format, text);
    }
}

fn numbers(number: &Number, schema: &Schema, at: &At<'_>, verdict: &mut Verdict) {
    if schema.type_ == "integer" && schema.format == "int32" && number.as_i64().is_some_and(|number| i32::try_from(number).is_err()) {
        verdict.whole(at, format_args!("Checked value must be of type integer with format int32 in {}", at.name()));
    }
    let value = number.as_f64().unwrap_or_default();
    if let Some(factor) = schema.multiple_of {
        let ratio = match number.as_i64() {
            // Integers are divided as such.
            Some(whole) if factor.fract() == 0.0 && factor >= 1.0 && whole % (factor as i64) == 0 => 0.0,
            Some(_) if factor.fract() == 0.0 && factor >= 1.0 => 0.5,
            _ if factor < 1.0 => 1.0 / factor * value,
            _ => value / factor,
        };
        if factor < 0.0 {
            verdict.refuse(at, factor, format_args!("factor MultipleOf declared for {} must be positive: {}", at.name(), Go(factor)));
        } else if (ratio - ratio.round()).abs() > 1e-9 * ratio.abs().max(1.0) {
            verdict.refuse(at, number, format_args!("should be a multiple of {}", Go(factor)));
        }
    }
    if let Some(most) = schema.maximum {
        let (holds, than) = if schema.exclusive_maximum { (value < most, "less than") } else { (value <= most, "less than or equal to") };
        if !holds {
            verdict.refuse(at, number, format_args!("should be {than} {}", Go(most)));
        }
    }
    if let Some(least) = schema.minimum {
        let (holds, than) =
            if schema.exclusive_minimum { (value > least, "greater than") } else { (value >= least, "greater than or equal to") };
        if !holds {
            verdict.refuse(at, number, format_args!("should be {than} {}", Go(least)));
        }
    }
}

/// A number as Go's `%v` prints it.
struct Go(f64);

impl std::fmt::Display for Go {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exponent = if self.0 == 0.0 { 0.0 } else { self.0.abs().log10().floor() };
        if (-4.0..21.0).contains(&exponent) {
            return write!(f, "{}", self.0);
        }
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        write!(f, "{digits}e{sign}{exponent:0>2}")
    }
}

fn array(list: &[Value], old: Option<&Value>, schema: &Schema, at: At<'_>, verdict: &mut Verdict) {
    if let Some(items) = &schema.items {
        for (index, value) in list.iter().enumerate() {
            let path = at.path.index(index);
            verdict.merge(correlated(value, was_element(value, old, schema), items, At { path, ..at }));
        }
    }
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_items.filter(|least| length < *least) {
        verdict.refuse(&at, length, format_args!("should have at least {least} items"));
    }
    if let Some(most) = schema.max_items.filter(|most| length > *most) {
        verdict.too_many(&at, list.len(), most);
    }
    if schema.unique_items {
        let mut seen = std::collections::HashSet::new();
        if !list.iter().all(|value| seen.insert(value.to_string())) {
            verdict.refuse(&at, "", format_args!("shouldn't contain duplicates"));
        }
    }
}

/// The element of the old list that has the same keys.
fn was_element<'a>(value: &Value, old: Option<&'a Value>, schema: &Schema) -> Option<&'a Value> {
    let old = old?.as_array().filter(|_| schema.list_type.as_deref() == Some("map"))?;
    let default = |key: &str| schema.items.as_ref().and_then(|items| items.properties.get(key)).and_then(|field| field.default.as_deref());
    let key = |element: &Value, key: &str| element.get(key).or_else(|| default(key)).cloned();
    old.iter().find(|other| schema.list_map_keys.iter().all(|name| key(other, name) == key(value, name)))
}

fn enumeration(value: &Value, schema: &Schema, at: &At<'_>, verdict: &mut Verdict) {
    let Some(listed) = schema.enumeration.as_ref().filter(|listed| !listed.is_empty()) else { return };
    let equal = |other: &Value| match (value, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    };
    if !listed.iter().any(equal) {
        verdict.not_listed(at, value, listed);
    }
}

fn object(map: &Map<String, Value>, old: Option<&Value>, schema: &Schema, at: At<'_>, verdict: &mut Verdict) {
    let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_properties.filter(|least| size < *least) {
        return verdict.refuse(&at, least, format_args!("should have at least {least} properties"));
    }
    if let Some(most) = schema.max_properties.filter(|most| size > *most) {
        return verdict.too_many(&at, map.len(), most);
    }
    for (name, value) in map.iter().filter(|(name, _)| !schema.properties.contains_key(*name)) {
        match &schema.additional {
            Additional::Unset | Additional::Allowed(true) => {}
            Additional::Allowed(false) => {
                verdict.refuse(&At { path: at.path, ..at }, name, format_args!("is a forbidden property"));
            }
            Additional::Schema(other) => {
                let was = old.and_then(|old| old.get(name));
                verdict.merge(correlated(value, was, other, At { path: at.path.field(name), ..at }));
            }
        }
    }
    for (name, field) in &schema.properties {
        if let Some(value) = map.get(name) {
            let was = old.and_then(|old| old.get(name));
            verdict.merge(correlated(value, was, field, At { path: at.path.field(name), ..at }));
        }
    }
    for name in schema.required.iter().filter(|name| !map.contains_key(*name)) {
        let at = At { path: at.path.field(name), ..at };
        verdict.errors.push(FieldError::required(at.field(), ""));
    }
}

/// `allOf`, `anyOf`, `oneOf`, `not`.
fn combinations(value: &Value, schema: &Schema, at: At<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let name = || format!("{:?}", at.name());
    if !schema.any_of.is_empty() {
        let mut best: Option<Verdict> = None;
        for one in &schema.any_of {
            let found = node(value, None, one, at);
            let better = found.is_valid() || best.as_ref().is_none_or(|best| found.matches > best.matches);
            let done = found.is_valid();
            best = if better { Some(found) } else { best };
            if done {
                break;
            }
        }
        let best = best.unwrap_or_default();
        if !best.is_valid() {
            verdict.whole(&at, format_args!("{} must validate at least one schema (anyOf)", name()));
        }
        verdict.merge(best);
    }
    if !schema.one_of.is_empty() {
        let found: Vec<Verdict> = schema.one_of.iter().map(|one| node(value, None, one, at)).collect();
        match found.iter().filter(|verdict| verdict.is_valid()).count() {
            1 => {}
            0 => {
                verdict.whole(&at, format_args!("{} must validate one and only one schema (oneOf). Found none valid", name()));
                let best = found.into_iter().reduce(|best, other| if other.matches > best.matches { other } else { best });
                verdict.merge(best.unwrap_or_default());
            }
            many => {
                let why =
                    format_args!("{} must validate one and only one schema (oneOf). Found {many} valid alternatives", name()).to_string();
                verdict.whole(&at, why);
            }
        }
    }
    if !schema.all_of.is_empty() {
        let mut valid = 0;
        for one in &schema.all_of {
            let found = node(value, None, one, at);
            valid += usize::from(found.is_valid());
            verdict.merge(found);
        }
        if valid != schema.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            verdict.whole(&at, format_args!("{} must validate all the schemas (allOf){none}", name()));
        }
    }
    if schema.not.as_ref().is_some_and(|not| node(value, None, not, at).is_valid()) {
        verdict.whole(&at, format_args!("{} must not validate the schema (not)", name()));
    }
    verdict
}
