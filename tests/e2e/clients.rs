//! Client libraries and programs made for upstream, unchanged: Python's, an operator on kopf, JavaScript's, Rust's controller runtime,
//! and Prometheus' discovery.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::host::{self, checked};
use crate::support::{eventually, images, missing, step, which};

const WAIT: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";

const GREETINGS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: greetings.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: greetings, singular: greeting, kind: Greeting}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, required: [who], properties: {who: {type: string, minLength: 1}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

/// Where the libraries are; `make clients` puts them there.
fn libraries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients").join(name)
}

fn no_python() -> Option<String> {
    let there = libraries().join("python/kopf").is_dir();
    (!there).then(|| "the Python libraries are not installed; `make clients` does it".into())
}

/// A Python program on the cluster's host.
fn python(cluster: &Cluster, limit: Duration, args: &[&str]) -> Command {
    let mut command = cluster.host.limited(limit, "python3");
    command.args(args).env("PYTHONPATH", libraries().join("python")).env("KUBECONFIG", cluster.kubeconfig());
    command
}

fn greet(cluster: &Cluster, name: &str, who: &str) {
    let body = json!({"apiVersion": "example.com/v1", "kind": "Greeting", "metadata": {"name": name}, "spec": {"who": who}});
    let path = "/apis/example.com/v1/namespaces/default/greetings";
    let (code, answer) = cluster.api.call("POST", path, JSON, body.to_string().into_bytes()).unwrap();
    assert_eq!(code, 201, "{answer}");
}

fn define(cluster: &Cluster) {
    cluster.apply(GREETINGS);
    let established = |definition: &Value| crate::support::api::condition(definition, "Established");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/greetings.example.com";
    cluster.api.until(WAIT, "the definition is established", path, established);
}

#[test]
fn python_client() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(images::TOOLS)).or_else(no_python) {
        skip!("{reason}");
    }
    let cluster = Cluster::with_registry(&[]);
    let round = script("round.py");
    let output = python(&cluster, Duration::from_secs(120), &[round.to_str().unwrap()]).output().unwrap();
    assert!(checked("round.py", output).contains("round complete"));
}

#[test]
fn kopf_operator() {
    if let Some(reason) = missing(host::TOOLS).or_else(no_python) {
        skip!("{reason}");
    }
    let cluster = Cluster::start(&["--disable-agent"]);
    define(&cluster);
    let operator = script("operator.py");
    let log = std::fs::File::create(cluster.host.dir.join("operator.log")).unwrap();
    let args = ["-m", "kopf", "run", "--namespace", "default", operator.to_str().unwrap()];
    let mut running = python(&cluster, Duration::from_secs(300), &args).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| operate(&cluster)));
    running.kill().unwrap();
    running.wait().unwrap();
    if let Err(panic) = outcome {
        eprintln!("---- the operator\n{}", std::fs::read_to_string(cluster.host.dir.join("operator.log")).unwrap_or_default());
        std::panic::resume_unwind(panic);
    }
}

fn operate(cluster: &Cluster) {
    let map = |name: &str| format!("/api/v1/namespaces/default/configmaps/{name}");
    let greeting = "/apis/example.com/v1/namespaces/default/greetings/one";
    step("an object is handled");
    greet(cluster, "one", "world");
    cluster.api.until(WAIT, "the map is made", &map("one"), |map| map["data"]["text"] == "hello world");
    let handled = cluster.api.until(WAIT, "the status says so", greeting, |object| object["status"]["greeted"] == "world");
    assert!(handled["metadata"]["finalizers"].to_string().contains("kopf"), "{handled}");
    step("a change is handled");
    let patch = json!({"spec": {"who": "moon"}}).to_string().into_bytes();
    assert_eq!(cluster.api.call("PATCH", greeting, "application/merge-patch+json", patch).unwrap().0, 200);
    cluster.api.until(WAIT, "the map follows", &map("one"), |map| map["data"]["text"] == "hello moon");
    step("a deletion waits for the operator, and takes what it owns");
    assert_eq!(cluster.api.call("DELETE", greeting, JSON, vec![]).unwrap().0, 200);
    cluster.api.until(WAIT, "the operator parts", &map("one-parted"), |_| true);
    for path in [greeting, &map("one")] {
        eventually(WAIT, &format!("{path} is gone"), || match cluster.api.call("GET", path, JSON, vec![])? {
            (404, _) => Ok(()),
            (code, body) => Err(format!("{code} {body}")),
        });
    }
}

#[test]
fn javascript_client() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(&["node"])) {
        skip!("{reason}");
    }
    let modules = libraries().join("node");
    if !modules.join("node_modules/@kubernetes/client-node").is_dir() {
        skip!("the JavaScript library is not installed; `make clients` does it");
    }
    let cluster = Cluster::start(&["--disable-agent"]);
    // Modules are looked for beside the script.
    let round = modules.join("round.mjs");
    std::fs::copy(script("round.mjs"), &round).unwrap();
    let mut command = cluster.host.limited(Duration::from_secs(120), "node");
    let output = command.arg(&round).env("KUBECONFIG", cluster.kubeconfig()).output().unwrap();
    assert!(checked("round.mjs", output).contains("round complete"));
}

/// Each greeting owns a map; what is deleted is made again.
#[test]
fn rust_controller() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let cluster = Cluster::start(&["--disable-agent"]);
    define(&cluster);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Greeting"));
    let client = cluster.api.client.clone();
    let greetings: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let controller = Controller::new_with(greetings, watcher::Config::default(), resource)
        .owns(maps, watcher::Config::default())
        .run(reconcile, |_, error, _| panic!("{error}"), Arc::new(client))
        .for_each(|outcome| async move { drop(outcome.unwrap()) });
    let running = cluster.api.runtime.spawn(controller);
    greet(&cluster, "one", "world");
    let path = "/api/v1/namespaces/default/configmaps/one";
    let made = cluster.api.until(WAIT, "the map is made", path, |map| map["data"]["text"] == "hello world");
    assert_eq!(cluster.api.call("DELETE", path, JSON, vec![]).unwrap().0, 200);
    cluster.api.until(WAIT, "the map is made again", path, |map| map["metadata"]["uid"] != made["metadata"]["uid"]);
    running.abort();
}

async fn reconcile(greeting: Arc<DynamicObject>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let owner = json!({
        "apiVersion": "example.com/v1", "kind": "Greeting", "name": greeting.name_any(), "uid": greeting.uid(), "controller": true,
    });
    let text = format!("hello {}", greeting.data["spec"]["who"].as_str().unwrap_or_default());
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": greeting.name_any(), "ownerReferences": [owner]}, "data": {"text": text},
    });
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), "default");
    maps.patch(&greeting.name_any(), &PatchParams::apply("greeter").force(), &Patch::Apply(&map)).await?;
    Ok(Action::await_change())
}

/// The Prometheus that `make clients` brought, or the machine's own.
fn prometheus() -> Option<PathBuf> {
    let brought = libraries().join("prometheus/usr/bin/prometheus");
    if brought.is_file() { Some(brought) } else { which("prometheus") }
}

/// Whether it was built without discovery in Kubernetes, as Debian 12's was.
fn lacks_discovery(program: &Path) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: [{job_name: a, kubernetes_sd_configs: [{role: node, kubeconfig_file: /nowhere}]}]\n").unwrap();
    let mut command = Command::new(program);
    // A port out of range ends it once it has read its configuration.
    command.arg(format!("--config.file={}", config.display())).args(["--web.listen-address=127.0.0.1:70000", "--storage.tsdb.path"]);
    let output = command.arg(folder.path().join("tsdb")).output();
    output.map_or(true, |output| String::from_utf8_lossy(&output.stderr).contains("field kubernetes_sd_configs not found"))
}

/// What Prometheus is told to find and to scrape: a job for each role, and one that reads the API server's own metrics.
fn scrape_configs(cluster: &Cluster) -> String {
    let config: Value = serde_yaml::from_str(&std::fs::read_to_string(cluster.kubeconfig()).unwrap()).unwrap();
    let file = |name: &str, base64: &Value| {
        use base64::Engine;
        let path = cluster.host.dir.join(name);
        let bytes = base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let user = &config["users"][0]["user"];
    let tls = json!({
        "ca_file": file("ca.crt", &config["clusters"][0]["cluster"]["certificate-authority-data"]),
        "cert_file": file("client.crt", &user["client-certificate-data"]),
        "key_file": file("client.key", &user["client-key-data"]),
    });
    let discovered = |role: &str| json!([{"role": role, "kubeconfig_file": cluster.kubeconfig()}]);
    let mut jobs: Vec<Value> = ["node", "service", "pod", "endpoints", "endpointslice", "ingress"]
        .iter()
        .map(|role| json!({"job_name": role, "kubernetes_sd_configs": discovered(role)}))
        .collect();
    let only = json!([{
        "source_labels": ["__meta_kubernetes_namespace", "__meta_kubernetes_service_name", "__meta_kubernetes_endpoint_port_name"],
        "action": "keep", "regex": "default;kubernetes;https",
    }]);
    jobs.push(json!({
        "job_name": "apiserver", "scheme": "https", "tls_config": tls, "scrape_interval": "1s",
        "kubernetes_sd_configs": discovered("endpoints"), "relabel_configs": only,
    }));
    serde_yaml::to_string(&json!({"scrape_configs": jobs})).unwrap()
}

const WATCHED: &str = "
apiVersion: v1
kind: Service
metadata: {name: watched}
spec: {selector: {app: watched}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: watched, labels: {app: watched}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: hello, image: 'orch.local/orch:self', imagePullPolicy: Never, args: [hello, --listen, '0.0.0.0:8080'], ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: watched}
spec: {rules: [{host: example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: watched, port: {number: 80}}}}]}}]}
";

/// What must be found: the job, and what a target's labels say.
const FOUND: &[(&str, &[(&str, &str)])] = &[
    ("node", &[("__meta_kubernetes_node_name", "node-a"), ("__meta_kubernetes_node_label_kubernetes_io_hostname", "node-a")]),
    ("service", &[("__meta_kubernetes_service_name", "watched"), ("__meta_kubernetes_service_port_name", "http")]),
    (
        "pod",
        &[
            ("__meta_kubernetes_pod_name", "watched"),
            ("__meta_kubernetes_pod_node_name", "node-a"),
            ("__meta_kubernetes_pod_ready", "true"),
            ("__meta_kubernetes_pod_label_app", "watched"),
            ("__meta_kubernetes_pod_container_port_number", "8080"),
        ],
    ),
    ("endpoints", &[("__meta_kubernetes_service_name", "watched"), ("__meta_kubernetes_pod_name", "watched")]),
    ("endpointslice", &[("__meta_kubernetes_endpointslice_label_kubernetes_io_service_name", "watched")]),
    ("ingress", &[("__meta_kubernetes_ingress_host", "example.com"), ("__meta_kubernetes_ingress_name", "watched")]),
];

fn ask_prometheus(path: &str) -> Result<Value, String> {
    let text = crate::support::fetch("127.0.0.1:9090", path)?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Whether the targets of a job are as wanted. Not all are scraped with success: most speak no metrics.
fn targets_found() -> Result<(), String> {
    let answer = ask_prometheus("/api/v1/targets?state=active")?;
    let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    let has = |job: &str, labels: &[(&str, &str)]| {
        let fits = |target: &Value| labels.iter().all(|(label, value)| target["discoveredLabels"][label] == *value);
        targets.iter().any(|target| target["scrapePool"] == job && fits(target))
    };
    match FOUND.iter().find(|(job, labels)| !has(job, labels)) {
        None => Ok(()),
        Some(lacking) => Err(format!("no target {lacking:?} among {}: {}", targets.len(), answer["data"])),
    }
}

/// Whether the API server's metrics were read.
fn scraped() -> Result<(), String> {
    let up = ask_prometheus("/api/v1/query?query=up%7Bjob=%22apiserver%22%7D")?;
    let total = ask_prometheus("/api/v1/query?query=sum(apiserver_request_total%7Bresource=%22pods%22%7D)")?;
    let value = |answer: &Value| answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    match (value(&up), value(&total)) {
        (Some(1.0), Some(total)) if total > 0.0 => Ok(()),
        _ => Err(format!("{up} {total} {}", ask_prometheus("/api/v1/targets?state=active&scrapePool=apiserver")?)),
    }
}

#[test]
fn prometheus_discovery() {
    let Some(program) = prometheus() else { skip!("there is no prometheus; `make clients` brings one") };
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    if lacks_discovery(&program) {
        skip!("this build of prometheus has no kubernetes_sd_configs (Debian 12's has not); `make clients` brings one that has");
    }
    let cluster = Cluster::start(&[]);
    cluster.run(&["image", "self-image"]);
    cluster.apply(WATCHED);
    let config = cluster.host.dir.join("prometheus.yml");
    std::fs::write(&config, scrape_configs(&cluster)).unwrap();
    let mut command = cluster.host.limited(Duration::from_secs(180), program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", cluster.host.dir.join("tsdb").display()));
    command.arg("--web.listen-address=127.0.0.1:9090");
    let log = std::fs::File::create(cluster.host.dir.join("prometheus.log")).unwrap();
    let mut running = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let found = std::panic::catch_unwind(|| {
        eventually(WAIT, "the targets are found", targets_found);
        eventually(WAIT, "the API server is scraped", scraped);
    });
    running.kill().unwrap();
    running.wait().unwrap();
    if let Err(panic) = found {
        eprintln!("---- prometheus\n{}", std::fs::read_to_string(cluster.host.dir.join("prometheus.log")).unwrap_or_default());
        std::panic::resume_unwind(panic);
    }
}
