//! Counters, gauges and histograms, and their text form (Prometheus exposition format 0.0.4).
//!
//! Our own, since the client crates either look labels up by strings at each observation or write OpenMetrics only, whose names differ
//! from upstream's. Invariants: observing is a few atomic additions, without a lock and without allocation; whoever owns a metric holds it
//! directly, so that labels are only spelt out when somebody reads them.
//!
//! Never: takes a label from a client unbounded. That is its owners' promise.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Zero.
    pub const fn new() -> Gauge {
        Gauge(AtomicI64::new(0))
    }

    /// Adds, or takes away; returns the new value.
    pub fn add(&self, delta: i64) -> i64 {
        self.0.fetch_add(delta, Ordering::Relaxed) + delta
    }

    /// Sets.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises to `value`, if it is lower.
    pub fn raise(&self, value: i64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond them; not cumulative.
    buckets: Box<[AtomicU64]>,
    /// The sum's bits.
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one with these upper bounds, in order.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        // The function always says Some.
        self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }

    /// Counts what `other`, with the same bounds, has counted.
    pub fn merge(&self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter().zip(&other.buckets) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let sum = f64::from_bits(other.sum.load(Ordering::Relaxed));
        self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + sum).to_bits())).ok();
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

/// Labels with their values, in the order in which they are written.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text form, as it grows. Samples of one metric must follow each other.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }

    /// Begins a metric: its samples follow. `kind` is `counter`, `gauge` or `histogram`.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Here and below: writing to a String can't fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.series(name, "", labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric with a single sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// All samples of a histogram.
    pub fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (bucket, bound) in histogram.buckets.iter().zip(histogram.bounds.iter().map(Some).chain([None])) {
            count += bucket.load(Ordering::Relaxed);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            self.series(name, "_bucket", labels, Some(&bound));
            let _ = writeln!(self.0, " {count}");
        }
        self.series(name, "_sum", labels, None);
        let _ = writeln!(self.0, " {}", f64::from_bits(histogram.sum.load(Ordering::Relaxed)));
        self.series(name, "_count", labels, None);
        let _ = writeln!(self.0, " {count}");
    }

    fn series(&mut self, name: &str, suffix: &str, labels: Labels<'_>, le: Option<&str>) {
        let out = &mut self.0;
        out.push_str(name);
        out.push_str(suffix);
        let mut separator = '{';
        for (label, value) in labels.iter().copied().chain(le.map(|bound| ("le", bound))) {
            out.push(separator);
            separator = ',';
            out.push_str(label);
            out.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        if separator == ',' {
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        [0.1, 0.5, 5.0].iter().for_each(|value| histogram.observe(*value));
        let (counter, gauge) = (Counter::new(), Gauge::new());
        counter.inc();
        counter.add(2);
        gauge.add(-1);
        gauge.raise(-2);
        let mut text = Text::default();
        text.single("c_total", "counter", "Things.", counter.get());
        text.metric("g", "gauge", "Level.");
        text.sample("g", &[("a", "x\"y\\\n")], gauge.get());
        text.metric("h", "histogram", "Sizes.");
        text.histogram("h", &[("a", "b")], &histogram);
        let want = "# HELP c_total Things.\n# TYPE c_total counter\nc_total 3\n# HELP g Level.\n# TYPE g gauge\ng{a=\"x\\\"y\\\\\\n\"} -1\n\
                    # HELP h Sizes.\n# TYPE h histogram\nh_bucket{a=\"b\",le=\"0.1\"} 1\nh_bucket{a=\"b\",le=\"1\"} 2\n\
                    h_bucket{a=\"b\",le=\"+Inf\"} 3\nh_sum{a=\"b\"} 5.6\nh_count{a=\"b\"} 3\n";
        assert_eq!(text.into_string(), want);
        assert_eq!(histogram.count(), 3);
    }
}
