//! Wire types and pure rules of the Kubernetes API.
//!
//! Words: an *object* is one resource instance as clients see it; a *key* names it in the store; a *revision* is the store's
//! version that `metadata.resourceVersion` shows.
//!
//! Never: I/O, clocks, randomness, or an import of another module of this crate.

pub mod amounts;
pub mod apply;
pub mod cel;
pub mod cluster;
pub mod csr;
pub mod decode;
pub mod duration;
pub mod fairness;
pub mod fields;
pub mod join_token;
pub mod jsonpath;
pub mod key;
pub mod meta;
pub mod names;
pub mod patch;
pub mod pod;
pub mod policy;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod usage;
pub mod validations;
pub mod yaml;

pub use key::{Key, Rev, Scope};
pub use meta::{Kind, Object};
pub use status::{Cause, FieldError, Status};
