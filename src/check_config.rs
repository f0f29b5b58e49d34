//! `orch check-config`: what this machine lacks to run orch, and how to mend it.
//!
//! What can be tried is tried, in namespaces and groups that are gone afterwards, rather than guessed from a kernel's version or the names of
//! its modules. What is *required* makes the command fail; what is *advised* does not.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::SystemTime;

use nix::sched::{CloneFlags, unshare};
use orch::config::CheckConfigArgs;
use orch::runtime::cgroup::{self, Cgroup, Layout, layout};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// Without these no pod is limited.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];
const GIB: u64 = 1 << 30;

/// What came of one check: a note where all is well, or why not and what mends it.
type Outcome = Result<String, (String, String)>;

struct Check {
    name: String,
    required: bool,
    outcome: Outcome,
}

fn required(name: impl Into<String>, outcome: Outcome) -> Check {
    Check { name: name.into(), required: true, outcome }
}

fn advised(name: impl Into<String>, outcome: Outcome) -> Check {
    Check { name: name.into(), required: false, outcome }
}

fn lacks(why: impl ToString, mend: impl Into<String>) -> Outcome {
    Err((why.to_string(), mend.into()))
}

fn well<T>(result: io::Result<T>, mend: impl Into<String>) -> Outcome {
    result.map(|_| String::new()).map_err(|why| (why.to_string(), mend.into()))
}

/// Checks everything and prints it. Whether all that is required is there.
pub fn run(args: &CheckConfigArgs) -> bool {
    let checks = all(args);
    let mut missing = 0;
    for Check { name, required, outcome } in &checks {
        match outcome {
            Ok(note) => println!("{}", format!("ok       {name:<24} {note}").trim_end()),
            Err((why, mend)) => {
                missing += usize::from(*required);
                println!("{} {name:<24} {why}\n         {:<24} mend: {mend}", if *required { "MISSING " } else { "advised " }, "");
            }
        }
    }
    match missing {
        0 => println!("this machine can run orch"),
        missing => println!("this machine can't run orch: {missing} of {} things are missing", checks.len()),
    }
    missing == 0
}

fn all(args: &CheckConfigArgs) -> Vec<Check> {
    let root =
        if rustix::process::geteuid().is_root() { Ok(String::new()) } else { lacks("not root", "run orch as root, as `sudo orch ...`") };
    let mut checks = vec![required("root", root)];
    checks.extend(namespaces());
    checks.extend(network());
    checks.push(required("overlay", overlay(&args.data_dir)));
    checks.extend(cgroups());
    checks.push(required("seccomp", seccomp()));
    checks.extend(limits());
    checks.push(advised("open files", open_files(orch::runtime::open_files::most())));
    checks.extend(ports(args));
    checks.extend([names(), required("clock", clock()), advised("swap", swap())]);
    checks.extend(room(&args.data_dir));
    checks
}

/// On a thread of its own, which ends with what it made.
fn apart<T: Send>(job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(job).join().unwrap_or_else(|_| Err(io::Error::other("the attempt panicked"))))
}

fn namespaces() -> Vec<Check> {
    let kinds = [
        ("network", CloneFlags::CLONE_NEWNET, "CONFIG_NET_NS"),
        ("mount", CloneFlags::CLONE_NEWNS, "CONFIG_NAMESPACES"),
        ("UTS", CloneFlags::CLONE_NEWUTS, "CONFIG_UTS_NS"),
        ("IPC", CloneFlags::CLONE_NEWIPC, "CONFIG_IPC_NS"),
        ("pid", CloneFlags::CLONE_NEWPID, "CONFIG_PID_NS"),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP, "CONFIG_CGROUPS"),
    ];
    let tried = kinds.map(|(name, flag, option)| {
        let mend = format!("a kernel with {option}; in a container, one that is privileged");
        required(format!("{name} namespaces"), well(apart(|| Ok(unshare(flag)?)), mend))
    });
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").map(|text| text.trim().parse().unwrap_or(0));
    let user = match most {
        Ok(0) => lacks("user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000; pods with hostUsers: false need it"),
        Ok(most) => Ok(format!("{most} at most")),
        Err(error) => lacks(error, "a kernel with CONFIG_USER_NS; pods with hostUsers: false need it"),
    };
    tried.into_iter().chain([advised("user namespaces", user)]).collect()
}

fn network() -> Vec<Check> {
    match orch::net::probe() {
        Err(error) => vec![required("pod network", lacks(error, "a kernel with CONFIG_NET_NS"))],
        Ok(findings) => {
            let check = |finding: orch::net::Finding| {
                let mend = match finding.modules {
                    "" => "make /proc/sys writable".to_owned(),
                    modules => format!("modprobe -a {modules}, or install the kernel package that has them"),
                };
                required(finding.what, well(finding.result, mend))
            };
            findings.into_iter().map(check).collect()
        }
    }
}

/// Where the data directory is or will be.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

/// Mounts one, with its upper layer where containers will have theirs.
fn overlay(data: &Path) -> Outcome {
    let place = existing(data);
    let attempt = || {
        let dir = tempfile::Builder::new().prefix(".orch-check-").tempdir_in(place)?;
        for part in ["lower", "upper", "work", "merged"] {
            fs::create_dir(dir.path().join(part))?;
        }
        apart(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            let at = |part| dir.path().join(part).display().to_string();
            let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
            let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
            let merged = dir.path().join("merged");
            mount("overlay", &merged, "overlay", MountFlags::empty(), options.as_c_str())?;
            let written = fs::write(merged.join("file"), "x");
            rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::DETACH)?;
            written
        })
    };
    let mend = "modprobe overlay, and a --data-dir on a file system that can be an upper layer, such as ext4 or xfs (not overlay or NFS)";
    attempt().map(|()| format!("on {}", place.display())).map_err(|why| (format!("on {}: {why}", place.display()), mend.into()))
}

fn cgroups() -> Vec<Check> {
    let (version, present) = match layout() {
        Layout::Unified => {
            let text = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
            ("v2", text.split_whitespace().map(str::to_owned).collect::<Vec<String>>())
        }
        Layout::Legacy(names) => ("v1", names.iter().map(|name| (*name).to_owned()).collect()),
    };
    let has = |name: &str| present.iter().any(|present| present == name);
    let missing: Vec<&str> = CONTROLLERS.iter().copied().filter(|name| !has(name)).collect();
    let mend =
        "boot with systemd.unified_cgroup_hierarchy=1 (and cgroup_enable=memory where the kernel leaves it off), or mount /sys/fs/cgroup";
    let controllers = match missing.as_slice() {
        [] => Ok(format!("{version}: {}", present.join(" "))),
        missing => lacks(format!("{version} without {}", missing.join(", ")), mend),
    };
    let attempt = || -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        cgroup::remember(dir.path())?;
        let group = Cgroup::new(&format!("orch-check-{}", std::process::id()))?;
        // Removed whether or not it could be made whole.
        let made = group.create(&Default::default());
        group.remove()?;
        cgroup::restore(dir.path())?;
        Ok(made?)
    };
    let group = attempt().map(|()| String::new()).map_err(|why| (format!("{why:#}"), "make /sys/fs/cgroup writable".to_owned()));
    vec![required("cgroup controllers", controllers), required("cgroups can be made", group)]
}

fn seccomp() -> Outcome {
    let mend = "a kernel with CONFIG_SECCOMP_FILTER; pods with the RuntimeDefault profile need it";
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").map_err(|why| (why.to_string(), mend.to_owned()))?;
    if actions.split_whitespace().any(|action| action == "errno") { Ok(String::new()) } else { lacks("without the action errno", mend) }
}

/// Numbers that are too small for a hundred pods.
fn limits() -> Vec<Check> {
    let rows = [
        ("kernel.pid_max", 32_768, 4_194_304),
        ("fs.inotify.max_user_instances", 512, 8_192),
        ("fs.inotify.max_user_watches", 65_536, 524_288),
        ("fs.file-max", 100_000, 1_000_000),
    ];
    let check = |(name, least, better): (&str, u64, u64)| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let number = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let outcome = match number {
            Some(number) if number >= least => Ok(number.to_string()),
            Some(number) => {
                lacks(format!("{number} is less than {least}"), format!("sysctl -w {name}={better}, and the same in /etc/sysctl.d"))
            }
            None => lacks("it can't be read", "mount /proc"),
        };
        advised(name, outcome)
    };
    rows.map(check).into()
}

/// A node costs a server four descriptors at most: its connection and its tunnel, with room for two that are being replaced.
const OPEN_FILES: u64 = 4_096;

/// Whether the hard limit of open files lets some hundred nodes join, or a hundred pods run.
fn open_files(most: Option<u64>) -> Outcome {
    match most {
        Some(most) if most < OPEN_FILES => lacks(
            format!("{most} at most is less than {OPEN_FILES}: a server of some hundred nodes needs more"),
            "LimitNOFILE=1048576 in the unit that starts orch, or `ulimit -Hn 1048576` before it",
        ),
        Some(most) => Ok(format!("{most} at most")),
        None => Ok("no limit".into()),
    }
}

/// Whether a server or an agent has the data directory.
fn runs_here(data: &Path) -> bool {
    fs::File::open(data.join("lock")).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

fn ports(args: &CheckConfigArgs) -> Vec<Check> {
    if runs_here(&args.data_dir) {
        return vec![required("ports", Ok(format!("not looked at: orch runs on {}", args.data_dir.display())))];
    }
    let any = Ipv4Addr::UNSPECIFIED;
    let mend = |what: &str| format!("stop what listens there (`ss -lnp` shows it){what}");
    let tcp = |port: u16| TcpListener::bind((any, port)).map(drop);
    // The node's DNS binds addresses of its own, which only somebody who has all of them prevents.
    let dns = UdpSocket::bind((Ipv4Addr::new(127, 53, 53, 53), 53)).map(drop);
    vec![
        required(
            format!("TCP port {}", args.https_listen_port),
            well(tcp(args.https_listen_port), mend(", or choose another --https-listen-port")),
        ),
        required("TCP port 10250", well(tcp(orch::agent::http::PORT), mend(""))),
        required("UDP port 8472", well(UdpSocket::bind((any, 8472)).map(drop), mend("; VXLAN between nodes needs it"))),
        required("UDP port 53", well(dns, mend(", or have it listen on single addresses instead of 0.0.0.0"))),
    ]
}

fn names() -> Check {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().to_lowercase());
    let outcome = match name {
        Err(why) => lacks(why, "give --node-name"),
        Ok(name) => match orch::api::names::subdomain(&name) {
            Ok(()) => Ok(name),
            Err(why) => lacks(format!("{name:?}: {why}"), "hostnamectl set-hostname NAME, or give --node-name"),
        },
    };
    required("host name", outcome)
}

/// Certificates are valid from now on, whenever now is: a clock that is far behind makes those of others come from the future.
fn clock() -> Outcome {
    let mend = "set the clock, and keep it set (systemd-timesyncd or chrony); certificates and leases depend on it";
    let built = std::env::current_exe().and_then(|exe| exe.metadata()).and_then(|meta| meta.modified());
    match built {
        Ok(built) if built > SystemTime::now() + std::time::Duration::from_secs(86_400) => {
            lacks("it is before this executable was made", mend)
        }
        _ => Ok(jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
    }
}

fn swap() -> Outcome {
    let lines = fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count();
    if lines > 1 { lacks("it is on; memory limits bind less", "swapoff -a, and remove it from /etc/fstab") } else { Ok("off".into()) }
}

fn room(data: &Path) -> Vec<Check> {
    let place = existing(data);
    let disk = match rustix::fs::statvfs(place) {
        Err(why) => lacks(why, "choose another --data-dir"),
        Ok(stat) => {
            let (free, all) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
            let text = format!("{:.1} of {:.1} GiB free on {}", free as f64 / GIB as f64, all as f64 / GIB as f64, place.display());
            match () {
                () if free < GIB => lacks(text, "free at least 1 GiB, or choose another --data-dir"),
                () if free < all / 10 => {
                    lacks(format!("{text}: the node would be under disk pressure"), "free more than a tenth, or choose another --data-dir")
                }
                () => Ok(text),
            }
        }
    };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let memory = match total {
        Some(kib) if kib * 1024 < GIB / 2 => lacks(format!("{} MiB", kib / 1024), "at least 512 MiB"),
        Some(kib) => Ok(format!("{} MiB", kib / 1024)),
        None => lacks("it can't be read", "mount /proc"),
    };
    vec![required("free disk", disk), advised("memory", memory)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_open_files_are_said() {
        for (most, good) in [(None, true), (Some(1_048_576), true), (Some(4_096), true), (Some(4_095), false), (Some(1_024), false)] {
            assert_eq!(open_files(most).is_ok(), good, "{most:?}");
        }
    }
}
