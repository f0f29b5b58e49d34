//! What needs root: containers with namespaces, cgroups and mounts of their own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod life;
mod runtime;
mod support;
