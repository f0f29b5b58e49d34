//! Rules for numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::path::{Errors, Path};
use super::rules;
use crate::api::FieldError;

const PERCENT_TEXT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
     regex used for validation is '[0-9]+%')";

/// The percentage, if it is one.
pub fn percent(value: &IntOrString) -> Option<i32> {
    match value {
        IntOrString::Int(_) => None,
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%')?;
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) { None } else { digits.parse().ok() }
        }
    }
}

/// Not negative, and a percentage if it is text.
pub fn check(errors: &mut Errors, path: &Path, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => rules::non_negative(errors, path, *number),
        IntOrString::String(text) if percent(value).is_none() => errors.push(FieldError::invalid(path, text, PERCENT_TEXT)),
        IntOrString::String(_) => {}
    }
}

/// No percentage above 100.
pub fn check_at_most_100(errors: &mut Errors, path: &Path, value: &IntOrString) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
}

/// Whether it is 0 or `0%`.
pub fn is_zero(value: Option<&IntOrString>) -> bool {
    value.is_none_or(|value| *value == IntOrString::Int(0) || percent(value) == Some(0))
}
