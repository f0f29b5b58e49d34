//! The second machine: one command makes it a node; who may not join is told why, on both sides; certificates renew themselves.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::skip;
use crate::support::agent::Agent;
use crate::support::api::{Api, condition};
use crate::support::cluster::Cluster;
use crate::support::host;
use crate::support::lan::Lan;
use crate::support::{eventually, missing, step};

const WAIT: Duration = Duration::from_secs(60);
const SERVER: &str = "https://10.99.0.2:6443";
/// Files that a process may open which begins a test about that.
const SOFT: u64 = 1_000;
const NODE: &str = "/api/v1/nodes/node-b";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: there}
spec:
  nodeName: node-b
  containers:
  - name: c
    image: orch.local/orch:latest
    imagePullPolicy: Never
    args: [hello]
"#;

/// A server that runs no pods, and a machine beside it.
fn two() -> (Cluster, Agent) {
    let lan = Lan::new();
    let server = lan.host();
    server.enter();
    let cluster = Cluster::on(server, None, &["--disable-agent"]);
    let agent = Agent::new(lan.host(), SERVER, &[]);
    (cluster, agent)
}

fn token(cluster: &Cluster, args: &[&str]) -> String {
    let all = [&["token", "create"], args].concat();
    cluster.run_as_admin(&all).trim().to_owned()
}

fn ready(api: &Api, name: &str) {
    api.until(WAIT, "the node is ready", &format!("/api/v1/nodes/{name}"), |node| condition(node, "Ready"));
}

/// The half of a token that nobody may read in a log.
fn secret(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

#[test]
fn one_command_makes_a_node() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    // What is started from here on inherits it; each test is a process of its own.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(SOFT), maximum: most }).unwrap();
    let (cluster, mut agent) = two();
    let line = token(&cluster, &["--print-join-command"]);
    let (command, token) = line.split_once(" --token ").unwrap();
    assert_eq!(command, format!("orch agent --join {SERVER}"));
    assert!(cluster.log().contains("orch agent --join https://10.99.0.2:6443 --token TOKEN"), "{}", cluster.log());
    step("anybody may read where the API is, and who has the token can tell that it is genuine");
    let id = token.split("::").nth(1).unwrap().split('.').next().unwrap();
    let info = || -> serde_json::Value {
        let said = agent.host.sh(&format!("curl -sk {SERVER}/api/v1/namespaces/kube-public/configmaps/cluster-info"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let signature = format!("jws-kubeconfig-{id}");
    eventually(WAIT, "a signature", || info()["data"][&signature].is_string().then_some(()).ok_or_else(|| info().to_string()));
    let config = info()["data"]["kubeconfig"].as_str().unwrap().to_owned();
    assert!(config.contains(&format!("server: {SERVER}")) && config.contains("certificate-authority-data:"), "{config}");
    step("join");
    let started = Instant::now();
    agent.start(&["--token", token, "--node-label=disk=ssd,topology.kubernetes.io/zone=z", "--node-taint=gpu=yes:PreferNoSchedule"]);
    ready(&cluster.api, "node-b");
    step(&format!("ready after {:?}", started.elapsed()));
    let node = cluster.api.get(NODE);
    assert_eq!(
        (&node["metadata"]["labels"]["disk"], &node["metadata"]["labels"]["topology.kubernetes.io/zone"]),
        (&"ssd".into(), &"z".into())
    );
    assert!(node["spec"]["taints"].as_array().unwrap().iter().any(|taint| taint["key"] == "gpu"), "{node}");
    step("a pod there");
    agent.host.sh(&format!("{} image self-image orch.local/orch:latest --data-dir $HOME/data", crate::support::cluster::ORCH));
    cluster.apply(POD);
    cluster.api.ready(WAIT, "there");
    let kubectl = cluster.kubectl();
    let said = kubectl.ok(&["logs", "there"]);
    assert!(said.contains("answering on"), "{said}");
    let shown = kubectl.ok(&["exec", "there", "--", "/orch", "--version"]);
    assert!(shown.starts_with("orch "), "{shown}");
    // The brackets keep the search from finding itself.
    const PIDS: &str = "pgrep -f 'orc[h] hello'";
    step("all the open files that there may be for the agent, and as before for pods");
    let limits = |pids: &str| agent.host.sh(&format!("for p in $({pids}); do sed -n 's/^Max open files *//p' /proc/$p/limits; done"));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let most = most.map_or("unlimited".to_owned(), |most| most.to_string());
    assert_eq!(words(&limits("pgrep -f 'orc[h] agent' | tail -n 1")), [most.as_str(), &most, "files"]);
    assert_eq!(words(&limits(PIDS))[..3], [SOFT.to_string().as_str(), &most, "files"]);
    step("its own credential, and no token");
    let before = agent.host.sh(PIDS);
    assert!(agent.stop(Signal::SIGKILL).code().is_none());
    kubectl.ok(&["-n", "kube-system", "delete", "secret", &format!("bootstrap-token-{id}")]);
    let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    cluster.api.until(WAIT, "its signature is gone", path, |info| info["data"][format!("jws-kubeconfig-{id}")].is_null());
    agent.start(&[]);
    agent.says(WAIT, "the agent is running");
    ready(&cluster.api, "node-b");
    assert_eq!(agent.host.sh(PIDS), before, "the container outlived the agent");
    step("no secret in a log");
    for log in [agent.log(), cluster.log()] {
        assert!(!log.contains(secret(token)), "{log}");
    }
}

#[test]
fn certificates_renew_themselves() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    const LIFE: Duration = Duration::from_secs(12);
    let lan = Lan::new();
    let server = lan.host();
    server.enter();
    let cluster = Cluster::on(server, None, &["--disable-agent", "--cluster-signing-duration=12s"]);
    let mut agent = Agent::new(lan.host(), SERVER, &[]);
    let token = token(&cluster, &[]);
    agent.start(&["--token", &token]);
    ready(&cluster.api, "node-b");
    let joined = Instant::now();
    agent.host.sh(&format!("{} image self-image orch.local/orch:latest --data-dir $HOME/data", crate::support::cluster::ORCH));
    cluster.apply(POD);
    cluster.api.ready(WAIT, "there");
    let key = |node: &serde_json::Value| node["metadata"]["annotations"]["orch.local/client-key"].as_str().unwrap().to_owned();
    let first = key(&cluster.api.get(NODE));
    step("past the life of the first ones");
    cluster.api.until(WAIT, "another key", NODE, |node| key(node) != first && joined.elapsed() > LIFE + Duration::from_secs(3));
    for sort in ["sort=Client", "sort=Serving"] {
        assert!(agent.log().contains(&format!("renewed a certificate of this node {sort}")), "{}", agent.log());
    }
    let said = cluster.kubectl().ok(&["exec", "there", "--", "/orch", "--version"]);
    assert!(said.starts_with("orch "), "the serving certificate is a good one: {said}");
    step("a restart with what was renewed, and without a token");
    agent.stop(Signal::SIGTERM);
    agent.start(&[]);
    agent.says(WAIT, "the agent is running");
    step("away for longer than a certificate lives");
    agent.stop(Signal::SIGTERM);
    let expired = || agent.host.sh("cd $HOME/data/agent && openssl x509 -in client.pem -noout -checkend 0 || true");
    eventually(WAIT, "it expires", || if expired().contains("will expire") { Ok(()) } else { Err(expired()) });
    let said = agent.fails(&[]);
    assert!(said.contains("the certificate of this node expired at") && said.contains("give --token"), "{said}");
    step("with a token and its old key it is itself again");
    agent.start(&["--token", &token]);
    agent.says(WAIT, "the agent is running");
}

#[test]
fn who_may_not_join_is_told_why() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let (cluster, mut agent) = two();
    let good = token(&cluster, &[]);
    let (hash, rest) = good.split_once("::").unwrap();
    let (id, _) = rest.split_once('.').unwrap();
    let flipped = if hash.ends_with('0') { '1' } else { '0' };
    let other_hash = format!("{}{flipped}", &hash[..hash.len() - 1]);
    let no_join = token(&cluster, &["--groups=system:bootstrappers:others"]);
    let deleted = token(&cluster, &["--ttl=0"]);
    cluster.run_as_admin(&["token", "delete", &deleted]);
    let expired = token(&cluster, &["--ttl=1s"]);
    let cases: &[(&str, &str, &str, &str)] = &[
        ("no token", "", "this machine is no node yet; give --token", ""),
        ("not a token", "secret", "it does not begin with K10", ""),
        ("no hash", rest, "which authority to trust", ""),
        ("wrong", &format!("{hash}::{id}.aaaaaaaaaaaaaaaa"), &format!("refused the token {id}"), "its second half is wrong"),
        ("unknown", &format!("{hash}::zzzzzz.aaaaaaaaaaaaaaaa"), "refused the token zzzzzz", "refused credentials"),
        ("another cluster's", &format!("{other_hash}::{rest}"), "not of the cluster that the token is for", ""),
        ("deleted", &deleted, "refused the token", "refused credentials"),
        ("not for nodes", &no_join, "cannot create resource \"certificatesigningrequests\"", ""),
        ("expired", &expired, "refused the token", "refused credentials"),
    ];
    for (name, given, want, logged) in cases {
        step(name);
        if *name == "expired" {
            let id = given.split_once("::").unwrap().1.split('.').next().unwrap();
            eventually(WAIT, "it expires, and is cleaned up", || {
                let listed = cluster.run_as_admin(&["token", "list"]);
                if listed.contains(id) { Err(listed) } else { Ok(()) }
            });
        }
        let said = match given.is_empty() {
            true => agent.fails(&[]),
            false => agent.fails(&["--token", given]),
        };
        assert!(said.contains(want), "{name}: {said}");
        assert!(given.is_empty() || !said.contains(secret(given)), "{name}: {said}");
        assert!(cluster.log().contains(logged), "{name}: {}", cluster.log());
    }
    step("a taken name");
    agent.start(&["--token", &good]);
    ready(&cluster.api, "node-b");
    agent.stop(Signal::SIGTERM);
    agent.host.sh("mv $HOME/data/agent $HOME/kept");
    let said = agent.fails(&["--token", &good]);
    assert!(said.contains("there is a node node-b already") && said.contains("kubectl delete node node-b"), "{said}");
    assert!(cluster.log().contains("there is a node node-b already"), "{}", cluster.log());
    step("the advice works");
    cluster.kubectl().ok(&["delete", "node", "node-b"]);
    agent.start(&["--token", &good]);
    ready(&cluster.api, "node-b");
    agent.stop(Signal::SIGTERM);
    step("another cluster, while it is a node of this one");
    let said = agent.fails(&["--token", &format!("{other_hash}::{rest}")]);
    assert!(said.contains("node of another cluster") && said.contains("orch reset"), "{said}");
    step("an expired certificate");
    let said = agent.fails(&["--node-name=node-c"]);
    assert!(said.contains("has the certificate of system:node:node-b, and is now called node-c"), "{said}");
    for log in [agent.log(), cluster.log()] {
        assert!(!log.contains(secret(&good)), "{log}");
    }
}
