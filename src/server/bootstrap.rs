//! What every cluster has: system namespaces, roles, priority classes, the DNS Service. Written at each start.
//!
//! Invariant: what an administrator changed in an object of ours is kept, unless the object says `autoupdate: "true"`
//! (`rbac.authorization.kubernetes.io/autoupdate`, as upstream): then it is put right.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ServerError;
use super::registry::{Body, FieldValidation, Registry, WriteOptions};
use crate::api::Status;
use crate::config::ServerConfig;

/// Shipped manifests, in the order in which they are applied.
const MANIFESTS: &[&str] = &[
    include_str!("../../manifests/namespaces.yaml"),
    include_str!("../../manifests/priority-classes.yaml"),
    include_str!("../../manifests/rbac.yaml"),
];

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Creates what is missing and puts right what is ours. Done at once for all objects: one batch for the store.
pub(super) async fn apply(registry: &Registry, config: &ServerConfig) -> Result<(), ServerError> {
    let mut documents = Vec::new();
    for manifest in MANIFESTS {
        for document in serde_yaml::Deserializer::from_str(manifest) {
            documents.push(Value::deserialize(document).expect("shipped manifests are YAML"));
        }
    }
    documents.push(dns_service(config));
    // Namespaces first: the others live in them.
    let (namespaces, others): (Vec<_>, Vec<_>) =
        documents.iter().filter(|d| !d.is_null()).partition(|document| document["kind"] == "Namespace");
    for batch in [namespaces, others] {
        futures::future::try_join_all(batch.into_iter().map(|document| ensure(registry, document))).await?;
    }
    Ok(())
}

/// The cluster's DNS: answered by every node itself, so it has no pods and no selector.
fn dns_service(config: &ServerConfig) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIP": config.dns_ip().to_string(),
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        },
    })
}

async fn ensure(registry: &Registry, document: &Value) -> Result<(), ServerError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name, namespace) = (text(&document["kind"]), text(&document["metadata"]["name"]), text(&document["metadata"]["namespace"]));
    let failed = |status: Status| ServerError::Bootstrap { what: format!("{kind} {name}"), status: Box::new(status) };
    let api_version = text(&document["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let def = registry.builtin().iter().find(|def| def.group() == group && def.version() == version && def.kind() == kind);
    let def = def.ok_or_else(|| failed(Status::no_such_path()))?;
    let options = WriteOptions { field_manager: "orch".into(), field_validation: FieldValidation::Strict, ..WriteOptions::default() };
    let body = |value: &Value| Body { bytes: value.to_string().into(), yaml: false };
    match registry.get(def, &namespace, &name).await {
        Err(status) if status.code == 404 => match registry.create(def, &namespace, body(document), &options).await {
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            created => created.map(|_| ()).map_err(failed),
        },
        Err(status) => Err(failed(status)),
        Ok(entry) => {
            let auto = entry.meta.annotations.as_ref().and_then(|annotations| annotations.get(AUTOUPDATE));
            if auto.is_none_or(|auto| auto != "true") || document["metadata"]["annotations"][AUTOUPDATE] != "true" {
                return Ok(());
            }
            let patch = super::registry::Patch::Merge(document.to_string().into());
            let part = super::registry::Part::Main;
            registry.patch(def, &namespace, &name, part, patch, &options).await.map(|_| ()).map_err(failed)
        }
    }
}
