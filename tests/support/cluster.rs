//! A host with a server on it, its clients, and what is printed when a scenario fails.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::api::Api;
use super::host::{Host, checked, only_child};
use super::images::Registry;
use super::kubectl::Kubectl;
use super::{eventually, step};

/// The executable under test.
pub const ORCH: &str = env!("CARGO_BIN_EXE_orch");
/// How long a start may take in a debug build on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The server's log, among the host's files.
const LOG: &str = "server.log";

/// See the module. Fields are dropped in this order.
pub struct Cluster {
    /// Requests as the administrator.
    pub api: Api,
    server: Option<Process>,
    /// Images, if asked for.
    _registry: Option<Registry>,
    /// The machine.
    pub host: Host,
    args: Vec<String>,
    data_dir: PathBuf,
}

/// A running `orch server` or `orch agent`; killed when dropped.
pub struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// Starts `orch` with these arguments on a host, its output appended to a file there.
    pub fn spawn(host: &Host, args: &[String], log: &str) -> Process {
        let log = fs::OpenOptions::new().create(true).append(true).open(host.dir.join(log)).unwrap();
        let mut command = host.command(ORCH);
        let mut child = command.args(args).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let pid = eventually(Duration::from_secs(5), "orch is started", || {
            // nsenter forks once it is in.
            match child.try_wait() {
                Ok(Some(status)) => Err(format!("it ended: {status}")),
                _ => only_child(child.id()).ok_or("not yet".into()),
            }
        });
        Process { child, pid }
    }

    /// Ends it with this signal and waits until it is gone.
    pub fn stop(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.pid as i32), signal).unwrap();
        let limit = Duration::from_secs(20);
        eventually(limit, "orch ends", || self.child.try_wait().map_err(|e| e.to_string())?.ok_or("it runs".into()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    /// A host with a server that is ready, its node too.
    pub fn start(args: &[&str]) -> Cluster {
        Cluster::on(Host::new(), None, args)
    }

    /// The same with a registry of real images.
    pub fn with_registry(args: &[&str]) -> Cluster {
        let host = Host::new();
        let registry = Registry::start(&host);
        Cluster::on(host, Some(registry), args)
    }

    /// On a host that was prepared.
    pub fn on(host: Host, registry: Option<Registry>, args: &[&str]) -> Cluster {
        let data_dir = host.dir.join("data");
        let registries = host.dir.join("registries.yaml");
        let mirror = |port| format!("  \"127.0.0.1:{port}\": {{endpoint: [\"http://127.0.0.1:{port}\"]}}\n");
        fs::write(&registries, format!("mirrors:\n{}{}", mirror(5000), mirror(5001))).unwrap();
        let mut all = vec!["server".to_owned(), format!("--data-dir={}", data_dir.display())];
        all.push(format!("--write-kubeconfig={}", host.dir.join("kubeconfig").display()));
        all.push(format!("--registries={}", registries.display()));
        all.extend(args.iter().map(|arg| arg.to_string()));
        let started = Instant::now();
        let mut server = Process::spawn(&host, &all, LOG);
        let api = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| connect(&host, &mut server))) {
            Ok(api) => api,
            Err(panic) => {
                report_log(&host);
                std::panic::resume_unwind(panic);
            }
        };
        let cluster = Cluster { api, server: Some(server), _registry: registry, host, args: all, data_dir };
        cluster.wait_node();
        step(&format!("ready after {:?}", started.elapsed()));
        cluster
    }

    fn wait_node(&self) {
        if !self.args.iter().any(|arg| arg == "--disable-agent") {
            self.api.until(START, "the node is ready", "/api/v1/nodes/node-a", |node| super::api::condition(node, "Ready"));
            self.api.until(START, "the default account exists", "/api/v1/namespaces/default/serviceaccounts/default", |_| true);
        }
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.host.dir.join(LOG)).unwrap_or_default()
    }

    /// Where the administrator's kubeconfig is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.host.dir.join("kubeconfig")
    }

    /// The newest stock client, or the server's own.
    pub fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::newest(self)
    }

    /// Writes objects, as apply does.
    pub fn apply(&self, yaml: &str) {
        self.kubectl().apply(yaml);
    }

    /// Runs `orch` with these arguments on the host.
    pub fn run(&self, args: &[&str]) -> String {
        let mut command = self.host.limited(Duration::from_secs(60), ORCH);
        command.args(args).env("ORCH_DATA_DIR", &self.data_dir);
        checked(&format!("orch {args:?}"), command.output().unwrap())
    }

    /// Runs `orch` with these arguments and the administrator's kubeconfig.
    pub fn run_as_admin(&self, args: &[&str]) -> String {
        let mut command = self.host.limited(Duration::from_secs(60), ORCH);
        command.args(args).env("ORCH_WRITE_KUBECONFIG", self.kubeconfig());
        checked(&format!("orch {args:?}"), command.output().unwrap())
    }

    /// A second server with the same arguments: it must end by itself. Its exit status and what it printed.
    pub fn run_second(&self) -> (ExitStatus, String) {
        let output = self.host.limited(START, ORCH).args(&self.args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }

    /// Ends the server with this signal and waits until it is gone.
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.server.take().expect("the server runs").stop(signal)
    }

    /// A server of another cluster takes the place of this one: nothing is left of what that knew, or was known by.
    pub fn make_anew(&mut self) {
        self.stop(Signal::SIGTERM);
        fs::remove_dir_all(&self.data_dir).unwrap();
        fs::remove_file(self.kubeconfig()).unwrap();
        let mut server = Process::spawn(&self.host, &self.args, LOG);
        self.api = connect(&self.host, &mut server);
        self.server = Some(server);
    }

    /// Starts it again, and waits until it is ready.
    pub fn restart(&mut self) {
        let mut server = Process::spawn(&self.host, &self.args, LOG);
        await_ready(&self.api, &mut server);
        self.server = Some(server);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report_log(&self.host);
            report(&self.api, "events", "/api/v1/events", brief_event);
            report(&self.api, "pods", "/api/v1/pods", |pod| serde_yaml::to_string(pod).unwrap_or_default());
        }
    }
}

fn alive(server: &mut Process) {
    if let Some(status) = server.child.try_wait().unwrap() {
        panic!("the server ended with {status}");
    }
}

fn connect(host: &Host, server: &mut Process) -> Api {
    let path = host.dir.join("kubeconfig");
    let api = eventually(START, "the kubeconfig is there", || {
        alive(server);
        Api::new(&path)
    });
    await_ready(&api, server);
    api
}

fn await_ready(api: &Api, server: &mut Process) {
    eventually(START, "the server is ready", || {
        alive(server);
        match api.call("GET", "/readyz", "text/plain", Vec::new())? {
            (200, _) => Ok(()),
            (code, body) => Err(format!("{code} {body}")),
        }
    });
}

fn report_log(host: &Host) {
    let log = fs::read_to_string(host.dir.join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("---- the end of the server's log\n{}", lines[lines.len().saturating_sub(80)..].join("\n"));
}

fn report(api: &Api, what: &str, path: &str, show: impl Fn(&Value) -> String) {
    eprintln!("---- {what}");
    match api.try_get(path) {
        Ok(list) => list["items"].as_array().into_iter().flatten().for_each(|item| eprintln!("{}", show(item).trim_end())),
        Err(error) => eprintln!("{error}"),
    }
}

fn brief_event(event: &Value) -> String {
    let about = &event["involvedObject"];
    format!("{} {} {} x{}: {}", about["kind"], about["name"], event["reason"], event["count"], event["message"])
}
