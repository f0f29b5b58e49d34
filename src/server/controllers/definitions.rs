//! CustomResourceDefinitions: which names they get, when they are served, and how they end.
//!
//! Words: names are *wanted* by a spec and *accepted* by a status; within a group no two definitions have an accepted name in common. A
//! definition whose names are accepted is *established* for good.
//!
//! Follows apiextensions-apiserver `pkg/controller/{status,establish,nonstructuralschema,apiapproval,finalizer}`. One key is one group,
//! since its names are decided together.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionStatus,
};

use super::conditions::{find, put, remove};
use crate::api::structural::{self, Schema};
use crate::api::{Key, Scope};
use crate::server::kinds::{Approval, CLEANUP, approval_of};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Stands for a group in keys.
const GROUP: &str = "#group";
/// Most deletions in one run; each wakes the next.
const BURST: usize = 500;

/// Names, establishing, and the conditions that say what is wrong with a definition.
pub struct Definitions;

impl Controller for Definitions {
    fn name(&self) -> &'static str {
        "crd-naming-condition-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger { scope: Scope::of::<CustomResourceDefinition>, map: groups }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let mut crds: Vec<Arc<CustomResourceDefinition>> =
            view.list(None).filter(|crd: &Arc<CustomResourceDefinition>| crd.spec.group == key.name()).collect();
        crds.sort_by_key(|crd| (crd.metadata.creation_timestamp.as_ref().map(|time| time.0), crd.metadata.name.clone()));
        let mut taken = Taken::default();
        for crd in &crds {
            taken.add(crd.status.as_ref().and_then(|status| status.accepted_names.as_ref()));
        }
        let mut ops = Vec::new();
        for crd in crds {
            let mut updated = crd.as_ref().clone();
            name(&mut updated, &taken, view.now());
            taken.add(updated.status.as_ref().and_then(|status| status.accepted_names.as_ref()));
            structure(&mut updated, view.now());
            approve(&mut updated, view.now());
            if updated != *crd {
                ops.push(Op::UpdateStatus(Box::new(updated)));
            }
        }
        ops.into()
    }
}

/// The group of a definition, as a key.
fn groups(event: &Event) -> Vec<Key> {
    let name = event.entry.key.name();
    name.split_once('.').map(|(_, group)| Key::new(CustomResourceDefinition::GROUP, GROUP, "", group)).into_iter().collect()
}

/// Names that the definitions of a group have.
#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn add(&mut self, names: Option<&CustomResourceDefinitionNames>) {
        let Some(names) = names else { return };
        let resources = [Some(&names.plural), names.singular.as_ref()].into_iter().flatten().chain(names.short_names.iter().flatten());
        self.resources.extend(resources.filter(|name| !name.is_empty()).cloned());
        let kinds = [Some(&names.kind), names.list_kind.as_ref()].into_iter().flatten();
        self.kinds.extend(kinds.filter(|name| !name.is_empty()).cloned());
    }
}

/// Why a name can't be had; one that is had already can.
fn check(wanted: &str, had: &str, taken: &BTreeSet<String>) -> Result<(), String> {
    if wanted == had || !taken.contains(wanted) { Ok(()) } else { Err(format!("{wanted:?} is already in use")) }
}

/// Accepts what can be accepted, and establishes.
fn name(crd: &mut CustomResourceDefinition, taken: &Taken, now: Timestamp) {
    let wanted = crd.spec.names.clone();
    let status = crd.status.get_or_insert_default();
    let had = status.accepted_names.clone().unwrap_or_default();
    let mut names = had.clone();
    let mut conflict: Option<(&str, String)> = None;
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    match check(&wanted.plural, &had.plural, &taken.resources) {
        Ok(()) => names.plural = wanted.plural,
        Err(why) => conflict = Some(("PluralConflict", why)),
    }
    match check(&text(&wanted.singular), &text(&had.singular), &taken.resources) {
        Ok(()) => names.singular = wanted.singular,
        Err(why) => conflict = Some(("SingularConflict", why)),
    }
    let own = had.short_names.unwrap_or_default();
    let short = wanted.short_names.iter().flatten().filter(|name| !own.contains(name));
    let errors: Vec<String> = short.filter_map(|name| check(name, "", &taken.resources).err()).collect();
    match errors.as_slice() {
        [] => names.short_names = wanted.short_names,
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    match check(&wanted.kind, &had.kind, &taken.kinds) {
        Ok(()) => names.kind = wanted.kind,
        Err(why) => conflict = Some(("KindConflict", why)),
    }
    match check(&text(&wanted.list_kind), &text(&had.list_kind), &taken.kinds) {
        Ok(()) => names.list_kind = wanted.list_kind,
        Err(why) => conflict = Some(("ListKindConflict", why)),
    }
    names.categories = wanted.categories;
    status.accepted_names = Some(names);
    establish(status, conflict, now);
}

fn establish(status: &mut CustomResourceDefinitionStatus, conflict: Option<(&str, String)>, now: Timestamp) {
    let conditions = &mut status.conditions;
    let established = find(conditions, "Established").is_some_and(|condition| condition.status == "True");
    match conflict {
        Some((reason, why)) => {
            put(conditions, "NamesAccepted", "False", reason, &why, now);
            if !established {
                put(conditions, "Established", "False", "NotAccepted", "not all names are accepted", now);
            }
        }
        None => {
            put(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now);
            if !established {
                put(conditions, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now);
            }
        }
    }
}

/// Says what keeps schemas from being structural. New ones always are; old ones may not be.
fn structure(crd: &mut CustomResourceDefinition, now: Timestamp) {
    let mut errors = Vec::new();
    if crd.spec.preserve_unknown_fields == Some(true) {
        errors.push("spec.preserveUnknownFields: Invalid value: true: must be false".to_owned());
    }
    for (index, version) in crd.spec.versions.iter().enumerate() {
        let Some(props) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) else { continue };
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match Schema::parse(props) {
            Err(why) => errors.push(format!("{path}: {why}")),
            Ok(schema) => errors.extend(structural::check(&schema, structural::Path::root(&path)).iter().map(ToString::to_string)),
        }
    }
    let conditions = &mut crd.status.get_or_insert_default().conditions;
    match errors.as_slice() {
        [] => remove(conditions, "NonStructuralSchema"),
        [one] => put(conditions, "NonStructuralSchema", "True", "Violations", one, now),
        many => put(conditions, "NonStructuralSchema", "True", "Violations", &format!("[{}]", many.join(", ")), now),
    }
}

/// Says whether a definition in one of Kubernetes' own groups is approved.
fn approve(crd: &mut CustomResourceDefinition, now: Timestamp) {
    let (state, why) = approval_of(crd);
    let conditions = &mut crd.status.get_or_insert_default().conditions;
    let (status, reason) = match state {
        Approval::Unneeded => return remove(conditions, "KubernetesAPIApprovalPolicyConformant"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Invalid => ("False", "InvalidAnnotation"),
    };
    put(conditions, "KubernetesAPIApprovalPolicyConformant", status, reason, &why, now);
}

/// The end of definitions: their instances go first.
pub struct Instances;

impl Controller for Instances {
    fn name(&self) -> &'static str {
        "crd-finalizer"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<CustomResourceDefinition>(), Trigger { scope: Scope::all, map: instance_gone }]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some((crd, entry)) = view.at::<CustomResourceDefinition>(key).zip(view.entry(key)) else { return Outcome::default() };
        let held = crd.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == CLEANUP);
        if crd.metadata.deletion_timestamp.is_none() || !held {
            return Outcome::default();
        }
        let scope = Scope::resource(&crd.spec.group, &crd.spec.names.plural);
        let instances: Vec<_> = view.entries(&scope).collect();
        if instances.is_empty() {
            return vec![Op::RemoveFinalizer { key: key.clone(), rev: entry.rev, finalizer: CLEANUP }].into();
        }
        let mut updated = crd.as_ref().clone();
        let conditions = &mut updated.status.get_or_insert_default().conditions;
        match view.failure() {
            None => {
                let message = "CustomResource deletion is in progress";
                put(conditions, "Terminating", "True", "InstanceDeletionInProgress", message, view.now());
            }
            Some(failure) => {
                let message = format!("could not issue all deletes: {}", failure.message);
                put(conditions, "Terminating", "True", "InstanceDeletionFailed", &message, view.now());
            }
        }
        let mut ops: Vec<Op> = Vec::new();
        if updated != *crd {
            ops.push(Op::UpdateStatus(Box::new(updated)));
        }
        let fresh = instances.into_iter().filter(|entry| entry.meta().deletion_timestamp.is_none()).take(BURST);
        ops.extend(fresh.map(|entry| Op::Delete {
            key: entry.key.clone(),
            uid: entry.meta().uid.clone().unwrap_or_default(),
            rev: None,
            grace: None,
            propagation: None,
        }));
        ops.into()
    }
}

/// The definition of an object that is gone.
fn instance_gone(event: &Event) -> Vec<Key> {
    let key = &event.entry.key;
    // Groups of definitions have a dot; those of the built-in kinds that have one, too, have no definition.
    let custom = event.deleted && key.group().contains('.');
    custom.then(|| Key::of::<CustomResourceDefinition>("", &format!("{}.{}", key.resource(), key.group()))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    fn crd(plural: &str, kind: &str, more: &str) -> String {
        format!(
            "kind: CustomResourceDefinition\nmetadata: {{name: {plural}.example.com}}\nspec: {{group: example.com, scope: Namespaced, names: {{plural: {plural}, singular: {}, \
             kind: {kind}, listKind: {kind}List, {more}}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}]}}\n---\n",
            kind.to_lowercase()
        )
    }

    fn group() -> Key {
        Key::new(CustomResourceDefinition::GROUP, GROUP, "", "example.com")
    }

    fn condition(world: &World, name: &str, kind: &str) -> String {
        let crd = world.one::<CustomResourceDefinition>(name);
        let conditions = crd.status.and_then(|status| status.conditions);
        let found = find(&conditions, kind)
            .map(|one| format!("{} {}: {}", one.status, one.reason.clone().unwrap_or_default(), one.message.clone().unwrap_or_default()));
        found.unwrap_or_default()
    }

    #[test]
    fn names_are_given_once() {
        let mut world = World::of(&format!("{}{}", crd("foos", "Foo", "shortNames: [f]"), crd("bars", "Bar", "shortNames: [f]")));
        world.settle(&Definitions, &group());
        assert_eq!(condition(&world, "bars.example.com", "NamesAccepted"), "True NoConflicts: no conflicts found");
        assert_eq!(condition(&world, "bars.example.com", "Established"), "True InitialNamesAccepted: the initial names have been accepted");
        assert_eq!(condition(&world, "foos.example.com", "NamesAccepted"), "False ShortNamesConflict: \"f\" is already in use");
        assert_eq!(condition(&world, "foos.example.com", "Established"), "False NotAccepted: not all names are accepted");
        let accepted =
            world.one::<CustomResourceDefinition>("foos.example.com").status.and_then(|status| status.accepted_names).unwrap_or_default();
        assert_eq!((accepted.kind.as_str(), accepted.short_names), ("Foo", None));
    }

    #[test]
    fn groups_of_kubernetes_are_marked() {
        let yaml = crd("foos", "Foo", "").replace("example.com", "x.k8s.io");
        let mut world = World::of(&yaml);
        world.settle(&Definitions, &Key::new(CustomResourceDefinition::GROUP, GROUP, "", "x.k8s.io"));
        assert!(
            condition(&world, "foos.x.k8s.io", "KubernetesAPIApprovalPolicyConformant")
                .starts_with("False MissingAnnotation: protected groups")
        );
    }
}
