//! What expressions cost, in CEL's units (about 50 ns each): at run time by what values are there, statically by what may be there.
//!
//! Both follow cel-go (`interpreter/runtimecost.go`, `checker/cost.go`) and apiserver `pkg/cel/library/cost.go`; limits that
//! objects and schemas are held to depend on these figures, so they are part of the API.

mod estimate;
mod range;
mod runtime;

pub use estimate::estimate;
pub use range::CostRange;
pub(super) use runtime::{after, before};

/// Reading a variable or a field.
pub(super) const SELECT: u64 = 1;
/// Making a list.
pub(super) const LIST: u64 = 10;
/// Making a map.
pub(super) const MAP: u64 = 30;
/// Making an object.
pub(super) const STRUCT: u64 = 40;

/// Walking a string, by character.
const STRING: f64 = 0.1;
/// Running a pattern, by its length.
const REGEX: f64 = 0.25;
/// A question to the authorizer.
const AUTHZ_CHECK: u64 = 350_000;
/// Length of the longest pattern behind a named format.
const FORMAT_REGEX: f64 = 128.0;
