//! Rules of Services: upstream's `ValidateService`, `ValidateServiceUpdate` and what they call.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::endpoints::check_special;
use super::support::path::{Errors, Path};
use super::support::rules;
use crate::api::{FieldError, names};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// Where source ranges were written before there was a field for them.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const DAY: i32 = 86400;

/// Every rule that a service breaks by itself.
pub fn check(service: &Service) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&service.spec));
    let kind = rules::str_of(&spec.type_);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(&spec) && kind != "ExternalName" {
        errors.push(FieldError::required(path.at("ports"), ""));
    }
    match kind {
        "ExternalName" => {
            let set = [
                ("clusterIPs", spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty())),
                ("ipFamilies", spec.ip_families.as_ref().is_some_and(|families| !families.is_empty())),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            let set = set.into_iter().filter(|(_, set)| *set);
            errors.extend(set.map(|(field, _)| FieldError::forbidden(path.at(field), "may not be set for ExternalName services")));
            let name = rules::str_of(&spec.external_name);
            let name = name.strip_suffix('.').unwrap_or(name);
            rules::required_syntax(&mut errors, &path.at("externalName"), name, names::subdomain);
        }
        "LoadBalancer" | "NodePort" if is_headless(&spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(path.at("clusterIPs").index(0), "None", why));
        }
        _ => {}
    }
    rules::required_one_of(&mut errors, &path.at("type"), kind, TYPES);
    check_ports(&mut errors, &path.at("ports"), &spec, ports);
    rules::labels(&mut errors, &path.at("selector"), spec.selector.as_ref());
    check_affinity(&mut errors, &path, &spec);
    if kind != "ExternalName" {
        check_addresses(&mut errors, &path, &spec);
    }
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.at("externalIPs").index(index);
        match ip.parse() {
            Ok(ip) => check_special(&mut errors, &path, ip),
            Err(_) => rules::syntax(&mut errors, &path, ip, names::ip),
        }
    }
    check_policies(&mut errors, &path, &spec, kind);
    check_balancer(&mut errors, &path, service, kind);
    errors
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.as_deref().is_some_and(|ips| ips == ["None"])
        || spec.cluster_ips.is_none() && spec.cluster_ip.as_deref() == Some("None")
}

/// The addresses and their families agree with each other (upstream's `ValidateServiceClusterIPsRelatedFields`).
fn check_addresses(errors: &mut Errors, path: &Path, spec: &ServiceSpec) {
    let (list, families_at) = (path.at("clusterIPs"), path.at("ipFamilies"));
    let (ips, families) = (spec.cluster_ips.as_deref().unwrap_or_default(), spec.ip_families.as_deref().unwrap_or_default());
    match (rules::str_of(&spec.cluster_ip), ips.first()) {
        ("", Some(_)) => errors.push(FieldError::invalid(&list, ips, "must be empty when `clusterIP` is not specified")),
        ("", None) => {}
        (_, None) => errors.push(FieldError::required(&list, "")),
        (ip, Some(first)) if ip != first => errors.push(FieldError::invalid(&list, ips, "first value must match `clusterIP`")),
        _ => {}
    }
    for (index, family) in families.iter().enumerate() {
        rules::one_of(errors, &families_at.index(index), family, &["IPv4", "IPv6"]);
        if families[..index].contains(family) {
            errors.push(FieldError::duplicate(families_at.index(index), family));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        rules::one_of(errors, &path.at("ipFamilyPolicy"), policy, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let before = errors.len();
    for (index, ip) in ips.iter().enumerate() {
        match ip.as_str() {
            "None" if index == 0 && ips.len() > 1 => {
                errors.push(FieldError::invalid(&list, ips, "'None' must be the first and only value"));
            }
            "None" if index == 0 => {}
            ip => rules::syntax(errors, &list.index(index), ip, names::ip),
        }
    }
    let good = errors.len() == before;
    if ips.len() > 2 {
        errors.push(FieldError::invalid(&list, ips, "may only hold up to 2 values"));
    }
    if !good || is_headless(spec) {
        return;
    }
    let kinds: Vec<bool> = ips.iter().map(|ip| ip.contains(':')).collect();
    if ips.len() > 1 && kinds.iter().all(|six| *six == kinds[0]) {
        errors.push(FieldError::invalid(&list, ips, "may specify no more than one IP for each IP family"));
    }
    for (index, (ip, (six, family))) in ips.iter().zip(kinds.iter().zip(families)).enumerate() {
        if *six != (family == "IPv6") {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(list.index(index), ip, why));
        }
    }
}

fn check_ports(errors: &mut Errors, path: &Path, spec: &ServiceSpec, ports: &[ServicePort]) {
    let cluster_only = rules::str_of(&spec.type_) == "ClusterIP";
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
            if cluster_only {
                errors.push(FieldError::forbidden(path.at("nodePort"), "may not be used when `type` is 'ClusterIP'"));
            }
            if earlier.iter().any(|other| other.node_port == port.node_port && other.protocol == port.protocol) {
                errors.push(FieldError::duplicate(path.at("nodePort"), node_port));
            }
        }
        if earlier.iter().any(|other| other.port == port.port && other.protocol == port.protocol) {
            // What is the same of both.
            errors.push(FieldError::duplicate(&path, json!({ "port": port.port, "protocol": port.protocol })));
        }
    }
}

fn check_affinity(errors: &mut Errors, path: &Path, spec: &ServiceSpec) {
    let affinity = rules::str_of(&spec.session_affinity);
    rules::required_one_of(errors, &path.at("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let seconds =
        spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()).and_then(|config| config.timeout_seconds);
    if affinity == "ClientIP" && seconds.is_none() {
        let config = spec.session_affinity_config.as_ref();
        let missing = match config.map(|config| config.client_ip.is_some()) {
            None => "sessionAffinityConfig",
            Some(false) => "sessionAffinityConfig.clientIP",
            Some(true) => "sessionAffinityConfig.clientIP.timeoutSeconds",
        };
        errors.push(FieldError::required(path.at(missing), "when session affinity type is ClientIP"));
    }
    if affinity == "None" && spec.session_affinity_config.is_some() {
        errors.push(FieldError::forbidden(path.at("sessionAffinityConfig"), "must not be set when session affinity is None"));
    }
    if let Some(seconds) = seconds.filter(|seconds| affinity == "ClientIP" && !(1..=DAY).contains(seconds)) {
        let why = format!("must be greater than 0 and less than {DAY}");
        errors.push(FieldError::invalid(path.at("sessionAffinityConfig.clientIP.timeoutSeconds"), seconds, why));
    }
}

fn check_policies(errors: &mut Errors, path: &Path, spec: &ServiceSpec, kind: &str) {
    match &spec.internal_traffic_policy {
        Some(policy) => rules::one_of(errors, &path.at("internalTrafficPolicy"), policy, &["Cluster", "Local"]),
        None if kind == "ExternalName" => {}
        None => errors.push(FieldError::required(path.at("internalTrafficPolicy"), "")),
    }
    let policy = rules::str_of(&spec.external_traffic_policy);
    let has_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && has_ips {
        rules::required_one_of(errors, &path.at("externalTrafficPolicy"), policy, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(path.at("externalTrafficPolicy"), policy, why));
    }
    let port = spec.health_check_node_port.unwrap_or_default();
    if kind == "LoadBalancer" && policy == "Local" {
        // One that is not there yet is allocated.
        if port != 0 {
            rules::port_number(errors, &path.at("healthCheckNodePort"), port);
        }
    } else if port != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(path.at("healthCheckNodePort"), port, why));
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        rules::one_of(errors, &path.at("trafficDistribution"), distribution, &known);
    }
}

/// What only load balancers have.
fn check_balancer(errors: &mut Errors, path: &Path, service: &Service, kind: &str) {
    const OTHER: &str = "may only be used when `type` is 'LoadBalancer'";
    let spec = rules::part(&service.spec);
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE_RANGES));
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() {
        // Upstream's name for it.
        let path = path.at("LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(&path, OTHER));
        }
        for (index, range) in ranges.iter().enumerate() {
            rules::syntax(errors, &path.index(index), range.trim(), names::cidr);
        }
    } else if let Some(ranges) = annotation {
        let path = Path::new("metadata").at("annotations").key(SOURCE_RANGES);
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(&path, OTHER));
        }
        for range in ranges.split(',').map(str::trim).filter(|_| !ranges.trim().is_empty()) {
            rules::syntax(errors, &path, range, names::cidr);
        }
    }
    if kind == "LoadBalancer" {
        if let Some(class) = &spec.load_balancer_class {
            rules::syntax(errors, &path.at("loadBalancerClass"), class, names::qualified);
        }
        return;
    }
    if spec.allocate_load_balancer_node_ports.is_some() {
        errors.push(FieldError::forbidden(path.at("allocateLoadBalancerNodePorts"), OTHER));
    }
    if spec.load_balancer_class.is_some() {
        errors.push(FieldError::forbidden(path.at("loadBalancerClass"), OTHER));
    }
}

/// What a balancer says of itself.
pub fn check_status(service: &Service) -> Errors {
    let mut errors = Errors::new();
    let (path, spec, status) = (Path::new("status").at("loadBalancer.ingress"), rules::part(&service.spec), rules::part(&service.status));
    let points = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    if spec.type_.as_deref() != Some("LoadBalancer") {
        if points.count() > 0 {
            errors.push(FieldError::forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"));
        }
        return errors;
    }
    for (index, point) in points.enumerate() {
        let (path, ip, host) = (path.index(index), rules::str_of(&point.ip), rules::str_of(&point.hostname));
        rules::optional_syntax(&mut errors, &path.at("ip"), &point.ip, names::ip);
        match &point.ip_mode {
            None if !ip.is_empty() => errors.push(FieldError::required(path.at("ipMode"), "must be specified when `ip` is set")),
            None => {}
            Some(_) if ip.is_empty() => {
                errors.push(FieldError::forbidden(path.at("ipMode"), "may not be specified when `ip` is not set"));
            }
            Some(mode) => rules::one_of(&mut errors, &path.at("ipMode"), mode, &["Proxy", "VIP"]),
        }
        if !host.is_empty() {
            rules::syntax(&mut errors, &path.at("hostname"), host, names::subdomain);
            if host.parse::<std::net::IpAddr>().is_ok() {
                errors.push(FieldError::invalid(path.at("hostname"), host, "must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}

/// Addresses and families stay, unless the service stops or starts having any; a second one may come and go.
pub fn check_update(errors: &mut Errors, new: &ServiceSpec, old: &ServiceSpec) {
    let path = Path::new("spec");
    let is = |spec: &ServiceSpec, kind: &str| spec.type_.as_deref() == Some(kind);
    if !is(new, "ExternalName") && !is(old, "ExternalName") {
        if !(is_headless(new) && is_headless(old)) {
            let lists = (new.cluster_ips.as_deref().unwrap_or_default(), old.cluster_ips.as_deref().unwrap_or_default());
            check_kept(errors, &path, new, lists, ("clusterIPs", "clusterIP"));
        }
        if !is_headless(new) && !is_headless(old) {
            let lists = (new.ip_families.as_deref().unwrap_or_default(), old.ip_families.as_deref().unwrap_or_default());
            check_kept(errors, &path, new, lists, ("ipFamilies", "ipFamily"));
        }
    }
    if is(new, "LoadBalancer") && is(old, "LoadBalancer") {
        if new.load_balancer_class != old.load_balancer_class {
            errors.push(FieldError::invalid(path.at("loadBalancerClass"), &new.load_balancer_class, "may not change once set"));
        }
        let checked = |spec: &ServiceSpec| spec.external_traffic_policy.as_deref() == Some("Local");
        if checked(new) && checked(old) && new.health_check_node_port != old.health_check_node_port {
            errors.push(FieldError::forbidden(path.at("healthCheckNodePort"), "field is immutable"));
        }
    }
}

fn check_kept(errors: &mut Errors, path: &Path, spec: &ServiceSpec, (new, old): (&[String], &[String]), (list, one): (&str, &str)) {
    let at = |index: usize| path.at(list).index(index);
    if new.is_empty() && !old.is_empty() {
        errors.push(FieldError::invalid(at(0), new, format!("primary {one} can not be unset")));
        return;
    }
    let same_length = new.len() == old.len();
    for (index, _) in new.iter().zip(old).enumerate().filter(|(index, (new, old))| new != old && (same_length || *index == 0)) {
        let index = if one == "ipFamily" { 0 } else { index };
        errors.push(FieldError::invalid(at(index), new, "may not change once set"));
    }
    if new.len() < old.len() && spec.ip_family_policy.as_deref() != Some("SingleStack") {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(FieldError::invalid(path.at("ipFamilyPolicy"), &spec.ip_family_policy, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::support::testing::{errors, object, update_errors};
    use crate::server::registry::strategy::Strategy;

    #[test]
    fn services() {
        for (spec, want) in [
            ("type: ExternalName, externalName: a.b.", ""),
            (
                "type: ExternalName, externalName: a, ipFamilies: [IPv4]",
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            ),
            (
                "clusterIPs: [10.0.0.1, 10.0.0.2]",
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
            ),
            (
                "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]",
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
            ),
            (
                "clusterIP: '', clusterIPs: [10.0.0.2]",
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: must be empty when `clusterIP` is not specified",
            ),
            (
                "clusterIP: None, clusterIPs: [None, 10.0.0.1]",
                "spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.1\"]: 'None' must be the first and only value",
            ),
            (
                "clusterIP: 10.0.0.1, ipFamilies: [IPv6]",
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ),
            ("ipFamilies: [IPv4, IPv4]", "spec.ipFamilies[1]: Duplicate value: \"IPv4\""),
            (
                "externalIPs: [127.0.0.1]",
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                "trafficDistribution: Near",
                "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ),
            (
                "allocateLoadBalancerNodePorts: true",
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
            (
                "loadBalancerSourceRanges: [10.0.0.0/8]",
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
            ("type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8 ']", ""),
            (
                "healthCheckNodePort: 30000",
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
            (
                "externalTrafficPolicy: Local",
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            (
                "internalTrafficPolicy: Near",
                "spec.internalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
            ),
        ] {
            let found = errors::<Service>(&format!("{{spec: {{ports: [{{port: 80}}], {spec}}}}}"));
            assert_eq!(found.join(" | "), want, "{spec}");
        }
        let twice = errors::<Service>("{spec: {ports: [{port: 80, name: a}, {port: 80, name: b}]}}");
        assert_eq!(twice, ["spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}"]);
    }

    #[test]
    fn addresses_and_classes_stay() {
        let service = |spec: &str| format!("{{spec: {{ports: [{{port: 80}}], {spec}}}}}");
        for (old, new, want) in [
            ("clusterIP: 10.0.0.1", "clusterIP: None", "spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set"),
            ("clusterIP: 10.0.0.1", "clusterIP: ''", "spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"),
            ("clusterIP: 10.0.0.1", "type: ExternalName, externalName: a", ""),
            (
                "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], ipFamilyPolicy: PreferDualStack",
                "clusterIP: 10.0.0.1, ipFamilyPolicy: PreferDualStack",
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            ),
            (
                "type: LoadBalancer, loadBalancerClass: a/b",
                "type: LoadBalancer, loadBalancerClass: a/c",
                "spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set",
            ),
        ] {
            assert_eq!(update_errors::<Service>(&service(old), &service(new)).join(" | "), want, "{old} to {new}");
        }
    }

    #[test]
    fn balancers() {
        for (kind, point, want) in [
            ("ClusterIP", "{ip: 1.2.3.4}", "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"),
            ("LoadBalancer", "{ip: 1.2.3.4}", ""),
            (
                "LoadBalancer",
                "{hostname: 1.2.3.4}",
                "status.loadBalancer.ingress[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            ),
            (
                "LoadBalancer",
                "{hostname: a, ipMode: VIP}",
                "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
            ),
        ] {
            let service: Service = object(&format!("{{spec: {{type: {kind}}}, status: {{loadBalancer: {{ingress: [{point}]}}}}}}"));
            let found: Vec<String> = service.validate_status(&service).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" | "), want, "{kind} {point}");
        }
    }
}
