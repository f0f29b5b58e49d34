//! The product on real machines: pure cgroup v2 and a kernel that is not the builder's. Run by `make test-vm`; skips with a reason where
//! qemu is missing.

#![allow(clippy::unwrap_used)]

mod machine;

use std::path::Path;
use std::time::Duration;

use machine::{Machine, Parts};

const QUICK: Duration = Duration::from_secs(60);
/// Without acceleration, a debug build, and beside other tests.
const SLOW: Duration = Duration::from_secs(300);

const SERVER: &str = "orch server --write-kubeconfig /root/kubeconfig >/tmp/server.log 2>&1 &
until [ -s /root/kubeconfig ] && orch kubectl --kubeconfig /root/kubeconfig get node vm-a >/dev/null 2>&1; do sleep 1; done
orch kubectl --kubeconfig /root/kubeconfig wait --for=condition=Ready node/vm-a --timeout=240s";

const PODS: &str = "orch image import /root/busybox.tar
export KUBECONFIG=/root/kubeconfig
cat >/tmp/pods.yaml <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: c
    image: busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir /www; echo here > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www']
    resources: {limits: {cpu: 250m, memory: 48Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox:1
    imagePullPolicy: Never
    command: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1]
    resources: {limits: {memory: 32Mi}}
YAML
orch kubectl apply -f /tmp/pods.yaml
orch kubectl wait --for=condition=Ready pod/web --timeout=240s
orch kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/greedy --timeout=240s";

/// What `orch reset` has to bring back.
const SNAPSHOT: &str = "ip -o link | sed 's/^[0-9]*: //'
ip route
find /sys/fs/cgroup -type d | sort
cat /sys/fs/cgroup/cgroup.subtree_control /proc/sys/net/ipv4/ip_forward
cut -d' ' -f5 /proc/self/mountinfo
ls -A /root /var/lib
ps -o args | grep -c '[o]rch shim' || true";

/// Why there can be no machine here.
fn missing() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let has = |program: &&str| !path.split(':').any(|dir| Path::new(dir).join(program).is_file());
    let lacking: Vec<&str> = ["qemu-system-x86_64", "mkfs.ext4", "busybox", "apt-get", "dpkg-deb"].into_iter().filter(has).collect();
    (!lacking.is_empty()).then(|| format!("this machine has no {}", lacking.join(", ")))
}

#[test]
#[ignore = "takes minutes; `make test-vm` runs it"]
fn a_node_on_cgroup_v2_and_its_neighbour() {
    if let Some(reason) = missing() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let parts = Parts::build();
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    let mut a = Machine::boot(&parts, dir.path(), "vm-a", "10.97.0.2/24", &link);
    let mut b = Machine::boot(&parts, dir.path(), "vm-b", "10.97.0.3/24", &link);
    b.sh(QUICK, "ping -c 1 -W 20 10.97.0.2");
    assert!(!a.sh(QUICK, "ip route").contains("default"), "there is a way out");

    let checked = a.sh(SLOW, "orch check-config");
    assert!(checked.contains("v2: ") && checked.contains("this machine can run orch"), "{checked}");
    let before = a.sh(QUICK, SNAPSHOT);

    a.sh(SLOW, SERVER);
    a.sh(SLOW, PODS);
    let kubectl = |a: &mut Machine, arguments: &str| a.sh(SLOW, &format!("orch kubectl --kubeconfig /root/kubeconfig {arguments}"));
    assert_eq!(kubectl(&mut a, "logs web").trim(), "serving");
    assert_eq!(kubectl(&mut a, "exec web -- wget -qO- http://127.0.0.1:8080/").trim(), "here");
    let why = kubectl(&mut a, "get pod greedy -o jsonpath='{.status.containerStatuses[0].state.terminated.reason}'");
    assert_eq!(why.trim(), "OOMKilled");
    let limits = a.sh(QUICK, "cat /sys/fs/cgroup/orch/guaranteed/pod*/c-0/cpu.max /sys/fs/cgroup/orch/guaranteed/pod*/c-0/memory.max");
    assert_eq!(limits, "25000 100000\n50331648\n", "limits of the container");

    a.sh(SLOW, "orch reset --force --write-kubeconfig /root/kubeconfig");
    assert_eq!(a.sh(QUICK, SNAPSHOT), before);
}
