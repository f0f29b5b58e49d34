//! Pods and what becomes of them.
#![allow(clippy::unwrap_used)]
use super::*;

fn pod(spec: &str) -> Pod {
    serde_yaml::from_str(&format!("metadata: {{uid: u}}\nspec: {spec}")).unwrap()
}

#[test]
fn quantities() {
    for (text, milli_value) in
        [("1", 1000), ("100m", 100), ("0.5", 500), ("1Ki", 1_024_000), ("2e3", 2_000_000), ("1n", 1), ("1.5Gi", 1_610_612_736_000)]
    {
        assert_eq!(milli(text), Some(milli_value), "{text}");
    }
    assert_eq!(milli("x"), None);
    assert_eq!(milli("1Q"), None);
    assert_eq!(value("1500m"), Some(2));
}

/// The parts that differ, as `shares quota memory`, `-` where there is no limit.
fn brief(limits: &Value) -> String {
    let part = |path: &str| limits.pointer(path).map_or("-".to_owned(), Value::to_string);
    [part("/cpu/shares"), part("/cpu/quota"), part("/memory/limit")].join(" ")
}

#[test]
fn limits_of_pods_and_of_their_first_containers() {
    let pages = [Pages { size: 2 << 20, count: 1 }];
    // (spec, cgroup, pod, first container)
    for (spec, group, whole, first) in [
        ("{containers: [{name: a}]}", "orch/besteffort/podu", "2 - -", "2 - -"),
        (
            "{containers: [{name: a, resources: {limits: {cpu: 500m, memory: 1Mi}, requests: {cpu: 500m, memory: 1Mi}}}]}",
            "orch/podu",
            "512 50000 1048576",
            "512 50000 1048576",
        ),
        // A limit alone is a request too.
        ("{containers: [{name: a, resources: {limits: {cpu: 500m}}}]}", "orch/burstable/podu", "2 50000 -", "512 50000 -"),
        // One container without a limit leaves the pod without.
        (
            "{containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 200m, memory: 1Mi}}}, {name: b, resources: {requests: {cpu: 50m}, limits: {memory: 1Mi}}}]}",
            "orch/burstable/podu",
            "153 - 2097152",
            "102 20000 1048576",
        ),
        // So does an init container, and what it asks for counts while it runs.
        (
            "{initContainers: [{name: i, resources: {requests: {cpu: 300m}}}], containers: [{name: a, resources: {requests: {cpu: 100m, memory: 1Mi}, limits: {memory: 1Mi}}}]}",
            "orch/burstable/podu",
            "307 - -",
            "102 - 1048576",
        ),
        // A sidecar is there beside the others.
        (
            "{initContainers: [{name: s, restartPolicy: Always, resources: {requests: {cpu: 300m}}}], containers: [{name: a, resources: {requests: {cpu: 100m}}}]}",
            "orch/burstable/podu",
            "409 - -",
            "102 - -",
        ),
        // The pod's own amounts go before its containers', and stand in for their limits.
        (
            "{resources: {requests: {cpu: 200m, memory: 1Mi}, limits: {cpu: 400m, memory: 2Mi}}, containers: [{name: a}]}",
            "orch/burstable/podu",
            "204 40000 2097152",
            "409 40000 2097152",
        ),
        // Overhead is the pod's, not a container's.
        (
            "{overhead: {cpu: 250m, memory: 1Mi}, containers: [{name: a, resources: {requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 1, memory: 1Mi}}}]}",
            "orch/podu",
            "1280 125000 2097152",
            "1024 100000 1048576",
        ),
        // The kernel takes no smaller quota.
        ("{containers: [{name: a, resources: {requests: {cpu: 1m}, limits: {cpu: 1m}}}]}", "orch/burstable/podu", "2 1000 -", "2 1000 -"),
    ] {
        let pod = pod(spec);
        let containers = container_limits(&pod, &pod.spec.as_ref().unwrap().containers[0], &pages);
        assert_eq!(
            (cgroup(&pod).as_str(), brief(&pod_limits(&pod, None, &[])).as_str(), brief(&containers).as_str()),
            (group, whole, first),
            "{spec}"
        );
        assert_eq!(containers["unified"], json!({"memory.oom.group": "1", "memory.swap.max": "0"}));
        assert_eq!(containers.pointer("/memory/swap"), containers.pointer("/memory/limit"));
        assert_eq!(containers["hugepageLimits"], json!([{"pageSize": "2MB", "limit": 0}]));
        assert_eq!(pod_limits(&pod, Some(7), &[])["pids"]["limit"], 7);
    }
}

#[test]
fn who_dies_first() {
    const NODE: i64 = 1000 << 20;
    for (spec, want) in [
        ("{containers: [{name: a}]}", 1000),
        ("{containers: [{name: a, resources: {requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 1, memory: 1Mi}}}]}", -997),
        ("{containers: [{name: a, resources: {requests: {memory: 100Mi}}}]}", 900),
        ("{containers: [{name: a, resources: {requests: {memory: 1000Mi}}}]}", 3),
        ("{containers: [{name: a, resources: {requests: {cpu: 1}}}]}", 999),
        ("{priority: 2000001000, priorityClassName: system-node-critical, containers: [{name: a}]}", -997),
        ("{priority: 2000000000, priorityClassName: system-cluster-critical, containers: [{name: a}]}", 1000),
        ("{containers: [{name: a, restartPolicy: Always}, {name: b, resources: {requests: {memory: 100Mi}}}]}", 999),
        // What no container asks for is shared by all.
        ("{resources: {requests: {memory: 300Mi}}, containers: [{name: a, resources: {requests: {memory: 100Mi}}}, {name: b}]}", 800),
    ] {
        let pod = pod(spec);
        assert_eq!(oom_score_adj(&pod, &pod.spec.as_ref().unwrap().containers[0], NODE), want, "{spec}");
    }
    let sidecar = pod("{initContainers: [{name: s, restartPolicy: Always, resources: {requests: {memory: 1Mi}}}],
        containers: [{name: a, resources: {requests: {memory: 200Mi}}}, {name: b, resources: {requests: {memory: 100Mi}}}]}");
    assert_eq!(oom_score_adj(&sidecar, &sidecar.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0], NODE), 900);
}
