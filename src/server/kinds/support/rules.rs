//! Validation rules that many kinds share, with upstream's texts (apimachinery `pkg/api/validation`, `pkg/apis/core/validation`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use serde::Serialize;

use super::path::{Errors, Path};
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};

/// Upstream's text for a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// A syntax rule of [`names`].
pub type Syntax = fn(&str) -> Result<(), String>;

/// A missing optional part, read as an empty one, as Go's zero values are.
pub fn part<T: Default + Clone>(value: &Option<T>) -> Cow<'_, T> {
    value.as_ref().map_or_else(|| Cow::Owned(T::default()), Cow::Borrowed)
}

/// The text of an optional string.
pub fn str_of(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// Refuses an empty text. Returns whether it was there.
pub fn required(errors: &mut Errors, path: &Path, value: &str) -> bool {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    !value.is_empty()
}

/// Refuses text of the wrong syntax, empty text too.
pub fn syntax(errors: &mut Errors, path: &Path, value: &str, rule: Syntax) {
    if let Err(why) = rule(value) {
        errors.push(FieldError::invalid(path, value, why));
    }
}

/// Required, and of the right syntax.
pub fn required_syntax(errors: &mut Errors, path: &Path, value: &str, rule: Syntax) {
    if required(errors, path, value) {
        syntax(errors, path, value, rule);
    }
}

/// If present, of the right syntax.
pub fn optional_syntax(errors: &mut Errors, path: &Path, value: &Option<String>, rule: Syntax) {
    if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
        syntax(errors, path, value, rule);
    }
}

/// Refuses a value outside of an enumeration; upstream lists the allowed ones sorted.
pub fn one_of(errors: &mut Errors, path: &Path, value: &str, allowed: &[&str]) {
    if !allowed.contains(&value) {
        let mut sorted = allowed.to_vec();
        sorted.sort_unstable();
        errors.push(FieldError::not_supported(path, value, &sorted));
    }
}

/// [`one_of`], with the allowed values in the order in which upstream lists them.
pub fn one_of_listed(errors: &mut Errors, path: &Path, value: &str, allowed: &[&str]) {
    if !allowed.contains(&value) {
        errors.push(FieldError::not_supported(path, value, allowed));
    }
}

/// Required, and one of an enumeration.
pub fn required_one_of(errors: &mut Errors, path: &Path, value: &str, allowed: &[&str]) {
    if required(errors, path, value) {
        one_of(errors, path, value, allowed);
    }
}

/// If present and not empty, one of an enumeration.
pub fn optional_one_of(errors: &mut Errors, path: &Path, value: &Option<String>, allowed: &[&str]) {
    if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
        one_of(errors, path, value, allowed);
    }
}

/// Required, and `DOMAIN/PATH`, as controllers name themselves.
pub fn domain_prefixed_path(errors: &mut Errors, path: &Path, value: &str) {
    const PATH: &str = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
    if !required(errors, path, value) {
        return;
    }
    let Some((domain, rest)) = value.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty()) else {
        errors.push(FieldError::invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")"));
        return;
    };
    syntax(errors, path, domain, names::subdomain);
    if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
        errors.push(FieldError::invalid(path, rest, format!("Invalid path (regex used for validation is '{PATH}')")));
    }
}

/// What somebody refers to by kind and name, and by group if it has one.
pub fn reference(errors: &mut Errors, path: &Path, group: Option<&str>, kind: &str, name: &str) {
    if let Some(group) = group {
        syntax(errors, &path.at("apiGroup"), group, names::subdomain);
    }
    required_syntax(errors, &path.at("kind"), kind, names::path_segment);
    required_syntax(errors, &path.at("name"), name, names::path_segment);
}

/// Conditions of a status (apimachinery `pkg/apis/meta/v1/validation`).
pub fn conditions(errors: &mut Errors, path: &Path, conditions: &[Condition]) {
    const LONGEST_REASON: usize = 1024;
    const LONGEST_MESSAGE: usize = 32 * 1024;
    for (index, one) in conditions.iter().enumerate() {
        let path = path.index(index);
        if conditions[..index].iter().any(|other| other.type_ == one.type_) {
            errors.push(FieldError::duplicate(path.at("type"), &one.type_));
        }
        syntax(errors, &path.at("type"), &one.type_, names::qualified);
        one_of(errors, &path.at("status"), &one.status, &["False", "True", "Unknown"]);
        if let Some(seen) = one.observed_generation.filter(|seen| *seen < 0) {
            errors.push(FieldError::invalid(path.at("observedGeneration"), seen, "must be greater than or equal to zero"));
        }
        if one.reason.is_empty() {
            errors.push(FieldError::required(path.at("reason"), "must be set"));
        } else {
            syntax(errors, &path.at("reason"), &one.reason, names::condition_reason);
        }
        for (field, text, most) in [("reason", &one.reason, LONGEST_REASON), ("message", &one.message, LONGEST_MESSAGE)] {
            if text.len() > most {
                errors.push(FieldError::too_long(path.at(field), most));
            }
        }
    }
}

/// Refuses a change.
pub fn immutable<T: PartialEq + Serialize>(errors: &mut Errors, path: &Path, new: &T, old: &T) {
    if new != old {
        errors.push(FieldError::invalid(path, new, IMMUTABLE));
    }
}

/// Refuses negative numbers.
pub fn non_negative(errors: &mut Errors, path: &Path, value: impl Into<i64>) {
    let value = value.into();
    if value < 0 {
        errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// [`non_negative`] of an optional number.
pub fn optional_non_negative(errors: &mut Errors, path: &Path, value: Option<impl Into<i64>>) {
    if let Some(value) = value {
        non_negative(errors, path, value);
    }
}

/// Refuses port numbers outside of 1..65535.
pub fn port_number(errors: &mut Errors, path: &Path, port: i32) {
    if let Err(why) = names::port_number(port) {
        errors.push(FieldError::invalid(path, port, why));
    }
}

/// Upstream's `field.TooMany`.
pub fn too_many(path: &Path, actual: usize, max: usize) -> FieldError {
    FieldError { reason: "FieldValueTooMany", field: path.into(), message: format!("Too many: {actual}: must have at most {max} items") }
}

/// Label keys and values; errors name the map, as upstream's do.
pub fn labels(errors: &mut Errors, path: &Path, map: Option<&BTreeMap<String, String>>) {
    for (key, value) in map.into_iter().flatten() {
        syntax(errors, path, key, names::qualified);
        syntax(errors, path, value, names::label_value);
    }
}

/// A label selector.
pub fn label_selector(errors: &mut Errors, path: &Path, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    labels(errors, &path.at("matchLabels"), selector.match_labels.as_ref());
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.at("matchExpressions").index(index);
        let values = requirement.values.as_deref().unwrap_or_default();
        let operator = requirement.operator.as_str();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(path.at("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(FieldError::forbidden(path.at("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Exists" | "DoesNotExist" => {}
            _ => errors.push(FieldError::invalid(path.at("operator"), operator, "not a valid selector operator")),
        }
        syntax(errors, &path.at("key"), &requirement.key, names::qualified);
        for (index, value) in values.iter().enumerate() {
            syntax(errors, &path.at("values").index(index), value, names::label_value);
        }
    }
}

/// Whether a selector matches nothing in particular, i.e. everything.
pub fn is_empty_selector(selector: Option<&LabelSelector>) -> bool {
    selector.is_none_or(|selector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    })
}

/// Whether a well-formed selector matches these labels.
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let found = value(&requirement.key);
            let listed = found.is_some_and(|found| requirement.values.iter().flatten().any(|one| one == found));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// A quantity that is well formed and not negative; `None` if it is neither.
pub fn quantity(errors: &mut Errors, path: &Path, amount: &Amount) -> Option<Quantity> {
    match Quantity::parse(&amount.0) {
        Err(why) => errors.push(FieldError::invalid(path, &amount.0, why)),
        Ok(parsed) if parsed.is_negative() => {
            errors.push(FieldError::invalid(path, &amount.0, "must be greater than or equal to 0"));
        }
        Ok(parsed) => return Some(parsed),
    }
    None
}
