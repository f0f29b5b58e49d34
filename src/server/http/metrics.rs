//! Counters in Prometheus' text form, with upstream's names.
//!
//! Invariant: the number of series is bounded, since labels come from the table of kinds and from fixed lists, never from a client.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use super::path::RequestInfo;
use crate::server::registry::Registry;

/// Upper bounds of the duration histogram, seconds.
const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0];

/// What a request is counted under.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    verb: &'static str,
    group: Cow<'static, str>,
    resource: Cow<'static, str>,
}

impl Label {
    /// The label of a request; what is not in the table of kinds has none but its verb.
    pub fn of(registry: &Registry, info: &RequestInfo) -> Label {
        let kind = info.is_resource.then(|| registry.kind(&info.group, &info.version, &info.resource)).flatten();
        let (group, resource) = kind.map(|kind| (kind.names().group.clone(), kind.names().resource.clone())).unwrap_or_default();
        Label { verb: info.verb, group, resource }
    }
}

#[derive(Default)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

/// All counters.
#[derive(Default)]
pub struct Metrics(Mutex<BTreeMap<(Label, u16), Series>>);

impl Metrics {
    /// Counts one answered request.
    pub fn count(&self, label: Label, code: u16, took: Duration) {
        let mut all = self.0.lock();
        let series = all.entry((label, code)).or_default();
        series.count += 1;
        series.seconds += took.as_secs_f64();
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(took.as_secs_f64() <= *bound);
        }
    }

    /// Everything, as text.
    pub fn text(&self) -> String {
        let mut out = String::from("# TYPE apiserver_request_total counter\n");
        let all = self.0.lock();
        let labels =
            |label: &Label| format!("verb=\"{}\",group=\"{}\",resource=\"{}\"", label.verb.to_uppercase(), label.group, label.resource);
        for ((label, code), series) in all.iter() {
            // Writing to a String can't fail.
            let _ = writeln!(out, "apiserver_request_total{{{},code=\"{code}\"}} {}", labels(label), series.count);
        }
        out += "# TYPE apiserver_request_duration_seconds histogram\n";
        let name = "apiserver_request_duration_seconds";
        for ((label, code), series) in all.iter() {
            let labels = format!("{},code=\"{code}\"", labels(label));
            for (bucket, bound) in series.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", series.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}", series.seconds, series.count);
        }
        out + &process()
    }
}

/// What the kernel knows of this process (proc(5)); a figure that can't be read is left out.
fn process() -> String {
    let mut out = String::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kilobytes) = field("VmRSS:") {
        let _ = writeln!(out, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}", kilobytes * 1024);
    }
    if let Some(threads) = field("Threads:") {
        let _ = writeln!(out, "# TYPE process_threads gauge\nprocess_threads {threads}");
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let _ = writeln!(out, "# TYPE process_open_fds gauge\nprocess_open_fds {}", open.count());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted() {
        let metrics = Metrics::default();
        let label = Label { verb: "get", group: "apps".into(), resource: "deployments".into() };
        metrics.count(label.clone(), 200, Duration::from_millis(10));
        metrics.count(label, 200, Duration::from_secs(2));
        let text = metrics.text();
        let labels = "verb=\"GET\",group=\"apps\",resource=\"deployments\",code=\"200\"";
        assert!(text.contains(&format!("apiserver_request_total{{{labels}}} 2\n")), "{text}");
        assert!(text.contains(&format!("_bucket{{{labels},le=\"0.025\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("_count{{{labels}}} 2\n")), "{text}");
    }
}
