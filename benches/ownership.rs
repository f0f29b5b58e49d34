//! What keeping track of field ownership costs a write, in nanoseconds on one core.
//!
//! Prints `NAME VALUE` lines. What is measured is what the registry does beside its other work: the object as a tree, its comparison
//! with what was there, and the entries of `managedFields` read and written.

use std::hint::black_box;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use orch::api::apply::manager::{Applied, Live, Writer, apply, update};
use orch::api::apply::{Filter, Schema, Versions, compile};
use orch::api::{Object, schema};
use serde_json::Value;

const SPAN: Duration = Duration::from_secs(1);

struct One(Schema);

impl Versions for One {
    fn schema(&self, version: &str) -> Option<&Schema> {
        (version == "v1").then_some(&self.0)
    }
    fn convert(&self, value: &Value, _: &str, _: &str) -> Result<Value, String> {
        Ok(value.clone())
    }
    fn filter(&self, _: &str) -> Filter {
        Filter::Except(&[&["status"]])
    }
}

/// Nanoseconds that one call takes, over a second of calls.
fn time<T>(name: &str, mut call: impl FnMut() -> T) {
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < SPAN {
        for _ in 0..16 {
            black_box(call());
        }
        count += 16;
    }
    println!("{name} {:.0}", begun.elapsed().as_secs_f64() * 1e9 / f64::from(count));
}

fn pod() -> Result<Pod, serde_yaml::Error> {
    serde_yaml::from_str(
        "
metadata: {name: web-5d78c9869d-abcde, namespace: default, labels: {app: web, pod-template-hash: 5d78c9869d},
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: 0b5c, controller: true, blockOwnerDeletion: true}]}
spec:
  containers:
  - {name: web, image: 'nginx:1.27', ports: [{containerPort: 80, protocol: TCP}], imagePullPolicy: IfNotPresent,
     env: [{name: A, value: b}, {name: C, value: d}], resources: {requests: {cpu: 100m, memory: 64Mi}},
     volumeMounts: [{name: data, mountPath: /data}, {name: kube-api-access, mountPath: /var/run/secrets, readOnly: true}],
     terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File}
  volumes: [{name: data, emptyDir: {}}]
  restartPolicy: Always
  terminationGracePeriodSeconds: 30
  dnsPolicy: ClusterFirst
  serviceAccountName: default
  serviceAccount: default
  securityContext: {}
  schedulerName: default-scheduler
  enableServiceLinks: true
",
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pods = One(compile::built_in(|generator| generator.subschema_for::<Pod>()));
    let maps = One(compile::built_in(|generator| generator.subschema_for::<ConfigMap>()));
    time("compile_pod_schema_ns", || compile::built_in(|generator| generator.subschema_for::<Pod>()));
    let now = Time("2026-01-02T03:04:05Z".parse()?);
    let writer = |manager| Writer { manager, version: "v1", subresource: "", now: &now };

    let (pod, zero) = (pod()?, schema::zero("io.k8s.api.core.v1.Pod"));
    let tree = |object: &dyn Object| {
        let mut tree = object.to_value();
        schema::fill(&mut tree, &zero);
        tree
    };
    time("pod_as_tree_ns", || tree(&pod));
    let create = || {
        let live = Live { value: &zero, entries: None, is_new: true };
        update(live, &tree(&pod), None, writer("kube-controller-manager"), &pods)
    };
    time("create_pod_ns", create);
    let entries = create()?;
    let stored = serde_json::to_vec(&entries)?;
    println!("pod_managed_fields_bytes {}", stored.len());

    let mut bound = pod.clone();
    bound.metadata.labels.get_or_insert_default().insert("x".into(), "y".into());
    let change = |new: &Pod| {
        let entries: Option<Vec<ManagedFieldsEntry>> = serde_json::from_slice(&stored)?;
        let (old, new) = (tree(&pod), tree(new));
        update(Live { value: &old, entries, is_new: false }, &new, None, writer("kubelet"), &pods).map_err(serde::de::Error::custom)
    };
    time("update_pod_ns", || change(&bound).map_err(|error: serde_json::Error| error));
    time("update_pod_unchanged_ns", || change(&pod).map_err(|error: serde_json::Error| error));

    let config = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]}});
    let applied = Applied { config: &config, kind: "Pod", force: false, zero: &zero };
    time("apply_pod_ns", || {
        let entries = serde_json::from_slice(&stored).ok().flatten();
        apply(Live { value: &tree(&pod), entries, is_new: false }, applied, writer("me"), &pods)
    });

    let map: ConfigMap = serde_yaml::from_str("{metadata: {name: a, namespace: n}, data: {a: '1', b: '2', c: '3', d: '4'}}")?;
    let zero = serde_json::json!({"metadata": {}});
    time("create_configmap_ns", || {
        update(Live { value: &zero, entries: None, is_new: true }, &map.to_value(), None, writer("test"), &maps)
    });
    Ok(())
}
