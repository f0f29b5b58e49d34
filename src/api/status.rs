//! Errors as the API shows them: `Status` objects.
//!
//! One constructor per upstream reason (apimachinery `api/errors/errors.go`); the HTTP layer only serialises them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One invalid field, as upstream's `field.Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Why, in upstream's words: `FieldValueRequired`, `FieldValueInvalid`, ...
    pub reason: &'static str,
    /// Path, such as `spec.containers[0].name`.
    pub field: String,
    /// What is wrong and what would be right, with the offending value where upstream shows it.
    pub message: String,
}

impl FieldError {
    /// A missing value.
    pub fn required(field: impl Into<String>, detail: impl fmt::Display) -> FieldError {
        let detail = detail.to_string();
        let message = if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        FieldError { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A malformed value; strings are shown quoted, as upstream does.
    pub fn invalid(field: impl Into<String>, value: impl Serialize, detail: impl fmt::Display) -> FieldError {
        let message = format!("Invalid value: {}: {detail}", shown(&value));
        FieldError { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// A malformed value that is too large to be shown.
    pub fn invalid_without_value(field: impl Into<String>, detail: impl fmt::Display) -> FieldError {
        FieldError { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {detail}") }
    }

    /// A value outside of an enumeration.
    pub fn not_supported(field: impl Into<String>, value: impl Serialize, allowed: &[&str]) -> FieldError {
        let allowed = allowed.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ");
        let message = format!("Unsupported value: {}: supported values: {allowed}", shown(&value));
        FieldError { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// A value that may not be there.
    pub fn forbidden(field: impl Into<String>, detail: impl fmt::Display) -> FieldError {
        FieldError { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    /// A second use of a value that must be unique.
    pub fn duplicate(field: impl Into<String>, value: impl Serialize) -> FieldError {
        let message = format!("Duplicate value: {}", shown(&value));
        FieldError { reason: "FieldValueDuplicate", field: field.into(), message }
    }

    /// A reference to something that is not there.
    pub fn not_found(field: impl Into<String>, value: impl Serialize) -> FieldError {
        FieldError { reason: "FieldValueNotFound", field: field.into(), message: format!("Not found: {}", shown(&value)) }
    }

    /// A value that is too long.
    pub fn too_long(field: impl Into<String>, max_bytes: usize) -> FieldError {
        let message = format!("Too long: may not be more than {max_bytes} bytes");
        FieldError { reason: "FieldValueTooLong", field: field.into(), message }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("<{error}>"))
}

/// One entry of `Status.details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Machine-readable reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Human-readable text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Field path, if one is at fault.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `Status.details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Object name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource (or kind, for validation errors), as upstream.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Object uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What exactly is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// With [`Status::expired`]: a `continue` token that works, shown as the body's `metadata.continue`.
    #[serde(skip)]
    pub continue_token: Option<String>,
}

/// A refusal, as it goes over the wire. The body is made by [`Status::to_json`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Upstream's `StatusReason`, such as `NotFound`.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: Option<Box<Details>>,
}

/// `pods` or `deployments.apps`, as messages show a resource.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.into() } else { format!("{resource}.{group}") }
}

impl Status {
    /// A refusal without details.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Status {
        Status { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Status {
        let details = self.details.get_or_insert_default();
        (details.group, details.kind, details.name) = (group.into(), kind.into(), name.into());
        self
    }

    /// 400: the request can't be understood.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 401: nobody we know.
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: known, but not allowed. `why` ends the sentence.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Status {
        let message = match name {
            "" => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource)),
        };
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(group, resource))).about(group, resource, name)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 405: the resource has no such verb.
    pub fn method_not_allowed(verb: &str) -> Status {
        Status::new(405, "MethodNotAllowed", format!("{verb} is not supported on resources of this kind"))
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        Status::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(group, resource))).about(group, resource, name)
    }

    /// 409: decided on an older revision, or a precondition failed.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Status {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        Status::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409 with upstream's text for a lost update.
    pub fn modified(group: &str, resource: &str, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    /// 410: the history that was asked for is gone.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// 413: the body is too large.
    pub fn too_large(limit: usize) -> Status {
        Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 415: a content type we do not read.
    pub fn unsupported_media_type(message: impl Into<String>) -> Status {
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 406: a form we do not write.
    pub fn not_acceptable(message: impl Into<String>) -> Status {
        Status::new(406, "NotAcceptable", message)
    }

    /// 422: understood, but these fields are wrong. `kind` is the Kind, not the resource, as upstream.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Status {
        let list = match errors.as_slice() {
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(FieldError::to_string).collect::<Vec<_>>().join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid: {list}", qualified(group, kind));
        let mut status = Status::new(422, "Invalid", message).about(group, kind, name);
        let causes = errors.into_iter().map(|e| Cause { reason: e.reason.into(), message: e.message, field: e.field });
        status.details.get_or_insert_default().causes = causes.collect();
        status
    }

    /// 429: too much at once; try again.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let mut status = Status::new(429, "TooManyRequests", message);
        status.details.get_or_insert_default().retry_after_seconds = Some(retry_after_seconds);
        status
    }

    /// 500: our fault.
    pub fn internal(message: impl fmt::Display) -> Status {
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {message}"));
        let causes = &mut status.details.get_or_insert_default().causes;
        causes.push(Cause { message: message.to_string(), ..Cause::default() });
        status
    }

    /// 503: not now, for instance because the disk is full.
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: impl Into<String>) -> Status {
        Status::new(504, "Timeout", message)
    }

    /// The `Status` object as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let token = self.details.as_ref().and_then(|details| details.continue_token.as_ref());
        let metadata = token.map_or_else(|| serde_json::json!({}), |token| serde_json::json!({"continue": token}));
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code,
        });
        let mut body = body;
        if self.details.is_none()
            && let Some(map) = body.as_object_mut()
        {
            map.remove("details");
        }
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let status = Status::invalid("apps", "Deployment", "web", vec![FieldError::required("spec.selector", "")]);
        assert_eq!(status.message, "Deployment.apps \"web\" is invalid: spec.selector: Required value");
        let body: serde_json::Value = serde_json::from_slice(&status.to_json()).expect("valid JSON");
        assert_eq!(body["details"]["causes"][0]["field"], "spec.selector");
        assert_eq!(body["code"], 422);
        assert_eq!(Status::not_found("", "pods", "a").message, "pods \"a\" not found");
        assert_eq!(FieldError::invalid("a", "x", "no").message, "Invalid value: \"x\": no");
    }
}
