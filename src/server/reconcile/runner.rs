//! The one runner: it feeds all controllers from one watch and performs what they decide.
//!
//! One task owns every queue; each run of a key is a task of its own that takes a snapshot, asks the controller, and performs the
//! ops in order. Follows the shape of controller-runtime, without its caches.
//!
//! Never: a lock held over an await, or a decision of its own.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::op::{self, Refused};
use super::queue::{Done, Queue};
use super::recorder::{Recorder, Report};
use super::stats::{QueueStats, Stats};
use super::{Controller, Op, OpFailure, Trigger, View};
use crate::api::{Key, Rev, Scope};
use crate::server::registry::{Registry, WriteOptions};
use crate::server::store::{Delivery, Event, Expired, Snapshot, Watch};

/// Runs `controllers` over the registry until `stop` is cancelled, then waits for the runs that have begun. What it does is counted in
/// `stats`.
pub async fn run(registry: Registry, controllers: Vec<Box<dyn Controller>>, stats: Arc<Stats>, stop: CancellationToken) {
    let (recorder, writing) = Recorder::start(registry.clone());
    let options = controllers.iter().map(|controller| op::options(controller.user())).collect();
    let counted = stats.clone();
    Runner::new(Live { registry, recorder, options, stats: counted }, controllers, &stats).run(stop).await;
    // The runner is gone and with it the last recorder: what is left of the backlog is written, then the task ends.
    if let Err(error) = writing.await {
        tracing::error!(%error, "the event recorder panicked");
    }
}

/// What the runner needs of the world; the registry in production, an in-memory one in tests.
pub(super) trait World: Send + Sync + 'static {
    /// A stream of changes.
    type Changes: Changes;
    /// The newest state.
    fn snapshot(&self) -> Snapshot;
    /// All changes after `from`.
    fn watch(&self, from: Rev) -> Result<Self::Changes, Expired>;
    /// Performs an op of the controller with this index.
    fn perform(&self, index: usize, name: &'static str, op: Op) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// A stream of changes.
pub(super) trait Changes: Send {
    /// The next ones. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Delivery> + Send;
}

impl Changes for Watch {
    async fn next(&mut self) -> Delivery {
        Watch::next(self).await
    }
}

struct Live {
    registry: Registry,
    recorder: Recorder,
    options: Vec<WriteOptions>,
    stats: Arc<Stats>,
}

impl World for Live {
    type Changes = Watch;

    fn snapshot(&self) -> Snapshot {
        self.registry.store().snapshot()
    }

    fn watch(&self, from: Rev) -> Result<Watch, Expired> {
        self.registry.store().watch(Scope::all(), from)
    }

    async fn perform(&self, index: usize, name: &'static str, op: Op) -> Result<(), Refused> {
        let attempt = self.stats.attempt(&op);
        let outcome = match op {
            Op::Event { regarding, kind, reason, message } => {
                self.recorder.record(Report { regarding, kind, reason, message, component: name });
                Ok(())
            }
            op => op::perform(&self.registry, op, &self.options[index]).await,
        };
        if let Some(counter) = attempt {
            self.stats.attempted(counter, &outcome);
        }
        outcome
    }
}

/// A trigger's mapping of a change to keys.
type Map = fn(&Event) -> Vec<Key>;

/// One controller with its queue.
struct Slot {
    controller: Arc<dyn Controller>,
    triggers: Vec<(Scope, Map)>,
    queue: Queue,
    stats: Arc<QueueStats>,
    failures: HashMap<Key, OpFailure>,
}

impl Slot {
    fn wake(&mut self, event: &Event) {
        for (scope, map) in &self.triggers {
            if !scope.contains(&event.entry.key) {
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| map(event))) {
                Ok(keys) => keys.into_iter().for_each(|key| self.queue.add(key)),
                // The other controllers must not stop over it; this one misses a change, until the next of the same object.
                Err(panic) => {
                    let (controller, key) = (self.controller.name(), &event.entry.key);
                    tracing::error!(controller, %key, panic = panic_text(&*panic), "a controller panicked over a change");
                }
            }
        }
    }
}

/// The end of one run.
struct Ended {
    index: usize,
    key: Key,
    how: Done,
    failure: Option<OpFailure>,
}

pub(super) struct Runner<W> {
    world: Arc<W>,
    slots: Vec<Slot>,
    running: JoinSet<Ended>,
}

impl<W: World> Runner<W> {
    pub(super) fn new(world: W, controllers: Vec<Box<dyn Controller>>, stats: &Stats) -> Runner<W> {
        let slot = |controller: Box<dyn Controller>| {
            let triggers = controller.triggers().into_iter().map(|Trigger { scope, map }| (scope(), map)).collect();
            let stats = stats.queue(controller.name());
            Slot { controller: controller.into(), triggers, queue: Queue::new(stats.clone()), stats, failures: HashMap::new() }
        };
        Runner { world: Arc::new(world), slots: controllers.into_iter().map(slot).collect(), running: JoinSet::new() }
    }

    /// Runs until `stop`, then drains.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let snapshot = self.world.snapshot();
            let changes = match self.world.watch(snapshot.rev()) {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::debug!(%error, "the history moved on while the controllers were listing; listing again");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            self.wake_all(&snapshot);
            if !self.follow(changes, &stop).await {
                break;
            }
        }
        while let Some(ended) = self.running.join_next().await {
            self.finish(ended);
        }
    }

    /// Every key, at the start and after lost history: each present object as if it had just been created.
    fn wake_all(&mut self, snapshot: &Snapshot) {
        for slot in &mut self.slots {
            slot.controller.startup().into_iter().for_each(|key| slot.queue.add(key));
        }
        for entry in snapshot.range(&Scope::all()) {
            let event = Event { rev: entry.rev, entry: entry.clone(), prev: None, deleted: false };
            self.slots.iter_mut().for_each(|slot| slot.wake(&event));
        }
    }

    /// Follows one watch. `true`: it expired, list again. `false`: the end.
    async fn follow(&mut self, mut changes: W::Changes, stop: &CancellationToken) -> bool {
        loop {
            self.dispatch();
            let due = self.slots.iter().filter_map(|slot| slot.queue.next_due()).min();
            tokio::select! {
                () = stop.cancelled() => return false,
                delivery = changes.next() => match delivery {
                    Delivery::Events(events) => {
                        for event in &events {
                            self.slots.iter_mut().for_each(|slot| slot.wake(event));
                        }
                    }
                    Delivery::Expired => return true,
                    Delivery::Closed => return false,
                },
                Some(ended) = self.running.join_next() => self.finish(ended),
                () = until(due) => {
                    let now = Instant::now();
                    self.slots.iter_mut().for_each(|slot| slot.queue.tick(now));
                }
            }
        }
    }

    /// Starts as many runs as the controllers' limits allow.
    fn dispatch(&mut self) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            while slot.queue.running() < slot.controller.workers() {
                let Some(key) = slot.queue.pop() else { break };
                let failure = slot.failures.get(&key).cloned();
                let (run, stats) = (run_key(self.world.clone(), slot.controller.clone(), index, key, failure), slot.stats.clone());
                self.running.spawn(async move {
                    let started = Instant::now();
                    let ended = run.await;
                    stats.worked.observe(started.elapsed().as_secs_f64());
                    ended
                });
            }
        }
    }

    fn finish(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { index, key, how, failure } = match ended {
            Ok(ended) => ended,
            // Panics are caught inside the run and nobody aborts one, so this is the runtime going down.
            Err(error) => return tracing::error!(%error, "a controller's run was lost"),
        };
        let slot = &mut self.slots[index];
        match failure {
            Some(failure) => slot.failures.insert(key.clone(), failure),
            None => slot.failures.remove(&key),
        };
        slot.queue.done(&key, how, Instant::now());
    }
}

/// Waits for a deadline; forever, when there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)")
}

/// One run of one key: snapshot, decide, perform.
async fn run_key<W: World>(world: Arc<W>, controller: Arc<dyn Controller>, index: usize, key: Key, failure: Option<OpFailure>) -> Ended {
    let name = controller.name();
    let view = View::new(world.snapshot(), Timestamp::now()).with_failure(failure);
    let outcome = match catch_unwind(AssertUnwindSafe(|| controller.reconcile(&key, &view))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            tracing::error!(controller = name, %key, panic = panic_text(&*panic), "a controller panicked; the key is tried again later");
            return Ended { index, key, how: Done::Failed, failure: None };
        }
    };
    // The snapshot is let go before the writes: nobody keeps an old state alive while waiting for the disk.
    drop(view);
    let mut ended = Ended { index, key, how: Done::Ok(outcome.again), failure: None };
    for op in outcome.ops {
        match AssertUnwindSafe(world.perform(index, name, op)).catch_unwind().await {
            Ok(Ok(())) => {}
            Err(panic) => {
                tracing::error!(controller = name, key = %ended.key, panic = panic_text(&*panic), "a write panicked; the key is tried again later");
                ended.how = Done::Failed;
                break;
            }
            Ok(Err(Refused::Conflict)) => {
                ended.how = Done::Conflict;
                break;
            }
            Ok(Err(Refused::Failed(failure))) => {
                tracing::warn!(controller = name, key = %ended.key, error = %failure, "a write of a controller failed; it is tried again later");
                (ended.how, ended.failure) = (Done::Failed, Some(failure));
                break;
            }
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::super::Outcome;
    use super::super::testing::{Shared, SharedChanges, World as Objects};
    use super::*;

    /// Copies each ConfigMap into a Secret of its name. Panics once, on the name `panic`.
    struct Copier {
        panicked: Mutex<bool>,
    }

    impl Controller for Copier {
        fn name(&self) -> &'static str {
            "copier"
        }
        fn triggers(&self) -> Vec<Trigger> {
            vec![Trigger::of::<ConfigMap>()]
        }
        fn reconcile(&self, key: &Key, view: &View) -> Outcome {
            let Some(map) = view.at::<ConfigMap>(key) else { return Outcome::default() };
            if key.name() == "panic" && !std::mem::replace(&mut *self.panicked.lock(), true) {
                panic!("as the test wants");
            }
            if view.get::<Secret>(key.namespace(), key.name()).is_some() {
                return Outcome::default();
            }
            let mut secret = Secret { metadata: map.metadata.clone(), ..Secret::default() };
            secret.metadata.resource_version = None;
            Outcome { ops: vec![Op::Create(Box::new(secret))], again: None }
        }
    }

    /// An in-memory world whose first writes are refused in every way.
    struct Flaky {
        objects: Shared,
        refusals: Mutex<Vec<Refused>>,
        wrote: mpsc::UnboundedSender<String>,
    }

    impl World for Flaky {
        type Changes = SharedChanges;
        fn snapshot(&self) -> Snapshot {
            self.objects.snapshot()
        }
        fn watch(&self, from: Rev) -> Result<SharedChanges, Expired> {
            Ok(self.objects.watch(from))
        }
        async fn perform(&self, _: usize, _: &'static str, op: Op) -> Result<(), Refused> {
            if let Some(refused) = self.refusals.lock().pop() {
                return Err(refused);
            }
            let name = match &op {
                Op::Create(object) => object.meta().name.clone().unwrap_or_default(),
                _ => String::new(),
            };
            self.objects.apply(&op);
            let _ = self.wrote.send(name);
            Ok(())
        }
    }

    impl Changes for SharedChanges {
        async fn next(&mut self) -> Delivery {
            SharedChanges::next(self).await
        }
    }

    #[tokio::test]
    async fn every_key_gets_there_through_refusals_panics_and_lost_history() {
        let mut objects = Objects::default();
        objects.load("kind: ConfigMap\nmetadata: {name: early, namespace: default}\n---\nkind: ConfigMap\nmetadata: {name: panic, namespace: default}");
        let objects = Shared::new(objects);
        let (wrote, mut written) = mpsc::unbounded_channel();
        let failure = OpFailure { verb: "create", what: "x".into(), message: "disk full".into() };
        let refusals = Mutex::new(vec![Refused::Failed(failure), Refused::Conflict]);
        let world = Flaky { objects: objects.clone(), refusals, wrote };
        let stop = CancellationToken::new();
        let controller = Copier { panicked: Mutex::new(false) };
        let task = tokio::spawn(Runner::new(world, vec![Box::new(controller)], &Stats::default()).run(stop.clone()));
        let mut names = Vec::new();
        for late in ["", "late", "after-expiry"] {
            if late == "after-expiry" {
                objects.expire();
            }
            if !late.is_empty() {
                objects.load(&format!("kind: ConfigMap\nmetadata: {{name: {late}, namespace: default}}"));
            }
            for _ in 0..if late.is_empty() { 2 } else { 1 } {
                let name = tokio::time::timeout(Duration::from_secs(10), written.recv()).await;
                names.push(name.expect("written in time").expect("the runner lives"));
            }
        }
        names.sort();
        assert_eq!(names, ["after-expiry", "early", "late", "panic"]);
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), task).await.expect("drains in time").expect("does not panic");
    }
}
