//! Pods among others: ports of the node, names, Services, and who a pod is to the API.

use std::time::Duration;

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::host::{self, ADDRESS};
use crate::support::{eventually, fetch, missing, step};
use crate::workloads::cluster;

const WAIT: Duration = Duration::from_secs(60);

const NETWORKED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: ported, labels: {app: ported}}
spec:
  terminationGracePeriodSeconds: 0
  hostname: first
  subdomain: headless
  containers:
  - {name: c, image: 127.0.0.1:5000/nginx:1, ports: [{containerPort: 80, hostPort: 8081}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec:
  terminationGracePeriodSeconds: 0
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  containers:
  - {name: c, image: 127.0.0.1:5000/busybox:1, command: [sh, -c, 'mkdir /www; echo host > /www/index.html; exec httpd -f -p 8082 -h /www']}
---
apiVersion: v1
kind: Pod
metadata: {name: sharing}
spec:
  terminationGracePeriodSeconds: 0
  shareProcessNamespace: true
  containers:
  - {name: a, image: 127.0.0.1:5000/busybox:1, command: [sh, -c, 'mkdir /www; echo local > /www/index.html; exec httpd -f -p 8000 -h /www']}
  - {name: b, image: 127.0.0.1:5000/busybox:1, command: [sleep, "100000"]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: ported}, ports: [{name: http, port: 80}]}
"#;

#[test]
fn the_network_of_pods() {
    let cluster = match cluster() {
        Ok(cluster) => cluster,
        Err(reason) => skip!("{reason}"),
    };
    cluster.apply(NETWORKED);
    for name in ["ported", "on-host", "sharing"] {
        cluster.api.ready(WAIT, name);
    }
    let k = cluster.kubectl();
    let in_b = |script: &str| k.ok(&["exec", "sharing", "-c", "b", "--", "sh", "-c", script]);
    step("ports of the node");
    for port in [(8081, "one\n"), (8082, "host\n")] {
        let address = format!("{ADDRESS}:{}", port.0);
        eventually(WAIT, "the port answers outside", || cluster.host.outside(|| fetch(&address, "/")).map(|page| assert_eq!(page, port.1)));
        assert_eq!(in_b(&format!("timeout 5 wget -qO- http://{address}/")), port.1, "from a pod");
    }
    assert_eq!(k.ok(&["get", "pod", "on-host", "-o", "jsonpath={.status.podIP}"]), ADDRESS);
    step("one network and process tree for a pod");
    assert_eq!(in_b("timeout 5 wget -qO- http://localhost:8000/"), "local\n");
    assert_eq!(in_b("ps | grep -c '[h]ttpd -f'"), "1\n");
    step("names");
    let ip = k.ok(&["get", "pod", "ported", "-o", "jsonpath={.status.podIP}"]);
    for name in ["headless", "first.headless", "first.headless.default.svc.cluster.local"] {
        assert_eq!(in_b(&format!("timeout 5 wget -qO- http://{name}/")), "one\n", "{name}");
    }
    assert!(in_b("nslookup first.headless.default.svc.cluster.local").contains(&ip));
    assert!(in_b("nslookup kubernetes.default.svc.cluster.local").contains("10.43.0.1"));
    assert!(k.ok(&["exec", "on-host", "--", "nslookup", "headless.default.svc.cluster.local"]).contains(&ip), "ClusterFirstWithHostNet");
    let absent = k.fails(&["exec", "sharing", "-c", "b", "--", "nslookup", "absent.default.svc.cluster.local"]);
    assert!(absent.contains("exit code 1"), "{absent}");
    step("a Service's sticky and changing endpoints");
    k.ok(&["expose", "pod", "ported", "--port=80", "--name=exposed"]);
    let cluster_ip = k.ok(&["get", "service", "exposed", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually(WAIT, "the new Service answers", || fetch(&format!("{cluster_ip}:80"), "/"));
    k.ok(&["delete", "pod", "ported"]);
    eventually(WAIT, "a Service without endpoints refuses", || match fetch(&format!("{cluster_ip}:80"), "/") {
        Err(error) if error.contains("refused") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

const IDENTIFIED: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: v1
kind: Pod
metadata: {name: reading}
spec:
  serviceAccountName: reader
  restartPolicy: Never
  containers: [{name: c, image: 'orch.local/orch:latest', imagePullPolicy: Never, args: [kubectl, get, pods, -o, name]}]
---
apiVersion: v1
kind: Pod
metadata: {name: denied}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'orch.local/orch:latest', imagePullPolicy: Never, args: [kubectl, get, pods]}]
---
apiVersion: v1
kind: Pod
metadata: {name: writing}
spec:
  serviceAccountName: reader
  restartPolicy: Never
  containers: [{name: c, image: 'orch.local/orch:latest', imagePullPolicy: Never, args: [kubectl, delete, pod, reading]}]
---
apiVersion: v1
kind: Pod
metadata: {name: without}
spec:
  automountServiceAccountToken: false
  restartPolicy: Never
  containers: [{name: c, image: 'orch.local/orch:latest', imagePullPolicy: Never, args: [kubectl, get, pods]}]
"#;

#[test]
fn the_identity_of_pods() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let cluster = Cluster::start(&[]);
    step("an image of the executable itself");
    cluster.run(&["image", "self-image", "orch.local/orch:latest"]);
    assert!(cluster.run(&["image", "ls"]).contains("orch.local/orch"));
    cluster.apply(IDENTIFIED);
    let k = cluster.kubectl();
    let cases = [
        ("reading", "Succeeded", "pod/reading"),
        ("denied", "Failed", "forbidden"),
        ("writing", "Failed", "forbidden"),
        ("without", "Failed", ""),
    ];
    for (name, phase, text) in cases {
        step(name);
        let ended = cluster.api.finished(WAIT, name);
        let log = k.ok(&["logs", name]);
        assert_eq!(ended, phase, "{log}");
        assert!(log.contains(text), "{name}: {log}");
    }
    cluster.run(&["image", "rm", "orch.local/orch:latest"]);
}
