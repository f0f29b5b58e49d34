//! Keeps the objects of API priority and fairness: those that are shipped are there, and each schema says whether its level is.
//!
//! Follows upstream's `flowcontrol` bootstrap ensurer (`registry/flowcontrol/ensurer`) and the status that `apf_controller.go` keeps. Keys
//! are the objects themselves, of both kinds.

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, FlowSchemaCondition, PriorityLevelConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::api::fairness::{AUTOUPDATE, MANDATORY, shipped};
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// See the module.
pub(super) struct Fairness;

impl Controller for Fairness {
    fn name(&self) -> &'static str {
        "api-priority-and-fairness-config-producer-v1"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![
            Trigger::of::<FlowSchema>(),
            Trigger::of::<PriorityLevelConfiguration>(),
            // A level that comes or goes concerns every schema: its name is the key, under which they are looked at.
            Trigger { scope: Scope::of::<PriorityLevelConfiguration>, map: dangling_key },
        ]
    }

    fn startup(&self) -> Vec<Key> {
        let levels = shipped().levels.iter().map(|level| Key::of::<PriorityLevelConfiguration>("", name_of(&level.metadata)));
        levels.chain(shipped().schemas.iter().map(|schema| Key::of::<FlowSchema>("", name_of(&schema.metadata)))).collect()
    }

    fn workers(&self) -> usize {
        1
    }

    fn user(&self) -> String {
        "system:apiserver".into()
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if key.is::<PriorityLevelConfiguration>() {
            return level(key, view).into();
        }
        if key.name().is_empty() {
            return view.list::<FlowSchema>(None).filter_map(|schema| status(&schema, view)).collect::<Vec<Op>>().into();
        }
        schema(key, view).into()
    }
}

/// The key that stands for all schemas.
fn dangling_key(event: &Event) -> Vec<Key> {
    if event.prev.is_some() && !event.deleted { Vec::new() } else { vec![Key::of::<FlowSchema>("", "")] }
}

fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Whether our spec takes the place of the present one. `None`: the object is not ours to change.
fn follows(present: &ObjectMeta) -> bool {
    if MANDATORY.contains(&name_of(present)) {
        return true;
    }
    match present.annotations.as_ref().and_then(|annotations| annotations.get(AUTOUPDATE)) {
        Some(value) => value == "true",
        // Upstream: as it was created, so nobody cares.
        None => present.generation == Some(1),
    }
}

/// The present metadata with the annotation that upstream's ensurer writes.
fn annotated(present: &ObjectMeta) -> ObjectMeta {
    let mut meta = present.clone();
    meta.annotations.get_or_insert_default().insert(AUTOUPDATE.into(), "true".into());
    meta
}

fn level(key: &Key, view: &View) -> Vec<Op> {
    let Some(wanted) = shipped().levels.iter().find(|level| name_of(&level.metadata) == key.name()) else { return Vec::new() };
    let Some(present) = view.at::<PriorityLevelConfiguration>(key) else { return vec![Op::Create(Box::new(wanted.clone()))] };
    let metadata = annotated(&present.metadata);
    let mut spec = wanted.spec.clone();
    if spec.exempt.is_some() && present.spec.exempt.is_some() {
        // How much the exempt level lends is the administrator's choice.
        spec.exempt.clone_from(&present.spec.exempt);
    }
    if !follows(&present.metadata) || (present.spec == spec && metadata == present.metadata) {
        return Vec::new();
    }
    vec![Op::Update(Box::new(PriorityLevelConfiguration { metadata, spec, status: present.status.clone() }))]
}

fn schema(key: &Key, view: &View) -> Vec<Op> {
    let wanted = shipped().schemas.iter().find(|schema| name_of(&schema.metadata) == key.name());
    let Some(present) = view.at::<FlowSchema>(key) else {
        return wanted.map(|wanted| Op::Create(Box::new(wanted.clone()))).into_iter().collect();
    };
    if let Some(wanted) = wanted.filter(|_| follows(&present.metadata)) {
        let metadata = annotated(&present.metadata);
        if present.spec != wanted.spec || metadata != present.metadata {
            // The event of this write runs the key again, for the status.
            return vec![Op::Update(Box::new(FlowSchema { metadata, spec: wanted.spec.clone(), status: present.status.clone() }))];
        }
    }
    status(&present, view).into_iter().collect()
}

/// The condition `Dangling`, in upstream's words, if it is not there yet.
fn status(schema: &FlowSchema, view: &View) -> Option<Op> {
    let level = &schema.spec.priority_level_configuration.name;
    let found = MANDATORY.contains(&level.as_str()) || view.get::<PriorityLevelConfiguration>("", level).is_some();
    let (status, reason, message) = match found {
        true => {
            ("False", "Found", format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"))
        }
        false => (
            "True",
            "NotFound",
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} but there is no such object"),
        ),
    };
    let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let old = conditions.iter().find(|condition| condition.type_ == "Dangling");
    let says = |old: &FlowSchemaCondition| {
        old.status.as_deref() == Some(status) && old.reason.as_deref() == Some(reason) && old.message.as_deref() == Some(&message)
    };
    if old.is_some_and(says) {
        return None;
    }
    let moved = old.is_none_or(|old| old.status.as_deref() != Some(status));
    let since = if moved { Some(Time(view.now())) } else { old.and_then(|old| old.last_transition_time.clone()) };
    let condition = FlowSchemaCondition {
        type_: "Dangling".into(),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: since,
    };
    let mut changed = schema.clone();
    let conditions = changed.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|other| other.type_ != "Dangling");
    conditions.push(condition);
    Some(Op::UpdateStatus(Box::new(changed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    const LEVEL: &str = "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: PriorityLevelConfiguration\n";
    const SCHEMA: &str = "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: FlowSchema\n";

    fn settle(world: &mut World) {
        for key in Fairness.startup().into_iter().chain([Key::of::<FlowSchema>("", "")]) {
            world.settle(&Fairness, &key);
        }
    }

    fn dangling(schema: &FlowSchema) -> Option<&str> {
        schema.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Dangling")?.status.as_deref()
    }

    #[test]
    fn what_is_shipped_is_kept() {
        let mut world = World::of("");
        settle(&mut world);
        let (levels, schemas) = (world.all::<PriorityLevelConfiguration>(), world.all::<FlowSchema>());
        assert_eq!((levels.len(), schemas.len()), (8, 13));
        assert!(schemas.iter().all(|schema| dangling(schema) == Some("False")));
        // Changed and removed, it comes back; unless somebody wants it otherwise.
        world.edit::<PriorityLevelConfiguration>("", "exempt", |level| {
            level.metadata.annotations = Some([(AUTOUPDATE.into(), "false".into())].into())
        });
        world.edit::<PriorityLevelConfiguration>("", "system", |level| {
            level.spec.limited.as_mut().unwrap().nominal_concurrency_shares = Some(1)
        });
        world.edit::<PriorityLevelConfiguration>("", "node-high", |level| {
            level.metadata.annotations = Some([(AUTOUPDATE.into(), "false".into())].into());
            level.spec.limited.as_mut().unwrap().nominal_concurrency_shares = Some(1);
        });
        world.remove(&Key::of::<FlowSchema>("", "probes"));
        settle(&mut world);
        let shares =
            |world: &World, name: &str| world.one::<PriorityLevelConfiguration>(name).spec.limited.unwrap().nominal_concurrency_shares;
        assert_eq!((shares(&world, "system"), shares(&world, "node-high")), (Some(30), Some(1)));
        assert_eq!(world.one::<PriorityLevelConfiguration>("exempt").metadata.annotations.unwrap()[AUTOUPDATE], "true");
        assert_eq!(world.all::<FlowSchema>().len(), 13);
    }

    #[test]
    fn a_schema_says_whether_its_level_is_there() {
        let mut world = World::of(&format!("{SCHEMA}metadata: {{name: mine}}\nspec: {{priorityLevelConfiguration: {{name: later}}}}"));
        settle(&mut world);
        assert_eq!(dangling(&world.one("mine")), Some("True"));
        world.load(&format!("{LEVEL}metadata: {{name: later}}\nspec: {{type: Exempt}}"));
        settle(&mut world);
        assert_eq!(dangling(&world.one("mine")), Some("False"));
        world.remove(&Key::of::<PriorityLevelConfiguration>("", "later"));
        settle(&mut world);
        assert_eq!(dangling(&world.one("mine")), Some("True"));
    }
}
