//! Control groups: made, limited, joined, read, emptied and removed, on v2 and on v1/hybrid.
//!
//! libcgroups tells how the host is set up; files are written directly. libcgroups' v1 manager reads the mount table and opens a private procfs once per known controller
//! (twelve times), logs absent ones as warnings, waits in sleeps when removing, and migrates by `cgroup.procs`, whose write
//! waits for an RCU grace period; a container's whole creation has to fit in that time.
//! On v1 a task moves itself by writing 0 to `tasks`, which takes no such lock; on v2 it is born in its group (CLONE_INTO_CGROUP).
//!
//! Never touches a group above the one it is given, except to make missing ones and (v2) to enable controllers in them.
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libcgroups::common::{CgroupSetup, get_cgroup_setup};
use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Error, Stats, cgroup_files};

const ROOT: &str = "/sys/fs/cgroup";
/// v1 controllers that a group is made in, where mounted.
const LEGACY: &[&str] = &["cpu", "cpuacct", "cpuset", "memory", "devices", "pids", "hugetlb"];
/// v2 controllers enabled on the way down.
const UNIFIED: &[&str] = &["cpu", "memory", "pids", "cpuset", "hugetlb", "io"];
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How the host mounts its hierarchies.
#[derive(Debug, PartialEq)]
pub enum Layout {
    /// v2 at the root.
    Unified,
    /// v1 controllers, each a directory below the root. A v2 tree without controllers beside them is not used.
    Legacy(Vec<&'static str>),
}

/// The host's layout, found once.
pub fn layout() -> &'static Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        // An error means a root that is neither: then nothing is mounted that could be used, and the list below comes out empty.
        if let Ok(CgroupSetup::Unified) = get_cgroup_setup() {
            return Layout::Unified;
        }
        let mut seen = Vec::new();
        Layout::Legacy(
            LEGACY
                .iter()
                .copied()
                .filter(|name| {
                    let root = Path::new(ROOT).join(name);
                    // cpu and cpuacct may be one hierarchy under two names.
                    let Ok(real) = root.canonicalize() else { return false };
                    let fresh = root.join("cgroup.procs").exists() && !seen.contains(&real);
                    seen.push(real);
                    fresh
                })
                .collect(),
        )
    })
}

/// A group, by its path below the root of the hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: String,
}

fn fault(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let what = path.display().to_string();
    move |source| Error::System { doing, what, source }
}

/// Where [`remember`] writes what controllers the root handed on.
const REMEMBERED: &str = "controllers";

/// On v2, writes down in this directory which controllers the root hands on, unless it is written already: making a group adds to them.
pub fn remember(dir: &Path) -> Result<(), Error> {
    let path = dir.join(REMEMBERED);
    if *layout() != Layout::Unified || path.exists() {
        return Ok(());
    }
    let control = Path::new(ROOT).join("cgroup.subtree_control");
    let present = fs::read_to_string(&control).map_err(fault("reading", &control))?;
    fs::write(&path, present).map_err(fault("writing", &path))
}

/// Has the root hand on no more controllers than [`remember`] wrote down; returns those that went. One that others use by now stays.
pub fn restore(dir: &Path) -> Result<Vec<String>, Error> {
    let path = dir.join(REMEMBERED);
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fault("reading", &path))?,
    };
    let control = Path::new(ROOT).join("cgroup.subtree_control");
    let now = fs::read_to_string(&control).map_err(fault("reading", &control))?;
    let added = now.split_whitespace().filter(|name| !before.split_whitespace().any(|before| before == *name));
    Ok(added.filter(|name| fs::write(&control, format!("-{name}")).is_ok()).map(str::to_owned).collect())
}

impl Cgroup {
    /// Names a group; touches nothing.
    pub fn new(path: &str) -> Result<Cgroup, Error> {
        let path = path.trim_matches('/');
        if path.is_empty() || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(Error::Container(format!("invalid cgroup path {path:?}")));
        }
        Ok(Cgroup { path: path.to_string() })
    }

    /// A group below this one.
    pub fn child(&self, name: &str) -> Cgroup {
        Cgroup { path: format!("{}/{name}", self.path) }
    }

    fn dirs(&self) -> Vec<PathBuf> {
        match layout() {
            Layout::Unified => vec![Path::new(ROOT).join(&self.path)],
            Layout::Legacy(names) => names.iter().map(|name| Path::new(ROOT).join(name).join(&self.path)).collect(),
        }
    }

    /// The group's directory in one v1 controller, or in the v2 tree.
    pub fn dir(&self, controller: &str) -> PathBuf {
        match layout() {
            Layout::Unified => Path::new(ROOT).join(&self.path),
            Layout::Legacy(_) => Path::new(ROOT).join(controller).join(&self.path),
        }
    }

    /// Whether it is there, in any hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().iter().any(|dir| dir.exists())
    }

    /// Makes the group (and missing ones above) and sets its limits.
    pub fn create(&self, resources: &LinuxResources) -> Result<(), Error> {
        match layout() {
            Layout::Unified => self.make_unified()?,
            Layout::Legacy(names) => {
                for name in names {
                    let dir = self.dir(name);
                    if let Err(error) = fs::create_dir(&dir)
                        && error.kind() != io::ErrorKind::AlreadyExists
                    {
                        fs::create_dir_all(&dir).map_err(fault("making cgroup", &dir))?;
                    }
                    if *name == "cpuset" {
                        self.inherit_cpuset()?;
                    }
                }
            }
        }
        self.limit(resources)
    }

    fn make_unified(&self) -> Result<(), Error> {
        let mut dir = PathBuf::from(ROOT);
        for part in self.path.split('/') {
            let control = dir.join("cgroup.subtree_control");
            let read = |file: &Path| fs::read_to_string(file).map_err(fault("reading", file));
            let (offered, enabled) = (read(&dir.join("cgroup.controllers"))?, read(&control)?);
            let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
            for name in UNIFIED.iter().filter(|name| has(&offered, name) && !has(&enabled, name)) {
                fs::write(&control, format!("+{name}")).map_err(fault("enabling controllers in", &control))?;
            }
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fault("making cgroup", &dir)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// v1 cpusets start empty and take no tasks until given what their parent has.
    fn inherit_cpuset(&self) -> Result<(), Error> {
        let mut dir = Path::new(ROOT).join("cpuset");
        for part in self.path.split('/') {
            let parent = dir.clone();
            dir.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = dir.join(file);
                if fs::read_to_string(&own).map_err(fault("reading", &own))?.trim().is_empty() {
                    let from = parent.join(file);
                    let value = fs::read_to_string(&from).map_err(fault("reading", &from))?;
                    fs::write(&own, value.trim()).map_err(fault("writing", &own))?;
                }
            }
        }
        Ok(())
    }

    /// Changes limits of a group that is there.
    pub fn change(&self, resources: &LinuxResources) -> Result<(), Error> {
        if !self.exists() {
            return Err(Error::NotFound(format!("cgroup {}", self.path)));
        }
        self.limit(resources)
    }

    fn limit(&self, resources: &LinuxResources) -> Result<(), Error> {
        let unified = *layout() == Layout::Unified;
        let mut settings = cgroup_files::settings(resources, unified);
        if !unified {
            // Where that can't be read, the first write tells.
            let limit = fs::read_to_string(self.dir("memory").join(cgroup_files::MEMORY)).ok();
            cgroup_files::keep_within_swap(&mut settings, limit.and_then(|limit| limit.trim().parse().ok()));
        }
        for setting in settings {
            if let Layout::Legacy(names) = layout()
                && !names.contains(&setting.controller)
            {
                // cpu.* lives in the hierarchy shared with cpuacct where that one was listed first; anything else is absent.
                if !Path::new(ROOT).join(setting.controller).exists() && setting.required {
                    return Err(Error::Container(format!("cgroup controller {} is not available on this host", setting.controller)));
                }
                continue;
            }
            let file = self.dir(setting.controller).join(&setting.file);
            match put(&file, &setting.value) {
                Err(error) if setting.required || error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::System {
                        doing: "writing",
                        what: format!("{} to {}", setting.value, file.display()),
                        source: error,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A handle to be born in (v2).
    pub fn open_unified(&self) -> Result<Option<OwnedFd>, Error> {
        if *layout() != Layout::Unified {
            return Ok(None);
        }
        let dir = self.dir("");
        fs::File::open(&dir).map(|file| Some(file.into())).map_err(fault("opening", &dir))
    }

    /// Moves the calling process, which has one thread, into the group (v1; v2 by `cgroup.procs`).
    pub fn join(&self) -> Result<(), Error> {
        let file = if *layout() == Layout::Unified { "cgroup.procs" } else { "tasks" };
        for dir in self.dirs() {
            let path = dir.join(file);
            fs::write(&path, "0").map_err(fault("joining cgroup", &path))?;
        }
        Ok(())
    }

    /// How often the kernel killed for want of memory in this group.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let file = self.dir("memory").join(if *layout() == Layout::Unified { "memory.events" } else { "memory.oom_control" });
        match fs::read_to_string(&file) {
            Ok(text) => Ok(cgroup_files::field(&text, "oom_kill").unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(fault("reading", &file)(error)),
        }
    }

    /// Usage now.
    pub fn stats(&self) -> Result<Stats, Error> {
        let read = |controller: &str, file: &str| {
            let path = self.dir(controller).join(file);
            match fs::read_to_string(&path) {
                Ok(text) => Ok(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(format!("cgroup {}", self.path))),
                Err(error) => Err(fault("reading", &path)(error)),
            }
        };
        let number = |text: String| text.trim().parse().unwrap_or(0);
        let (usage, stat, cpu) = if *layout() == Layout::Unified {
            let cpu = cgroup_files::field(&read("", "cpu.stat")?, "usage_usec").unwrap_or(0) * 1000;
            (read("", "memory.current")?, read("", "memory.stat")?, cpu)
        } else {
            let cpu = if Path::new(ROOT).join("cpuacct").exists() { "cpuacct" } else { "cpu" };
            (read("memory", "memory.usage_in_bytes")?, read("memory", "memory.stat")?, number(read(cpu, "cpuacct.usage")?))
        };
        let usage = number(usage);
        // v1's own numbers are without those below; the totals are not.
        let of = |names: [&str; 2]| names.iter().find_map(|name| cgroup_files::field(&stat, name)).unwrap_or(0);
        Ok(Stats {
            cpu_nanos: cpu,
            usage_bytes: usage,
            working_set_bytes: usage.saturating_sub(of(["total_inactive_file", "inactive_file"])),
            rss_bytes: of(["total_rss", "anon"]),
            page_faults: of(["total_pgfault", "pgfault"]),
            major_page_faults: of(["total_pgmajfault", "pgmajfault"]),
            pids: number(read("pids", "pids.current")?),
        })
    }

    /// Sends SIGKILL to all that is in the group and below; returns handles to wait on. Spares the caller.
    fn kill_all(dir: &Path) -> Result<Vec<OwnedFd>, Error> {
        let mut handles = Vec::new();
        for group in below(dir)? {
            let procs = match fs::read_to_string(group.join("cgroup.procs")) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // ENODEV: the group went away between open and read.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(error) => return Err(fault("reading processes of", &group)(error)),
            };
            for pid in procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
                if pid == rustix::process::getpid() {
                    continue;
                }
                if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
                    && pidfd_send_signal(&handle, Signal::KILL).is_ok()
                {
                    handles.push(handle);
                }
            }
        }
        Ok(handles)
    }

    /// Kills everything in the group without waiting.
    pub fn kill(&self) -> Result<(), Error> {
        if *layout() == Layout::Unified && fs::write(self.dir("").join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        self.dirs().first().map_or(Ok(()), |dir| Self::kill_all(dir).map(drop))
    }

    /// Kills what is left, waits for it, removes the group and those below. What is gone already is fine.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + KILL_DEADLINE;
        for dir in self.dirs() {
            loop {
                let error = match remove_tree(&dir) {
                    Ok(()) => break,
                    Err(error) => error,
                };
                let mut handles = Self::kill_all(&dir)?;
                if Instant::now() > deadline || error.raw_os_error() != Some(libc::EBUSY) {
                    return Err(fault("removing cgroup", &dir)(error));
                }
                wait_for_exit(&mut handles, deadline);
            }
        }
        Ok(())
    }
}

fn wait_for_exit(handles: &mut Vec<OwnedFd>, deadline: Instant) {
    while let Some(handle) = handles.last() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1) => drop(handles.pop()),
            _ => return,
        }
    }
}

/// Writes to a file of the kernel's. One that it does not have is not found: asked to make one, it would say that this is not permitted.
fn put(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// A group and those below, deepest first.
fn below(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(fault("reading cgroup", dir)(error)),
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(below(&entry.path())?);
    }
    found.push(dir.to_path_buf());
    Ok(found)
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            for entry in fs::read_dir(dir)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                remove_tree(&entry.path())?;
            }
            fs::remove_dir(dir)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_kernel_lacks_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let missing = put(&dir.path().join("memory.swap.max"), "0").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::write(dir.path().join("cpu.max"), "").unwrap();
        put(&dir.path().join("cpu.max"), "max 100000").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cpu.max")).unwrap(), "max 100000");
    }
}
