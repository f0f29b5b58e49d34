//! The product on real machines: pure cgroup v2, and a kernel that is not the builder's. Run by `make test-vm`; skips with a reason where
//! qemu is missing.

#![allow(clippy::unwrap_used)]

mod machine;
mod machines;
#[path = "../support/portable.rs"]
mod support;

use std::path::Path;

use machines::Machines;
use support::bed::{Bed, Logs, Place};
use support::scenarios::{cluster, limits, nodes, resize};
use support::step;

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
fn two_machines_on_cgroup_v2() {
    if let Some(reason) = missing() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let bed = Machines::boot();
    let _logs = Logs(&bed);
    let all = || (0..bed.hosts().len()).map(Place::Host);
    for place in all() {
        assert!(!bed.sh(place, "ip route").contains("default"), "there is a way out");
    }
    let checked = bed.sh(Place::Host(0), "orch check-config");
    assert!(checked.contains("v2: ") && checked.contains("this machine can run orch"), "{checked}");
    let before: Vec<String> = all().map(|place| bed.sh(place, SNAPSHOT)).collect();

    cluster::serve(&bed, limits::FLAGS);
    nodes::run(&bed, limits::FLAGS);
    // Nothing asked for huge pages, which hosts of the other bed do not limit.
    let huge = bed.sh(
        Place::Host(0),
        "cd /sys/fs/cgroup/orch; cat hugetlb.2MB.max besteffort/pod*/hugetlb.2MB.max besteffort/pod*/web-0/hugetlb.2MB.max",
    );
    assert_eq!(huge, "0\n0\n0\n");
    limits::run(&bed);
    resize::run(&bed);

    step("reset, the server last");
    for (place, before) in all().zip(&before).rev() {
        bed.sh(place, "orch reset --force");
        assert_eq!(bed.sh(place, SNAPSHOT), *before);
    }
}
