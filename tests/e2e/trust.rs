//! What a stolen credential opens, what a line that was tampered with does, and whom an agent believes: each refusal says why, and what to
//! do, on both sides, and shows no secret.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::skip;
use crate::support::agent::Agent;
use crate::support::api::{Api, condition};
use crate::support::cluster::{Cluster, ORCH};
use crate::support::host;
use crate::support::lan::Lan;
use crate::support::{missing, step};

const WAIT: Duration = Duration::from_secs(60);
const SERVER: &str = "https://10.99.0.2:6443";
/// Of a secret; nobody may see it who was not to.
const VALUE: &str = "correct-horse-battery";

fn bed(agents: usize) -> (Cluster, Vec<Agent>) {
    let lan = Lan::new();
    let server = lan.host();
    server.enter();
    let cluster = Cluster::on(server, None, &["--disable-agent"]);
    let token = cluster.run_as_admin(&["token", "create"]);
    let mut agents: Vec<Agent> = (0..agents).map(|_| Agent::new(lan.host(), SERVER, &[])).collect();
    for agent in &mut agents {
        agent.start(&["--token", token.trim()]);
        ready(&cluster.api, &agent.host.name);
    }
    (cluster, agents)
}

fn ready(api: &Api, node: &str) {
    api.until(WAIT, &format!("{node} is ready"), &format!("/api/v1/nodes/{node}"), |node| condition(node, "Ready"));
}

/// The API as whoever has the files of this node.
fn as_node(agent: &Agent) -> Api {
    let folder = agent.host.dir.join("data/agent");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let identity = read("client.pem");
    let (certificate, key) = identity.split_at(identity.find("-----BEGIN PRIVATE KEY-----").unwrap());
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": SERVER, "certificate-authority-data": encode(&read("ca.pem"))}}],
        "users": [{"name": "u", "user": {"client-certificate-data": encode(certificate), "client-key-data": encode(key)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let path = agent.host.dir.join("stolen.yaml");
    fs::write(&path, kubeconfig.to_string()).unwrap();
    Api::new(&path).unwrap()
}

/// A request for the certificate of a node.
fn signing_request(name: &str, node: &str) -> serde_json::Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["digital signature", "client auth"],
            "request": base64::engine::general_purpose::STANDARD.encode(pem)},
    })
}

const OBJECTS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: mine}
stringData: {value: VALUE-mine}
---
apiVersion: v1
kind: Secret
metadata: {name: theirs}
stringData: {value: VALUE-theirs}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: theirs}
---
apiVersion: v1
kind: Pod
metadata: {name: mine}
spec:
  nodeName: node-b
  containers: [{name: c, image: none, imagePullPolicy: Never, envFrom: [{secretRef: {name: mine}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: theirs}
spec:
  nodeName: node-c
  containers: [{name: c, image: none, imagePullPolicy: Never, envFrom: [{secretRef: {name: theirs}}, {configMapRef: {name: theirs}}]}]
"#;

#[test]
fn a_nodes_credential_opens_nothing_of_others() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let (cluster, agents) = bed(2);
    cluster.apply(&OBJECTS.replace("VALUE", VALUE));
    let stolen = as_node(&agents[0]);
    let ns = "/api/v1/namespaces/default";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let merge = "application/merge-patch+json";
    step("what is its own");
    assert_eq!(stolen.get(&format!("{ns}/secrets/mine"))["metadata"]["name"], "mine");
    assert_eq!(stolen.get(&format!("{leases}/node-b"))["metadata"]["name"], "node-b");
    step("what is not");
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let plain_pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "node-b", "containers": [{"name": "c", "image": "x"}]}});
    let some_status = json!({"status": {"phase": "Running"}});
    let nobody_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let untainted = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let role = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let unrelated = "no relationship found between node 'node-b' and this object";
    let cases: &[(&str, String, &serde_json::Value, &str)] = &[
        ("GET", format!("{ns}/secrets/theirs"), &json!(null), unrelated),
        ("GET", format!("{ns}/secrets"), &json!(null), "No Object name found"),
        ("GET", "/api/v1/secrets".into(), &json!(null), "can only read namespaced object of this type"),
        ("GET", format!("{ns}/secrets?watch=true"), &json!(null), "No Object name found"),
        ("PATCH", format!("{ns}/secrets/mine"), &json!({"data": {}}), "can only read resources of this type"),
        ("GET", format!("{ns}/configmaps/theirs"), &json!(null), unrelated),
        ("GET", format!("{ns}/pods/theirs"), &json!(null), unrelated),
        ("GET", "/api/v1/pods".into(), &json!(null), "can only list/watch pods with spec.nodeName field selector"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-c".into(), &json!(null), "spec.nodeName field selector"),
        ("PATCH", format!("{ns}/pods/theirs/status"), &some_status, "can only update pod status for pods with spec.nodeName set to itself"),
        ("DELETE", format!("{ns}/pods/theirs"), &json!(null), "can only delete pods with spec.nodeName set to itself"),
        ("POST", format!("{ns}/pods"), &plain_pod, "can only create mirror pods"),
        ("POST", format!("{ns}/pods/mine/exec?command=id"), &json!(null), "cannot create resource \"pods/exec\""),
        ("POST", format!("{ns}/serviceaccounts/default/token"), &token, "node requested token not bound to a pod"),
        ("GET", format!("{leases}/node-c"), &json!(null), "can only access node lease with the same name as the requesting node"),
        ("PATCH", format!("{leases}/node-c"), &json!({"spec": {"holderIdentity": "node-b"}}), "with the same name as the requesting node"),
        ("DELETE", format!("{leases}/node-c"), &json!(null), "with the same name as the requesting node"),
        ("PATCH", "/api/v1/nodes/node-c/status".into(), &nobody_ready, "is not allowed to modify node \"node-c\""),
        ("PATCH", "/api/v1/nodes/node-c".into(), &role, "is not allowed to modify node \"node-c\""),
        ("PATCH", "/api/v1/nodes/node-b".into(), &untainted, "is not allowed to modify taints"),
        ("PATCH", "/api/v1/nodes/node-b".into(), &role, "is not allowed to modify labels"),
        ("DELETE", "/api/v1/nodes/node-c".into(), &json!(null), "cannot delete resource \"nodes\""),
        (
            "POST",
            requests.into(),
            &signing_request("steal", "node-c"),
            "can only ask for certificates of its own, not of \"system:node:node-c\"",
        ),
        ("GET", "/orch/v1/secrets-encrypt".into(), &json!(null), "cannot get path"),
        ("GET", "/orch/v1/nodes/node-c/tunnel".into(), &json!(null), "node 'node-b' can only keep a tunnel for itself"),
    ];
    for (method, path, body, why) in cases {
        let (content_type, body) = match body.is_null() {
            true => ("", Vec::new()),
            false => (if *method == "PATCH" { merge } else { "application/json" }, body.to_string().into_bytes()),
        };
        let (code, answer) = stolen.call(method, path, content_type, body).unwrap();
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(code == 403 && message.contains(why), "{method} {path}: {code} {answer}");
        assert!(!answer.to_string().contains(VALUE), "{method} {path}: {answer}");
        // As the log quotes it.
        let quoted = format!("{message:?}");
        let logged = cluster.log();
        let told = logged.lines().any(|line| line.contains("refused a node") && line.contains(quoted.trim_matches('"')));
        assert!(told, "{method} {path}: {message}: {logged}");
    }
    for log in [cluster.log(), agents[0].log(), agents[1].log()] {
        assert!(!log.contains(VALUE), "{log}");
    }
}

#[test]
fn a_tampered_line_lets_nobody_in() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let lan = Lan::new();
    let server = lan.host();
    server.enter();
    let cluster = Cluster::on(server, None, &["--disable-agent"]);
    let good = cluster.run_as_admin(&["token", "create"]).trim().to_owned();
    let mut agent = Agent::new(lan.host(), SERVER, &[]);
    let secret = good.rsplit('.').next().unwrap();
    let flip = |at: usize| {
        let other = if good.as_bytes()[at] == b'0' { "1" } else { "0" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let id = good.find("::").unwrap() + 2;
    let cases = [
        ("its beginning", flip(2), "it does not begin with K10"),
        ("its hash", flip(10), "not of the cluster that the token is for"),
        ("its id", flip(id), "refused the token"),
        ("its secret", flip(good.len() - 3), "it is wrong, has expired or was deleted"),
        ("cut short", good[..good.len() - 4].to_owned(), "was a part lost when it was copied?"),
        ("cut before its secret", good[..id + 6].to_owned(), "was a part lost when it was copied?"),
        ("without its hash", good[id..].to_owned(), "which authority to trust"),
        ("two in one", format!("{good}{good}"), "was a part lost when it was copied?"),
    ];
    for (name, line, want) in cases {
        step(name);
        let said = agent.fails(&["--token", &line]);
        assert!(said.contains(want) && !said.contains(secret), "{name}: {said}");
        assert!(!agent.host.dir.join("data/agent/client.pem").exists(), "{name}: it was let in");
    }
    assert!(!cluster.log().contains(secret));
    step("as it was printed");
    agent.start(&["--token", &good]);
    ready(&cluster.api, "node-b");
}

#[test]
fn an_agent_believes_no_other_cluster() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let (mut cluster, mut agents) = bed(1);
    let agent = &mut agents[0];
    step("a server with another authority, at the same place");
    cluster.make_anew();
    agent.says(WAIT, "the server is not certified by the authority of the cluster that this machine is a node of");
    assert!(agent.log().contains("`orch reset`"), "{}", agent.log());
    assert!(cluster.log().contains("a client does not accept this server's certificate"), "{}", cluster.log());
    let (code, _) = cluster.api.call("GET", "/api/v1/nodes/node-b", "", Vec::new()).unwrap();
    assert_eq!(code, 404, "nothing was told to the other server");
    step("nor after a restart, with or without a token of the other");
    agent.stop(Signal::SIGTERM);
    let said = agent.fails(&[]);
    assert!(said.contains("is not certified by the authority") && said.contains("run `orch reset` here and join again"), "{said}");
    let token = cluster.run_as_admin(&["token", "create"]).trim().to_owned();
    let said = agent.fails(&["--token", &token]);
    assert!(said.contains("node of another cluster") && said.contains("orch reset"), "{said}");
    step("the advice works");
    let data = agent.host.dir.join("data");
    let reset = |data: &Path| agent.host.sh(&format!("{ORCH} reset --data-dir {} --write-kubeconfig $HOME/none", data.display()));
    reset(&data);
    agent.start(&["--token", &token]);
    ready(&cluster.api, "node-b");
}
