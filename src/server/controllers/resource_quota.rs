//! Shows in the status of each ResourceQuota what is taken of it (kubernetes `pkg/controller/resourcequota`).
//!
//! The key is a namespace: whatever changes in it may concern any of its quotas. Admission does its own count and trusts no status.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};

use crate::api::amounts::Amounts;
use crate::api::quantity::Quantity;
use crate::api::{Key, Scope};
use crate::server::quota::{self, hard, is_counted, measure, share, tracks, with_item};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::{Entry, Event};

/// The controller.
pub struct ResourceQuotas;

impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger { scope: Scope::all, map: changed }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let mut outcome = Outcome::default();
        let quotas: Vec<Arc<ResourceQuota>> = view.list(Some(key.name())).collect();
        if quotas.is_empty() {
            return outcome;
        }
        let all = Scope::all();
        let contents: Vec<&Arc<Entry>> = view.entries(&all).filter(|entry| entry.key.namespace() == key.name()).collect();
        for quota in quotas {
            let (used, again) = used(&quota, &contents, view.now());
            outcome.ops.extend(report(&quota, &used));
            if let Some(wait) = again.and_then(|at| view.now().duration_until(at).try_into().ok()) {
                outcome.again_in(wait);
            }
        }
        outcome
    }
}

/// Changes after which a quota of the namespace may be used otherwise.
fn changed(event: &Event) -> Vec<Key> {
    let key = &event.entry.key;
    if key.namespace().is_empty() || !is_counted(key.group(), key.resource()) {
        return Vec::new();
    }
    let came_or_went = event.deleted || event.prev.is_none();
    let relevant =
        came_or_went || key.is::<ResourceQuota>() || event.prev.as_ref().is_some_and(|prev| weight(prev) != weight(&event.entry));
    if relevant { vec![Key::of::<Namespace>("", key.namespace())] } else { Vec::new() }
}

/// What of an object quotas look at, scopes included.
fn weight(entry: &Entry) -> (quota::Measure, Option<i64>, Option<String>) {
    with_item(entry, |item| {
        let measure = measure(entry.key.group(), entry.key.resource(), item);
        match item {
            quota::Item::Pod(pod) => (measure, pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds), None),
            quota::Item::Volume(claim) => {
                let classes = format!("{:?}", (claim.spec.as_ref().map(|spec| &spec.volume_attributes_class_name), &claim.status));
                (measure, None, Some(classes))
            }
            _ => (measure, None, None),
        }
    })
}

/// What is taken, and when that changes by itself.
fn used(quota: &ResourceQuota, contents: &[&Arc<Entry>], now: Timestamp) -> (Amounts, Option<Timestamp>) {
    let bounds = hard(quota);
    let known = |name: &str| name.starts_with("count/") || contents_track(name);
    let mut used: Amounts = bounds.names().filter(|name| known(name)).map(|name| (name.to_owned(), Quantity::ZERO)).collect();
    let mut again: Option<Timestamp> = None;
    for measure in contents.iter().filter_map(|entry| share(quota, entry)) {
        if let Some(ends) = measure.ends.filter(|ends| *ends >= now) {
            // A second more, so that it is past then.
            let after = ends.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(ends);
            again = Some(again.map_or(after, |soonest| soonest.min(after)));
        }
        used.add(&measure.at(now).only(|name| bounds.get(name).is_some()));
    }
    (used, again)
}

/// Whether some kind is measured in this name.
fn contents_track(name: &str) -> bool {
    const MEASURED: [(&str, &str); 8] = [
        ("", "pods"),
        ("", "services"),
        ("", "persistentvolumeclaims"),
        ("", "configmaps"),
        ("", "secrets"),
        ("", "replicationcontrollers"),
        ("", "resourcequotas"),
        ("resource.k8s.io", "resourceclaims"),
    ];
    MEASURED.into_iter().any(|(group, resource)| tracks(group, resource, name))
}

fn report(quota: &ResourceQuota, used: &Amounts) -> Option<Op> {
    let status = quota.status.as_ref();
    let shown = Amounts::of(status.and_then(|status| status.used.as_ref()));
    let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
    let stated = Amounts::of(status.and_then(|status| status.hard.as_ref()));
    let present = status.is_some_and(|status| status.hard.is_some() || wanted.is_empty());
    if present && shown == *used && stated == hard(quota) {
        return None;
    }
    let mut updated = quota.clone();
    let status = updated.status.get_or_insert_default();
    (status.hard, status.used) = (Some(wanted), Some(used.to_api()));
    Some(Op::UpdateStatus(Box::new(updated)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check};

    const WORLD: &str = "kind: ResourceQuota
metadata: {name: q, namespace: a}
spec: {hard: {pods: 3, requests.cpu: 2, count/configmaps: 5, services.nodeports: 1, foo.example/bar: 1}}
---
kind: Pod
metadata: {name: p, namespace: a}
spec: {containers: [{name: c, resources: {requests: {cpu: 500m}}}]}
---
kind: Pod
metadata: {name: done, namespace: a}
spec: {containers: [{name: c, resources: {requests: {cpu: 500m}}}]}
status: {phase: Succeeded}
---
kind: Pod
metadata: {name: stuck, namespace: a, deletionTimestamp: '2025-12-31T23:59:00Z', deletionGracePeriodSeconds: 30}
spec: {containers: [{name: c, resources: {requests: {cpu: 500m}}}]}
---
kind: Pod
metadata: {name: other, namespace: b}
spec: {containers: [{name: c}]}
---
kind: ConfigMap
metadata: {name: m, namespace: a}
";

    #[test]
    fn usage_is_shown_and_then_left_alone() {
        let key = Key::of::<Namespace>("", "a");
        check(&ResourceQuotas, WORLD, &key, &["status ResourceQuota q"]);
        check(&ResourceQuotas, WORLD, &Key::of::<Namespace>("", "b"), &[]);
        let mut world = World::of(WORLD);
        world.settle(&ResourceQuotas, &key);
        let quota = world.one::<ResourceQuota>("q");
        let status = quota.status.expect("a status");
        let used = Amounts::of(status.used.as_ref()).to_string();
        assert_eq!(used, "count/configmaps=1,pods=1,requests.cpu=500m,services.nodeports=0");
        assert_eq!(status.hard, quota.spec.expect("a spec").hard);
    }

    #[test]
    fn a_pod_that_ends_is_looked_at_again() {
        let world = World::of(&WORLD.replace("2025-12-31T23:59:00Z", "2026-01-01T00:00:00Z"));
        let outcome = ResourceQuotas.reconcile(&Key::of::<Namespace>("", "a"), &world.view());
        assert_eq!(outcome.again, Some(std::time::Duration::from_secs(31)));
    }
}
