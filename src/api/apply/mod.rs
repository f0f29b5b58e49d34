//! Server-side apply: who owns which fields, and how configurations are merged.
//!
//! Words: a [`Schema`] says of each place in an object whether it is a scalar, a list (atomic, a set, or keyed) or a map (atomic or
//! not); it is made from the API's types and the facts about them, from the JSON schema of a custom resource, or deduced from the
//! value itself. *Live* is the stored object, a *configuration* is what a client applies. A [`Claim`] is one entry of
//! `managedFields`: a manager, how it wrote, in which version, and the set of fields it owns. *Zero* is an object as upstream's
//! decoder starts it: with those structs present that are no pointers.
//!
//! The layers, from below: [`schema`] and [`compile`]; the walks [`compare`], [`owned`], [`merge`], [`prune`], [`validate`], each over
//! values and a schema; [`updater`], the rules of structured-merge-diff's `merge/update.go`; [`manager`], the chain of upstream's
//! `apimachinery/pkg/util/managedfields`; [`scale`], the mapping between an object and its `/scale`.
//!
//! Never: I/O or clocks (the time of a write is handed in), defaulting, or typed objects.

pub mod compile;
mod index;
pub mod managed;
pub mod manager;
pub mod scale;
pub mod schema;
pub mod updater;
pub mod walk;

pub use managed::{Claim, Operation};
pub use manager::{ApplyError, Writer};
pub use schema::Schema;
pub use updater::{Filter, Versions};
