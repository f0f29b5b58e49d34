//! From `orch shim DIR` to a sandbox that serves: detach, join the cgroup, make namespaces, bind the socket, say so.
//!
//! Readiness is one line on standard output: `ok PID`, or why not. Then the standard streams are let go.
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::mount::MountPropagationFlags;

use crate::runtime::cgroup::{Cgroup, Layout, layout};
use crate::runtime::container::{Context, mounts, rootfs};
use crate::runtime::sys::{self, Forked};
use crate::runtime::{Error, SandboxConfig};

/// A connection to the shim.
pub type ConnId = u32;

/// What the loop starts with.
pub struct Ready {
    /// As on disk.
    pub config: SandboxConfig,
    /// The sandbox's group.
    pub cgroup: Cgroup,
    /// Accepts agents.
    pub listener: OwnedFd,
    /// SIGCHLD.
    pub signals: SignalFd,
    /// Mount namespace that holds /dev/shm; none with the host's IPC.
    pub shm: Option<OwnedFd>,
    /// The shim's own pid namespace, to come back to.
    pub own_pid_namespace: OwnedFd,
    /// First process of the shared pid namespace.
    pub pause: Option<i32>,
}

/// Sets everything up. `Ok(None)` in the process that was started, whose child goes on.
pub fn start(dir: &Path) -> Result<Option<Ready>, Error> {
    // A fork, so that the shim is nobody's child but init's: the agent need not wait for it, nor it for the agent.
    if let Forked::Parent(..) = sys::clone3(0, None).doing("starting", "the shim")? {
        return Ok(None);
    }
    let _ = rustix::process::setsid();
    let path = dir.join("config.json");
    let text = fs::read(&path).doing("reading", path.display())?;
    let config: SandboxConfig = serde_json::from_slice(&text).map_err(std::io::Error::from).doing("parsing", path.display())?;
    let signals = signals()?;
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).doing("becoming", "a subreaper")?;
    // Wants CAP_SYS_RESOURCE; a nested runtime does without.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    let cgroup = Cgroup::new(&config.cgroup)?;
    cgroup.create(&config.resources)?;
    match layout() {
        // A v2 group that has controllers for those below may hold no process itself.
        Layout::Unified => {
            let own = cgroup.child("shim");
            own.create(&Default::default())?;
            own.join()?;
        }
        Layout::Legacy(_) => cgroup.join()?,
    }
    namespaces(&config)?;
    let shm = if config.host_ipc { None } else { Some(shared_memory(dir)?) };
    let own_pid_namespace = fs::File::open("/proc/self/ns/pid").doing("opening", "/proc/self/ns/pid")?.into();
    let pause = if config.share_processes { Some(pause()?) } else { None };
    let listener = listen(dir)?;
    announce(dir)?;
    Ok(Some(Ready { config, cgroup, listener, signals, shm, own_pid_namespace, pause }))
}

fn signals() -> Result<SignalFd, Error> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let mut blocked = children;
    // Only `remove` ends a shim: a stray kill or a service manager's stop must not take the containers along.
    blocked.add(Signal::SIGTERM);
    blocked.add(Signal::SIGINT);
    blocked.add(Signal::SIGHUP);
    blocked.thread_block().doing("blocking", "signals")?;
    SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing("opening", "a signal descriptor")
}

fn namespaces(config: &SandboxConfig) -> Result<(), Error> {
    let mut flags = CloneFlags::empty();
    if !config.host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if !config.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(flags).doing("making namespaces of sandbox", &config.id)?;
    if !config.host_network {
        if !config.hostname.is_empty() {
            nix::unistd::sethostname(&config.hostname).doing("setting host name", &config.hostname)?;
        }
        sys::loopback_up().doing("setting up", "the loopback interface")?;
    }
    for (name, value) in &config.sysctls {
        // Those of the network and IPC namespaces only: anything else would be the host's.
        let network = name.starts_with("net.") && !config.host_network;
        let ipc =
            ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix)) && !config.host_ipc;
        if !network && !ipc || name.contains('/') || name.contains("..") {
            return Err(Error::Container(format!("sysctl {name} is not in a namespace of the sandbox")));
        }
        fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).doing("writing sysctl", name)?;
    }
    Ok(())
}

/// A mount namespace with nothing but a tmpfs: /dev/shm for all containers, in nobody's mount table.
fn shared_memory(dir: &Path) -> Result<OwnedFd, Error> {
    let namespace = |what| fs::File::open("/proc/self/ns/mnt").map(OwnedFd::from).doing("opening", what);
    let host = namespace("the host's mount namespace")?;
    unshare(CloneFlags::CLONE_NEWNS).doing("making", "a mount namespace")?;
    let build = || -> Result<OwnedFd, Error> {
        let own = namespace("a mount namespace")?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).doing("making private", "/")?;
        let flags = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let tree = mounts::filesystem("tmpfs", "shm", &[("mode", "1777"), ("size", "65536k")], flags)?;
        let empty = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(tree.as_fd(), "", rustix::fs::CWD, dir, empty).doing("mounting shm on", dir.display())?;
        rootfs::enter(&tree)?;
        Ok(own)
    };
    let built = build();
    // Also brings root and working directory back.
    setns(&host, CloneFlags::CLONE_NEWNS).doing("returning to", "the host's mount namespace")?;
    built
}

/// The first process of the shared pid namespace: it owns orphans and does nothing else.
fn pause() -> Result<i32, Error> {
    match sys::clone3(libc::CLONE_NEWPID as u64, None).doing("starting", "the shared pid namespace")? {
        Forked::Parent(pid, pidfd) => {
            setns(&pidfd, CloneFlags::CLONE_NEWPID).doing("entering", "the shared pid namespace")?;
            Ok(pid)
        }
        Forked::Child => {
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
            let _ = sys::close_all_but(&mut []);
            let _ = quiet();
            sys::ignore_children();
            let _ = rustix::thread::set_name(c"pause");
            loop {
                let _ = rustix::event::poll(&mut [], None);
            }
        }
    }
}

fn listen(dir: &Path) -> Result<OwnedFd, Error> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    // By a short relative name: a socket's address holds 107 bytes, a data directory may be longer.
    rustix::process::chdir(dir).doing("entering", dir.display())?;
    match fs::remove_file("shim.sock") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).doing("removing", "shim.sock"),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).doing("making", "a socket")?;
    let address = SocketAddrUnix::new("shim.sock").doing("naming", "a socket")?;
    rustix::net::bind(&socket, &address).doing("binding", "shim.sock")?;
    fs::set_permissions("shim.sock", std::os::unix::fs::PermissionsExt::from_mode(0o600)).doing("protecting", "shim.sock")?;
    rustix::net::listen(&socket, 64).doing("listening on", "shim.sock")?;
    Ok(socket)
}

/// Start time of a process in clock ticks since boot: tells it from a later one with the same number.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so fields count from its closing parenthesis: the start time is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Lets go of the standard streams: who started the shim waits for their end.
fn quiet() -> Result<(), Error> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").doing("opening", "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).doing("closing", "standard input")?;
    rustix::stdio::dup2_stdout(&null).doing("closing", "standard output")?;
    rustix::stdio::dup2_stderr(&null).doing("closing", "standard error")
}

fn announce(dir: &Path) -> Result<(), Error> {
    let pid = std::process::id();
    let started = start_time(pid as i32).unwrap_or(0);
    fs::write("shim.pid.new", format!("{pid} {started}\n")).doing("writing", "shim.pid")?;
    fs::rename("shim.pid.new", "shim.pid").doing("writing", "shim.pid")?;
    let mut out = std::io::stdout();
    let _ = writeln!(out, "ok {pid}");
    let _ = out.flush();
    quiet()?;
    let log = fs::OpenOptions::new().append(true).create(true).open(dir.join("shim.log")).doing("opening", "shim.log")?;
    rustix::stdio::dup2_stderr(&log).doing("opening", "standard error")?;
    rustix::process::chdir("/").doing("entering", "/")
}
