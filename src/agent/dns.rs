//! Services to DNS records, and the server that answers with them.
//!
//! [`zone`] follows the Kubernetes DNS specification 1.1.0: a name for each Service with an address; for a headless one the addresses of its
//! ready endpoints, each also under a name of its own; ports as SRV; pointers for Service addresses and for endpoints of headless
//! Services; an alias for ExternalName.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::services::{Services, is_ready, watch_services};
use crate::net::dns::{Record, ServeError, Server, Zone};

/// Version of the specification that is followed, as the zone tells it.
const SCHEMA_VERSION: &str = "1.1.0";

/// Where the server listens and what it answers for.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Addresses of this node: the bridge's and the cluster's DNS address, made this node's own by `Net::own` before.
    pub listen: Vec<SocketAddr>,
    /// The cluster domain, such as `cluster.local`.
    pub domain: String,
    /// Who knows all other names; see [`crate::net::dns::upstreams_of`].
    pub upstreams: Vec<SocketAddr>,
}

/// The server can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// It has no socket.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The watch of Services is gone.
    #[error("the watch of Services and EndpointSlices ended by itself")]
    WatchEnded,
}

/// Serves until the token is cancelled.
pub async fn run(client: Client, config: DnsConfig, shutdown: CancellationToken) -> Result<(), DnsError> {
    let services = watch_services(&client, shutdown.clone());
    run_on(services, config, shutdown).await
}

/// As [`run`], on a watch shared with others.
///
/// Names outside the cluster are answered from the first moment; those of the cluster once the Services are known.
pub(crate) async fn run_on(
    mut services: watch::Receiver<Option<Services>>,
    config: DnsConfig,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let current = Arc::new(ArcSwap::from_pointee(Zone::new(&config.domain)));
    let server = Server::bind(&config.listen, &config.upstreams, Arc::clone(&current)).await?;
    let serving = server.run(shutdown.clone());
    tokio::pin!(serving);
    loop {
        let all = services.borrow_and_update().clone();
        if let Some(all) = all {
            let new = zone(&config.domain, &all);
            if **current.load() != new {
                current.store(Arc::new(new));
            }
        }
        tokio::select! {
            () = &mut serving => return Ok(()),
            changed = services.changed() => match changed {
                Ok(()) => {}
                Err(_) if shutdown.is_cancelled() => return Ok(()),
                Err(_) => return Err(DnsError::WatchEnded),
            },
        }
    }
}

/// The records of the cluster.
pub(crate) fn zone(domain: &str, all: &Services) -> Zone {
    let mut zone = Zone::new(domain);
    zone.add("dns-version", Record::Txt(SCHEMA_VERSION.into()));
    let slices = all.slices_by_service();
    for ((namespace, name), service) in &all.services {
        let Some(spec) = &service.spec else { continue };
        zone.touch(&format!("{namespace}.svc"));
        let base = format!("{name}.{namespace}.svc");
        let slices = slices.get(&(namespace.as_str(), name.as_str())).map_or(&[][..], Vec::as_slice);
        match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => {
                if let Some(to) = &spec.external_name {
                    zone.add(&base, Record::Cname(to.trim_end_matches('.').into()));
                }
            }
            (_, Some("None")) => add_headless(&mut zone, &base, slices),
            _ => add_addressed(&mut zone, &base, service),
        }
    }
    zone
}

fn add_addressed(zone: &mut Zone, base: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let full = zone.full(base);
    for address in spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|ip| ip.parse::<Ipv4Addr>().ok()) {
        zone.add(base, Record::A(address));
        zone.point(address, Arc::clone(&full));
    }
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else { continue };
        add_port(zone, base, port.name.as_deref(), port.protocol.as_deref(), Record::Srv { port: number, target: Arc::clone(&full) });
    }
}

/// A port has a name of its own if it is named; asking for all ports of the Service finds it either way (as CoreDNS).
fn add_port(zone: &mut Zone, base: &str, name: Option<&str>, protocol: Option<&str>, record: Record) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
        zone.add(&format!("_{name}._{protocol}.{base}"), record.clone());
    }
    zone.add(base, record);
}

fn add_headless(zone: &mut Zone, base: &str, slices: &[&EndpointSlice]) {
    for slice in slices {
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            for address in endpoint.addresses.iter().filter_map(|ip| ip.parse::<Ipv4Addr>().ok()) {
                let host = endpoint.hostname.clone().filter(|host| !host.is_empty());
                let host = format!("{}.{base}", host.unwrap_or_else(|| address.to_string().replace('.', "-")));
                let full = zone.full(&host);
                zone.add(base, Record::A(address));
                zone.add(&host, Record::A(address));
                zone.point(address, Arc::clone(&full));
                for port in slice.ports.iter().flatten() {
                    let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else { continue };
                    let record = Record::Srv { port: number, target: Arc::clone(&full) };
                    add_port(zone, base, port.name.as_deref(), port.protocol.as_deref(), record);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::services::services_of;
    use super::*;

    const CLUSTER: &str = "
kind: Service
metadata: {namespace: default, name: web}
spec: {clusterIP: 10.43.0.7, clusterIPs: [10.43.0.7], ports: [{name: http, port: 80}, {port: 53, protocol: UDP}]}
---
kind: Service
metadata: {namespace: default, name: db}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 5432}]}
---
kind: Service
metadata: {namespace: default, name: empty}
spec: {clusterIP: None, clusterIPs: [None]}
---
kind: Service
metadata: {namespace: other, name: out}
spec: {type: ExternalName, externalName: Example.com.}
---
kind: EndpointSlice
metadata: {namespace: default, name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.42.0.2], hostname: db-0}
- {addresses: [10.42.0.3]}
- {addresses: [10.42.0.4], conditions: {ready: false}}
";

    #[test]
    fn records() {
        let mut expect = Zone::new("cluster.local");
        let full = |name: &str| -> Arc<str> { format!("{name}.default.svc.cluster.local").into() };
        let srv = |port, name| Record::Srv { port, target: full(name) };
        expect.add("dns-version", Record::Txt("1.1.0".into()));
        for (name, record) in [
            ("db.default.svc", Record::A([10, 42, 0, 2].into())),
            ("db-0.db.default.svc", Record::A([10, 42, 0, 2].into())),
            ("_sql._tcp.db.default.svc", srv(5432, "db-0.db")),
            ("db.default.svc", srv(5432, "db-0.db")),
            ("db.default.svc", Record::A([10, 42, 0, 3].into())),
            ("10-42-0-3.db.default.svc", Record::A([10, 42, 0, 3].into())),
            ("_sql._tcp.db.default.svc", srv(5432, "10-42-0-3.db")),
            ("db.default.svc", srv(5432, "10-42-0-3.db")),
            ("web.default.svc", Record::A([10, 43, 0, 7].into())),
            ("_http._tcp.web.default.svc", srv(80, "web")),
            ("web.default.svc", srv(80, "web")),
            ("web.default.svc", srv(53, "web")),
            ("out.other.svc", Record::Cname("Example.com".into())),
        ] {
            expect.add(name, record);
        }
        expect.point([10, 43, 0, 7].into(), full("web"));
        expect.point([10, 42, 0, 2].into(), full("db-0.db"));
        expect.point([10, 42, 0, 3].into(), full("10-42-0-3.db"));
        assert_eq!(zone("cluster.local", &services_of(CLUSTER)), expect);
    }
}
