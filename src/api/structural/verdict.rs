//! What a validation found: errors, and how much held, by which the best of several failures is chosen.

use serde::Serialize;
use serde_json::Value;

use super::Path;
use crate::api::FieldError;

/// The errors of one value under one schema.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub errors: Vec<FieldError>,
    /// How many tests were made, as kube-openapi counts them.
    pub matches: u32,
}

/// Upstream shows a field path that is not there so; errors of whole schemas have none.
const NOWHERE: &str = "<nil>";

impl Verdict {
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn merge(&mut self, other: Verdict) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }

    /// `PATH in body WHY`.
    pub fn refuse(&mut self, at: &At<'_>, value: impl Serialize, why: std::fmt::Arguments<'_>) {
        self.errors.push(FieldError::invalid(at.field(), value, format!("{} in body {why}", at.name())));
    }

    /// An error that names no field.
    pub fn whole(&mut self, at: &At<'_>, why: impl std::fmt::Display) {
        let field = if at.base.is_root() { NOWHERE.to_owned() } else { at.base.to_string() };
        self.errors.push(FieldError::invalid(field, "", why));
    }

    /// A value of another type, or of another format.
    pub fn wrong_type(&mut self, at: &At<'_>, wanted: &str, found: &str) {
        let error = FieldError::invalid(at.field(), found, format!("{} in body must be of type {wanted}: {found:?}", at.name()));
        self.errors.push(FieldError { reason: "FieldValueTypeInvalid", ..error });
    }

    pub fn too_many(&mut self, at: &At<'_>, actual: usize, most: i64) {
        let message = format!("Too many: {actual}: must have at most {most} items");
        self.errors.push(FieldError { reason: "FieldValueTooMany", field: at.field(), message });
    }

    pub fn too_long(&mut self, at: &At<'_>, most: i64) {
        let message = format!("Too long: may not be more than {most} bytes");
        self.errors.push(FieldError { reason: "FieldValueTooLong", field: at.field(), message });
    }

    pub fn not_listed(&mut self, at: &At<'_>, value: &Value, listed: &[Value]) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let listed: Vec<String> = listed.iter().map(text).collect();
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        match value {
            Value::Null => self.errors.push(FieldError::not_supported(at.field(), "null", &listed)),
            value => self.errors.push(FieldError::not_supported(at.field(), value, &listed)),
        }
    }
}

/// Where a value stands: below a base, which messages do not show but fields do.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub base: Path<'a>,
    pub path: Path<'a>,
}

impl At<'_> {
    /// As messages show it.
    pub fn name(&self) -> String {
        self.path.to_string()
    }
    /// As a cause's field.
    pub fn field(&self) -> String {
        match (self.base.is_root(), self.path.is_root()) {
            (true, true) => NOWHERE.to_owned(),
            (true, false) => self.path.to_string(),
            (false, true) => self.base.to_string(),
            (false, false) => format!("{}.{}", self.base, self.path),
        }
    }
}
