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
use super::{KindDef, KindRef, Registry, WatchEvent, WatchOptions};
use crate::api::{Rev, Scope, Status};
use crate::server::store::{Delivery, Entry, Event, Snapshot, Watch};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// A running watch.
pub struct ObjectWatch {
    kind: KindRef,
    filter: Filter,
    watch: Watch,
    /// Of the object that defines the kind, if one does: the watch ends when the kind does.
    definition: Option<Watch>,
    /// What was delivered but not yet decided on, oldest first.
    delivered: VecDeque<Arc<Event>>,
    /// What is decided but not yet handed out.
    ready: VecDeque<WatchEvent>,
    bookmarks: Option<Interval>,
}

impl Registry {
    /// WATCH. One object is watched by its `metadata.name` in the field selector.
    pub async fn watch(&self, kind: &KindRef, namespace: &str, options: WatchOptions) -> Result<ObjectWatch, Status> {
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
            ready = initial(kind, &filter, &snapshot, &scope).await?;
            if options.initial_events && options.bookmarks {
                ready.push_back(WatchEvent::Bookmark { rev: snapshot.rev(), initial_end: true });
            }
        }
        let bookmarks = options.bookmarks.then(|| {
            let mut timer = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        });
        let definition = kind.definition().map(|key| self.store().watch(Scope::object(&key), snapshot.rev()));
        let definition = definition.transpose().map_err(|expired| too_old(expired.from, expired.oldest))?;
        Ok(ObjectWatch { kind: kind.clone(), filter, watch, definition, delivered: VecDeque::new(), ready, bookmarks })
    }
}

/// The present state as ADDED.
async fn initial(kind: &KindDef, filter: &Filter, snapshot: &Snapshot, scope: &Scope) -> Result<VecDeque<WatchEvent>, Status> {
    let present: Vec<_> = snapshot.selected(scope, None, filter.labels()).filter(|entry| filter.may_match(entry)).cloned().collect();
    let mut events = VecDeque::with_capacity(present.len());
    for entry in kind.serve(present).await? {
        if filter.matches(kind, &entry)? {
            events.push_back(WatchEvent::Added(kind.present(&entry)?));
        }
    }
    Ok(events)
}

fn too_old(from: Rev, oldest: Rev) -> Status {
    Status::expired(format!("too old resource version: {from} ({oldest})"))
}

impl ObjectWatch {
    /// The next event. Cancel safe: what was delivered stays until it is decided on.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Some(event) = self.delivered.front().cloned() {
                let seen = decide(&self.kind, &self.filter, &event).await;
                self.delivered.pop_front();
                match seen {
                    Ok(seen) => self.ready.extend(seen),
                    Err(status) => return WatchEvent::Expired(status),
                }
                continue;
            }
            // Objects first: what happened to them before their kind ended is still told.
            let delivery = tokio::select! {
                biased;
                delivery = self.watch.next() => delivery,
                delivery = next_of(self.definition.as_mut()) => match is_redefined(&self.kind, &delivery) {
                    true => return WatchEvent::Closed,
                    false => continue,
                },
                () = tick(self.bookmarks.as_mut()) => return WatchEvent::Bookmark { rev: self.watch.seen(), initial_end: false },
            };
            match delivery {
                Delivery::Events(events) => self.delivered.extend(events),
                Delivery::Expired => {
                    let why = "The watch was too slow and the history that it needs is gone; list again";
                    return WatchEvent::Expired(Status::expired(why));
                }
                Delivery::Closed => return WatchEvent::Closed,
            }
        }
    }
}

/// The next delivery of a watch that may not be there.
async fn next_of(watch: Option<&mut Watch>) -> Delivery {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

async fn tick(timer: Option<&mut Interval>) {
    match timer {
        Some(timer) => drop(timer.tick().await),
        None => std::future::pending().await,
    }
}

/// Whether what defines the kind is gone or defines another one now.
fn is_redefined(kind: &KindDef, delivery: &Delivery) -> bool {
    match delivery {
        Delivery::Events(events) => events.iter().any(|event| event.deleted || !kind.is_defined_by(&event.entry)),
        Delivery::Expired | Delivery::Closed => true,
    }
}

/// Whether a stored entry is selected. Where the metadata decides, nothing is converted.
async fn selects(kind: &KindDef, filter: &Filter, entry: &Arc<Entry>) -> Result<bool, Status> {
    match filter.may_match(entry) {
        true if !filter.is_by_metadata() => filter.matches(kind, &*kind.serve_one(entry).await?),
        decided => Ok(decided),
    }
}

/// A stored entry as a client sees it.
async fn sent(kind: &KindDef, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
    kind.present(&kind.serve_one(entry).await?)
}

/// What a watcher with these selectors sees of a change.
async fn decide(kind: &KindDef, filter: &Filter, event: &Event) -> Result<Option<WatchEvent>, Status> {
    let was = match &event.prev {
        Some(prev) => selects(kind, filter, prev).await?,
        None => false,
    };
    let is = !event.deleted && selects(kind, filter, &event.entry).await?;
    Ok(match (was, is) {
        (false, false) => None,
        (false, true) => Some(WatchEvent::Added(sent(kind, &event.entry).await?)),
        (true, true) => Some(WatchEvent::Modified(sent(kind, &event.entry).await?)),
        (true, false) if event.deleted => Some(WatchEvent::Deleted(sent(kind, &event.entry).await?)),
        (true, false) => {
            let last = kind.serve_one(event.prev.as_ref().unwrap_or(&event.entry)).await?;
            let mut object = kind.object(&last)?.clone_object();
            object.meta_mut().managed_fields = last.managed_fields();
            let last = Arc::new(kind.entry(object.as_ref(), last.key.clone(), event.rev));
            Some(WatchEvent::Deleted(kind.present(&last)?))
        }
    })
}
