//! From a reference to a Service to the addresses behind it, decided on one snapshot.
//!
//! Follows upstream's `apiserver/pkg/util/proxy/proxy.go` with endpoint routing: the addresses of ready endpoints are dialled, so that it
//! works on a host without Service routing. What has no endpoints of its own (`ExternalName`) is dialled by name.

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{Key, Kind, Scope};
use crate::server::store::Snapshot;

/// Which label of a slice names its Service.
const OWNER: &str = "kubernetes.io/service-name";

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The node that has the address; empty where nobody says.
    pub node: String,
}

/// Why a Service can't be reached, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// There is no such Service.
    #[error("service {0:?} not found")]
    Missing(String),
    /// It is of a type that has no address.
    #[error("unsupported service type {0:?}")]
    Type(String),
    /// It has no such port.
    #[error("no service port {port} found for service {service:?}")]
    Port {
        /// Which was asked for.
        port: u16,
        /// Of which Service.
        service: String,
    },
    /// Nobody is ready behind it.
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
}

/// All places where `namespace/name:port` is served at present; never empty.
pub(super) fn places(state: &Snapshot, namespace: &str, name: &str, port: u16) -> Result<Vec<Place>, Unresolved> {
    let service = read::<Service>(state, namespace, name).ok_or_else(|| Unresolved::Missing(name.into()))?;
    let spec = service.spec.clone().unwrap_or_default();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ExternalName" => return Ok(vec![Place { host: spec.external_name.unwrap_or_default(), port, node: String::new() }]),
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => return Err(Unresolved::Type(other.into())),
    }
    let served = spec.ports.iter().flatten().find(|served| served.port == i32::from(port));
    let served = served.ok_or_else(|| Unresolved::Port { port, service: name.into() })?;
    let mut places = sliced(state, namespace, name, served.name.as_deref().unwrap_or_default());
    if places.is_empty() {
        places = listed(state, namespace, name, served);
    }
    if places.is_empty() { Err(Unresolved::NoEndpoints(name.into())) } else { Ok(places) }
}

/// What can't be read is not there.
fn read<T: Kind>(state: &Snapshot, namespace: &str, name: &str) -> Option<std::sync::Arc<T>> {
    state.get(&Key::of::<T>(namespace, name)).and_then(|entry| entry.typed::<T>().ok())
}

/// The ready endpoints of its slices that serve the port of this name.
fn sliced(state: &Snapshot, namespace: &str, service: &str, port: &str) -> Vec<Place> {
    let scope = Scope::of_namespace::<EndpointSlice>(namespace);
    let owned = state
        .range(&scope)
        .filter(|entry| entry.meta().labels.as_ref().and_then(|labels| labels.get(OWNER)).is_some_and(|owner| owner == service));
    let mut places = Vec::new();
    for slice in owned.filter_map(|entry| entry.typed::<EndpointSlice>().ok()) {
        let served = slice.ports.iter().flatten().find(|served| served.name.as_deref().unwrap_or_default() == port);
        let Some(number) = served.and_then(|served| served.port).and_then(|number| u16::try_from(number).ok()) else { continue };
        let ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        for endpoint in slice.endpoints.iter().flatten().filter(ready) {
            let place = |host: &String| Place { host: host.clone(), port: number, node: endpoint.node_name.clone().unwrap_or_default() };
            places.extend(endpoint.addresses.iter().map(place));
        }
    }
    places
}

/// The same of Endpoints that somebody wrote by hand for a Service without selector.
fn listed(state: &Snapshot, namespace: &str, service: &str, served: &ServicePort) -> Vec<Place> {
    let Some(endpoints) = read::<Endpoints>(state, namespace, service) else { return Vec::new() };
    let mut places = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let name = served.name.as_deref().unwrap_or_default();
        let target = match &served.target_port {
            Some(IntOrString::Int(number)) => *number,
            _ => served.port,
        };
        let mut ports = subset.ports.iter().flatten();
        let found = ports.find(|port| port.name.as_deref().unwrap_or_default() == name).map_or(target, |port| port.port);
        let Ok(number) = u16::try_from(found) else { continue };
        let place = |address: &EndpointAddress| Place {
            host: address.ip.clone(),
            port: number,
            node: address.node_name.clone().unwrap_or_default(),
        };
        places.extend(subset.addresses.iter().flatten().map(place));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Rev;
    use crate::server::store::Draft;

    fn object<T: Kind>(yaml: &str) -> (Key, Rev, Draft) {
        let object: T = serde_yaml::from_str(yaml).expect("test object");
        let meta = object.meta().clone();
        let key = Key::of::<T>(&meta.namespace.unwrap_or_default(), &meta.name.unwrap_or_default());
        (key, Rev(1), Draft::of(std::sync::Arc::new(object)))
    }

    #[test]
    fn services_are_resolved_to_ready_endpoints() {
        let service = |name: &str, spec: &str| object::<Service>(&format!("{{metadata: {{namespace: n, name: {name}}}, spec: {spec}}}"));
        let slice = "{metadata: {namespace: n, name: a-1, labels: {kubernetes.io/service-name: a}}, addressType: IPv4,
            ports: [{name: web, port: 8443}, {name: other, port: 1}],
            endpoints: [{addresses: [10.0.0.1], nodeName: n1}, {addresses: [10.0.0.2], conditions: {ready: false}}, {addresses: [10.0.0.3], conditions: {ready: true}}]}";
        let by_hand = "{metadata: {namespace: n, name: hand}, subsets: [{addresses: [{ip: 192.0.2.9}], ports: [{port: 9443}]}]}";
        let state = Snapshot::of(
            Rev(1),
            [
                service("a", "{ports: [{name: web, port: 443}, {name: none, port: 444}]}"),
                service("far", "{type: ExternalName, externalName: hooks.example.org}"),
                service("hand", "{ports: [{port: 443}]}"),
                service("empty", "{ports: [{port: 443}]}"),
                object::<EndpointSlice>(slice),
                object::<Endpoints>(by_hand),
            ],
        );
        let on = |host: &str, port, node: &str| Place { host: host.into(), port, node: node.into() };
        let place = |host: &str, port| on(host, port, "");
        let no_endpoints = |name: &str| Err(Unresolved::NoEndpoints(name.into()));
        for (name, port, want) in [
            ("a", 443, Ok(vec![on("10.0.0.1", 8443, "n1"), place("10.0.0.3", 8443)])),
            ("a", 444, no_endpoints("a")),
            ("a", 80, Err(Unresolved::Port { port: 80, service: "a".into() })),
            ("far", 8443, Ok(vec![place("hooks.example.org", 8443)])),
            ("hand", 443, Ok(vec![place("192.0.2.9", 9443)])),
            ("empty", 443, no_endpoints("empty")),
            ("none", 443, Err(Unresolved::Missing("none".into()))),
        ] {
            assert_eq!(places(&state, "n", name, port), want, "{name}:{port}");
        }
        assert_eq!(Unresolved::Missing("x".into()).to_string(), "service \"x\" not found");
    }
}
