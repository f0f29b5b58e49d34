//! Descriptions as texts.

use super::*;

fn check(write: Write, object: &str, related: &[&str], events: Option<&str>, expected: &str) {
    let value = |yaml: &str| serde_yaml::from_str::<Value>(yaml).unwrap();
    let related: Vec<Value> = related.iter().map(|yaml| value(yaml)).collect();
    let events: Option<Vec<Value>> = events.map(|yaml| serde_yaml::from_str(yaml).unwrap());
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let got = render(write, &value(object), &related, events.as_deref(), now);
    assert_eq!(got, expected.trim_start_matches('\n'), "\n{got}");
}

#[test]
fn pods() {
    check(
        pod::pod,
        "{metadata: {name: p, namespace: d, labels: {a: b}, ownerReferences: [{controller: true, kind: ReplicaSet, name: r}]}, \
          spec: {nodeName: n, containers: [{name: c, image: i, ports: [{containerPort: 80}], livenessProbe: {httpGet: {port: 80, path: /x}}, \
          volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {}}]}, \
          status: {phase: Running, hostIP: 1.2.3.4, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}], qosClass: BestEffort, conditions: [{type: Ready, status: 'True'}], \
          containerStatuses: [{name: c, containerID: x, imageID: y, ready: true, restartCount: 1, state: {running: {startedAt: '2026-01-01T00:00:00Z'}}}]}}",
        &[],
        Some("[{type: Normal, reason: Started, lastTimestamp: '2026-01-01T00:59:00Z', source: {component: kubelet}, message: m}]"),
        "
Name:         p
Namespace:    d
Node:         n/1.2.3.4
Labels:       a=b
Annotations:  <none>
Status:       Running
IP:           10.0.0.1
IPs:
  IP:           10.0.0.1
Controlled By:  ReplicaSet/r
Containers:
  c:
    Container ID:   x
    Image:          i
    Image ID:       y
    Port:           80/TCP
    Host Port:      0/TCP
    State:          Running
      Started:      Thu, 01 Jan 2026 00:00:00 +0000
    Ready:          True
    Restart Count:  1
    Liveness:       http-get http://:80/x delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment:    <none>
    Mounts:
      /v from v (rw)
Conditions:
  Type   Status
  ----   ------
  Ready  True
Volumes:
  v:
    Type:        EmptyDir
QoS Class:       BestEffort
Node-Selectors:  <none>
Tolerations:     <none>
Events:
  Type    Reason   Age   From     Message
  ----    ------   ----  ----     -------
  Normal  Started  60s   kubelet  m
",
    );
}

#[test]
fn services() {
    check(
        service::service,
        "{metadata: {name: s, namespace: d}, spec: {type: ClusterIP, clusterIP: 10.43.0.9, selector: {a: b}, ports: [{port: 80, targetPort: 8080, protocol: TCP}]}}",
        &[
            "{ports: [{port: 8080}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}, {addresses: [10.0.0.2], conditions: {ready: false}}]}",
        ],
        Some("[]"),
        "
Name:         s
Namespace:    d
Labels:       <none>
Annotations:  <none>
Selector:     a=b
Type:         ClusterIP
IP:           10.43.0.9
Port:         <unset>  80/TCP
TargetPort:   8080/TCP
Endpoints:    10.0.0.1:8080
Events:       <none>
",
    );
}

#[test]
fn deployments() {
    check(
        workload::deployment,
        "{metadata: {name: d, annotations: {deployment.kubernetes.io/revision: '2'}, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: {replicas: 2, \
          selector: {matchLabels: {a: b}}, strategy: {type: Recreate}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}, \
          status: {replicas: 2, updatedReplicas: 2, availableReplicas: 1, unavailableReplicas: 1}}",
        &["{metadata: {name: d-2, annotations: {deployment.kubernetes.io/revision: '2'}}, spec: {replicas: 2}, status: {replicas: 2}}"],
        None,
        "
Name:               d
CreationTimestamp:  Thu, 01 Jan 2026 00:00:00 +0000
Labels:             <none>
Annotations:        deployment.kubernetes.io/revision: 2
Selector:           a=b
Replicas:           2 desired | 2 updated | 2 total | 1 available | 1 unavailable
StrategyType:       Recreate
MinReadySeconds:    0
Pod Template:
  Labels:  a=b
  Containers:
    c:
      Image:        i
      Port:         <none>
      Host Port:    <none>
      Environment:  <none>
      Mounts:       <none>
  Volumes:          <none>
  Node-Selectors:   <none>
  Tolerations:      <none>
OldReplicaSets:     <none>
NewReplicaSet:      d-2 (2/2 replicas created)
",
    );
}

#[test]
fn other_kinds() {
    check(
        generic::object,
        "{apiVersion: v1, kind: Secret, metadata: {name: s, uid: u}, data: {k: c2VjcmV0}, type: Opaque}",
        &[],
        None,
        "
Name:         s
Labels:       <none>
Annotations:  <none>
API Version:  v1
Kind:         Secret
Data:
  k:  6 bytes
Metadata:
  Uid:  u
Type:   Opaque
",
    );
}
