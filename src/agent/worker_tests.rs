//! One pod from its creation to its deletion, against a recording runtime and an API in memory, in paused time.
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use http_body_util::BodyExt;
use oci_spec::runtime::LinuxResources;
use parking_lot::Mutex;

use serde_json::json;

use super::*;
use crate::agent::edge::{ImageStore, PodNetwork};
use crate::agent::plan::tests::pod;
use crate::agent::{AgentConfig, Context, events, sources};
use crate::net::{Attachment, NetError};
use crate::runtime::image::{Credentials, ImageError};
use crate::runtime::{ContainerConfig, Error, ExecConfig, Exit, Phase, SandboxConfig, Session, Stats};

/// Records calls; containers end only by SIGKILL or by order of the test.
#[derive(Default)]
struct Double {
    calls: Mutex<Vec<String>>,
    containers: Mutex<Vec<ContainerState>>,
    inbox: Mutex<Option<Inbox>>,
}

impl Double {
    fn call(&self, text: String) {
        self.calls.lock().push(text);
    }
    fn end(&self, id: &str, code: i32) {
        let now = Timestamp::now();
        for container in self.containers.lock().iter_mut().filter(|c| c.id == id) {
            container.phase = Phase::Exited { code, oom_killed: false, started: now, finished: now };
        }
        let _ = self.inbox.lock().as_ref().unwrap().send(Message::Exit(Some(id.into())));
    }
}

impl Runtime for Double {
    async fn limit_group(&self, _: &str, _: &LinuxResources) -> Result<(), Error> {
        Ok(())
    }
    async fn sandboxes(&self) -> Result<Vec<RunSandbox>, Error> {
        Ok(Vec::new())
    }
    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<RunSandbox, Error> {
        self.call(format!("sandbox {}", config.cgroup));
        Ok(RunSandbox { config: config.clone(), pid: 42, containers: Vec::new() })
    }
    async fn remove_sandbox(&self, _: &str) -> Result<(), Error> {
        self.call("remove".into());
        Ok(())
    }
    async fn containers(&self, _: &str) -> Result<Vec<ContainerState>, Error> {
        Ok(self.containers.lock().clone())
    }
    async fn create_container(&self, _: &str, config: &ContainerConfig) -> Result<(), Error> {
        let joins = config.joins.as_ref().map(|target| format!(" joins {target}")).unwrap_or_default();
        self.call(format!("create {}{joins}", config.id));
        let state = ContainerState { id: config.id.clone(), labels: config.labels.clone(), phase: Phase::Created };
        self.containers.lock().push(state);
        Ok(())
    }
    async fn start_container(&self, _: &str, id: &str) -> Result<(), Error> {
        self.call(format!("start {id}"));
        for container in self.containers.lock().iter_mut().filter(|c| c.id == id) {
            container.phase = Phase::Running { pid: 43, started: Timestamp::now() };
        }
        Ok(())
    }
    async fn signal_container(&self, _: &str, id: &str, signal: i32) -> Result<(), Error> {
        self.call(format!("signal {id} {signal}"));
        if signal == 9 {
            self.end(id, 137);
        }
        Ok(())
    }
    async fn remove_container(&self, _: &str, id: &str) -> Result<(), Error> {
        self.call(format!("forget {id}"));
        self.containers.lock().retain(|c| c.id != id);
        Ok(())
    }
    async fn exec(&self, _: &str, id: &str, exec: &ExecConfig) -> Result<Session, Error> {
        self.call(format!("exec {id} {}", exec.args.join(" ")));
        let (send, exit) = tokio::sync::oneshot::channel();
        let _ = send.send(i32::from(exec.args == ["false"]));
        Ok(Session { stdin: None, stdout: None, stderr: None, resize: mpsc::channel(1).0, exit })
    }
    async fn attach(&self, _: &str, id: &str, _: bool) -> Result<Session, Error> {
        Err(Error::NotFound(id.into()))
    }
    async fn resize_group(&self, path: &str, resources: &LinuxResources) -> Result<(), Error> {
        let cpu = resources.cpu().as_ref().and_then(|cpu| cpu.quota()).map(|quota| format!(" cpu {quota}"));
        let memory = resources.memory().as_ref().and_then(|memory| memory.limit()).map(|limit| format!(" memory {limit}"));
        self.call(format!("resize {path}{}{}", cpu.unwrap_or_default(), memory.unwrap_or_default()));
        Ok(())
    }
    async fn stats(&self, _: &str) -> Result<Stats, Error> {
        Ok(Stats { usage_bytes: 100, ..Stats::default() })
    }
    fn exits(&self) -> mpsc::UnboundedReceiver<Exit> {
        mpsc::unbounded_channel().1
    }
}

/// Has one image, after so many failed pulls.
struct OneImage(AtomicU32);

impl ImageStore for OneImage {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<RunImage>, ImageError>> {
        Box::pin(async { Ok(None) })
    }
    fn pull<'a>(&'a self, reference: &'a str, _: &'a [Credentials]) -> BoxFuture<'a, Result<RunImage, ImageError>> {
        Box::pin(async move {
            if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                return Err(ImageError::Pull { reference: reference.into(), why: "not found".into() });
            }
            let config = serde_yaml::from_str("{Entrypoint: [/e]}").unwrap();
            Ok(RunImage { id: "sha256:1".into(), repo_digests: vec![], repo_tags: vec![], layers: vec![], config, size: 7 })
        })
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<RunImage>, ImageError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct NoNetwork;

impl PodNetwork for NoNetwork {
    fn attach<'a>(&'a self, _: &'a str, _: i32) -> BoxFuture<'a, Result<Attachment, NetError>> {
        Box::pin(async { Ok(Attachment { address: [10, 0, 0, 5].into(), gateway: [10, 0, 0, 1].into() }) })
    }
    fn detach<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), NetError>> {
        Box::pin(async { Ok(()) })
    }
}

type Requests = mpsc::UnboundedReceiver<(String, serde_json::Value)>;

/// An API server that takes everything and tells the test of it.
fn api() -> (crate::client::Client, Requests) {
    let (send, requests) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let send = send.clone();
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let _ = send.send((line.clone(), body.clone()));
            let answer =
                if line.contains("/events") { body } else { json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}) };
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::from(answer.to_string().into_bytes())))
        }
    });
    (crate::client::Client::new(service, "default"), requests)
}

struct Scene {
    runtime: Arc<Double>,
    requests: Requests,
    events: Vec<String>,
    inbox: Inbox,
    worker: tokio::task::JoinHandle<String>,
    home: tempfile::TempDir,
}

fn scene(pod: Pod, failing_pulls: u32) -> Scene {
    scene_with(pod, failing_pulls, Vec::new())
}

/// With what an earlier agent left.
fn scene_with(pod: Pod, failing_pulls: u32, left: Vec<ContainerState>) -> Scene {
    let home = tempfile::tempdir().unwrap();
    let (client, requests) = api();
    let config = Arc::new(AgentConfig {
        node_name: "n".into(),
        node_ip: "192.0.2.1".parse().unwrap(),
        data_dir: home.path().into(),
        key_hash: String::new(),
        cluster_dns: [10, 43, 0, 10].into(),
        cluster_domain: "cluster.local".into(),
        pod_cidr: None,
        cluster_cidr: "10.42.0.0/16".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        vxlan: Default::default(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        lease_seconds: 40,
        kubelet_port: 10250,
        max_pods: 110,
        pod_pids: None,
        resolv_conf: home.path().join("resolv.conf"),
        seccomp_dir: home.path().join("seccomp"),
        log_max_bytes: 1 << 20,
        log_files: 2,
    });
    let (base, began) = (Timestamp::now(), tokio::time::Instant::now());
    let runtime = Arc::new(Double::default());
    let context = Arc::new(Context {
        events: events::Events::new(client.clone(), "n"),
        sources: sources::Sources::new(client.clone()),
        client,
        runtime: runtime.clone(),
        images: Arc::new(OneImage(AtomicU32::new(failing_pulls))),
        net: Arc::new(NoNetwork),
        tokens: Mutex::default(),
        services: tokio::sync::watch::channel(Some(Default::default())).1,
        clock: Arc::new(move || later(base, began.elapsed())),
        mount_tmpfs: |_, _| Ok(()),
        unmount: |_| Ok(()),
        capacity: crate::agent::qos::Capacity { cpu: 1000, memory: 1 << 30, pids: 1000, huge_pages: Vec::new() },
        config: config.clone(),
    });
    runtime.containers.lock().clone_from(&left);
    let sandbox = RunSandbox { config: SandboxConfig { id: "u".into(), ..SandboxConfig::default() }, pid: 42, containers: left.clone() };
    let found = (!left.is_empty()).then_some((sandbox, "10.0.0.5".parse().ok()));
    let (worker, inbox) = Worker::new(context, Arc::new(pod), Pods::new(config), found);
    *runtime.inbox.lock() = Some(inbox.clone());
    Scene { runtime, requests, events: Vec::new(), inbox, worker: tokio::spawn(worker.run()), home }
}

impl Scene {
    /// Waits for a status that shows this of the only container: its state's reason (or `running`), and its restart count.
    async fn until(&mut self, state: &str, restarts: i64) -> serde_json::Value {
        let wait = async {
            loop {
                let (line, body) = self.requests.recv().await.expect("the API lives as long as the scene");
                if line.ends_with("/events") {
                    self.events.push(format!("{}: {}", body["reason"].as_str().unwrap(), body["message"].as_str().unwrap()));
                }
                let container = &body["status"]["containerStatuses"][0];
                let word = match &container["state"] {
                    s if s["running"].is_object() => "running".to_owned(),
                    s => s["waiting"]["reason"].as_str().or(s["terminated"]["reason"].as_str()).unwrap_or_default().to_owned(),
                };
                if line.ends_with("/status") && word == state && container["restartCount"] == restarts {
                    return body["status"].clone();
                }
            }
        };
        let result = tokio::time::timeout(Duration::from_secs(120), wait).await;
        result.unwrap_or_else(|_| panic!("no status with {state} {restarts}; calls {:?}", self.runtime.calls.lock()))
    }
    fn calls(&self) -> String {
        std::mem::take(&mut *self.runtime.calls.lock()).join(", ")
    }
}

#[tokio::test(start_paused = true)]
async fn a_life() {
    let one = pod("{containers: [{name: a, image: x}]}");
    let mut scene = scene(one.clone(), 0);
    let status = scene.until("running", 0).await;
    assert_eq!((&status["phase"], &status["podIP"]), (&json!("Running"), &json!("10.0.0.5")));
    assert_eq!(status["containerStatuses"][0]["containerID"], "orch://u/a-0");
    assert_eq!(scene.calls(), "sandbox orch/besteffort/podu, create a-0, start a-0");
    scene.runtime.end("a-0", 1);
    scene.until("running", 1).await;
    scene.runtime.end("a-1", 2);
    let status = scene.until("CrashLoopBackOff", 1).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 2);
    scene.until("running", 2).await;
    assert!(scene.calls().starts_with("create a-1, start a-1, create a-2, start a-2"));
    let mut deleted = one;
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()));
    deleted.metadata.deletion_grace_period_seconds = Some(30);
    let _ = scene.inbox.send(Message::Pod(Arc::new(deleted)));
    let before = tokio::time::Instant::now();
    scene.until("Error", 2).await;
    assert!(before.elapsed() >= Duration::from_secs(30), "the grace is given in full");
    let uid = tokio::time::timeout(Duration::from_secs(60), &mut scene.worker).await.expect("ends").unwrap();
    assert_eq!(uid, "u");
    let calls = scene.calls();
    assert!(calls.ends_with("signal a-2 15, signal a-2 9, remove"), "{calls}");
    let mut deletes = Vec::new();
    while let Ok((line, body)) = scene.requests.try_recv() {
        if line.starts_with("DELETE") {
            deletes.push(body);
        }
    }
    assert_eq!(deletes.len(), 1);
    assert_eq!((&deletes[0]["gracePeriodSeconds"], &deletes[0]["preconditions"]["uid"]), (&json!(0), &json!("u")));
    assert!(!scene.home.path().join("pods/u").exists() && !scene.home.path().join("log/pods/d_p_u").exists());
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_its_health_is_put_right() {
    let mut one = pod("{containers: [{name: a, image: x}]}");
    let mut scene = scene(one.clone(), 0);
    let status = scene.until("running", 0).await;
    one.status = serde_json::from_value(status).unwrap();
    one.metadata.resource_version = Some("7".into());
    let _ = scene.inbox.send(Message::Pod(Arc::new(one.clone())));
    // As the server writes when it does not hear of the node.
    for condition in one.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.status = "False".into();
    }
    one.metadata.resource_version = Some("8".into());
    let _ = scene.inbox.send(Message::Pod(Arc::new(one)));
    let status = scene.until("running", 0).await;
    let ready = status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn a_missing_image() {
    let mut scene = scene(pod("{containers: [{name: a, image: x}]}"), 1);
    let status = scene.until("ErrImagePull", 0).await;
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["message"], "failed to pull image \"x\": pulling x: not found");
    scene.until("ImagePullBackOff", 0).await;
    scene.until("running", 0).await;
    for event in [
        "Pulling: Pulling image \"x\"",
        "Failed: Failed to pull image \"x\": pulling x: not found",
        "Failed: Error: ErrImagePull",
        "BackOff: Back-off pulling image \"x\"",
    ] {
        assert!(scene.events.iter().any(|e| e == event), "{event} in {:?}", scene.events);
    }
}

fn left(attempt: u32, phase: Phase) -> ContainerState {
    let labels = [("container", "a".to_owned()), ("attempt", attempt.to_string()), ("image", "x".into())];
    let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    ContainerState { id: format!("a-{attempt}"), labels, phase }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_returns_restarts_nothing() {
    let now = Timestamp::now();
    let dead = |attempt| left(attempt, Phase::Exited { code: 1, oom_killed: false, started: now, finished: now });
    let running = left(2, Phase::Running { pid: 7, started: now });
    let mut scene = scene_with(pod("{containers: [{name: a, image: x}]}"), 0, vec![dead(0), dead(1), running]);
    let status = scene.until("running", 2).await;
    assert_eq!((&status["phase"], &status["containerStatuses"][0]["ready"]), (&json!("Running"), &json!(true)));
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(scene.calls(), "forget a-0", "only the oldest dead run is removed");
}

#[tokio::test(start_paused = true)]
async fn ephemeral_containers_run_once() {
    let mut one = pod("{containers: [{name: a, image: x}], ephemeralContainers: [{name: e, image: x, targetContainerName: a},
        {name: f, image: x, targetContainerName: a}, {name: g, image: x}]}");
    let told = "{ephemeralContainerStatuses: [{name: e, image: x, imageID: '', ready: false, restartCount: 0, containerID: 'orch://u/e-0',
        state: {running: {startedAt: '2026-01-01T00:00:00Z'}}}, {name: f, image: x, imageID: '', ready: false, restartCount: 0}]}";
    one.status = serde_yaml::from_str(told).unwrap();
    let running = left(2, Phase::Running { pid: 7, started: Timestamp::now() });
    let mut scene = scene_with(one, 0, vec![running]);
    let ephemeral = |status: &serde_json::Value, at: usize| status["ephemeralContainerStatuses"][at]["state"].clone();
    let mut status = scene.until("running", 2).await;
    while !ephemeral(&status, 2)["running"].is_object() || !ephemeral(&status, 1)["running"].is_object() {
        status = scene.until("running", 2).await;
    }
    let lost = &ephemeral(&status, 0)["terminated"];
    assert_eq!((&lost["exitCode"], &lost["reason"]), (&json!(137), &json!("ContainerStatusUnknown")), "it was here with another sandbox");
    let calls = scene.calls();
    assert!(calls.contains("create f-0 joins a-2") && calls.contains("create g-0, ") && !calls.contains("e-0"), "{calls}");
    scene.runtime.end("f-0", 1);
    let ended = async { while !ephemeral(&scene.until("running", 2).await, 1)["terminated"].is_object() {} };
    tokio::time::timeout(Duration::from_secs(600), ended).await.expect("the end is told");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(scene.calls(), "", "nothing is started again, nothing is forgotten");
}

/// A pod of this generation with one container that has these resources as requests and limits.
fn sized(generation: i64, resources: &str) -> Pod {
    let one = format!("{{containers: [{{name: a, image: x, resources: {{requests: {resources}, limits: {resources}}}}}]}}");
    let mut pod = pod(&one);
    pod.metadata.generation = Some(generation);
    pod
}

/// The conditions of a resize: `TYPE REASON GENERATION`.
fn resizing(status: &serde_json::Value) -> Vec<String> {
    let all = status["conditions"].as_array().unwrap().iter().filter(|c| c["type"].as_str().unwrap().starts_with("PodResize"));
    let text = |c: &serde_json::Value| match c["$patch"].as_str() {
        Some(patch) => format!("{} {patch}", c["type"].as_str().unwrap()),
        None => format!("{} {} {}", c["type"].as_str().unwrap(), c["reason"].as_str().unwrap_or("-"), c["observedGeneration"]),
    };
    all.map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn resizes_are_granted_or_wait() {
    let mut scene = scene(sized(1, "{cpu: 200m, memory: 1Mi}"), 0);
    let status = scene.until("running", 0).await;
    assert_eq!(status["containerStatuses"][0]["resources"]["limits"]["cpu"], "200m");
    scene.calls();
    let _ = scene.inbox.send(Message::Pod(Arc::new(sized(2, "{cpu: 500m, memory: 1Mi}"))));
    let mut status = scene.until("running", 0).await;
    while status["containerStatuses"][0]["resources"]["limits"]["cpu"] != "500m" {
        assert_eq!(resizing(&status), ["PodResizeInProgress - 2"]);
        assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "500m");
        status = scene.until("running", 0).await;
    }
    assert_eq!(resizing(&status), ["PodResizeInProgress delete"]);
    assert_eq!(scene.calls(), "resize orch/podu cpu 50000, resize orch/podu/a-0 cpu 50000");
    // More than the node has, of which this agent says 1 CPU and 1 GiB.
    let _ = scene.inbox.send(Message::Pod(Arc::new(sized(3, "{cpu: 2, memory: 1Mi}"))));
    let status = scene.until("running", 0).await;
    assert_eq!(resizing(&status), ["PodResizePending Infeasible 3"]);
    assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "500m");
    // Less than the 100 bytes that are used.
    let _ = scene.inbox.send(Message::Pod(Arc::new(sized(4, "{cpu: 500m, memory: 50}"))));
    let mut status = scene.until("running", 0).await;
    while !resizing(&status).contains(&"PodResizeInProgress Error 4".to_owned()) {
        status = scene.until("running", 0).await;
    }
    let why = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "PodResizeInProgress").unwrap();
    assert_eq!(why["message"], "attempting to set container \"a\" memory limit (50) below current usage (100)");
    assert_eq!(scene.calls(), "");
    // Back: nothing is left to be done.
    let _ = scene.inbox.send(Message::Pod(Arc::new(sized(5, "{cpu: 500m, memory: 1Mi}"))));
    let mut status = scene.until("running", 0).await;
    while resizing(&status) != ["PodResizeInProgress delete"] {
        status = scene.until("running", 0).await;
    }
    // An agent that comes later knows what was given.
    let record = std::fs::read_to_string(scene.home.path().join("pods/u/resources.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["given"]["containers"]["a"]["limits"], json!({"cpu": "500m", "memory": "1Mi"}));
    for event in ["ResizeStarted: Pod resize started: {", "ResizeInfeasible: Pod resize Infeasible: {", "ResizeCompleted: Pod resize"] {
        assert!(scene.events.iter().any(|e| e.starts_with(event)), "{event} in {:?}", scene.events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_made_again() {
    let mut scene = scene(pod("{containers: [{name: a, image: x}]}"), 0);
    scene.until("running", 0).await;
    scene.calls();
    scene.runtime.containers.lock().clear();
    let _ = scene.inbox.send(Message::Exit(None));
    let status = scene.until("running", 1).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(scene.calls(), "remove, sandbox orch/besteffort/podu, create a-1, start a-1");
}

#[tokio::test(start_paused = true)]
async fn a_failing_liveness_probe_restarts() {
    let probe = "{exec: {command: ['false']}, periodSeconds: 5, failureThreshold: 2, terminationGracePeriodSeconds: 3}";
    let one =
        format!("{{containers: [{{name: a, image: x, livenessProbe: {probe}, lifecycle: {{preStop: {{exec: {{command: [bye]}}}}}}}}]}}");
    let mut scene = scene(pod(&one), 0);
    scene.until("running", 0).await;
    scene.until("running", 1).await;
    let calls = scene.calls();
    let want = "exec a-0 false, exec a-0 false, exec a-0 bye, signal a-0 15, signal a-0 9, create a-1, start a-1";
    assert!(calls.contains(want), "{calls}");
    let killing = "Killing: Container a failed liveness probe, will be restarted";
    assert!(scene.events.iter().any(|e| e == killing) && scene.events.iter().any(|e| e.starts_with("Unhealthy: Liveness probe failed:")));
}

#[tokio::test(start_paused = true)]
async fn one_shot_pods_end() {
    let mut scene = scene(pod("{restartPolicy: Never, containers: [{name: a, image: x}]}"), 0);
    scene.until("running", 0).await;
    std::fs::write(scene.home.path().join("pods/u/containers/a/0"), "last words").unwrap();
    scene.runtime.end("a-0", 0);
    let status = scene.until("Completed", 0).await;
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["message"], "last words");
    let _ = scene.inbox.send(Message::Gone);
    tokio::time::timeout(Duration::from_secs(60), &mut scene.worker).await.expect("ends").unwrap();
    assert!(scene.calls().ends_with("remove"));
}
