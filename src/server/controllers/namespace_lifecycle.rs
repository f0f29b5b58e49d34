//! Namespaces that are being deleted: their contents go first, then the `kubernetes` finalizer, and with it the namespace.
//!
//! Follows upstream's `pkg/controller/namespace/deletion`. Knows no kind: whatever the store holds in the namespace is content.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;

use super::conditions;
use crate::api::{Key, Scope, status};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::{Entry, Event};

/// The namespace controller.
pub struct Namespaces;

/// The finalizer, in the namespace's spec.
const FINALIZER: &str = "kubernetes";
/// Most deletions in one run; each wakes the next.
const BURST: usize = 500;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<Namespace>(), Trigger { scope: Scope::all, map: content_changed }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(namespace) = view.at::<Namespace>(key) else { return Outcome::default() };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Outcome::default();
        }
        let all = Scope::all();
        let contents: Vec<_> = view.entries(&all).filter(|entry| entry.key.namespace() == key.name()).collect();
        let mut ops: Vec<Op> = report(&namespace, &contents, view).into_iter().collect();
        let holds =
            namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()).is_some_and(|held| held.iter().any(|f| f == FINALIZER));
        if contents.is_empty() && holds && ops.is_empty() {
            // Only on the revision that says so: an object created since would have woken this key, and creation is refused anyway.
            if let Some(entry) = view.entry(key) {
                ops.push(Op::RemoveFinalizer { key: key.clone(), rev: entry.rev, finalizer: FINALIZER });
            }
        }
        let fresh = contents.iter().filter(|entry| entry.meta().deletion_timestamp.is_none()).take(BURST);
        ops.extend(fresh.map(|entry| Op::Delete {
            key: entry.key.clone(),
            uid: entry.meta().uid.clone().unwrap_or_default(),
            rev: None,
            grace: None,
            propagation: Some("Background"),
        }));
        ops.into()
    }
}

/// Content that came or went.
fn content_changed(event: &Event) -> Vec<Key> {
    let namespace = event.entry.key.namespace();
    let relevant = !namespace.is_empty() && (event.deleted || event.prev.is_none());
    if relevant { vec![Key::of::<Namespace>("", namespace)] } else { Vec::new() }
}

/// The conditions that tell `kubectl describe` what holds a deletion up.
fn report(namespace: &Namespace, contents: &[&std::sync::Arc<Entry>], view: &View) -> Option<Op> {
    let mut updated = namespace.clone();
    let status = updated.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    let (mut kinds, mut finalizers) = (BTreeMap::<String, usize>::new(), BTreeMap::<&str, usize>::new());
    for entry in contents {
        *kinds.entry(status::qualified(entry.key.group(), entry.key.resource())).or_default() += 1;
        for finalizer in entry.meta().finalizers.iter().flatten() {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let now = view.now();
    let mut put = |kind: &str, bad: bool, reason: &str, message: &str| {
        let state = if bad { "True" } else { "False" };
        conditions::put(&mut status.conditions, kind, state, reason, message, now);
    };
    match view.failure() {
        Some(failure) => put("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", &failure.message),
        None => put(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
    }
    if kinds.is_empty() {
        put("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed");
    } else {
        let list: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} has {count} resource instances")).collect();
        put("NamespaceContentRemaining", true, "SomeResourcesRemain", &format!("Some resources are remaining: {}", list.join(", ")));
    }
    if finalizers.is_empty() {
        put("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", "All content-preserving finalizers finished");
    } else {
        let list: Vec<_> = finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
        let message = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
        put("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", &message);
    }
    (updated != *namespace).then(|| Op::UpdateStatus(Box::new(updated)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check};

    const ENDING: &str = "kind: Namespace
metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}
spec: {finalizers: [kubernetes]}
---
kind: ConfigMap
metadata: {name: x, namespace: a}
---
kind: Pod
metadata: {name: y, namespace: a, finalizers: [example.com/wait]}
---
kind: Pod
metadata: {name: z, namespace: b}
";

    #[test]
    fn contents_first() {
        let key = Key::of::<Namespace>("", "a");
        check(&Namespaces, ENDING, &key, &["status Namespace a", "delete /configmaps/a/x Background", "delete /pods/a/y Background"]);
        check(&Namespaces, &ENDING.replace(", deletionTimestamp: '2026-01-01T00:00:00Z'", ""), &key, &[]);
        let mut world = World::of(ENDING);
        world.settle(&Namespaces, &key);
        let status = world.one::<Namespace>("a").status.expect("a status");
        let text = serde_json::to_string(&status).expect("JSON");
        assert!(text.contains("pods has 1 resource instances") && text.contains("example.com/wait in 1 resource instances"), "{text}");
        world.apply(&Op::RemoveFinalizer { key: Key::new("", "pods", "a", "y"), rev: crate::api::Rev(0), finalizer: "example.com/wait" });
        world.settle(&Namespaces, &key);
        assert_eq!(world.all::<Namespace>().len(), 0);
        assert_eq!(world.all::<k8s_openapi::api::core::v1::Pod>().len(), 1, "the other namespace's");
    }
}
