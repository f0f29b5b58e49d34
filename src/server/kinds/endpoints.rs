//! Endpoints and EndpointSlice: the addresses behind a Service.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;

kind!(Endpoints: NAMESPACED { singular: "endpoints", short: &["ep"], generation: false, update_may_create: true }
    fn apply_defaults(&mut self) {
        for port in self.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten()) {
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors { check_endpoints(self) }
    columns!(Endpoints;
        "Endpoints" string: "Addresses and ports." => |endpoints, _| print::text(shown(endpoints)),
        "Age" string: "Time since creation." => print::age);
);

kind!(EndpointSlice: NAMESPACED { singular: "endpointslice" }
    fn apply_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check_slice(self);
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("addressType"), &self.address_type, &old.address_type);
        }
        errors
    }
    columns!(EndpointSlice;
        "AddressType" string: "IPv4, IPv6 or FQDN." => |slice, _| print::text(&slice.address_type),
        "Ports" string: "Port numbers." => |slice, _| {
            let ports = slice.ports.iter().flatten().map(|port| port.port.map_or_else(|| "*".to_owned(), |port| port.to_string()));
            let ports: Vec<String> = ports.collect();
            print::text(if ports.is_empty() { print::UNSET.into() } else { print::first_three(&ports) })
        },
        "Endpoints" string: "Addresses." => |slice, _| {
            let all: Vec<String> = slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect();
            print::text(if all.is_empty() { print::UNSET.into() } else { print::first_three(&all) })
        },
        "Age" string: "Time since creation." => print::age);
);

fn shown(endpoints: &Endpoints) -> String {
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let addresses = subset.addresses.as_deref().unwrap_or_default();
        let ports = subset.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            // A headless service without ports still has addresses.
            all.extend(addresses.iter().map(|address| address.ip.clone()));
        }
        for port in ports {
            all.extend(addresses.iter().map(|address| match address.ip.contains(':') {
                true => format!("[{}]:{}", address.ip, port.port),
                false => format!("{}:{}", address.ip, port.port),
            }));
        }
    }
    if all.is_empty() { print::NONE.into() } else { print::first_three(&all) }
}

fn check_endpoints(endpoints: &Endpoints) -> Errors {
    let mut errors = Errors::new();
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let path = Path::new("subsets").index(index);
        let (ready, waiting) = (subset.addresses.as_deref().unwrap_or_default(), subset.not_ready_addresses.as_deref().unwrap_or_default());
        if ready.is_empty() && waiting.is_empty() {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, list) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (index, address) in list.iter().enumerate() {
                check_address(&mut errors, &path.at(field).index(index), address);
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        for (index, port) in ports.iter().enumerate() {
            let path = path.at("ports").index(index);
            match rules::str_of(&port.name) {
                "" if ports.len() > 1 => errors.push(FieldError::required(path.at("name"), "")),
                "" => {}
                name => rules::syntax(&mut errors, &path.at("name"), name, names::label),
            }
            rules::port_number(&mut errors, &path.at("port"), port.port);
            rules::required_one_of(&mut errors, &path.at("protocol"), rules::str_of(&port.protocol), PROTOCOLS);
        }
    }
    errors
}

fn check_address(errors: &mut Errors, path: &Path, address: &EndpointAddress) {
    rules::syntax(errors, &path.at("ip"), &address.ip, names::ip);
    rules::optional_syntax(errors, &path.at("hostname"), &address.hostname, names::label);
    rules::optional_syntax(errors, &path.at("nodeName"), &address.node_name, names::subdomain);
    if let Ok(ip) = address.ip.parse::<IpAddr>() {
        check_special(errors, &path.at("ip"), ip);
    }
}

/// Upstream's `ValidateNonSpecialIP`.
pub fn check_special(errors: &mut Errors, path: &Path, ip: IpAddr) {
    let text = ip.to_string();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let link_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    let rules = [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".into()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into()),
        (link_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into()),
    ];
    errors.extend(rules.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| FieldError::invalid(path, &text, why)));
}

fn check_slice(slice: &EndpointSlice) -> Errors {
    let mut errors = Errors::new();
    rules::required_one_of(&mut errors, &Path::new("addressType"), &slice.address_type, &["FQDN", "IPv4", "IPv6"]);
    let (endpoints, ports) = (slice.endpoints.as_deref().unwrap_or_default(), slice.ports.as_deref().unwrap_or_default());
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(rules::too_many(&Path::new("endpoints"), endpoints.len(), MAX_ENDPOINTS));
    }
    if ports.len() > MAX_PORTS {
        errors.push(rules::too_many(&Path::new("ports"), ports.len(), MAX_PORTS));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = Path::new("endpoints").index(index);
        if endpoint.addresses.is_empty() {
            errors.push(FieldError::required(path.at("addresses"), "must contain at least 1 address"));
        } else if endpoint.addresses.len() > MAX_ADDRESSES {
            errors.push(rules::too_many(&path.at("addresses"), endpoint.addresses.len(), MAX_ADDRESSES));
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            check_slice_address(&mut errors, &path.at("addresses").index(index), &slice.address_type, address);
        }
        rules::optional_syntax(&mut errors, &path.at("hostname"), &endpoint.hostname, names::label);
        rules::optional_syntax(&mut errors, &path.at("nodeName"), &endpoint.node_name, names::subdomain);
    }
    for (index, port) in ports.iter().enumerate() {
        let path = Path::new("ports").index(index);
        if ports[..index].iter().any(|other| other.name == port.name) {
            errors.push(FieldError::duplicate(path.at("name"), &port.name));
        }
        rules::optional_syntax(&mut errors, &path.at("name"), &port.name, names::label);
        rules::required_one_of(&mut errors, &path.at("protocol"), rules::str_of(&port.protocol), PROTOCOLS);
        rules::optional_syntax(&mut errors, &path.at("appProtocol"), &port.app_protocol, names::qualified);
        if let Some(number) = port.port {
            rules::port_number(&mut errors, &path.at("port"), number);
        }
    }
    errors
}

fn check_slice_address(errors: &mut Errors, path: &Path, kind: &str, address: &str) {
    match (kind, address.parse::<IpAddr>()) {
        ("FQDN", _) => rules::syntax(errors, path, address, names::fully_qualified),
        ("IPv4", Ok(ip @ IpAddr::V4(_))) | ("IPv6", Ok(ip @ IpAddr::V6(_))) => check_special(errors, path, ip),
        ("IPv4", _) => errors.push(FieldError::invalid(path, address, "must be a valid IPv4 address")),
        ("IPv6", _) => errors.push(FieldError::invalid(path, address, "must be a valid IPv6 address")),
        _ => {}
    }
}
