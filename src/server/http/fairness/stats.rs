//! What fairness counts, under upstream's names (`util/flowcontrol/metrics/metrics.go`).

use std::sync::Arc;

use super::Fairness;
use crate::metrics::{Counter, Gauge, Histogram, Labels, Text};

const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 10.0];

/// Why requests are refused.
pub const REASONS: &[&str] = &["concurrency-limit", "queue-full", "time-out", "cancelled"];

/// Of one flow schema in one level.
pub struct Flow {
    pub dispatched: Counter,
    pub refused: [Counter; 4],
    pub waiting: Gauge,
    pub executing: Gauge,
    pub seats: Gauge,
    pub waited: Histogram,
    pub waited_in_vain: Histogram,
    pub executed: Histogram,
    pub executed_watch: Histogram,
    pub queue_length: Histogram,
    pub estimated: Histogram,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            dispatched: Counter::new(),
            refused: Default::default(),
            waiting: Gauge::new(),
            executing: Gauge::new(),
            seats: Gauge::new(),
            waited: Histogram::new(SECONDS),
            waited_in_vain: Histogram::new(SECONDS),
            executed: Histogram::new(SECONDS),
            executed_watch: Histogram::new(SECONDS),
            queue_length: Histogram::new(LENGTHS),
            estimated: Histogram::new(SEATS),
        }
    }
}

impl Flow {
    /// Counts a refusal.
    pub fn refuse(&self, reason: &str) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.refused[at].inc();
        }
    }
}

/// Name, type, help, and how it is read.
type Number<T> = (&'static str, &'static str, &'static str, fn(&T) -> i64);
/// Name, help, and how it is read.
type Figure = (&'static str, &'static str, fn(&super::Numbers) -> f64);
type Named = (String, String, Arc<Flow>);

/// Writes everything.
pub fn write(fairness: &Fairness, out: &mut Text) {
    let flows = fairness.flows();
    let counters: [Number<Flow>; 4] = [
        ("dispatched_requests_total", "counter", "Number of requests executed by API Priority and Fairness subsystem", |f| {
            f.dispatched.get() as i64
        }),
        (
            "current_inqueue_requests",
            "gauge",
            "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            |f| f.waiting.get(),
        ),
        (
            "current_executing_requests",
            "gauge",
            "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            |f| f.executing.get(),
        ),
        (
            "current_executing_seats",
            "gauge",
            "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
            |f| f.seats.get(),
        ),
    ];
    for (name, kind, help, value) in counters {
        let name = format!("apiserver_flowcontrol_{name}");
        out.metric(&name, kind, help);
        for (level, schema, flow) in &flows {
            out.sample(&name, &labels(level, schema), value(flow));
        }
    }
    let name = "apiserver_flowcontrol_rejected_requests_total";
    out.metric(name, "counter", "Number of requests rejected by API Priority and Fairness subsystem");
    for (level, schema, flow) in &flows {
        for (reason, count) in REASONS.iter().zip(&flow.refused).filter(|(_, count)| count.get() > 0) {
            out.sample(name, &[("flow_schema", schema), ("priority_level", level), ("reason", reason)], count.get());
        }
    }
    histograms(&flows, out);
    levels(fairness, out);
}

fn labels<'a>(level: &'a str, schema: &'a str) -> [(&'a str, &'a str); 2] {
    [("flow_schema", schema), ("priority_level", level)]
}

fn histograms(flows: &[Named], out: &mut Text) {
    type Part = (&'static str, &'static str, fn(&Flow) -> &Histogram);
    let all: [(&str, &str, &[Part]); 4] = [
        (
            "request_wait_duration_seconds",
            "Length of time a request spent waiting in its queue",
            &[("execute", "true", |f| &f.waited), ("execute", "false", |f| &f.waited_in_vain)],
        ),
        (
            "request_execution_seconds",
            "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
            &[("type", "regular", |f| &f.executed), ("type", "watch", |f| &f.executed_watch)],
        ),
        (
            "request_queue_length_after_enqueue",
            "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
            &[("", "", |f| &f.queue_length)],
        ),
        (
            "work_estimated_seats",
            "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness",
            &[("", "", |f| &f.estimated)],
        ),
    ];
    for (name, help, parts) in all {
        let name = format!("apiserver_flowcontrol_{name}");
        out.metric(&name, "histogram", help);
        for (level, schema, flow) in flows {
            for (label, value, histogram) in parts.iter().filter(|(_, _, histogram)| histogram(flow).count() > 0) {
                let mut labels = labels(level, schema).to_vec();
                labels.extend((!label.is_empty()).then_some((*label, *value)));
                labels.sort_unstable();
                out.histogram(&name, &labels, histogram(flow));
            }
        }
    }
}

fn levels(fairness: &Fairness, out: &mut Text) {
    let levels = fairness.level_numbers();
    let all: [Figure; 6] = [
        ("nominal_limit_seats", "Nominal number of execution seats configured for each priority level", |n| n.seats.nominal.into()),
        ("lower_limit_seats", "Configured lower bound on number of execution seats available to each priority level", |n| {
            n.seats.min.into()
        }),
        ("upper_limit_seats", "Configured upper bound on number of execution seats available to each priority level", |n| {
            n.seats.max.into()
        }),
        ("current_limit_seats", "current derived number of execution seats available to each priority level", |n| n.limit.into()),
        ("demand_seats_high_watermark", "High watermark, over last adjustment period, of demand_seats", |n| n.wanted.high),
        ("demand_seats_smoothed", "Smoothed seat demands", |n| n.wanted.smooth),
    ];
    for (name, help, value) in all {
        let name = format!("apiserver_flowcontrol_{name}");
        out.metric(&name, "gauge", help);
        for (level, numbers) in &levels {
            let labels: Labels<'_> = &[("priority_level", level)];
            out.sample(&name, labels, value(numbers));
        }
    }
    let help = "Fair fraction of server's concurrency to allocate to each priority level that can use it";
    out.single("apiserver_flowcontrol_seat_fair_frac", "gauge", help, fairness.fair_fraction());
}
