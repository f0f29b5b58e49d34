//! What nodes and pods use: `kubectl top`, stock and our own, the API behind it, and what nodes tell collectors.

use std::time::Duration;

use serde_json::Value;

use super::workloads::cluster;
use crate::skip;
use crate::support::kubectl::Kubectl;
use crate::support::{eventually, missing, step};

const WAIT: Duration = Duration::from_secs(60);
const API: &str = "/apis/metrics.k8s.io/v1beta1";

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {kind: loud}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: loop, image: "127.0.0.1:5000/busybox:1", command: [sh, -c, "while :; do :; done"], resources: {limits: {cpu: 200m, memory: 64Mi}}}
  - {name: calm, image: "127.0.0.1:5000/busybox:1", command: [sh, -c, "head -c 20000000 /dev/zero > /dev/shm/held; exec sleep 100000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: idle, labels: {kind: quiet}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "127.0.0.1:5000/busybox:1", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: collector}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: collector}
rules: [{apiGroups: [""], resources: [nodes/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: collector}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: collector}
subjects: [{kind: ServiceAccount, name: collector, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: User, name: viewer, apiGroup: rbac.authorization.k8s.io}]
"#;

const THEIRS: &str = r#"
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics-server, namespace: kube-system}
"#;

/// Thousandths of a core in such as `190m`.
fn milli(text: &str) -> u64 {
    text.strip_suffix('m').and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text} is no CPU"))
}

/// The cells of the line that begins with this.
fn line<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let cells = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    cells.into_iter().find(|cells| cells.first() == Some(&first)).unwrap_or_else(|| panic!("no line of {first} in:\n{table}"))
}

#[test]
fn usage_is_measured_when_asked() {
    if let Some(reason) = missing(&["curl"]) {
        skip!("{reason}");
    }
    let cluster = match cluster() {
        Ok(cluster) => cluster,
        Err(reason) => skip!("{reason}"),
    };
    cluster.apply(PODS);
    let (stock, own) = (Kubectl::newest(&cluster), Kubectl::own(&cluster));
    for pod in ["busy", "idle"] {
        cluster.api.ready(WAIT, pod);
    }

    step("top, by both clients");
    for k in [&stock, &own] {
        let pods = eventually(WAIT, "the busy pod is seen", || {
            let pods = k.ok(&["top", "pods"]);
            if milli(line(&pods, "busy")[1]) > 100 { Ok(pods) } else { Err(pods) }
        });
        assert_eq!(line(&pods, "NAME"), ["NAME", "CPU(cores)", "MEMORY(bytes)"]);
        assert!(milli(line(&pods, "busy")[1]) < 300 && milli(line(&pods, "idle")[1]) < 50, "{pods}");
        let containers = k.ok(&["top", "pod", "busy", "--containers", "--no-headers"]);
        let calm: Vec<&str> = containers.lines().next().unwrap().split_whitespace().collect();
        let held: u64 = calm[3].strip_suffix("Mi").unwrap().parse().unwrap();
        assert!(calm[1] == "calm" && (19..30).contains(&held), "{containers}");
        let sorted = k.ok(&["top", "pods", "-A", "--sort-by=cpu", "--sum"]);
        let first = sorted.lines().nth(1).unwrap();
        assert!(first.starts_with("default") && first.contains("busy") && sorted.contains("________"), "{sorted}");
        assert!(!k.ok(&["top", "pods", "-l", "kind=quiet"]).contains("busy"));
        let nodes = k.ok(&["top", "nodes"]);
        let node = line(&nodes, "node-a");
        assert!(milli(node[1]) > 100 && node[2].ends_with('%') && node[3].ends_with("Mi"), "{nodes}");
    }
    assert_eq!(stock.ok(&["top", "pods", "--no-headers"]).lines().count(), own.ok(&["top", "pods", "--no-headers"]).lines().count());

    step("the API");
    let listed = cluster.api.get(&format!("{API}/namespaces/default/pods?labelSelector=kind=loud"));
    let pod = &listed["items"][0];
    assert_eq!((&listed["kind"], listed["items"].as_array().map(Vec::len)), (&"PodMetricsList".into(), Some(1)));
    assert_eq!((&pod["kind"], &pod["metadata"]["labels"]["kind"]), (&"PodMetrics".into(), &"loud".into()));
    assert!(pod["window"].as_str().unwrap().ends_with('s') && pod["timestamp"].as_str().unwrap().ends_with('Z'), "{pod}");
    let one = cluster.api.get(&format!("{API}/nodes/node-a"));
    assert!(one["kind"] == "NodeMetrics" && one["usage"]["cpu"].is_string() && one["usage"]["memory"].is_string(), "{one}");
    assert!(stock.fails(&["get", "--raw", &format!("{API}/namespaces/default/pods/none")]).contains("pods \"none\" not found"));
    let kinds = "-o=jsonpath={.status.conditions[0].reason}";
    assert_eq!(stock.ok(&["get", "apiservice", "v1beta1.metrics.k8s.io", kinds]), "Local");
    // A stock client takes the name for that of the core resource.
    let text = own.ok(&["explain", "pods.metrics.k8s.io.containers.usage"]);
    assert!(text.contains("PodMetrics") && text.contains("map[string]Quantity"), "{text}");
    assert!(stock.ok(&["get", "--raw", "/openapi/v3/apis/metrics.k8s.io/v1beta1"]).contains("PodMetrics"));
    let table = stock.ok(&["get", "pods.metrics.k8s.io"]);
    assert_eq!(line(&table, "NAME"), ["NAME", "CPU", "MEMORY", "WINDOW"]);
    let resources = stock.ok(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers", "-o", "name"]);
    assert_eq!(resources, "nodes.metrics.k8s.io\npods.metrics.k8s.io\n");
    assert!(stock.ok(&["top", "pods", "--as=viewer"]).contains("busy"), "the role view holds it");
    assert!(stock.fails(&["top", "nodes", "--as=viewer"]).contains("Forbidden"));

    step("what the node tells");
    let metrics = stock.ok(&["get", "--raw", "/api/v1/nodes/node-a/proxy/metrics/resource"]);
    assert!(metrics.contains("container_cpu_usage_seconds_total{container=\"loop\",namespace=\"default\",pod=\"busy\"} "), "{metrics}");
    let summary: Value = serde_json::from_str(&stock.ok(&["get", "--raw", "/api/v1/nodes/node-a/proxy/stats/summary"])).unwrap();
    let busy = summary["pods"].as_array().unwrap().iter().find(|pod| pod["podRef"]["name"] == "busy").unwrap();
    assert!(busy["cpu"]["usageNanoCores"].as_u64().unwrap() > 100_000_000, "{busy}");
    let scrape = |token: &str, path: &str| {
        let args = format!("curl -sk -m 20 -H 'Authorization: Bearer {token}' https://127.0.0.1:10250{path}");
        cluster.host.sh(&args)
    };
    let token = stock.ok(&["create", "token", "collector"]);
    assert!(scrape(token.trim(), "/metrics/resource").contains("node_memory_working_set_bytes "));
    assert!(scrape(token.trim(), "/stats/summary").contains("Forbidden (user=system:serviceaccount:default:collector, verb=get"));
    assert!(scrape("nonsense", "/metrics/resource").contains("Unauthorized"));
    assert!(scrape(token.trim(), "/pods").contains("Unauthorized"));

    step("who installs a server of their own has that one asked");
    cluster.apply(THEIRS);
    eventually(WAIT, "theirs is asked", || {
        let output = stock.command(&["top", "pods"], WAIT).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Err(text) } else { Ok(()) }
    });
    stock.ok(&["delete", "apiservice", "v1beta1.metrics.k8s.io"]);
    eventually(WAIT, "ours is asked again", || {
        let output = stock.command(&["top", "pods"], WAIT).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
}
