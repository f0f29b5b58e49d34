//! The de-duplicating queue of one controller's keys, with back-off and deadlines.
//!
//! Invariants: a key is in at most one of ready and running; a key woken while it runs is ready again when it is done.
//! Pure: the time is an argument. Follows client-go's `util/workqueue` (dirty set, processing set, item exponential failure
//! rate limiter), with one deadline per key instead of a waiting heap of duplicates.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stats::QueueStats;
use crate::api::Key;

/// Back-off after the first failure, doubled for each further one.
const BACKOFF_BASE: Duration = Duration::from_millis(5);
/// Longest back-off.
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// As wanted; run again after this long, if given.
    Ok(Option<Duration>),
    /// Decided on an older revision: run again at once.
    Conflict,
    /// Failed: run again after the back-off.
    Failed,
}

#[derive(Default)]
struct State {
    ready: bool,
    running: bool,
    /// Woken while running.
    dirty: bool,
    failures: u32,
    due: Option<Instant>,
    /// When it became ready, for the numbers only.
    since: Option<Instant>,
}

/// Keys of one controller.
#[derive(Default)]
pub(super) struct Queue {
    ready: VecDeque<Key>,
    states: HashMap<Key, State>,
    timers: BTreeSet<(Instant, Key)>,
    running: usize,
    stats: Arc<QueueStats>,
}

/// The wait before the retry after the `failures`th failure in a row (from 1).
fn backoff(failures: u32) -> Duration {
    BACKOFF_BASE.checked_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).unwrap_or(BACKOFF_MAX).min(BACKOFF_MAX)
}

impl Queue {
    /// An empty queue, counted in `stats`.
    pub(super) fn new(stats: Arc<QueueStats>) -> Queue {
        Queue { stats, ..Queue::default() }
    }

    /// Wakes a key.
    pub(super) fn add(&mut self, key: Key) {
        let state = self.states.entry(key.clone()).or_default();
        if state.running {
            state.dirty = true;
        } else if !state.ready {
            state.ready = true;
            state.since = Some(Instant::now());
            self.stats.adds.inc();
            self.stats.depth.add(1);
            self.ready.push_back(key);
        }
    }

    /// The next key to run, marked as running. Its deadline is forgotten: the run sets a new one.
    pub(super) fn pop(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        let state = self.states.get_mut(&key).expect("a ready key has a state");
        (state.ready, state.running, state.dirty) = (false, true, false);
        self.stats.depth.add(-1);
        if let Some(since) = state.since.take() {
            self.stats.waited.observe(since.elapsed().as_secs_f64());
        }
        if let Some(due) = state.due.take() {
            self.timers.remove(&(due, key.clone()));
        }
        self.running += 1;
        Some(key)
    }

    /// Ends a run begun by [`Queue::pop`].
    pub(super) fn done(&mut self, key: &Key, how: Done, now: Instant) {
        let Some(state) = self.states.get_mut(key) else { return };
        state.running = false;
        self.running -= 1;
        let mut woken = state.dirty;
        match how {
            Done::Ok(again) => {
                state.failures = 0;
                state.due = again.map(|wait| now + wait);
            }
            Done::Conflict => woken = true,
            Done::Failed => {
                state.failures = state.failures.saturating_add(1);
                self.stats.retries.inc();
                state.due = Some(now + backoff(state.failures));
            }
        }
        if let Some(due) = state.due {
            self.timers.insert((due, key.clone()));
        }
        if woken {
            self.add(key.clone());
        } else if state.due.is_none() && state.failures == 0 {
            self.states.remove(key);
        }
    }

    /// Wakes the keys whose deadline has come.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.timers.pop_first() else { return };
            if let Some(state) = self.states.get_mut(&key) {
                state.due = None;
            }
            self.add(key);
        }
    }

    /// The nearest deadline.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// How many keys run now.
    pub(super) fn running(&self) -> usize {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("", "pods", "default", name)
    }

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        let waits: Vec<_> = [1, 2, 3, 18, 19, 40, 4000].map(backoff).iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [5, 10, 20, 655_360, 1_000_000, 1_000_000, 1_000_000]);
    }

    #[test]
    fn a_key_is_queued_once_and_never_runs_twice_at_once() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.pop(), Some(key("a")));
        queue.add(key("a"));
        assert_eq!(queue.pop(), Some(key("b")));
        assert_eq!(queue.pop(), None, "a runs");
        queue.done(&key("a"), Done::Ok(None), now);
        assert_eq!(queue.pop(), Some(key("a")), "it was woken while it ran");
        queue.done(&key("a"), Done::Ok(None), now);
        queue.done(&key("b"), Done::Ok(None), now);
        assert!(queue.states.is_empty() && queue.running() == 0);
    }

    #[test]
    fn deadlines_failures_and_conflicts() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(key("a"));
        queue.pop();
        queue.done(&key("a"), Done::Ok(Some(Duration::from_secs(9))), now);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(9)));
        queue.tick(now + Duration::from_secs(8));
        assert_eq!(queue.pop(), None);
        queue.tick(now + Duration::from_secs(9));
        assert_eq!(queue.pop(), Some(key("a")));
        queue.done(&key("a"), Done::Failed, now);
        assert_eq!(queue.next_due(), Some(now + Duration::from_millis(5)));
        queue.add(key("a"));
        assert_eq!(queue.pop(), Some(key("a")), "a change does not wait for the back-off");
        assert_eq!(queue.next_due(), None);
        queue.done(&key("a"), Done::Conflict, now);
        assert_eq!(queue.pop(), Some(key("a")));
        queue.done(&key("a"), Done::Failed, now);
        assert_eq!(queue.next_due(), Some(now + Duration::from_millis(10)), "failures are counted over conflicts");
    }
}
