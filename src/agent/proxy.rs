//! Services to packet rules: what upstream's kube-proxy does.
//!
//! [`Decided`] decides, purely, Service by Service; [`run`] watches, and hands each new state to [`Net`], which changes only what differs. No
//! polling: it sleeps until something changed, and what changes meanwhile is taken together. One change costs the same among ten thousand.
//!
//! Follows `pkg/proxy/topology.go` for which endpoints count: the ready ones; if there are none, those that still serve while terminating.
//! Not done: IPv6, `loadBalancerSourceRanges`, health check node ports, topology hints, node ports on 127.0.0.1.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::services::{Services, is_ready, is_serving_to_the_end};
use crate::net::{Forward, Forwards, HostPort, Masquerade, Net, Protocol};

/// Services with this label are somebody else's.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client stays with its endpoint where the Service does not say (`v1.DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_SECONDS: u32 = 10_800;
/// The wait after a failure, doubled each time up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The proxy can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Whoever tells of the node's host ports is gone.
    #[error("the list of host ports has no writer any more")]
    HostPortsClosed,
    /// The watch of Services is gone.
    #[error("the watch of Services and EndpointSlices ended by itself")]
    WatchEnded,
}

/// Keeps the node's forwards true until the token is cancelled. The rules stay in force then: connections outlive the agent.
pub async fn run(
    mut services: watch::Receiver<Option<Services>>,
    net: Net,
    node_ip: IpAddr,
    mut host_ports: watch::Receiver<Vec<HostPort>>,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    let mut decided = Decided::new(Here { pods: net.pod_cidr(), node: node_ip });
    let mut wait = BACKOFF.0;
    loop {
        let current = services.borrow_and_update().clone();
        let ports = host_ports.borrow_and_update().clone();
        let mut failed = false;
        if let Some(current) = current
            && let Err(error) = net.forward(Forwards { services: decided.follow(current), host_ports: ports }).await
        {
            tracing::error!(%error, retry = ?wait, "changing the packet rules of Services");
            failed = true;
        }
        let retry = tokio::time::sleep(wait);
        tokio::select! {
            biased; // when all end together, it is the shutdown
            () = shutdown.cancelled() => return Ok(()),
            () = retry, if failed => {}
            changed = services.changed() => changed.map_err(|_| ProxyError::WatchEnded)?,
            changed = host_ports.changed() => changed.map_err(|_| ProxyError::HostPortsClosed)?,
        }
        wait = if failed { (wait * 2).min(BACKOFF.1) } else { BACKOFF.0 };
    }
}

/// What is on this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    /// Its pods.
    pub pods: ipnet::Ipv4Net,
    /// Itself, and its pods with `hostNetwork`.
    pub node: IpAddr,
}

impl Here {
    fn has(&self, endpoint: &SocketAddr) -> bool {
        endpoint.ip() == self.node || matches!(endpoint.ip(), IpAddr::V4(ip) if self.pods.contains(&ip))
    }
}

/// What every Service with a virtual address asks for, kept in step with the Services.
struct Decided {
    here: Here,
    seen: Services,
    forwards: OrdMap<String, Arc<[Forward]>>,
}

impl Decided {
    fn new(here: Here) -> Decided {
        Decided { here, seen: Services::default(), forwards: OrdMap::new() }
    }

    /// The forwards of these Services; only those that differ from the last ones are looked at.
    fn follow(&mut self, all: Services) -> OrdMap<String, Arc<[Forward]>> {
        for key in all.changed_since(&self.seen) {
            let name = format!("{}/{}", key.0, key.1);
            let forwards = all.get(&key).map(|(service, slices)| of_service(&name, service, &slices, &self.here)).unwrap_or_default();
            if forwards.is_empty() {
                self.forwards.remove(&name);
            } else {
                self.forwards.insert(name, forwards.into());
            }
        }
        self.seen = all;
        self.forwards.clone()
    }
}

fn of_service(name: &str, service: &Service, slices: &[&EndpointSlice], here: &Here) -> Vec<Forward> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let foreign = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(PROXY_NAME));
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let cluster_ips = addresses(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    if foreign || kind == "ExternalName" || cluster_ips.is_empty() {
        return Vec::new();
    }
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        configured.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(AFFINITY_SECONDS)
    });
    let external_ips = addresses(spec.external_ips.iter().flatten().chain(balancer_ips(service)));
    let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let mut forwards = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some((protocol, number)) = protocol_of(port.protocol.as_deref()).zip(u16::try_from(port.port).ok()) else { continue };
        let everywhere = endpoints(slices, port, protocol, &|_| true);
        let local = || endpoints(slices, port, protocol, &|endpoint| here.has(endpoint));
        let label = port.name.as_deref().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let internal = Forward {
            name: label.clone(),
            protocol,
            addresses: cluster_ips.clone(),
            port: number,
            node_port: None,
            endpoints: if internal_local { local() } else { everywhere.clone() },
            inside: None,
            masquerade: Masquerade::FromOutside,
            affinity,
        };
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let external = Forward {
            name: format!("{label} from outside"),
            addresses: external_ips.clone(),
            node_port,
            endpoints: if external_local { local() } else { everywhere.clone() },
            inside: external_local.then_some(everywhere),
            masquerade: if external_local { Masquerade::Never } else { Masquerade::Always },
            ..internal.clone()
        };
        forwards.push(internal);
        if node_port.is_some() || !external_ips.is_empty() {
            forwards.push(external);
        }
    }
    forwards
}

/// The addresses among the words, each once: `None` (headless) and the empty word are none.
fn addresses<'a>(words: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in words.filter_map(|word| word.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Addresses of the load balancer whose packets arrive as they were sent (`ipMode: VIP`).
fn balancer_ips(service: &Service) -> impl Iterator<Item = &String> {
    let ingress = service.status.iter().filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref()).flatten();
    ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy")).filter_map(|ingress| ingress.ip.as_ref())
}

fn protocol_of(word: Option<&str>) -> Option<Protocol> {
    match word.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Where a port of a Service goes: to the ready endpoints that count, else to those that end but serve.
fn endpoints(slices: &[&EndpointSlice], port: &ServicePort, protocol: Protocol, counts: &dyn Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    let matching = |wanted: &dyn Fn(&Endpoint) -> bool| {
        let mut found: Vec<SocketAddr> = Vec::new();
        for slice in slices {
            let named = slice.ports.iter().flatten().find(|p| {
                p.name.as_deref().unwrap_or("") == port.name.as_deref().unwrap_or("")
                    && protocol_of(p.protocol.as_deref()) == Some(protocol)
            });
            let Some(number) = named.and_then(|p| u16::try_from(p.port?).ok()) else { continue };
            for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| wanted(endpoint)) {
                // The addresses of one endpoint are interchangeable; upstream uses the first.
                let address = endpoint.addresses.first().and_then(|a| a.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, number));
                found.extend(address.filter(counts));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    };
    let ready = matching(&is_ready);
    if ready.is_empty() { matching(&is_serving_to_the_end) } else { ready }
}

#[cfg(test)]
mod tests {
    use super::super::services::services_of;
    use super::*;

    const SLICE: &str = "
---
kind: EndpointSlice
metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
";

    /// A forward as one line.
    fn line(f: &Forward) -> String {
        let addresses: Vec<String> =
            f.addresses.iter().map(|a| format!("{a}:{}", f.port)).chain(f.node_port.map(|p| format!("node:{p}"))).collect();
        let show = |endpoints: &[SocketAddr]| endpoints.iter().map(|e| e.ip().to_string()).collect::<Vec<_>>().join(" ");
        let inside = f.inside.as_deref().map(|inside| format!(", inside {}", show(inside))).unwrap_or_default();
        let affinity = f.affinity.map(|seconds| format!(", affinity {seconds}")).unwrap_or_default();
        format!("{} -> {}{inside} {:?}{affinity}", addresses.join(" "), show(&f.endpoints), f.masquerade)
    }

    fn forwards(all: Services, here: Here) -> Vec<Forward> {
        Decided::new(here).follow(all).values().flat_map(|forwards| forwards.iter().cloned()).collect()
    }

    fn check(spec: &str, status: &str, endpoints: &str, expect: &[&str]) {
        let ports = if spec.contains("ports:") { "" } else { ", ports: [{name: http, port: 80, nodePort: 30080}]" };
        let service = format!(
            "kind: Service\nmetadata: {{namespace: default, name: web}}\nspec: {{clusterIP: 10.43.0.7, clusterIPs: [10.43.0.7], {spec}{ports}}}\nstatus: {{{status}}}\n"
        );
        let services = services_of(&format!("{service}{SLICE}{endpoints}"));
        let here = Here { pods: "10.42.0.0/24".parse().expect("a range"), node: "192.0.2.1".parse().expect("an address") };
        assert_eq!(forwards(services, here).iter().map(line).collect::<Vec<_>>(), expect, "{spec} {endpoints}");
    }

    const HERE_AND_THERE: &str = "- {addresses: [10.42.0.2], conditions: {ready: true}}\n- {addresses: [10.42.1.2]}\n- {addresses: [10.42.0.9], conditions: {ready: false}}\n";
    const ENDING: &str = "- {addresses: [10.42.0.2], conditions: {ready: false, serving: true, terminating: true}}\n- {addresses: [10.42.0.3], conditions: {ready: false, serving: false, terminating: true}}\n";

    #[test]
    fn which_addresses_go_where() {
        check(
            "type: NodePort",
            "",
            HERE_AND_THERE,
            &["10.43.0.7:80 -> 10.42.0.2 10.42.1.2 FromOutside", "node:30080 -> 10.42.0.2 10.42.1.2 Always"],
        );
        check(
            "type: LoadBalancer, externalIPs: [198.51.100.1], externalTrafficPolicy: Local, sessionAffinity: ClientIP",
            "loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: Proxy}]}",
            HERE_AND_THERE,
            &[
                "10.43.0.7:80 -> 10.42.0.2 10.42.1.2 FromOutside, affinity 10800",
                "198.51.100.1:80 203.0.113.1:80 node:30080 -> 10.42.0.2, inside 10.42.0.2 10.42.1.2 Never, affinity 10800",
            ],
        );
        check(
            "internalTrafficPolicy: Local, type: NodePort",
            "",
            HERE_AND_THERE,
            &["10.43.0.7:80 -> 10.42.0.2 FromOutside", "node:30080 -> 10.42.0.2 10.42.1.2 Always"],
        );
    }

    #[test]
    fn terminating_endpoints_serve_to_the_end() {
        check("type: NodePort", "", ENDING, &["10.43.0.7:80 -> 10.42.0.2 FromOutside", "node:30080 -> 10.42.0.2 Always"]);
    }

    #[test]
    fn what_has_no_virtual_address() {
        check("type: ExternalName", "", HERE_AND_THERE, &[]);
        let headless =
            "kind: Service\nmetadata: {namespace: default, name: web}\nspec: {clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}\n";
        let here = Here { pods: "10.42.0.0/24".parse().expect("a range"), node: "192.0.2.1".parse().expect("an address") };
        assert_eq!(forwards(services_of(headless), here), []);
    }

    #[test]
    fn nothing_ready_means_refused() {
        check(
            "type: ClusterIP, ports: [{name: http, port: 80}]",
            "",
            "- {addresses: [10.42.0.9], conditions: {ready: false}}\n",
            &["10.43.0.7:80 ->  FromOutside"],
        );
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let service = |name: &str, ip: &str| {
            format!(
                "---\nkind: Service\nmetadata: {{namespace: default, name: {name}}}\nspec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{port: 80}}]}}\n"
            )
        };
        let mut decided =
            Decided::new(Here { pods: "10.42.0.0/24".parse().expect("a range"), node: "192.0.2.1".parse().expect("an address") });
        for (yaml, expect) in [
            (service("a", "10.43.0.7") + &service("b", "10.43.0.8"), vec!["default/a", "default/b"]),
            (service("b", "10.43.0.8"), vec!["default/b"]),
            (service("b", "None"), vec![]),
        ] {
            let names: Vec<String> = decided.follow(services_of(&yaml)).keys().cloned().collect();
            assert_eq!(names, expect);
        }
    }
}
