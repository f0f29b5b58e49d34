//! What is wrong gets a clear answer and changes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::host::{self, Host};
use crate::support::{eventually, fake_registry, missing, step};

const WAIT: Duration = Duration::from_secs(60);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

fn config_map(name: &str, field: &str, content: Value) -> Vec<u8> {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, field: content}).to_string().into_bytes()
}

#[test]
fn requests() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(&["curl"])) {
        skip!("{reason}");
    }
    let cluster = Cluster::start(&["--disable-agent"]);
    unknown_fields(&cluster);
    let create = |body: Vec<u8>| cluster.api.call("POST", MAPS, JSON, body).unwrap();
    let says = |(code, status): &(u16, Value), expected: u16, text: &str| {
        assert_eq!(*code, expected, "{status}");
        assert_eq!(status["kind"], "Status", "{status}");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(text), "{message:?} should say {text:?}");
    };
    step("wrong types, names, syntax, sizes");
    says(&create(config_map("typed", "data", json!({"a": 1}))), 400, "cannot");
    says(&create(config_map("Not_A_Name", "data", json!({}))), 422, "lowercase RFC 1123 subdomain");
    says(&create(b"{".to_vec()), 400, "");
    says(&create(config_map("big", "data", json!({"a": "x".repeat(4 << 20)}))), 413, "Request entity too large: limit is");
    says(&create(config_map("large", "data", json!({"a": "x".repeat((1 << 20) + 1)}))), 422, "Too long");
    says(&cluster.api.call("GET", "/api/v1/namespaces/default/pods/none", JSON, vec![]).unwrap(), 404, "pods \"none\" not found");
    says(&cluster.api.call("GET", "/api/v1/nothing", JSON, vec![]).unwrap(), 404, "the server could not find the requested resource");
    says(&cluster.api.call("PATCH", "/api/v1/namespaces/default", "text/plain", vec![]).unwrap(), 415, "");
    let list = cluster.api.get(MAPS);
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["kept-ignore", "kept-warn", "kube-root-ca.crt"], "nothing else was made");
    strangers(&cluster);
}

fn unknown_fields(cluster: &Cluster) {
    step("unknown fields");
    for (mode, code) in [("Strict", 400), ("Warn", 201), ("Ignore", 201)] {
        let path = format!("{MAPS}?fieldValidation={mode}");
        let body = config_map(&format!("kept-{}", mode.to_lowercase()), "dat", json!({"a": "b"}));
        let got = cluster.api.call("POST", &path, JSON, body).unwrap();
        assert_eq!(got.0, code, "{mode}: {got:?}");
        if mode == "Strict" {
            assert!(got.1["message"].as_str().unwrap().contains("unknown field \"dat\""), "{got:?}");
        }
    }
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: strict}\ndat: {a: b}\n";
    let (done, text) = cluster.kubectl().with_input(&["create", "-f", "-"], yaml);
    assert!(!done && text.contains("unknown field \"dat\""), "{text}");
    let (done, text) = cluster.kubectl().with_input(&["create", "--dry-run=server", "--validate=warn", "-f", "-"], yaml);
    assert!(done && text.contains("unknown field \"dat\""), "{text}");
}

/// Who has no certificate gets nothing but health and version.
fn strangers(cluster: &Cluster) {
    step("clients without a certificate");
    let ask = |path: &str, more: &str| {
        let url = format!("https://127.0.0.1:6443{path}");
        cluster.host.sh(&format!("curl -sk -o /dev/null -w '%{{http_code}}' {more} {url}"))
    };
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(ask(path, ""), "200", "{path}");
    }
    for path in ["/api/v1/secrets", "/apis", "/metrics", "/openapi/v2"] {
        let code = ask(path, "");
        assert!(code == "401" || code == "403", "{path}: {code}");
    }
    assert_eq!(ask("/api/v1/pods", "-H 'Authorization: Bearer nonsense'"), "401");
    let old = cluster.host.sh("curl -sk --tls-max 1.1 -o /dev/null https://127.0.0.1:6443/version || echo refused");
    assert_eq!(old, "refused\n", "TLS before 1.2");
}

fn pod(name: &str, image: &str) -> String {
    let spec = json!({"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

#[test]
fn images_that_can_not_be_had() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let cluster = Cluster::start(&[]);
    fake_registry::start();
    // Name, image, part of the reason given in the event.
    let cases = [
        ("closed", "127.0.0.1:5000/none:1", "127.0.0.1:5000"),
        ("truncated", "127.0.0.1:5001/truncated:1", ""),
        ("wrong", "127.0.0.1:5001/wrong:1", "sha256:"),
        ("invalid", "127.0.0.1:5001/UPPER:1", ""),
    ];
    for (name, image, _) in cases {
        cluster.apply(&pod(name, image));
    }
    for (name, image, why) in cases {
        step(name);
        let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or("").to_owned();
        if name == "invalid" {
            cluster.api.pod(WAIT, name, "has an invalid image name", |pod| waiting(pod) == "InvalidImageName");
            continue;
        }
        cluster.api.pod(WAIT, name, "fails to pull", |pod| waiting(pod).starts_with("ErrImagePull") || waiting(pod) == "ImagePullBackOff");
        cluster.api.pod(WAIT, name, "backs off", |pod| waiting(pod) == "ImagePullBackOff");
        let message = cluster.api.event(WAIT, name, "Failed", image);
        assert!(message.contains(why), "{message:?} should name {why:?}");
        cluster.api.event(WAIT, name, "Failed", "ErrImagePull");
        cluster.api.event(WAIT, name, "BackOff", "Back-off pulling image");
    }
    assert!(!cluster.run(&["image", "ls"]).contains("127.0.0.1"), "nothing of them was kept");
    for (name, ..) in cases {
        cluster.kubectl().ok(&["delete", "pod", name]);
    }
}

#[test]
fn a_full_disk() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let host = Host::new();
    let data = host.dir.join("data");
    host.sh(&format!("mkdir {0}; mount -t tmpfs -o size=128m tmpfs {0}", data.display()));
    let cluster = Cluster::on(host, None, &["--disable-agent"]);
    let write = |name: &str| {
        let data = json!({"a": "x".repeat(200_000)});
        cluster.api.call("POST", MAPS, JSON, config_map(name, "data", data)).unwrap()
    };
    assert_eq!(write("before").0, 201);
    step("fill it");
    cluster.host.sh(&format!("dd if=/dev/zero of={}/filler bs=64k 2>/dev/null || true", data.display()));
    let mut written = vec!["before".to_string()];
    let (code, status) = eventually(WAIT, "writes are refused", || {
        let name = format!("during-{}", written.len());
        let answer = write(&name);
        if answer.0 == 201 {
            written.push(name);
            return Err("it still fits".into());
        }
        Ok(answer)
    });
    assert!((500..=507).contains(&code), "{code} {status}");
    assert_eq!(status["kind"], "Status", "{status}");
    let message = status["message"].as_str().unwrap().to_lowercase();
    assert!(message.contains("space") || message.contains("full") || message.contains("write"), "{message}");
    step("reads go on");
    for name in &written {
        assert_eq!(cluster.api.get(&format!("{MAPS}/{name}"))["metadata"]["name"], name.as_str());
    }
    step("and it recovers when there is space");
    cluster.host.sh(&format!("rm {}/filler", data.display()));
    let after = eventually(WAIT, "writes are accepted again", || match write("after") {
        (201, object) => Ok(object),
        (code, status) => Err(format!("{code} {status}")),
    });
    assert_eq!(after["metadata"]["name"], "after");
    let mut cluster = cluster;
    cluster.stop(nix::sys::signal::Signal::SIGKILL);
    cluster.restart();
    for name in written.iter().map(String::as_str).chain(["after"]) {
        cluster.api.get(&format!("{MAPS}/{name}"));
    }
}
