//! Decisions as data, and a seeded simulation of rollouts.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::replicaset::ReplicaSets;
use super::*;
use crate::server::reconcile::testing::{World, check, show};

const WEB: &str = "
kind: Deployment
metadata: {name: web, namespace: default, annotations: {kubernetes.io/change-cause: first}}
spec:
  replicas: 4
  progressDeadlineSeconds: 600
  revisionHistoryLimit: 1
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: v1}]}}
";

fn key() -> Key {
    Key::of::<Deployment>("default", "web")
}

fn image(world: &mut World, image: &str) {
    let image = image.to_owned();
    world.edit::<Deployment>("default", "web", |deployment| {
        deployment.metadata.generation = deployment.metadata.generation.map(|generation| generation + 1);
        let spec = deployment.spec.template.spec.as_mut();
        spec.expect("a pod spec").containers[0].image = Some(image);
    });
}

fn set_keys(world: &World) -> Vec<Key> {
    world.all::<ReplicaSet>().iter().map(|set| Key::of::<ReplicaSet>("default", set.metadata.name.as_deref().unwrap_or(""))).collect()
}

/// Makes one pod ready, as a node would.
fn ready(world: &mut World, name: &str) {
    let now = world.now;
    world.edit::<Pod>("default", name, |pod| {
        let status = pod.status.get_or_insert_default();
        status.phase = Some("Running".into());
        let ready =
            PodCondition { type_: "Ready".into(), status: "True".into(), last_transition_time: Some(Time(now)), ..Default::default() };
        status.conditions = Some(vec![ready]);
    });
}

fn unready_pods(world: &World) -> Vec<String> {
    world.all::<Pod>().iter().filter(|pod| !pods::is_ready(pod)).filter_map(|pod| pod.metadata.name.clone()).collect()
}

fn settle(world: &mut World) {
    for _ in 0..100 {
        let mut quiet = true;
        for key in set_keys(world) {
            quiet &= world.step(&ReplicaSets, &key).ops.is_empty();
        }
        quiet &= world.step(&Deployments, &key()).ops.is_empty();
        if quiet {
            return;
        }
    }
    panic!("does not settle");
}

fn roll_out(world: &mut World) {
    for _ in 0..100 {
        settle(world);
        let waiting = unready_pods(world);
        if waiting.is_empty() {
            return;
        }
        waiting.iter().for_each(|name| ready(world, name));
    }
    panic!("does not roll out");
}

fn reason(world: &World, kind: &str) -> String {
    let status = world.one::<Deployment>("web").status.expect("a status");
    let condition = status.conditions.into_iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind));
    condition.and_then(|condition| condition.reason).unwrap_or_default()
}

#[test]
fn the_first_rollout() {
    let mut world = World::of(WEB);
    let outcome = world.step(&Deployments, &key());
    let lines = show(&outcome.ops);
    assert!(lines[0].starts_with("create ReplicaSet web-") && lines[1].ends_with("from 0 to 4") && lines[2] == "status Deployment web");
    assert_eq!(reason(&world, "Progressing"), "NewReplicaSetCreated");
    settle(&mut world);
    assert_eq!(reason(&world, "Available"), "MinimumReplicasUnavailable");
    roll_out(&mut world);
    assert_eq!(
        (reason(&world, "Available"), reason(&world, "Progressing")),
        ("MinimumReplicasAvailable".into(), "NewReplicaSetAvailable".into())
    );
    let status = world.one::<Deployment>("web").status.expect("a status");
    assert_eq!((status.updated_replicas, status.available_replicas, status.unavailable_replicas), (Some(4), Some(4), None));
    let set = &world.all::<ReplicaSet>()[0];
    let note = |name: &str| set.metadata.annotations.as_ref().and_then(|all| all.get(name).cloned());
    assert_eq!(note("kubernetes.io/change-cause"), Some("first".into()));
    assert_eq!((note(revision::DESIRED), note(revision::MAX)), (Some("4".into()), Some("5".into())));
    assert_eq!(revision::of(&world.one::<Deployment>("web").metadata), 1);
}

#[test]
fn undo_reuses_the_set_and_history_is_bounded() {
    let mut world = World::of(WEB);
    roll_out(&mut world);
    for (at, version) in ["v2", "v1", "v3", "v4"].iter().enumerate() {
        world.wait(Duration::from_secs(10));
        image(&mut world, version);
        roll_out(&mut world);
        assert_eq!(revision::of(&world.one::<Deployment>("web").metadata), i64::try_from(at).expect("small") + 2);
    }
    let sets = world.all::<ReplicaSet>();
    let mut revisions: Vec<_> = sets.iter().map(|set| revision::of(&set.metadata)).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [4, 5], "one old set is kept");
}

#[test]
fn an_undo_keeps_the_former_revisions() {
    let mut world = World::of(&WEB.replace("revisionHistoryLimit: 1", "revisionHistoryLimit: 10"));
    for version in ["v1", "v2", "v1"] {
        image(&mut world, version);
        roll_out(&mut world);
    }
    let sets = world.all::<ReplicaSet>();
    let back = sets.iter().find(|set| revision::of(&set.metadata) == 3).expect("revision 3");
    assert_eq!(back.metadata.annotations.as_ref().and_then(|all| all.get("deployment.kubernetes.io/revision-history")), Some(&"1".into()));
}

#[test]
fn percentages_round_up_for_surge_and_down_for_unavailable() {
    let cases = [("25%", 10, true, 3), ("25%", 10, false, 2), ("0%", 10, true, 0), ("100%", 3, false, 3), ("x", 3, true, 0)];
    for (text, total, up, want) in cases {
        assert_eq!(resolve(&IntOrString::String(text.into()), total, up), want, "{text} of {total}");
    }
    assert_eq!(resolve(&IntOrString::Int(7), 3, true), 7);
}

#[test]
fn recreate_waits_until_the_old_are_gone() {
    let yaml = WEB.replace("{type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}", "{type: Recreate}");
    let mut world = World::of(&yaml);
    roll_out(&mut world);
    image(&mut world, "v2");
    world.step(&Deployments, &key());
    assert_eq!(world.all::<ReplicaSet>().len(), 1, "not before the old pods are gone");
    world.step(&Deployments, &key());
    assert_eq!(world.all::<ReplicaSet>().len(), 1);
    roll_out(&mut world);
    assert_eq!(
        world.all::<Pod>().iter().filter(|pod| pod.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some("v2"))).count(),
        4
    );
}

#[test]
fn stuck_rollouts_time_out() {
    let mut world = World::of(WEB);
    settle(&mut world);
    let again = world.step(&Deployments, &key()).again;
    assert_eq!(again, Some(Duration::from_secs(600)));
    world.wait(Duration::from_secs(601));
    settle(&mut world);
    assert_eq!(reason(&world, "Progressing"), "ProgressDeadlineExceeded");
    roll_out(&mut world);
    assert_eq!(reason(&world, "Progressing"), "NewReplicaSetAvailable");
}

#[test]
fn paused_does_not_roll_but_scales() {
    let mut world = World::of(WEB);
    roll_out(&mut world);
    world.edit::<Deployment>("default", "web", |deployment| {
        let spec = &mut deployment.spec;
        (spec.paused, spec.replicas) = (Some(true), Some(6));
    });
    image(&mut world, "v2");
    roll_out(&mut world);
    assert_eq!((world.all::<ReplicaSet>().len(), world.all::<Pod>().len()), (1, 6));
    assert_eq!(reason(&world, "Progressing"), "DeploymentPaused");
    world.edit::<Deployment>("default", "web", |deployment| deployment.spec.paused = None);
    roll_out(&mut world);
    assert_eq!(reason(&world, "Progressing"), "NewReplicaSetAvailable");
}

#[test]
fn orphans_are_adopted() {
    let yaml = format!(
        "{WEB}---\nkind: ReplicaSet\nmetadata: {{name: old, namespace: default, labels: {{app: web}}}}\nspec: {{replicas: 0, selector: {{}}}}"
    );
    check(&Deployments, &yaml, &key(), &["update ReplicaSet old"]);
    check(&Deployments, &yaml, &Key::of::<Deployment>("default", ""), &["update ReplicaSet old"]);
}

/// A tiny generator: the same seed, the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

/// Told sizes stay below the surge, and availability never sinks below the limit through the controllers' doing.
fn invariants(world: &World, replicas: i32, available_before: usize, least: i32) {
    let told: i32 = world.all::<ReplicaSet>().iter().map(|set| Sized::new(std::sync::Arc::new(set.clone())).size).sum();
    assert!(told <= replicas + (replicas + 3) / 4, "{told} pods wanted of {replicas}");
    let available = world.all::<Pod>().iter().filter(|pod| pods::is_ready(pod)).count();
    let least = usize::try_from(least).unwrap_or(0);
    assert!(available >= least.min(available_before), "{available} available, {available_before} before, {least} needed");
}

#[test]
fn random_histories_converge_within_the_limits() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut world = World::of(WEB);
        roll_out(&mut world);
        for step in 0..120 {
            let available = world.all::<Pod>().iter().filter(|pod| pods::is_ready(pod)).count();
            match random.below(12) {
                0 if step < 90 => image(&mut world, ["v1", "v2", "v3"][random.below(3)]),
                1..=4 => {
                    let unready = unready_pods(&world);
                    if !unready.is_empty() {
                        let name = unready[random.below(unready.len())].clone();
                        ready(&mut world, &name);
                    }
                }
                5..=8 => {
                    let keys = set_keys(&world);
                    if !keys.is_empty() {
                        world.step(&ReplicaSets, &keys[random.below(keys.len())]);
                    }
                }
                _ => {
                    world.step(&Deployments, &key());
                }
            }
            world.wait(Duration::from_secs(1));
            invariants(&world, 4, available, 3);
        }
        roll_out(&mut world);
        let status = world.one::<Deployment>("web").status.expect("a status");
        assert_eq!((status.updated_replicas, status.available_replicas, status.replicas), (Some(4), Some(4), Some(4)), "seed {seed}");
        assert_eq!(reason(&world, "Progressing"), "NewReplicaSetAvailable", "seed {seed}");
    }
}
