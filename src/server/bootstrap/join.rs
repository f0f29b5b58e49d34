//! What machines need to join: the cluster's settings for its nodes, and a token that is there from the first start.
//!
//! The token is in `DATA_DIR/node-token` too, for whoever sets up the next machine. It is made once: an administrator who deletes its Secret
//! does not get it back; who removes the file gets another.

use std::path::Path;
use std::sync::Arc;

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

/// Writes the settings, which follow the server's flags.
pub(super) async fn settings(registry: &Registry, wanted: &Cluster) -> Result<(), ServerError> {
    let what = failed("the settings for nodes");
    let data = Some(wanted.write());
    let present: Option<Arc<ConfigMap>> = Lookup::get(&registry.store().snapshot(), cluster::NAMESPACE, cluster::NAME);
    match present {
        Some(present) if present.data == data => Ok(()),
        Some(present) => {
            let changed = ConfigMap { data, ..(*present).clone() };
            registry.update_object(Box::new(changed), Part::Main, &OPTIONS).await.map(drop).map_err(what)
        }
        None => {
            let metadata = meta(cluster::NAME);
            registry.create_object(Box::new(ConfigMap { metadata, data, ..ConfigMap::default() }), &OPTIONS).await.map(drop).map_err(what)
        }
    }
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some(cluster::NAMESPACE.into()), ..ObjectMeta::default() }
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
        metadata: meta(&format!("bootstrap-token-{}", token.id)),
        type_: Some(bootstrap_token::TYPE.into()),
        data: Some(data),
        ..Secret::default()
    }
}
