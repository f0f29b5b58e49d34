//! A private host: network, mount, UTS, IPC and pid namespaces, and a part of each cgroup hierarchy; `eth0` is on a [`Lan`].
//!
//! [`Host::new`] makes one with a lan of its own, and the calling thread enters its network, so that its own connections, and those of
//! threads and runtimes made later, come from the host. Several hosts that reach each other are made by [`Lan::host`].

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::eventually;
use super::lan::{Lan, Place, enter, within};

/// Programs that a host can't be made without.
pub const TOOLS: &[&str] = &["bash", "unshare", "nsenter", "setpriv", "timeout", "ip", "mount"];
/// The address of the first host of a lan, as seen from outside.
pub const ADDRESS: &str = "10.99.0.2";
const CGROUPS: &str = "/sys/fs/cgroup";
/// What files, groups and locks of hosts are called.
pub const PREFIX: &str = "orch-e2e-";

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// See the module.
pub struct Host {
    /// Its files; gone with it.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// Where its link is, and its address there.
    pub place: Place,
    holder: Child,
    init: u32,
    group: String,
    tempdir: Option<tempfile::TempDir>,
    // Released last.
    lan: Arc<Lan>,
}

impl Host {
    /// Waits for a turn, makes one, and enters its network.
    pub fn new() -> Host {
        let host = Lan::new().host();
        host.enter();
        host
    }

    /// One at this place of the lan; see [`Lan::host`].
    pub fn on(lan: Arc<Lan>, name: String, place: Place) -> Host {
        remove_stale();
        let group = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let tempdir = tempfile::Builder::new().prefix(&format!("{group}-")).tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/holder.sh");
        // The parent-death signal ends the holder with the thread that made it, and --kill-child ends pid 1, and so everything.
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "bash"])
            .arg(script)
            .args([tempdir.path().as_os_str(), group.as_ref(), name.as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the host can't be set up");
        let init = only_child(holder.id()).expect("unshare has a child");
        let host = Host { dir: tempdir.path().into(), name, place, holder, init, group, tempdir: Some(tempdir), lan };
        host.lan.connect(&host.place, &host.network());
        host
    }

    fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.init).into()
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    /// The calling thread's connections come from this host from now on.
    pub fn enter(&self) {
        enter(&self.network());
    }

    /// Runs this in the network of this host.
    pub fn inside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        within(&self.network(), job)
    }

    /// Runs this in the network outside.
    pub fn outside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.lan.inside(job)
    }

    /// Cuts the host off, as if its cable were pulled; nothing on it is told but that the carrier is gone.
    pub fn cut(&self) {
        self.lan.plug(&self.place, false);
    }

    /// Undoes [`Host::cut`].
    pub fn heal(&self) {
        self.lan.plug(&self.place, true);
    }

    /// Gives the host another address on its segment instead of the one it has.
    pub fn readdress(&mut self, address: Ipv4Addr) {
        let old = self.place.clone();
        self.place.address = address;
        self.lan.readdress(&old, &self.place, &self.network());
    }

    /// A command on this host. It dies with the process that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--net", "--mount", "--uts", "--ipc", "--pid", "--"]);
        command.args(["setpriv", "--pdeathsig", "KILL"]).arg(program);
        command.env("HOME", &self.dir).env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    /// A command on this host that may take so long.
    pub fn limited(&self, limit: Duration, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("timeout");
        command.args(["--foreground", "-k", "1", &limit.as_secs_f64().to_string()]).arg(program);
        command
    }

    /// Runs a shell script on this host, which must succeed, and returns what it prints.
    pub fn sh(&self, script: &str) -> String {
        let output = self.limited(Duration::from_secs(30), "bash").args(["-euc", script]).output().unwrap();
        checked(script, output)
    }

    /// Processes of this host whose command line contains `marker`: pid (as seen from the test) and start time.
    pub fn processes(&self, marker: &str) -> Vec<(u32, String)> {
        self.eye().processes(marker)
    }

    /// For looking at its processes from elsewhere.
    pub fn eye(&self) -> Eye {
        Eye { init: self.init }
    }
}

/// Looks at the processes of a host, also while somebody else works with the host.
#[derive(Clone, Copy)]
pub struct Eye {
    init: u32,
}

impl Eye {
    /// See [`Host::processes`].
    pub fn processes(&self, marker: &str) -> Vec<(u32, String)> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if !line.contains(marker) || !self.owns(pid) || namespace(pid) == namespace(std::process::id()) {
                continue;
            }
            let start = stat(pid, 19);
            found.extend(start.map(|start| (pid, start)));
        }
        found.sort();
        found
    }

    /// Whether a process is in this host's pid namespace or one below it.
    pub fn owns(&self, pid: u32) -> bool {
        self.root_of(pid).is_some()
    }

    /// The child of the host's first process that a process descends from, or is: of a container's, its shim.
    pub fn root_of(&self, pid: u32) -> Option<u32> {
        let mut pid = pid;
        for _ in 0..64 {
            match stat(pid, 1)?.parse().ok()? {
                parent if parent == self.init || pid == self.init => return Some(pid),
                parent if parent > 1 => pid = parent,
                _ => return None,
            }
        }
        None
    }
}

/// A field of /proc/PID/stat, counted from the state as 0.
fn stat(pid: u32, field: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(field).map(str::to_owned))
}

impl Drop for Host {
    fn drop(&mut self) {
        // Collects its errors: a panic here would hide why the test failed.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let init = PathBuf::from(format!("/proc/{}", self.init));
        let gone = std::panic::catch_unwind(|| {
            eventually(Duration::from_secs(20), "the processes of the host end", || (!init.exists()).then_some(()).ok_or("alive".into()))
        });
        if gone.is_err() {
            eprintln!("the host's pid 1 ({}) is still there", self.init);
        }
        remove_groups(&self.group);
        let dir = self.tempdir.take().map(tempfile::TempDir::keep);
        if let Some(Err(error)) = dir.map(fs::remove_dir_all) {
            eprintln!("removing {}: {error}", self.dir.display());
        }
    }
}

/// The child of a process that has one.
pub fn only_child(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Standard output of what must have succeeded.
pub fn checked(what: &str, output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let how = output.status.code().map_or_else(|| format!("signal {:?}", output.status.signal()), |code| format!("exit code {code}"));
    assert!(output.status.success(), "{what}: {how}\n{out}{err}");
    out.into_owned()
}

fn hierarchies() -> Vec<PathBuf> {
    if Path::new(CGROUPS).join("cgroup.controllers").exists() {
        return vec![CGROUPS.into()];
    }
    let below = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.join("cgroup.procs").exists()).collect()
}

fn remove_groups(group: &str) {
    for hierarchy in hierarchies() {
        let own = hierarchy.join(group);
        let done = std::panic::catch_unwind(|| {
            eventually(Duration::from_secs(5), "the groups of the host can be removed", || {
                remove_tree(&own).map_err(|e| format!("{}: {e}", own.display()))
            })
        });
        if done.is_err() {
            eprintln!("left behind: {}", own.display());
        }
    }
}

fn remove_tree(dir: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path())?;
    }
    fs::remove_dir(dir)
}

/// What test processes left that were killed before they could clean up.
fn remove_stale() {
    let temporary = std::env::temp_dir();
    for entry in hierarchies().iter().chain([&temporary]).flat_map(fs::read_dir).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
            continue;
        }
        // Somebody else may be doing the same.
        let _ = if entry.path().starts_with(&temporary) { fs::remove_dir_all(entry.path()) } else { remove_tree(&entry.path()) };
    }
}
