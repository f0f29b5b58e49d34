//! Three machines, two on one link and one behind a router: pods, Services and names are on all of them what they are on one.

use std::time::{Duration, Instant};

use crate::skip;
use crate::support::agent::Agent;
use crate::support::api::condition;
use crate::support::cluster::{Cluster, ORCH};
use crate::support::images::{self, Registry};
use crate::support::lan::Lan;
use crate::support::{eventually, fetch, host, missing, step};

const WAIT: Duration = Duration::from_secs(90);
const SERVER: &str = "https://10.99.0.2:6443";

/// One pod on every node, each of which says where it is.
const WEB: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: nginx
        image: nginx:1
        imagePullPolicy: Never
        command: [sh, -c, 'echo $NODE > /srv/node; exec /usr/sbin/nginx -c /etc/nginx.conf']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        ports: [{containerPort: 80}]
      - {name: client, image: busybox:1, imagePullPolicy: Never, command: [sleep, infinity]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
"#;

#[test]
fn pods_services_and_names_across_machines() {
    if let Some(reason) = missing(&[host::TOOLS, images::TOOLS].concat()) {
        skip!("{reason}");
    }
    let lan = Lan::new();
    let first = lan.host();
    first.enter();
    let registry = Registry::start(&first);
    let cluster = Cluster::on(first, Some(registry), &[]);
    let token = cluster.run_as_admin(&["token", "create"]);
    let mut agents = [Agent::new(lan.host(), SERVER, &[]), Agent::new(lan.far_host(), SERVER, &[])];
    for agent in &mut agents {
        let started = Instant::now();
        agent.start(&["--token", token.trim()]);
        cluster.api.until(WAIT, "the node is ready", &format!("/api/v1/nodes/{}", agent.host.name), |node| condition(node, "Ready"));
        step(&format!("{} is ready after {:?}", agent.host.name, started.elapsed()));
    }
    for image in ["nginx", "busybox"] {
        let archive = cluster.host.dir.join(format!("{image}.tar"));
        let archive = archive.display();
        cluster.host.sh(&format!(
            "skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://127.0.0.1:5000/{image}:1 docker-archive:{archive}:{image}:1"
        ));
        for host in [&cluster.host, &agents[0].host, &agents[1].host] {
            host.sh(&format!("{ORCH} image import --data-dir $HOME/data {archive}"));
        }
    }
    cluster.apply(WEB);
    let k = cluster.kubectl();
    k.ok(&["rollout", "status", "daemonset/web", "--timeout=90s"]);
    let listed = k.ok(&["get", "pods", "-o", "jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name} {.status.podIP}{\"\\n\"}{end}"]);
    let mut pods: Vec<Vec<&str>> = listed.lines().map(|line| line.split(' ').collect()).collect();
    pods.sort();
    assert_eq!(pods.iter().map(|pod| pod[0]).collect::<Vec<_>>(), ["node-a", "node-b", "node-c"], "{listed}");

    step("pod to pod, pod to Service by name, node to pod");
    for from in &pods {
        for to in &pods {
            let said = k.ok(&["exec", from[1], "-c", "client", "--", "wget", "-q", "-O", "-", &format!("http://{}/node", to[2])]);
            assert_eq!(said.trim(), to[0], "from {} to {}", from[0], to[0]);
        }
        let said = k.ok(&["exec", from[1], "-c", "client", "--", "wget", "-q", "-O", "-", "http://web.default.svc.cluster.local/"]);
        assert_eq!(said, "one\n", "from {}", from[0]);
    }
    for host in [&cluster.host, &agents[0].host, &agents[1].host] {
        for to in &pods {
            let said = host.inside(|| fetch(&format!("{}:80", to[2]), "/node"));
            assert_eq!(said.as_deref().map(str::trim), Ok(to[0]), "from {} to {}", host.name, to[0]);
        }
    }
    step("outside to the node port of every node");
    for host in [&cluster.host, &agents[0].host, &agents[1].host] {
        let address = format!("{}:30080", host.address());
        eventually(WAIT, &address, || lan.inside(|| fetch(&address, "/")).map(|said| assert_eq!(said, "one\n")));
    }
    step("logs, exec and port-forward on every node");
    for pod in &pods {
        assert!(k.ok(&["logs", pod[1], "-c", "nginx"]).contains("GET /node"), "{pod:?}");
        assert_eq!(k.ok(&["exec", pod[1], "-c", "nginx", "--", "cat", "/srv/node"]).trim(), pod[0]);
        let forward = k.background(&["port-forward", &format!("pod/{}", pod[1]), ":80"]);
        let local = forward.until(|text| {
            let rest = text.split("Forwarding from 127.0.0.1:").nth(1)?;
            Some(rest.split(' ').next()?.to_owned())
        });
        assert_eq!(fetch(&format!("127.0.0.1:{local}"), "/node").unwrap().trim(), pod[0]);
    }
}
