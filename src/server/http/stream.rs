//! Logs, exec, attach, port-forward and the node proxy: relayed to the kubelet of the pod's node.
//!
//! The request is sent on with its upgrade headers; when the kubelet switches protocols, so does this server, and bytes are copied both
//! ways without being looked at. So WebSocket and SPDY/3.1 work alike. Anything else the kubelet answers is streamed through.
//!
//! A node is reached through the tunnel that it keeps, or else dialled: [`Tunnels`](crate::server::tunnel::Tunnels) decides.
//!
//! Invariants: the kubelet's certificate is verified against the cluster CA; the client's credentials are not passed on.
//!
//! Follows upstream's `registry/core/pod/strategy.go` (which container, which kubelet path).

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::query::{Query, percent_encode};
use super::{App, Call, only};
use crate::api::Status;
use crate::server::tunnel::Link;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KUBELET_PORT: u16 = 10250;

/// What the API's query parameters are called at the kubelet; those not listed keep their names.
const RENAMED: &[(&str, &str)] = &[("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("ports", "port")];

/// `pods/NAME/log`, `exec`, `attach`, `portforward`.
pub(super) async fn pod(call: Call) -> Result<Response, Status> {
    let subresource = call.info.subresource.clone();
    let methods: &[Method] = if subresource == "log" { &[Method::GET] } else { &[Method::GET, Method::POST] };
    only(call.request.method(), methods)?;
    let pod = call.app.get::<Pod>(&call.info.namespace, &call.info.name)?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let place = format!("{}/{}", percent_encode(namespace), percent_encode(name));
    let path = match subresource.as_str() {
        "portforward" => format!("/portForward/{place}"),
        other => {
            let root = if other == "log" { "containerLogs" } else { other };
            let container = container(&pod, call.query.first("container").unwrap_or_default())?;
            format!("/{root}/{place}/{}", percent_encode(&container))
        }
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    if node.is_empty() {
        // Upstream: no logs yet is no error; there is nothing to run a command in.
        return match subresource.as_str() {
            "log" => Ok(super::reply::bytes(200, "text/plain", "")),
            _ => Err(Status::bad_request(format!("pod {name} does not have a host assigned"))),
        };
    }
    let query = kubelet_query(&call.query, &subresource);
    let kubelet = Kubelet::of(&call.app, &node)?;
    kubelet.relay(call, &format!("{path}{query}")).await
}

/// `nodes/[SCHEME:]NAME[:PORT]/proxy/REST`: the kubelet itself.
pub(super) async fn node_proxy(call: Call) -> Result<Response, Status> {
    let name = call.info.name.split(':').find(|part| !part.is_empty() && !["http", "https"].contains(part)).unwrap_or_default().to_owned();
    let query = call.request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let path = format!("/{}{query}", call.info.rest);
    Kubelet::of(&call.app, &name)?.relay(call, &path).await
}

/// A document of a node's kubelet, at most so many bytes of it.
pub(super) async fn fetch(app: &App, node: &str, path: &'static str, limit: usize) -> Result<bytes::Bytes, Status> {
    let kubelet = Kubelet::of(app, node)?;
    let (stream, host) = (kubelet.connect(app).await?, authority(&kubelet.address, kubelet.port));
    let answer = forward(stream, Request::new(Body::empty()), Uri::from_static(path), &host, std::future::pending()).await?;
    let code = answer.status();
    if code != StatusCode::OK {
        return Err(Status::internal(format!("the kubelet of node {node} answers {path} with {code}")));
    }
    let body = axum::body::to_bytes(answer.into_body(), limit).await;
    body.map_err(|error| Status::internal(format!("reading {path} of the kubelet of node {node}: {error}")))
}

/// The container to talk to; upstream's words when that is not clear (`pkg/registry/core/pod/strategy.go`).
fn container(pod: &Pod, asked: &str) -> Result<String, Status> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let main: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    let init: Vec<&str> = spec.init_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    let ephemeral: Vec<&str> = spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    if asked.is_empty() {
        let preferred = pod.metadata.annotations.as_ref().and_then(|a| a.get("kubectl.kubernetes.io/default-container"));
        return match (main.as_slice(), preferred) {
            ([only], _) => Ok((*only).into()),
            (_, Some(preferred)) if main.contains(&preferred.as_str()) => Ok(preferred.clone()),
            ([], _) => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
            _ => {
                let mut why = format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
                if !init.is_empty() {
                    why += &format!(" or one of the init containers: [{}]", init.join(" "));
                }
                Err(Status::bad_request(why))
            }
        };
    }
    match [&main, &init, &ephemeral].iter().any(|list| list.contains(&asked)) {
        true => Ok(asked.into()),
        false => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
    }
}

/// The query as the kubelet reads it: renamed, booleans as `1`, without what the API alone needs.
fn kubelet_query(query: &Query, subresource: &str) -> String {
    let mut pairs = Vec::new();
    for (key, value) in query.pairs().filter(|(key, _)| *key != "container") {
        if ["exec", "attach"].contains(&subresource) && ["stdin", "stdout", "stderr", "tty"].contains(&key) {
            if query.flag(key) {
                let key = RENAMED.iter().find(|(api, _)| *api == key).map_or(key, |(_, kubelet)| kubelet);
                pairs.push(format!("{key}=1"));
            }
            continue;
        }
        let key = RENAMED.iter().find(|(api, _)| *api == key).map_or(key, |(_, kubelet)| kubelet);
        pairs.push(format!("{}={}", percent_encode(key), percent_encode(value)));
    }
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn authority(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Where a node's kubelet listens.
struct Kubelet {
    node: String,
    address: String,
    port: u16,
}

impl Kubelet {
    fn of(app: &App, name: &str) -> Result<Kubelet, Status> {
        let node = app.get::<Node>("", name)?;
        let status = node.status.clone().unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        // Upstream's --kubelet-preferred-address-types, less names that this server may be unable to resolve.
        let address = ["InternalIP", "ExternalIP"].iter().find_map(|wanted| addresses.iter().find(|a| a.type_ == *wanted));
        let address = address.map(|a| a.address.clone());
        let address = address.ok_or_else(|| Status::internal(format!("node {name} has reported no address to reach its kubelet at")))?;
        let reported = status.daemon_endpoints.and_then(|d| d.kubelet_endpoint).and_then(|e| u16::try_from(e.port).ok());
        Ok(Kubelet { node: name.into(), address, port: reported.filter(|port| *port != 0).unwrap_or(KUBELET_PORT) })
    }

    async fn connect(&self, app: &App) -> Result<TlsStream<Link>, Status> {
        let at = authority(&self.address, self.port);
        let failed = |why: String| Status::internal(format!("error dialing backend: {why}"));
        let talking = |why: String| failed(format!("talking to the kubelet of node {} at {at}: {why}", self.node));
        let name = ServerName::try_from(self.address.clone()).map_err(|e| talking(e.to_string()))?;
        let dial = async {
            let link = app.tunnels.connect(&self.node, &self.address, self.port).await;
            let link = link.map_err(|unlinked| failed(unlinked.explain(&self.node, &at)))?;
            TlsConnector::from(app.kubelet_tls.clone()).connect(name, link).await.map_err(|e| talking(e.to_string()))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
            Ok(result) => result,
            Err(_) if app.tunnels.has(&self.node) => Err(talking(format!("no answer through its tunnel within {CONNECT_TIMEOUT:?}"))),
            Err(_) => Err(failed(format!(
                "node {} keeps no tunnel and can't be dialled at {at}: no answer within {CONNECT_TIMEOUT:?}",
                self.node
            ))),
        }
    }

    async fn relay(&self, call: Call, path: &str) -> Result<Response, Status> {
        let stream = self.connect(&call.app).await?;
        let uri: Uri = path.parse().map_err(|e| Status::bad_request(format!("{path:?} is no request path: {e}")))?;
        let host = authority(&self.address, self.port);
        forward(stream, call.request, uri, &host, call.app.stopping.clone().cancelled_owned()).await
    }
}

/// Headers that describe one connection and must not be passed on (RFC 9110, 7.6.1), and those that are for this server only.
pub(super) fn strip(headers: &mut HeaderMap, keep_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != UPGRADE)
        .collect();
    for name in named.into_iter().chain(["keep-alive", "proxy-connection", "te", "trailer"].map(HeaderName::from_static)) {
        headers.remove(name);
    }
    headers.remove(TRANSFER_ENCODING);
    if !keep_upgrade {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
}

/// Sends `request` over `stream` as `uri` and returns the answer. When both sides upgrade, copies bytes until one of them ends.
pub(super) async fn forward<S>(
    stream: S,
    mut request: Request,
    uri: Uri,
    host: &str,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> Result<Response, Status>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |what: &str, error: hyper::Error| Status::internal(format!("error dialing backend: {what} {host}: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|e| failed("greeting", e))?;
    // Ends with the exchange; its errors show up at the sender or at the copy.
    tokio::spawn(connection.with_upgrades());
    let upgrading = request.headers().contains_key(UPGRADE);
    let client = upgrading.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers, upgrading);
    for secret in [AUTHORIZATION, COOKIE, HOST] {
        parts.headers.remove(secret);
    }
    let mut onward = http::Request::new(if upgrading { Body::empty() } else { body });
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = uri;
    *onward.headers_mut() = parts.headers;
    if upgrading {
        onward.headers_mut().remove(CONTENT_LENGTH);
    }
    let value = host.parse().map_err(|_| Status::internal(format!("{host:?} can't be a Host header")))?;
    onward.headers_mut().insert(HOST, value);
    let mut answer = sender.send_request(onward).await.map_err(|e| failed("asking", e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip(answer.headers_mut(), false);
        return Ok(answer.map(Body::new));
    }
    let Some(client) = client else { return Err(Status::internal(format!("{host} switched protocols without being asked to"))) };
    let backend = hyper::upgrade::on(&mut answer);
    let place = host.to_owned();
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(pair) => pair,
            Err(error) => return tracing::debug!(backend = place, %error, "a stream was not upgraded"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        tokio::select! {
            result = tokio::io::copy_bidirectional(&mut client, &mut backend) => {
                if let Err(error) = result {
                    tracing::debug!(backend = place, %error, "a stream ended");
                }
            }
            () = stopping => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers() {
        let one = "{metadata: {name: x}, spec: {containers: [{name: a}]}}";
        let two = "{metadata: {name: x}, spec: {containers: [{name: a}, {name: b}], initContainers: [{name: i}]}}";
        let annotated =
            "{metadata: {name: x, annotations: {kubectl.kubernetes.io/default-container: b}}, spec: {containers: [{name: a}, {name: b}]}}";
        for (pod, asked, want) in [
            (one, "", Ok("a")),
            (one, "a", Ok("a")),
            (two, "i", Ok("i")),
            (annotated, "", Ok("b")),
            (two, "", Err("a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]")),
            (one, "z", Err("container z is not valid for pod x")),
        ] {
            let pod: Pod = serde_yaml::from_str(pod).unwrap();
            let got = container(&pod, asked).map_err(|s| s.message);
            assert_eq!(got.as_deref().map_err(|e| e.as_str()), want, "{asked}");
        }
    }

    #[test]
    fn queries_are_the_kubelets() {
        for (subresource, query, want) in [
            (
                "exec",
                "command=sh&command=-c&container=a&stdin=true&stdout=true&stderr=false&tty=true",
                "?command=sh&command=-c&input=1&output=1&tty=1",
            ),
            ("log", "follow=true&tailLines=5&container=a", "?follow=true&tailLines=5"),
            ("portforward", "ports=80", "?port=80"),
            ("log", "", ""),
        ] {
            assert_eq!(kubelet_query(&Query::parse(query), subresource), want);
        }
    }

    /// A backend that upgrades and echoes, reached through a front that relays: bytes flow both ways.
    #[tokio::test]
    async fn upgrades_are_relayed() {
        use hyper::service::service_fn;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let echo = service_fn(|mut request: http::Request<hyper::body::Incoming>| async move {
            assert!(request.headers().get(AUTHORIZATION).is_none(), "credentials were passed on");
            assert_eq!(request.uri().to_string(), "/exec/ns/p/c");
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                let mut word = [0; 4];
                io.read_exact(&mut word).await.unwrap();
                io.write_all(&word).await.unwrap();
            });
            let response = http::Response::builder().status(101).header(CONNECTION, "Upgrade").header(UPGRADE, "SPDY/3.1");
            Ok::<_, std::convert::Infallible>(response.body(Body::empty()).unwrap())
        });
        let front = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (near, far) = tokio::io::duplex(4096);
            let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), echo).with_upgrades();
            tokio::spawn(serve);
            let uri = "/exec/ns/p/c".parse().unwrap();
            async move { forward(near, request.map(Body::new), uri, "node:10250", std::future::pending()).await }
        });
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), front).with_upgrades());
        let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = http::Request::post("/api/v1/namespaces/ns/pods/p/exec")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "SPDY/3.1")
            .header(AUTHORIZATION, "Bearer secret")
            .body(Body::empty())
            .unwrap();
        let mut response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()[UPGRADE]), (101, &"SPDY/3.1".parse().unwrap()));
        let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        io.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        let read = io.read_exact(&mut back);
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
        assert_eq!(&back, b"ping");
    }
}
