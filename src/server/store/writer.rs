//! The single writer: batches concurrent commits so that one flush serves them all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::history::History;
use super::stats::Stats;
use super::{Backend, BackendError, Change, Entry, Event, Expect, Held, Index, Limits, Record, Shared, Snapshot, StoreError};
use crate::api::{Key, Rev};

/// Commits waiting at most; more wait in their own tasks.
const QUEUE: usize = 4096;
/// One flush carries at most this many commits and about this many bytes.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

type Answer = oneshot::Sender<Result<Arc<Entry>, StoreError>>;

/// What the writer is asked to do. Nearly all of it is commits, so that boxing the large variant would gain nothing.
#[allow(clippy::large_enum_variant)]
pub(super) enum Request {
    /// One conditional write.
    Commit { key: Key, expect: Expect, change: Change, answer: Answer },
    /// Seal again what is sealed in an old way.
    Reseal { done: oneshot::Sender<Result<usize, StoreError>> },
    /// Finish and end.
    Close { done: oneshot::Sender<()> },
}

/// See the module.
pub(super) struct Writer {
    backend: Box<dyn Backend>,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    /// A failed append that is not undone yet: nothing may be written before that.
    broken: bool,
}

/// Commits accepted into one flush.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    events: Vec<Arc<Event>>,
    answers: Vec<(Answer, Arc<Entry>)>,
    bytes: usize,
}

impl Writer {
    /// Rebuilds state and history from what the backend holds.
    pub(super) fn new(
        mut backend: Box<dyn Backend>,
        held: Held,
        limits: Limits,
        indexes: &'static [Index],
    ) -> Result<(Writer, Arc<Shared>, mpsc::Sender<Request>), BackendError> {
        let (snapshot, history, fallen) = replay(held, limits, indexes)?;
        tidy(&mut *backend, &fallen);
        let shared = Arc::new(Shared { snapshot: ArcSwap::from_pointee(snapshot), history, broken: false.into(), stats: Stats::default() });
        let (sender, requests) = mpsc::channel(QUEUE);
        Ok((Writer { backend, shared: shared.clone(), requests, broken: false }, shared, sender))
    }

    /// Serves until closed or until the last handle is gone.
    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = self.requests.blocking_recv() else { break };
            closing = self.batch(first);
        }
        self.shared.history.close();
        drop(self.backend);
        if let Some(done) = closing {
            // The asker may have given up waiting; the store is closed all the same.
            done.send(()).ok();
        }
    }

    /// Takes what is waiting, writes it, publishes it, answers. Returns the asker of a close.
    fn batch(&mut self, first: Request) -> Option<oneshot::Sender<()>> {
        let mut state = Snapshot::clone(&self.shared.snapshot.load());
        let mut batch = Batch::default();
        let mut closing = None;
        let mut reseals = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next.take() {
            match request {
                Request::Close { done } => closing = Some(done),
                // A new codec seals what is appended from now on, so the order within a batch does not matter.
                Request::Reseal { done } => reseals.push(done),
                Request::Commit { key, expect, change, answer } => {
                    let lost = !accept(&mut state, &mut batch, key, expect, change, answer);
                    self.shared.stats.conflicts.add(lost.into());
                }
            }
            if closing.is_none() && batch.records.len() < BATCH && batch.bytes < BATCH_BYTES {
                next = self.requests.try_recv().ok();
            }
        }
        if !batch.records.is_empty() {
            self.write(state, batch);
        }
        for done in reseals {
            // The asker may be gone; what was asked for is done all the same.
            done.send(self.reseal()).ok();
        }
        closing
    }

    fn write(&mut self, state: Snapshot, batch: Batch) {
        let started = Instant::now();
        let outcome = self.append(&batch.records);
        let stats = &self.shared.stats;
        stats.seconds.observe(started.elapsed().as_secs_f64());
        stats.commits.observe(batch.records.len() as f64);
        self.shared.broken.store(outcome.is_err(), Ordering::Relaxed);
        if let Err(failure) = outcome {
            stats.failed.add(batch.records.len() as u64);
            error!("{failure}; {} writes refused", batch.records.len());
            for (answer, _) in batch.answers {
                answer.send(Err(StoreError::Backend(failure.to_string()))).ok();
            }
            return;
        }
        let shared = &self.shared;
        let fallen = shared.history.push(batch.events, || shared.snapshot.store(Arc::new(state)));
        // Answered before the tidying, which nobody waits for. A dropped asker does not undo its write.
        for (answer, entry) in batch.answers {
            answer.send(Ok(entry)).ok();
        }
        tidy(&mut *self.backend, &fallen);
    }

    fn reseal(&mut self) -> Result<usize, StoreError> {
        let outcome = self.append(&[]).and_then(|()| self.backend.reseal());
        self.broken |= matches!(&outcome, Err(BackendError::Database { .. } | BackendError::Io { .. }));
        outcome.map_err(|failure| {
            error!("{failure}; sealing anew is not finished");
            StoreError::Backend(failure.to_string())
        })
    }

    fn append(&mut self, records: &[Record]) -> Result<(), BackendError> {
        if self.broken {
            self.backend.recover(self.shared.snapshot.load().rev())?;
            self.broken = false;
        }
        let result = self.backend.append(records);
        // A full disk is noticed before anything is touched; all else leaves doubt.
        let untouched = |failure: &BackendError| matches!(failure, BackendError::Full { .. } | BackendError::Locked { .. });
        self.broken = matches!(&result, Err(failure) if !untouched(failure));
        result
    }
}

/// Checks one commit against the state that the batch would leave, and adds it. Says whether it held.
fn accept(state: &mut Snapshot, batch: &mut Batch, key: Key, expect: Expect, change: Change, answer: Answer) -> bool {
    let found = state.get(&key);
    let holds = match (expect, found) {
        (Expect::Absent, None) => true,
        (Expect::Rev(rev), Some(entry)) => entry.rev == rev,
        _ => false,
    };
    if !holds {
        answer.send(Err(StoreError::Conflict(found.cloned()))).ok();
        return false;
    }
    let rev = Rev(state.rev().0 + 1);
    let (draft, deleted) = match change {
        Change::Put(draft) => (draft, false),
        Change::Delete(draft) => (draft, true),
    };
    let entry = Arc::new(draft.at(key.clone(), rev));
    let prev = state.apply(&entry, deleted);
    batch.bytes += entry.json.len();
    batch.records.push(Record { rev, key, prev: prev.as_ref().map(|entry| entry.rev), deleted, json: entry.json.clone() });
    batch.events.push(Arc::new(Event { rev, entry: entry.clone(), prev, deleted }));
    batch.answers.push((answer, entry));
    true
}

/// Lets the backend forget what only events that left the history needed.
fn tidy(backend: &mut dyn Backend, fallen: &[Arc<Event>]) {
    let Some(floor) = fallen.last().map(|event| event.rev) else { return };
    let superseded = |event: &Arc<Event>| {
        let removal = event.deleted.then_some(event.rev);
        event.prev.as_ref().map(|entry| entry.rev).into_iter().chain(removal)
    };
    let revs: Vec<Rev> = fallen.iter().flat_map(superseded).collect();
    if let Err(failure) = backend.forget(&revs, floor) {
        // Not lost, only kept: the floor did not move either, so the next start finds the same events and tidies them again.
        warn!("{failure}; {} old records stay for now", revs.len());
    }
}

/// State and history from what a backend holds, and the events that the limits let fall.
fn replay(held: Held, limits: Limits, indexes: &'static [Index]) -> Result<(Snapshot, History, Vec<Arc<Event>>), BackendError> {
    // The floor may be newer than every live object: what followed them was removed.
    let mut state = Snapshot::empty(held.floor, indexes);
    let history = History::new(limits, held.floor);
    let mut events = Vec::new();
    for Record { rev, key, deleted, json, .. } in held.records {
        let entry = Entry::decode(key.clone(), rev, json)
            .map_err(|error| BackendError::Damaged { path: key.to_string().into(), why: error.to_string() })?;
        let entry = Arc::new(entry);
        let prev = state.apply(&entry, deleted);
        if rev > held.floor {
            events.push(Arc::new(Event { rev, entry, prev, deleted }));
        } else {
            let replaced = prev.map(|prev| (prev, true));
            history.count((!deleted).then_some((entry, false)).into_iter().chain(replaced));
        }
    }
    let fallen = history.push(events, || ());
    Ok((state, history, fallen))
}
