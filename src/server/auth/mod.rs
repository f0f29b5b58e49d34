//! Who asks, and whether they may.
//!
//! [`authn`] turns a request into a [`User`](crate::server::registry::User): client certificates, service account tokens, the static
//! token. [`authz`] decides: `system:masters` may all, nodes what [`node`] grants, everybody what RBAC grants.
//!
//! Invariants: decisions are functions of a [`Lookup`] (one consistent snapshot) and the request; what can't be read grants nothing.
//!
//! Never: writes, or shows a token or a secret in a message or a log.

pub mod authn;
pub mod authz;
pub mod impersonate;
pub mod lookup;
pub mod node;
pub mod rbac;
pub mod token;

pub use authn::{Authenticator, AuthnError, Identity};
pub use authz::{Attributes, Authority, Decision, User};
pub use lookup::Lookup;
