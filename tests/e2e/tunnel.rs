//! A wall between the server and a node: the node can dial the server, nobody can dial the node. Logs, exec, port-forward and the proxies
//! go through the tunnel that the node keeps open, and come back after either end was away.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::skip;
use crate::support::agent::Agent;
use crate::support::api::condition;
use crate::support::cluster::Cluster;
use crate::support::images::{self, Registry};
use crate::support::kubectl::Kubectl;
use crate::support::lan::Lan;
use crate::support::{eventually, fetch, host, missing, step};

const WAIT: Duration = Duration::from_secs(60);
const SERVER: &str = "https://10.99.0.2:6443";
const OPEN: &str = "the server reaches this node through a tunnel";

/// Drops what begins outside, whatever it is for.
const WALL: &str = "nft -f - <<'.'
table inet wall {
  chain wall { type filter hook prerouting priority -150; iifname \"eth0\" ct state new drop; }
}
.";

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: nginx, image: "nginx:1", imagePullPolicy: Never, ports: [{containerPort: 80}]}
  - {name: box, image: "busybox:1", imagePullPolicy: Never, command: [sh, -c, "echo begun; exec sleep infinity"]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8080, targetPort: 80}]}
"#;

/// Everything that goes from the server to a node.
fn all_ways(k: &Kubectl) {
    assert_eq!(k.ok(&["logs", "web", "-c", "box"]), "begun\n");
    assert_eq!(k.ok(&["exec", "web", "-c", "box", "--", "hostname"]).trim(), "web");
    let raw = |path: &str| k.ok(&["get", "--raw", path]);
    assert_eq!(raw("/api/v1/namespaces/default/pods/web:80/proxy/"), "one\n");
    assert_eq!(raw("/api/v1/namespaces/default/services/web:8080/proxy/"), "one\n");
    assert_eq!(raw("/api/v1/nodes/node-b/proxy/healthz"), "ok");
    let forward = k.background(&["port-forward", "pod/web", ":80"]);
    let local = forward.until(|text| {
        let rest = text.split("Forwarding from 127.0.0.1:").nth(1)?;
        Some(rest.split(' ').next()?.to_owned())
    });
    for _ in 0..3 {
        assert_eq!(fetch(&format!("127.0.0.1:{local}"), "/"), Ok("one\n".into()));
    }
}

#[test]
fn a_node_behind_a_wall_is_reached_through_its_tunnel() {
    if let Some(reason) = missing(&[host::TOOLS, images::TOOLS, &["nft"]].concat()) {
        skip!("{reason}");
    }
    let lan = Lan::new();
    let server = lan.host();
    server.enter();
    let registry = Registry::start(&server);
    let mut cluster = Cluster::on(server, Some(registry), &["--disable-agent"]);
    let mut agent = Agent::new(lan.host(), SERVER, &[]);
    agent.host.sh(WALL);
    let token = cluster.run_as_admin(&["token", "create"]);
    agent.start(&["--token", token.trim()]);
    cluster.api.until(WAIT, "the node is ready", "/api/v1/nodes/node-b", |node| condition(node, "Ready"));
    images::carry(&cluster.host, &["nginx:1", "busybox:1"], &[&agent.host]);
    cluster.apply(PODS);
    let pod = cluster.api.ready(WAIT, "web");
    cluster.api.until(WAIT, "the Service has endpoints", "/api/v1/namespaces/default/endpoints/web", |list| list["subsets"].is_array());
    step("there is a wall");
    for address in [format!("{}:10250", agent.host.address()), format!("{}:80", pod["status"]["podIP"].as_str().unwrap())] {
        let address: SocketAddr = address.parse().unwrap();
        let dialled = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        assert!(dialled.is_err(), "{address} can be dialled");
    }
    step("and a tunnel below it");
    agent.says(WAIT, OPEN);
    all_ways(&cluster.kubectl());
    step("much of it");
    let script = "head -c 8000000 /dev/zero | tr '\\0' x";
    let said = cluster.kubectl().ok(&["exec", "web", "-c", "box", "--", "sh", "-c", script]);
    assert!(said.len() == 8_000_000 && said.bytes().all(|byte| byte == b'x'), "{} bytes", said.len());
    let followed = cluster.kubectl().background(&["logs", "-f", "web", "-c", "nginx"]);
    cluster.kubectl().ok(&["get", "--raw", "/api/v1/namespaces/default/pods/web:80/proxy/index.html"]);
    followed.until(|text| text.contains("GET /index.html").then_some(()));
    drop(followed);
    step("nothing else of the node's");
    let refused = cluster.kubectl().fails(&["get", "--raw", "/api/v1/namespaces/default/pods/web:81/proxy/"]);
    assert!(refused.contains("onnection refused"), "{refused}");
    step("the server was away");
    let opened = agent.log().matches(OPEN).count();
    cluster.stop(Signal::SIGKILL);
    cluster.restart();
    eventually(WAIT, "another tunnel", || if agent.log().matches(OPEN).count() > opened { Ok(()) } else { Err("not yet".into()) });
    eventually(WAIT, "the server has it", || {
        if cluster.log().matches("a node keeps a tunnel open").count() > opened { Ok(()) } else { Err("not yet".into()) }
    });
    all_ways(&cluster.kubectl());
    step("the agent was away");
    agent.stop(Signal::SIGKILL);
    let said = cluster.kubectl().fails(&["logs", "web", "-c", "box"]);
    assert!(said.contains("node node-b keeps no tunnel and can't be dialled at 10.99.0.3:10250"), "{said}");
    agent.start(&[]);
    agent.says(WAIT, OPEN);
    eventually(WAIT, "the agent knows the pod again", || {
        let output = cluster.kubectl().command(&["logs", "web", "-c", "box"], WAIT).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    all_ways(&cluster.kubectl());
    step("nobody else keeps a tunnel for it");
    let said = cluster.kubectl().fails(&["get", "--raw", "/orch/v1/nodes/node-b/tunnel"]);
    assert!(said.contains("only that node itself can"), "{said}");
}
