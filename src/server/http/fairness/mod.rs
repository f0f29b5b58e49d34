//! API priority and fairness: how many requests run at once, and who waits when that are too many.
//!
//! Words: a *schema* ([`schema`]) sorts a request into a *level*; a level has *seats* ([`shares`]) and queues ([`queue`]); a [`Seat`] is held
//! while a request runs and given back when it is dropped, however its request ended.
//!
//! Invariants: a level that is not exempt never runs wider than its seats (see [`queue`] for the one exception); whoever waits is let in,
//! refused in time, or forgotten when its client goes; a request whose schema names a level that does not exist goes to the next schema.
//! On the way of a request that need not wait nothing is allocated, and one lock is held for some dozen instructions.
//!
//! Follows upstream's `util/flowcontrol` and `server/filters/priority-and-fairness.go`. Never: reads the store while a request waits for it;
//! [`keeper`] compiles what changes.

mod estimate;
mod keeper;
mod queue;
pub mod schema;
mod shares;
mod stats;
mod watchers;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::flowcontrol::v1 as api;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::api::Status;
use crate::metrics::{Gauge, Text};
use crate::server::store::Size;
use estimate::Estimate;
pub use estimate::is_mutating;
pub use keeper::keep;
use queue::{Arrival, QueueSet, Queuing, Ticket};
use schema::{Digest, Matcher};
use shares::{Seats, Shares, Wanted};
use stats::Flow;
pub use watchers::{Watchers, Watching};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Part of a level's own seats that one request may take at most (upstream's value).
const WIDEST: f64 = 0.15;

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seats of all levels together.
    pub seats: u32,
    /// How long a request waits for its seat.
    pub wait: Duration,
}

impl Default for Limits {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together; a quarter of `--request-timeout`.
    fn default() -> Limits {
        Limits { seats: 400 + 200, wait: Duration::from_secs(15) }
    }
}

/// Seats of a level, as they are now.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    seats: Seats,
    wanted: Wanted,
    limit: u32,
}

/// One priority level. It outlives changes of its object.
struct Level {
    name: String,
    exempt: bool,
    set: Mutex<QueueSet<oneshot::Sender<Seat>>>,
    numbers: Mutex<Numbers>,
    /// Seats that one request may take.
    widest: AtomicU64,
    /// Of an exempt level: seats in use, and the most of them in the period.
    exempt_seats: Gauge,
    exempt_high: Gauge,
    retry: RetryAfter,
}

/// A schema with its level.
pub struct Flowing {
    matcher: Arc<Matcher>,
    level: Arc<Level>,
    schema_uid: Option<HeaderValue>,
    level_uid: Option<HeaderValue>,
    stats: Arc<Flow>,
}

impl Flowing {
    /// Says in the answer which objects classified the request.
    pub fn label(&self, headers: &mut http::HeaderMap) {
        for (name, uid) in [(SCHEMA_UID, &self.schema_uid), (LEVEL_UID, &self.level_uid)] {
            if let Some(uid) = uid {
                headers.insert(name, uid.clone());
            }
        }
    }
}

/// The configuration, compiled.
struct Compiled {
    flows: Vec<Arc<Flowing>>,
    levels: BTreeMap<String, Arc<Level>>,
}

/// Priority and fairness of one server.
pub struct Fairness {
    limits: Limits,
    compiled: ArcSwap<Compiled>,
    hasher: RandomState,
    base: Instant,
    /// Counters outlive the configuration that named them.
    stats: Mutex<HashMap<(String, String), Arc<Flow>>>,
    fraction: AtomicU64,
    watchers: Arc<Watchers>,
}

/// What a request costs besides its [`Digest`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// `limit` of a list.
    pub limit: Option<u64>,
    /// Whether a watch begins with all objects.
    pub initial_events: bool,
}

/// A request may not run.
pub struct Refused {
    /// Who refused it.
    pub flow: Arc<Flowing>,
    /// The answer.
    pub status: Status,
}

impl Default for Fairness {
    fn default() -> Fairness {
        Fairness::new(Limits::default())
    }
}

impl Fairness {
    /// With upstream's mandatory configuration, until [`keep`] reads another one.
    pub fn new(limits: Limits) -> Fairness {
        let fairness = Fairness {
            limits,
            compiled: ArcSwap::from_pointee(Compiled { flows: Vec::new(), levels: BTreeMap::new() }),
            hasher: RandomState::new(),
            base: Instant::now(),
            stats: Mutex::default(),
            fraction: AtomicU64::new(1f64.to_bits()),
            watchers: Arc::default(),
        };
        for (level, limit) in fairness.adopt(&[], &[]) {
            // Nobody waits yet.
            drop(level.set.lock().set_limit(0.0, limit));
        }
        fairness
    }

    /// Who watches what.
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }

    fn now(&self) -> f64 {
        self.base.elapsed().as_secs_f64()
    }

    fn hash(&self, schema: &str, flow: &str) -> u64 {
        // Keyed: nobody can choose a name that shares another's queues.
        self.hasher.hash_one((schema, flow))
    }

    /// Lets a request in, now or when it is its turn. `size` says how much there is of the resource that it asks for.
    pub async fn admit(self: &Arc<Self>, request: &Digest<'_>, cost: Cost, size: impl FnOnce() -> Size) -> Result<Seat, Box<Refused>> {
        let (flow, hash) = self.classify(request);
        let level = &flow.level;
        let most = level.widest.load(Ordering::Relaxed) as u32;
        let watchers = || self.watchers.count(request.group, request.resource, request.namespace, request.name);
        let estimate = estimate::estimate(request, cost.limit, cost.initial_events, most, size, watchers);
        flow.stats.estimated.observe(estimate.seats.max(estimate.after).into());
        if level.exempt {
            level.exempt_high.raise(level.exempt_seats.add(estimate.seats.into()));
            return Ok(Seat::new(self, flow, estimate, None));
        }
        let now = self.now();
        let (queue, id, waiting) = {
            let mut set = level.set.lock();
            match set.arrive(now, hash, estimate.width()) {
                Arrival::Run(ticket) => {
                    drop(set);
                    flow.stats.waited.observe(0.0);
                    return Ok(Seat::new(self, flow, estimate, Some(ticket)));
                }
                Arrival::Refuse(reason) => {
                    drop(set);
                    return Err(self.refuse(flow, reason));
                }
                Arrival::Wait(queue) => {
                    let (sender, waiting) = oneshot::channel();
                    let (id, length, started) = set.enqueue(queue, estimate.width(), sender);
                    drop(set);
                    flow.stats.queue_length.observe(length as f64);
                    self.start(level, started);
                    (queue, id, waiting)
                }
            }
        };
        self.wait(flow, estimate, queue, id, waiting).await
    }

    async fn wait(
        self: &Arc<Self>,
        flow: Arc<Flowing>,
        estimate: Estimate,
        queue: usize,
        id: u64,
        waiting: oneshot::Receiver<Seat>,
    ) -> Result<Seat, Box<Refused>> {
        flow.stats.waiting.add(1);
        let since = Instant::now();
        // Leaves the queue when the client goes, or the time is over.
        let mut place = Place { fairness: self, flow: &flow, queue, id, since, left: false };
        match tokio::time::timeout(self.limits.wait, waiting).await {
            Ok(Ok(mut seat)) => {
                place.left = true;
                drop(place);
                flow.stats.waited.observe(since.elapsed().as_secs_f64());
                seat.assign(flow, estimate);
                Ok(seat)
            }
            _ => {
                place.leave();
                drop(place);
                flow.stats.waited_in_vain.observe(since.elapsed().as_secs_f64());
                Err(self.refuse(flow, "time-out"))
            }
        }
    }

    /// Gives those who waited their seats. Not under the level's lock: a seat that nobody takes goes back at once.
    fn start(self: &Arc<Self>, level: &Arc<Level>, started: Vec<(oneshot::Sender<Seat>, Ticket)>) {
        for (waiting, ticket) in started {
            let seat = Seat { fairness: self.clone(), level: level.clone(), ticket: Some(ticket), run: None };
            drop(waiting.send(seat));
        }
    }

    fn refuse(&self, flow: Arc<Flowing>, reason: &str) -> Box<Refused> {
        flow.stats.refuse(reason);
        let seconds = flow.level.retry.dropped(self.base.elapsed().as_secs());
        let status = Status::too_many_requests("Too many requests, please try again later.", seconds);
        Box::new(Refused { flow, status })
    }

    fn classify(&self, request: &Digest<'_>) -> (Arc<Flowing>, u64) {
        let compiled = self.compiled.load();
        let found = compiled.flows.iter().find(|flow| flow.matcher.fits(request));
        // The last one takes everybody but who is in no group at all.
        let flow = found.or(compiled.flows.last()).expect("there is always the catch-all schema").clone();
        let hash = if flow.level.exempt { 0 } else { self.hash(&flow.matcher.name, flow.matcher.distinguisher.of(request)) };
        (flow, hash)
    }

    /// Puts another configuration in force. Levels keep their queues and their load.
    fn adopt(self: &Fairness, schemas: &[Arc<api::FlowSchema>], levels: &[Arc<api::PriorityLevelConfiguration>]) -> Vec<(Arc<Level>, u32)> {
        let mandatory = keeper::Mandatory::get();
        let mut configurations: BTreeMap<&str, &api::PriorityLevelConfiguration> = BTreeMap::new();
        for level in mandatory.levels.iter().chain(levels.iter().map(|level| &**level)) {
            configurations.insert(level.metadata.name.as_deref().unwrap_or_default(), level);
        }
        let shares: Vec<Shares> = configurations.values().map(|level| shares_of(&level.spec)).collect();
        let seats = shares::divide(self.limits.seats, &shares);
        let old = self.compiled.load();
        let mut changed = Vec::new();
        let mut next = BTreeMap::new();
        for ((name, configuration), (seats, shares)) in configurations.iter().zip(seats.into_iter().zip(&shares)) {
            let kept = old.levels.get(*name).filter(|level| level.exempt == shares.exempt).cloned();
            let fresh = kept.is_none();
            let level = kept.unwrap_or_else(|| Arc::new(Level::new(name, shares.exempt)));
            level.set.lock().reshape(queuing_of(&configuration.spec));
            let mut numbers = level.numbers.lock();
            // What is lent stays lent until the next adjustment, as far as the new bounds allow.
            let limit = if fresh || numbers.seats != seats { seats.nominal } else { numbers.limit };
            (numbers.seats, numbers.limit) = (seats, limit);
            drop(numbers);
            level.widest.store(((f64::from(seats.nominal) * WIDEST).round() as u64).max(1), Ordering::Relaxed);
            changed.push((level.clone(), limit));
            next.insert((*name).to_owned(), level);
        }
        let flows = self.flows_of(mandatory, schemas, &configurations, &next);
        self.compiled.store(Arc::new(Compiled { flows, levels: next }));
        changed
    }

    fn flows_of(
        &self,
        mandatory: &keeper::Mandatory,
        schemas: &[Arc<api::FlowSchema>],
        configurations: &BTreeMap<&str, &api::PriorityLevelConfiguration>,
        levels: &BTreeMap<String, Arc<Level>>,
    ) -> Vec<Arc<Flowing>> {
        let mut by_name: BTreeMap<&str, &api::FlowSchema> = BTreeMap::new();
        for schema in mandatory.schemas.iter().chain(schemas.iter().map(|schema| &**schema)) {
            by_name.insert(schema.metadata.name.as_deref().unwrap_or_default(), schema);
        }
        let uid = |uid: &Option<String>| uid.as_deref().and_then(|uid| HeaderValue::from_str(uid).ok());
        let mut flows = Vec::new();
        for schema in by_name.values() {
            let target = schema.spec.priority_level_configuration.name.as_str();
            // A dangling schema takes no requests.
            let (Some(level), Some(configuration)) = (levels.get(target), configurations.get(target)) else { continue };
            let matcher = Arc::new(Matcher::of(schema));
            let stats = self.stats.lock().entry((target.to_owned(), matcher.name.clone())).or_default().clone();
            let (schema_uid, level_uid) = (uid(&schema.metadata.uid), uid(&configuration.metadata.uid));
            flows.push((matcher.clone(), Arc::new(Flowing { matcher, level: level.clone(), schema_uid, level_uid, stats })));
        }
        schema::sort(&mut flows);
        flows.into_iter().map(|(_, flow)| flow).collect()
    }

    /// Lends idle seats for the next period.
    fn adjust(self: &Arc<Self>) {
        let compiled = self.compiled.load_full();
        let now = self.now();
        let (mut limited, mut exempt) = (Vec::new(), 0);
        for level in compiled.levels.values() {
            let demand = level.take_demand(now);
            let mut numbers = level.numbers.lock();
            numbers.wanted.observe(demand);
            if level.exempt {
                numbers.limit = numbers.seats.min.max(demand.high as u32);
                exempt += numbers.limit;
            } else {
                limited.push((level, (numbers.seats, numbers.wanted)));
            }
        }
        let problem: Vec<(Seats, Wanted)> = limited.iter().map(|(_, level)| *level).collect();
        let (seats, fraction) = shares::lend(self.limits.seats.saturating_sub(exempt), &problem);
        self.fraction.store(fraction.to_bits(), Ordering::Relaxed);
        for ((level, _), seats) in limited.into_iter().zip(seats) {
            self.set_limit(level, seats);
        }
    }

    fn set_limit(self: &Arc<Self>, level: &Arc<Level>, seats: u32) {
        level.numbers.lock().limit = seats;
        if !level.exempt {
            let started = level.set.lock().set_limit(self.now(), seats);
            self.start(level, started);
        }
    }

    /// What is counted, in Prometheus' text form.
    pub fn write_metrics(&self, out: &mut Text) {
        stats::write(self, out);
    }

    fn flows(&self) -> Vec<(String, String, Arc<Flow>)> {
        let mut all: Vec<_> =
            self.stats.lock().iter().map(|((level, schema), flow)| (level.clone(), schema.clone(), flow.clone())).collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    fn level_numbers(&self) -> Vec<(String, Numbers)> {
        self.compiled.load().levels.iter().map(|(name, level)| (name.clone(), *level.numbers.lock())).collect()
    }

    fn fair_fraction(&self) -> f64 {
        f64::from_bits(self.fraction.load(Ordering::Relaxed))
    }

    /// `/debug/api_priority_and_fairness/NAME`, or nothing of that name. Upstream's columns.
    pub fn dump(&self, name: &str) -> Option<String> {
        let compiled = self.compiled.load();
        let mut text = String::new();
        match name {
            "dump_priority_levels" => {
                text += "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, \
                         RejectedRequests, TimedoutRequests, CancelledRequests\n";
                for (name, level) in &compiled.levels {
                    let (_, executing, waiting, active) = level.set.lock().load();
                    let of_level = self.flows().into_iter().filter(|(level, ..)| level == name).map(|(_, _, flow)| flow);
                    let (mut dispatched, mut refused) = (0, [0; 4]);
                    for flow in of_level {
                        dispatched += flow.dispatched.get();
                        refused.iter_mut().zip(&flow.refused).for_each(|(sum, count)| *sum += count.get());
                    }
                    let [full, queue, late, gone] = refused;
                    let executing = if level.exempt { level.exempt_seats.get() } else { executing.into() };
                    let idle = executing == 0 && waiting == 0;
                    let rejected = full + queue;
                    text += &format!("{name}, {active}, {idle}, false, {waiting}, {executing}, {dispatched}, {rejected}, {late}, {gone}\n");
                }
            }
            "dump_queues" => {
                text += "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR\n";
                for (name, level) in &compiled.levels {
                    for (index, waiting, executing, seats, next) in level.set.lock().queues() {
                        text += &format!("{name}, {index}, {waiting}, {executing}, {seats}, {next:.8}ss\n");
                    }
                }
            }
            _ => return None,
        }
        Some(text)
    }
}

fn shares_of(spec: &api::PriorityLevelConfigurationSpec) -> Shares {
    let number = |value: Option<i32>, default: u32| value.map_or(default, |value| u32::try_from(value).unwrap_or(0));
    match (&spec.limited, &spec.exempt) {
        (Some(limited), _) if spec.type_ == "Limited" => Shares {
            nominal: number(limited.nominal_concurrency_shares, 30),
            lendable_percent: number(limited.lendable_percent, 0).min(100),
            borrowing_percent: limited.borrowing_limit_percent.map(|percent| u32::try_from(percent).unwrap_or(0)),
            exempt: false,
        },
        (_, exempt) => Shares {
            nominal: number(exempt.as_ref().and_then(|exempt| exempt.nominal_concurrency_shares), 0),
            lendable_percent: number(exempt.as_ref().and_then(|exempt| exempt.lendable_percent), 0).min(100),
            borrowing_percent: None,
            exempt: true,
        },
    }
}

fn queuing_of(spec: &api::PriorityLevelConfigurationSpec) -> Option<Queuing> {
    let response = &spec.limited.as_ref()?.limit_response;
    let queuing = response.queuing.as_ref().filter(|_| response.type_ == "Queue")?;
    let number = |value: Option<i32>, default: usize| value.map_or(default, |value| usize::try_from(value).unwrap_or(default)).max(1);
    // Upstream's validation bounds the number of queues so.
    let queues = number(queuing.queues, 64).min(10_000_000);
    Some(Queuing { queues, hand: number(queuing.hand_size, 8), length: number(queuing.queue_length_limit, 50) })
}

impl Level {
    fn new(name: &str, exempt: bool) -> Level {
        Level {
            name: name.to_owned(),
            exempt,
            set: Mutex::new(QueueSet::new(None, 0)),
            numbers: Mutex::default(),
            widest: AtomicU64::new(1),
            exempt_seats: Gauge::new(),
            exempt_high: Gauge::new(),
            retry: RetryAfter::default(),
        }
    }

    fn take_demand(&self, now: f64) -> queue::Demand {
        if !self.exempt {
            return self.set.lock().take_demand(now);
        }
        let (present, high) = (self.exempt_seats.get(), self.exempt_high.get());
        self.exempt_high.set(present);
        queue::Demand { high: high.max(present) as f64, average: present as f64, deviation: 0.0 }
    }
}

/// What `Retry-After` says: doubled while many are refused, less again when few are. Upstream's `dropped_requests_tracker.go`.
#[derive(Default)]
struct RetryAfter(Mutex<Dropped>);

#[derive(Default)]
struct Dropped {
    seconds: u32,
    /// Refusals by second, the newest last.
    history: std::collections::VecDeque<(u64, u32)>,
    raised: u64,
}

impl RetryAfter {
    const MOST: u32 = 32;

    /// Counts a refusal at this second; returns what the client is told.
    fn dropped(&self, now: u64) -> u32 {
        let mut state = self.0.lock();
        let seconds = state.seconds.max(1);
        if state.history.back().is_none_or(|(second, _)| *second != now) {
            let recent = state.history.iter().filter(|(second, _)| now - second <= u64::from(seconds)).map(|(_, count)| count).sum::<u32>();
            if now - state.raised >= u64::from(seconds) && recent >= 3 * seconds {
                (state.seconds, state.raised) = ((seconds * 2).min(RetryAfter::MOST), now);
            } else if recent < seconds {
                state.seconds = seconds.saturating_sub(1).max(1);
            }
            state.history.push_back((now, 0));
            while state.history.len() > RetryAfter::MOST as usize {
                state.history.pop_front();
            }
        }
        if let Some((_, count)) = state.history.back_mut() {
            *count += 1;
        }
        state.seconds.max(1)
    }
}

/// A place in a queue, given up when dropped.
struct Place<'a> {
    fairness: &'a Arc<Fairness>,
    flow: &'a Arc<Flowing>,
    queue: usize,
    id: u64,
    since: Instant,
    left: bool,
}

impl Place<'_> {
    fn leave(&mut self) {
        self.left = true;
        let started = self.flow.level.set.lock().leave(self.fairness.now(), self.queue, self.id);
        // `None`: its seat was on the way, and comes back by itself.
        self.fairness.start(&self.flow.level, started.unwrap_or_default());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.leave();
            self.flow.stats.refuse("cancelled");
            self.flow.stats.waited_in_vain.observe(self.since.elapsed().as_secs_f64());
        }
        self.flow.stats.waiting.add(-1);
    }
}

/// What a running request holds. Dropped, it is free for the next.
pub struct Seat {
    fairness: Arc<Fairness>,
    level: Arc<Level>,
    /// None in an exempt level.
    ticket: Option<Ticket>,
    /// None until the one who waited for it took it.
    run: Option<Run>,
}

struct Run {
    flow: Arc<Flowing>,
    estimate: Estimate,
    since: Instant,
    watch: bool,
}

impl Seat {
    fn new(fairness: &Arc<Fairness>, flow: Arc<Flowing>, estimate: Estimate, ticket: Option<Ticket>) -> Seat {
        let mut seat = Seat { fairness: fairness.clone(), level: flow.level.clone(), ticket, run: None };
        seat.assign(flow, estimate);
        seat
    }

    fn assign(&mut self, flow: Arc<Flowing>, estimate: Estimate) {
        flow.stats.dispatched.inc();
        flow.stats.executing.add(1);
        flow.stats.seats.add(estimate.seats.into());
        self.run = Some(Run { flow, estimate, since: Instant::now(), watch: false });
    }

    /// What classified its request.
    pub fn flow(&self) -> Arc<Flowing> {
        self.run.as_ref().expect("whoever was handed a seat runs").flow.clone()
    }

    /// Counts it as the beginning of a watch.
    pub fn for_watch(&mut self) {
        if let Some(run) = &mut self.run {
            run.watch = true;
        }
    }

    /// Name of its level, for the log.
    pub fn level(&self) -> &str {
        &self.level.name
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut after = 0;
        let mut hold = 0.0;
        if let Some(Run { flow, estimate, since, watch }) = self.run.take() {
            flow.stats.executing.add(-1);
            flow.stats.seats.add(-i64::from(estimate.seats));
            let histogram = if watch { &flow.stats.executed_watch } else { &flow.stats.executed };
            histogram.observe(since.elapsed().as_secs_f64());
            (after, hold) = (estimate.after, estimate.hold);
            if self.level.exempt {
                self.level.exempt_seats.add(-i64::from(estimate.seats));
            }
        }
        let Some(mut ticket) = self.ticket.take() else { return };
        let now = self.fairness.now();
        let runtime = if after == 0 { None } else { tokio::runtime::Handle::try_current().ok() };
        let Some(runtime) = runtime else {
            let started = self.level.set.lock().finish(now, ticket);
            return self.fairness.start(&self.level, started);
        };
        let started = self.level.set.lock().narrow(now, &mut ticket, after);
        self.fairness.start(&self.level, started);
        let rest = Seat { fairness: self.fairness.clone(), level: self.level.clone(), ticket: Some(ticket), run: None };
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_secs_f64(hold)).await;
            drop(rest);
        });
    }
}

#[cfg(test)]
mod tests;
