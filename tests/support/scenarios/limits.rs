//! What pods may have: CPU, memory and processes, in the files of their groups and as they are felt, on cgroup v1 and v2.

use super::cluster;
use crate::support::bed::{Bed, Place, SERVER};
use crate::support::{eventually, step};

/// What the node has to be started with.
pub const FLAGS: &str = "--pod-max-pids=64";

/// Pods of each class; `NODE` is where they run.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: guaranteed, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity], resources: {limits: {cpu: 250m, memory: 48Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: burstable, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity], resources: {requests: {cpu: 100m}, limits: {cpu: 200m, memory: 32Mi}}}
  - {name: b, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity], resources: {requests: {cpu: 50m}}}
---
apiVersion: v1
kind: Pod
metadata: {name: init, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: i, image: busybox:1, imagePullPolicy: Never, command: ['true'], resources: {requests: {cpu: 300m}}}
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity], resources: {requests: {cpu: 100m}, limits: {memory: 32Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: whole, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  resources: {requests: {cpu: 200m, memory: 32Mi}, limits: {cpu: 400m, memory: 64Mi}}
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity]}
---
apiVersion: v1
kind: Pod
metadata: {name: besteffort, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity]}
"#;

/// A group, where `<NAME>` stands for the uid of a pod; its shares on v1 and its weight on v2; its quota in microseconds, its memory in
/// Mi and its processes, where it has such limits.
type Row = (&'static str, u64, u64, Option<u64>, Option<u64>, Option<u64>);

const PIDS: Option<u64> = Some(64);

/// What upstream's kubelet (1.35 and later) and a runtime of its time write.
const EXPECTED: &[Row] = &[
    ("orch/pod<guaranteed>", 256, 35, Some(25_000), Some(48), PIDS),
    ("orch/pod<guaranteed>/c-0", 256, 35, Some(25_000), Some(48), None),
    // What its pods ask for: 150m, 300m and 200m.
    ("orch/burstable", 665, 72, None, None, None),
    ("orch/burstable/pod<burstable>", 153, 24, None, None, PIDS),
    ("orch/burstable/pod<burstable>/a-0", 102, 17, Some(20_000), Some(32), None),
    ("orch/burstable/pod<burstable>/b-0", 51, 11, None, None, None),
    ("orch/burstable/pod<init>", 307, 40, None, None, PIDS),
    ("orch/burstable/pod<init>/c-0", 102, 17, None, Some(32), None),
    ("orch/burstable/pod<whole>", 204, 29, Some(40_000), Some(64), PIDS),
    ("orch/burstable/pod<whole>/c-0", 409, 49, Some(40_000), Some(64), None),
    ("orch/besteffort", 2, 1, None, None, None),
    ("orch/besteffort/pod<besteffort>", 2, 1, None, None, PIDS),
    ("orch/besteffort/pod<besteffort>/c-0", 2, 1, None, None, None),
];

/// How a host has its groups.
#[derive(Clone, Copy, PartialEq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

impl Version {
    /// How this host has them.
    pub fn of(bed: &impl Bed, place: Place) -> Version {
        match bed.sh(place, "test ! -e /sys/fs/cgroup/cgroup.controllers || echo unified").as_str() {
            "" => Version::V1,
            _ => Version::V2,
        }
    }

    /// Where a file of a group is.
    pub fn path(self, controller: &str, group: &str, file: &str) -> String {
        match self {
            Version::V1 => format!("/sys/fs/cgroup/{controller}/{group}/{file}"),
            Version::V2 => format!("/sys/fs/cgroup/{group}/{file}"),
        }
    }

    /// The files that a row is about, and what is in them.
    fn files(self, row: &Row, group: &str) -> Vec<(String, String)> {
        let (_, shares, weight, quota, memory, pids) = *row;
        let or = |limit: Option<u64>, none: &str| limit.map_or(none.to_owned(), |limit| limit.to_string());
        let (bytes, container) = (memory.map(|mi| mi << 20), group.ends_with("-0"));
        let mut files = match self {
            Version::V1 => vec![
                ("cpu", "cpu.shares", shares.to_string()),
                ("cpu", "cpu.cfs_quota_us", or(quota, "-1")),
                ("cpu", "cpu.cfs_period_us", "100000".into()),
                ("memory", "memory.limit_in_bytes", or(bytes, "9223372036854771712")),
            ],
            Version::V2 => vec![
                ("cpu", "cpu.weight", weight.to_string()),
                ("cpu", "cpu.max", or(quota, "max") + " 100000"),
                ("memory", "memory.max", or(bytes, "max")),
                ("memory", "memory.min", "0".into()),
                ("memory", "memory.high", "max".into()),
            ],
        };
        if container && self == Version::V2 {
            files.extend([("memory", "memory.oom.group", "1".into()), ("memory", "memory.swap.max", "0".into())]);
        }
        files.push(("pids", "pids.max", or(pids, "max")));
        files.into_iter().map(|(controller, file, value)| (self.path(controller, group, file), value)).collect()
    }
}

/// On a bed with a cluster whose last host was made a node with [`FLAGS`].
pub fn run(bed: &impl Bed) {
    let (place, node) = cluster::on_last(bed, PODS, "limits");
    let version = Version::of(bed, place);
    files(bed, place, version);
    memory(bed, &node, version);
    cpu(bed, place, &node, version);
    processes(bed, place, &node, version);
    bed.kubectl("delete pod -l set=limits");
}

/// The uid of a pod.
fn uid(bed: &impl Bed, pod: &str) -> String {
    bed.kubectl(&format!("get pod {pod} -o jsonpath='{{.metadata.uid}}'")).trim().to_owned()
}

fn files(bed: &impl Bed, place: Place, version: Version) {
    step("the groups of classes, pods and containers");
    let (mut script, mut expected) = (String::new(), String::new());
    let listed = bed.kubectl("get pod -l set=limits -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}'");
    for row in EXPECTED {
        let mut group = row.0.to_owned();
        for (name, uid) in listed.lines().filter_map(|line| line.split_once(' ')) {
            group = group.replace(&format!("<{name}>"), uid);
        }
        for (path, value) in version.files(row, &group) {
            script.push_str(&format!("echo {path} $(cat {path})\n"));
            expected.push_str(&format!("{path} {value}\n"));
        }
    }
    bed.says(place, &script, &expected);

    let number = |script: &str| bed.sh(place, script).trim().parse::<u64>().unwrap();
    let (cpus, memory) = (number("grep -c '^cpu[0-9]' /proc/stat"), number("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"));
    let processes = number("cat /proc/sys/kernel/pid_max").min(number("cat /proc/sys/kernel/threads-max"));
    let root = |controller, file| number(&format!("cat {}", version.path(controller, "orch", file)));
    let (weight, bytes, want) = match version {
        Version::V1 => (root("cpu", "cpu.shares"), root("memory", "memory.limit_in_bytes"), 1024 * cpus),
        // The weights of 1024, 2048 and 4096 shares; other machines are not asked.
        Version::V2 => {
            let weight = root("cpu", "cpu.weight");
            (
                weight,
                root("memory", "memory.max"),
                [(1, 100), (2, 174), (4, 303)].iter().find(|(n, _)| *n == cpus).map_or(weight, |(_, w)| *w),
            )
        }
    };
    assert_eq!((weight, bytes, root("pids", "pids.max")), (want, memory << 10, processes), "the group of all pods");
}

/// One takes too much itself, one has a child that does.
const GREEDY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy, labels: {set: limits}}
spec:
  nodeName: NODE
  restartPolicy: Never
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1], resources: {limits: {memory: 32Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: parent, labels: {set: limits}}
spec:
  nodeName: NODE
  restartPolicy: Never
  containers:
  - name: c
    image: busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived; exit 3']
    resources: {limits: {memory: 32Mi}}
"#;

fn memory(bed: &impl Bed, node: &str, version: Version) {
    step("too much memory");
    bed.apply(&GREEDY.replace("NODE", node));
    bed.kubectl(&format!("wait --for=jsonpath='{{.status.phase}}'=Failed pod/greedy pod/parent --timeout={}s", bed.patience().as_secs()));
    let end = |pod: &str| {
        let path = ".status.containerStatuses[0].state.terminated";
        bed.kubectl(&format!("get pod {pod} -o jsonpath='{{{path}.reason}} {{{path}.exitCode}}'"))
    };
    assert_eq!(end("greedy").trim(), "OOMKilled 137");
    match version {
        // A container dies as a whole.
        Version::V2 => {
            assert_eq!(end("parent").trim(), "OOMKilled 137");
            assert_eq!(bed.kubectl("logs parent"), "");
        }
        Version::V1 => assert!(bed.kubectl("logs parent").lines().any(|line| line == "survived")),
    }
}

const BUSY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 200m}}}
"#;
/// What it may use of a second.
const SHARE: f64 = 0.2;

fn cpu(bed: &impl Bed, place: Place, node: &str, version: Version) {
    step("too much CPU");
    bed.apply(&BUSY.replace("NODE", node));
    bed.kubectl(&format!("wait --for=condition=Ready pod/busy --timeout={}s", bed.patience().as_secs()));
    let group = format!("orch/burstable/pod{}/c-0", uid(bed, "busy"));
    let stat = version.path("cpu", &group, "cpu.stat");
    let usage = match version {
        Version::V1 => format!("cat {}", version.path("cpuacct", &group, "cpuacct.usage")),
        Version::V2 => format!("sed -n 's/^usage_usec \\(.*\\)/\\1000/p' {stat}"),
    };
    // Seconds since boot, nanoseconds used, periods, and those in which it was stopped; twice.
    let sample = format!("echo $(cut -d' ' -f1 /proc/uptime) $({usage}) $(sed -n 's/^nr_[pt][eh][^ ]* //p' {stat})");
    let script = format!("{sample}\nsleep 4\n{sample}");
    let (ratio, periods, stopped) = eventually(bed.patience(), "the busy loop gets its share", || {
        let text = bed.sh(place, &script);
        let rows: Vec<Vec<f64>> = text.lines().map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
        let [seconds, nanos, periods, stopped] = [0, 1, 2, 3].map(|column| rows[1][column] - rows[0][column]);
        let ratio = nanos / 1e9 / seconds / SHARE;
        assert!(ratio < 1.1, "{ratio} of its limit:\n{text}");
        // A machine that is too busy to give it that much can't be what is shown here.
        if ratio > 0.9 { Ok((ratio, periods, stopped)) } else { Err(format!("{ratio} of its limit:\n{text}")) }
    });
    step(&format!("a busy loop gets {ratio:.3} of its limit, stopped in {stopped} of {periods} periods"));
    // Not in all of them: on a busy machine it waits for its turn for a part of them.
    assert!(stopped > periods / 10.0, "stopped in {stopped} of {periods} periods only");
    bed.kubectl("delete pod busy");
}

/// Doubles until nothing more can be started, and goes on trying.
const BOMB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: bomb, labels: {set: limits}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'bomb() { bomb | bomb & }; bomb 2>/dev/null; exec sleep 100000']
    resources: {limits: {cpu: 500m, memory: 64Mi}}
"#;

const AFTER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: after, labels: {set: limits}}
spec:
  nodeName: NODE
  restartPolicy: Never
  containers:
  - {name: c, image: busybox:1, imagePullPolicy: Never, command: [sh, -c, 'true | true']}
"#;

fn processes(bed: &impl Bed, place: Place, node: &str, version: Version) {
    step("too many processes");
    bed.apply(&BOMB.replace("NODE", node));
    bed.until(SERVER, "kubectl get pod bomb -o jsonpath='{.status.containerStatuses[0].state}'", |state| state.contains("running"));
    let group = format!("orch/pod{}", uid(bed, "bomb"));
    let events = [version.path("pids", &group, "pids.events"), version.path("pids", &group, "c-0/pids.events")].join(" ");
    // Which of the two counts depends on the kernel.
    let refused = bed.until(place, &format!("sed -n 's/^max //p' {events}"), |text| text.lines().any(|count| count != "0"));
    let current = bed.sh(place, &format!("cat {}", version.path("pids", &group, "pids.current")));
    assert!(current.trim().parse::<u64>().unwrap() <= 64, "{current} processes");
    step(&format!("a fork bomb has {} processes, and was refused {} more", current.trim(), refused.trim().replace('\n', " and ")));
    assert_eq!(bed.kubectl("exec guaranteed -- sh -c 'echo runs | cat'"), "runs\n");
    bed.apply(&AFTER.replace("NODE", node));
    bed.kubectl(&format!("wait --for=jsonpath='{{.status.phase}}'=Succeeded pod/after --timeout={}s", bed.patience().as_secs()));
    let ready = bed.kubectl(&format!("get node {node} -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'"));
    assert_eq!(ready.trim(), "True", "the node");
    bed.kubectl("delete pod bomb");
}
