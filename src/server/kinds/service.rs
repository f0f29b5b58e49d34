//! Service: a stable address in front of pods. Cluster addresses and node ports are allocated by the registry's admission.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::service_rules::{check, check_status, check_update};
use super::support::path::Errors;
use super::support::{print, rules};
use crate::api::names;
use crate::server::registry::strategy::Subresource;

const AFFINITY_SECONDS: i32 = 10800;

kind!(Service: NAMESPACED {
        returns_deleted: true, singular: "service", short: &["svc"], categories: &["all"], generation: false, subresources: &[Subresource::Status],
        update_may_create: true,
    }
    separate_status!(updates);
    const FIELDS: &'static [&'static str] = &["spec.clusterIP", "spec.type"];
    fn field(&self, path: &str) -> Option<String> {
        let spec = rules::part(&self.spec);
        match path {
            "spec.clusterIP" => Some(spec.cluster_ip.clone().unwrap_or_default()),
            "spec.type" => Some(spec.type_.clone().unwrap_or_default()),
            _ => None,
        }
    }
    fn prepare_create(&mut self) { self.status.insert(Default::default()).load_balancer = Some(Default::default()); }
    fn apply_defaults(&mut self) {
        default_spec(self.spec.get_or_insert_default());
        let points = self.status.iter_mut().filter_map(|status| status.load_balancer.as_mut()).flat_map(|balancer| balancer.ingress.iter_mut());
        for point in points.flatten().filter(|point| point.ip.as_ref().is_some_and(|ip| !ip.is_empty())) {
            point.ip_mode.get_or_insert_with(|| "VIP".into());
        }
    }
    fn validate_name(name: &str) -> Result<(), String> { names::dns1035_label(name) }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check(self);
        if let Some(old) = old {
            check_update(&mut errors, &rules::part(&self.spec), &rules::part(&old.spec));
        }
        errors
    }
    fn validate_status(&self, _old: &Self) -> Errors { check_status(self) }
    columns!(Service;
        "Type" string: "How it is reached." => |service, _| print::opt(&rules::part(&service.spec).type_),
        "Cluster-IP" string: "Its address." => |service, _| print::or_none(rules::part(&service.spec).cluster_ip.as_deref()),
        "External-IP" string: "Its addresses for the world." => |service, _| print::text(external(service)),
        "Port(s)" string: "Its ports." => |service, _| print::text(ports(&rules::part(&service.spec))),
        "Age" string: "Time since creation." => print::age,
        "Selector" string wide: "Which pods are behind it." =>
            |service, _| print::text(print::labels(rules::part(&service.spec).selector.as_ref())),
    );
);

fn default_spec(spec: &mut ServiceSpec) {
    spec.session_affinity.get_or_insert_with(|| "None".into());
    if spec.session_affinity.as_deref() == Some("None") {
        spec.session_affinity_config = None;
    } else {
        let config = spec.session_affinity_config.get_or_insert_default().client_ip.get_or_insert_default();
        config.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
    }
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".into()).clone();
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
        if port.target_port.as_ref().is_none_or(|to| *to == IntOrString::Int(0) || *to == IntOrString::String(String::new())) {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let has_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || kind == "ClusterIP" && has_ips {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".into());
    }
    if kind != "ExternalName" {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".into());
    }
    if kind == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    // One address, in its two forms; a deliberate difference is validation's to refuse.
    if let (Some(ip), None) = (&spec.cluster_ip, &spec.cluster_ips)
        && !ip.is_empty()
    {
        spec.cluster_ips = Some(vec![ip.clone()]);
    }
    if let (None, Some(first)) = (&spec.cluster_ip, spec.cluster_ips.as_ref().and_then(|ips| ips.first())) {
        spec.cluster_ip = Some(first.clone());
    }
}

fn external(service: &Service) -> String {
    let spec = rules::part(&service.spec);
    let mut all: Vec<String> = Vec::new();
    match rules::str_of(&spec.type_) {
        "ExternalName" => return spec.external_name.clone().unwrap_or_default(),
        "LoadBalancer" => {
            let status = rules::part(&service.status);
            let balancer = print::load_balancer(status.load_balancer.as_ref().and_then(|balancer| balancer.ingress.as_ref()));
            if !balancer.is_empty() {
                all.push(balancer);
            }
            all.extend(spec.external_ips.iter().flatten().cloned());
            return if all.is_empty() { "<pending>".into() } else { all.join(",") };
        }
        "ClusterIP" | "NodePort" => all.extend(spec.external_ips.iter().flatten().cloned()),
        _ => return "<unknown>".into(),
    }
    if all.is_empty() { print::NONE.into() } else { all.join(",") }
}

fn ports(spec: &ServiceSpec) -> String {
    let shown = spec.ports.iter().flatten().map(|port| {
        let protocol = rules::str_of(&port.protocol);
        match port.node_port.unwrap_or_default() {
            0 => format!("{}/{protocol}", port.port),
            node_port => format!("{}:{node_port}/{protocol}", port.port),
        }
    });
    let joined = shown.collect::<Vec<_>>().join(",");
    if joined.is_empty() { print::NONE.into() } else { joined }
}
