//! EndpointSlices: at most a hundred endpoints each, grouped by address family and ports.
//!
//! Endpoints stay in the slice they are in, so that a change touches one slice.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::pods;
use super::subsets::HEADLESS;
use super::{addresses, hostname, is_headless, managed, reference, selected, target};
use crate::api::Key;
use crate::api::meta::controller_ref;
use crate::api::selector::LabelSelector;
use crate::server::reconcile::{Op, View};

/// The label that names a slice's Service.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
/// The label that names who keeps a slice.
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
/// Most endpoints in a slice.
const MOST: usize = 100;

/// Address family and ports (name, number, protocol, application protocol), in sorted order.
type Group = (&'static str, Vec<(String, i32, String, Option<String>)>);

pub(super) fn reconcile(key: &Key, service: Option<&Service>, view: &View) -> Vec<Op> {
    let ours = LabelSelector::from_map(&[MANAGED_BY, (SERVICE, key.name())].map(|(name, value)| (name.into(), value.into())).into());
    let present: Vec<_> = view.selected::<EndpointSlice>(Some(key.namespace()), &ours).collect();
    let Some((service, spec)) = service.and_then(|service| Some((service, managed(service)?))) else {
        return present.iter().map(|slice| Op::delete(&**slice)).collect();
    };
    let mut wanted: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for pod in selected(key.namespace(), spec, view) {
        for ip in addresses(&pod) {
            let Some(family) = family(ip, spec) else { continue };
            let group = (family, ports(&pod, spec));
            if group.1.is_empty() && !(is_headless(spec) && spec.ports.as_deref().unwrap_or_default().is_empty()) {
                continue;
            }
            wanted.entry(group).or_default().insert(ip.to_owned(), endpoint(&pod, ip, service, spec, view));
        }
    }
    Plan { service, labels: labels(service, spec), ops: Vec::new(), view }.fill(&present, wanted)
}

/// The family of an address, if the Service has it.
fn family(ip: &str, spec: &ServiceSpec) -> Option<&'static str> {
    let family = match ip.parse().ok()? {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let families = spec.ip_families.as_deref().unwrap_or_default();
    (families.is_empty() || families.iter().any(|listed| listed == family)).then_some(family)
}

fn ports(pod: &Pod, spec: &ServiceSpec) -> Vec<(String, i32, String, Option<String>)> {
    let one = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((port.name.clone().unwrap_or_default(), target(pod, port)?, protocol, port.app_protocol.clone()))
    };
    let mut ports: Vec<_> = spec.ports.iter().flatten().filter_map(one).collect();
    ports.sort();
    ports
}

fn endpoint(pod: &Pod, ip: &str, service: &Service, spec: &ServiceSpec, view: &View) -> Endpoint {
    let (serving, terminating) = (pods::is_ready(pod), pods::is_deleting(pod));
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node_name.as_deref().and_then(|name| view.get::<Node>("", name));
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned());
    Endpoint {
        addresses: vec![ip.to_owned()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hostname: hostname(pod, service),
        node_name,
        target_ref: Some(reference(pod)),
        zone,
        ..Endpoint::default()
    }
}

fn labels(service: &Service, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if is_headless(spec) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.0.into(), MANAGED_BY.1.into());
    labels.insert(SERVICE.into(), service.metadata.name.clone().unwrap_or_default());
    labels
}

fn group_of(slice: &EndpointSlice) -> Group {
    let family = if slice.address_type == "IPv6" { "IPv6" } else { "IPv4" };
    let one = |port: &EndpointPort| {
        let (name, protocol) = (port.name.clone().unwrap_or_default(), port.protocol.clone().unwrap_or_else(|| "TCP".into()));
        (name, port.port.unwrap_or(0), protocol, port.app_protocol.clone())
    };
    let mut ports: Vec<_> = slice.ports.iter().flatten().map(one).collect();
    ports.sort();
    (family, ports)
}

/// A slice that is there, and those of its endpoints that stay.
type Kept<'a> = (&'a Arc<EndpointSlice>, Vec<Endpoint>);

/// The changes from the slices that are there to those that should be.
struct Plan<'a> {
    service: &'a Service,
    labels: BTreeMap<String, String>,
    ops: Vec<Op>,
    view: &'a View,
}

impl Plan<'_> {
    fn fill(mut self, present: &[Arc<EndpointSlice>], mut wanted: BTreeMap<Group, BTreeMap<String, Endpoint>>) -> Vec<Op> {
        // A Service without endpoints has one slice that says so.
        if wanted.is_empty() {
            wanted.insert(("IPv4", Vec::new()), BTreeMap::new());
        }
        let mut slices: BTreeMap<Group, Vec<Kept<'_>>> = BTreeMap::new();
        for slice in present {
            let group = group_of(slice);
            match wanted.get_mut(&group) {
                None => self.ops.push(Op::delete(&**slice)),
                Some(wanted) => {
                    let keep = |endpoint: &Endpoint| wanted.remove(endpoint.addresses.first()?);
                    let kept = slice.endpoints.iter().flatten().filter_map(keep).collect();
                    slices.entry(group).or_default().push((slice, kept));
                }
            }
        }
        let mut names = pods::Names::of::<EndpointSlice>(&self.service.metadata, self.view);
        let base = format!("{}-", self.service.metadata.name.as_deref().unwrap_or(""));
        let lonely = wanted.len() == 1;
        for (group, rest) in wanted {
            let mut rest = rest.into_values();
            let mut own = slices.remove(&group).unwrap_or_default();
            let mut first = own.is_empty();
            for (_, kept) in &mut own {
                let room = MOST.saturating_sub(kept.len());
                kept.extend(rest.by_ref().take(room));
            }
            let spare = own.iter().filter(|(_, kept)| !kept.is_empty()).count();
            let mut placeholder = lonely && spare == 0;
            for (slice, kept) in own {
                if kept.is_empty() && !std::mem::take(&mut placeholder) {
                    self.ops.push(Op::delete(&**slice));
                } else {
                    self.update(slice, kept);
                }
            }
            loop {
                let some: Vec<_> = rest.by_ref().take(MOST).collect();
                if some.is_empty() && !std::mem::take(&mut first) {
                    break;
                }
                first = false;
                self.ops.push(self.create(names.next(&base), &group, some));
            }
        }
        self.ops
    }

    fn update(&mut self, slice: &EndpointSlice, endpoints: Vec<Endpoint>) {
        let same = slice.metadata.labels.as_ref() == Some(&self.labels) && slice.endpoints.clone().unwrap_or_default() == endpoints;
        if !same {
            let mut slice = slice.clone();
            slice.metadata.labels = Some(self.labels.clone());
            slice.endpoints = Some(endpoints);
            self.ops.push(Op::Update(Box::new(slice)));
        }
    }

    fn create(&self, name: String, (family, ports): &Group, endpoints: Vec<Endpoint>) -> Op {
        let port = |(name, port, protocol, app_protocol): &(String, i32, String, Option<String>)| EndpointPort {
            name: Some(name.clone()),
            port: Some(*port),
            protocol: Some(protocol.clone()),
            app_protocol: app_protocol.clone(),
        };
        let metadata = ObjectMeta {
            name: Some(name),
            generate_name: self.service.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: self.service.metadata.namespace.clone(),
            labels: Some(self.labels.clone()),
            owner_references: Some(vec![controller_ref(self.service)]),
            ..ObjectMeta::default()
        };
        let ports = Some(ports.iter().map(port).collect());
        Op::Create(Box::new(EndpointSlice { address_type: (*family).into(), endpoints: Some(endpoints), metadata, ports }))
    }
}
