//! Ephemeral containers, as people come to them: `kubectl debug`, stock and our own.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::workloads::cluster;
use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::kubectl::Kubectl;
use crate::support::step;
use crate::support::terminal::Terminal;

const WAIT: Duration = Duration::from_secs(60);
const IMAGE: &str = "--image=127.0.0.1:5000/busybox:1";

const PODS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green}
---
apiVersion: v1
kind: Pod
metadata: {name: watched}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "127.0.0.1:5000/busybox:1", command: [sleep, "7777"]}]
  volumes: [{name: map, configMap: {name: settings}}]
---
apiVersion: v1
kind: Pod
metadata: {name: short}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "127.0.0.1:5000/busybox:1", command: [sh, -c, "until test -e /end; do sleep 0.1; done"]}]
"#;

/// The status of an ephemeral container.
fn state(pod: &Value, name: &str) -> Value {
    let all = pod["status"]["ephemeralContainerStatuses"].as_array();
    all.into_iter().flatten().find(|status| status["name"] == name).map(|status| status["state"].clone()).unwrap_or_default()
}

/// The pod that looks into a node.
fn node_debugger(cluster: &Cluster) -> Value {
    let pods = cluster.api.get("/api/v1/namespaces/default/pods");
    let of_node = |pod: &&Value| pod["metadata"]["name"].as_str().unwrap().starts_with("node-debugger-node-a-");
    pods["items"].as_array().unwrap().iter().find(of_node).expect("a pod that looks into the node").clone()
}

/// What is the same in all pods that were made alike.
fn plain_spec(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    let stays = |one: &Value| !one["name"].as_str().unwrap().starts_with("kube-api-access-");
    for list in ["/volumes", "/containers/0/volumeMounts"] {
        spec.pointer_mut(list).and_then(Value::as_array_mut).unwrap().retain(stays);
    }
    spec
}

#[test]
fn a_pod_is_looked_into() {
    let mut cluster = match cluster() {
        Ok(cluster) => cluster,
        Err(reason) => skip!("{reason}"),
    };
    cluster.apply(PODS);
    let (stock, own) = (Kubectl::newest(&cluster), Kubectl::own(&cluster));
    for pod in ["watched", "short"] {
        cluster.api.ready(WAIT, pod);
    }

    step("a stock client adds a container that sees the target's processes");
    stock.ok(&["debug", "watched", IMAGE, "--target=main", "-c", "seer", "--profile=general", "--", "sh", "-c", "ps; exec sleep 7778"]);
    cluster.api.pod(WAIT, "watched", "seer runs", |pod| state(pod, "seer")["running"].is_object());
    let seen = stock.ok(&["logs", "watched", "-c", "seer"]);
    assert!(seen.contains("sleep 7777"), "{seen}");
    let inside = own.ok(&["exec", "watched", "-c", "seer", "--", "ps"]);
    assert!(inside.contains("sleep 7777") && inside.contains("sleep 7778"), "{inside}");
    let alone = stock.ok(&["exec", "watched", "-c", "seer", "--", "sh", "-c", "grep CapEff /proc/self/status; hostname"]);
    // SYS_PTRACE is the nineteenth bit.
    let bits = u64::from_str_radix(alone.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert!(bits >> 19 & 1 == 1 && alone.ends_with("watched\n"), "{alone}");

    step("on a terminal, by our own client");
    let mut terminal = Terminal::run(&own.command(&["debug", "watched", "-it", IMAGE, "-c", "typed", "--", "sh"], WAIT), 24, 80);
    terminal.expect("enter");
    terminal.send("\necho $((6 * 7)) $(tty)\n");
    terminal.expect("42 /dev/");
    terminal.send("exit 3\n");
    terminal.wait();
    cluster.api.pod(WAIT, "watched", "typed has ended", |pod| state(pod, "typed")["terminated"]["exitCode"] == 3);

    step("by the API: environment and volumes");
    let made = r#"{"spec": {"ephemeralContainers": [{"name": "made", "image": "127.0.0.1:5000/busybox:1",
        "command": ["sh", "-c", "echo $COLOUR $(cat /map/colour) $(cat /proc/1/comm); exit 7"],
        "env": [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}],
        "volumeMounts": [{"name": "map", "mountPath": "/map"}]}]}}"#;
    own.ok(&["patch", "pod", "watched", "--subresource=ephemeralcontainers", "-p", made]);
    let missing = r#"{"spec": {"ephemeralContainers": [{"name": "wrong", "image": "127.0.0.1:5000/busybox:1", "command": ["/no/such"]},
        {"name": "absent", "image": "127.0.0.1:5000/no-such:1"}]}}"#;
    own.ok(&["patch", "pod", "watched", "--subresource=ephemeralcontainers", "-p", missing]);
    cluster.api.pod(WAIT, "watched", "made has ended", |pod| state(pod, "made")["terminated"]["exitCode"] == 7);
    assert_eq!(own.ok(&["logs", "watched", "-c", "made"]), "green green sh\n", "the first process that it sees is its own");
    let pod = cluster.api.pod(WAIT, "watched", "the others say why they can't", |pod| {
        let why = state(pod, "absent")["waiting"]["reason"].clone();
        state(pod, "wrong")["terminated"]["reason"] == "StartError" && (why == "ErrImagePull" || why == "ImagePullBackOff")
    });
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"), "they don't count");
    let events = own.ok(&["get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.fieldPath} {.reason}{\"\\n\"}{end}"]);
    for wanted in ["Pulled", "Created", "Started"] {
        assert!(events.contains(&format!("spec.ephemeralContainers{{made}} {wanted}")), "{events}");
    }

    step("a pod ends although somebody looks into it");
    own.ok(&["debug", "short", IMAGE, "-q", "-c", "late", "--profile=general", "--", "sleep", "100000"]);
    cluster.api.pod(WAIT, "short", "late runs", |pod| state(pod, "late")["running"].is_object());
    own.ok(&["exec", "short", "-c", "main", "--", "touch", "/end"]);
    assert_eq!(cluster.api.finished(WAIT, "short"), "Succeeded");
    cluster.api.pod(WAIT, "short", "late was ended", |pod| state(pod, "late")["terminated"].is_object());

    step("into the node, as the stock client does");
    let dir = tempfile::tempdir().unwrap();
    let custom = dir.path().join("custom.yaml");
    std::fs::write(&custom, "env: [{name: COLOUR, value: red}]\nsecurityContext: {readOnlyRootFilesystem: true}\n").unwrap();
    let custom = format!("--custom={}", custom.display());
    for profile in ["legacy", "general", "baseline", "restricted", "netadmin", "sysadmin"] {
        let profile = format!("--profile={profile}");
        let mut specs = Vec::new();
        for k in [&stock, &own] {
            k.ok(&["debug", "node/node-a", IMAGE, "-q", &profile, &custom, "--", "test", "-e", "/host/etc"]);
            let pod = node_debugger(&cluster);
            own.ok(&["delete", "pod", pod["metadata"]["name"].as_str().unwrap(), "--force", "--grace-period=0"]);
            specs.push(plain_spec(&pod));
        }
        assert_eq!(specs[0], specs[1], "{profile}");
    }
    let seen =
        own.ok(&["debug", "node/node-a", IMAGE, "-i", "--profile=sysadmin", "--", "sh", "-c", "test -e /host/proc; echo $? $(pidof orch)"]);
    let (told, seen) = seen.split_once('\n').unwrap();
    assert!(
        told.starts_with("Creating debugging pod node-debugger-node-a-") && told.ends_with(" with container debugger on node node-a."),
        "{told}"
    );
    assert!(seen.starts_with("0 ") && seen.trim().len() > 2, "the node's files and processes are seen: {seen}");
    let pod = node_debugger(&cluster);
    own.ok(&["delete", "pod", pod["metadata"]["name"].as_str().unwrap()]);

    step("a pod of the moment, which is gone when it ends");
    for k in [&stock, &own] {
        let script = "read word; echo $word $((6 * 7)); exit 4";
        let mut command =
            k.command(&["run", "moment", IMAGE, "-i", "--rm", "--restart=Never", "--command", "--", "sh", "-c", script], WAIT);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"forty-two\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(4), "{out} {err}");
        assert!(out.contains("forty-two 42\n") && out.contains("pod \"moment\" deleted"), "{out}");
        assert!(err.contains("pod default/moment terminated (Error)"), "{err}");
        k.ok(&["wait", "--for=delete", "pod/moment", "--timeout=60s"]);
    }

    step("a restart starts nothing again");
    let started = state(&cluster.api.get("/api/v1/namespaces/default/pods/watched"), "seer");
    cluster.stop(Signal::SIGKILL);
    cluster.restart();
    let pod = cluster.api.ready(WAIT, "watched");
    assert_eq!(state(&pod, "seer"), started);
    assert_eq!(state(&pod, "typed")["terminated"]["exitCode"], 3);
    // Whatever the new agent would start, it would have started before this.
    let k = Kubectl::own(&cluster);
    k.ok(&["debug", "watched", IMAGE, "-i", "-q", "-c", "last", "--profile=general", "--", "true"]);
    let pod = cluster.api.pod(WAIT, "watched", "last has ended", |pod| state(pod, "last")["terminated"]["exitCode"] == 0);
    let restarted = pod["status"]["ephemeralContainerStatuses"].as_array().unwrap().iter().filter(|status| status["restartCount"] != 0);
    assert_eq!(restarted.count(), 0, "{pod}");
    assert_eq!(state(&pod, "made")["terminated"]["exitCode"], 7);
    k.ok(&["delete", "pod", "watched"]);
}
