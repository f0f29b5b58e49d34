//! What goes wrong on and between machines: processes that are killed, hosts that are cut off, deleted, renumbered. Whatever was promised
//! still holds: no write is lost, no container notices what does not concern it, what died is replaced, nothing is left over, and a pod of
//! a StatefulSet never runs twice. `ORCH_FAULTS` says how many rounds the random test takes, `ORCH_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::restart::{Shared, finish, watch, write};
use crate::skip;
use crate::support::agent::Agent;
use crate::support::api::condition;
use crate::support::cluster::Cluster;
use crate::support::host::{self, Eye, Host};
use crate::support::images::{self, Registry};
use crate::support::lan::Lan;
use crate::support::{eventually, missing, step};

const WAIT: Duration = Duration::from_secs(90);
const SERVER: &str = "https://10.99.0.2:6443";
const REPLICAS: usize = 4;
const MEMBERS: usize = 2;
/// What the containers of the Deployment run, and the beginning of what those of the StatefulSet run: their ordinal follows.
const WEB: &str = "sleep 271828";
const DB: &str = "sleep 31415";

const WORKLOAD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers: [{name: c, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "271828"]}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers:
      - {name: c, image: "busybox:1", imagePullPolicy: Never, command: [sh, -c, 'h=$(hostname); exec sleep 31415${h##*-}']}
"#;

/// Many short pods; `COUNT` of them must end well.
const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  completions: COUNT
  parallelism: 2
  backoffLimit: 1000
  template:
    spec:
      restartPolicy: OnFailure
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "1"]}]
"#;

/// A pod on every node that has the node's address.
const ON_HOST: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: on-host}
spec:
  selector: {matchLabels: {app: on-host}}
  template:
    metadata: {labels: {app: on-host}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "busybox:1", imagePullPolicy: Never, command: [sleep, "1000000"]}]
"#;

/// A server, which runs no pods unless a test says so, and machines beside it that do.
struct Bed {
    cluster: Cluster,
    agents: Vec<Agent>,
    /// Whether the server runs pods, too.
    server_runs: bool,
}

/// Processes of long-lived containers: the process and its start time, and the shim above it.
type Held = BTreeMap<(u32, String), Option<u32>>;

impl Bed {
    fn new(agents: usize, args: &[&str]) -> Bed {
        Bed::with(agents, &[&["--disable-agent"], args].concat())
    }

    fn with(agents: usize, args: &[&str]) -> Bed {
        let lan = Lan::new();
        let server = lan.host();
        server.enter();
        let registry = Registry::start(&server);
        let cluster = Cluster::on(server, Some(registry), args);
        let token = cluster.run_as_admin(&["token", "create"]);
        let mut agents: Vec<Agent> = (0..agents).map(|_| Agent::new(lan.host(), SERVER, &[])).collect();
        for agent in &mut agents {
            agent.start(&["--token", token.trim()]);
        }
        let bed = Bed { cluster, agents, server_runs: !args.contains(&"--disable-agent") };
        bed.agents.iter().for_each(|agent| bed.ready(&agent.host.name));
        images::carry(&bed.cluster.host, &["busybox:1"], &bed.hosts().collect::<Vec<_>>());
        bed
    }

    fn ready(&self, node: &str) {
        // A machine whose disk or memory is nearly full has taints, too, and takes no pods.
        self.cluster.api.until(WAIT, &format!("{node} is ready, and takes pods"), &format!("/api/v1/nodes/{node}"), |node| {
            condition(node, "Ready") && node["spec"]["taints"].is_null()
        });
    }

    /// The machines that run pods.
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        Some(&self.cluster.host).filter(|_| self.server_runs).into_iter().chain(self.agents.iter().map(|agent| &agent.host))
    }

    fn eyes(&self) -> Vec<Eye> {
        self.hosts().map(|host| host.eye()).collect()
    }

    /// Pods with this label, by uid.
    fn pods(&self, app: &str) -> BTreeMap<String, Value> {
        let list = self.cluster.api.get(&format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{app}"));
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(|pod| (text(&pod["metadata"]["uid"]), pod)).collect()
    }

    fn held(&self) -> Held {
        let of = |eye: Eye| {
            let processes = eye.processes(WEB).into_iter().chain(eye.processes(DB));
            processes.filter(move |(pid, _)| is_sleep(*pid)).map(move |process| (process.clone(), eye.root_of(process.0)))
        };
        self.eyes().into_iter().flat_map(of).collect()
    }

    /// Waits until everything is as it was ordered: replicas, members, one process for each, and a shim for each pod that has not ended.
    fn settle(&self, web: usize, db: usize) {
        let api = &self.cluster.api;
        eventually(WAIT, "all is as ordered", || {
            let ready = |path: &str| {
                let status = api.try_get(&format!("/apis/apps/v1/namespaces/default/{path}"))?["status"].clone();
                Ok::<_, String>((status["readyReplicas"].as_u64().unwrap_or(0) as usize, status.to_string()))
            };
            let ((webs, of_web), (dbs, of_db)) = (ready("deployments/web")?, ready("statefulsets/db")?);
            if (webs, dbs) != (web, db) {
                return Err(format!("{of_web} {of_db}"));
            }
            // The counts above may be of a moment ago, and a pod that ends of another one: each has to be ready itself.
            for (pods, wanted) in [(self.pods("web"), web), (self.pods("db"), db)] {
                let stays = |pod: &Value| condition(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null();
                if pods.len() != wanted || !pods.values().all(stays) {
                    return Err(format!("{wanted} pods are to be ready: {pods:?}"));
                }
            }
            let held = self.held();
            if held.len() != web + db {
                return Err(format!("{} processes: {held:?}", held.len()));
            }
            let list = api.try_get("/api/v1/pods")?;
            for host in self.hosts() {
                let here = |pod: &&Value| pod["spec"]["nodeName"] == host.name.as_str();
                let ended = |pod: &&Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
                let alive: BTreeSet<String> =
                    list["items"].as_array().into_iter().flatten().filter(here).filter(|pod| !ended(pod)).map(uid).collect();
                let shims: BTreeSet<String> = shims(host.eye()).into_iter().map(|(_, uid)| uid).collect();
                // The Job's pods come and go; what has no pod, or has ended, may have no shim for long.
                let long: BTreeSet<String> = self.pods("web").into_keys().chain(self.pods("db").into_keys()).collect();
                let (orphans, bare): (Vec<_>, Vec<_>) = (shims.difference(&alive).collect(), alive.difference(&shims).collect());
                if !orphans.is_empty() || bare.iter().any(|uid| long.contains(*uid)) {
                    return Err(format!("{}: shims without a pod {orphans:?}, pods without a shim {bare:?}", host.name));
                }
            }
            Ok(())
        });
    }

    /// Replaces the pods that were restarted, so that none waits for its next restart for long.
    fn refresh(&self) {
        let all = [self.pods("web"), self.pods("db")];
        let restarted: Vec<&Value> = all.iter().flat_map(BTreeMap::values).filter(|pod| restarts(pod) > 0).collect();
        for pod in &restarted {
            self.cluster.kubectl().ok(&["delete", "pod", &text(&pod["metadata"]["name"]), "--wait=false"]);
        }
        let gone = || {
            let held = [self.pods("web"), self.pods("db")].concat_keys();
            restarted.iter().find(|pod| held.contains(&uid(pod))).map_or(Ok(()), |pod| Err(text(&pod["metadata"]["name"])))
        };
        eventually(WAIT, "restarted pods are replaced", gone);
    }
}

/// The keys of several maps.
trait ConcatKeys {
    fn concat_keys(&self) -> BTreeSet<String>;
}

impl<const N: usize> ConcatKeys for [BTreeMap<String, Value>; N] {
    fn concat_keys(&self) -> BTreeSet<String> {
        self.iter().flat_map(BTreeMap::keys).cloned().collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn uid(pod: &Value) -> String {
    text(&pod["metadata"]["uid"])
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0)
}

/// Whether a process is `sleep`, rather than a shell that is about to be.
fn is_sleep(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
}

/// The shims of a host, with the uids of their pods. (The process that starts one is none: it ends at once.)
fn shims(eye: Eye) -> Vec<(u32, String)> {
    let found = eye.processes("orch shim ").into_iter().filter(|(pid, _)| eye.root_of(*pid) == Some(*pid));
    let uid = |pid: u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some(line.trim_end_matches('\0').rsplit('/').next()?.to_owned())
    };
    found.filter_map(|(pid, _)| Some((pid, uid(pid)?))).collect()
}

/// Watches, all the time, that no ordinal of the StatefulSet runs twice on all hosts together.
struct Guard {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Guard {
    fn start(eyes: Vec<Eye>) -> Guard {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut complaints = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let mut running: BTreeMap<String, Vec<u32>> = BTreeMap::new();
                for pid in std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
                {
                    // Most are something else, and reading this much is cheap.
                    if !is_sleep(pid) {
                        continue;
                    }
                    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
                    if line.starts_with(DB) && eyes.iter().any(|eye| eye.owns(pid)) {
                        running.entry(line).or_default().push(pid);
                    }
                }
                complaints.extend(running.iter().filter(|(_, pids)| pids.len() > 1).map(|(line, pids)| format!("{line}: {pids:?}")));
                std::thread::sleep(Duration::from_millis(50));
            }
            complaints
        });
        Guard { stop, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let complaints = self.thread.join().unwrap();
        assert!(complaints.is_empty(), "run twice: {complaints:?}");
    }
}

/// One shim that was killed: its pod, and how often that had been restarted.
struct Hit {
    shim: u32,
    uid: String,
    restarts: u64,
}

/// Something random happens to somebody.
fn strike(bed: &mut Bed, random: &mut rand::rngs::StdRng, hits: &mut Vec<Hit>) -> String {
    std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
    let pause = Duration::from_millis(random.random_range(0..300));
    let at = random.random_range(0..bed.agents.len());
    match random.random_range(0..4) {
        0 => {
            bed.cluster.stop(Signal::SIGKILL);
            std::thread::sleep(pause);
            bed.cluster.restart();
            "server".into()
        }
        1 => {
            let agent = &mut bed.agents[at];
            agent.stop(Signal::SIGKILL);
            std::thread::sleep(pause);
            agent.start(&[]);
            agent.host.name.clone()
        }
        _ => {
            let name = bed.agents[at].host.name.clone();
            let all = [bed.pods("web"), bed.pods("db")];
            let known: BTreeMap<&String, &Value> = all.iter().flatten().collect();
            let shims = shims(bed.agents[at].host.eye());
            let Some((shim, uid)) = shims.choose(random).cloned() else { return format!("no shim on {name}") };
            // It may be gone by itself already: the Job's are short-lived.
            if kill(Pid::from_raw(shim as i32), Signal::SIGKILL).is_ok()
                && let Some(pod) = known.get(&uid)
            {
                hits.push(Hit { shim, uid, restarts: restarts(pod) });
            }
            format!("a shim on {name}")
        }
    }
}

/// A killed shim is noticed: its pod is restarted, unless it went meanwhile.
fn noticed(bed: &Bed, hits: &[Hit]) {
    eventually(WAIT, "killed shims are noticed", || {
        let pods = [bed.pods("web"), bed.pods("db")];
        let still = |hit: &&Hit| pods.iter().find_map(|pods| pods.get(&hit.uid)).is_some_and(|pod| restarts(pod) <= hit.restarts);
        hits.iter().find(still).map_or(Ok(()), |hit| Err(format!("pod {} was not restarted", hit.uid)))
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_is_killed_comes_back() {
    if let Some(reason) = missing(&[host::TOOLS, images::TOOLS].concat()) {
        skip!("{reason}");
    }
    let rounds = number("ORCH_FAULTS").unwrap_or(6);
    let seed = number("ORCH_SEED").unwrap_or_else(|| rand::rng().random());
    step(&format!("{rounds} rounds with ORCH_SEED={seed}"));
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut bed = Bed::new(2, &[]);
    let completions = rounds * 2 + 2;
    bed.cluster.apply(WORKLOAD);
    bed.cluster.apply(&JOB.replace("COUNT", &completions.to_string()));
    bed.settle(REPLICAS, MEMBERS);
    let guard = Guard::start(bed.eyes());
    let shared = Arc::new(Shared::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut tasks = vec![runtime.spawn(write(shared.clone(), bed.cluster.kubeconfig(), 0))];
    tasks.push(runtime.spawn(watch(shared.clone(), bed.cluster.kubeconfig())));
    for round in 1..=rounds {
        bed.refresh();
        bed.settle(REPLICAS, MEMBERS);
        let before = bed.held();
        let mut hits = Vec::new();
        let struck: Vec<String> = (0..random.random_range(1..=2)).map(|_| strike(&mut bed, &mut random, &mut hits)).collect();
        step(&format!("round {round}: {}", struck.join(", ")));
        noticed(&bed, &hits);
        bed.settle(REPLICAS, MEMBERS);
        let after = bed.held();
        for (process, shim) in &before {
            let hit = hits.iter().any(|hit| Some(hit.shim) == *shim);
            assert!(hit || after.contains_key(process), "{process:?} below {shim:?} did not outlive: {}", struck.join(", "));
        }
    }
    finish(&bed.cluster, &shared, tasks, runtime);
    let job = "/apis/batch/v1/namespaces/default/jobs/job";
    let job = bed.cluster.api.until(Duration::from_secs(120), "the Job completes", job, |job| condition(job, "Complete"));
    assert_eq!(job["status"]["succeeded"], completions, "{}", job["status"]);
    guard.finish();
}

/// Whether a node bears the taints of one that is unreachable.
fn is_unreachable(node: &Value) -> bool {
    let has = |effect: &str| {
        let taints = node["spec"]["taints"].as_array();
        taints.is_some_and(|all| all.iter().any(|t| t["key"] == "node.kubernetes.io/unreachable" && t["effect"] == effect))
    };
    let ready = node["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
    ready.is_some_and(|ready| ready["status"] == "Unknown" && ready["reason"] == "NodeStatusUnknown")
        && has("NoSchedule")
        && has("NoExecute")
}

#[test]
fn a_host_is_cut_off_and_healed() {
    if let Some(reason) = missing(&[host::TOOLS, images::TOOLS].concat()) {
        skip!("{reason}");
    }
    let bed = Bed::new(2, &["--node-monitor-grace-period=6s"]);
    let api = &bed.cluster.api;
    bed.cluster.apply(WORKLOAD);
    bed.settle(REPLICAS, MEMBERS);
    let guard = Guard::start(bed.eyes());
    let first = api.get("/api/v1/namespaces/default/pods/db-0");
    let name = text(&first["spec"]["nodeName"]);
    let (lost, other): (Vec<&Agent>, Vec<&Agent>) = bed.agents.iter().partition(|agent| agent.host.name == name);
    let (lost, other) = (lost[0], other[0]);
    let on = |node: &str, pod: &Value| pod["spec"]["nodeName"] == node;
    let evicted: BTreeSet<String> = bed.pods("web").into_iter().filter(|(_, pod)| on(&name, pod)).map(|(uid, _)| uid).collect();
    let there: Vec<(u32, String)> = lost.host.processes(WEB);
    assert!(!evicted.is_empty() && there.len() == evicted.len(), "{evicted:?} {there:?}");
    step(&format!("{name} is cut off"));
    lost.host.cut();
    let node = format!("/api/v1/nodes/{name}");
    api.until(WAIT, "the node is unreachable", &node, is_unreachable);
    step("its pods are replaced elsewhere, but that of the StatefulSet");
    api.until(WAIT, "the replicas are there again", "/apis/apps/v1/namespaces/default/deployments/web", |set| {
        set["status"]["availableReplicas"] == REPLICAS
    });
    for (uid, pod) in bed.pods("web") {
        let target = condition(&pod, "DisruptionTarget");
        assert_eq!(evicted.contains(&uid), on(&name, &pod), "{pod}");
        assert_eq!((pod["metadata"]["deletionTimestamp"].is_string(), target), (on(&name, &pod), on(&name, &pod)), "{pod}");
    }
    api.pod(WAIT, "db-0", "is ending", |pod| pod["metadata"]["deletionTimestamp"].is_string() && uid(pod) == uid(&first));
    assert_eq!(lost.host.processes(WEB), there, "what is cut off goes on");
    let zero = format!("{DB}0");
    assert_eq!((lost.host.processes(&zero).len(), other.host.processes(&zero).len()), (1, 0));
    step("it returns");
    lost.host.heal();
    api.until(WAIT, "the node is ready, and bears no taint", &node, |node| condition(node, "Ready") && node["spec"]["taints"].is_null());
    eventually(WAIT, "the evicted are gone", || {
        let left: Vec<String> = bed.pods("web").into_keys().filter(|uid| evicted.contains(uid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    api.pod(WAIT, "db-0", "is another one, and ready", |pod| uid(pod) != uid(&first) && condition(pod, "Ready"));
    bed.settle(REPLICAS, MEMBERS);
    let still = lost.host.processes(WEB);
    assert!(there.iter().all(|process| !still.contains(process)), "{there:?} {still:?}");
    step("cut off for a short while, it keeps everything");
    let held = bed.held();
    lost.host.cut();
    eventually(WAIT, "the agent notices", || {
        lost.log().contains("the node's lease can't be renewed").then_some(()).ok_or("not yet".into())
    });
    lost.host.heal();
    bed.ready(&name);
    bed.settle(REPLICAS, MEMBERS);
    assert!(held.len() == bed.held().len());
    guard.finish();
}

#[test]
fn machines_get_other_addresses() {
    if let Some(reason) = missing(&[host::TOOLS, images::TOOLS].concat()) {
        skip!("{reason}");
    }
    let mut bed = Bed::with(1, &[]);
    bed.cluster.apply(WORKLOAD);
    bed.cluster.apply(ON_HOST);
    bed.settle(REPLICAS, MEMBERS);
    let kept = |bed: &Bed| [bed.cluster.host.processes(WEB), bed.agents[0].host.processes(WEB)];
    let (first, pods) = (kept(&bed), [bed.pods("web"), bed.pods("db")].concat_keys());
    let at = |bed: &Bed, node: &str, address: Ipv4Addr| {
        bed.cluster.api.until(WAIT, &format!("{node} has {address}"), &format!("/api/v1/nodes/{node}"), |node| {
            condition(node, "Ready") && node["status"]["addresses"][0]["address"] == address.to_string()
        });
        bed.settle(REPLICAS, MEMBERS);
        assert_eq!((kept(bed), [bed.pods("web"), bed.pods("db")].concat_keys()), (first.clone(), pods.clone()), "nothing was restarted");
        eventually(WAIT, "its pods tell its address", || {
            let ip = serde_json::json!([{"ip": address.to_string()}]);
            let here = |pod: &&Value| pod["spec"]["nodeName"] == node;
            let told = |pod: &&Value| {
                let status = &pod["status"];
                let on_host = pod["spec"]["hostNetwork"] != true || (&status["podIP"], &status["podIPs"]) == (&ip[0]["ip"], &ip);
                (&status["hostIP"], &status["hostIPs"]) == (&ip[0]["ip"], &ip) && on_host
            };
            let all: Vec<Value> = [bed.pods("web"), bed.pods("on-host")].into_iter().flat_map(BTreeMap::into_values).collect();
            let (right, wrong): (Vec<&Value>, Vec<&Value>) = all.iter().filter(here).partition(told);
            let hosts = right.iter().filter(|pod| pod["spec"]["hostNetwork"] == true).count();
            if wrong.is_empty() && hosts == 1 { Ok(()) } else { Err(format!("{wrong:?}")) }
        });
        for pod in bed.pods("db").values() {
            let name = text(&pod["metadata"]["name"]);
            eventually(WAIT, "its node answers", || {
                let output = bed.cluster.kubectl().command(&["exec", &name, "--", "hostname"], WAIT).output().unwrap();
                if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
            });
        }
    };
    step("an agent's");
    let other = Ipv4Addr::new(10, 99, 0, 77);
    bed.agents[0].host.readdress(other);
    at(&bed, "node-b", other);
    step("the server's");
    let other = Ipv4Addr::new(10, 99, 0, 200);
    bed.cluster.host.readdress(other);
    bed.cluster.api.until(WAIT, "the address of the API", "/api/v1/namespaces/default/endpoints/kubernetes", |endpoints| {
        endpoints["subsets"][0]["addresses"][0]["ip"] == other.to_string()
    });
    bed.agents[0].stop(Signal::SIGTERM);
    bed.agents[0].join_at(&format!("https://{other}:6443"));
    bed.agents[0].start(&[]);
    at(&bed, "node-a", other);
    bed.ready("node-b");
}

#[test]
fn a_node_is_deleted_and_joins_again() {
    if let Some(reason) = missing(&[host::TOOLS, images::TOOLS].concat()) {
        skip!("{reason}");
    }
    let mut bed = Bed::new(1, &["--node-monitor-grace-period=6s"]);
    bed.cluster.apply(WORKLOAD);
    bed.settle(REPLICAS, MEMBERS);
    let (held, pods) = (bed.held(), [bed.pods("web"), bed.pods("db")].concat_keys());
    let name = bed.agents[0].host.name.clone();
    let node = format!("/api/v1/nodes/{name}");
    let id = |bed: &Bed| uid(&bed.cluster.api.get(&node));
    let same = |bed: &Bed| {
        bed.ready(&name);
        bed.settle(REPLICAS, MEMBERS);
        assert_eq!(bed.held(), held, "no container noticed");
        assert_eq!([bed.pods("web"), bed.pods("db")].concat_keys(), pods, "nor did a pod");
    };
    step("deleted while its agent lives, it comes back by itself");
    let first = id(&bed);
    bed.cluster.kubectl().ok(&["delete", "node", &name]);
    bed.cluster.api.until(WAIT, "it is there again", &node, |node| uid(node) != first);
    same(&bed);
    step("deleted while its agent is away, it joins again");
    bed.agents[0].stop(Signal::SIGKILL);
    bed.cluster.kubectl().ok(&["delete", "node", &name]);
    let (code, _) = bed.cluster.api.call("GET", &node, "", Vec::new()).unwrap();
    assert_eq!(code, 404);
    bed.agents[0].start(&[]);
    same(&bed);
    step("the server has another address");
    let other = Ipv4Addr::new(10, 99, 0, 200);
    bed.cluster.host.readdress(other);
    bed.agents[0].says(WAIT, "if the server has another address now, restart this agent with --join for it");
    bed.agents[0].stop(Signal::SIGTERM);
    bed.agents[0].join_at(&format!("https://{other}:6443"));
    bed.agents[0].start(&[]);
    bed.agents[0].says(WAIT, "the agent is running");
    same(&bed);
    step("and tells it by itself");
    assert!(bed.cluster.log().contains("beginning again with the new address"), "{}", bed.cluster.log());
    bed.cluster.api.until(WAIT, "the address of the API", "/api/v1/namespaces/default/endpoints/kubernetes", |endpoints| {
        endpoints["subsets"][0]["addresses"][0]["ip"] == other.to_string()
    });
    let line = bed.cluster.run_as_admin(&["token", "create", "--print-join-command"]);
    assert!(line.contains("--join https://10.99.0.200:6443"), "{line}");
    let info = bed.cluster.api.get("/api/v1/namespaces/kube-public/configmaps/cluster-info");
    assert!(info["data"]["kubeconfig"].as_str().unwrap().contains("server: https://10.99.0.200:6443"), "{info}");
    same(&bed);
    let said = bed.cluster.kubectl().ok(&["exec", "db-0", "--", "hostname"]);
    assert_eq!(said.trim(), "db-0");
}
