//! A small world for tests of controllers: objects from YAML, ops applied as the registry would, ops shown as text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::{apps, batch, certificates, coordination, core, discovery, flowcontrol, policy, rbac};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Controller, Op, Outcome, View, op};
use crate::api::{Key, Kind, Object, Rev};
use crate::server::store::{Delivery, Draft, Event, Snapshot};

/// Objects by key, with the revision that wrote each.
pub(in crate::server) struct World {
    pub(in crate::server) now: Timestamp,
    rev: u64,
    objects: BTreeMap<Key, (Rev, Box<dyn Object>)>,
    /// When each was written.
    seen: BTreeMap<Key, Timestamp>,
    /// Every `Op::Event` applied, as `REASON: MESSAGE`.
    pub(in crate::server) events: Vec<String>,
}

impl Default for World {
    fn default() -> World {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        World { now, rev: 100, objects: BTreeMap::new(), seen: BTreeMap::new(), events: Vec::new() }
    }
}

impl Clone for World {
    fn clone(&self) -> World {
        let objects = self.objects.iter().map(|(key, (rev, object))| (key.clone(), (*rev, object.clone_object()))).collect();
        World { now: self.now, rev: self.rev, objects, seen: self.seen.clone(), events: self.events.clone() }
    }
}

type Parse = fn(serde_yaml::Value) -> (Key, Box<dyn Object>);

fn parse<T: Kind>(value: serde_yaml::Value) -> (Key, Box<dyn Object>) {
    let object: T = serde_yaml::from_value(value.clone()).unwrap_or_else(|error| panic!("{error} in {value:?}"));
    let meta = object.meta();
    let key = Key::of::<T>(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().expect("a name"));
    (key, Box::new(object))
}

/// One row per kind that tests use: kind, apiVersion, parser.
macro_rules! kinds {
    ($($t:ty),* $(,)?) => { &[$((<$t>::KIND, <$t>::API_VERSION, parse::<$t>)),*] };
}
static PARSERS: &[(&str, &str, Parse)] = kinds![
    core::v1::Pod,
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    core::v1::Node,
    core::v1::Service,
    core::v1::Endpoints,
    core::v1::ConfigMap,
    core::v1::Secret,
    core::v1::Namespace,
    core::v1::ServiceAccount,
    core::v1::ReplicationController,
    core::v1::PersistentVolume,
    core::v1::PersistentVolumeClaim,
    core::v1::ResourceQuota,
    core::v1::Event,
    apps::v1::Deployment,
    apps::v1::ReplicaSet,
    apps::v1::StatefulSet,
    apps::v1::DaemonSet,
    apps::v1::ControllerRevision,
    discovery::v1::EndpointSlice,
    coordination::v1::Lease,
    batch::v1::Job,
    batch::v1::CronJob,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    certificates::v1::CertificateSigningRequest,
    certificates::v1::ClusterTrustBundle,
    flowcontrol::v1::FlowSchema,
    flowcontrol::v1::PriorityLevelConfiguration,
    k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy,
];

impl World {
    /// A world of these YAML documents; `apiVersion` may be left out, uids are made up from the names.
    pub(in crate::server) fn of(yaml: &str) -> World {
        let mut world = World::default();
        world.load(yaml);
        world
    }

    /// Adds documents.
    pub(in crate::server) fn load(&mut self, yaml: &str) {
        use serde::Deserialize;
        for document in serde_yaml::Deserializer::from_str(yaml) {
            let mut value = serde_yaml::Value::deserialize(document).expect("YAML");
            if value.is_null() {
                continue;
            }
            let kind = value["kind"].as_str().expect("a kind").to_owned();
            let (_, api_version, parse) = PARSERS.iter().find(|row| row.0 == kind).unwrap_or_else(|| panic!("no parser for {kind}"));
            value["apiVersion"] = (*api_version).into();
            let (key, object) = parse(value);
            self.put(key, object);
        }
    }

    /// Writes an object.
    pub(in crate::server) fn put(&mut self, key: Key, mut object: Box<dyn Object>) {
        self.rev += 1;
        let now = Time(self.now);
        let meta = object.meta_mut();
        meta.uid.get_or_insert_with(|| format!("{}-uid", key.name()));
        meta.creation_timestamp.get_or_insert(now);
        meta.generation.get_or_insert(1);
        meta.resource_version = Some(self.rev.to_string());
        self.seen.insert(key.clone(), self.now);
        self.objects.insert(key, (Rev(self.rev), object));
    }

    /// The present state.
    pub(in crate::server) fn snapshot(&self) -> Snapshot {
        let drafts = self.objects.iter().map(|(key, (rev, object))| (key.clone(), *rev, Draft::new(&**object).seen(self.seen[key])));
        Snapshot::of(Rev(self.rev), drafts)
    }

    /// The present state, as a controller sees it.
    pub(in crate::server) fn view(&self) -> View {
        View::new(self.snapshot(), self.now)
    }

    /// All objects of a kind.
    pub(in crate::server) fn all<T: Kind>(&self) -> Vec<T> {
        self.objects.values().filter_map(|(_, object)| object.as_any().downcast_ref::<T>().cloned()).collect()
    }

    /// One object of a kind; panics when it is not there.
    pub(in crate::server) fn one<T: Kind>(&self, name: &str) -> T {
        self.all::<T>().into_iter().find(|object| object.meta().name.as_deref() == Some(name)).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Changes one object; panics when it is not there.
    pub(in crate::server) fn edit<T: Kind>(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut T)) {
        let key = Key::of::<T>(namespace, name);
        let mut object = self.objects.get(&key).unwrap_or_else(|| panic!("no {key}")).1.clone_object();
        change(object.as_any_mut().downcast_mut().expect("of this kind"));
        self.put(key, object);
    }

    /// Removes an object at once.
    pub(in crate::server) fn remove(&mut self, key: &Key) {
        self.rev += 1;
        self.objects.remove(key);
    }

    /// Performs an op as the registry would. Pods end at once; what has finalizers is marked.
    pub(in crate::server) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(object) => {
                let key = self.key_of(&**object);
                assert!(!self.objects.contains_key(&key), "created twice: {key}");
                self.put(key, object.clone_object());
            }
            Op::Update(object) | Op::UpdateStatus(object) => {
                let key = self.key_of(&**object);
                let (rev, present) = self.objects.get(&key).unwrap_or_else(|| panic!("updated, but not there: {key}"));
                assert_eq!(object.meta().resource_version, Some(rev.to_string()), "stale update of {key}");
                let mut object = object.clone_object();
                if matches!(op, Op::Update(_)) && spec_of(&**present) != spec_of(&*object) {
                    *object.meta_mut().generation.get_or_insert(0) += 1;
                }
                self.put(key, object);
            }
            Op::Delete { key, uid, .. } => {
                let Some((_, present)) = self.objects.get(key) else { return };
                assert_eq!(present.meta().uid.as_ref(), Some(uid), "deletes another {key}");
                self.mark_deleted(&key.clone());
            }
            Op::RemoveFinalizer { key, finalizer, .. } => {
                let Some((_, present)) = self.objects.get(key) else { return };
                let mut object = present.clone_object();
                op::remove_finalizer(&mut *object, finalizer);
                let finished = object.meta().deletion_timestamp.is_some() && object.meta().finalizers.iter().flatten().next().is_none();
                if finished { self.remove(key) } else { self.put(key.clone(), object) }
            }
            Op::RemoveOwners { key, uids, .. } => {
                let mut object = self.objects[key].1.clone_object();
                object.meta_mut().owner_references.get_or_insert_default().retain(|owner| !uids.contains(&owner.uid));
                self.put(key.clone(), object);
            }
            Op::Bind { key, node, .. } => {
                let node = node.clone();
                self.edit::<core::v1::Pod>(key.namespace(), key.name(), |pod| pod.spec.get_or_insert_default().node_name = Some(node));
            }
            Op::Event { reason, message, .. } => self.events.push(format!("{reason}: {message}")),
        }
    }

    fn mark_deleted(&mut self, key: &Key) {
        let mut object = self.objects[key].1.clone_object();
        if object.meta().finalizers.iter().flatten().next().is_none() {
            return self.remove(key);
        }
        object.meta_mut().deletion_timestamp = Some(Time(self.now));
        self.put(key.clone(), object);
    }

    fn key_of(&self, object: &dyn Object) -> Key {
        let value = serde_yaml::to_value(object.to_value()).expect("YAML");
        let kind = value["kind"].as_str().expect("a kind").to_owned();
        let (_, _, parse) = PARSERS.iter().find(|row| row.0 == kind).unwrap_or_else(|| panic!("no parser for {kind}"));
        parse(value).0
    }

    /// Runs one key and applies what was decided.
    pub(in crate::server) fn step(&mut self, controller: &dyn Controller, key: &Key) -> Outcome {
        let outcome = controller.reconcile(key, &self.view());
        for op in &outcome.ops {
            self.apply(op);
        }
        outcome
    }

    /// Runs one key until it wants nothing more; panics when it never does.
    pub(in crate::server) fn settle(&mut self, controller: &dyn Controller, key: &Key) {
        for _ in 0..50 {
            if self.step(controller, key).ops.iter().all(|op| matches!(op, Op::Event { .. })) {
                return;
            }
        }
        panic!("{key} does not settle");
    }

    /// Lets time pass.
    pub(in crate::server) fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

fn spec_of(object: &dyn Object) -> serde_json::Value {
    object.to_value()["spec"].clone()
}

/// One line per op, for comparisons.
pub(in crate::server) fn show(ops: &[Op]) -> Vec<String> {
    let named = |object: &dyn Object| {
        let value = object.to_value();
        let name = object.meta().name.clone().or(object.meta().generate_name.clone()).unwrap_or_default();
        format!("{} {name}", value["kind"].as_str().unwrap_or(""))
    };
    let line = |op: &Op| match op {
        Op::Create(object) => format!("create {}", named(&**object)),
        Op::Update(object) => format!("update {}", named(&**object)),
        Op::UpdateStatus(object) => format!("status {}", named(&**object)),
        Op::Delete { key, propagation, .. } => format!("delete {key}{}", propagation.map(|p| format!(" {p}")).unwrap_or_default()),
        Op::RemoveFinalizer { key, finalizer, .. } => format!("unfinalize {key} {finalizer}"),
        Op::RemoveOwners { key, uids, .. } => format!("disown {key} {}", uids.join(",")),
        Op::Bind { key, node, .. } => format!("bind {key} {node}"),
        Op::Event { reason, message, .. } => format!("event {reason}: {message}"),
    };
    ops.iter().map(line).collect()
}

/// The one check of a decision: YAML in, ops out.
pub(in crate::server) fn check(controller: &dyn Controller, yaml: &str, key: &Key, want: &[&str]) -> Outcome {
    let outcome = controller.reconcile(key, &World::of(yaml).view());
    assert_eq!(show(&outcome.ops), want, "given:\n{yaml}");
    outcome
}

/// A world that several tasks share, with a watch.
#[derive(Clone)]
pub(in crate::server) struct Shared {
    inner: Arc<Mutex<(World, u64)>>,
    changed: Arc<Notify>,
}

/// The watch of a [`Shared`]: each delivery holds every object that changed since the last.
pub(in crate::server) struct SharedChanges {
    shared: Shared,
    seen: Rev,
    epoch: u64,
}

impl Shared {
    pub(in crate::server) fn new(world: World) -> Shared {
        Shared { inner: Arc::new(Mutex::new((world, 0))), changed: Arc::default() }
    }

    pub(in crate::server) fn snapshot(&self) -> Snapshot {
        self.inner.lock().0.snapshot()
    }

    pub(in crate::server) fn watch(&self, from: Rev) -> SharedChanges {
        SharedChanges { shared: self.clone(), seen: from, epoch: self.inner.lock().1 }
    }

    pub(in crate::server) fn apply(&self, op: &Op) {
        self.inner.lock().0.apply(op);
        self.changed.notify_waiters();
    }

    pub(in crate::server) fn load(&self, yaml: &str) {
        self.inner.lock().0.load(yaml);
        self.changed.notify_waiters();
    }

    /// Lets all present watches expire.
    pub(in crate::server) fn expire(&self) {
        self.inner.lock().1 += 1;
        self.changed.notify_waiters();
    }
}

impl SharedChanges {
    pub(in crate::server) async fn next(&mut self) -> Delivery {
        loop {
            let shared = self.shared.clone();
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (snapshot, epoch) = {
                let inner = shared.inner.lock();
                (inner.0.snapshot(), inner.1)
            };
            if epoch != self.epoch {
                return Delivery::Expired;
            }
            let all = crate::api::Scope::all();
            let fresh = snapshot.range(&all).filter(|entry| entry.rev > self.seen);
            let events: Vec<_> =
                fresh.map(|entry| Arc::new(Event { rev: entry.rev, entry: entry.clone(), prev: None, deleted: false })).collect();
            self.seen = snapshot.rev();
            if !events.is_empty() {
                return Delivery::Events(events);
            }
            changed.await;
        }
    }
}
