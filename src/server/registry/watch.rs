//! WATCH: the store's changes, seen through selectors.
//!
//! An object entering the selection is ADDED, one leaving it is DELETED (with its last selected state and the revision of the change),
//! as apiserver `pkg/storage/etcd3/watcher.go`. Bookmarks are sent only when everything up to their revision was sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::filter::Filter;
use super::list::too_large;
use super::{KindDef, Registry, WatchEvent, WatchOptions};
use crate::api::{Rev, Status};
use crate::server::store::{Delivery, Entry, Event, Snapshot, Watch};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// A running watch.
pub struct ObjectWatch {
    kind: &'static KindDef,
    filter: Filter,
    watch: Watch,
    /// What is decided but not yet handed out.
    ready: VecDeque<WatchEvent>,
    bookmarks: Option<Interval>,
}

impl Registry {
    /// WATCH. One object is watched by its `metadata.name` in the field selector.
    pub fn watch(&self, kind: &'static KindDef, namespace: &str, options: WatchOptions) -> Result<ObjectWatch, Status> {
        let filter = Filter::new(kind, &options.labels, &options.fields)?;
        let scope = filter.scope(kind, namespace);
        let snapshot = self.store().snapshot();
        let from = options.rev.filter(|rev| rev.0 > 0);
        if let Some(rev) = from
            && rev > snapshot.rev()
        {
            return Err(too_large(rev, snapshot.rev()));
        }
        let start = if options.initial_events { None } else { from };
        let watch =
            self.store().watch(scope.clone(), start.unwrap_or(snapshot.rev())).map_err(|expired| too_old(expired.from, expired.oldest))?;
        let mut ready = VecDeque::new();
        if start.is_none() {
            initial(kind, &filter, &snapshot, &scope, &mut ready)?;
            if options.initial_events && options.bookmarks {
                ready.push_back(WatchEvent::Bookmark { rev: snapshot.rev(), initial_end: true });
            }
        }
        let bookmarks = options.bookmarks.then(|| {
            let mut timer = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        });
        Ok(ObjectWatch { kind, filter, watch, ready, bookmarks })
    }
}

/// The present state as ADDED.
fn initial(
    kind: &KindDef,
    filter: &Filter,
    snapshot: &Snapshot,
    scope: &crate::api::Scope,
    ready: &mut VecDeque<WatchEvent>,
) -> Result<(), Status> {
    for entry in snapshot.range(scope) {
        if filter.matches(kind, entry)? {
            ready.push_back(WatchEvent::Added(kind.present(entry)?));
        }
    }
    Ok(())
}

fn too_old(from: Rev, oldest: Rev) -> Status {
    Status::expired(format!("too old resource version: {from} ({oldest})"))
}

impl ObjectWatch {
    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            let delivery = match &mut self.bookmarks {
                None => self.watch.next().await,
                Some(timer) => tokio::select! {
                    biased;
                    delivery = self.watch.next() => delivery,
                    _ = timer.tick() => return WatchEvent::Bookmark { rev: self.watch.seen(), initial_end: false },
                },
            };
            match delivery {
                Delivery::Events(events) => {
                    for event in events {
                        match decide(self.kind, &self.filter, &event) {
                            Ok(seen) => self.ready.extend(seen),
                            Err(status) => {
                                self.ready.push_back(WatchEvent::Expired(status));
                                break;
                            }
                        }
                    }
                }
                Delivery::Expired => {
                    let why = "The watch was too slow and the history that it needs is gone; list again";
                    return WatchEvent::Expired(Status::expired(why));
                }
                Delivery::Closed => return WatchEvent::Closed,
            }
        }
    }
}

/// What a watcher with these selectors sees of a change.
fn decide(kind: &KindDef, filter: &Filter, event: &Event) -> Result<Option<WatchEvent>, Status> {
    let matches = |entry: &Arc<Entry>| filter.matches(kind, entry);
    let was = event.prev.as_ref().map(matches).transpose()?.unwrap_or(false);
    let is = !event.deleted && matches(&event.entry)?;
    Ok(match (was, is) {
        (false, false) => None,
        (false, true) => Some(WatchEvent::Added(kind.present(&event.entry)?)),
        (true, true) => Some(WatchEvent::Modified(kind.present(&event.entry)?)),
        (true, false) if event.deleted => Some(WatchEvent::Deleted(kind.present(&event.entry)?)),
        (true, false) => {
            let prev = event.prev.as_ref().unwrap_or(&event.entry);
            let last = kind.load(prev)?;
            Some(WatchEvent::Deleted(Arc::new(kind.entry(last.as_ref(), prev.key.clone(), event.rev))))
        }
    })
}
