//! `orch`: a complete Kubernetes in one executable.
//!
//! One versioned [store](server::store) of objects; everything else is a function over it. `ARCHITECTURE.md` holds the map,
//! `tests/architecture.rs` holds the code to it.
//!
//! | module | what it is |
//! |---|---|
//! | [`api`] | wire types and pure rules; no I/O, imports nothing of ours |
//! | [`config`] | flags, environment and files, read once into typed values |
//! | [`client`] | how the agent and kubectl talk to the API |
//! | [`server`] | API server, store, scheduler, controllers |
//! | [`agent`] | turns the pods bound to a node into processes |
//! | [`runtime`] | containers; knows no Kubernetes |
//! | [`net`] | links, addresses, nftables, DNS answers; knows no Kubernetes |
//! | [`kubectl`] | the command line client |

pub mod agent;
pub mod api;
pub mod client;
pub mod config;
pub mod files;
pub mod kubectl;
pub mod metrics;
pub mod net;
pub mod runtime;
pub mod server;
pub mod transport;
