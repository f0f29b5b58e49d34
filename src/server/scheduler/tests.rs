//! Decisions as data: nodes and pods in YAML, ops out.

use super::*;
use crate::server::reconcile::testing::{World, show};

fn node(name: &str, more: &str) -> String {
    format!(
        "---\nkind: Node\nmetadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}, {}}}}}\n{}\nstatus: {{allocatable: {{cpu: '2', memory: 4Gi, pods: '3'}}}}\n",
        more.split('|').next().unwrap_or(""),
        more.split('|').nth(1).unwrap_or(""),
    )
}

fn pod(name: &str, spec: &str) -> String {
    let spec = if spec.contains("containers:") {
        spec.to_owned()
    } else {
        format!("{spec}{}containers: [{{name: c}}]", if spec.is_empty() { "" } else { ", " })
    };
    format!("---\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: web}}}}\nspec: {{{spec}}}\n")
}

fn cpu(amount: &str) -> String {
    format!("containers: [{{name: c, resources: {{requests: {{cpu: '{amount}'}}}}}}]")
}

fn decide(yaml: &str) -> Vec<String> {
    let outcome = Scheduler.reconcile(&pending(), &World::of(yaml).view());
    show(&outcome.ops)
}

fn check(yaml: &str, want: &[&str]) {
    assert_eq!(decide(yaml), want, "given:\n{yaml}");
}

fn refused(pod_spec: &str, node_more: &str, message: &str) {
    let yaml = format!("{}{}", node("n1", node_more), pod("a", pod_spec));
    check(&yaml, &[&format!("event FailedScheduling: 0/1 nodes are available: {message}."), "status Pod a"]);
}

fn accepted(pod_spec: &str, node_more: &str) {
    let yaml = format!("{}{}", node("n1", node_more), pod("a", pod_spec));
    check(&yaml, &["bind /pods/default/a n1", "event Scheduled: Successfully assigned default/a to n1"]);
}

#[test]
fn filters() {
    accepted("", "");
    accepted(&cpu("2"), "");
    refused(&cpu("2001m"), "", "1 Insufficient cpu");
    refused("overhead: {cpu: 3}", "", "1 Insufficient cpu");
    refused("initContainers: [{name: i, resources: {requests: {memory: 5Gi, cpu: 3}}}]", "", "1 Insufficient cpu, 1 Insufficient memory");
    refused(
        "initContainers: [{name: i, restartPolicy: Always, resources: {requests: {cpu: 1}}}], containers: [{name: c, resources: {requests: {cpu: 1500m}}}]",
        "",
        "1 Insufficient cpu",
    );
    refused("containers: [{name: c, resources: {requests: {example.com/gpu: 1}}}]", "", "1 Insufficient example.com/gpu");
    refused("", "|spec: {unschedulable: true}", "1 node(s) were unschedulable");
    accepted("tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]", "|spec: {unschedulable: true}");
    let tainted = "|spec: {taints: [{key: k, value: v, effect: NoSchedule}]}";
    refused("", tainted, "1 node(s) had untolerated taint(s)");
    refused("tolerations: [{key: k, value: w}]", tainted, "1 node(s) had untolerated taint(s)");
    accepted("tolerations: [{key: k, value: v}]", tainted);
    accepted("tolerations: [{operator: Exists}]", tainted);
    refused("nodeSelector: {disk: ssd}", "", "1 node(s) didn't match Pod's node affinity/selector");
    accepted("nodeSelector: {disk: ssd}", "disk: ssd");
    let affinity = |operator: &str, values: &str| {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchExpressions: [{{key: size, operator: {operator}, values: [{values}]}}]}}]}}}}}}"
        )
    };
    accepted(&affinity("Gt", "'3'"), "size: '4'");
    refused(&affinity("Lt", "'3'"), "size: '4'", "1 node(s) didn't match Pod's node affinity/selector");
    accepted(&affinity("NotIn", "'3'"), "");
}

#[test]
fn host_ports_and_spreading() {
    let port = "containers: [{name: c, ports: [{containerPort: 80, hostPort: 80}]}]";
    let yaml = format!("{}{}{}", node("n1", ""), pod("a", port), pod("b", port));
    let lines = decide(&yaml);
    assert!(
        lines[0].starts_with("bind /pods/default/a n1")
            && lines[2].contains("1 node(s) didn't have free ports for the requested pod ports")
    );
    let anti = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}}";
    let yaml = format!("{}{}{}{}{}", node("n1", ""), node("n2", ""), pod("a", anti), pod("b", anti), pod("c", anti));
    let lines = decide(&yaml);
    let bound: std::collections::BTreeSet<_> = lines.iter().filter(|l| l.starts_with("bind")).filter_map(|l| l.split(' ').nth(2)).collect();
    assert_eq!(bound.len(), 2);
    assert!(lines.iter().any(|line| line.contains("2 node(s) didn't match pod anti-affinity rules")));
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]";
    let pods: String = ["a", "b", "c", "d"].iter().map(|name| pod(name, spread)).collect();
    let lines = decide(&format!("{}{}{pods}", node("n1", ""), node("n2", "")));
    assert_eq!(lines.iter().filter(|line| line.starts_with("bind") && line.ends_with("n1")).count(), 2);
    let attract = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}}";
    let pods: String = ["a", "b", "c"].iter().map(|name| pod(name, attract)).collect();
    let lines = decide(&format!("{}{}{pods}", node("n1", ""), node("n2", "")));
    let bound: std::collections::BTreeSet<_> = lines.iter().filter(|l| l.starts_with("bind")).filter_map(|l| l.split(' ').nth(2)).collect();
    assert_eq!(bound.len(), 1, "they stay together");
}

#[test]
fn a_batch_never_over_commits() {
    let pods: String = ["a", "b", "c"].iter().map(|name| pod(name, &cpu("1"))).collect();
    let lines = decide(&format!("{}{pods}", node("n1", "")));
    assert_eq!(lines.iter().filter(|line| line.starts_with("bind")).count(), 2);
    assert!(lines.contains(&"event FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.".to_owned()));
    let important = format!("{}{}{}", node("n1", ""), pod("a", &cpu("2")), pod("b", &format!("priority: 9, {}", cpu("2"))));
    assert!(decide(&important)[0].starts_with("bind /pods/default/b"));
}

#[test]
fn who_holds_the_image_is_preferred() {
    let held = |name: &str| format!("status: {{images: [{{names: ['{name}'], sizeBytes: 900000000}}], ");
    for name in ["a", "b", "c", "d"] {
        let to = |image: &str, on: &str| {
            let nodes = [node("n1", ""), node("n2", "").replace("status: {", &held(on)), node("n3", "")].concat();
            decide(&format!("{nodes}{}", pod(name, &format!("containers: [{{name: c, image: '{image}'}}]"))))[0].clone()
        };
        for (image, on) in [("big:1", "docker.io/library/big:1"), ("big", "big:latest"), ("r.example/big:2", "r.example/big:2")] {
            assert_eq!(to(image, on), format!("bind /pods/default/{name} n2"), "{image} on {on}");
        }
    }
}

#[test]
fn many_are_placed_in_several_runs() {
    let nodes: String = (0..40).map(|n| node(&format!("n{n}"), "")).collect();
    // What has no place holds up nobody, however much of it there is.
    let stuck: String = (0..100).map(|n| pod(&format!("stuck{n}"), &format!("priority: 9, {}", cpu("3")))).collect();
    let pods: String = (0..100).map(|n| pod(&format!("p{n}"), "")).collect();
    let mut world = World::of(&format!("{nodes}{stuck}{pods}"));
    let outcome = Scheduler.reconcile(&pending(), &world.view());
    assert_eq!(outcome.ops.iter().filter(|op| matches!(op, Op::Bind { .. })).count(), MOST_PLACED);
    world.settle(&Scheduler, &pending());
    let bound = world.all::<Pod>().into_iter().filter(has_node).count();
    assert_eq!(bound, 100);
}

#[test]
fn what_waits_says_so_once() {
    let waiting = "status: {conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no nodes available to schedule pods}]}";
    check(&pod("a", ""), &["event FailedScheduling: no nodes available to schedule pods", "status Pod a"]);
    check(&format!("{}{waiting}", pod("a", "")), &[]);
    check(&format!("{}{}", node("n1", ""), pod("a", "schedulingGates: [{name: x}]")), &["status Pod a"]);
    check(&format!("{}{}", node("n1", ""), pod("a", "schedulerName: other")), &[]);
    check(&format!("{}{}", node("n1", ""), pod("a", "nodeName: n1")), &[]);
}

#[test]
fn scores_prefer_the_emptier_and_the_preferred() {
    let busy = pod("x", &format!("nodeName: n1, {}", cpu("1500m")));
    check(
        &format!("{}{}{busy}{}", node("n1", ""), node("n2", ""), pod("a", &cpu("100m"))),
        &["bind /pods/default/a n2", "event Scheduled: Successfully assigned default/a to n2"],
    );
    let prefer = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: disk, operator: Exists}]}}]}}";
    let lines = decide(&format!("{}{}{}", node("n1", ""), node("n2", "disk: ssd"), pod("a", prefer)));
    assert_eq!(lines[0], "bind /pods/default/a n2");
    let names: Vec<String> =
        (0..16).map(|i| decide(&format!("{}{}{}", node("n1", ""), node("n2", ""), pod(&format!("p{i}"), "")))[0].clone()).collect();
    let first = names.iter().filter(|line| line.ends_with("n1")).count();
    assert!((3..=13).contains(&first), "equal nodes are chosen by lot: {first} of 16");
}

/// Whether the change of a pod from one state to another is the scheduler's business.
#[test]
fn what_wakes_it() {
    let entry = |yaml: &str| World::of(yaml).snapshot().get(&Key::of::<Pod>("default", "a")).cloned();
    let wakes = |before: &str, after: &str, deleted: bool| {
        let after = entry(after).expect("a pod");
        !pod_changed(&Event { rev: after.rev, entry: after, prev: entry(before), deleted }).is_empty()
    };
    let (waiting, placed) = (pod("a", ""), pod("a", "nodeName: n1"));
    let ended = format!("{placed}status: {{phase: Succeeded}}\n");
    let relabelled = |pod: &str| pod.replace("app: web", "app: other");
    for (before, after, deleted, want) in [
        ("", &*waiting, false, true),
        ("", &*pod("a", "schedulerName: other"), false, false),
        (&*pod("a", "schedulingGates: [{name: g}]"), &*waiting, false, true),
        (&*waiting, &*format!("{waiting}status: {{conditions: [{{type: PodScheduled, status: 'False'}}]}}\n"), false, false),
        (&*waiting, &*relabelled(&waiting), false, true),
        (&*waiting, &*placed, false, true),
        (&*placed, &*format!("{placed}status: {{podIP: 10.0.0.1}}\n"), false, false),
        (&*placed, &*relabelled(&placed), false, true),
        (&*placed, &*ended, false, true),
        (&*ended, &*format!("{placed}status: {{phase: Succeeded, reason: x}}\n"), false, false),
        (&*placed, &*placed, true, true),
        (&*waiting, &*waiting, true, false),
    ] {
        assert_eq!(wakes(before, after, deleted), want, "from:\n{before}to:\n{after}deleted: {deleted}");
    }
}
