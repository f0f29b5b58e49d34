//! Services and their endpoints as the API server has them, watched once for whoever needs them on this node: packet rules, DNS, and the
//! environments of containers.
//!
//! A snapshot is immutable and cheap to clone. The first is published when both lists are complete, so that a restart never acts on half of
//! the cluster. Readers that are slow see the newest snapshot and miss the ones between: that is how bursts are taken together.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::spec::env::ServiceEnv;
use crate::client::events;

/// The label by which a slice belongs to a Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The Service of the API itself.
const API: (&str, &str) = ("default", "kubernetes");

/// Namespace and name.
pub type ObjectKey = (String, String);

/// All Services and slices of one moment. What two moments share need not be looked at to tell them apart.
#[derive(Clone, Default)]
pub struct Services {
    /// By namespace and name.
    services: OrdMap<ObjectKey, Arc<Service>>,
    /// The IPv4 slices by namespace and name of their Service, then by their own name.
    slices: OrdMap<ObjectKey, OrdMap<String, Arc<EndpointSlice>>>,
}

impl Services {
    /// The Service, if there is one, and its IPv4 slices.
    pub fn get(&self, key: &ObjectKey) -> Option<(&Service, Vec<&EndpointSlice>)> {
        let service = self.services.get(key)?;
        Some((service, self.slices.get(key).into_iter().flat_map(OrdMap::values).map(Arc::as_ref).collect()))
    }

    /// The Services that differ, or whose slices do, between the two moments.
    pub fn changed_since(&self, old: &Services) -> BTreeSet<ObjectKey> {
        let services = old.services.diff(&self.services).map(|item| key_in(&item).clone());
        let slices = old.slices.diff(&self.slices).map(|item| key_in(&item).clone());
        services.chain(slices).collect()
    }

    /// What containers of this namespace are told: its Services, and that of the API, which all are told of.
    pub(crate) fn environment(&self, namespace: &str) -> Vec<ServiceEnv> {
        let from = (namespace.to_owned(), String::new());
        let own = self.services.range(from..).take_while(|(key, _)| key.0 == namespace);
        let api = self.services.get_key_value(&(API.0.to_owned(), API.1.to_owned()));
        let mut all: Vec<_> = own.chain(api.filter(|_| namespace != API.0)).collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().filter_map(|(key, service)| service_env(key, service)).collect()
    }

    fn take_services(&mut self, change: Change<Service>) {
        match change {
            Change::One { key, new: Some(new), .. } => drop(self.services.insert(key, new)),
            Change::One { key, new: None, .. } => drop(self.services.remove(&key)),
            Change::All(all) => self.services = all,
        }
    }

    fn take_slices(&mut self, change: Change<EndpointSlice>) {
        match change {
            Change::One { key: (_, name), old, new } => {
                if let Some(service) = old.as_deref().and_then(service_of)
                    && let Some(slices) = self.slices.get_mut(&service)
                {
                    slices.remove(&name);
                    if slices.is_empty() {
                        self.slices.remove(&service);
                    }
                }
                if let Some(new) = new {
                    self.add_slice(name, new);
                }
            }
            Change::All(all) => {
                self.slices = OrdMap::new();
                all.into_iter().for_each(|((_, name), slice)| self.add_slice(name, slice));
            }
        }
    }

    fn add_slice(&mut self, name: String, slice: Arc<EndpointSlice>) {
        if let Some(service) = service_of(&slice) {
            self.slices.entry(service).or_default().insert(name, slice);
        }
    }
}

/// A Service with a virtual address, as environments show it.
fn service_env((namespace, name): &ObjectKey, service: &Service) -> Option<ServiceEnv> {
    let spec = service.spec.as_ref()?;
    let ip = spec.cluster_ip.clone().filter(|ip| !ip.is_empty() && ip != "None")?;
    let port = |port: &ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        (port.name.clone().unwrap_or_default(), protocol, port.port)
    };
    Some(ServiceEnv { namespace: namespace.clone(), name: name.clone(), ip, ports: spec.ports.iter().flatten().map(port).collect() })
}

fn key_in<'a, V>(item: &DiffItem<'a, 'a, ObjectKey, V>) -> &'a ObjectKey {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { old: (key, _), .. } => key,
    }
}

/// Whose endpoints these are; those of IPv6 are nobody's.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    (slice.address_type == "IPv4").then(|| (slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
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
pub fn watch_services(client: &Client, shutdown: CancellationToken) -> watch::Receiver<Option<Services>> {
    let (sender, receiver) = watch::channel(None);
    let (services, slices) = (Api::<Service>::all(client.clone()), Api::<EndpointSlice>::all(client.clone()));
    tokio::spawn(async move {
        let mut services = events(services, watcher::Config::default()).default_backoff().boxed();
        let mut slices = events(slices, watcher::Config::default()).default_backoff().boxed();
        let (mut known_services, mut known_slices) = (Known::default(), Known::default());
        let mut current = Services::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                Some(event) = services.next() => match known_services.take(event) {
                    Some(change) => current.take_services(change),
                    None => continue,
                },
                Some(event) = slices.next() => match known_slices.take(event) {
                    Some(change) => current.take_slices(change),
                    None => continue,
                },
                else => return,
            }
            if known_services.complete && known_slices.complete {
                sender.send_replace(Some(current.clone()));
            }
        }
    });
    receiver
}

/// What a watch tells of the objects of one kind.
enum Change<K> {
    /// One of them is another now, or new, or gone.
    One { key: ObjectKey, old: Option<Arc<K>>, new: Option<Arc<K>> },
    /// These are all.
    All(OrdMap<ObjectKey, Arc<K>>),
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
    /// Takes an event in; says what changed.
    fn take(&mut self, event: Result<Event<K>, watcher::Error>) -> Option<Change<K>> {
        match event {
            Ok(Event::Apply(object)) => {
                let (key, new) = (key_of(&object), lean(object));
                let old = self.objects.insert(key.clone(), new.clone());
                Some(Change::One { key, old, new: Some(new) })
            }
            Ok(Event::Delete(object)) => {
                let key = key_of(&object);
                let old = self.objects.remove(&key);
                Some(Change::One { key, old, new: None })
            }
            Ok(Event::Init) => {
                self.listing = OrdMap::new();
                None
            }
            Ok(Event::InitApply(object)) => {
                self.listing.insert(key_of(&object), lean(object));
                None
            }
            Ok(Event::InitDone) => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
                Some(Change::All(self.objects.clone()))
            }
            Err(error) => {
                tracing::warn!(%error, kind = %K::kind(&()), "watching; trying again");
                None
            }
        }
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
            all.take_services(Change::One { key: key_of(&object), old: None, new: Some(lean(object)) });
        } else {
            let object: EndpointSlice = serde_yaml::from_value(value).expect("an EndpointSlice");
            all.take_slices(Change::One { key: key_of(&object), old: None, new: Some(lean(object)) });
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use std::time::Duration;

    const SLICE: &str = r#"{"metadata":{"namespace":"default","name":"web-1","resourceVersion":"6","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","endpoints":[]}"#;
    /// What is there has been told.
    const WHOLE: &str = r#"{"type":"BOOKMARK","object":{"kind":"K","apiVersion":"v1","metadata":{"resourceVersion":"6","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"default","name":"web","resourceVersion":"7"}}"#;

    /// An API server with one slice and no Service, whose watch adds one.
    fn client() -> Client {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
            assert!(query.contains("sendInitialEvents=true"), "{query}");
            let added = |object: &str| format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n");
            let text = match path.ends_with("/services") {
                true => format!("{WHOLE}\n{}", added(SERVICE)),
                false => format!("{}{WHOLE}\n", added(SLICE)),
            };
            let first = stream::once(async move { Ok::<_, std::io::Error>(Frame::data(Bytes::from(text))) });
            Ok::<_, std::io::Error>(http::Response::new(StreamBody::new(first.chain(stream::pending())).boxed_unsync()))
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
        let web = ("default".to_owned(), "web".to_owned());
        assert_eq!(known.expect("whole").get(&web).map(|(_, slices)| slices.len()), Some(1));
        shutdown.cancel();
        tokio::time::timeout(deadline, async { while services.changed().await.is_ok() {} }).await.expect("it ends with the token");
    }

    #[test]
    fn what_changed_between_two_moments() {
        const TWO: &str = "
kind: Service
metadata: {namespace: default, name: web}
---
kind: Service
metadata: {namespace: default, name: db}
";
        let slice = |name: &str, service: &str, kind: &str| {
            format!(
                "---\nkind: EndpointSlice\nmetadata: {{namespace: default, name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: {kind}\nendpoints: []\n"
            )
        };
        let cases: &[(&str, &str, &[&str])] = &[
            ("", "", &[]),
            ("", &slice("a", "web", "IPv4"), &["web"]),
            ("", &slice("a", "web", "IPv6"), &[]),
            (&slice("a", "web", "IPv4"), &slice("a", "db", "IPv4"), &["db", "web"]),
            (&slice("a", "web", "IPv4"), "", &["web"]),
            ("", "---\nkind: Service\nmetadata: {namespace: default, name: db, labels: {x: y}}\n", &["db"]),
            ("---\nkind: Service\nmetadata: {namespace: default, name: third}\n", "", &["third"]),
        ];
        for (old, new, expect) in cases {
            let [old, new] = [old, new].map(|more| services_of(&format!("{TWO}{more}")));
            let changed: Vec<String> = new.changed_since(&old).into_iter().map(|(_, name)| name).collect();
            assert_eq!(changed, *expect);
        }
    }

    #[test]
    fn what_containers_of_a_namespace_are_told() {
        let service = |namespace: &str, name: &str, ip: &str| {
            format!(
                "---\nkind: Service\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n"
            )
        };
        let list = [("default", "kubernetes", "10.0.0.1"), ("default", "web", "10.0.0.2"), ("a", "web", "10.0.0.3"), ("a", "none", "None")];
        let all = services_of(&list.map(|(namespace, name, ip)| service(namespace, name, ip)).concat());
        for (namespace, want) in [("a", "10.0.0.3 10.0.0.1"), ("default", "10.0.0.1 10.0.0.2"), ("z", "10.0.0.1")] {
            let told: Vec<String> = all.environment(namespace).into_iter().map(|service| service.ip).collect();
            assert_eq!(told.join(" "), want, "{namespace}");
        }
    }

    #[test]
    fn a_slice_follows_its_label() {
        let slice = |service: &str| -> EndpointSlice {
            let labels = [(SERVICE_NAME.to_owned(), service.to_owned())].into();
            let metadata =
                ObjectMeta { namespace: Some("default".into()), name: Some("a".into()), labels: Some(labels), ..ObjectMeta::default() };
            EndpointSlice { metadata, address_type: "IPv4".into(), ..EndpointSlice::default() }
        };
        let mut known = Known::default();
        let mut all = services_of(
            "kind: Service\nmetadata: {namespace: default, name: web}\n---\nkind: Service\nmetadata: {namespace: default, name: db}\n",
        );
        let counts =
            |all: &Services| ["web", "db"].map(|name| all.get(&("default".into(), name.into())).map_or(0, |(_, slices)| slices.len()));
        for (event, expect) in
            [(Event::Apply(slice("web")), [1, 0]), (Event::Apply(slice("db")), [0, 1]), (Event::Delete(slice("db")), [0, 0])]
        {
            all.take_slices(known.take(Ok(event)).expect("a change"));
            assert_eq!(counts(&all), expect);
        }
    }
}
