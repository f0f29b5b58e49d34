//! What a node tells the server of how much its pods use: the answer of its path [`PATH`], which only the server may ask.
//!
//! Rates are of the time between two measurements, `window` long and ending at `timestamp`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The API group in which clients are told.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// Where a node tells it.
pub const PATH: &str = "/usage";

/// CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Billionths of a core, on average over the window.
    pub nano_cores: u64,
    /// Working set in bytes, at its end.
    pub working_set: u64,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// Name.
    pub name: String,
    /// What it uses.
    pub usage: Amount,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    /// Its uid.
    pub uid: String,
    /// Its containers that run.
    pub containers: Vec<ContainerUsage>,
}

/// A node with its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// When it was measured last.
    pub timestamp: Timestamp,
    /// Milliseconds since the measurement before.
    pub window: u64,
    /// The node as a whole.
    pub node: Amount,
    /// Its pods.
    pub pods: Vec<PodUsage>,
}
