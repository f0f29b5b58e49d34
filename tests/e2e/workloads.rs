//! What pods are promised: configuration, volumes, probes, restarts, ends, limits. One host each.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::{eventually, host, images, missing, step};

const WAIT: Duration = Duration::from_secs(60);

/// A cluster with images, or the reason why there can't be one.
pub fn cluster() -> Result<Cluster, String> {
    match missing(host::TOOLS).or_else(|| missing(images::TOOLS)) {
        Some(reason) => Err(reason),
        None => Ok(Cluster::with_registry(&[])),
    }
}

fn statuses(pod: &Value) -> Vec<&Value> {
    pod["status"]["containerStatuses"].as_array().map(|all| all.iter().collect()).unwrap_or_default()
}

const CONFIGURED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, file.txt: "from a map\n"}
binaryData: {bytes: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: open sesame}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, labels: {tier: front}, annotations: {note: "a b"}}
spec:
  terminationGracePeriodSeconds: 0
  hostname: named
  securityContext: {runAsUser: 33, runAsGroup: 33, fsGroup: 2000}
  initContainers:
  - name: first
    image: 127.0.0.1:5000/busybox:1
    command: [sh, -c, 'echo first >> /shared/order']
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: second
    image: 127.0.0.1:5000/busybox:1
    command: [sh, -c, 'echo second >> /shared/order']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: 127.0.0.1:5000/busybox:1
    workingDir: /shared
    command: [sh, -c, 'echo main $(PLAIN) "$@" >> order; exec sleep 100000', sh]
    args: [$(COLOUR), $$(COLOUR)]
    env:
    - {name: PLAIN, value: plain}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: ABSENT, valueFrom: {configMapKeyRef: {name: settings, key: absent, optional: true}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    envFrom: [{prefix: ALL_, configMapRef: {name: settings}}]
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi, cpu: 500m}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: memory, mountPath: /memory}
    - {name: map, mountPath: /map}
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: all, mountPath: /all}
    - {name: map, mountPath: /single.txt, subPath: file.txt}
    - {name: node, mountPath: /node}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: map, configMap: {name: settings}}
  - {name: secret, secret: {secretName: hidden, defaultMode: 0440}}
  - {name: node, hostPath: {path: /tmp, type: Directory}}
  - name: all
    projected:
      sources:
      - configMap: {name: settings, items: [{key: colour, path: deep/colour}]}
      - secret: {name: hidden}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
      - serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 3600}
"#;

/// A shell command in the pod `configured`, and what it prints.
const CONFIGURATION: &[(&str, &str)] = &[
    ("cat /shared/order", "first\nsecond\nmain plain green $(COLOUR)\n"),
    ("echo $PLAIN $COLOUR $PASSWORD $POD $NODE $MEMORY x$ABSENT", "plain green open sesame configured node-a 67108864 x\n"),
    ("echo $ALL_colour; test \"$(hostname -i)\" = \"$POD_IP\" && echo same", "green\nsame\n"),
    ("hostname; pwd", "named\n/shared\n"),
    ("id -u; id -g; id -G", "33\n33\n33 2000\n"),
    ("cat /map/file.txt /single.txt; od -An -tx1 /map/bytes", "from a map\nfrom a map\n 00 01 02\n"),
    ("cat /secret/password; stat -L -c %a /secret/password; stat -L -c %g /secret/password", "open sesame440\n2000\n"),
    ("cat /all/deep/colour; echo; cat /all/labels; echo", "green\ntier=\"front\"\n"),
    ("cut -d. -f2 /all/token | wc -l", "1\n"),
    ("touch /root 2>&1 | grep -o 'Read-only'; touch /shared/x && echo ok", "Read-only\nok\n"),
    ("grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status", "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"),
    ("df -k /memory | tail -1 | tr -s ' ' | cut -d' ' -f2", "1024\n"),
    ("ls -d /node/orch-e2e-* | wc -l | grep -c '[1-9]'", "1\n"),
    ("grep -c configured /etc/hosts; grep named /etc/hosts | tr '\\t' ' ' | cut -d' ' -f2", "0\nnamed\n"),
    ("head -1 /etc/resolv.conf | cut -d' ' -f2-", "default.svc.cluster.local svc.cluster.local cluster.local\n"),
    ("ls /proc | grep -c '^[0-9]*$' | grep -c '^[1-9]$'", "1\n"),
];

#[test]
fn configuration_and_volumes() {
    let cluster = match cluster() {
        Ok(cluster) => cluster,
        Err(reason) => skip!("{reason}"),
    };
    cluster.apply(CONFIGURED);
    cluster.api.ready(WAIT, "configured");
    let k = cluster.kubectl();
    let mut wrong = Vec::new();
    for (script, expected) in CONFIGURATION {
        let output = k.command(&["exec", "configured", "-c", "main", "--", "sh", "-c", script], WAIT).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        if text != *expected {
            wrong.push(format!("{script}\n  printed {text:?}, not {expected:?} {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    step("a changed ConfigMap reaches the files");
    k.ok(&["patch", "configmap", "settings", "-p", r#"{"data":{"file.txt":"changed\n"}}"#]);
    eventually(WAIT, "the file changes", || match k.ok(&["exec", "configured", "--", "cat", "/map/file.txt"]).as_str() {
        "changed\n" => Ok(()),
        other => Err(other.into()),
    });
    k.ok(&["delete", "pod", "configured"]);
    eventually(WAIT, "no mount of the pod is left", || {
        let mounts = cluster.host.sh("grep /pods/ /proc/self/mountinfo || true");
        if mounts.is_empty() { Ok(()) } else { Err(mounts) }
    });
}

const PROBED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: web
    image: 127.0.0.1:5000/nginx:1
    ports: [{containerPort: 80}]
    startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {path: /ready, port: 80}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {exec: {command: [test, '!', -e, /srv/sick]}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  containers:
  - {name: c, image: 127.0.0.1:5000/busybox:1, command: [sh, -c, 'echo run; echo because > /dev/termination-log; exit 7']}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: 127.0.0.1:5000/busybox:1, command: [sh, -c, 'echo done']}
---
apiVersion: v1
kind: Pod
metadata: {name: broken-init}
spec:
  restartPolicy: Never
  initContainers: [{name: i, image: 127.0.0.1:5000/busybox:1, command: ['false']}]
  containers: [{name: c, image: 127.0.0.1:5000/busybox:1}]
---
apiVersion: v1
kind: Pod
metadata: {name: absent-command}
spec:
  containers: [{name: c, image: 127.0.0.1:5000/busybox:1, command: [/no/such/program]}]
---
apiVersion: v1
kind: Pod
metadata: {name: graceful}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: c
    image: 127.0.0.1:5000/busybox:1
    command: [sh, -c, 'trap "echo terminated > /node/terminated; exit 0" TERM; echo up; while :; do usleep 50000; done']
    lifecycle: {preStop: {exec: {command: [sh, -c, 'echo stopping > /node/prestop']}}}
    volumeMounts: [{name: node, mountPath: /node}]
  volumes: [{name: node, hostPath: {path: NODE, type: Directory}}]
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 127.0.0.1:5000/busybox:1, command: [sh, -c, 'trap "" TERM; while :; do usleep 50000; done']}]
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: 127.0.0.1:5000/busybox:1
    command: [sh, -c, 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done']
    resources: {limits: {memory: 24Mi}}
"#;

#[test]
fn the_life_of_pods() {
    let cluster = match cluster() {
        Ok(cluster) => cluster,
        Err(reason) => skip!("{reason}"),
    };
    let shared = cluster.host.dir.join("node");
    std::fs::create_dir(&shared).unwrap();
    cluster.apply(&PROBED.replace("NODE", shared.to_str().unwrap()));
    let (api, k) = (&cluster.api, cluster.kubectl());

    step("an end without restart");
    assert_eq!(api.finished(WAIT, "once"), "Succeeded");
    assert_eq!(k.ok(&["logs", "once"]), "done\n");
    assert_eq!(api.finished(WAIT, "broken-init"), "Failed");

    step("out of memory");
    assert_eq!(api.finished(WAIT, "greedy"), "Failed");
    let greedy = api.get("/api/v1/namespaces/default/pods/greedy");
    let terminated = &statuses(&greedy)[0]["state"]["terminated"];
    assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&"OOMKilled".into(), &137.into()), "{terminated}");

    step("restarts back off");
    let crashing = api.pod(WAIT, "crashing", "backs off", |pod| {
        statuses(pod)
            .first()
            .is_some_and(|c| c["state"]["waiting"]["reason"] == "CrashLoopBackOff" && c["restartCount"].as_u64() >= Some(1))
    });
    let last = &statuses(&crashing)[0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["message"]), (&7.into(), &"because\n".into()), "{last}");
    api.event(WAIT, "crashing", "BackOff", "Back-off restarting failed container");
    assert_eq!(k.ok(&["logs", "--previous", "crashing"]), "run\n");
    api.pod(WAIT, "absent-command", "can't start", |pod| {
        let waiting = |c: &&Value| c["state"]["waiting"].to_string();
        statuses(pod)
            .first()
            .is_some_and(|c| waiting(c).contains("CreateContainerError") && waiting(c).contains("no such file or directory"))
    });

    probes(&cluster);
    terminations(&cluster);
}

fn probes(cluster: &Cluster) {
    step("probes");
    let (api, k) = (&cluster.api, cluster.kubectl());
    api.pod(WAIT, "probed", "has started, is not ready", |pod| {
        statuses(pod).first().is_some_and(|c| c["started"] == true && c["ready"] == false)
    });
    api.event(WAIT, "probed", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    k.ok(&["exec", "probed", "--", "touch", "/srv/ready"]);
    api.ready(WAIT, "probed");
    k.ok(&["exec", "probed", "--", "rm", "/srv/ready"]);
    api.pod(WAIT, "probed", "is no longer ready", |pod| !crate::support::api::is_ready(pod));
    k.ok(&["exec", "probed", "--", "touch", "/srv/sick"]);
    api.pod(WAIT, "probed", "is restarted", |pod| statuses(pod).first().is_some_and(|c| c["restartCount"] == 1 && c["started"] == true));
    api.event(WAIT, "probed", "Unhealthy", "Liveness probe failed");
    api.event(WAIT, "probed", "Killing", "failed liveness probe, will be restarted");
}

fn terminations(cluster: &Cluster) {
    step("graceful and other ends");
    let k = cluster.kubectl();
    cluster.api.ready(WAIT, "graceful");
    let begun = Instant::now();
    k.ok(&["delete", "pod", "graceful"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "it ended by itself, not by its grace period: {:?}", begun.elapsed());
    for file in ["prestop", "terminated"] {
        assert!(cluster.host.dir.join("node").join(file).exists(), "{file}");
    }
    cluster.api.ready(WAIT, "stubborn");
    let begun = Instant::now();
    k.ok(&["delete", "pod", "stubborn"]);
    assert!(begun.elapsed() >= Duration::from_secs(1), "it had its grace period: {:?}", begun.elapsed());
    k.ok(&["delete", "pod", "--all", "--grace-period=1"]);
    eventually(WAIT, "no process of a pod is left", || {
        let left = cluster.host.processes(" shim ");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
