//! Services to DNS records, and the server that answers with them.
//!
//! [`part`] follows the Kubernetes DNS specification 1.1.0: a name for each Service with an address; for a headless one the addresses of its
//! ready endpoints, each also under a name of its own; ports as SRV; pointers for Service addresses and for endpoints of headless
//! Services; an alias for ExternalName.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::services::{ObjectKey, Services, is_ready};
use crate::net::dns::{Part, Record, ServeError, Server, Zone};

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
///
/// Names outside the cluster are answered from the first moment; those of the cluster once the Services are known.
pub async fn run(mut services: watch::Receiver<Option<Services>>, config: DnsConfig, shutdown: CancellationToken) -> Result<(), DnsError> {
    let mut names = Names::new(&config.domain);
    let current = Arc::new(ArcSwap::from_pointee(Zone::new(&config.domain)));
    let server = Server::bind(&config.listen, &config.upstreams, Arc::clone(&current)).await?;
    let serving = server.run(shutdown.clone());
    tokio::pin!(serving);
    loop {
        let all = services.borrow_and_update().clone();
        if let Some(all) = all {
            current.store(Arc::new(names.follow(all)));
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

/// The records of the cluster, kept in step with the Services. One change costs the same among ten thousand.
struct Names {
    zone: Zone,
    seen: Services,
    parts: HashMap<ObjectKey, Part>,
}

impl Names {
    fn new(domain: &str) -> Names {
        let mut version = Part::default();
        version.add("dns-version", Record::Txt(SCHEMA_VERSION.into()));
        let mut zone = Zone::new(domain);
        zone.add(&version);
        Names { zone, seen: Services::default(), parts: HashMap::new() }
    }

    /// The zone of these Services; only those that differ from the last ones are looked at.
    fn follow(&mut self, all: Services) -> Zone {
        for key in all.changed_since(&self.seen) {
            let new = all.get(&key).and_then(|(service, slices)| part(&self.zone, &key, service, &slices));
            let old = match new.clone() {
                Some(new) => self.parts.insert(key, new),
                None => self.parts.remove(&key),
            };
            if old != new {
                old.iter().for_each(|part| self.zone.remove(part));
                new.iter().for_each(|part| self.zone.add(part));
            }
        }
        self.seen = all;
        self.zone.clone()
    }
}

/// What a Service contributes; its namespace exists in any case.
fn part(zone: &Zone, (namespace, name): &ObjectKey, service: &Service, slices: &[&EndpointSlice]) -> Option<Part> {
    let spec = service.spec.as_ref()?;
    let mut part = Part::default();
    part.touch(&format!("{namespace}.svc"));
    let base = format!("{name}.{namespace}.svc");
    match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => {
            if let Some(to) = &spec.external_name {
                part.add(&base, Record::Cname(to.trim_end_matches('.').into()));
            }
        }
        (_, Some("None")) => add_headless(zone, &mut part, &base, slices),
        _ => add_addressed(zone, &mut part, &base, spec),
    }
    Some(part)
}

fn add_addressed(zone: &Zone, part: &mut Part, base: &str, spec: &ServiceSpec) {
    let full = zone.full(base);
    for address in spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|ip| ip.parse::<Ipv4Addr>().ok()) {
        part.add(base, Record::A(address));
        part.point(address, Arc::clone(&full));
    }
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else { continue };
        add_port(part, base, port.name.as_deref(), port.protocol.as_deref(), Record::Srv { port: number, target: Arc::clone(&full) });
    }
}

/// A port has a name of its own if it is named; asking for all ports of the Service finds it either way (as CoreDNS).
fn add_port(part: &mut Part, base: &str, name: Option<&str>, protocol: Option<&str>, record: Record) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
        part.add(&format!("_{name}._{protocol}.{base}"), record.clone());
    }
    part.add(base, record);
}

fn add_headless(zone: &Zone, part: &mut Part, base: &str, slices: &[&EndpointSlice]) {
    for slice in slices {
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            for address in endpoint.addresses.iter().filter_map(|ip| ip.parse::<Ipv4Addr>().ok()) {
                let host = endpoint.hostname.clone().filter(|host| !host.is_empty());
                let host = format!("{}.{base}", host.unwrap_or_else(|| address.to_string().replace('.', "-")));
                let full = zone.full(&host);
                part.add(base, Record::A(address));
                part.add(&host, Record::A(address));
                part.point(address, Arc::clone(&full));
                for port in slice.ports.iter().flatten() {
                    let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else { continue };
                    let record = Record::Srv { port: number, target: Arc::clone(&full) };
                    add_port(part, base, port.name.as_deref(), port.protocol.as_deref(), record);
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
        let full = |name: &str| -> Arc<str> { format!("{name}.default.svc.cluster.local").into() };
        let srv = |port, name| Record::Srv { port, target: full(name) };
        let a = |c, d| Record::A([10, c, 0, d].into());
        let zone = Names::new("cluster.local").follow(services_of(CLUSTER));
        for (name, expect) in [
            ("dns-version", vec![Record::Txt("1.1.0".into())]),
            ("db.default.svc", vec![a(42, 2), srv(5432, "db-0.db"), a(42, 3), srv(5432, "10-42-0-3.db")]),
            ("db-0.db.default.svc", vec![a(42, 2)]),
            ("_sql._tcp.db.default.svc", vec![srv(5432, "db-0.db"), srv(5432, "10-42-0-3.db")]),
            ("10-42-0-3.db.default.svc", vec![a(42, 3)]),
            ("web.default.svc", vec![a(43, 7), srv(80, "web"), srv(53, "web")]),
            ("_http._tcp.web.default.svc", vec![srv(80, "web")]),
            ("out.other.svc", vec![Record::Cname("Example.com".into())]),
            ("other.svc", vec![]),
        ] {
            assert_eq!(zone.records(name), Some(&expect[..]), "{name}");
        }
        for name in ["empty.default.svc", "10-42-0-4.db.default.svc", "third.svc"] {
            assert_eq!(zone.records(name), None, "{name}");
        }
        assert_eq!(zone.pointers([10, 43, 0, 7].into()), [full("web")]);
        assert_eq!(zone.pointers([10, 42, 0, 2].into()), [full("db-0.db")]);
        assert_eq!(zone.pointers([10, 42, 0, 3].into()), [full("10-42-0-3.db")]);
    }

    #[test]
    fn any_way_leads_to_the_same_zone() {
        let (whole, less) = (services_of(CLUSTER), services_of(CLUSTER.rsplit_once("- {addresses: [10.42.0.3]}").expect("it is there").0));
        let mut names = Names::new("cluster.local");
        for all in [&whole, &less, &Services::default(), &less, &whole, &less] {
            let straight = Names::new("cluster.local").follow(all.clone());
            assert_eq!(names.follow(all.clone()), straight);
        }
    }
}
