//! Pods that run get other resources: in the files of their groups, in their status, and as it is felt, on cgroup v1 and v2.

use super::cluster;
use super::limits::Version;
use crate::support::bed::Bed;
use crate::support::{eventually, step};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: grown, labels: {set: resize}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity], resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}}
  - name: b
    image: busybox:1
    imagePullPolicy: Never
    command: [sleep, infinity]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
"#;

/// On a bed with a cluster whose last host is a node.
pub fn run(bed: &impl Bed) {
    let (place, _) = cluster::on_last(bed, PODS, "resize");
    let version = Version::of(bed, place);
    let uid = bed.kubectl("get pod grown -o jsonpath={.metadata.uid}");
    let group = format!("orch/burstable/pod{uid}");
    let resize = |container: &str, resources: &str| {
        let patch = format!(r#"{{"spec":{{"containers":[{{"name":"{container}","resources":{resources}}}]}}}}"#);
        bed.kubectl(&format!("patch pod grown --subresource=resize -p '{patch}'"));
    };
    let shown = |path: &str| bed.kubectl(&format!("get pod grown -o jsonpath='{path}'"));
    let until = |what: &str, path: &str, wanted: &str| {
        eventually(bed.patience(), what, || match shown(path) {
            text if text == wanted => Ok(()),
            text => Err(text),
        });
    };
    let done = || {
        until("no resize is under way", "{.status.conditions[?(@.type==\"PodResizeInProgress\")].type}", "");
        until("none waits", "{.status.conditions[?(@.type==\"PodResizePending\")].type}", "");
    };
    // CPU in hundredths of a core and memory in Mi of: the pod, a, b.
    let files = |b: &str, cpu: [u64; 3], memory: [u64; 3]| {
        for (at, below) in ["", "/a-0", b].iter().enumerate() {
            let group = format!("{group}{below}");
            let (file, quota) = match version {
                Version::V1 => ("cpu.cfs_quota_us", (cpu[at] * 1000).to_string()),
                Version::V2 => ("cpu.max", format!("{} 100000", cpu[at] * 1000)),
            };
            let limit = if version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
            for (controller, file, wanted) in [("cpu", file, quota), ("memory", limit, (memory[at] << 20).to_string())] {
                let path = version.path(controller, &group, file);
                assert_eq!(bed.sh(place, &format!("cat {path}")).trim_end(), wanted, "{path}");
            }
        }
    };
    files("/b-0", [40, 20, 20], [128, 64, 64]);

    step("both grow in place, and b shrinks again");
    resize("a", r#"{"requests":{"cpu":"150m","memory":"48Mi"},"limits":{"cpu":"300m","memory":"96Mi"}}"#);
    until("a has more", "{.status.containerStatuses[0].resources.limits.cpu}", "300m");
    done();
    files("/b-0", [50, 30, 20], [160, 96, 64]);
    assert_eq!(shown("{.status.containerStatuses[0].allocatedResources.memory}"), "48Mi");
    resize("b", r#"{"requests":{"cpu":"50m"},"limits":{"cpu":"100m"}}"#);
    until("b has less", "{.status.containerStatuses[1].resources.limits.cpu}", "100m");
    done();
    files("/b-0", [40, 30, 10], [160, 96, 64]);
    assert_eq!(shown("{.status.containerStatuses[*].restartCount}"), "0 0");

    step("its policy has b restarted for memory");
    resize("b", r#"{"limits":{"memory":"80Mi"}}"#);
    until("b has more memory", "{.status.containerStatuses[1].resources.limits.memory}", "80Mi");
    done();
    files("/b-1", [40, 30, 10], [176, 96, 80]);
    assert_eq!(shown("{.status.containerStatuses[*].restartCount}"), "0 1");

    step("memory does not fall below what is used, until less is used");
    bed.kubectl("exec grown -c a -- sh -c 'mkdir -p /dev/shm && head -c 50000000 /dev/zero > /dev/shm/held'");
    resize("a", r#"{"requests":{"memory":"32Mi"},"limits":{"memory":"32Mi"}}"#);
    until("it says so", "{.status.conditions[?(@.type==\"PodResizeInProgress\")].reason}", "Error");
    let why = shown("{.status.conditions[?(@.type==\"PodResizeInProgress\")].message}");
    assert!(why.starts_with("attempting to set container \"a\" memory limit (33554432) below current usage ("), "{why}");
    files("/b-1", [40, 30, 10], [176, 96, 80]);
    bed.kubectl("exec grown -c a -- rm /dev/shm/held");
    until("a has less", "{.status.containerStatuses[0].resources.limits.memory}", "32Mi");
    done();
    files("/b-1", [40, 30, 10], [112, 32, 80]);

    step("more than there is waits, or is refused");
    resize("a", r#"{"requests":{"memory":"900Ti"},"limits":{"memory":"900Ti"}}"#);
    until("it is infeasible", "{.status.conditions[?(@.type==\"PodResizePending\")].reason}", "Infeasible");
    files("/b-1", [40, 30, 10], [112, 32, 80]);
    resize("a", r#"{"requests":{"memory":"32Mi"},"limits":{"memory":"32Mi"}}"#);
    done();
    bed.kubectl("delete pod -l set=resize");
}
