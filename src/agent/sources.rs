//! ConfigMaps and Secrets that this node's pods use: one watch per object for as long as anybody holds it, none otherwise.
//! Watches name one object each, since that is all that the node authorizer allows.
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::runtime::watcher;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::spec::env::{Data, SourceKind};
use super::volumes::VolumeError;
use crate::client::{Change, Client, changes};

/// Wakes when an object changes.
pub type Changes = watch::Receiver<Option<Data>>;

type Id = (SourceKind, String, String);

/// One watched object. Ends its watch when dropped.
pub struct Source {
    value: watch::Receiver<Option<Data>>,
    task: tokio::task::AbortHandle,
    client: Client,
    id: Id,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    /// Its newest value, and a receiver that is woken by the next change of it. Waits for the first value, and asks directly if the
    /// watch is slow to begin.
    pub async fn value(&self) -> Result<(Data, Changes), VolumeError> {
        let mut changes = self.value.clone();
        let first = tokio::time::timeout(std::time::Duration::from_secs(2), changes.changed()).await;
        if let Ok(Ok(())) = first {
            let known = changes.borrow_and_update().clone();
            if let Some(data) = known {
                return Ok((data, changes));
            }
        }
        Ok((fetch(&self.client, &self.id).await?, changes))
    }
}

/// Gets one object once.
pub async fn fetch(client: &Client, (kind, namespace, name): &Id) -> Result<Data, VolumeError> {
    let what = || format!("{} \"{namespace}/{name}\"", kind.noun());
    let fail = |source| VolumeError::Api { what: what(), source: Box::new(source) };
    Ok(match kind {
        SourceKind::ConfigMap => Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await.map_err(fail)?.map(map_data),
        SourceKind::Secret => Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await.map_err(fail)?.map(secret_data),
    })
}

/// Gets one object once, as environment variables see it: a ConfigMap's binaryData are none of them.
pub async fn fetch_env(client: &Client, id: &Id) -> Result<Data, VolumeError> {
    let (SourceKind::ConfigMap, namespace, name) = id else { return fetch(client, id).await };
    let fail = |source| VolumeError::Api { what: format!("{} \"{namespace}/{name}\"", id.0.noun()), source: Box::new(source) };
    let map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await.map_err(fail)?;
    Ok(map.map(|map| map_data(ConfigMap { binary_data: None, ..map })))
}

fn map_data(map: ConfigMap) -> std::collections::BTreeMap<String, Vec<u8>> {
    let text = map.data.into_iter().flatten().map(|(k, v)| (k, v.into_bytes()));
    text.chain(map.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0))).collect()
}

fn secret_data(secret: Secret) -> std::collections::BTreeMap<String, Vec<u8>> {
    secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect()
}

/// All that are held.
pub struct Sources {
    client: Client,
    held: Mutex<HashMap<Id, Weak<Source>>>,
}

impl Sources {
    /// None held yet.
    pub fn new(client: Client) -> Sources {
        Sources { client, held: Mutex::default() }
    }

    /// The object, watched for as long as the answer lives.
    pub async fn get(&self, kind: SourceKind, namespace: &str, name: &str) -> Arc<Source> {
        let id = (kind, namespace.to_owned(), name.to_owned());
        let mut held = self.held.lock();
        if let Some(source) = held.get(&id).and_then(Weak::upgrade) {
            return source;
        }
        held.retain(|_, source| source.strong_count() > 0);
        let (send, value) = watch::channel(None);
        let task = match kind {
            SourceKind::ConfigMap => tokio::spawn(follow::<ConfigMap>(self.client.clone(), id.clone(), send, map_data)),
            SourceKind::Secret => tokio::spawn(follow::<Secret>(self.client.clone(), id.clone(), send, secret_data)),
        };
        let source = Arc::new(Source { value, task: task.abort_handle(), client: self.client.clone(), id: id.clone() });
        held.insert(id, Arc::downgrade(&source));
        source
    }
}

async fn follow<K>(
    client: Client,
    (_, namespace, name): Id,
    send: watch::Sender<Option<Data>>,
    data: fn(K) -> std::collections::BTreeMap<String, Vec<u8>>,
) where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client, &namespace);
    let stream = changes(api, watcher::Config::default().fields(&format!("metadata.name={name}")));
    let mut stream = std::pin::pin!(stream);
    while let Some(change) = stream.next().await {
        let next = match change {
            Change::Reset(all) => all.into_iter().next().map(data),
            Change::Set(object) => Some(data(object)),
            Change::Gone(_) => None,
        };
        send.send_if_modified(|old| {
            let next = Some(next);
            let changed = *old != next;
            *old = next;
            changed
        });
    }
}
