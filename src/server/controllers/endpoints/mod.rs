//! Where Services lead: Endpoints and EndpointSlices from the pods that a Service selects.
//!
//! Follows upstream's `pkg/controller/endpoint` and `endpointslice/reconciler`. A pod's change wakes its namespace (the key with an
//! empty name), for only the snapshot knows which Services select it.
//!
//! Never: a Service without a selector; whoever made its endpoints keeps them.

mod slices;
mod subsets;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods;
use crate::api::selector::LabelSelector;
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Keeps Endpoints.
pub struct EndpointsController;

/// Keeps EndpointSlices.
pub struct EndpointSlices;

impl Controller for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        let own = Trigger {
            scope: Scope::of::<Endpoints>,
            map: |event| vec![Key::of::<Service>(event.entry.key.namespace(), event.entry.key.name())],
        };
        vec![Trigger::of::<Service>(), own, Trigger { scope: Scope::of::<Pod>, map: pod_changed }]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        per_service(key, view, subsets::reconcile)
    }
}

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        let own = |event: &Event| {
            let service = event.entry.meta().labels.as_ref().and_then(|labels| labels.get(slices::SERVICE));
            service.map(|name| Key::of::<Service>(event.entry.key.namespace(), name)).into_iter().collect()
        };
        vec![
            Trigger::of::<Service>(),
            Trigger { scope: Scope::of::<EndpointSlice>, map: own },
            Trigger { scope: Scope::of::<Pod>, map: pod_changed },
        ]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        per_service(key, view, slices::reconcile)
    }
}

/// A pod whose address, readiness, labels or life changed.
fn pod_changed(event: &Event) -> Vec<Key> {
    let (Ok(new), old) = (event.entry.typed::<Pod>(), event.prev.as_ref().and_then(|prev| prev.typed::<Pod>().ok())) else {
        return Vec::new();
    };
    let seen = |pod: &Pod| {
        let ips = pod.status.as_ref().map(|status| (status.pod_ip.clone(), status.pod_ips.clone()));
        (ips, pods::is_ready(pod), pods::is_terminal(pod), pods::is_deleting(pod), pod.metadata.labels.clone())
    };
    let same = !event.deleted && old.is_some_and(|old| seen(&old) == seen(&new));
    if same { Vec::new() } else { vec![Key::of::<Service>(event.entry.key.namespace(), "")] }
}

/// Runs one Service, or all of a namespace.
fn per_service(key: &Key, view: &View, one: fn(&Key, Option<&Service>, &View) -> Vec<Op>) -> Outcome {
    if !key.name().is_empty() {
        return one(key, view.at::<Service>(key).as_deref(), view).into();
    }
    let all = view.list::<Service>(Some(key.namespace()));
    let of = |service: Arc<Service>| {
        let key = Key::of::<Service>(key.namespace(), service.metadata.name.as_deref().unwrap_or(""));
        one(&key, Some(&service), view)
    };
    all.flat_map(of).collect::<Vec<_>>().into()
}

/// The spec of a Service whose endpoints are ours to keep.
fn managed(service: &Service) -> Option<&ServiceSpec> {
    let spec = service.spec.as_ref()?;
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    (selects && spec.type_.as_deref() != Some("ExternalName") && service.metadata.deletion_timestamp.is_none()).then_some(spec)
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// The selected pods that have an address and have not ended, in name order.
fn selected(namespace: &str, spec: &ServiceSpec, view: &View) -> Vec<Arc<Pod>> {
    let Some(selector) = spec.selector.as_ref().map(LabelSelector::from_map) else { return Vec::new() };
    let counts = |pod: &Arc<Pod>| !pods::is_terminal(pod) && !addresses(pod).is_empty();
    view.selected::<Pod>(Some(namespace), &selector).filter(counts).collect()
}

/// All addresses of a pod.
fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).filter(|ip| !ip.is_empty()).collect();
    if many.is_empty() { status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect() } else { many }
}

/// The number that a service port means on this pod: a named target is looked up in the containers (sidecars too).
fn target(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let found = ports.find(|own| own.name.as_deref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == protocol);
    found.map(|own| own.container_port)
}

/// The host name that DNS publishes for a pod of a headless Service that names it as its subdomain.
fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.subdomain.is_some() && spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|hostname| own && !hostname.is_empty())
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
