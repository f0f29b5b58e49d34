//! The server is killed again and again, at random moments, under a stream of writes. Nothing acknowledged is lost, a watch that
//! resumes misses nothing, and no container notices. `ORCH_KILLS` says how often, `ORCH_SEED` repeats a run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use kube::Client;
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::{api, eventually, host, images, missing, step};

const WAIT: Duration = Duration::from_secs(60);
const WRITERS: usize = 4;
const KEYS: u64 = 25;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

const COUNTERS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: count
    image: 127.0.0.1:5000/busybox:1
    command: [sh, -c, 'i=0; while :; do echo $i; i=$((i+1)); usleep 5000; done']
  - {name: idle, image: 127.0.0.1:5000/busybox:1, command: [sleep, "271828"]}
"#;

/// What a writer knows of one ConfigMap.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Highest value sent.
    sent: u64,
    /// Highest value acknowledged, and its revision.
    acknowledged: u64,
    revision: u64,
}

/// What all tasks share.
#[derive(Default)]
pub(crate) struct Shared {
    known: Mutex<BTreeMap<String, Known>>,
    /// Events as watched: name, value, revision.
    seen: Mutex<Vec<(String, u64, u64)>>,
    complaints: Mutex<Vec<String>>,
    relists: Mutex<u32>,
    stop: AtomicBool,
}

impl Shared {
    fn complain(&self, text: String) {
        self.complaints.lock().unwrap().push(text);
    }
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn value(object: &Value) -> u64 {
    object["data"]["n"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Writes one value after the other into maps of its own until told to stop.
pub(crate) async fn write(shared: Arc<Shared>, kubeconfig: PathBuf, writer: usize) {
    let client = api::client(&kubeconfig).await.unwrap();
    let mut n = 0;
    while !shared.stopping() {
        n += 1;
        let name = format!("w{writer}-{}", n % KEYS);
        shared.known.lock().unwrap().entry(name.clone()).or_default().sent = n;
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"run": "kill"}},
            "data": {"n": n.to_string()}});
        let path = format!("{MAPS}/{name}?fieldManager=writer&force=true");
        let body = body.to_string().into_bytes();
        match api::call(&client, "PATCH", &path, "application/apply-patch+yaml", body).await {
            Ok((200 | 201, text)) => {
                let object: Value = serde_json::from_str(&text).unwrap();
                let mut all = shared.known.lock().unwrap();
                let known = all.get_mut(&name).unwrap();
                let newest = revision(&object);
                if newest <= known.revision {
                    shared.complain(format!("{name}: revision {newest} after {}", known.revision));
                }
                (known.acknowledged, known.revision) = (n, newest);
            }
            Ok((code, text)) if code != 503 && code != 429 => shared.complain(format!("writing {name}: {code} {text}")),
            // The server is away: the write may or may not have happened.
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Watches from the last revision seen, again and again.
pub(crate) async fn watch(shared: Arc<Shared>, kubeconfig: PathBuf) {
    let client = api::client(&kubeconfig).await.unwrap();
    let mut last = 0;
    while !shared.stopping() {
        if last == 0 {
            last = list(&shared, &client).await;
        }
        if last != 0 && !follow(&shared, &client, &mut last).await {
            *shared.relists.lock().unwrap() += 1;
            last = 0;
        }
        // The server is away.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn list(shared: &Shared, client: &Client) -> u64 {
    let Ok((200, text)) = api::call(client, "GET", &format!("{MAPS}?labelSelector=run%3Dkill"), "", Vec::new()).await else { return 0 };
    let list: Value = serde_json::from_str(&text).unwrap();
    let mut seen = shared.seen.lock().unwrap();
    for item in list["items"].as_array().unwrap() {
        seen.push((item["metadata"]["name"].as_str().unwrap().into(), value(item), revision(item)));
    }
    revision(&list)
}

/// One watch until it is cut; false: the revision is too old.
async fn follow(shared: &Shared, client: &Client, last: &mut u64) -> bool {
    let path = format!("{MAPS}?labelSelector=run%3Dkill&watch=true&allowWatchBookmarks=true&resourceVersion={last}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let Ok(stream) = client.request_stream(request).await else { return true };
    let mut lines = Box::pin(stream.lines().into_stream());
    while let Ok(Some(Ok(line))) = tokio::time::timeout(Duration::from_secs(1), lines.next()).await {
        // The last line may be cut off with the connection.
        let Ok(event) = serde_json::from_str::<Value>(&line) else { return true };
        let object = &event["object"];
        match event["type"].as_str() {
            Some("ERROR") => return object["code"] != 410,
            Some("BOOKMARK") => *last = revision(object).max(*last),
            _ => {
                let newest = revision(object);
                if newest <= *last {
                    shared.complain(format!("the watch went from {last} to {newest}"));
                }
                *last = newest;
                shared.seen.lock().unwrap().push((object["metadata"]["name"].as_str().unwrap().into(), value(object), newest));
            }
        }
    }
    true
}

#[test]
fn kill_9_loses_nothing() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(images::TOOLS)) {
        skip!("{reason}");
    }
    let kills: u32 = std::env::var("ORCH_KILLS").ok().map_or(5, |text| text.parse().expect("ORCH_KILLS is a number"));
    let seed = std::env::var("ORCH_SEED").ok().map_or_else(|| rand::rng().random(), |text| text.parse().expect("ORCH_SEED is a number"));
    step(&format!("{kills} kills with ORCH_SEED={seed}"));
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::with_registry(&[]);
    cluster.apply(COUNTERS);
    let before = cluster.api.ready(WAIT, "counter");
    let processes = cluster.host.processes("sleep 271828");
    assert_eq!(processes.len(), 1, "{processes:?}");

    let shared = Arc::new(Shared::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut tasks: Vec<_> = (0..WRITERS).map(|writer| runtime.spawn(write(shared.clone(), cluster.kubeconfig(), writer))).collect();
    tasks.push(runtime.spawn(watch(shared.clone(), cluster.kubeconfig())));
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.random_range(0..800)));
        cluster.stop(Signal::SIGKILL);
        cluster.restart();
        if kill % 20 == 0 || kill == kills {
            let written: u64 = shared.known.lock().unwrap().values().map(|known| known.acknowledged).max().unwrap_or(0);
            step(&format!("{kill} kills, {written} writes of the busiest writer acknowledged"));
        }
    }
    // Some writes with the last server, then quiet; the watch must catch up.
    let mark = shared.seen.lock().unwrap().len();
    eventually(WAIT, "the watch goes on", || if shared.seen.lock().unwrap().len() > mark + 20 { Ok(()) } else { Err("no".into()) });
    finish(&cluster, &shared, tasks, runtime);

    let after = cluster.api.ready(WAIT, "counter");
    assert_eq!(cluster.host.processes("sleep 271828"), processes, "the container has its pid");
    for (was, is) in
        before["status"]["containerStatuses"].as_array().unwrap().iter().zip(after["status"]["containerStatuses"].as_array().unwrap())
    {
        assert_eq!((&was["containerID"], &was["restartCount"]), (&is["containerID"], &is["restartCount"]));
    }
    check_log(&cluster);
}

/// Ends the writers, lets the watch catch up, and compares.
pub(crate) fn finish(
    cluster: &Cluster,
    shared: &Arc<Shared>,
    mut tasks: Vec<tokio::task::JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
) {
    let watcher = tasks.pop().unwrap();
    shared.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    // The watcher stops with its connection; whatever came after its last event is read by one more watch.
    runtime.block_on(watcher).unwrap();
    let mut last = shared.seen.lock().unwrap().iter().map(|(_, _, revision)| *revision).max().unwrap_or(0);
    let client = runtime.block_on(api::client(&cluster.kubeconfig())).unwrap();
    assert!(runtime.block_on(follow(shared, &client, &mut last)), "the newest revision is not too old");

    let complaints = shared.complaints.lock().unwrap();
    assert!(complaints.is_empty(), "{} complaints: {:#?}", complaints.len(), &complaints[..complaints.len().min(20)]);
    let held = cluster.api.get(&format!("{MAPS}?labelSelector=run%3Dkill"));
    let held: BTreeMap<&str, &Value> =
        held["items"].as_array().unwrap().iter().map(|item| (item["metadata"]["name"].as_str().unwrap(), item)).collect();
    let seen = shared.seen.lock().unwrap();
    let relists = *shared.relists.lock().unwrap();
    let mut lost = Vec::new();
    for (name, known) in shared.known.lock().unwrap().iter().filter(|(_, known)| known.acknowledged > 0) {
        let Some(object) = held.get(name.as_str()) else {
            lost.push(format!("{name} is gone; acknowledged at {}", known.revision));
            continue;
        };
        let (is, at) = (value(object), revision(object));
        if is < known.acknowledged || is > known.sent || at < known.revision {
            lost.push(format!("{name} holds {is} at {at}; acknowledged {} at {}, sent {}", known.acknowledged, known.revision, known.sent));
        }
        if !seen.iter().any(|(seen, n, revision)| seen == name && *n == is && *revision == at) {
            lost.push(format!("the watch never saw {name} = {is} at {at}"));
        }
        if relists == 0 && !seen.iter().any(|(seen, n, revision)| seen == name && *n == known.acknowledged && *revision == known.revision) {
            lost.push(format!("the watch never saw the acknowledged {name} = {} at {}", known.acknowledged, known.revision));
        }
    }
    step(&format!("{} events seen, {relists} relists", seen.len()));
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Every line of a container that counts is there, once.
fn check_log(cluster: &Cluster) {
    let text = cluster.kubectl().ok(&["logs", "counter", "-c", "count"]);
    let lines: Vec<&str> = text.lines().collect();
    let wrong = lines.iter().enumerate().find(|(n, line)| n.to_string() != **line);
    assert!(lines.len() > 100 && wrong.is_none(), "{} lines, first wrong: {wrong:?}", lines.len());
}

#[test]
fn sigterm_leaves_containers_to_the_next_server() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(images::TOOLS)) {
        skip!("{reason}");
    }
    let mut cluster = Cluster::with_registry(&[]);
    cluster.apply(COUNTERS);
    cluster.api.ready(WAIT, "counter");
    let processes = cluster.host.processes("sleep 271828");
    step("a second server on the same directory");
    let (status, text) = cluster.run_second();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("another orch server runs on"), "it says why: {text}");

    step("SIGTERM");
    let status = cluster.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "a clean end");
    assert_eq!(cluster.host.processes("sleep 271828"), processes, "the container runs without a server");
    cluster.restart();
    cluster.api.ready(WAIT, "counter");
    let pid = processes[0].0.to_string();
    step("a container that ends while no server runs is noticed by the next");
    cluster.stop(Signal::SIGTERM);
    crate::support::host::checked("kill", std::process::Command::new("kill").args(["-9", &pid]).output().unwrap());
    cluster.restart();
    cluster.api.pod(WAIT, "counter", "has restarted its idle container", |pod| {
        let all = pod["status"]["containerStatuses"].as_array();
        all.is_some_and(|all| all.iter().any(|c| c["name"] == "idle" && c["restartCount"] == 1 && c["ready"] == true))
    });
    check_log(&cluster);
    cluster.kubectl().ok(&["delete", "pod", "counter"]);
}
