//! Service: a stable address in front of pods. Cluster addresses and node ports are allocated by the registry's admission.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const DAY: i32 = 86400;
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
    fn apply_defaults(&mut self) { default_spec(self.spec.get_or_insert_default()); }
    fn validate_name(name: &str) -> Result<(), String> { names::dns1035_label(name) }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check(&rules::part(&self.spec));
        if let Some(old) = old {
            check_update(&mut errors, &rules::part(&self.spec), &rules::part(&old.spec));
        }
        errors
    }
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
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
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

fn check(spec: &ServiceSpec) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let kind = rules::str_of(&spec.type_);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(path.at("ports"), ""));
    }
    match kind {
        "ExternalName" => {
            for (field, there) in [("clusterIPs", spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty()))] {
                if there {
                    errors.push(FieldError::forbidden(path.at(field), "may not be set when `type` is 'ExternalName'"));
                }
            }
            let name = rules::str_of(&spec.external_name).trim_end_matches('.');
            rules::required_syntax(&mut errors, &path.at("externalName"), name, names::subdomain);
        }
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(path.at("clusterIPs").index(0), "None", why));
        }
        _ => {}
    }
    rules::required_one_of(&mut errors, &path.at("type"), kind, TYPES);
    check_ports(&mut errors, &path.at("ports"), spec, ports);
    rules::labels(&mut errors, &path.at("selector"), spec.selector.as_ref());
    check_affinity(&mut errors, &path, spec);
    if let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") {
        rules::syntax(&mut errors, &path.at("clusterIPs").index(0), ip, names::ip);
        if spec.cluster_ips.as_ref().and_then(|ips| ips.first()).is_some_and(|first| first != ip) {
            errors.push(FieldError::invalid(path.at("clusterIPs"), &spec.cluster_ips, "first value must match `clusterIP`"));
        }
    }
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        rules::syntax(&mut errors, &path.at("externalIPs").index(index), ip, names::ip);
    }
    check_policies(&mut errors, &path, spec, kind);
    errors
}

fn check_ports(errors: &mut Errors, path: &Path, spec: &ServiceSpec, ports: &[ServicePort]) {
    let node_ports = matches!(rules::str_of(&spec.type_), "NodePort" | "LoadBalancer");
    for (index, port) in ports.iter().enumerate() {
        let (path, earlier) = (path.index(index), &ports[..index]);
        match rules::str_of(&port.name) {
            "" if ports.len() > 1 => errors.push(FieldError::required(path.at("name"), "")),
            "" => {}
            name => {
                rules::syntax(errors, &path.at("name"), name, names::label);
                if earlier.iter().any(|other| other.name == port.name) {
                    errors.push(FieldError::duplicate(path.at("name"), name));
                }
            }
        }
        rules::port_number(errors, &path.at("port"), port.port);
        rules::required_one_of(errors, &path.at("protocol"), rules::str_of(&port.protocol), PROTOCOLS);
        match &port.target_port {
            Some(IntOrString::Int(number)) => rules::port_number(errors, &path.at("targetPort"), *number),
            Some(IntOrString::String(name)) => rules::syntax(errors, &path.at("targetPort"), name, names::port_name),
            None => {}
        }
        rules::optional_syntax(errors, &path.at("appProtocol"), &port.app_protocol, names::qualified);
        if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
            if !node_ports {
                errors.push(FieldError::forbidden(path.at("nodePort"), "may not be used when `type` is 'ClusterIP'"));
            } else if earlier.iter().any(|other| other.node_port == port.node_port && other.protocol == port.protocol) {
                errors.push(FieldError::duplicate(path.at("nodePort"), node_port));
            }
        }
        if earlier.iter().any(|other| other.port == port.port && other.protocol == port.protocol) {
            errors.push(FieldError::duplicate(&path, port));
        }
    }
}

fn check_affinity(errors: &mut Errors, path: &Path, spec: &ServiceSpec) {
    let affinity = rules::str_of(&spec.session_affinity);
    rules::required_one_of(errors, &path.at("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let seconds =
        spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()).and_then(|config| config.timeout_seconds);
    if let Some(seconds) = seconds.filter(|seconds| affinity == "ClientIP" && !(1..=DAY).contains(seconds)) {
        let why = format!("must be greater than 0 and less than {DAY}");
        errors.push(FieldError::invalid(path.at("sessionAffinityConfig.clientIP.timeoutSeconds"), seconds, why));
    }
}

fn check_policies(errors: &mut Errors, path: &Path, spec: &ServiceSpec, kind: &str) {
    rules::optional_one_of(errors, &path.at("internalTrafficPolicy"), &spec.internal_traffic_policy, &["Cluster", "Local"]);
    rules::optional_one_of(errors, &path.at("externalTrafficPolicy"), &spec.external_traffic_policy, &["Cluster", "Local"]);
    let external = matches!(kind, "NodePort" | "LoadBalancer") || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if spec.external_traffic_policy.is_some() && !external {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(path.at("externalTrafficPolicy"), &spec.external_traffic_policy, why));
    }
    rules::optional_one_of(
        errors,
        &path.at("ipFamilyPolicy"),
        &spec.ip_family_policy,
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        rules::one_of(errors, &path.at("ipFamilies").index(index), family, &["IPv4", "IPv6"]);
    }
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(path.at("loadBalancerSourceRanges"), "may only be used when `type` is 'LoadBalancer'"));
            break;
        }
        rules::syntax(errors, &path.at("loadBalancerSourceRanges").index(index), range, names::cidr);
    }
    if let Some(class) = &spec.load_balancer_class {
        rules::syntax(errors, &path.at("loadBalancerClass"), class, names::qualified);
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(path.at("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"));
        }
    }
}

/// The address of a service that has one stays, unless the service stops or starts having one.
fn check_update(errors: &mut Errors, new: &ServiceSpec, old: &ServiceSpec) {
    let name_kind = |spec: &ServiceSpec| spec.type_.as_deref() == Some("ExternalName");
    let old_ip = rules::str_of(&old.cluster_ip);
    if !name_kind(new) && !name_kind(old) && !old_ip.is_empty() && rules::str_of(&new.cluster_ip) != old_ip {
        let path = Path::new("spec").at("clusterIPs").index(0);
        errors.push(FieldError::invalid(path, rules::str_of(&new.cluster_ip), "may not change once set"));
    }
}
