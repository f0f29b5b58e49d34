//! Services and their endpoints as the API server has them, watched once for whoever needs them on this node (packet rules and DNS).
//!
//! A snapshot is immutable and cheap to clone. The first is published when both lists are complete, so that a restart never acts on half of
//! the cluster. Readers that are slow see the newest snapshot and miss the ones between: that is how bursts are taken together.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use imbl::OrdMap;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The label by which a slice belongs to a Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub(crate) type ObjectKey = (String, String);

/// All Services and slices of one moment.
#[derive(Clone, Default)]
pub(crate) struct Services {
    /// By namespace and name.
    pub services: OrdMap<ObjectKey, Arc<Service>>,
    /// By namespace and name of the slice.
    pub slices: OrdMap<ObjectKey, Arc<EndpointSlice>>,
}

impl Services {
    /// The IPv4 slices by namespace and name of their Service.
    pub fn slices_by_service(&self) -> HashMap<(&str, &str), Vec<&EndpointSlice>> {
        let mut grouped: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
        for ((namespace, _), slice) in self.slices.iter().filter(|(_, slice)| slice.address_type == "IPv4") {
            if let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) {
                grouped.entry((namespace, service)).or_default().push(slice);
            }
        }
        grouped
    }
}

/// Takes new connections. A missing condition counts as true (`discovery/v1`, EndpointConditions).
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

/// Still answers while it ends.
pub(crate) fn is_serving_to_the_end(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|c| c.terminating == Some(true) && c.serving.unwrap_or(true))
}

/// Starts watching; `None` until both lists are complete. Ends with the token.
pub(crate) fn watch_services(client: &Client, shutdown: CancellationToken) -> watch::Receiver<Option<Services>> {
    let (sender, receiver) = watch::channel(None);
    let (services, slices) = (Api::<Service>::all(client.clone()), Api::<EndpointSlice>::all(client.clone()));
    tokio::spawn(async move {
        let mut services = watch_kind(services, watcher::Config::default()).default_backoff().boxed();
        let mut slices = watch_kind(slices, watcher::Config::default()).default_backoff().boxed();
        let (mut known_services, mut known_slices) = (Known::default(), Known::default());
        loop {
            let changed = tokio::select! {
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                Some(event) = services.next() => known_services.take(event),
                Some(event) = slices.next() => known_slices.take(event),
                else => return,
            };
            if changed && known_services.complete && known_slices.complete {
                sender.send_replace(Some(Services { services: known_services.objects.clone(), slices: known_slices.objects.clone() }));
            }
        }
    });
    receiver
}

/// The objects of one kind, kept in step with its watch.
struct Known<K> {
    objects: OrdMap<ObjectKey, Arc<K>>,
    /// A list under way: it replaces `objects` when it is whole.
    listing: OrdMap<ObjectKey, Arc<K>>,
    complete: bool,
}

impl<K> Default for Known<K> {
    fn default() -> Known<K> {
        Known { objects: OrdMap::new(), listing: OrdMap::new(), complete: false }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned> Known<K> {
    /// Takes an event in; says whether `objects` changed.
    fn take(&mut self, event: Result<Event<K>, watcher::Error>) -> bool {
        match event {
            Ok(Event::Apply(object)) => drop(self.objects.insert(key_of(&object), lean(object))),
            Ok(Event::Delete(object)) => drop(self.objects.remove(&key_of(&object))),
            Ok(Event::Init) => self.listing = OrdMap::new(),
            Ok(Event::InitApply(object)) => drop(self.listing.insert(key_of(&object), lean(object))),
            Ok(Event::InitDone) => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Err(error) => {
                tracing::warn!(%error, kind = %K::kind(&()), "watching; trying again");
                return false;
            }
        }
        true
    }
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Without what nobody here reads: there may be ten thousand.
fn lean<K: Resource>(mut object: K) -> Arc<K> {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
    meta.owner_references = None;
    Arc::new(object)
}

#[cfg(test)]
pub(crate) fn services_of(yaml: &str) -> Services {
    use serde::Deserialize;
    let mut all = Services::default();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = serde_yaml::Value::deserialize(document).expect("YAML");
        if value["kind"] == "Service" {
            let object: Service = serde_yaml::from_value(value).expect("a Service");
            all.services.insert(key_of(&object), lean(object));
        } else {
            let object: EndpointSlice = serde_yaml::from_value(value).expect("an EndpointSlice");
            all.slices.insert(key_of(&object), lean(object));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use std::time::Duration;

    const SLICE: &str = r#"{"metadata":{"namespace":"default","name":"web-1","resourceVersion":"6","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","endpoints":[]}"#;
    const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"default","name":"web","resourceVersion":"7"}}"#;

    /// An API server with one slice, whose watch of Services adds one.
    fn client() -> Client {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
            let (text, ends) = match (path.ends_with("/services"), query.contains("watch=true")) {
                (true, true) => (format!("{{\"type\":\"ADDED\",\"object\":{SERVICE}}}\n"), false),
                (false, true) => (String::new(), false),
                (true, false) => (r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#.into(), true),
                (false, false) => (format!(r#"{{"metadata":{{"resourceVersion":"6"}},"items":[{SLICE}]}}"#), true),
            };
            let first = stream::once(async move { Ok::<_, std::io::Error>(Frame::data(Bytes::from(text))) });
            let rest = if ends { stream::empty().left_stream() } else { stream::pending().right_stream() };
            Ok::<_, std::io::Error>(http::Response::new(StreamBody::new(first.chain(rest)).boxed_unsync()))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_snapshot_is_whole_and_follows_the_watch() {
        let shutdown = CancellationToken::new();
        let mut services = watch_services(&client(), shutdown.clone());
        let deadline = Duration::from_secs(10);
        let whole = |known: &Option<Services>| known.as_ref().is_some_and(|known| known.services.len() == 1);
        let known = tokio::time::timeout(deadline, services.wait_for(whole)).await.expect("in time").expect("watching").clone();
        assert_eq!(known.expect("whole").slices_by_service()[&("default", "web")].len(), 1);
        shutdown.cancel();
        tokio::time::timeout(deadline, async { while services.changed().await.is_ok() {} }).await.expect("it ends with the token");
    }
}
