//! Containers on Linux: sandboxes, their shims, images. Knows no Kubernetes.
//!

//! Words: a *sandbox* is a shim process with its own network, IPC and UTS namespaces and a cgroup, in which *containers* run.
//! A sandbox's shim outlives whoever made it.
pub mod cgroup;
mod cgroup_files;
mod container;
pub mod image;
mod linux;
pub mod open_files;
pub mod seccomp;
mod seccomp_table;
pub mod shim;
mod sys;
pub mod user;
mod wire;

pub use linux::Linux;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use jiff::Timestamp;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

/// What a sandbox is made of. Written to disk by the runtime, so that a restarted agent finds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Unique (a pod's uid): a file name, at most 64 bytes of `[A-Za-z0-9._-]`.
    pub id: String,
    /// Host name inside; ignored with `host_network`.
    pub hostname: String,
    /// cgroup path of the sandbox relative to the root of the hierarchies, such as `orch/burstable/pod<uid>`; containers go below.
    pub cgroup: String,
    /// Limits of the sandbox as a whole.
    pub resources: LinuxResources,
    /// Use the agent's network namespace.
    pub host_network: bool,
    /// Use the agent's pid namespace.
    pub host_pid: bool,
    /// Use the agent's IPC namespace.
    pub host_ipc: bool,
    /// One pid namespace for all containers.
    pub share_processes: bool,
    /// Namespaced kernel parameters, dotted names.
    pub sysctls: Vec<(String, String)>,
    /// Free for the owner: found again in [`Sandbox`].
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A sandbox that exists.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// As created.
    pub config: SandboxConfig,
    /// The shim; `/proc/PID/ns/net` is the sandbox's network namespace.
    pub pid: i32,
    /// Its containers.
    pub containers: Vec<ContainerState>,
}

/// What a container is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Unique in the sandbox: `NAME-ATTEMPT`.
    pub id: String,
    /// Process, mounts, capabilities, limits, seccomp, masked paths. `root.path` and namespaces are set by the runtime
    /// (mount and cgroup are new, and pid unless it `joins` one; the others are the sandbox's); `root.readonly` is honoured.
    pub spec: Spec,
    /// Unpacked image layers, lowest first (from [`image`]).
    pub layers: Vec<PathBuf>,
    /// CRI-format log file.
    pub log_path: PathBuf,
    /// Rotate the log at this size, keeping `log_files` in all.
    pub log_max_bytes: u64,
    /// See `log_max_bytes`.
    pub log_files: u32,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close it after the first attach ends.
    pub stdin_once: bool,
    /// The container of the same sandbox whose pid namespace it joins; `None`: one of its own.
    #[serde(default)]
    pub joins: Option<String>,
    /// Free for the owner.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// The life of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running {
        /// Process id in the agent's pid namespace.
        pid: i32,
        /// When it started.
        started: Timestamp,
    },
    /// It ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Killed by the kernel for want of memory.
        oom_killed: bool,
        /// When it started.
        started: Timestamp,
        /// When it ended.
        finished: Timestamp,
    },
}

/// A container as observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// As configured.
    pub id: String,
    /// As configured.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Where it is in its life.
    pub phase: Phase,
}

/// A change worth telling: a container ended, or a whole sandbox is gone (its shim died).
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Which sandbox.
    pub sandbox: String,
    /// Which container; `None`: the sandbox itself.
    pub container: Option<String>,
}

/// Usage counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Nanoseconds of CPU.
    pub cpu_nanos: u64,
    /// Memory in bytes, files that are cached included.
    pub usage_bytes: u64,
    /// Memory that can't be had back without harm: usage without files that nobody reads.
    pub working_set_bytes: u64,
    /// Memory that is no file's.
    pub rss_bytes: u64,
    /// Pages that had to be mapped.
    pub page_faults: u64,
    /// Of these, those that had to be read from a disk.
    pub major_page_faults: u64,
    /// Processes.
    pub pids: u64,
}

/// The streams of an exec or attach. Dropping it detaches (an exec's process then gets SIGHUP if it has a terminal).
pub struct Session {
    /// Write end, if asked for.
    pub stdin: Option<OwnedFd>,
    /// Read end; with a terminal, everything (then the same pty as `stdin`).
    pub stdout: Option<OwnedFd>,
    /// Read end; none with a terminal.
    pub stderr: Option<OwnedFd>,
    /// Resizes the terminal (columns, rows).
    pub resize: tokio::sync::mpsc::Sender<(u16, u16)>,
    /// Exit code of the exec'd process (for attach: of the container).
    pub exit: tokio::sync::oneshot::Receiver<i32>,
}

/// What to execute in a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecConfig {
    /// argv.
    pub args: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// With standard input.
    pub stdin: bool,
    /// With standard output.
    pub stdout: bool,
    /// With standard error.
    pub stderr: bool,
}

/// What went wrong: what was being done, to what, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such sandbox or container.
    #[error("{0} not found")]
    NotFound(String),
    /// A container that another one was to join has ended, or was not yet started.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// The command or the user does not exist, a mount can't be made, ...: the container can't run as configured.
    #[error("{0}")]
    Container(String),
    /// A system call on a path or object failed.
    #[error("{doing} {what}: {source}")]
    System {
        /// Such as `mounting`.
        doing: &'static str,
        /// Such as a path.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The shim does not answer or is gone.
    #[error("the shim of sandbox {0} is gone")]
    ShimGone(String),
}

/// The agent's view of a container runtime; a double records calls in tests. All methods are idempotent where that makes sense
/// (remove of what is gone succeeds).
pub trait Runtime: Send + Sync + 'static {
    /// Makes a group that sandboxes are below (and missing ones above), or changes its limits.
    fn limit_group(&self, path: &str, resources: &LinuxResources) -> impl Future<Output = Result<(), Error>> + Send;
    /// Sandboxes that live now, found again after a restart.
    fn sandboxes(&self) -> impl Future<Output = Result<Vec<Sandbox>, Error>> + Send;
    /// Starts a shim.
    fn create_sandbox(&self, config: &SandboxConfig) -> impl Future<Output = Result<Sandbox, Error>> + Send;
    /// Kills what is left, unmounts, removes the cgroup, ends the shim.
    fn remove_sandbox(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// The containers of a sandbox, as they are now.
    fn containers(&self, sandbox: &str) -> impl Future<Output = Result<Vec<ContainerState>, Error>> + Send;
    /// Mounts and prepares a container; its process waits for `start`.
    fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> impl Future<Output = Result<(), Error>> + Send;
    /// Runs it.
    fn start_container(&self, sandbox: &str, id: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Sends a signal to its first process.
    fn signal_container(&self, sandbox: &str, id: &str, signal: i32) -> impl Future<Output = Result<(), Error>> + Send;
    /// Kills it if needed and removes its mounts, state and writable layer (the log stays).
    fn remove_container(&self, sandbox: &str, id: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Starts a process in a running container.
    fn exec(&self, sandbox: &str, id: &str, exec: &ExecConfig) -> impl Future<Output = Result<Session, Error>> + Send;
    /// Joins the streams of a running container.
    fn attach(&self, sandbox: &str, id: &str, stdin: bool) -> impl Future<Output = Result<Session, Error>> + Send;
    /// Changes limits of a group that exists.
    fn resize_group(&self, path: &str, resources: &LinuxResources) -> impl Future<Output = Result<(), Error>> + Send;
    /// Counters of a group: of a sandbox, or of a container below it.
    fn stats(&self, path: &str) -> impl Future<Output = Result<Stats, Error>> + Send;
    /// Exits as they happen. The first call takes it.
    fn exits(&self) -> tokio::sync::mpsc::UnboundedReceiver<Exit>;
}
