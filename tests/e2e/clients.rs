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

/// Whether this machine's Prometheus was built without discovery in Kubernetes.
fn lacks_discovery() -> bool {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&config, "scrape_configs: [{job_name: a, kubernetes_sd_configs: [{role: node, api_server: 'https://h'}]}]\n").unwrap();
    let checked = Command::new("promtool").args(["check", "config"]).arg(config.path()).output();
    checked.map_or(true, |output| String::from_utf8_lossy(&output.stderr).contains("field kubernetes_sd_configs not found"))
}

#[test]
fn prometheus_discovery() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(&["prometheus"])) {
        skip!("{reason}");
    }
    if lacks_discovery() {
        skip!("this build of prometheus has no kubernetes_sd_configs (Debian's has not)");
    }
    let cluster = Cluster::start(&[]);
    cluster.apply("{apiVersion: v1, kind: Service, metadata: {name: watched}, spec: {ports: [{name: http, port: 80}]}}");
    let config = cluster.host.dir.join("prometheus.yml");
    let jobs: String = ["node", "service", "pod", "endpoints", "endpointslice", "ingress"]
        .iter()
        .map(|role| {
            format!(
                "- job_name: {role}\n  kubernetes_sd_configs: [{{role: {role}, kubeconfig_file: '{}'}}]\n",
                cluster.kubeconfig().display()
            )
        })
        .collect();
    std::fs::write(&config, format!("scrape_configs:\n{jobs}")).unwrap();
    let program = which("prometheus").unwrap();
    let mut command = cluster.host.limited(Duration::from_secs(120), program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", cluster.host.dir.join("tsdb").display()));
    command.arg("--web.listen-address=127.0.0.1:9090");
    let log = std::fs::File::create(cluster.host.dir.join("prometheus.log")).unwrap();
    let mut running = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let found = std::panic::catch_unwind(|| {
        eventually(WAIT, "the targets are found", || {
            let text = crate::support::fetch("127.0.0.1:9090", "/api/v1/targets?state=active")?;
            let answer: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let has = |job: &str, label: &str, value: &str| {
                targets.iter().any(|t| t["labels"]["job"] == job && t["discoveredLabels"][label] == value)
            };
            let wanted = [
                ("node", "__meta_kubernetes_node_name", "node-a"),
                ("service", "__meta_kubernetes_service_name", "watched"),
                ("endpoints", "__meta_kubernetes_service_name", "kubernetes"),
                ("endpointslice", "__meta_kubernetes_endpointslice_label_kubernetes_io_service_name", "kubernetes"),
            ];
            match wanted.iter().find(|(job, label, value)| !has(job, label, value)) {
                None => Ok(()),
                Some(lacking) => Err(format!("no target {lacking:?} among {}", targets.len())),
            }
        });
    });
    running.kill().unwrap();
    running.wait().unwrap();
    if let Err(panic) = found {
        eprintln!("---- prometheus\n{}", std::fs::read_to_string(cluster.host.dir.join("prometheus.log")).unwrap_or_default());
        std::panic::resume_unwind(panic);
    }
}
