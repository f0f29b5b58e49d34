//! `orch check-config` before, and `orch reset` after: the machine is what it was.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::skip;
use crate::support::cluster::{Cluster, ORCH};
use crate::support::host::{self, Host};
use crate::support::{missing, step};

const WAIT: Duration = Duration::from_secs(60);

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: served, labels: {app: served}}
spec:
  containers:
  - name: c
    image: orch.local/orch:latest
    imagePullPolicy: Never
    args: [hello]
    ports: [{containerPort: 8080, hostPort: 8081}]
    resources: {limits: {memory: 64Mi, cpu: 100m}}
    volumeMounts: [{name: memory, mountPath: /memory}]
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
---
apiVersion: v1
kind: Service
metadata: {name: served}
spec: {type: NodePort, selector: {app: served}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// What others have on the machine, some of it looking like ours.
const FOREIGN: &str = "
echo 0 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv4/conf/all/send_redirects
nft add table inet foreign
nft add chain inet foreign input '{ type filter hook input priority 0; }'
nft add rule inet foreign input ip saddr 192.0.2.9 drop
! command -v iptables >/dev/null || iptables -t nat -A POSTROUTING -s 192.0.2.8 -j MASQUERADE
ip link add foreign0 type bridge
ip address add 172.31.0.1/24 dev foreign0
ip link set foreign0 up
ip link add veth0123456789a type veth peer name other
ip link set veth0123456789a master foreign0 up
ip link set other up
ip route add 203.0.113.0/24 via 172.31.0.2 proto static
for root in /sys/fs/cgroup /sys/fs/cgroup/memory; do
    [ ! -e $root/cgroup.procs ] || mkdir -p $root/foreign
done
mkdir -p $HOME/foreign
mount -t tmpfs foreign $HOME/foreign
sleep 31337 >/dev/null 2>&1 &
";

/// Everything that could be left behind, one line each. Counters and numbers of links are no part of it.
const SNAPSHOT: &str = r"
ip -o link | sed 's/^[0-9]*: //; s/<.*>//; s/ state [A-Z]*//; s/@if[0-9]*//'
ip -o address | sed 's/^[0-9]*: //; s/valid_lft.*//' | grep -v 'scope link'
ip route show table all | sed 's/ linkdown//' | grep -v -E '^(fe80|ff00|multicast ff00|local fe80|anycast)'
ip rule
nft list ruleset 2>/dev/null | sed 's/packets [0-9]* bytes [0-9]*//'
! command -v iptables-save >/dev/null || iptables-save | grep -v '^#' | sed 's/\[[0-9:]*\]//'
find /proc/sys/net -type f -perm -u=r ! -name nf_conntrack_count ! -name flush ! -name stat_refresh | sort | while read -r f; do
    echo ${f#/proc/sys/} $(tr -d '\0' <$f 2>/dev/null || true)
done
cut -d' ' -f4,5 /proc/self/mountinfo | sort
find /sys/fs/cgroup -type d | sort
for process in /proc/[0-9]*; do
    tr '\0' ' ' <$process/cmdline 2>/dev/null | grep -E 'orch|31337' | grep -v -E 'nsenter|timeout|bash' || true
done
ls -A $HOME | grep -v -E '^(server.log|registries.yaml|data|[.]kube)$'
ls -A /etc/orch
";

fn reset(host: &Host, args: &[&str]) -> (bool, String) {
    let mut command = host.limited(WAIT, ORCH);
    command.arg("reset").args(args).env("ORCH_DATA_DIR", host.dir.join("data")).env("ORCH_WRITE_KUBECONFIG", host.dir.join("kubeconfig"));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn same(before: &str, after: &str) {
    let lines =
        |text: &str, other: &str| text.lines().filter(|line| !other.lines().any(|o| o == *line)).map(str::to_owned).collect::<Vec<_>>();
    assert!(before == after, "gone: {:#?}\nleft behind: {:#?}", lines(before, after), lines(after, before));
}

fn check(force: bool) {
    if let Some(reason) = missing(&[host::TOOLS, &["nft"]].concat()) {
        skip!("{reason}");
    }
    let host = Host::new();
    host.sh(FOREIGN);
    let before = host.sh(SNAPSHOT);
    let mut cluster = Cluster::on(host, None, &[]);
    cluster.run(&["image", "self-image", "orch.local/orch:latest"]);
    cluster.apply(PODS);
    cluster.api.ready(WAIT, "served");
    let during = cluster.host.sh(SNAPSHOT);
    for part in ["orch0", "orch.vx", "table ip orch", "net/ipv4/ip_forward 1", "orch/burstable", "/memory", "orch shim"] {
        assert!(during.contains(part), "{part} is not in\n{during}");
    }
    step("while it runs");
    let running = cluster.host.processes(ORCH);
    let (ok, text) = reset(&cluster.host, &[]);
    assert!(!ok && text.contains("stop it first, or say --force"), "{text}");
    assert_eq!(cluster.host.processes(ORCH), running);
    cluster.api.ready(WAIT, "served");
    step("reset");
    if !force {
        assert!(cluster.stop(Signal::SIGTERM).success());
    }
    let (ok, text) = reset(&cluster.host, if force { &["--force"] } else { &[] });
    assert!(ok, "{text}");
    for line in ["removed link orch0", "removed link orch.vx", "removed nftables table ip orch", "net.ipv4.ip_forward = 0", "ended sandbox"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(text.contains("ended pid"), force, "{text}");
    same(&before, &cluster.host.sh(SNAPSHOT));
    assert!(!cluster.host.dir.join("data").exists());
    step("again");
    let (ok, text) = reset(&cluster.host, &[]);
    assert!(ok && text.contains("there is nothing of orch"), "{text}");
    same(&before, &cluster.host.sh(SNAPSHOT));
}

#[test]
fn reset_leaves_what_was_there() {
    check(false);
}

#[test]
fn reset_by_force() {
    check(true);
}

#[test]
fn what_a_machine_lacks() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let host = Host::new();
    let before = host.sh(SNAPSHOT);
    let check = || {
        let output = host.limited(WAIT, ORCH).args(["check-config", "--data-dir"]).arg(host.dir.join("data")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    same(&before, &host.sh(SNAPSHOT));
    let _taken = std::net::TcpListener::bind("0.0.0.0:6443").unwrap();
    host.sh("mount -t tmpfs -o ro tmpfs /proc/sys/kernel/seccomp");
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    for line in ["MISSING  TCP port 6443", "MISSING  seccomp", "mend: a kernel with CONFIG_SECCOMP_FILTER", "2 of "] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
