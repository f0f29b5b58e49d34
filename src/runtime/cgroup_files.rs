//! Which cgroup file takes which limit: a pure translation from OCI resources, after runc's `cgroups` package.
use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxCpu, LinuxDeviceType, LinuxMemory, LinuxResources};

/// One file to write.
#[derive(Debug, PartialEq)]
pub struct Setting {
    /// v1 controller; on v2 only the directory's prefix differs.
    pub controller: &'static str,
    /// File name.
    pub file: String,
    /// What to write.
    pub value: String,
    /// Whether absence of the file is an error (someone asked for this limit).
    pub required: bool,
}

/// v1's limit of memory.
pub const MEMORY: &str = "memory.limit_in_bytes";
/// v1's limit of memory and swap together.
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";

/// v1 never lets memory have more than memory and swap together: a limit that rises above the present one follows the other.
pub fn keep_within_swap(settings: &mut [Setting], present: Option<i64>) {
    let at = |settings: &[Setting], file: &str| settings.iter().position(|setting| setting.file == file);
    let (Some(memory), Some(both)) = (at(settings, MEMORY), at(settings, MEMORY_AND_SWAP)) else { return };
    let wanted = settings[memory].value.parse::<i64>().ok().map(|limit| if limit < 0 { i64::MAX } else { limit });
    if memory < both && wanted > present {
        settings.swap(memory, both);
    }
}

/// What of swap v2 gives.
const SWAP: &str = "memory.swap.max";

/// The number after a key in `key value` lines.
pub fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn set(controller: &'static str, file: &str, value: impl ToString) -> Setting {
    Setting { controller, file: file.to_string(), value: value.to_string(), required: true }
}

/// `max` for "no limit" on v2, -1 on v1.
fn limit(value: i64, unified: bool) -> String {
    if unified && value < 0 { "max".to_string() } else { value.to_string() }
}

/// v2's weight for v1's shares. A curve through the ends of both ranges and their defaults (1024 and 100), as the kubelet of 1.35, runc
/// 1.3.2 and crun 1.23 have it, and all after them.
pub fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let doublings = (shares as f64).log2();
            let exponent = (doublings * doublings + 125.0 * doublings) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// All files for these limits, in the order in which the kernel takes them.
pub fn settings(resources: &LinuxResources, unified: bool) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_settings(memory, unified, &mut all);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, unified, &mut all);
    }
    if let Some(pids) = resources.pids().as_ref().filter(|pids| pids.limit() != 0) {
        let value = if pids.limit() < 0 { "max".to_string() } else { pids.limit().to_string() };
        all.push(set("pids", "pids.max", value));
    }
    for page in resources.hugepage_limits().iter().flatten() {
        let file = if unified { "max" } else { "limit_in_bytes" };
        // To have none of what can't be had takes no controller. Reservations are limited where the kernel counts them.
        let pages = set("hugetlb", &format!("hugetlb.{}.{file}", page.page_size()), page.limit());
        all.push(Setting { required: page.limit() > 0, ..pages });
        all.push(Setting { required: false, ..set("hugetlb", &format!("hugetlb.{}.rsvd.{file}", page.page_size()), page.limit()) });
    }
    // A map without order becomes one with.
    let more: BTreeMap<_, _> = resources.unified().iter().flatten().filter(|_| unified).collect();
    for (key, value) in more {
        all.retain(|setting| setting.file != *key);
        // Swap accounting may be off: then there is nothing to limit.
        all.push(Setting { required: key != SWAP, ..set("unified", key, value) });
    }
    if !unified {
        device_settings(resources, &mut all);
    }
    all
}

fn memory_settings(memory: &LinuxMemory, unified: bool, all: &mut Vec<Setting>) {
    let names = if unified { ["memory.max", "memory.low"] } else { [MEMORY, "memory.soft_limit_in_bytes"] };
    if let Some(value) = memory.limit().filter(|value| *value != 0) {
        all.push(set("memory", names[0], limit(value, unified)));
    }
    if let Some(value) = memory.reservation().filter(|value| *value != 0) {
        all.push(set("memory", names[1], limit(value, unified)));
    }
    if let Some(total) = memory.swap().filter(|value| *value != 0) {
        // v1 counts memory and swap together, v2 swap alone. Swap accounting may be off: then there is nothing to limit.
        let setting = match (unified, memory.limit()) {
            (true, Some(memory)) if total >= 0 => set("memory", SWAP, (total - memory).max(0)),
            (true, _) => set("memory", SWAP, "max"),
            (false, _) => set("memory", MEMORY_AND_SWAP, total),
        };
        all.push(Setting { required: false, ..setting });
    }
}

fn cpu_settings(cpu: &LinuxCpu, unified: bool, all: &mut Vec<Setting>) {
    if let Some(shares) = cpu.shares().filter(|value| *value != 0) {
        all.push(if unified { set("cpu", "cpu.weight", weight(shares)) } else { set("cpu", "cpu.shares", shares) });
    }
    let period = cpu.period().filter(|value| *value != 0);
    if unified {
        if cpu.quota().is_some_and(|quota| quota != 0) || period.is_some() {
            let quota = cpu.quota().filter(|quota| *quota > 0).map_or("max".to_string(), |quota| quota.to_string());
            all.push(set("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
        }
    } else {
        all.extend(period.map(|period| set("cpu", "cpu.cfs_period_us", period)));
        all.extend(cpu.quota().filter(|quota| *quota != 0).map(|quota| set("cpu", "cpu.cfs_quota_us", quota)));
    }
    all.extend(cpu.cpus().iter().filter(|list| !list.is_empty()).map(|list| set("cpuset", "cpuset.cpus", list)));
    all.extend(cpu.mems().iter().filter(|list| !list.is_empty()).map(|list| set("cpuset", "cpuset.mems", list)));
}

/// Devices of the v1 controller: what the caller lists, in order. On v2 they would need a BPF program, which is not loaded:
/// a container without CAP_MKNOD finds only the nodes its /dev was given.
fn device_settings(resources: &LinuxResources, all: &mut Vec<Setting>) {
    for rule in resources.devices().iter().flatten() {
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => "b",
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
            _ => "a",
        };
        let number = |value: Option<i64>| value.filter(|value| *value >= 0).map_or("*".to_string(), |value| value.to_string());
        let access = rule.access().as_deref().unwrap_or("rwm");
        let value =
            if kind == "a" { "a".to_string() } else { format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor())) };
        all.push(set("devices", if rule.allow() { "devices.allow" } else { "devices.deny" }, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, unified: bool, expect: &str) {
        let resources: LinuxResources = serde_yaml::from_str(yaml).unwrap();
        let got: Vec<_> = settings(&resources, unified).iter().map(|s| format!("{}={}", s.file, s.value)).collect();
        assert_eq!(got.join(" "), expect, "{yaml}");
    }

    #[test]
    fn limits_become_files() {
        check("memory: {limit: 4096}", false, "memory.limit_in_bytes=4096");
        check("memory: {limit: 4096, swap: 4096}", true, "memory.max=4096 memory.swap.max=0");
        check("memory: {limit: -1}", true, "memory.max=max");
        check("cpu: {shares: 2, quota: 50000, period: 100000}", true, "cpu.weight=1 cpu.max=50000 100000");
        check(
            "cpu: {shares: 1024, quota: 50000, period: 100000}",
            false,
            "cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000",
        );
        check("cpu: {quota: -1}", true, "cpu.max=max 100000");
        check("pids: {limit: 7}", true, "pids.max=7");
        check(
            "{memory: {limit: 4096, swap: 4096}, unified: {memory.oom.group: '1', memory.swap.max: '0'}}",
            true,
            "memory.max=4096 memory.oom.group=1 memory.swap.max=0",
        );
        check(
            "{memory: {limit: 4096, swap: 4096}, unified: {memory.oom.group: '1'}}",
            false,
            "memory.limit_in_bytes=4096 memory.memsw.limit_in_bytes=4096",
        );
        check("pids: {limit: -1}", false, "pids.max=max");
        check("hugepageLimits: [{pageSize: 2MB, limit: 9}]", false, "hugetlb.2MB.limit_in_bytes=9 hugetlb.2MB.rsvd.limit_in_bytes=9");
        check(
            "devices: [{allow: false, access: rwm}, {allow: true, type: c, major: 1, minor: 3, access: rw}]",
            false,
            "devices.deny=a devices.allow=c 1:3 rw",
        );
        check("devices: [{allow: false, access: rwm}]", true, "");
    }

    #[test]
    fn memory_never_passes_memory_and_swap() {
        let resources: LinuxResources = serde_yaml::from_str("memory: {limit: 4096, swap: 4096}").unwrap();
        for (present, first) in [(Some(2048), MEMORY_AND_SWAP), (Some(8192), MEMORY), (Some(i64::MAX), MEMORY), (None, MEMORY_AND_SWAP)] {
            let mut settings = settings(&resources, false);
            keep_within_swap(&mut settings, present);
            assert_eq!(settings[0].file, first, "{present:?}");
        }
    }

    #[test]
    fn weights_span_the_range() {
        assert_eq!([0, 2, 102, 512, 1024, 262_144, u64::MAX].map(weight), [1, 1, 17, 59, 100, 10_000, 10_000]);
    }

    #[test]
    fn fields_are_whole_words() {
        assert_eq!(field("oom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(field("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
