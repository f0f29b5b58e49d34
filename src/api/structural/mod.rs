//! Schemas of custom resources, and what they do to values. Pure.
//!
//! Words: a *schema* is one node of a version's `openAPIV3Schema`, parsed once ([`Schema`]) and shared by everything below. A schema is
//! *structural* when every field is described outside of `allOf`, `anyOf`, `oneOf` and `not` ([`check`]). A value is *pruned* of what
//! no schema describes, *defaulted*, *coerced* (embedded metadata made well-formed) and *validated*. Validation is *ratcheted*: what
//! an update leaves as it was is not held against it.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/schema` and `pkg/apiserver/validation`, and kube-openapi `pkg/validation`.
//! The texts are part of the API.
//!
//! Invariant: recursion is bounded by the depth of the value or of the schema, both of which were bounded when they were parsed.
//!
//! Never: CEL (that is [`crate::api::cel`]'s), or knowledge of a CustomResourceDefinition beyond its schemas.

mod check;
mod defaults;
mod field_path;
mod formats;
mod list_types;
mod objectmeta;
mod path;
mod pattern;
mod prune;
mod schema;
#[cfg(test)]
mod tests;
mod validate;
mod verdict;

pub use check::{check, check_defaults};
pub use defaults::{drop_nulls, fill};
pub use field_path::{FieldPathError, ValidPath, valid_field_path};
pub use list_types::validate_list_types;
pub use objectmeta::{Coerce, coerce, metadata, validate_embedded};
pub use path::Path;
pub use pattern::{Pattern, translate};
pub use prune::prune;
pub use schema::{Additional, Rule, Schema};
pub use validate::{validate, validate_update};
