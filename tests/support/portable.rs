//! The part of the support that knows nothing of what hosts are made of: for test programs that bring their own beds.

pub mod bed;
pub mod scenarios;
mod wait;

pub use wait::{eventually, step};
