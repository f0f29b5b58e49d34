//! What the tests of this module share: a catalog, and a session over a table of answers.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::catalog::{Catalog, Resource};
use super::flags::Global;
use super::session::{Connection, Session};

const RESOURCES: &[(&str, &str, &str, &str, &str, &str, bool)] = &[
    ("", "v1", "events", "Event", "ev", "", true),
    ("", "v1", "pods", "Pod", "po", "all", true),
    ("", "v1", "services", "Service", "svc", "all", true),
    ("", "v1", "nodes", "Node", "no", "", false),
    ("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", "csr", "", false),
    ("", "v1", "namespaces", "Namespace", "ns", "", false),
    ("", "v1", "configmaps", "ConfigMap", "cm", "", true),
    ("", "v1", "replicationcontrollers", "ReplicationController", "rc", "", true),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", "", true),
    ("apps", "v1", "deployments", "Deployment", "deploy", "all", true),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", "all", true),
    ("events.k8s.io", "v1", "events", "Event", "ev", "", true),
];

/// A small catalog.
pub fn catalog() -> Catalog {
    let resource = |(group, version, name, kind, short, category, namespaced): &(&str, &str, &str, &str, &str, &str, bool)| Resource {
        group: group.to_string(),
        version: version.to_string(),
        name: name.to_string(),
        singular: kind.to_lowercase(),
        kind: kind.to_string(),
        short_names: vec![short.to_string()],
        categories: Some(category.to_string()).filter(|category| !category.is_empty()).into_iter().collect(),
        verbs: ["get", "list", "watch", "create", "patch", "delete"].map(str::to_string).to_vec(),
        subresources: Vec::new(),
        namespaced: *namespaced,
    };
    Catalog { resources: RESOURCES.iter().map(resource).collect() }
}

fn discovery(core: bool) -> Value {
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for resource in catalog().resources.into_iter().filter(|resource| resource.group.is_empty() == core) {
        groups.entry(resource.group).or_default().push(json!({
            "resource": resource.name, "singularResource": resource.singular, "shortNames": resource.short_names,
            "categories": resource.categories, "verbs": resource.verbs, "responseKind": {"kind": resource.kind},
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        }));
    }
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(name, resources)| json!({"metadata": {"name": name}, "versions": [{"version": "v1", "resources": resources}]}))
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "items": items})
}

/// What a session printed, and what it asked for.
#[derive(Clone, Default)]
pub struct Record {
    out: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Record {
    /// Standard output.
    pub fn output(&self) -> String {
        String::from_utf8(self.out.lock().clone()).unwrap()
    }

    /// `METHOD path?query body` of each request but discovery's.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

impl Write for Record {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A session whose server knows these answers, by `METHOD path` without the query; to all else it says NotFound. A status has its own code.
pub fn session(answers: &[(&str, &str)]) -> (Session, Record) {
    let record = Record::default();
    let requests = record.requests.clone();
    let mut known: BTreeMap<String, String> = answers.iter().map(|(request, yaml)| (request.to_string(), to_json(yaml))).collect();
    known.insert("GET /api".into(), discovery(true).to_string());
    known.insert("GET /apis".into(), discovery(false).to_string());
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (known, requests) = (known.clone(), requests.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
            let line = format!("{} {}", parts.method, parts.uri.path());
            if !line.ends_with("/api") && !line.ends_with("/apis") {
                let shown = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
                requests.lock().push(shown.trim().to_string());
            }
            let (code, text) = match known.get(&line) {
                Some(text) => (failure(text).unwrap_or(200), text.clone()),
                None => {
                    let mut parts = parts.uri.path().rsplit('/');
                    let (name, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                    let message = format!("{resource} {name:?} not found");
                    (404, json!({"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404, "message": message}).to_string())
                }
            };
            let answer = http::Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap();
            Ok::<_, kube::Error>(answer)
        }
    });
    let connection = Connection { client: kube::Client::new(service, "default"), server: "test:6443".into(), namespace: "default".into() };
    (Session::with(Global::default(), connection, Box::new(record.clone())), record)
}

/// The code of an answer that is a status of failure.
fn failure(text: &str) -> Option<u16> {
    let answer: Value = serde_json::from_str(text).ok()?;
    answer["code"].as_u64().filter(|_| answer["kind"] == "Status").and_then(|code| u16::try_from(code).ok())
}

/// YAML documents become lines of JSON, so that a watch can be written too.
fn to_json(yaml: &str) -> String {
    yaml.split("\n---\n").map(|document| serde_yaml::from_str::<Value>(document).unwrap().to_string()).collect::<Vec<_>>().join("\n")
}
