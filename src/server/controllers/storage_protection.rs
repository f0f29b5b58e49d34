//! Volumes, claims and attribute classes that are being deleted go when nothing uses them any more (kubernetes
//! `pkg/controller/volume/pvcprotection`, `pvprotection`, `vacprotection`). One that has no finalizer yet gets it.
//!
//! A claim is used by each pod that mounts it and has a node, whether it runs or has ended; a volume is used while it is bound; a class,
//! while a volume or claim has it, wants it, or is on the way to it.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use super::pods;
use crate::api::{Key, Kind, Object, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// For claims.
pub struct ClaimProtection;
/// For volumes.
pub struct VolumeProtection;
/// For attribute classes.
pub struct ClassProtection;

impl Controller for ClaimProtection {
    fn name(&self) -> &'static str {
        "pvc-protection-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<PersistentVolumeClaim>(), Trigger { scope: Scope::of::<Pod>, map: claims_of }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        protect::<PersistentVolumeClaim>("kubernetes.io/pvc-protection", key, view, |claim| {
            view.list::<Pod>(Some(key.namespace())).any(|pod| uses(&pod, claim))
        })
    }
}

impl Controller for VolumeProtection {
    fn name(&self) -> &'static str {
        "pv-protection-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<PersistentVolume>()]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        protect::<PersistentVolume>("kubernetes.io/pv-protection", key, view, |volume| {
            volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
        })
    }
}

impl Controller for ClassProtection {
    fn name(&self) -> &'static str {
        "vac-protection-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![
            Trigger::of::<VolumeAttributesClass>(),
            Trigger { scope: Scope::of::<PersistentVolume>, map: classes_of_volume },
            Trigger { scope: Scope::of::<PersistentVolumeClaim>, map: classes_of_claim },
        ]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        protect::<VolumeAttributesClass>("kubernetes.io/vac-protection", key, view, |_| {
            let named = |names: Vec<String>| names.iter().any(|name| name == key.name());
            view.list::<PersistentVolumeClaim>(None).any(|claim| named(claim_classes(&claim)))
                || view.list::<PersistentVolume>(None).any(|volume| named(volume_classes(&volume)))
        })
    }
}

/// The finalizer goes on as long as the object stays, and comes off when it is to go and is not used.
fn protect<T: Kind>(finalizer: &'static str, key: &Key, view: &View, used: impl Fn(&T) -> bool) -> Outcome {
    let (Some(object), Some(entry)) = (view.at::<T>(key), view.entry(key)) else { return Outcome::default() };
    let meta = object.meta();
    let held = meta.finalizers.iter().flatten().any(|present| present == finalizer);
    let op = match (meta.deletion_timestamp.is_some(), held) {
        (true, true) if !used(&object) => Op::RemoveFinalizer { key: key.clone(), rev: entry.rev, finalizer },
        (false, false) => {
            let mut object: Box<dyn Object> = object.clone_object();
            object.meta_mut().finalizers.get_or_insert_default().push(finalizer.into());
            Op::Update(object)
        }
        _ => return Outcome::default(),
    };
    vec![op].into()
}

/// Names of the claims that a pod mounts, and whether each was made for it.
fn mounted(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (_, Some(_)) => Some((format!("{name}-{}", volume.name), true)),
        _ => None,
    })
}

fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let scheduled = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let own = || crate::api::meta::is_controlled_by(&claim.metadata, pod.metadata.uid.as_deref().unwrap_or_default());
    // A pod that has ended does not keep the claim that was made for it.
    scheduled && mounted(pod).any(|(mounted, ephemeral)| mounted == name && (!ephemeral || own() && !pods::is_terminal(pod)))
}

fn claims_of(event: &Event) -> Vec<Key> {
    let decided = event.deleted
        || event.prev.as_ref().is_some_and(|prev| {
            let terminal = |entry: &crate::server::store::Entry| entry.typed::<Pod>().is_ok_and(|pod| pods::is_terminal(&pod));
            terminal(&event.entry) && !terminal(prev)
        });
    let Some(pod) = event.entry.typed::<Pod>().ok().filter(|_| decided) else { return Vec::new() };
    mounted(&pod).map(|(claim, _)| Key::of::<PersistentVolumeClaim>(event.entry.key.namespace(), &claim)).collect()
}

fn claim_classes(claim: &PersistentVolumeClaim) -> Vec<String> {
    let status = claim.status.as_ref();
    let names = [
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone()),
        status.and_then(|status| status.current_volume_attributes_class_name.clone()),
        status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone()),
    ];
    names.into_iter().flatten().collect()
}

fn volume_classes(volume: &PersistentVolume) -> Vec<String> {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone()).into_iter().collect()
}

/// Classes that the changed object no longer names.
fn left<T: Kind>(event: &Event, of: fn(&T) -> Vec<String>) -> Vec<Key> {
    let names = |entry: &crate::server::store::Entry| entry.typed::<T>().map(|object| of(&object)).unwrap_or_default();
    let before = event.prev.as_ref().map(|prev| names(prev)).unwrap_or_default();
    let now = if event.deleted { Vec::new() } else { names(&event.entry) };
    before.into_iter().filter(|name| !now.contains(name)).map(|name| Key::of::<VolumeAttributesClass>("", &name)).collect()
}

fn classes_of_volume(event: &Event) -> Vec<Key> {
    left::<PersistentVolume>(event, volume_classes)
}

fn classes_of_claim(event: &Event) -> Vec<Key> {
    left::<PersistentVolumeClaim>(event, claim_classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    const CLAIM: &str = "kind: PersistentVolumeClaim
metadata: {name: c, namespace: a, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [kubernetes.io/pvc-protection]}
spec: {}
---
kind: Pod
metadata: {name: p, namespace: a}
";

    #[test]
    fn claims_stay_while_pods_have_them() {
        let key = Key::of::<PersistentVolumeClaim>("a", "c");
        let released = ["unfinalize /persistentvolumeclaims/a/c kubernetes.io/pvc-protection"];
        let mounting = "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}], containers: []";
        // (spec and status of the pod, whether the claim may go)
        for (pod, free) in [
            (format!("spec: {{nodeName: n, {mounting}}}"), false),
            (format!("spec: {{nodeName: n, {mounting}}}\nstatus: {{phase: Succeeded}}"), false),
            (format!("spec: {{{mounting}}}"), true),
            ("spec: {nodeName: n, containers: []}".into(), true),
        ] {
            check(&ClaimProtection, &format!("{CLAIM}{pod}\n"), &key, if free { &released } else { &[] });
        }
        let fresh = "kind: PersistentVolumeClaim\nmetadata: {name: c, namespace: a}\nspec: {}\n";
        check(&ClaimProtection, fresh, &key, &["update PersistentVolumeClaim c"]);
    }
}
