//! A stock kubectl's working day: from a Deployment to its rollback, through the Service, with streams.

use std::time::Duration;

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::host::ADDRESS;
use crate::support::kubectl::{Kubectl, stock};
use crate::support::terminal::Terminal;
use crate::support::{eventually, fetch, host, images, missing, step};

const WAIT: Duration = Duration::from_secs(60);

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: nginx
        image: 127.0.0.1:5000/nginx:1
        ports: [{name: http, containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 8080, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: box, image: 127.0.0.1:5000/busybox:1, command: [sleep, "100000"]}
"#;

#[test]
fn kubectl_1_27() {
    day("1.27");
}

#[test]
fn kubectl_1_30() {
    day("1.30");
}

#[test]
fn kubectl_1_33() {
    day("1.33");
}

fn day(version: &str) {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(images::TOOLS)) {
        skip!("{reason}");
    }
    let Some(program) = stock(version) else { skip!("no kubectl {version} on this machine") };
    let cluster = Cluster::with_registry(&[]);
    let k = Kubectl::stock(&cluster, program);
    deploy(&k);
    reach(&cluster, &k);
    print(&k, PRINTED);
    streams(&k);
    terminal(&k);
    copy(&cluster, &k);
    roll(&k);
    replace(&cluster, &k);
}

/// What `orch kubectl` prints.
const OWN: &[(&[&str], &[&str])] = &[
    (&["get", "deployments"], &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "web", "3/3"]),
    (&["get", "pods", "-o", "wide", "-l", "app=web"], &["NODE", "node-a", "10.42.0.", "Running"]),
    (&["get", "service", "web", "-o", "yaml"], &["kind: Service", "nodePort: 30080"]),
    (&["get", "service/web", "-o", "json"], &["\"nodePort\": 30080"]),
    (&["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}"], &["127.0.0.1:5000/nginx:1"]),
    (&["get", "pods", "-A", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[0].image"], &["N ", "127.0.0.1:5000/busybox:1"]),
    (&["describe", "deployment", "web"], &["3 desired", "RollingUpdate"]),
    (&["describe", "pod", "client"], &["node-a", "BestEffort", "Successfully assigned default/client"]),
    (&["api-resources"], &["deployments", "deploy", "apps/v1"]),
    (&["api-versions"], &["apps/v1", "networking.k8s.io/v1"]),
    (&["version"], &["v1.37."]),
];

#[test]
fn orch_kubectl() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(images::TOOLS)) {
        skip!("{reason}");
    }
    let cluster = Cluster::with_registry(&[]);
    let k = Kubectl::own(&cluster);
    k.apply(WEB);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    cluster.api.ready(WAIT, "client");
    print(&k, OWN);
    let pod = first_pod(&k);
    let logs = k.background(&["logs", "-f", &pod]);
    let ip = k.ok(&["get", "pod", &pod, "-o", "jsonpath={.status.podIP}"]);
    fetch(&format!("{ip}:80"), "/?followed").unwrap();
    logs.until(|text| text.contains("GET /?followed").then_some(()));
    let (done, text) = k.with_input(&["exec", "-i", "client", "--", "sh", "-c", "cat; echo end"], "through stdin\n");
    assert!(done && text.contains("through stdin\nend\n"), "{text}");
    terminal(&k);
    step("scale, change the image, undo");
    k.ok(&["scale", "deployment/web", "--replicas=2"]);
    k.ok(&["set", "image", "deployment/web", "nginx=127.0.0.1:5000/nginx:2"]);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    page(&k, "two\n");
    assert!(k.ok(&["rollout", "history", "deployment/web"]).contains("REVISION"));
    k.ok(&["rollout", "undo", "deployment/web"]);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    page(&k, "one\n");
    let (done, text) = k.with_input(&["delete", "-f", "-"], WEB);
    assert!(done && text.contains("deleted"), "{text}");
    assert!(k.fails(&["get", "deployment", "web"]).contains("NotFound"));
}

fn deploy(k: &Kubectl) {
    step("deploy three nginx pods");
    k.apply(WEB);
    k.ok(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    k.ok(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(k.ok(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]), "3");
    let (_, text) = k.with_input(&["apply", "-f", "-"], WEB);
    assert!(text.contains("deployment.apps/web unchanged"), "{text}");
    let (same, text) = k.with_input(&["diff", "-f", "-"], WEB);
    assert!(same, "nothing differs: {text}");
}

fn in_client(k: &Kubectl, url: &str) -> String {
    k.ok(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", url])
}

fn reach(cluster: &Cluster, k: &Kubectl) {
    step("reach them by ClusterIP, NodePort and name");
    let ip = k.ok(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    // Endpoints are ready with the pods, and rules follow within moments.
    eventually(WAIT, "the ClusterIP answers", || fetch(&format!("{ip}:8080"), "/"));
    assert_eq!(in_client(k, &format!("http://{ip}:8080/")), "one\n");
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        assert_eq!(in_client(k, &format!("http://{name}:8080/")), "one\n", "{name}");
    }
    assert_eq!(fetch(&format!("{ADDRESS}:30080"), "/").unwrap(), "one\n", "from the node");
    let outside = cluster.host.outside(|| fetch(&format!("{ADDRESS}:30080"), "/"));
    assert_eq!(outside.unwrap(), "one\n", "from outside");
    let answer = k.ok(&["exec", "client", "--", "nslookup", "-type=srv", "_http._tcp.web.default.svc.cluster.local"]);
    assert!(answer.contains("8080 web.default.svc.cluster.local"), "{answer}");
    let pod_ip = k.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}"]);
    assert_eq!(in_client(k, &format!("http://{pod_ip}/")), "one\n", "pod to pod");
}

/// `get` in each of its forms, describe and explain: arguments, and what the output must contain.
const PRINTED: &[(&[&str], &[&str])] = &[
    (&["get", "deployments"], &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "web", "3/3"]),
    (&["get", "pods", "-o", "wide"], &["NODE", "NOMINATED NODE", "READINESS GATES", "node-a", "10.42.0.", "Running"]),
    (&["get", "pods", "--show-labels", "--selector=app=web"], &["pod-template-hash="]),
    (&["get", "pods", "--field-selector=metadata.name=client", "--no-headers"], &["client", "1/1"]),
    (&["get", "pods", "-A", "--sort-by=.metadata.name"], &["NAMESPACE", "default"]),
    (&["get", "service", "web", "-o", "yaml"], &["kind: Service", "nodePort: 30080", "targetPort: http"]),
    (&["get", "service", "web", "-o", "json"], &["\"apiVersion\": \"v1\"", "\"nodePort\": 30080"]),
    (&["get", "pods", "-l", "app=web", "-o", "name"], &["pod/web-"]),
    (&["get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}"], &["127.0.0.1:5000/nginx:1"]),
    (&["get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.name}={.status.phase};{end}"], &["client=Running;"]),
    (&["get", "pods", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[0].image"], &["N ", "client", "127.0.0.1:5000/busybox:1"]),
    (&["get", "pods", "-o", "go-template={{len .items}}"], &["4"]),
    (&["get", "all"], &["pod/client", "service/web", "deployment.apps/web", "replicaset.apps/web-"]),
    (&["get", "endpoints", "web"], &[":80"]),
    (&["get", "endpointslices", "-l", "kubernetes.io/service-name=web"], &["IPv4", "80"]),
    (&["get", "nodes"], &["node-a", "Ready", "control-plane", "v1.37"]),
    (&["get", "events"], &["Scheduled", "Pulled", "Created", "Started"]),
    (
        &["describe", "deployment", "web"],
        &["Replicas:", "3 desired | 3 updated | 3 total | 3 available", "RollingUpdate", "ScalingReplicaSet"],
    ),
    (&["describe", "pod", "client"], &["Node:", "node-a/10.99.0.2", "QoS Class:", "BestEffort", "Successfully assigned default/client"]),
    (&["describe", "service", "web"], &["NodePort:", "30080/TCP", "Endpoints:", ":80"]),
    (&["describe", "node", "node-a"], &["Allocatable:", "Non-terminated Pods:", "default", "client"]),
    (&["explain", "deployment.spec.strategy"], &["rollingUpdate", "RollingUpdateDeployment", "Recreate"]),
    (&["api-resources"], &["deployments", "deploy", "apps/v1", "pods", "true"]),
    (&["api-versions"], &["apps/v1", "v1", "networking.k8s.io/v1"]),
    (&["cluster-info"], &["control plane", "is running at"]),
    (&["version"], &["v1.37."]),
];

fn print(k: &Kubectl, table: &[(&[&str], &[&str])]) {
    step("print them in every form");
    let mut wrong = Vec::new();
    for (args, expected) in table {
        let output = k.command(args, WAIT).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let lacking: Vec<_> = expected.iter().filter(|part| !text.contains(**part)).collect();
        if !lacking.is_empty() || !output.status.success() {
            wrong.push(format!("{args:?} lacks {lacking:?}:\n{text}{}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn streams(k: &Kubectl) {
    step("follow logs, forward a port, execute");
    let pod = first_pod(k);
    let logs = k.background(&["logs", "-f", &pod]);
    let ip = k.ok(&["get", "pod", &pod, "-o", "jsonpath={.status.podIP}"]);
    fetch(&format!("{ip}:80"), "/?followed").unwrap();
    logs.until(|text| text.contains("GET /?followed").then_some(()));
    let tail = k.ok(&["logs", "--tail=1", "--timestamps", &pod]);
    assert_eq!(tail.lines().count(), 1, "{tail}");
    assert!(k.ok(&["logs", "-l", "app=web", "--prefix", "--tail=2"]).contains("/nginx]"));

    let forward = k.background(&["port-forward", &format!("pod/{pod}"), ":80"]);
    let local = forward.until(|text| {
        let rest = text.split("Forwarding from 127.0.0.1:").nth(1)?;
        Some(rest.split(' ').next()?.to_owned())
    });
    for _ in 0..3 {
        assert_eq!(fetch(&format!("127.0.0.1:{local}"), "/").unwrap(), "one\n");
    }
    let service = k.background(&["port-forward", "service/web", "18080:8080"]);
    service.until(|text| text.contains("Forwarding from 127.0.0.1:18080").then_some(()));
    assert_eq!(fetch("127.0.0.1:18080", "/").unwrap(), "one\n");

    assert_eq!(k.ok(&["exec", "client", "--", "sh", "-c", "echo out; echo err >&2"]), "out\n");
    let failed = k.fails(&["exec", "client", "--", "sh", "-c", "exit 42"]);
    assert!(failed.contains("exit code 42"), "{failed}");
    let (done, text) = k.with_input(&["exec", "-i", "client", "--", "sh", "-c", "cat; echo end"], "through stdin\n");
    assert!(done && text.contains("through stdin\nend\n"), "{text}");
    let big = k.ok(&["exec", "client", "--", "sh", "-c", "dd if=/dev/zero bs=65536 count=64 2>/dev/null | tr '\\0' x"]);
    assert_eq!(big.len(), 4 << 20, "4 MiB through exec");
}

fn first_pod(k: &Kubectl) -> String {
    k.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"])
}

fn terminal(k: &Kubectl) {
    step("a terminal that resizes");
    let command = k.command(&["exec", "-it", "client", "--", "sh"], WAIT);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.expect("# ");
    terminal.send("tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("24 80");
    terminal.resize(50, 132);
    eventually(Duration::from_secs(20), "the new size arrives", || {
        terminal.send("stty size\n");
        std::thread::sleep(Duration::from_millis(100));
        if terminal.text().contains("50 132") { Ok(()) } else { Err(terminal.text()) }
    });
    // The shell of the container sees the interrupt, not kubectl.
    terminal.send("sh -c 'echo begun $((40 + 1)); exec sleep 1000'\n");
    terminal.expect("begun 41");
    terminal.send("\u{3}");
    terminal.send("echo still $((40 + 2))\n");
    terminal.expect("still 42");
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait().code(), Some(3), "{}", terminal.text());
}

fn copy(cluster: &Cluster, k: &Kubectl) {
    step("copy there and back");
    let (there, back) = (cluster.host.dir.join("there"), cluster.host.dir.join("back"));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&there, &bytes).unwrap();
    k.ok(&["cp", there.to_str().unwrap(), "client:/tmp/copied"]);
    k.ok(&["cp", "client:/tmp/copied", back.to_str().unwrap()]);
    assert!(std::fs::read(back).unwrap() == bytes, "a file is the same after both ways");
}

fn page(k: &Kubectl, expected: &str) {
    let ip = k.ok(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually(WAIT, &format!("the Service answers {expected:?}"), || {
        let page = fetch(&format!("{ip}:8080"), "/")?;
        if page == expected { Ok(()) } else { Err(page) }
    });
}

fn roll(k: &Kubectl) {
    step("scale, change the image, undo");
    k.ok(&["scale", "deployment/web", "--replicas=4"]);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(k.ok(&["get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas}"]), "4");
    k.ok(&["scale", "deployment/web", "--replicas=2"]);
    k.ok(&["set", "image", "deployment/web", "nginx=127.0.0.1:5000/nginx:2"]);
    k.ok(&["annotate", "deployment/web", "kubernetes.io/change-cause=second page"]);
    let status = k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(status.contains("successfully rolled out"), "{status}");
    page(k, "two\n");
    let removed = k.command(&["exec", &first_running(k), "--", "cat", "/removed"], WAIT).output().unwrap();
    assert!(!removed.status.success(), "the upper layer's whiteout hides the file");
    let history = k.ok(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("REVISION") && history.contains("second page"), "{history}");
    let detail = k.ok(&["rollout", "history", "deployment/web", "--revision=2"]);
    assert!(detail.contains("127.0.0.1:5000/nginx:2"), "{detail}");
    k.ok(&["rollout", "undo", "deployment/web"]);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    page(k, "one\n");
    k.ok(&["rollout", "restart", "deployment/web"]);
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}

fn first_running(k: &Kubectl) -> String {
    let list = k.ok(&["get", "pods", "-l", "app=web", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let alive = list["items"].as_array().unwrap().iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    alive.unwrap()["metadata"]["name"].as_str().unwrap().to_owned()
}

fn replace(cluster: &Cluster, k: &Kubectl) {
    step("delete a pod: another takes its place, and a watch sees both");
    let victim = first_running(k);
    let watch = k.background(&["get", "pods", "-l", "app=web", "-w", "--output-watch-events", "--no-headers"]);
    watch.until(|text| text.contains(&victim).then_some(()));
    k.ok(&["delete", "pod", &victim]);
    watch.until(|text| text.lines().any(|line| line.starts_with("DELETED") && line.contains(&victim)).then_some(()));
    watch.until(|text| {
        text.lines().any(|line| line.starts_with("MODIFIED") && !line.contains(&victim) && line.contains("1/1")).then_some(())
    });
    k.ok(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    k.ok(&["delete", "deployment/web", "service/web", "--wait"]);
    cluster.api.until(WAIT, "no pod of the Deployment is left", "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", |list| {
        list["items"].as_array().is_some_and(Vec::is_empty)
    });
    k.ok(&["delete", "pod", "client"]);
    eventually(WAIT, "no shim and no group of a pod is left", || {
        let shims = cluster.host.processes(" shim ");
        let groups = cluster.host.sh("find /sys/fs/cgroup -type d -name 'pod*'");
        if shims.is_empty() && groups.is_empty() { Ok(()) } else { Err(format!("{shims:?} {groups}")) }
    });
}
