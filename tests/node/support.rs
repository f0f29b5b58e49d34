//! A runtime of its own for each test: state directory, cgroup, busybox layer. Cleans up when dropped, also after a failure.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orch::runtime::{ContainerConfig, Exit, Linux, Phase, Runtime, SandboxConfig};
use tokio::sync::mpsc::UnboundedReceiver;

pub const DEADLINE: Duration = Duration::from_secs(30);
const APPLETS: &[&str] = &[
    "sh", "echo", "cat", "id", "pwd", "env", "sleep", "mount", "unshare", "touch", "ls", "head", "dd", "stty", "kill", "hostname", "grep",
    "seq", "true", "tr", "wc", "umask", "stat", "mknod", "ps", "test", "chroot", "ip", "readlink", "mkdir", "tail", "printf", "yes",
];

pub struct Node {
    pub dir: tempfile::TempDir,
    pub runtime: Linux,
    pub exits: UnboundedReceiver<Exit>,
    pub cgroup: String,
    pub layer: PathBuf,
}

/// A node, or none with a printed reason where the machine can't.
pub fn node() -> Option<Node> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    if !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: /bin/busybox is missing (package busybox-static)");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    for name in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(layer.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for name in APPLETS {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n").unwrap();
    std::fs::write(layer.join("etc/group"), "root:x:0:\nwww:x:34:\nadm:x:4:web\n").unwrap();
    let cgroup = format!("orch-test-{}", dir.path().file_name().unwrap().to_string_lossy().replace('.', ""));
    let runtime = open(dir.path());
    let exits = runtime.exits();
    Some(Node { dir, runtime, exits, cgroup, layer })
}

pub fn open(dir: &Path) -> Linux {
    open_with(dir, None)
}

/// The same, whose containers begin with this limit of open files.
pub fn open_with(dir: &Path, open_files: Option<u64>) -> Linux {
    Linux::open(&dir.join("run"), env!("CARGO_BIN_EXE_orch").into(), open_files).unwrap()
}

impl Node {
    pub fn sandbox_config(&self, id: &str) -> SandboxConfig {
        SandboxConfig { id: id.into(), hostname: "inside".into(), cgroup: format!("{}/{id}", self.cgroup), ..SandboxConfig::default() }
    }

    pub async fn sandbox(&self, id: &str) {
        self.runtime.create_sandbox(&self.sandbox_config(id)).await.unwrap();
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.dir.path().join("logs").join(id).join("0.log")
    }

    /// A container that runs a shell script, with additions in YAML to its spec.
    pub fn container(&self, id: &str, script: &str, yaml: &str) -> ContainerConfig {
        let mut spec = serde_json::json!({
            "ociVersion": "1.2.0",
            "root": {"path": ""},
            "process": {"args": ["sh", "-c", script], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        });
        let more: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
        merge(&mut spec, more);
        ContainerConfig {
            id: id.into(),
            spec: serde_json::from_value(spec).unwrap(),
            layers: vec![self.layer.clone()],
            log_path: self.log(id),
            log_max_bytes: 10 << 20,
            log_files: 3,
            stdin: false,
            stdin_once: false,
            joins: None,
            labels: [("name".to_string(), id.to_string())].into(),
        }
    }

    pub async fn start(&self, sandbox: &str, config: &ContainerConfig) {
        self.runtime.create_container(sandbox, config).await.unwrap();
        self.runtime.start_container(sandbox, &config.id).await.unwrap();
    }

    pub async fn phase(&self, sandbox: &str, id: &str) -> Phase {
        let all = self.runtime.containers(sandbox).await.unwrap();
        all.into_iter().find(|container| container.id == id).unwrap().phase
    }

    /// Waits for a container's exit: code and whether for want of memory.
    pub async fn wait(&mut self, sandbox: &str, id: &str) -> (i32, bool) {
        let wanted = Exit { sandbox: sandbox.into(), container: Some(id.into()) };
        loop {
            if let Phase::Exited { code, oom_killed, .. } = self.phase(sandbox, id).await {
                return (code, oom_killed);
            }
            let exit = tokio::time::timeout(DEADLINE, self.exits.recv()).await.expect("an exit in time").unwrap();
            assert!(exit == wanted || exit.container.is_some(), "{exit:?}");
        }
    }

    /// Text of a log without times, as `stdout F line`.
    pub fn records(&self, id: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.log(id)).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_string()).collect()
    }

    /// Runs a script to its end in a sandbox of its own: exit code and output lines.
    pub async fn run(&mut self, script: &str, yaml: &str) -> (i32, String) {
        self.sandbox("once").await;
        let config = self.container("c-0", script, yaml);
        self.start("once", &config).await;
        let (code, _) = self.wait("once", "c-0").await;
        let records = self.records("c-0");
        self.runtime.remove_sandbox("once").await.unwrap();
        std::fs::remove_file(self.log("c-0")).unwrap();
        let lines: Vec<_> = records.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
        (code, lines.join("\n"))
    }

    /// Cgroup directories of this test that exist.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).chain([root.to_path_buf()]);
        let mut found = Vec::new();
        for hierarchy in hierarchies.filter(|path| path.is_dir()) {
            for entry in std::fs::read_dir(hierarchy.join(&self.cgroup)).into_iter().flatten().flatten() {
                found.extend(entry.file_type().unwrap().is_dir().then(|| entry.path()));
            }
        }
        found
    }
}

fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (_, serde_json::Value::Null) => {}
        (into, from) => *into = from,
    }
}

/// Waits for a condition that no event tells: a file that grows, a process that goes.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::yield_now();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let runtime = open(self.dir.path());
        let ids: Vec<_> = std::fs::read_dir(self.dir.path().join("run/sandboxes")).into_iter().flatten().flatten().collect();
        std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for id in ids {
                let _ = tokio.block_on(runtime.remove_sandbox(&id.file_name().to_string_lossy()));
            }
        })
        .join()
        .unwrap();
        let root = Path::new("/sys/fs/cgroup");
        for entry in std::fs::read_dir(root).unwrap().flatten() {
            let _ = std::fs::remove_dir(entry.path().join(&self.cgroup));
        }
        let _ = std::fs::remove_dir(root.join(&self.cgroup));
    }
}
