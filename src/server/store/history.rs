//! The bounded run of newest events, and who waits for more of them.
//!
//! Events are kept in the order of their revisions, all of them and those of each resource: whoever waits for one resource looks at its events
//! alone. An event that falls out is remembered only as the highest revision forgotten for its resource: a watch of a quiet resource
//! stays valid however busy the others are.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Entry, Expired, Limits};
use crate::api::{Key, Rev, Scope};

/// One committed change.
#[derive(Debug)]
pub struct Event {
    /// Its revision.
    pub rev: Rev,
    /// The new object; for a removal, the last state with the removal's revision.
    pub entry: Arc<Entry>,
    /// What was there before; `None` for a creation.
    pub prev: Option<Arc<Entry>>,
    /// Whether this removed the object.
    pub deleted: bool,
}

/// How much there is of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Live objects.
    pub objects: u64,
    /// Bytes of their JSON.
    pub bytes: u64,
}

/// Per resource (`GROUP/RESOURCE/`), and of all together: its events, how far it was written and forgotten, how much there is of it, and its
/// bell.
struct Resource {
    /// Those that the history still holds.
    events: VecDeque<Arc<Event>>,
    last: Rev,
    forgotten: Rev,
    size: Size,
    bell: watch::Sender<()>,
}

impl Resource {
    fn new(floor: Rev) -> Resource {
        Resource { events: VecDeque::new(), last: floor, forgotten: floor, size: Size::default(), bell: watch::Sender::new(()) }
    }

    fn count(&mut self, event: &Event) {
        if let Some(prev) = &event.prev {
            self.size.objects -= 1;
            self.size.bytes -= prev.json.len() as u64;
        }
        if !event.deleted {
            self.size.objects += 1;
            self.size.bytes += event.entry.json.len() as u64;
        }
    }
}

struct Inner {
    bytes: usize,
    /// Newest revision published.
    head: Rev,
    /// What was forgotten before this process started: nothing older can be promised.
    floor: Rev,
    resources: HashMap<String, Resource>,
    all: Resource,
    closed: bool,
}

/// See the module.
pub(super) struct History {
    limits: Limits,
    inner: RwLock<Inner>,
}

/// What a reader finds.
pub(super) enum Found {
    /// Events of the scope, and the revision up to which it was searched.
    Events(Vec<Arc<Event>>, Rev),
    /// The reader is too far behind.
    Expired,
    /// Nothing more will come.
    Closed,
}

/// `GROUP/RESOURCE/` of a scope or key; `None` for the scope of everything.
fn resource_of(prefix: &str) -> Option<&str> {
    let second = prefix.match_indices('/').nth(1)?.0;
    Some(&prefix[..=second])
}

impl Inner {
    fn resource(&self, scope: &Scope) -> Option<&Resource> {
        match resource_of(scope.prefix()) {
            None => Some(&self.all),
            Some(name) => self.resources.get(name),
        }
    }

    fn forgotten(&self, scope: &Scope) -> Rev {
        self.resource(scope).map_or(self.floor, |resource| resource.forgotten)
    }
}

impl History {
    /// An empty history at `head`, before which nothing is known.
    pub(super) fn new(limits: Limits, head: Rev) -> History {
        let inner = Inner { bytes: 0, head, floor: head, resources: HashMap::new(), all: Resource::new(head), closed: false };
        History { limits, inner: RwLock::new(inner) }
    }

    /// Counts the objects that are older than every event: once, before the first [`History::push`].
    pub(super) fn count(&self, entries: impl Iterator<Item = (Arc<Entry>, bool)>) {
        let inner = &mut *self.inner.write();
        let floor = inner.floor;
        for (entry, gone) in entries {
            let name = resource_of(entry.key.as_str()).expect("a key has a resource").to_owned();
            let resource = inner.resources.entry(name).or_insert_with(|| Resource::new(floor));
            resource.count(&Event { rev: entry.rev, prev: gone.then(|| entry.clone()), deleted: gone, entry });
        }
    }

    /// How much there is of the resource of `scope`.
    pub(super) fn size(&self, scope: &Scope) -> Size {
        self.inner.read().resource(scope).map_or(Size::default(), |resource| resource.size)
    }

    /// How much there is of each resource, `GROUP/RESOURCE/`.
    pub(super) fn sizes(&self) -> Vec<(String, Size)> {
        self.inner.read().resources.iter().map(|(name, resource)| (name.clone(), resource.size)).collect()
    }

    /// Adds events and runs `publish` before anyone can see them; returns the events that fell out, oldest first.
    pub(super) fn push(&self, events: Vec<Arc<Event>>, publish: impl FnOnce()) -> Vec<Arc<Event>> {
        let inner = &mut *self.inner.write();
        let mut rung: Vec<Key> = Vec::new();
        for event in events {
            inner.head = event.rev;
            inner.bytes += event.entry.json.len();
            let name = resource_of(event.entry.key.as_str()).expect("a key has a resource").to_owned();
            let floor = inner.floor;
            let resource = inner.resources.entry(name).or_insert_with(|| Resource::new(floor));
            resource.last = event.rev;
            resource.count(&event);
            resource.events.push_back(event.clone());
            inner.all.last = event.rev;
            rung.push(event.entry.key.clone());
            inner.all.events.push_back(event);
        }
        publish();
        let mut fallen = Vec::new();
        // The newest stays whatever its size: its record is what keeps the revision over a restart.
        while inner.all.events.len() > 1 && (inner.all.events.len() > self.limits.events || inner.bytes > self.limits.bytes) {
            let Some(event) = inner.all.events.pop_front() else { break };
            inner.bytes -= event.entry.json.len();
            let name = resource_of(event.entry.key.as_str()).expect("a key has a resource");
            if let Some(resource) = inner.resources.get_mut(name) {
                resource.forgotten = event.rev;
                // The oldest of all is the oldest of its resource.
                resource.events.pop_front();
            }
            inner.all.forgotten = event.rev;
            fallen.push(event);
        }
        for key in rung {
            let name = resource_of(key.as_str()).expect("a key has a resource");
            if let Some(resource) = inner.resources.get(name) {
                resource.bell.send_replace(());
            }
        }
        inner.all.bell.send_replace(());
        fallen
    }

    /// The bell of a scope, if a watch may start after `from`.
    pub(super) fn subscribe(&self, scope: &Scope, from: Rev) -> Result<watch::Receiver<()>, Expired> {
        let inner = &mut *self.inner.write();
        let oldest = inner.forgotten(scope);
        if from < oldest || from > inner.head {
            return Err(Expired { from, oldest });
        }
        let floor = inner.floor;
        Ok(match resource_of(scope.prefix()) {
            None => inner.all.bell.subscribe(),
            Some(name) => inner.resources.entry(name.into()).or_insert_with(|| Resource::new(floor)).bell.subscribe(),
        })
    }

    /// At most `max` events of `scope` after `seen`.
    pub(super) fn after(&self, scope: &Scope, seen: Rev, max: usize) -> Found {
        let inner = self.inner.read();
        if inner.forgotten(scope) > seen {
            return Found::Expired;
        }
        let mut found = Vec::new();
        let mut upto = inner.head;
        let events = inner.resource(scope).map(|resource| &resource.events);
        for event in events.into_iter().flat_map(|events| events.range(events.partition_point(|event| event.rev <= seen)..)) {
            if scope.contains(&event.entry.key) {
                found.push(event.clone());
                if found.len() == max {
                    upto = event.rev;
                    break;
                }
            }
        }
        if found.is_empty() && inner.closed { Found::Closed } else { Found::Events(found, upto) }
    }

    /// How far a watch that has read up to `seen` may claim to have seen: further if nothing of its resource came since.
    pub(super) fn progress(&self, scope: &Scope, seen: Rev) -> Rev {
        let inner = self.inner.read();
        let last = inner.resource(scope).map_or(inner.floor, |resource| resource.last);
        if last <= seen { inner.head.max(seen) } else { seen }
    }

    /// Ends every watch.
    pub(super) fn close(&self) {
        let inner = &mut *self.inner.write();
        inner.closed = true;
        for resource in inner.resources.values().chain([&inner.all]) {
            resource.bell.send_replace(());
        }
    }
}
