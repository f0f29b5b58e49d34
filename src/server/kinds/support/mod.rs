//! What the kinds share: macros for simple kinds, field paths and rules, printed cells.
//!
//! Never: a rule or a column that belongs to one kind only.

#[macro_use]
mod macros;
pub mod convert;
pub mod duration;
pub mod intstr;
pub mod path;
pub mod print;
pub mod resource_names;
pub mod rules;
#[cfg(test)]
pub mod testing;
pub mod webhook;
