//! Services get their ClusterIP and NodePorts (kubernetes `pkg/registry/core/service/storage`: `alloc.go`, `storage.go`).
//!
//! Not an admission plug-in upstream but a hook of the service's storage; here it is a check like the others, for it needs what they
//! need: the snapshot, the old object, and a way to refuse.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::service_allocation::{AllocationError, Allocator, Held, Item, address_at, address_space, kept_ports};
use super::{Check, RegistryConfig, Request};
use crate::api::{FieldError, Key, Status};

const HEADLESS: &str = "None";

pub(super) struct Services;

impl Check for Services {
    fn reserve(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if !request.object.as_any().is::<Service>() {
            return Ok(());
        }
        let (namespace, name) = (request.namespace(), request.name());
        let old = request.old::<Service>().and_then(|service| service.spec.clone());
        let (reservations, latest, config) = (request.reservations, request.latest, &request.parts.config);
        let Some(spec) = request.object::<Service>().and_then(|service| service.spec.as_mut()) else { return Ok(()) };
        if let Some(old) = &old {
            carry_over(spec, old);
        }
        let mut held = Vec::new();
        if has_address(spec) {
            let mut allocator = Allocator::new(reservations, latest, Key::of::<Service>(&namespace, &name));
            let seed = format!("{namespace}/{name}");
            let outcome = addresses(spec, old.as_ref(), config, &mut allocator, &seed, &mut held)
                .and_then(|()| ports(spec, old.as_ref(), config, &mut allocator, &seed, &mut held));
            // The allocator holds the lock that dropping a reservation takes.
            drop(allocator);
            if let Err(error) = outcome {
                drop(held);
                return Err(Status::invalid("", "Service", &name, vec![error]));
            }
        }
        request.findings.held.extend(held.into_iter().map(|held| Box::new(held) as _));
        Ok(())
    }
}

fn type_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn has_address(spec: &ServiceSpec) -> bool {
    type_of(spec) != "ExternalName"
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// Node ports may be given explicitly for a load balancer even when none are allocated.
fn may_have_node_ports(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "NodePort" | "LoadBalancer")
}

/// An update that leaves allocated values out keeps them, and one that changes the type loses those that the new type has not.
fn carry_over(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let empty = |address: &Option<String>| address.as_deref().is_none_or(str::is_empty);
    if has_address(spec) && has_address(old) {
        if empty(&spec.cluster_ip) && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
            spec.cluster_ip = old.cluster_ip.clone();
            spec.cluster_ips = old.cluster_ips.clone();
        }
        spec.ip_families = spec.ip_families.take().or_else(|| old.ip_families.clone());
        spec.ip_family_policy = spec.ip_family_policy.take().or_else(|| old.ip_family_policy.clone());
    }
    if !has_address(spec) && has_address(old) {
        if spec.cluster_ip == old.cluster_ip {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
        }
        spec.ip_families = None;
        spec.ip_family_policy = None;
    }
    drop_dependents(spec, old);
    let same = |a: &ServicePort, b: &ServicePort| a.port == b.port && a.protocol == b.protocol;
    for port in spec.ports.iter_mut().flatten() {
        let Some(before) = old.ports.iter().flatten().find(|before| same(port, before)).and_then(|before| before.node_port) else {
            continue;
        };
        let given = port.node_port.filter(|number| *number != 0);
        let keeps = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        match (keeps, given) {
            (true, None) => port.node_port = Some(before),
            (false, Some(given)) if given == before && may_have_node_ports(old) => port.node_port = None,
            _ => {}
        }
    }
}

/// Fields that only some types have go with the type, if the client did not touch them (upstream's `dropTypeDependentFields`).
fn drop_dependents(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let external = |spec: &ServiceSpec| {
        let addressed = type_of(spec) == "ClusterIP" && spec.external_ips.as_ref().is_some_and(|addresses| !addresses.is_empty());
        may_have_node_ports(spec) || addressed
    };
    let checked = |spec: &ServiceSpec| type_of(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local");
    if checked(old) && !checked(spec) && spec.health_check_node_port == old.health_check_node_port {
        spec.health_check_node_port = None;
    }
    if external(old) && !external(spec) && spec.external_traffic_policy == old.external_traffic_policy {
        spec.external_traffic_policy = None;
    }
    if type_of(old) == "LoadBalancer" && type_of(spec) != "LoadBalancer" {
        if spec.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            spec.allocate_load_balancer_node_ports = None;
        }
        if spec.load_balancer_class == old.load_balancer_class {
            spec.load_balancer_class = None;
        }
    }
}

fn addresses(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    config: &RegistryConfig,
    allocator: &mut Allocator<'_>,
    seed: &str,
    held: &mut Vec<Held>,
) -> Result<(), FieldError> {
    let given = spec.cluster_ip.clone().filter(|address| !address.is_empty());
    let given = given.or_else(|| spec.cluster_ips.as_ref().and_then(|all| all.first().cloned()));
    let family = if config.service_cidr.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    let address = match given {
        Some(address) if address == HEADLESS => address,
        Some(address) => {
            let unchanged = old.is_some_and(|old| old.cluster_ip.as_deref() == Some(address.as_str()));
            if !unchanged {
                held.push(explicit_address(&address, config, allocator)?);
            }
            address
        }
        None => {
            let (network, count, kept) = address_space(&config.service_cidr);
            let picked = allocator.any(count, kept, seed, |index| Item::Address(address_at(network, index)));
            let (item, reservation) = picked.map_err(|error| {
                FieldError::invalid("spec.clusterIPs", &spec.cluster_ips, format!("failed to allocate a serviceIP: {error}"))
            })?;
            held.push(reservation);
            let Item::Address(address) = item else { unreachable!("`make` gives addresses only") };
            address.to_string()
        }
    };
    spec.cluster_ip = Some(address.clone());
    if spec.cluster_ips.as_ref().is_none_or(|all| all.is_empty() || all.len() == 1) {
        spec.cluster_ips = Some(vec![address]);
    }
    if spec.ip_families.as_ref().is_none_or(Vec::is_empty) {
        spec.ip_families = Some(vec![family.into()]);
    }
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".into());
    Ok(())
}

fn explicit_address(address: &str, config: &RegistryConfig, allocator: &mut Allocator<'_>) -> Result<Held, FieldError> {
    let field = "spec.clusterIPs";
    let shown = [address];
    let Ok(parsed) = address.parse::<IpAddr>() else {
        return Err(FieldError::invalid("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    };
    let failed = |why: String| FieldError::invalid(field, shown, format!("failed to allocate IP {address}: {why}"));
    let cidr = &config.service_cidr;
    let edges = parsed == cidr.network() || (parsed.is_ipv4() && parsed == cidr.broadcast());
    if !cidr.contains(&parsed) || edges {
        return Err(failed(format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {cidr}")));
    }
    allocator.take(Item::Address(parsed)).map_err(|error| failed(error.to_string()))
}

fn ports(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    config: &RegistryConfig,
    allocator: &mut Allocator<'_>,
    seed: &str,
    held: &mut Vec<Held>,
) -> Result<(), FieldError> {
    if !may_have_node_ports(spec) {
        return Ok(());
    }
    let allocates = has_node_ports(spec);
    // The service's own ports are not conflicts: those it had, and one number used for two protocols.
    let mut own: Vec<i32> = old.into_iter().flat_map(|old| old.ports.iter().flatten()).filter_map(|port| port.node_port).collect();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let Some(number) = port.node_port.filter(|number| *number != 0) else { continue };
        if !own.contains(&number) {
            held.push(explicit_port(index, number, config, allocator)?);
            own.push(number);
        }
    }
    // Nor may they be handed out again to another port of the service.
    allocator.avoid(own.iter().filter_map(|number| u16::try_from(*number).ok()).map(Item::Port));
    if type_of(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local") {
        health_port(spec, old, config, allocator, seed, held)?;
    }
    if !allocates {
        return Ok(());
    }
    for (index, port) in spec.ports.iter_mut().flatten().enumerate() {
        if port.node_port.is_none_or(|number| number == 0) {
            let field = format!("spec.ports[{index}].nodePort");
            let (number, reservation) = any_port(config, allocator, &format!("{seed}/{index}"))
                .map_err(|error| FieldError::invalid(field, 0, format!("failed to allocate a nodePort: {error}")))?;
            held.push(reservation);
            port.node_port = Some(number);
        }
    }
    Ok(())
}

fn explicit_port(index: usize, number: i32, config: &RegistryConfig, allocator: &mut Allocator<'_>) -> Result<Held, FieldError> {
    let field = format!("spec.ports[{index}].nodePort");
    let range = &config.node_port_range;
    match u16::try_from(number).ok().filter(|port| range.contains(port)) {
        Some(port) => allocator.take(Item::Port(port)).map_err(|error| FieldError::invalid(field, number, error)),
        None => {
            let why = format!("provided port is not in the valid range. The range of valid ports is {}-{}", range.start(), range.end());
            Err(FieldError::invalid(field, number, why))
        }
    }
}

fn any_port(config: &RegistryConfig, allocator: &mut Allocator<'_>, seed: &str) -> Result<(i32, Held), AllocationError> {
    let range = &config.node_port_range;
    let count = u128::try_from(range.len()).unwrap_or(0);
    let first = *range.start();
    // `index` is below the range's length, so it fits.
    let make = |index: u128| Item::Port(first.saturating_add(u16::try_from(index).unwrap_or(0)));
    let (item, held) = allocator.any(count, kept_ports(count), seed, make)?;
    let Item::Port(port) = item else { unreachable!("`make` gives ports only") };
    Ok((i32::from(port), held))
}

/// Where a load balancer asks whether this node has endpoints.
fn health_port(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    config: &RegistryConfig,
    allocator: &mut Allocator<'_>,
    seed: &str,
    held: &mut Vec<Held>,
) -> Result<(), FieldError> {
    let before = old.and_then(|old| old.health_check_node_port).filter(|port| *port != 0);
    let given = spec.health_check_node_port.filter(|port| *port != 0);
    if given.is_some() && given == before {
        return Ok(());
    }
    if given.is_none() && before.is_some() {
        spec.health_check_node_port = before;
        return Ok(());
    }
    let failed = |error: AllocationError| {
        FieldError::invalid("spec.healthCheckNodePort", given.unwrap_or(0), format!("failed to allocate a HealthCheck port: {error}"))
    };
    match given.and_then(|port| u16::try_from(port).ok()) {
        Some(port) => held.push(allocator.take(Item::Port(port)).map_err(failed)?),
        None => {
            let (port, reservation) = any_port(config, allocator, &format!("{seed}/health")).map_err(failed)?;
            held.push(reservation);
            spec.health_check_node_port = Some(port);
        }
    }
    Ok(())
}
