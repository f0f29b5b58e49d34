//! The taints that a node's conditions ask for, and how fast those come that drive pods away.
//!
//! Words: a *zone* is what the labels `topology.kubernetes.io/region` and `zone` say; all nodes without are one. Nodes of a zone that are not
//! ready get their NoExecute taint one after the other, so that a failure that is none of theirs does not move all pods at once; slower or
//! not at all where more than half of a zone is gone; and when no node of any zone is ready nobody is to blame but this server's
//! network: then all pods stay, and taints that were there go.
//!
//! Pure, and without memory: when the last node got its taint is written on that taint.
//!
//! Follows upstream's `handleDisruption`, `ComputeZoneState`, `processTaintBaseEviction` and `doNoScheduleTaintingPass`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Taint};

use super::super::{conditions, pods};
use super::ready;
use crate::server::reconcile::{Op, View};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CORDON: &str = "node.kubernetes.io/unschedulable";

/// Conditions that become NoSchedule taints while they are True.
const PRESSURE: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Time between two nodes of a zone: upstream's `--node-eviction-rate` of 0.1 and `--secondary-node-eviction-rate` of 0.01.
const PACE: SignedDuration = SignedDuration::from_secs(10);
const SLOW_PACE: SignedDuration = SignedDuration::from_secs(100);
/// `--unhealthy-zone-threshold`, in hundredths.
const UNHEALTHY: usize = 55;
/// `--large-cluster-size-threshold`: in a smaller zone that is unhealthy nobody is driven away.
const LARGE: usize = 50;
/// Label of nodes whose health says nothing of their zone's.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// The write that makes the taints what they should be, unless they are. Other taints stay.
pub(super) fn put_right(node: &Node, view: &View) -> Option<Op> {
    let state = |kind: &str| {
        let status = node.status.as_ref()?;
        conditions::find(&status.conditions, kind).map(|condition| condition.status.clone())
    };
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    if let Some(key) = health(node) {
        wanted.push((key, "NoSchedule"));
        wanted.extend(may_drive_away(node, view).then_some((key, "NoExecute")));
    }
    wanted.extend(PRESSURE.iter().filter(|(kind, _)| state(kind).as_deref() == Some("True")).map(|(_, key)| (*key, "NoSchedule")));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((CORDON, "NoSchedule"));
    }
    let ours =
        |taint: &Taint| [NOT_READY, UNREACHABLE, CORDON].contains(&taint.key.as_str()) || PRESSURE.iter().any(|(_, key)| *key == taint.key);
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = present.iter().filter(|taint| !ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = (effect == "NoExecute").then(|| pods::stamp(view.now()));
            taints.push(Taint { key: key.into(), effect: effect.into(), time_added, value: None });
        }
    }
    if taints == present {
        return None;
    }
    let mut node = node.clone();
    node.spec.get_or_insert_default().taints = Some(taints).filter(|taints| !taints.is_empty());
    Some(Op::Update(Box::new(node)))
}

/// The taint of a node's health, if it has one.
fn health(node: &Node) -> Option<&'static str> {
    match ready(node).map(|ready| ready.status.as_str()) {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    }
}

/// When a node got the taint that drives pods away.
fn driven(node: &Node) -> Option<Timestamp> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let ours = taints.filter(|taint| taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()));
    ours.map(|taint| taint.time_added.as_ref().map_or(Timestamp::MIN, |time| time.0)).max()
}

fn label<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn zone(node: &Node) -> (&str, &str) {
    let part = |name: &str| label(node, name).unwrap_or_default();
    (part("topology.kubernetes.io/region"), part("topology.kubernetes.io/zone"))
}

/// How a zone fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Zone {
    ready: usize,
    not_ready: usize,
}

impl Zone {
    fn is_gone(self) -> bool {
        self.ready == 0 && self.not_ready > 0
    }

    /// Time between two of its nodes; `None`: none is driven away.
    fn pace(self) -> Option<SignedDuration> {
        let all = self.ready + self.not_ready;
        let unhealthy = !self.is_gone() && self.not_ready > 2 && self.not_ready * 100 >= all * UNHEALTHY;
        match unhealthy {
            false => Some(PACE),
            true => (all > LARGE).then_some(SLOW_PACE),
        }
    }
}

/// Whether a node that is not ready may have, or keep, the taint that drives its pods away.
fn may_drive_away(node: &Node, view: &View) -> bool {
    let mut zones: BTreeMap<(String, String), Zone> = BTreeMap::new();
    let own = zone(node);
    let (mut last, mut first) = (None, None);
    for other in view.list::<Node>(None) {
        let (region, name) = zone(&other);
        let ill = health(&other).is_some();
        if label(&other, EXCLUDED).is_none() {
            let zone = zones.entry((region.into(), name.into())).or_default();
            *(if ill { &mut zone.not_ready } else { &mut zone.ready }) += 1;
        }
        if (region, name) != own || !ill {
            continue;
        }
        let at = driven(&other);
        last = last.max(at);
        if at.is_none() {
            // Who became ill first is first.
            let since = ready(&other).and_then(|ready| ready.last_transition_time.clone());
            let turn = (since, other.metadata.name.clone());
            first = Some(first.map_or_else(|| turn.clone(), |first: (_, _)| first.min(turn.clone())));
        }
    }
    if !zones.is_empty() && zones.values().all(|zone| zone.is_gone()) {
        return false;
    }
    if driven(node).is_some() {
        return true;
    }
    let mine = zones.get(&(own.0.to_owned(), own.1.to_owned())).copied().unwrap_or_default();
    let Some(pace) = mine.pace() else { return false };
    let is_first = first.is_none_or(|(_, name)| name == node.metadata.name);
    is_first && last.is_none_or(|last| view.now().duration_since(last) >= pace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Key;
    use crate::server::reconcile::testing::World;

    #[test]
    fn how_fast() {
        for (ready, not_ready, want) in
            [(3, 0, Some(PACE)), (1, 1, Some(PACE)), (0, 5, Some(PACE)), (2, 3, None), (3, 3, Some(PACE)), (20, 31, Some(SLOW_PACE))]
        {
            assert_eq!(Zone { ready, not_ready }.pace(), want, "{ready} ready, {not_ready} not");
        }
    }

    /// Nodes as `NAME STATUS [ZONE]`, ill since the order of their names.
    fn world(nodes: &[(&str, &str, &str)]) -> World {
        let yaml = |(n, (name, status, zone)): (usize, &(&str, &str, &str))| {
            format!(
                "---\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: '{zone}'}}}}\nstatus: {{conditions: \
                 [{{type: Ready, status: '{status}', lastTransitionTime: '2025-12-31T00:00:{n:02}Z'}}]}}\n"
            )
        };
        World::of(&nodes.iter().enumerate().map(yaml).collect::<String>())
    }

    /// Lets every node be put right until nothing changes, and says which drive their pods away.
    fn driving(world: &mut World) -> Vec<String> {
        for _ in 0..3 {
            for node in world.all::<Node>() {
                let key = Key::of::<Node>("", node.metadata.name.as_deref().unwrap_or_default());
                let view = world.view();
                if let Some(op) = view.at::<Node>(&key).and_then(|node| put_right(&node, &view)) {
                    world.apply(&op);
                }
            }
        }
        world.all::<Node>().iter().filter(|node| driven(node).is_some()).filter_map(|node| node.metadata.name.clone()).collect()
    }

    #[test]
    fn one_after_the_other() {
        let mut world = world(&[("a", "Unknown", ""), ("b", "False", ""), ("c", "True", "")]);
        assert_eq!(driving(&mut world), ["a"]);
        world.wait(std::time::Duration::from_secs(9));
        assert_eq!(driving(&mut world), ["a"]);
        world.wait(std::time::Duration::from_secs(1));
        assert_eq!(driving(&mut world), ["a", "b"]);
    }

    #[test]
    fn a_zone_does_not_wait_for_another() {
        let mut two = world(&[("a", "Unknown", "x"), ("b", "Unknown", "y"), ("c", "True", "x")]);
        assert_eq!(driving(&mut two), ["a", "b"]);
        let mut half =
            world(&[("a", "Unknown", "x"), ("b", "Unknown", "x"), ("c", "Unknown", "x"), ("d", "True", "x"), ("e", "True", "y")]);
        assert_eq!(driving(&mut half), Vec::<String>::new(), "most of a small zone is gone");
    }

    #[test]
    fn nobody_is_left_to_go_to() {
        let mut world = world(&[("a", "Unknown", "x"), ("b", "True", "y")]);
        assert_eq!(driving(&mut world), ["a"]);
        let set = |world: &mut World, status: &str| {
            let now = world.now;
            world.edit::<Node>("", "b", |node| {
                conditions::put(&mut node.status.get_or_insert_default().conditions, "Ready", status, "", "", now);
            });
        };
        set(&mut world, "Unknown");
        assert_eq!(driving(&mut world), Vec::<String>::new());
        let taints = |world: &World| world.one::<Node>("a").spec.and_then(|spec| spec.taints).unwrap_or_default();
        assert!(taints(&world).iter().all(|taint| taint.effect == "NoSchedule"), "{:?}", taints(&world));
        set(&mut world, "True");
        assert_eq!(driving(&mut world), ["a"]);
    }
}
