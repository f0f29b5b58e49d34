//! What the store counts. Where upstream's names fit (`apiserver/pkg/storage/etcd3/metrics`), they are used; what only we have begins with `orch_`.

use super::Store;
use crate::metrics::{Counter, Histogram, Text};

const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const COMMITS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// Counted by the writer.
pub(super) struct Stats {
    /// How long a durable batch takes.
    pub seconds: Histogram,
    /// Commits in a batch.
    pub commits: Histogram,
    /// Commits that lost a race.
    pub conflicts: Counter,
    /// Commits that were refused since the disk failed.
    pub failed: Counter,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats { seconds: Histogram::new(SECONDS), commits: Histogram::new(COMMITS), conflicts: Counter::new(), failed: Counter::new() }
    }
}

impl Stats {
    pub(super) fn write(&self, store: &Store, out: &mut Text) {
        let mut sizes = store.sizes();
        sizes.sort_by(|a, b| a.0.cmp(&b.0));
        let parts =
            |name: &str| name.trim_end_matches('/').split_once('/').map(|(group, resource)| (group.to_owned(), resource.to_owned()));
        let sizes: Vec<_> = sizes.iter().filter_map(|(name, size)| parts(name).map(|(group, resource)| (group, resource, size))).collect();
        let qualified = |group: &str, resource: &str| if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        out.metric("apiserver_storage_objects", "gauge", "Number of stored objects at the time of last check split by kind.");
        for (group, resource, size) in &sizes {
            out.sample("apiserver_storage_objects", &[("resource", &qualified(group, resource))], size.objects);
        }
        out.metric("apiserver_resource_objects", "gauge", "Number of stored objects at the time of last check split by kind.");
        for (group, resource, size) in &sizes {
            out.sample("apiserver_resource_objects", &[("group", group), ("resource", resource)], size.objects);
        }
        let name = "apiserver_resource_size_estimate_bytes";
        out.metric(
            name,
            "gauge",
            "Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects.",
        );
        for (group, resource, size) in &sizes {
            out.sample(name, &[("group", group), ("resource", resource)], size.bytes);
        }
        out.single("orch_store_revision", "gauge", "Newest revision of the store.", store.snapshot().rev());
        out.metric("orch_store_batch_duration_seconds", "histogram", "Time until a batch of commits is durable.");
        out.histogram("orch_store_batch_duration_seconds", &[], &self.seconds);
        out.metric("orch_store_batch_commits", "histogram", "Commits that share one flush.");
        out.histogram("orch_store_batch_commits", &[], &self.commits);
        out.single("orch_store_conflicts_total", "counter", "Commits that lost a race.", self.conflicts.get());
        out.single("orch_store_failed_commits_total", "counter", "Commits refused since the disk failed.", self.failed.get());
    }
}
