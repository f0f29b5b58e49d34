//! What is counted of requests, with upstream's names (`apiserver/pkg/endpoints/metrics/metrics.go`), and `/metrics` as a whole.
//!
//! Invariants: the number of series is bounded, since labels come from the kinds that are served and from fixed lists, never from a client.
//! A request looks its series up once, without allocating; counting is atomic additions.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::fairness::is_mutating;
use super::path::RequestInfo;
use super::query::Query;
use crate::metrics::{Counter, Gauge, Histogram, Labels, Text};
use crate::server::registry::Registry;

/// Upper bounds, seconds.
const SECONDS: &[f64] =
    &[0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
/// Upper bounds, bytes.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Upper bounds of events of watches, bytes.
const EVENT_BYTES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// Status codes that are told apart; others count as the last.
const CODES: &[u16] = &[
    101, 200, 201, 202, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 422, 429,
    431, 500, 501, 502, 503, 504, 0,
];
/// Subresources that are told apart.
const SUBRESOURCES: &[&str] = &[
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
];
/// Plain paths that are told apart; they stand where resources have their subresource, as upstream.
const PATHS: &[&str] = &["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];

/// What a request is counted under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Key<'a> {
    verb: &'a str,
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'static str,
    scope: &'static str,
    dry_run: &'static str,
}

fn verb(info: &RequestInfo, apply: bool) -> &'static str {
    match (info.verb, info.subresource.as_str()) {
        (_, "exec" | "attach" | "portforward" | "proxy") if info.is_resource => "CONNECT",
        ("get", _) => "GET",
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("create" | "post", _) => "POST",
        ("update" | "put", _) => "PUT",
        ("patch", _) if apply => "APPLY",
        ("patch", _) => "PATCH",
        ("delete", _) => "DELETE",
        ("deletecollection", _) => "DELETECOLLECTION",
        ("head", _) => "HEAD",
        ("options", _) => "OPTIONS",
        _ => "other",
    }
}

/// One combination of labels.
pub struct Series {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: &'static str,
    scope: &'static str,
    dry_run: &'static str,
    mutating: bool,
    codes: [Counter; CODES.len()],
    seconds: Histogram,
    bytes: Histogram,
    /// Streams that are open.
    open: Gauge,
    /// Events sent by watches.
    events: Histogram,
}

impl Series {
    fn labels(&self) -> [(&'static str, &str); 8] {
        [
            ("component", "apiserver"),
            ("dry_run", self.dry_run),
            ("group", &self.group),
            ("resource", &self.resource),
            ("scope", self.scope),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("version", &self.version),
        ]
    }

    /// The same without `dry_run`.
    fn plain_labels(&self) -> Vec<(&'static str, &str)> {
        self.labels().into_iter().filter(|(name, _)| *name != "dry_run").collect()
    }

    /// Counts an event that a watch sent.
    pub fn event(&self, bytes: usize) {
        self.events.observe(bytes as f64);
    }
}

/// Gives its count back when it is dropped.
pub struct Counted(Arc<Series>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}

/// Where else numbers come from.
pub type Source = Box<dyn Fn(&mut Text) + Send + Sync>;

/// All counters of requests.
#[derive(Default)]
pub struct Metrics {
    hasher: RandomState,
    series: RwLock<HashMap<u64, Arc<Series>>>,
    /// Requests that are no streams, by whether they only read.
    reading: Gauge,
    writing: Gauge,
    /// Requests refused because there are too many.
    dropped_reading: Counter,
    dropped_writing: Counter,
    sources: RwLock<Vec<Source>>,
}

/// One request in flight.
pub struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Metrics {
    /// Adds a source of further numbers.
    pub fn add(&self, source: Source) {
        self.sources.write().push(source);
    }

    /// The series of a request. What is not served has no labels but its verb.
    pub fn series(&self, registry: &Registry, info: &RequestInfo, query: &Query, apply: bool) -> Arc<Series> {
        let kind = info.is_resource.then(|| registry.kind(&info.group, &info.version, &info.resource)).flatten();
        self.series_of(kind.is_some(), info, query, apply)
    }

    fn series_of(&self, known: bool, info: &RequestInfo, query: &Query, apply: bool) -> Arc<Series> {
        let subresource = match info.is_resource {
            true => SUBRESOURCES.iter().find(|known| **known == info.subresource),
            false => {
                PATHS.iter().find(|known| info.path.strip_prefix(**known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
            }
        };
        let scope = match info.verb {
            _ if !info.is_resource => "",
            "create" => "resource",
            _ if !info.name.is_empty() => "resource",
            _ if !info.namespace.is_empty() => "namespace",
            _ => "cluster",
        };
        let verb = verb(info, apply);
        let key = Key {
            verb,
            group: if known { &info.group } else { "" },
            version: if known { &info.version } else { "" },
            resource: if known { &info.resource } else { "" },
            subresource: subresource.copied().unwrap_or_default(),
            scope,
            dry_run: if query.first("dryRun") == Some("All") { "All" } else { "" },
        };
        let hash = self.hasher.hash_one(key);
        if let Some(series) = self.series.read().get(&hash) {
            return series.clone();
        }
        let new = || Series {
            verb,
            group: key.group.into(),
            version: key.version.into(),
            resource: key.resource.into(),
            subresource: key.subresource,
            scope,
            dry_run: key.dry_run,
            mutating: is_mutating(info.verb),
            codes: std::array::from_fn(|_| Counter::new()),
            seconds: Histogram::new(SECONDS),
            bytes: Histogram::new(BYTES),
            open: Gauge::new(),
            events: Histogram::new(EVENT_BYTES),
        };
        self.series.write().entry(hash).or_insert_with(|| Arc::new(new())).clone()
    }

    /// Counts a request as in flight until the result is dropped.
    pub fn in_flight(&self, series: &Series) -> InFlight<'_> {
        let gauge = if series.mutating { &self.writing } else { &self.reading };
        gauge.add(1);
        InFlight(gauge)
    }

    /// Counts a stream as open until the result is dropped.
    pub fn open(series: &Arc<Series>) -> Counted {
        series.open.add(1);
        Counted(series.clone())
    }

    /// Counts one answered request. `bytes` is the size of its answer, where that is known.
    pub fn count(&self, series: &Series, code: u16, took: Duration, bytes: Option<u64>) {
        let at = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        series.codes[at].inc();
        series.seconds.observe(took.as_secs_f64());
        if let Some(bytes) = bytes.filter(|_| series.verb == "GET" || series.verb == "LIST") {
            series.bytes.observe(bytes as f64);
        }
    }

    /// Counts a request that was refused since there are too many.
    pub fn dropped(&self, series: &Series) {
        if series.mutating { self.dropped_writing.inc() } else { self.dropped_reading.inc() }
    }

    /// Everything, as text.
    pub fn text(&self) -> String {
        let mut out = Text::default();
        let mut all: Vec<Arc<Series>> = self.series.read().values().cloned().collect();
        all.sort_by(|a, b| a.labels().cmp(&b.labels()));
        requests(&all, &mut out);
        streams(&all, &mut out);
        let kinds = |out: &mut Text, name: &str, reading: u64, writing: u64| {
            out.sample(name, &[("request_kind", "mutating")], writing);
            out.sample(name, &[("request_kind", "readOnly")], reading);
        };
        let name = "apiserver_current_inflight_requests";
        out.metric(
            name,
            "gauge",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        );
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        kinds(&mut out, name, count(&self.reading), count(&self.writing));
        let name = "apiserver_dropped_requests_total";
        out.metric(name, "counter", "Number of requests dropped with 'Try again later' response");
        kinds(&mut out, name, self.dropped_reading.get(), self.dropped_writing.get());
        for source in self.sources.read().iter() {
            source(&mut out);
        }
        process(&mut out);
        out.into_string()
    }
}

fn requests(all: &[Arc<Series>], out: &mut Text) {
    let name = "apiserver_request_total";
    let help = "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.";
    out.metric(name, "counter", help);
    for series in all {
        for (code, count) in CODES.iter().zip(&series.codes).filter(|(_, count)| count.get() > 0) {
            let code = if *code == 0 { "other".to_owned() } else { code.to_string() };
            let mut labels = vec![("code", code.as_str())];
            labels.extend(series.labels());
            out.sample(name, &labels, count.get());
        }
    }
    let name = "apiserver_request_duration_seconds";
    let help = "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.";
    out.metric(name, "histogram", help);
    for series in all.iter().filter(|series| series.seconds.count() > 0) {
        out.histogram(name, &series.labels(), &series.seconds);
    }
    let name = "apiserver_response_sizes";
    let help = "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.";
    out.metric(name, "histogram", help);
    for series in all.iter().filter(|series| series.bytes.count() > 0 && series.dry_run.is_empty()) {
        out.histogram(name, &series.plain_labels(), &series.bytes);
    }
}

fn streams(all: &[Arc<Series>], out: &mut Text) {
    let name = "apiserver_longrunning_requests";
    let help = "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all \
                requests are tracked this way.";
    out.metric(name, "gauge", help);
    let long = |series: &&Arc<Series>| {
        series.dry_run.is_empty() && (series.verb == "WATCH" || series.verb == "CONNECT" || series.subresource == "log")
    };
    for series in all.iter().filter(long) {
        out.sample(name, &series.plain_labels(), series.open.get());
    }
    // Scopes are not told apart here: one sample for each resource.
    let mut events: Vec<(Labels3<'_>, Vec<&Series>)> = Vec::new();
    for series in all.iter().filter(|series| series.events.count() > 0) {
        let labels = [("group", series.group.as_str()), ("resource", series.resource.as_str()), ("version", series.version.as_str())];
        match events.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, same)) => same.push(series),
            None => events.push((labels, vec![series])),
        }
    }
    let name = "apiserver_watch_events_total";
    out.metric(name, "counter", "Number of events sent in watch clients");
    for (labels, same) in &events {
        let labels: Labels<'_> = labels;
        out.sample(name, labels, same.iter().map(|series| series.events.count()).sum::<u64>());
    }
    let name = "apiserver_watch_events_sizes";
    out.metric(name, "histogram", "Watch event size distribution in bytes");
    for (labels, same) in &events {
        let all = Histogram::new(EVENT_BYTES);
        same.iter().for_each(|series| all.merge(&series.events));
        out.histogram(name, labels, &all);
    }
}

type Labels3<'a> = [(&'static str, &'a str); 3];

/// What the kernel knows of this process (proc(5)), as Prometheus' own clients say it; a figure that can't be read is left out.
fn process(out: &mut Text) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name, in parentheses, and may hold anything: count from behind it.
    let fields: Vec<u64> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let (ticks, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64);
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let seconds = (user + system) as f64 / ticks as f64;
        out.single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", seconds);
    }
    if let (Some(virtual_bytes), Some(resident)) = (field(23), field(24)) {
        out.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", virtual_bytes);
        out.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident * page);
    }
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    if let (Some(boot), Some(started)) = (boot, field(22)) {
        let seconds = boot as f64 + started as f64 / ticks as f64;
        out.single("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", seconds);
    }
    if let Some(threads) = field(20) {
        out.single("process_threads", "gauge", "Number of threads.", threads);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.single("process_open_fds", "gauge", "Number of open file descriptors.", open.count());
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.single("process_max_fds", "gauge", "Maximum number of open file descriptors.", limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_under_what_is_served_only() {
        let metrics = Metrics::default();
        let ask = |method: &str, uri: &str| {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let query = Query::parse(query);
            let info = RequestInfo::parse(method, path, &query).unwrap();
            metrics.series_of(info.resource == "pods", &info, &query, false)
        };
        let list = ask("GET", "/api/v1/namespaces/ns/pods");
        metrics.count(&list, 200, Duration::from_millis(20), Some(5000));
        metrics.count(&list, 200, Duration::from_secs(90), None);
        metrics.count(&ask("POST", "/api/v1/namespaces/ns/pods?dryRun=All"), 201, Duration::ZERO, None);
        metrics.count(&ask("GET", "/api/v1/nothing-of-ours/x/made-up"), 404, Duration::ZERO, None);
        metrics.count(&ask("GET", "/healthz/ping"), 200, Duration::ZERO, None);
        let watch = ask("GET", "/api/v1/pods?watch=1");
        let open = Metrics::open(&watch);
        watch.event(3000);
        let flight = metrics.in_flight(&list);
        let text = metrics.text();
        let pods = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{pods}}} 2"),
            format!("apiserver_request_duration_seconds_bucket{{{pods},le=\"0.025\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{pods},le=\"+Inf\"}} 2"),
            "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"All\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1".into(),
            "apiserver_request_total{code=\"404\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"\"} 1".into(),
            "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"\",scope=\"\",subresource=\"/healthz\",verb=\"GET\",version=\"\"} 1".into(),
            "apiserver_response_sizes_count{component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1".into(),
            "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 1".into(),
            "apiserver_watch_events_total{group=\"\",resource=\"pods\",version=\"v1\"} 1".into(),
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".into(),
            "process_open_fds".into(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        drop((open, flight));
        assert!(metrics.text().contains("verb=\"WATCH\",version=\"v1\"} 0"));
    }
}
