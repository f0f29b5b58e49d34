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
use std::time::Duration;

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

/// Label of nodes whose health says nothing of their zone's.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// Whose turn it is next waits for the write of the last for so long at least.
const LEAST_WAIT: Duration = Duration::from_millis(20);
/// Times in taints are in whole seconds: who may go is counted over no shorter time.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// How fast pods are driven away from nodes that are not ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Eviction {
    /// Nodes of a zone per second; not negative (`--node-eviction-rate`).
    pub rate: f64,
    /// The same in a zone that is unhealthy and large (`--secondary-node-eviction-rate`); in one that is small none.
    pub secondary_rate: f64,
    /// From this share of nodes that are not ready a zone is unhealthy (`--unhealthy-zone-threshold`).
    pub unhealthy: f64,
    /// A zone of more nodes is large (`--large-cluster-size-threshold`).
    pub large: usize,
}

impl Default for Eviction {
    /// Upstream's.
    fn default() -> Eviction {
        Eviction { rate: 0.1, secondary_rate: 0.01, unhealthy: 0.55, large: 50 }
    }
}

/// Whether a node may have, or keep, the taint that drives its pods away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now.
    Now,
    /// Not before this long, should nothing change.
    In(Duration),
    /// Not while nodes are as they are.
    Never,
}

/// So many nodes in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    nodes: usize,
    within: SignedDuration,
}

impl Pace {
    /// Of nodes per second; `None`: none ever.
    fn of(rate: f64) -> Option<Pace> {
        match rate {
            rate if rate >= 1.0 => Some(Pace { nodes: rate as usize, within: SECOND }),
            rate if rate > 0.0 => {
                Some(Pace { nodes: 1, within: SignedDuration::try_from_secs_f64(rate.recip()).unwrap_or(SignedDuration::MAX) })
            }
            _ => None,
        }
    }
}

/// The write that makes the taints what they should be, unless they are. Other taints stay.
pub(super) fn put_right(node: &Node, view: &View, turn: Turn) -> Option<Op> {
    let state = |kind: &str| {
        let status = node.status.as_ref()?;
        conditions::find(&status.conditions, kind).map(|condition| condition.status.clone())
    };
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    if let Some(key) = health(node) {
        wanted.push((key, "NoSchedule"));
        wanted.extend((turn == Turn::Now).then_some((key, "NoExecute")));
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

    /// How fast its nodes are driven from; `None`: not at all.
    fn pace(self, eviction: &Eviction) -> Option<Pace> {
        let all = self.ready + self.not_ready;
        let share = self.not_ready as f64 / all.max(1) as f64;
        let unhealthy = !self.is_gone() && self.not_ready > 2 && share >= eviction.unhealthy;
        match unhealthy {
            false => Pace::of(eviction.rate),
            true if all > eviction.large => Pace::of(eviction.secondary_rate),
            true => None,
        }
    }
}

/// When a node's pods may be driven away: never from one that is ready.
pub(super) fn turn(node: &Node, view: &View, eviction: &Eviction) -> Turn {
    if health(node).is_none() {
        return Turn::Never;
    }
    let mut zones: BTreeMap<(String, String), Zone> = BTreeMap::new();
    let own = zone(node);
    let place = |node: &Node| (ready(node).and_then(|ready| ready.last_transition_time.clone()), node.metadata.name.clone());
    let (mut drives, mut ahead) = (Vec::new(), 0);
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
        match driven(&other) {
            Some(at) => drives.push(at),
            // Who became ill first is first.
            None => ahead += usize::from(place(&other) < place(node)),
        }
    }
    if !zones.is_empty() && zones.values().all(|zone| zone.is_gone()) {
        return Turn::Never;
    }
    if driven(node).is_some() {
        return Turn::Now;
    }
    let mine = zones.get(&(own.0.to_owned(), own.1.to_owned())).copied().unwrap_or_default();
    mine.pace(eviction).map_or(Turn::Never, |pace| in_line(&mut drives, ahead, pace, view.now()))
}

/// The turn of a node with so many others before it, given when the others of its zone had theirs.
fn in_line(drives: &mut [Timestamp], ahead: usize, pace: Pace, now: Timestamp) -> Turn {
    drives.sort_unstable_by(|a, b| b.cmp(a));
    // The oldest of those that fill the time up: when it is out of it, there is room for one.
    let room = match drives.get(pace.nodes - 1).map(|oldest| pace.within.saturating_sub(now.duration_since(*oldest))) {
        Some(wait) if wait > SignedDuration::ZERO => wait,
        _ if ahead == 0 => return Turn::Now,
        _ => SignedDuration::ZERO,
    };
    // With each further time that many go.
    let times = i32::try_from(ahead / pace.nodes).unwrap_or(i32::MAX);
    let wait = pace.within.checked_mul(times).and_then(|wait| wait.checked_add(room)).unwrap_or(SignedDuration::MAX);
    Turn::In(Duration::try_from(wait).unwrap_or_default().max(LEAST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Key;
    use crate::server::reconcile::testing::World;

    #[test]
    fn how_fast() {
        let every = |seconds| Some(Pace { nodes: 1, within: SignedDuration::from_secs(seconds) });
        let usual = Eviction::default();
        let (fast, none) = (Eviction { rate: 2.5, ..usual }, Eviction { rate: 0.0, secondary_rate: 0.0, ..usual });
        let strict = Eviction { unhealthy: 0.0, large: 4, secondary_rate: 0.5, ..usual };
        for (ready, not_ready, eviction, want) in [
            (3, 0, usual, every(10)),
            (1, 1, usual, every(10)),
            (0, 5, usual, every(10)),
            (2, 3, usual, None),
            (3, 3, usual, every(10)),
            (20, 31, usual, every(100)),
            (9, 11, usual, None),
            (3, 0, fast, Some(Pace { nodes: 2, within: SECOND })),
            (2, 3, fast, None),
            (3, 1, none, None),
            (20, 31, none, None),
            (2, 2, strict, every(10)),
            (1, 3, strict, None),
            (2, 3, strict, every(2)),
        ] {
            assert_eq!(Zone { ready, not_ready }.pace(&eviction), want, "{ready} ready, {not_ready} not, {eviction:?}");
        }
        assert_eq!(Pace::of(f64::MIN_POSITIVE).map(|pace| pace.within), Some(SignedDuration::MAX));
    }

    #[test]
    fn whose_turn() {
        let now: Timestamp = "2026-01-01T00:01:00.5Z".parse().unwrap();
        let ago = |seconds: i64| now - SignedDuration::from_millis(seconds * 1000 + 500);
        let (slow, fast) = (Pace { nodes: 1, within: SignedDuration::from_secs(10) }, Pace { nodes: 2, within: SECOND });
        let wait = |millis| Turn::In(Duration::from_millis(millis));
        for (drives, ahead, pace, want) in [
            (vec![], 0, slow, Turn::Now),
            (vec![], 2, slow, wait(20_000)),
            (vec![ago(3)], 0, slow, wait(6_500)),
            (vec![ago(3)], 1, slow, wait(16_500)),
            (vec![ago(12), ago(20)], 0, slow, Turn::Now),
            (vec![ago(0)], 0, fast, Turn::Now),
            (vec![ago(0), ago(0), ago(7)], 0, fast, wait(500)),
            (vec![ago(0), ago(0)], 3, fast, wait(1_500)),
            (vec![ago(0)], 1, fast, wait(20)),
        ] {
            assert_eq!(in_line(&mut drives.clone(), ahead, pace, now), want, "{drives:?}, {ahead} ahead, {pace:?}");
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
                let node = view.at::<Node>(&key).expect("it is there");
                if let Some(op) = put_right(&node, &view, turn(&node, &view, &Eviction::default())) {
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
