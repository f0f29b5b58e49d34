//! Flags about nodes that are not heard or not ready: when they count as such, and how fast their pods are driven away. Names and defaults are
//! those of upstream's `cmd/kube-controller-manager/app/options/nodelifecyclecontroller.go`.

use std::time::Duration;

use clap::Args;

use super::{ConfigError, duration};

/// The shortest silence that may mean something: an agent reports every second then.
const LEAST_GRACE: Duration = Duration::from_secs(4);

/// Flags about the health of nodes.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// How long a node may be silent before it counts as unreachable; nodes report at least four times as often
    #[arg(long, env = "ORCH_NODE_MONITOR_GRACE_PERIOD", default_value = "50s", value_name = "DURATION")]
    pub node_monitor_grace_period: String,
    /// Of how many nodes of a zone that are not ready the pods are driven away in a second, while most of the zone is ready; 0: of none
    #[arg(long, env = "ORCH_NODE_EVICTION_RATE", default_value_t = 0.1, allow_negative_numbers = true, value_name = "RATE")]
    pub node_eviction_rate: f64,
    /// The same while a zone is unhealthy, if it has more nodes than --large-cluster-size-threshold; of none if it has not
    #[arg(long, env = "ORCH_SECONDARY_NODE_EVICTION_RATE", default_value_t = 0.01, allow_negative_numbers = true, value_name = "RATE")]
    pub secondary_node_eviction_rate: f64,
    /// A zone is unhealthy when this share of its nodes, and more than two, are not ready
    #[arg(long, env = "ORCH_UNHEALTHY_ZONE_THRESHOLD", default_value_t = 0.55, allow_negative_numbers = true, value_name = "SHARE")]
    pub unhealthy_zone_threshold: f64,
    /// Nodes that a zone has at most to be a small one
    #[arg(long, env = "ORCH_LARGE_CLUSTER_SIZE_THRESHOLD", default_value_t = 50, value_name = "COUNT")]
    pub large_cluster_size_threshold: u32,
}

/// The same, checked.
#[derive(Clone, Copy, Debug)]
pub struct HealthConfig {
    /// How long a node may be silent.
    pub grace: Duration,
    /// Nodes of a healthy zone whose pods are driven away, per second.
    pub rate: f64,
    /// The same of an unhealthy zone that is large.
    pub secondary_rate: f64,
    /// From this share of nodes that are not ready a zone is unhealthy.
    pub unhealthy: f64,
    /// A zone of more nodes is large.
    pub large: u32,
}

impl HealthConfig {
    /// Checks flags.
    pub(super) fn resolve(args: &HealthArgs) -> Result<HealthConfig, ConfigError> {
        let invalid = |flag, why: String| ConfigError::Invalid { flag, why };
        let grace = duration("node-monitor-grace-period", &args.node_monitor_grace_period)?;
        if grace < LEAST_GRACE {
            return Err(invalid("node-monitor-grace-period", format!("nodes can't report so often; it must be at least {LEAST_GRACE:?}")));
        }
        let rate = |flag, rate: f64| match rate.is_finite() && rate >= 0.0 {
            true => Ok(rate),
            false => Err(invalid(flag, format!("{rate} is no rate; use nodes per second, such as 0.1, or 0 for none"))),
        };
        let share = args.unhealthy_zone_threshold;
        if !(0.0..=1.0).contains(&share) {
            return Err(invalid("unhealthy-zone-threshold", format!("{share} is no share; use a number from 0 to 1")));
        }
        Ok(HealthConfig {
            grace,
            rate: rate("node-eviction-rate", args.node_eviction_rate)?,
            secondary_rate: rate("secondary-node-eviction-rate", args.secondary_node_eviction_rate)?,
            unhealthy: share,
            large: args.large_cluster_size_threshold,
        })
    }
}
