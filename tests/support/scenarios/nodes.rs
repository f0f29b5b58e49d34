//! Several machines: pods, Services and names are on all of them what they are on one, and so are logs, exec and port-forward.

use super::cluster;
use crate::support::bed::{Bed, Place, SERVER, Seat};
use crate::support::step;

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
      - name: web
        image: busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www; echo $NODE >/www/node; echo here >/www/index.html; echo serving on $NODE; exec httpd -f -p 80 -h /www']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
"#;

const PODS: &str = "get pods -l app=web -o jsonpath='{range .items[*]}{.spec.nodeName} {.metadata.name} {.status.podIP}{\"\\n\"}{end}'";

/// A pod of the set.
struct Web {
    node: String,
    name: String,
    address: String,
}

/// A script that asks each of these for this page.
fn fetch(from: impl IntoIterator<Item = String>) -> String {
    let one = |url: String| format!("timeout 5 busybox wget -q -O - http://{url}\n");
    from.into_iter().map(one).collect()
}

/// On a bed whose first host runs a server: lets the others join, with these flags, and goes from everywhere to everywhere.
pub fn run(bed: &impl Bed, flags: &str) {
    let count = bed.hosts().len();
    cluster::import(bed, 0);
    for host in 1..count {
        cluster::join(bed, host, flags);
        cluster::import(bed, host);
    }
    bed.apply(WEB);
    bed.kubectl(&format!("rollout status daemonset/web --timeout={}s", bed.patience().as_secs()));
    let pods = pods(bed);
    let nodes: String = bed.hosts().iter().map(|seat| seat.name.clone() + "\n").collect();
    let pages = || pods.iter().map(|pod| format!("{}/node", pod.address));

    step("pod to pod, pod to Service by name");
    for pod in &pods {
        let all = fetch(pages().chain(["web.default.svc.cluster.local/".into()]));
        bed.says(SERVER, &format!("kubectl exec {} -- sh -c '{all}'", pod.name), &format!("{nodes}here\n"));
    }
    step("node to pod");
    for host in 0..count {
        bed.says(Place::Host(host), &fetch(pages()), &nodes);
    }
    step("outside to the node port of every node");
    let ports = bed.hosts().iter().map(|seat: &Seat| format!("{}:30080/", seat.address));
    bed.says(Place::Outside, &fetch(ports), &"here\n".repeat(count));
    step("logs, exec and port-forward on every node");
    for pod in &pods {
        assert_eq!(bed.kubectl(&format!("logs {}", pod.name)), format!("serving on {}\n", pod.node));
        assert_eq!(bed.kubectl(&format!("exec {} -- cat /www/node", pod.name)).trim(), pod.node);
        assert_eq!(bed.sh(SERVER, &forwarded(&pod.name)).trim(), pod.node);
    }
}

/// The pods in the order of their nodes, one on each.
fn pods(bed: &impl Bed) -> Vec<Web> {
    let listed = bed.kubectl(PODS);
    let mut pods: Vec<Web> = Vec::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [node, name, address] = words[..] else { panic!("{listed}") };
        pods.push(Web { node: node.into(), name: name.into(), address: address.into() });
    }
    pods.sort_by(|a, b| a.node.cmp(&b.node));
    let nodes: Vec<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    assert_eq!(nodes, bed.hosts().iter().map(|seat| seat.name.as_str()).collect::<Vec<_>>(), "{listed}");
    pods
}

/// A script that asks a pod through a forwarded port.
fn forwarded(pod: &str) -> String {
    format!(
        "rm -f $HOME/forward.log
kubectl port-forward pod/{pod} 18080:80 >$HOME/forward.log 2>&1 &
trap \"kill $!\" EXIT
until grep -q Forwarding $HOME/forward.log; do kill -0 $! || {{ cat $HOME/forward.log >&2; exit 1; }}; sleep 0.1; done
timeout 20 busybox wget -q -O - http://127.0.0.1:18080/node"
    )
}
