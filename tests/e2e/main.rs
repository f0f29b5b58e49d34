//! The whole product on private hosts: one binary, real images, real clients. Needs root; skips with a reason where something
//! is missing. Each scenario has a host of its own and deadlines for all it waits for.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod clients;
mod debug;
mod faults;
mod hosts;
mod join;
mod kubectl;
mod limits;
mod network;
mod nodes;
mod reset;
mod restart;
mod same;
mod stock;
mod tour;
mod trust;
mod tunnel;
mod usage;
mod workloads;
