//! `pods/NAME/proxy` and `services/NAME/proxy`: a request to a pod's own port, through its node's tunnel or dialled from this server.
//!
//! Names are `[SCHEME:]NAME[:PORT]`; a service's port is resolved to one of its ready endpoints. With `https`, whatever
//! certificate the pod shows is accepted, as upstream does: it has none that anybody could know.
//!
//! Never: dials anything but the address of a pod in the store. Follows upstream's `registry/core/{pod,service}` `ResourceLocation`.

use std::net::IpAddr;
use std::time::Duration;

use axum::response::Response;
use http::Uri;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use rand::seq::IndexedRandom;

use super::{Call, stream};
use crate::api::Status;
use crate::server::auth::Lookup;
use crate::server::outbound;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A parsed `[SCHEME:]NAME[:PORT]`.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Option<Target<'a>> {
        let (scheme, name, port) = match text.split(':').collect::<Vec<_>>().as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] if ["", "http", "https"].contains(scheme) => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Target { scheme, name, port })
    }
}

/// Relays to the pod, or to a pod of the service.
pub(super) async fn serve(call: Call) -> Result<Response, Status> {
    let info = &call.info;
    let invalid = || Status::bad_request(format!("invalid {} request {:?}", info.resource, info.name));
    let target = Target::parse(&info.name).ok_or_else(invalid)?;
    let (node, address, port) = match info.resource.as_str() {
        "pods" => pod_address(&call, &target)?,
        _ => service_address(&call, &target)?,
    };
    if !is_proxyable(&address) {
        return Err(Status::bad_request("address not allowed"));
    }
    let query = call.request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let path = format!("/{}{query}", info.rest);
    let uri: Uri = path.parse().map_err(|e| Status::bad_request(format!("{path:?} is no request path: {e}")))?;
    let host = stream::authority(&address, port);
    let unreachable = |why: String| Status::unavailable(format!("error trying to reach service: dial tcp {host}: {why}"));
    let connect = call.app.tunnels.connect(&node, &address, port);
    let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(result) => result.map_err(|unlinked| unreachable(unlinked.error.to_string()))?,
        Err(_) => return Err(unreachable("i/o timeout".into())),
    };
    let stopping = call.app.stopping.clone().cancelled_owned();
    if target.scheme == "https" {
        let failed = |why| Status::unavailable(format!("error trying to reach service: {why}"));
        let secured = outbound::unverified(connected, &address).await.map_err(failed)?;
        return stream::forward(secured, call.request, uri, &host, stopping).await;
    }
    stream::forward(connected, call.request, uri, &host, stopping).await
}

/// Whether an address may be a pod's: whoever may write one into the API must not reach what only this machine may (upstream's
/// `apimachinery/pkg/util/proxy` `IsProxyableIP`).
fn is_proxyable(address: &str) -> bool {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => !(v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast()),
        Ok(IpAddr::V6(v6)) => {
            let v4 = v6.to_ipv4_mapped().is_none_or(|v4| is_proxyable(&v4.to_string()));
            v4 && !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified())
        }
        Err(_) => false,
    }
}

/// The node of a pod (empty where nobody says), its address and a port.
type Place = (String, String, u16);

fn pod_address(call: &Call, target: &Target<'_>) -> Result<Place, Status> {
    let pod = call.app.get::<Pod>(&call.info.namespace, target.name)?;
    let address = pod.status.as_ref().and_then(|s| s.pod_ip.clone()).filter(|ip| !ip.is_empty());
    let address = address.ok_or_else(|| Status::bad_request("address not allowed: the pod has no address yet"))?;
    let ports = pod.spec.iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
    let port = match target.port {
        "" => ports.map(|p| p.container_port).next().unwrap_or(80),
        text => match text.parse() {
            Ok(number) => number,
            Err(_) => {
                let mut named = ports.filter(|p| p.name.as_deref() == Some(text));
                named
                    .next()
                    .map(|p| p.container_port)
                    .ok_or_else(|| Status::bad_request(format!("pod {:?} has no port {text:?}", target.name)))?
            }
        },
    };
    let port = u16::try_from(port).map_err(|_| Status::bad_request(format!("{port} is no port")))?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    Ok((node, address, port))
}

fn service_address(call: &Call, target: &Target<'_>) -> Result<Place, Status> {
    let namespace = &call.info.namespace;
    let service = call.app.get::<Service>(namespace, target.name)?;
    let ports = service.spec.as_ref().and_then(|s| s.ports.clone()).unwrap_or_default();
    let found = match target.port {
        "" if ports.len() == 1 => ports.first(),
        wanted => ports.iter().find(|p| p.name.as_deref() == Some(wanted).filter(|w| !w.is_empty()) || p.port.to_string() == wanted),
    };
    let missing = || Status::unavailable(format!("no service port {:?} found for service {:?}", target.port, target.name));
    let name = found.ok_or_else(missing)?.name.clone().unwrap_or_default();
    let mut candidates = Vec::new();
    for slice in call.app.registry.store().snapshot().list::<EndpointSlice>(Some(namespace)) {
        let owner = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
        if owner.map(String::as_str) != Some(target.name) {
            continue;
        }
        let port = slice.ports.iter().flatten().find(|p| p.name.clone().unwrap_or_default() == name).and_then(|p| p.port);
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { continue };
        candidates.extend(slice_endpoints(&slice).map(|(node, address)| (node, address, port)));
    }
    let none = || Status::unavailable(format!("no endpoints available for service {:?}", target.name));
    candidates.choose(&mut rand::rng()).cloned().ok_or_else(none)
}

/// Nodes and addresses of what is ready.
fn slice_endpoints(slice: &EndpointSlice) -> impl Iterator<Item = (String, String)> {
    let ready = |e: &&Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
    let places = |e: &Endpoint| {
        let node = e.node_name.clone().unwrap_or_default();
        e.addresses.iter().map(|address| (node.clone(), address.clone())).collect::<Vec<_>>()
    };
    slice.endpoints.iter().flatten().filter(ready).flat_map(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_proxy_may_lead() {
        for address in ["10.42.0.7", "192.168.1.2", "203.0.113.7", "fd00::7", "2001:db8::1"] {
            assert!(is_proxyable(address), "{address}");
        }
        let mapped = "::ffff:127.0.0.1";
        for address in
            ["127.0.0.1", "127.9.9.9", "169.254.169.254", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", "ff02::1", "::", mapped, "host", ""]
        {
            assert!(!is_proxyable(address), "{address}");
        }
    }

    #[test]
    fn targets() {
        let target = |scheme, name, port| Some(Target { scheme, name, port });
        for (text, want) in [
            ("a", target("", "a", "")),
            ("a:80", target("", "a", "80")),
            ("http:a:web", target("http", "a", "web")),
            (":a:80", target("", "a", "80")),
            ("ftp:a:80", None),
            ("", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(Target::parse(text), want, "{text}");
        }
    }
}
