//! The node as a whole, from /proc: what it has used since it started. The root of cgroup v2 does not say.
use std::fs;
use std::io;

/// What a node uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Nanoseconds of CPU since it started, of all cores.
    pub cpu_nanos: u64,
    /// Bytes it has.
    pub total: u64,
    /// Bytes in use, files that are cached included.
    pub used: u64,
    /// Bytes of files that are cached and that nobody reads.
    pub inactive_file: u64,
    /// Bytes that are no file's.
    pub anonymous: u64,
    /// When it started, in seconds since 1970.
    pub started: i64,
}

impl Machine {
    /// What can't be had back without harm.
    pub fn working_set(&self) -> u64 {
        self.used.saturating_sub(self.inactive_file)
    }

    /// What is left for others.
    pub fn available(&self) -> u64 {
        self.total.saturating_sub(self.working_set())
    }
}

/// Reads it.
pub fn measure() -> io::Result<Machine> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("reading {path}: {error}")));
    Ok(parse(&read("/proc/stat")?, &read("/proc/meminfo")?, rustix::param::clock_ticks_per_second()))
}

fn parse(stat: &str, meminfo: &str, ticks: u64) -> Machine {
    let line = |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    // user nice system idle iowait irq softirq steal; what guests use is in user already.
    let times: Vec<u64> = line("cpu ").split_whitespace().filter_map(|time| time.parse().ok()).collect();
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| times.get(*at)).sum();
    let memory = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let total = memory("MemTotal");
    Machine {
        cpu_nanos: busy.saturating_mul(1_000_000_000 / ticks.max(1)),
        total,
        used: total.saturating_sub(memory("MemFree")),
        inactive_file: memory("Inactive(file)"),
        anonymous: memory("AnonPages"),
        started: line("btime ").trim().parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "cpu  100 10 50 9000 7 3 2 99 40 0\ncpu0 1 1 1 1\nbtime 1700000000\n";
        let meminfo = "MemTotal:       1000 kB\nMemFree:  300 kB\nInactive:  9 kB\nInactive(file):  200 kB\nAnonPages: 100 kB\n";
        let machine = parse(stat, meminfo, 100);
        assert_eq!((machine.cpu_nanos, machine.started), (1_650_000_000, 1_700_000_000));
        assert_eq!((machine.working_set(), machine.available(), machine.anonymous), (500 << 10, 500 << 10, 100 << 10));
        assert_eq!(parse("", "", 0), Machine::default());
        assert!(measure().expect("this machine").working_set() > 0);
    }
}
