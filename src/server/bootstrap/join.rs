//! What machines need to join: the cluster's settings for its nodes, what anybody may know of the cluster, and a token that is there from the
//! first start.
//!
//! Both ConfigMaps follow the server's flags and authority at each start; keys of theirs that are not ours stay, such as the signatures that
//! `controllers::bootstrap_signer` adds to `cluster-info` (kubeadm's `phases/bootstraptoken/clusterinfo`).
//!
//! The token is in `DATA_DIR/node-token` too, for whoever sets up the next machine. It is made once: an administrator who deletes its Secret
//! does not get it back; who removes the file gets another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::OPTIONS;
use crate::api::Status;
use crate::api::cluster::{self, Cluster};
use crate::api::join_token::{AuthorityHash, JoinToken};
use crate::files;
use crate::server::ServerError;
use crate::server::auth::Lookup;
use crate::server::auth::authn::bootstrap_token;
use crate::server::registry::{Part, Registry};

/// The file with the first token, in the data directory.
pub(in crate::server) const FILE: &str = "node-token";
/// Who bears it may ask for a node's certificate (`manifests/rbac.txt`).
const GROUPS: &str = "system:bootstrappers:kubeadm:default-node-token";

fn failed(what: &str) -> impl FnOnce(Status) -> ServerError {
    move |status| ServerError::Bootstrap { what: what.into(), status: Box::new(status) }
}

/// Writes the settings and `cluster-info`. `ca_pem` is the authority that signs the server's certificate.
pub(super) async fn settings(registry: &Registry, wanted: &Cluster, ca_pem: &str) -> Result<(), ServerError> {
    let info = BTreeMap::from([(cluster::INFO_KUBECONFIG.to_owned(), kubeconfig(&wanted.server, ca_pem))]);
    let settings = follow(registry, (cluster::NAMESPACE, cluster::NAME), wanted.write());
    futures::try_join!(settings, follow(registry, cluster::INFO, info)).map(drop)
}

/// Where the API is and whom to believe, without credentials. Its only cluster has no name, as kubeadm looks for it.
fn kubeconfig(server: &str, ca_pem: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "contexts": [],
        "current-context": "",
        "users": [],
    });
    serde_yaml::to_string(&config).expect("maps, lists and texts are YAML")
}

/// Makes a ConfigMap say `wanted`, and leaves what else it says.
async fn follow(registry: &Registry, (namespace, name): (&str, &str), wanted: BTreeMap<String, String>) -> Result<(), ServerError> {
    let present: Option<Arc<ConfigMap>> = Lookup::get(&registry.store().snapshot(), namespace, name);
    let mut data = present.as_ref().and_then(|present| present.data.clone()).unwrap_or_default();
    data.extend(wanted);
    let data = Some(data);
    let written = match present {
        Some(present) if present.data == data => return Ok(()),
        Some(present) => {
            let changed = ConfigMap { data, ..(*present).clone() };
            registry.update_object(Box::new(changed), Part::Main, &OPTIONS).await
        }
        None => {
            let made = ConfigMap { metadata: meta(namespace, name), data, ..ConfigMap::default() };
            registry.create_object(Box::new(made), &OPTIONS).await
        }
    };
    written.map(drop).map_err(failed(&format!("ConfigMap {namespace}/{name}")))
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() }
}

/// The first token, made when there is none for this authority.
pub(super) async fn token(registry: &Registry, data_dir: &Path, authority: AuthorityHash) -> Result<(), ServerError> {
    let path = data_dir.join(FILE);
    let present = files::read(&path)?.and_then(|text| JoinToken::parse(&text).ok());
    if present.is_some_and(|token| token.authority == authority) {
        return Ok(());
    }
    let token = JoinToken::generate(authority).map_err(|_| failed("the token for nodes")(Status::internal("no random bytes")))?;
    // The Secret first: a token in the file that lets nobody in would be worse than a Secret that nobody knows.
    registry.create_object(Box::new(secret(&token)), &OPTIONS).await.map_err(failed("the token for nodes"))?;
    files::write_private(&path, format!("{}\n", token.reveal()).as_bytes())?;
    Ok(())
}

fn secret(token: &JoinToken) -> Secret {
    let data = [
        ("token-id", token.id.as_str()),
        ("token-secret", token.secret()),
        ("usage-bootstrap-authentication", "true"),
        ("usage-bootstrap-signing", "true"),
        ("auth-extra-groups", GROUPS),
        ("description", "Made at the server's first start; also in its data directory."),
    ];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    Secret {
        metadata: meta(bootstrap_token::NAMESPACE, &format!("{}{}", bootstrap_token::PREFIX, token.id)),
        type_: Some(bootstrap_token::TYPE.into()),
        data: Some(data),
        ..Secret::default()
    }
}
