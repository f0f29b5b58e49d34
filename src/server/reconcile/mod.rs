//! Controllers as pure functions, and the one runner that feeds them.
//!
//! Words: a *view* is one snapshot of the store and the time it was taken; a *trigger* maps a change to the keys it concerns;
//! an *op* is a write that a controller wants; an *outcome* is what one reconciliation decided.
//!
//! Invariants: a key of a controller never runs twice at once; a key never runs on a snapshot older than its own writes (an op
//! returns after its commit is published, and the next snapshot is taken after that); a failed op stops the rest of its outcome.
//!
//! Never: an expectation, a cache or an informer. Nothing here polls: what must happen later is an `Outcome::again` deadline.

use std::time::Duration;

use k8s_openapi::Resource;

use crate::api::{Key, Object, Rev, Scope};
use crate::server::store::Event;

mod op;
mod placement;
mod queue;
mod recorder;
mod runner;
mod stats;

#[cfg(test)]
pub(in crate::server) mod testing;
mod view;

pub use op::OpFailure;
pub use placement::{node_selected, term_matches, tolerates};
pub use runner::run;
pub use stats::Stats;
pub use view::View;

/// Which keys an event wakes: `map` turns a changed object of `scope` into keys of the controller.
pub struct Trigger {
    /// What is listened to (built lazily, for it allocates).
    pub scope: fn() -> Scope,
    /// The keys to run. `prev` matters too: an object that left a selector.
    pub map: fn(&Event) -> Vec<Key>,
}

impl Trigger {
    /// Each changed `T` is itself the key.
    pub const fn of<T: Resource>() -> Trigger {
        Trigger { scope: Scope::of::<T>, map: |event| vec![event.entry.key.clone()] }
    }

    /// Each changed `T` wakes its managing owner (before and after the change) where that is an `O`.
    pub const fn owner<O: Resource, T: Resource>() -> Trigger {
        Trigger { scope: Scope::of::<T>, map: owners::<O> }
    }

    /// A creation or removal of a `T` and each change of it wakes the key of its namespace.
    pub const fn namespace_of<T: Resource>() -> Trigger {
        Trigger {
            scope: Scope::of::<T>,
            map: |event| vec![Key::of::<k8s_openapi::api::core::v1::Namespace>("", event.entry.key.namespace())],
        }
    }
}

/// Keys of the `O`s that manage, or managed, the changed object.
fn owners<O: Resource>(event: &Event) -> Vec<Key> {
    let namespace = event.entry.key.namespace();
    let metas = std::iter::once(event.entry.meta()).chain(event.prev.as_ref().map(|prev| prev.meta()));
    let mut keys: Vec<Key> = metas
        .filter_map(crate::api::meta::controller_of)
        .filter(|owner| owner.kind == O::KIND && owner.api_version.rsplit_once('/').map_or("", |(group, _)| group) == O::GROUP)
        .map(|owner| Key::of::<O>(namespace, &owner.name))
        .collect();
    keys.dedup();
    keys
}

/// A write that a controller wants. Carries the revision it was decided on; the runner performs it through the registry.
pub enum Op {
    /// Creates (generateName allowed).
    Create(Box<dyn Object>),
    /// Replaces the main resource; `metadata.resourceVersion` of the object is the expectation.
    Update(Box<dyn Object>),
    /// Replaces `/status`; same expectation.
    UpdateStatus(Box<dyn Object>),
    /// Deletes this revision of this uid.
    Delete {
        /// Which.
        key: Key,
        /// Of this identity.
        uid: String,
        /// At this revision; `None`: at any.
        rev: Option<Rev>,
        /// Grace period in seconds; `None`: the kind's default.
        grace: Option<i64>,
        /// `Background`, `Foreground`, `Orphan`; `None`: background.
        propagation: Option<&'static str>,
    },
    /// Removes one finalizer (which may complete a deletion). For a Namespace, from `spec.finalizers` too.
    RemoveFinalizer {
        /// Which.
        key: Key,
        /// At this revision.
        rev: Rev,
        /// Finalizer.
        finalizer: &'static str,
    },
    /// Removes the owner references to these uids.
    RemoveOwners {
        /// Which.
        key: Key,
        /// At this revision.
        rev: Rev,
        /// Owners to forget.
        uids: Vec<String>,
    },
    /// Binds a pod to a node, if the pod is still at this revision.
    Bind {
        /// Which pod.
        key: Key,
        /// Of this identity.
        uid: String,
        /// At this revision.
        rev: Rev,
        /// To this node.
        node: String,
    },
    /// Records an event about an object (aggregated by the runner's recorder).
    Event {
        /// About what.
        regarding: Regarding,
        /// How bad.
        kind: EventType,
        /// In one CamelCase word.
        reason: &'static str,
        /// For people.
        message: String,
    },
}

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Regarding {
    /// `apiVersion` of the object.
    pub api_version: &'static str,
    /// `kind` of the object.
    pub kind: &'static str,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl Regarding {
    /// The reference to `object`.
    pub fn of<T: Resource + Object>(object: &T) -> Regarding {
        let meta = object.meta();
        Regarding {
            api_version: T::API_VERSION,
            kind: T::KIND,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }
}

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

impl Op {
    /// A Normal event about `object`.
    pub fn normal<T: Resource + Object>(object: &T, reason: &'static str, message: impl Into<String>) -> Op {
        Op::Event { regarding: Regarding::of(object), kind: EventType::Normal, reason, message: message.into() }
    }

    /// A Warning event about `object`.
    pub fn warning<T: Resource + Object>(object: &T, reason: &'static str, message: impl Into<String>) -> Op {
        Op::Event { regarding: Regarding::of(object), kind: EventType::Warning, reason, message: message.into() }
    }

    /// Deletes `object`, whatever its revision, as long as it is still the same one.
    pub fn delete<T: Resource + Object>(object: &T) -> Op {
        let meta = object.meta();
        let key = Key::of::<T>(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
        Op::Delete { key, uid: meta.uid.clone().unwrap_or_default(), rev: None, grace: None, propagation: None }
    }
}

/// What came of one reconciliation.
#[derive(Default)]
pub struct Outcome {
    /// Writes, performed in order; a conflict stops the rest and runs the key again.
    pub ops: Vec<Op>,
    /// Run this key again after this long even if nothing changes (deadlines, not polling).
    pub again: Option<Duration>,
}

impl Outcome {
    /// Asks for another run after `wait`, unless an earlier one is already asked for.
    pub fn again_in(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |present| present.min(wait)));
    }
}

impl From<Vec<Op>> for Outcome {
    fn from(ops: Vec<Op>) -> Outcome {
        Outcome { ops, again: None }
    }
}

/// A controller. `reconcile` is pure: no I/O, no clock, no memory between calls.
pub trait Controller: Send + Sync {
    /// Name in logs, metrics and as the event source, as upstream's (`replicaset-controller`).
    fn name(&self) -> &'static str;
    /// What wakes it.
    fn triggers(&self) -> Vec<Trigger>;
    /// Decides for one key.
    fn reconcile(&self, key: &Key, view: &View) -> Outcome;
    /// Keys to run at the start whatever the store holds (for what must exist although nothing else does).
    fn startup(&self) -> Vec<Key> {
        Vec::new()
    }
    /// How many keys may run at once. One: strictly one after the other, each on a snapshot that holds the writes of the last.
    fn workers(&self) -> usize {
        4
    }
    /// The user that its writes are made as.
    fn user(&self) -> String {
        format!("system:serviceaccount:kube-system:{}", self.name())
    }
}
