//! Time to create, start and delete one container: this runtime against crun and runc, with the same spec and root file system.
//!
//! usage: runtime ORCH DIR. The sandbox is there beforehand, as a pod's is; crun and runc run in the host's network, IPC and UTS,
//! which costs them nothing, and without the seccomp profile that ours has, which is kept in a form only this runtime knows. Prints `NAME MILLISECONDS` lines (medians); benches/run makes the table. To be run on a private host.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use orch::runtime::{ContainerConfig, Linux, Runtime, SandboxConfig};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 60;
const WARM_UP: usize = 5;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(orch), Some(dir)) = (args.next(), args.next()) else { return Err("usage: runtime ORCH DIR".into()) };
    let dir = PathBuf::from(dir);
    let rootfs = root_file_system(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("container_orch {:.3}", millis(runtime.block_on(ours(&dir, orch.into(), &rootfs))?));
    for (peer, more) in [("crun", &["--cgroup-manager=disabled"][..]), ("runc", &[])] {
        match Command::new(peer).arg("--version").stdout(Stdio::null()).status() {
            Ok(_) => println!("container_{peer} {:.3}", millis(theirs(&dir, peer, more)?)),
            Err(error) => eprintln!("SKIPPED: {peer}: {error}"),
        }
    }
    Ok(())
}

fn millis(mut all: Vec<Duration>) -> f64 {
    all.drain(..WARM_UP);
    all.sort();
    all[all.len() / 2].as_secs_f64() * 1000.0
}

/// busybox as `true`, below the bundle directory of the peers.
fn root_file_system(dir: &Path) -> Result<PathBuf> {
    let rootfs = dir.join("rootfs");
    for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
        std::fs::create_dir_all(rootfs.join(name))?;
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", rootfs.join("bin/true"))?;
    let mut theirs = spec();
    if let Some(linux) = theirs["linux"].as_object_mut() {
        linux.remove("seccomp");
    }
    std::fs::write(dir.join("config.json"), theirs.to_string())?;
    Ok(rootfs)
}

/// What a pod's container has: dropped capabilities, the default seccomp profile, masked paths.
fn spec() -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "",
        "process": {
            "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "terminal": false, "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "seccomp": orch::runtime::seccomp::default_profile(),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

async fn ours(dir: &Path, orch: PathBuf, rootfs: &Path) -> Result<Vec<Duration>> {
    let runtime = Linux::open(&dir.join("run"), orch, None)?;
    let sandbox = SandboxConfig { id: "bench".into(), hostname: "bench".into(), cgroup: "orch/bench".into(), ..SandboxConfig::default() };
    runtime.create_sandbox(&sandbox).await?;
    let spec: Spec = serde_json::from_value(spec())?;
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let id = format!("c-{round}");
        let config = ContainerConfig {
            id: id.clone(),
            spec: spec.clone(),
            layers: vec![rootfs.to_owned()],
            log_path: dir.join("log").join(format!("{id}.log")),
            log_max_bytes: 1 << 20,
            log_files: 2,
            stdin: false,
            stdin_once: false,
            joins: None,
            labels: Default::default(),
        };
        let begun = Instant::now();
        runtime.create_container("bench", &config).await?;
        runtime.start_container("bench", &id).await?;
        runtime.remove_container("bench", &id).await?;
        all.push(begun.elapsed());
    }
    runtime.remove_sandbox("bench").await?;
    Ok(all)
}

fn theirs(dir: &Path, peer: &str, more: &[&str]) -> Result<Vec<Duration>> {
    let state = dir.join(peer);
    let run = |args: &[&str]| -> Result<()> {
        let mut command = Command::new(peer);
        command.arg("--root").arg(&state).args(more).args(args);
        // Not a pipe: the container inherits it, and would keep it open.
        let log = std::fs::File::create(dir.join(format!("{peer}.log")))?;
        let status = command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{peer} {args:?}: {}", std::fs::read_to_string(dir.join(format!("{peer}.log")))?).into())
    };
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let id = format!("bench-{round}");
        let begun = Instant::now();
        run(&["create", "--bundle", ".", &id])?;
        run(&["start", &id])?;
        run(&["delete", "--force", &id])?;
        all.push(begun.elapsed());
    }
    Ok(all)
}
