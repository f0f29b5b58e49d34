//! Endpoints: one object per Service, pods grouped by the ports they serve.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::pods;
use super::{addresses, hostname, is_headless, managed, reference, selected, target};
use crate::api::Key;
use crate::server::reconcile::{Op, View};

/// The label of Endpoints made here.
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
/// The label of a headless Service's endpoints.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Most addresses in one Endpoints object, as upstream; the rest is cut, and an annotation says so.
const MOST: usize = 1000;

pub(super) fn reconcile(key: &Key, service: Option<&Service>, view: &View) -> Vec<Op> {
    let present = view.get::<Endpoints>(key.namespace(), key.name());
    let Some(service) = service else {
        let ours =
            |e: &Endpoints| e.metadata.labels.as_ref().is_some_and(|labels| labels.get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1));
        return present.iter().filter(|endpoints| ours(endpoints)).map(|endpoints| Op::delete(&**endpoints)).collect();
    };
    let Some(spec) = managed(service) else { return Vec::new() };
    let chosen = selected(key.namespace(), spec, view);
    let mut subsets = group(service, spec, chosen.iter().map(|pod| &**pod));
    let cut = cap(&mut subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.0.into(), MANAGED_BY.1.into());
    if is_headless(spec) {
        labels.insert(HEADLESS.into(), String::new());
    }
    let mut wanted = match &present {
        Some(present) => (**present).clone(),
        None => Endpoints {
            metadata: ObjectMeta { name: Some(key.name().into()), namespace: Some(key.namespace().into()), ..ObjectMeta::default() },
            subsets: None,
        },
    };
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    const CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
    if cut {
        annotations.insert(CAPACITY.into(), "truncated".into())
    } else {
        annotations.remove(CAPACITY)
    };
    wanted.metadata.annotations = wanted.metadata.annotations.filter(|annotations| !annotations.is_empty());
    wanted.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    match present {
        None => vec![Op::Create(Box::new(wanted))],
        Some(present) => {
            let empty = |subsets: &Option<Vec<EndpointSubset>>| subsets.clone().unwrap_or_default();
            let same = present.metadata.labels == wanted.metadata.labels && empty(&present.subsets) == empty(&wanted.subsets);
            if same { Vec::new() } else { vec![Op::Update(Box::new(wanted))] }
        }
    }
}

type Ports = Vec<(Option<String>, i32, String, Option<String>)>;

/// Pods by the ports that they serve.
fn group<'a>(service: &Service, spec: &ServiceSpec, chosen: impl Iterator<Item = &'a Pod>) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<Ports, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for pod in chosen.filter(|pod| !pods::is_deleting(pod) || spec.publish_not_ready_addresses == Some(true)) {
        let wanted = spec.ports.as_deref().unwrap_or_default();
        let one = |port: &k8s_openapi::api::core::v1::ServicePort| {
            let number = target(pod, port)?;
            Some((port.name.clone(), number, port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.app_protocol.clone()))
        };
        let ports: Ports = wanted.iter().filter_map(one).collect();
        // A headless Service may have no ports at all; otherwise a pod that serves none of them is no endpoint.
        if ports.is_empty() && !(wanted.is_empty() && is_headless(spec)) {
            continue;
        }
        let Some(ip) = addresses(pod).first().map(|ip| (*ip).to_owned()) else { continue };
        let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let address = EndpointAddress { ip, hostname: hostname(pod, service), node_name, target_ref: Some(reference(pod)) };
        let (ready, unready) = groups.entry(ports).or_default();
        let list = if spec.publish_not_ready_addresses == Some(true) || pods::is_ready(pod) { ready } else { unready };
        list.push(address);
    }
    let subset = |(ports, (mut ready, mut unready)): (Ports, (Vec<EndpointAddress>, Vec<EndpointAddress>))| {
        ready.sort_by(|a, b| a.ip.cmp(&b.ip));
        unready.sort_by(|a, b| a.ip.cmp(&b.ip));
        let some = |list: Vec<EndpointAddress>| Some(list).filter(|list| !list.is_empty());
        let port = |(name, port, protocol, app_protocol)| EndpointPort { name, port, protocol: Some(protocol), app_protocol };
        let ports: Vec<_> = ports.into_iter().map(port).collect();
        EndpointSubset { addresses: some(ready), not_ready_addresses: some(unready), ports: Some(ports).filter(|ports| !ports.is_empty()) }
    };
    groups.into_iter().map(subset).collect()
}

/// Cuts to the limit. Whether anything was cut.
fn cap(subsets: &mut [EndpointSubset]) -> bool {
    let (mut left, mut cut) = (MOST, false);
    let lists = subsets.iter_mut().flat_map(|subset| [&mut subset.addresses, &mut subset.not_ready_addresses]);
    for list in lists.flatten() {
        cut |= list.len() > left;
        list.truncate(left);
        left -= list.len();
    }
    cut
}
