//! What every cluster has: system namespaces, roles, priority classes, the DNS Service. Written at each start.
//!
//! Invariant: what an administrator changed in an object of ours is kept, unless it follows a flag ([`join`]); to roles and bindings what is missing is added ([`roles`]).

pub(super) mod join;
mod roles;

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Value, json};

use super::ServerError;
use super::auth::Lookup;
use super::auth::authz::MASTERS;
use super::registry::{Body, DeleteOptions, FieldValidation, Format, Part, Registry, User, WriteOptions};
use crate::api::cluster::Cluster;
use crate::api::join_token::AuthorityHash;
use crate::api::{Kind, Status};
use crate::config::ServerConfig;
use roles::{Reconciled, Repair};

/// Shipped manifests, in the order in which they are applied.
const MANIFESTS: &[&str] = &[include_str!("../../../manifests/namespaces.yaml"), include_str!("../../../manifests/priority-classes.yaml")];

/// Creates what is missing and puts right what is ours. Done at once for all objects: one batch for the store.
pub(super) async fn apply(
    registry: &Registry,
    config: &ServerConfig,
    cluster: &Cluster,
    (ca_pem, authority): (&str, AuthorityHash),
) -> Result<(), ServerError> {
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
    futures::try_join!(join::settings(registry, cluster, ca_pem), join::token(registry, &config.node.data_dir, authority))?;
    let policy = roles::Policy::shipped();
    // Roles first: a binding to a role that is not there grants nothing.
    futures::try_join!(reconcile(registry, &policy.cluster_roles), reconcile(registry, &policy.roles))?;
    futures::try_join!(reconcile(registry, &policy.cluster_bindings), reconcile(registry, &policy.bindings))?;
    Ok(())
}

/// Who writes what every cluster has.
static OPTIONS: LazyLock<WriteOptions> = LazyLock::new(|| {
    let user = User { name: "system:apiserver".into(), groups: vec![MASTERS.into()], ..User::default() };
    WriteOptions {
        user: Arc::new(user),
        field_manager: "kube-apiserver".into(),
        field_validation: FieldValidation::Strict,
        ..WriteOptions::default()
    }
});

async fn reconcile<T: Kind + Reconciled>(registry: &Registry, wanted: &[T]) -> Result<(), ServerError> {
    futures::future::try_join_all(wanted.iter().map(|wanted| bring_up(registry, wanted))).await.map(drop)
}

/// Makes `wanted` be there, or the one that is there be as good.
async fn bring_up<T: Kind + Reconciled>(registry: &Registry, wanted: &T) -> Result<(), ServerError> {
    let meta = wanted.meta();
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let failed = |status: Status| ServerError::Bootstrap { what: format!("{} {name}", T::KIND), status: Box::new(status) };
    let present: Option<Arc<T>> = Lookup::get(&registry.store().snapshot(), namespace, name);
    let create = || registry.create_object(Box::new(wanted.clone()), &OPTIONS);
    match present.map(|present| present.repair(wanted)) {
        None => create().await.map(drop).map_err(failed),
        Some(Repair::None) => Ok(()),
        Some(Repair::Update(object)) => registry.update_object(Box::new(object), Part::Main, &OPTIONS).await.map(drop).map_err(failed),
        Some(Repair::Replace) => {
            let kind = registry.kind_of(wanted).ok_or_else(|| failed(Status::no_such_path()))?;
            registry.delete(&kind, namespace, name, &DeleteOptions::default(), &OPTIONS).await.map_err(failed)?;
            create().await.map(drop).map_err(failed)
        }
    }
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
    let body = |value: &Value| Body { bytes: value.to_string().into(), format: Format::Json };
    match registry.get(def, &namespace, &name).await {
        Err(status) if status.code == 404 => match registry.create(def, &namespace, body(document), &OPTIONS).await {
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            created => created.map(|_| ()).map_err(failed),
        },
        Err(status) => Err(failed(status)),
        Ok(_) => Ok(()),
    }
}
