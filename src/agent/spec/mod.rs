//! From a container of a pod, its image and its volumes to an OCI runtime configuration. Decisions only: what it needs is fetched
//! before (see [`Facts`]), what it makes is carried out by the runtime. Follows pkg/kubelet/kuberuntime/kuberuntime_container_linux.go
//! and containerd's pkg/cri for the defaults.
pub mod env;
pub mod files;
pub mod user;

use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::huge_pages::Pages;
use super::resources;
use crate::runtime::image::Image;

/// Why a container can't be made from its pod.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A reference in env can't be resolved.
    #[error("{0}")]
    Env(String),
    /// runAsNonRoot is asked for, but the user is root.
    #[error("container has runAsNonRoot and image will run as root (container: {0})")]
    RunsAsRoot(String),
    /// runAsNonRoot is asked for, but the image names its user by name.
    #[error("container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (container: {container})")]
    NonNumericUser {
        /// The user.
        user: String,
        /// The container.
        container: String,
    },
    /// The image's user is not in its passwd file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// A file of the image or the node can't be read.
    #[error("reading {what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Neither the pod nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// An ephemeral container is to join one that was never started.
    #[error("unable to find target container {0}")]
    NoTarget(String),
    /// A volumeMount names no volume, or its subPath can't be used.
    #[error("{0}")]
    Mount(String),
    /// A seccomp profile can't be used.
    #[error("cannot load seccomp profile {path:?}: {why}")]
    Seccomp {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What was put together is no valid OCI configuration.
    #[error("building the runtime configuration: {0}")]
    Encode(#[from] serde_json::Error),
}

/// What is known about pod and node when a container is made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the node.
    pub node_name: String,
    /// Its address.
    pub node_ip: IpAddr,
    /// Address of the pod.
    pub pod_ip: Option<IpAddr>,
    /// Memory of the node in bytes.
    pub node_memory: i64,
    /// CPU of the node in thousandths.
    pub node_cpu: i64,
    /// Huge pages of the node.
    pub huge_pages: Vec<Pages>,
}

/// A bind mount into the container.
#[derive(Clone, Debug, PartialEq)]
pub struct Bind {
    /// On the node.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
    /// `None`, `HostToContainer` or `Bidirectional`.
    pub propagation: Option<String>,
}

/// The capabilities that a container has by default (containerd, Docker).
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// All capabilities there are (capabilities(7)).
const ALL_CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the spec is made of, beyond the pod.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The image.
    pub image: &'a Image,
    /// Finished environment, `NAME=value`.
    pub env: Vec<String>,
    /// Who it runs as.
    pub user: user::User,
    /// Volumes, files of the pod, termination log.
    pub binds: Vec<Bind>,
    /// A directory or tmpfs for /dev/shm shared by the pod.
    pub shm: PathBuf,
    /// Runtime ID, the last part of the cgroup path.
    pub id: &'a str,
    /// A Localhost profile, read and parsed.
    pub profile: Option<Value>,
    /// Facts of node and pod.
    pub facts: &'a Facts,
}

/// The OCI runtime configuration of a container.
pub fn spec(pod: &Pod, container: &Container, parts: &Parts<'_>) -> Result<Spec, SpecError> {
    let context = container.security_context.clone().unwrap_or_default();
    let privileged = context.privileged == Some(true);
    let granted = capabilities(container);
    let caps: Vec<String> = granted.iter().map(|c| format!("CAP_{c}")).collect();
    // As upstream: a process that is not root holds no capabilities, though it may gain those of the bounding set.
    let effective = if parts.user.uid == 0 { caps.clone() } else { Vec::new() };
    let no_new_privileges = context.allow_privilege_escalation == Some(false) && !privileged;
    let process = json!({
        "terminal": container.tty == Some(true),
        "user": {"uid": parts.user.uid, "gid": parts.user.gid, "additionalGids": parts.user.groups},
        "args": args(container, parts.image, &parts.env)?,
        "env": parts.env,
        "cwd": container.working_dir.clone().filter(|d| !d.is_empty())
            .or_else(|| parts.image.config.working_dir().clone().filter(|d| !d.is_empty())).unwrap_or_else(|| "/".into()),
        "capabilities": {"bounding": caps, "effective": effective, "permitted": effective, "inheritable": [], "ambient": []},
        "noNewPrivileges": no_new_privileges,
        "oomScoreAdj": resources::oom_score_adj(pod, container, parts.facts.node_memory),
        "rlimits": [],
    });
    let unmasked = privileged || context.proc_mount.as_deref() == Some("Unmasked");
    let mut limits = resources::container_limits(pod, container, &parts.facts.huge_pages);
    if privileged {
        // Without rules the runtime allows the usual devices.
        limits["devices"] = json!([{"allow": true, "access": "rwm"}]);
    }
    let mut linux = json!({
        "resources": limits,
        "cgroupsPath": format!("{}/{}", resources::cgroup(pod), parts.id),
        "maskedPaths": if unmasked { &[][..] } else { MASKED },
        "readonlyPaths": if unmasked { &[][..] } else { READONLY },
    });
    if let Some(filter) = filter(pod, container, privileged, parts)? {
        linux["seccomp"] = filter;
    }
    let value = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": {"path": "rootfs", "readonly": context.read_only_root_filesystem == Some(true)},
        "hostname": "",
        "mounts": mounts(privileged, parts),
        "linux": linux,
    });
    Ok(serde_json::from_value(value)?)
}

/// command and args against Entrypoint and Cmd, with `$(VAR)` expanded.
fn args(container: &Container, image: &Image, env: &[String]) -> Result<Vec<String>, SpecError> {
    let vars = env::map(env);
    let given = |list: &Option<Vec<String>>| {
        list.clone().filter(|l| !l.is_empty()).map(|l| l.iter().map(|a| env::expand(a, &vars)).collect::<Vec<_>>())
    };
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (command, args) = match (given(&container.command), given(&container.args)) {
        (Some(command), args) => (command, args.unwrap_or_default()),
        (None, Some(args)) => (of_image(image.config.entrypoint()), args),
        (None, None) => (of_image(image.config.entrypoint()), of_image(image.config.cmd())),
    };
    let all: Vec<String> = command.into_iter().chain(args).collect();
    if all.is_empty() { Err(SpecError::NoCommand) } else { Ok(all) }
}

fn capabilities(container: &Container) -> Vec<&'static str> {
    let context = container.security_context.as_ref();
    if context.and_then(|c| c.privileged) == Some(true) {
        return ALL_CAPABILITIES.to_vec();
    }
    let caps = context.and_then(|c| c.capabilities.clone()).unwrap_or_default();
    let plain = |list: Option<Vec<String>>| -> Vec<String> {
        list.unwrap_or_default().iter().map(|c| c.to_uppercase()).map(|c| c.strip_prefix("CAP_").unwrap_or(&c).to_owned()).collect()
    };
    let (add, drop) = (plain(caps.add), plain(caps.drop));
    let has = |list: &[String], name: &str| list.iter().any(|c| c == name);
    ALL_CAPABILITIES
        .iter()
        .copied()
        .filter(|name| {
            let base = CAPABILITIES.contains(name) && !has(&drop, "ALL");
            has(&add, name) || ((base || has(&add, "ALL")) && !has(&drop, name))
        })
        .collect()
}

/// The profile that applies: the container's own, the pod's, or RuntimeDefault.
pub fn seccomp_profile(pod: &Pod, container: &Container) -> SeccompProfile {
    let own = container.security_context.as_ref().and_then(|c| c.seccomp_profile.clone());
    let pods = || pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.seccomp_profile.clone());
    own.or_else(pods).unwrap_or(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None })
}

fn filter(pod: &Pod, container: &Container, privileged: bool, parts: &Parts<'_>) -> Result<Option<Value>, SpecError> {
    let profile = seccomp_profile(pod, container);
    match profile.type_.as_str() {
        _ if privileged => Ok(None),
        "Unconfined" => Ok(None),
        "Localhost" => match &parts.profile {
            Some(profile) => Ok(Some(profile.clone())),
            None => Err(SpecError::Seccomp { path: profile.localhost_profile.unwrap_or_default().into(), why: "it was not loaded".into() }),
        },
        // The runtime knows what the container's capabilities add.
        _ => Ok(Some(serde_json::to_value(crate::runtime::seccomp::default_profile())?)),
    }
}

fn mounts(privileged: bool, parts: &Parts<'_>) -> Vec<Value> {
    let sys = if privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", sys]}),
        json!({"destination": "/dev/shm", "type": "bind", "source": parts.shm, "options": ["rbind", "rw", "nosuid", "noexec", "nodev"]}),
    ];
    for bind in &parts.binds {
        let propagation = match bind.propagation.as_deref() {
            Some("HostToContainer") => "rslave",
            Some("Bidirectional") => "rshared",
            _ => "rprivate",
        };
        let access = if bind.read_only { "ro" } else { "rw" };
        mounts.push(json!({"destination": bind.target, "type": "bind", "source": bind.source, "options": ["rbind", propagation, access]}));
    }
    mounts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "spec_tests.rs"]
mod tests;
