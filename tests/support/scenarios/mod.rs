//! What is shown on every bed, described once.

pub mod cluster;
pub mod limits;
pub mod nodes;
pub mod resize;
