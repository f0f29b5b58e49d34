//! What the runner counts, under the names of client-go's work queues (`component-base/metrics/prometheus/workqueue`) and of the scheduler
//! (`kubernetes/pkg/scheduler/metrics`).

use std::sync::Arc;

use parking_lot::RwLock;

use super::{Op, op::Refused};
use crate::metrics::{Counter, Gauge, Histogram, Labels, Text};

const SECONDS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// Name, type, help, and how it is read.
type Number = (&'static str, &'static str, &'static str, fn(&QueueStats) -> i64);
/// Name, help, and how it is read.
type Durations = (&'static str, &'static str, fn(&QueueStats) -> &Histogram);

/// Of one controller's queue.
pub(super) struct QueueStats {
    /// Keys that became ready.
    pub adds: Counter,
    /// Keys that are ready.
    pub depth: Gauge,
    /// Runs that failed.
    pub retries: Counter,
    /// From ready to running.
    pub waited: Histogram,
    /// Runs, with their writes.
    pub worked: Histogram,
}

impl Default for QueueStats {
    fn default() -> QueueStats {
        QueueStats {
            adds: Counter::new(),
            depth: Gauge::new(),
            retries: Counter::new(),
            waited: Histogram::new(SECONDS),
            worked: Histogram::new(SECONDS),
        }
    }
}

/// Of a runner.
#[derive(Default)]
pub struct Stats {
    queues: RwLock<Vec<(&'static str, Arc<QueueStats>)>>,
    scheduled: Counter,
    unschedulable: Counter,
    failed: Counter,
}

impl Stats {
    /// The numbers of one more queue.
    pub(super) fn queue(&self, name: &'static str) -> Arc<QueueStats> {
        let stats = Arc::<QueueStats>::default();
        self.queues.write().push((name, stats.clone()));
        stats
    }

    /// What a write says of the scheduler's attempt that wanted it.
    pub(super) fn attempt(&self, op: &Op) -> Option<&Counter> {
        match op {
            Op::Bind { .. } => Some(&self.scheduled),
            Op::Event { reason: "FailedScheduling", .. } => Some(&self.unschedulable),
            _ => None,
        }
    }

    /// Counts an attempt by its outcome.
    pub(super) fn attempted(&self, counter: &Counter, outcome: &Result<(), Refused>) {
        if outcome.is_ok() { counter.inc() } else { self.failed.inc() }
    }

    /// Everything, in Prometheus' text form.
    pub fn write(&self, out: &mut Text) {
        let queues = self.queues.read();
        let numbers: [Number; 3] = [
            ("workqueue_adds_total", "counter", "Total number of adds handled by workqueue", |q| q.adds.get() as i64),
            ("workqueue_depth", "gauge", "Current depth of workqueue", |q| q.depth.get()),
            ("workqueue_retries_total", "counter", "Total number of retries handled by workqueue", |q| q.retries.get() as i64),
        ];
        for (name, kind, help, value) in numbers {
            out.metric(name, kind, help);
            for (queue, stats) in queues.iter() {
                out.sample(name, &[("name", queue)], value(stats));
            }
        }
        let histograms: [Durations; 2] = [
            ("workqueue_queue_duration_seconds", "How long in seconds an item stays in workqueue before being requested.", |q| &q.waited),
            ("workqueue_work_duration_seconds", "How long in seconds processing an item from workqueue takes.", |q| &q.worked),
        ];
        for (name, help, histogram) in histograms {
            out.metric(name, "histogram", help);
            for (queue, stats) in queues.iter() {
                let labels: Labels<'_> = &[("name", queue)];
                out.histogram(name, labels, histogram(stats));
            }
        }
        let name = "scheduler_schedule_attempts_total";
        let help = "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an \
                    internal scheduler problem.";
        out.metric(name, "counter", help);
        for (result, counter) in [("error", &self.failed), ("scheduled", &self.scheduled), ("unschedulable", &self.unschedulable)] {
            out.sample(name, &[("profile", "default-scheduler"), ("result", result)], counter.get());
        }
    }
}
