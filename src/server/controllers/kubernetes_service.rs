//! The `kubernetes` Service in `default`, and its endpoints: how pods reach the API server.
//!
//! Follows upstream's `kubernetesservice` controller for one server: what differs from the configuration is put right.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{self as discovery, Endpoint, EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT: &str = "https";

/// Keeps the Service and where it leads.
pub struct KubernetesService {
    /// The Service's address: the first of the service range.
    pub service_ip: IpAddr,
    /// The server's address.
    pub address: IpAddr,
    /// The server's port.
    pub port: u16,
}

fn ours(event: &Event) -> Vec<Key> {
    let key = &event.entry.key;
    if key.namespace() == NAMESPACE && key.name() == NAME { vec![Key::of::<Service>(NAMESPACE, NAME)] } else { Vec::new() }
}

impl Controller for KubernetesService {
    fn name(&self) -> &'static str {
        "kubernetes-service-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        let namespace =
            |event: &Event| if event.entry.key.name() == NAMESPACE { vec![Key::of::<Service>(NAMESPACE, NAME)] } else { Vec::new() };
        vec![
            Trigger { scope: Scope::of::<Namespace>, map: namespace },
            Trigger { scope: || Scope::of_namespace::<Service>(NAMESPACE), map: ours },
            Trigger { scope: || Scope::of_namespace::<Endpoints>(NAMESPACE), map: ours },
            Trigger { scope: || Scope::of_namespace::<EndpointSlice>(NAMESPACE), map: ours },
        ]
    }

    fn workers(&self) -> usize {
        1
    }

    fn reconcile(&self, _: &Key, view: &View) -> Outcome {
        // Waits for the namespace, whose creation wakes this.
        if view.get::<Namespace>("", NAMESPACE).is_none() {
            return Outcome::default();
        }
        [self.service(view), self.endpoints(view), self.slice(view)].into_iter().flatten().collect::<Vec<_>>().into()
    }
}

impl KubernetesService {
    fn meta(labels: &[(&str, &str)]) -> ObjectMeta {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>();
        ObjectMeta { name: Some(NAME.into()), namespace: Some(NAMESPACE.into()), labels: Some(labels), ..ObjectMeta::default() }
    }

    fn family(address: IpAddr) -> &'static str {
        if address.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn service(&self, view: &View) -> Option<Op> {
        let ip = self.service_ip.to_string();
        let ports = vec![ServicePort {
            name: Some(PORT.into()),
            port: 443,
            protocol: Some("TCP".into()),
            target_port: Some(IntOrString::Int(i32::from(self.port))),
            ..ServicePort::default()
        }];
        if let Some(present) = view.get::<Service>(NAMESPACE, NAME) {
            let spec = present.spec.clone().unwrap_or_default();
            if spec.ports.as_ref() == Some(&ports) && spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                return None;
            }
            let mut service = (*present).clone();
            let spec = service.spec.get_or_insert_default();
            (spec.ports, spec.selector) = (Some(ports), None);
            return Some(Op::Update(Box::new(service)));
        }
        let spec = ServiceSpec {
            cluster_ip: Some(ip.clone()),
            cluster_ips: Some(vec![ip]),
            ip_families: Some(vec![Self::family(self.service_ip).into()]),
            ip_family_policy: Some("SingleStack".into()),
            internal_traffic_policy: Some("Cluster".into()),
            session_affinity: Some("None".into()),
            type_: Some("ClusterIP".into()),
            ports: Some(ports),
            ..ServiceSpec::default()
        };
        let metadata = Self::meta(&[("component", "apiserver"), ("provider", "kubernetes")]);
        Some(Op::Create(Box::new(Service { metadata, spec: Some(spec), status: None })))
    }

    fn endpoints(&self, view: &View) -> Option<Op> {
        let port = EndpointPort { name: Some(PORT.into()), port: i32::from(self.port), protocol: Some("TCP".into()), app_protocol: None };
        let address = EndpointAddress { ip: self.address.to_string(), ..EndpointAddress::default() };
        let subsets = Some(vec![EndpointSubset { addresses: Some(vec![address]), not_ready_addresses: None, ports: Some(vec![port]) }]);
        match view.get::<Endpoints>(NAMESPACE, NAME) {
            Some(present) if present.subsets == subsets => None,
            Some(present) => Some(Op::Update(Box::new(Endpoints { subsets, ..(*present).clone() }))),
            None => {
                let metadata = Self::meta(&[("endpointslice.kubernetes.io/skip-mirror", "true")]);
                Some(Op::Create(Box::new(Endpoints { metadata, subsets })))
            }
        }
    }

    fn slice(&self, view: &View) -> Option<Op> {
        let port = discovery::EndpointPort {
            name: Some(PORT.into()),
            port: Some(i32::from(self.port)),
            protocol: Some("TCP".into()),
            app_protocol: None,
        };
        let endpoint = Endpoint {
            addresses: vec![self.address.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        };
        let (endpoints, ports) = (Some(vec![endpoint]), Some(vec![port]));
        match view.get::<EndpointSlice>(NAMESPACE, NAME) {
            Some(present) if present.endpoints == endpoints && present.ports == ports => None,
            // The family can't be changed: a slice of another is made anew.
            Some(present) if present.address_type != Self::family(self.address) => Some(Op::delete(&*present)),
            Some(present) => Some(Op::Update(Box::new(EndpointSlice { endpoints, ports, ..(*present).clone() }))),
            None => {
                let metadata = Self::meta(&[("kubernetes.io/service-name", NAME)]);
                let address_type = Self::family(self.address).into();
                Some(Op::Create(Box::new(EndpointSlice { address_type, endpoints, metadata, ports })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::{World, check};

    #[test]
    fn it_is_made_and_follows_the_server() {
        let key = Key::of::<Service>(NAMESPACE, NAME);
        let at = |last: u8| KubernetesService { service_ip: [10, 43, 0, 1].into(), address: [192, 0, 2, last].into(), port: 6443 };
        let namespace = "kind: Namespace\nmetadata: {name: default}\n";
        check(&at(1), "", &key, &[]);
        check(&at(1), namespace, &key, &["create Service kubernetes", "create Endpoints kubernetes", "create EndpointSlice kubernetes"]);
        let mut world = World::of(namespace);
        world.settle(&at(1), &key);
        world.settle(&at(2), &key);
        assert_eq!(world.one::<EndpointSlice>(NAME).endpoints.unwrap_or_default()[0].addresses, ["192.0.2.2"]);
    }
}
