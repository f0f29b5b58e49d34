//! The garbage collector: objects go with their owners.
//!
//! Words: an *owner reference* names an owner by kind, name and uid; a *dependent* has one. Background: dependents of an owner that
//! is gone are deleted. Foreground (`foregroundDeletion` finalizer): dependents go first, and those with `blockOwnerDeletion` hold
//! the owner. Orphan (`orphan` finalizer): references are removed, then the owner goes.
//!
//! Follows upstream's `pkg/controller/garbagecollector`; a snapshot replaces its graph. An owner of a kind that is not served here
//! is taken to exist.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::ResourceInfo;
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::{Entry, Event};

/// Finalizer of a foreground deletion.
const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an orphaning deletion.
const ORPHAN: &str = "orphan";
/// The resource of keys that stand for objects that are gone, by their uid: their dependents are looked at.
const GONE: &str = "#";

/// The garbage collector.
pub struct Garbage {
    /// Resource and whether it is namespaced, by group and kind.
    kinds: HashMap<(String, String), (String, bool)>,
}

impl Garbage {
    /// A collector that knows these resources.
    pub fn new(resources: &[ResourceInfo]) -> Garbage {
        let row = |r: &ResourceInfo| ((r.group.to_string(), r.kind.to_string()), (r.resource.to_string(), r.namespaced));
        Garbage { kinds: resources.iter().map(row).collect() }
    }

    /// The key of an owner as a dependent in `namespace` names it; `None` when its kind is not known.
    fn owner_key(&self, owner: &OwnerReference, namespace: &str, view: &View) -> Option<Key> {
        let group = group_of(owner);
        let (resource, namespaced) = self.kind(group, &owner.kind, view)?;
        // A cluster-scoped dependent can't have a namespaced owner: such a reference never resolves, as upstream.
        Some(Key::new(group, &resource, if namespaced { namespace } else { "" }, &owner.name))
    }

    /// Resource of a kind, and whether it is namespaced: built in, or defined in the store.
    fn kind(&self, group: &str, kind: &str, view: &View) -> Option<(String, bool)> {
        if let Some(builtin) = self.kinds.get(&(group.to_owned(), kind.to_owned())) {
            return Some(builtin.clone());
        }
        let mut crds = view.list::<CustomResourceDefinition>(None).filter(|_| group.contains('.'));
        let crd = crds.find(|crd| crd.spec.group == group && crd.spec.names.kind == kind)?;
        Some((crd.spec.names.plural.clone(), crd.spec.scope == "Namespaced"))
    }

    fn exists(&self, owner: &OwnerReference, namespace: &str, view: &View) -> bool {
        let Some(key) = self.owner_key(owner, namespace, view) else { return true };
        view.entry(&key).is_some_and(|entry| entry.meta().uid.as_deref() == Some(&owner.uid))
    }
}

fn group_of(owner: &OwnerReference) -> &str {
    owner.api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger { scope: Scope::all, map: changed }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if key.resource() == GONE {
            return view.dependents(key.name()).flat_map(|entry| self.as_dependent(entry, view)).collect::<Vec<_>>().into();
        }
        if let Some(kind) = key.resource().strip_prefix('#') {
            // An owner named by kind, because a dependent of it went away.
            let Some((resource, namespaced)) = self.kind(key.group(), kind, view) else { return Outcome::default() };
            let owner = Key::new(key.group(), &resource, if namespaced { key.namespace() } else { "" }, key.name());
            return view.entry(&owner).map(|entry| as_owner(entry, view)).unwrap_or_default().into();
        }
        let Some(entry) = view.entry(key) else { return Outcome::default() };
        let mut ops = self.as_dependent(entry, view);
        ops.extend(as_owner(entry, view));
        ops.into()
    }
}

/// Dependents themselves; owners that are gone or on their way; and the owners of a dependent that is gone.
fn changed(event: &Event) -> Vec<Key> {
    let meta = event.entry.meta();
    // Events are many, short-lived, and nobody's owner or dependent.
    if event.entry.key.resource() == "events" {
        return Vec::new();
    }
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if event.deleted {
        let by_kind =
            |owner: &OwnerReference| Key::new(group_of(owner), &format!("#{}", owner.kind), event.entry.key.namespace(), &owner.name);
        let gone = meta.uid.as_deref().map(|uid| Key::new("", GONE, event.entry.key.namespace(), uid));
        return owners.iter().map(by_kind).chain(gone).collect();
    }
    let going = meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().any(|f| f == FOREGROUND || f == ORPHAN);
    let before = event.prev.as_ref().and_then(|prev| prev.meta().owner_references.as_deref()).unwrap_or_default();
    if going || (!owners.is_empty() && (event.prev.is_none() || before != owners)) { vec![event.entry.key.clone()] } else { Vec::new() }
}

/// Objects that refer to `uid`.
fn dependents<'a>(namespace: &str, uid: &str, view: &'a View) -> Vec<&'a Arc<Entry>> {
    view.dependents(uid).filter(|entry| namespace.is_empty() || entry.key.namespace() == namespace).collect()
}

fn delete(entry: &Entry, propagation: &'static str) -> Op {
    let uid = entry.meta().uid.clone().unwrap_or_default();
    // The revision too: a reference added since the decision must be seen first.
    Op::Delete { key: entry.key.clone(), uid, rev: Some(entry.rev), grace: None, propagation: Some(propagation) }
}

impl Garbage {
    /// An object none of whose owners is left goes; with some left, only the dead references go.
    fn as_dependent(&self, entry: &Arc<Entry>, view: &View) -> Vec<Op> {
        let owners = entry.meta().owner_references.as_deref().unwrap_or_default();
        if owners.is_empty() || entry.meta().deletion_timestamp.is_some() {
            return Vec::new();
        }
        let (living, gone): (Vec<_>, Vec<_>) = owners.iter().partition(|owner| self.exists(owner, entry.key.namespace(), view));
        match (living.is_empty(), gone.is_empty()) {
            (_, true) => Vec::new(),
            (false, false) => {
                let uids = gone.iter().map(|owner| owner.uid.clone()).collect();
                vec![Op::RemoveOwners { key: entry.key.clone(), rev: entry.rev, uids }]
            }
            (true, false) => {
                let held = |f: &String| f == FOREGROUND || f == ORPHAN;
                let propagation = match entry.meta().finalizers.iter().flatten().find(|f| held(f)).map(String::as_str) {
                    Some(ORPHAN) => "Orphan",
                    Some(_) => "Foreground",
                    None => "Background",
                };
                vec![delete(entry, propagation)]
            }
        }
    }
}

/// What an owner's pending deletion asks for.
fn as_owner(entry: &Arc<Entry>, view: &View) -> Vec<Op> {
    if entry.meta().deletion_timestamp.is_none() {
        return Vec::new();
    }
    let has = |finalizer: &str| entry.meta().finalizers.iter().flatten().any(|present| present == finalizer);
    let uid = entry.meta().uid.as_deref().unwrap_or("");
    let finish = |finalizer| Op::RemoveFinalizer { key: entry.key.clone(), rev: entry.rev, finalizer };
    if has(ORPHAN) {
        let forget =
            |dependent: &Arc<Entry>| Op::RemoveOwners { key: dependent.key.clone(), rev: dependent.rev, uids: vec![uid.to_owned()] };
        let dependents = dependents(entry.key.namespace(), uid, view);
        return dependents.into_iter().map(forget).chain([finish(ORPHAN)]).collect();
    }
    if !has(FOREGROUND) {
        return Vec::new();
    }
    let dependents = dependents(entry.key.namespace(), uid, view);
    let blocks = |dependent: &&Arc<Entry>| {
        let mut owners = dependent.meta().owner_references.iter().flatten();
        owners.any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
    };
    if !dependents.iter().any(blocks) {
        return vec![finish(FOREGROUND)];
    }
    let owned_by_others = |dependent: &Arc<Entry>| dependent.meta().owner_references.iter().flatten().any(|owner| owner.uid != uid);
    let one = |dependent: &Arc<Entry>| match owned_by_others(dependent) {
        // Another owner keeps it: only this owner's reference goes.
        true => Op::RemoveOwners { key: dependent.key.clone(), rev: dependent.rev, uids: vec![uid.to_owned()] },
        false => delete(dependent, "Foreground"),
    };
    dependents.into_iter().filter(|dependent| dependent.meta().deletion_timestamp.is_none()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    fn garbage() -> Garbage {
        let row = |group: &'static str, kind: &'static str, resource: &'static str, namespaced| ResourceInfo {
            group: group.into(),
            kind: kind.into(),
            resource: resource.into(),
            namespaced,
        };
        Garbage::new(&[
            row("apps", "ReplicaSet", "replicasets", true),
            row("", "Pod", "pods", true),
            row("", "ConfigMap", "configmaps", true),
            row("", "Node", "nodes", false),
        ])
    }

    const SET: &str = "kind: ReplicaSet\nmetadata: {name: web, namespace: default, uid: u1}\nspec: {selector: {}}\n---\n";

    fn pod(owners: &[(&str, &str, &str)]) -> String {
        let one = |(kind, name, uid): &(&str, &str, &str)| {
            let version = if *kind == "ReplicaSet" { "apps/v1" } else { "v1" };
            format!("{{apiVersion: {version}, kind: {kind}, name: {name}, uid: {uid}, blockOwnerDeletion: true}}")
        };
        let owners: Vec<_> = owners.iter().map(one).collect();
        format!("kind: Pod\nmetadata: {{name: a, namespace: default, ownerReferences: [{}]}}\n", owners.join(", "))
    }

    #[test]
    fn background() {
        let key = Key::new("", "pods", "default", "a");
        let gone = ["delete /pods/default/a Background"];
        check(&garbage(), &format!("{SET}{}", pod(&[("ReplicaSet", "web", "u1")])), &key, &[]);
        check(&garbage(), &format!("{SET}{}", pod(&[("ReplicaSet", "web", "u0")])), &key, &gone);
        check(&garbage(), &pod(&[("ReplicaSet", "web", "u1")]), &key, &gone);
        check(&garbage(), &pod(&[("ReplicaSet", "web", "u1")]), &Key::new("", GONE, "default", "u1"), &gone);
        check(&garbage(), &pod(&[("Widget", "w", "u1")]), &key, &[]);
        check(&garbage(), &pod(&[("Node", "n", "u1")]), &Key::new("", GONE, "", "u1"), &gone);
        check(&garbage(), &pod(&[("Node", "n", "u1")]), &Key::new("", GONE, "", "u2"), &[]);
        let two = pod(&[("ReplicaSet", "web", "u1"), ("ConfigMap", "c", "u2")]);
        check(&garbage(), &format!("{SET}{two}"), &key, &["disown /pods/default/a u2"]);
    }

    #[test]
    fn foreground_and_orphan() {
        let key = Key::new("apps", "replicasets", "default", "web");
        let ending = |finalizer: &str| {
            SET.replace("uid: u1", &format!("uid: u1, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [{finalizer}]"))
        };
        let owned = pod(&[("ReplicaSet", "web", "u1")]);
        let (foreground, orphan) = (ending(FOREGROUND), ending(ORPHAN));
        check(&garbage(), &format!("{foreground}{owned}"), &key, &["delete /pods/default/a Foreground"]);
        check(&garbage(), &foreground, &key, &["unfinalize apps/replicasets/default/web foregroundDeletion"]);
        check(
            &garbage(),
            &foreground,
            &Key::new("apps", "#ReplicaSet", "default", "web"),
            &["unfinalize apps/replicasets/default/web foregroundDeletion"],
        );
        let want = ["disown /pods/default/a u1", "unfinalize apps/replicasets/default/web orphan"];
        check(&garbage(), &format!("{orphan}{owned}"), &key, &want);
        check(
            &garbage(),
            &format!("{foreground}{}", owned.replace("blockOwnerDeletion: true", "blockOwnerDeletion: false")),
            &key,
            &["unfinalize apps/replicasets/default/web foregroundDeletion"],
        );
    }
}
