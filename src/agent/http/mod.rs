//! The node's HTTPS server: logs, exec, attach and port-forward of its pods, and how much they use, for the API server.
//!
//! Paths are those of upstream's kubelet (`pkg/kubelet/server/server.go`), on port 10250.
//!
//! Invariants: only the API server's own client certificate is let in, except to `/healthz`, and to measurements, which the server may let
//! others read ([`delegate`]); a client that goes away ends what
//! was started for it; whatever a request names is looked up among the pods of this node, never used as a path.

mod delegate;
mod fd;
mod logs;
mod port_forward;
mod remote;
mod spdy;
mod web_socket;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Pods;
use super::pods::{ContainerView, PodView};
use super::usage::{Meter, rates, tell};
use crate::api::{Status, usage};
use crate::client::Client;
use crate::runtime::{ExecConfig, Runtime};
use crate::transport::{self, Peer};
use delegate::{Asked, Delegate};
use port_forward::Place;
use remote::{Remote, Wanted};

/// Where the API server finds this server.
pub const PORT: u16 = 10250;
/// The API server's subject at kubelets: the common name that the cluster's CA gives to nobody else.
pub const API_SERVER: &str = "kube-apiserver-kubelet-client";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What handlers share.
struct Shared<R: Runtime> {
    pods: Pods,
    runtime: Arc<R>,
    meter: Meter<R>,
    node: String,
}

type App<R> = State<Arc<Shared<R>>>;

/// Serves until `shutdown`.
pub async fn serve<R: Runtime>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    pods: Pods,
    runtime: Arc<R>,
    (client, node): (Client, String),
    shutdown: CancellationToken,
) -> Result<(), transport::ServeError> {
    let delegate = Arc::new(Delegate::new(client, &node));
    let meter = Meter::new(runtime.clone(), pods.clone());
    let shared = Arc::new(Shared { pods, runtime, meter, node });
    let guarded = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs::<R>))
        .route("/exec/{namespace}/{pod}/{container}", any(exec::<R>))
        .route("/attach/{namespace}/{pod}/{container}", any(attach::<R>))
        .route("/portForward/{namespace}/{pod}", any(port_forward::<R>))
        .route("/pods", get(list_pods::<R>))
        .route("/metrics/resource", get(resource_metrics::<R>))
        .route("/stats/summary", get(stats_summary::<R>))
        .route(usage::PATH, get(usage_of_all::<R>))
        .route_layer(axum::middleware::from_fn_with_state(delegate, only_the_api_server));
    let router = Router::new().route("/healthz", get(|| async { "ok" })).merge(guarded).with_state(shared);
    transport::serve("kubelet", listener, tls, router, |_| {}, identify, shutdown).await
}

/// The common name of whoever talks to this node, as an extension of its requests.
#[derive(Clone, Debug)]
struct Caller(Option<Arc<str>>);

fn identify(peer: &Peer) -> Result<Caller, String> {
    Ok(Caller(peer.common_name().map(Arc::from)))
}

async fn only_the_api_server(State(delegate): State<Arc<Delegate>>, request: Request, next: axum::middleware::Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.and_then(|caller| caller.0);
    if caller.as_deref() != Some(API_SERVER)
        && let Some(asked) = Asked::of(&request)
    {
        return match delegate.review(asked).await {
            Ok(()) => next.run(request).await,
            Err(status) => refuse(status),
        };
    }
    match caller.as_deref() {
        Some(API_SERVER) => next.run(request).await,
        Some(other) => refuse(Status::new(403, "Forbidden", format!("{other:?} may not talk to this node; only the API server may"))),
        None => refuse(Status::unauthorized()),
    }
}

fn refuse(status: Status) -> Response {
    let mut response = Response::new(Body::from(status.to_json()));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A request's query.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request) -> Query {
        let query = request.uri().query().unwrap_or_default();
        Query(axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|pairs| pairs.0).unwrap_or_else(|_| {
            tracing::debug!(query, "a query that is not one");
            Vec::new()
        }))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        let parse = |text: &str| text.parse().map_err(|_| Status::bad_request(format!("{name}: {text:?} is not valid")));
        self.get(name).map(parse).transpose()
    }

    fn wanted(&self) -> Wanted {
        Wanted { stdin: self.flag("input"), stdout: self.flag("output"), stderr: self.flag("error"), tty: self.flag("tty") }
    }
}

impl<R: Runtime> Shared<R> {
    fn pod(&self, namespace: &str, name: &str) -> Result<PodView, Status> {
        self.pods.get(namespace, name).ok_or_else(|| Status::not_found("", "pods", name))
    }

    fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<(PodView, ContainerView), Status> {
        let view = self.pod(namespace, pod)?;
        match view.containers.get(container).cloned() {
            Some(found) if found.running => Ok((view, found)),
            Some(_) => Err(Status::bad_request(format!("cannot exec in a stopped container: {container} of pod {pod} has ended"))),
            None => Err(not_started(pod, container)),
        }
    }
}

fn not_started(pod: &str, container: &str) -> Status {
    Status::bad_request(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating"))
}

async fn list_pods<R: Runtime>(State(app): App<R>) -> Response {
    let items: Vec<_> = app.pods.list().into_iter().map(|view| view.pod).collect();
    let body = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    let mut response = Response::new(Body::from(body.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn answer(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn unmeasured(error: &io::Error) -> Response {
    refuse(Status::internal(format!("this node can't be measured: {error}")))
}

async fn resource_metrics<R: Runtime>(State(app): App<R>) -> Response {
    match app.meter.sample().await {
        Ok(sample) => answer("text/plain; version=0.0.4; charset=utf-8", tell::resource(&sample)),
        Err(error) => unmeasured(&error),
    }
}

async fn stats_summary<R: Runtime>(State(app): App<R>) -> Response {
    match app.meter.pair().await {
        Ok(pair) => answer("application/json", tell::summary(&pair, &app.node).to_string()),
        Err(error) => unmeasured(&error),
    }
}

async fn usage_of_all<R: Runtime>(State(app): App<R>) -> Response {
    match app.meter.pair().await.map(|pair| serde_json::to_vec(&rates(&pair))) {
        Ok(Ok(body)) => answer("application/json", body),
        Ok(Err(error)) => unmeasured(&io::Error::other(error)),
        Err(error) => unmeasured(&error),
    }
}

async fn container_logs<R: Runtime>(
    State(app): App<R>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    match open_log(&app, &namespace, &pod, &container, &Query::of(&request)) {
        Ok(body) => {
            let mut response = Response::new(body);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        Err(status) => refuse(status),
    }
}

fn open_log<R: Runtime>(app: &Arc<Shared<R>>, namespace: &str, pod: &str, container: &str, query: &Query) -> Result<Body, Status> {
    let view = app.pod(namespace, pod)?;
    let found = view.containers.get(container).ok_or_else(|| not_started(pod, container))?;
    let previous = query.flag("previous");
    let path = match previous {
        true => found
            .previous_log
            .clone()
            .ok_or_else(|| Status::bad_request(format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")))?,
        false => found.log_path.clone(),
    };
    if !path.exists() {
        return Err(Status::not_found("", "log files", &format!("{pod}/{container}")));
    }
    let seconds = query.parsed::<i64>("sinceSeconds")?.map(|seconds| Timestamp::now() - SignedDuration::from_secs(seconds));
    let options = logs::Options {
        follow: query.flag("follow") && !previous,
        timestamps: query.flag("timestamps"),
        tail: query.parsed("tailLines")?,
        since: query.parsed("sinceTime")?.or(seconds),
        limit: query.parsed("limitBytes")?,
        stream: query.get("stream").filter(|stream| *stream != "All").map(str::to_ascii_lowercase),
    };
    let (running, is_running) = watch::channel(found.running);
    if options.follow && found.running {
        tokio::spawn(tell_end(app.clone(), namespace.into(), pod.into(), container.into(), found.id.clone(), running));
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(logs::send(path, options, is_running, sender));
    Ok(Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

/// Turns `running` false when this run of the container has ended.
async fn tell_end<R: Runtime>(
    app: Arc<Shared<R>>,
    namespace: String,
    pod: String,
    container: String,
    id: String,
    running: watch::Sender<bool>,
) {
    let mut changed = app.pods.changed();
    loop {
        changed.mark_unchanged();
        let view = app.pods.get(&namespace, &pod);
        let found = view.as_ref().and_then(|view| view.containers.get(&container));
        if !found.is_some_and(|found| found.id == id && found.running) {
            running.send_replace(false);
            return;
        }
        tokio::select! {
            () = running.closed() => return,
            result = changed.changed() => if result.is_err() { return },
        }
    }
}

async fn exec<R: Runtime>(
    State(app): App<R>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let query = Query::of(&request);
    let wanted = query.wanted();
    let args: Vec<String> = query.all("command").map(str::to_owned).collect();
    if args.is_empty() {
        return refuse(Status::bad_request("you must specify at least 1 command for the container"));
    }
    let (view, found) = match app.running(&namespace, &pod, &container) {
        Ok(found) => found,
        Err(status) => return refuse(status),
    };
    let config = ExecConfig { args, tty: wanted.tty, stdin: wanted.stdin, stdout: wanted.stdout, stderr: wanted.stderr };
    command(request, wanted, move |remote| async move {
        match app.runtime.exec(&view.uid, &found.id, &config).await {
            Ok(session) => drop(remote::relay(session, remote).await),
            Err(error) => fail(remote, &error.to_string()).await,
        }
    })
}

async fn attach<R: Runtime>(
    State(app): App<R>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let wanted = Query::of(&request).wanted();
    let (view, found) = match app.running(&namespace, &pod, &container) {
        Ok(found) => found,
        Err(status) => return refuse(status),
    };
    command(request, wanted, move |remote| async move {
        match app.runtime.attach(&view.uid, &found.id, wanted.stdin).await {
            Ok(session) => drop(remote::relay(session, remote).await),
            Err(error) => fail(remote, &error.to_string()).await,
        }
    })
}

/// Tells the client why its command could not run, as the last message.
async fn fail(remote: Remote, why: &str) {
    let status = remote::failure(why).to_string();
    remote.outgoing.send((remote::Channel::Error, status.into())).await.ok();
}

/// How a client wants to switch protocols.
enum Switch {
    WebSocket { key: String, protocol: Option<&'static str> },
    Spdy { protocol: Option<&'static str> },
}

/// Protocols of commands over SPDY, best first: they differ in the form of the final message, and v4 is what 1.4 and later speak.
const SPDY_COMMAND: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
const SPDY_PORT_FORWARD: &[&str] = &["portforward.k8s.io"];

fn switch(headers: &HeaderMap, web_socket: &[&'static str], spdy: &[&'static str]) -> Result<Switch, Status> {
    let text = |name: &HeaderName| {
        let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        values.join(",")
    };
    let upgrade = text(&UPGRADE).to_ascii_lowercase();
    if upgrade.contains("websocket") {
        let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
        let key = key.ok_or_else(|| Status::bad_request("a WebSocket request needs a Sec-WebSocket-Key"))?;
        let protocol = web_socket::choose(&text(&SEC_WEBSOCKET_PROTOCOL), web_socket);
        let offered = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
        if offered && protocol.is_none() {
            return Err(Status::bad_request(format!(
                "none of the WebSocket protocols offered is supported; supported: {}",
                web_socket.join(", ")
            )));
        }
        return Ok(Switch::WebSocket { key: key.into(), protocol });
    }
    if upgrade.contains("spdy/3.1") {
        let protocol = web_socket::choose(&text(&STREAM_PROTOCOL), spdy);
        if headers.contains_key(STREAM_PROTOCOL) && protocol.is_none() {
            let why = format!("unable to upgrade: none of the stream protocols offered is supported; supported: {}", spdy.join(", "));
            return Err(Status::new(403, "Forbidden", why));
        }
        return Ok(Switch::Spdy { protocol });
    }
    Err(Status::bad_request("Upgrade request required: this path speaks WebSocket and SPDY/3.1 only"))
}

/// The 101 answer.
fn switching(switch: &Switch) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match switch {
        Switch::WebSocket { key, protocol } => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            let accept = HeaderValue::from_str(&web_socket::accept_key(key)).expect("base64 is a header value");
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            headers.extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol))));
        }
        Switch::Spdy { protocol } => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.extend(protocol.map(|protocol| (STREAM_PROTOCOL, HeaderValue::from_static(protocol))));
        }
    }
    response
}

/// Switches protocols and hands the client's streams to `run`.
fn command<F>(mut request: Request, wanted: Wanted, run: impl FnOnce(Remote) -> F + Send + 'static) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let switch = match switch(request.headers(), web_socket::COMMAND, SPDY_COMMAND) {
        Ok(switch) => switch,
        Err(status) => return refuse(status),
    };
    let response = switching(&switch);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = match upgrade.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => return tracing::debug!(%error, "switching protocols"),
        };
        let (ready, remote) = oneshot::channel();
        let serving = tokio::spawn(async move {
            match switch {
                Switch::WebSocket { .. } => web_socket::serve(web_socket::accept(io).await, ready).await,
                Switch::Spdy { .. } => remote::over_spdy(io, wanted, ready).await,
            }
        });
        if let Ok(remote) = remote.await {
            run(remote).await;
        }
        report(serving.await);
    });
    response
}

/// A stream that broke concerns its client, who has noticed; the log keeps it for whoever looks closely.
fn report(ended: Result<io::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a stream ended"),
        Err(error) => tracing::error!(%error, "a stream's task failed"),
    }
}

async fn port_forward<R: Runtime>(State(app): App<R>, Path((namespace, pod)): Path<(String, String)>, mut request: Request) -> Response {
    let start = || -> Result<(Place, Vec<u16>, Switch), Status> {
        let view = app.pod(&namespace, &pod)?;
        let host = view.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let place = match (host, view.pid) {
            (true, _) => Place::Host,
            (false, Some(pid)) => Place::Of(pid),
            (false, None) => return Err(Status::bad_request(format!("pod {pod} is not running"))),
        };
        let ports = Query::of(&request);
        let ports = ports.all("port").flat_map(|ports| ports.split(','));
        let ports = ports
            .map(|port| port.parse().map_err(|_| Status::bad_request(format!("port {port:?} is not valid"))))
            .collect::<Result<_, _>>()?;
        Ok((place, ports, switch(request.headers(), web_socket::PORT_FORWARD, SPDY_PORT_FORWARD)?))
    };
    let (place, ports, switch) = match start() {
        Ok(started) => started,
        Err(status) => return refuse(status),
    };
    let response = switching(&switch);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = match upgrade.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => return tracing::debug!(%error, "switching protocols"),
        };
        let result = match switch {
            Switch::Spdy { .. } => port_forward::over_spdy(io, place).await,
            Switch::WebSocket { protocol: Some("SPDY/3.1+portforward.k8s.io"), .. } => {
                port_forward::over_spdy(web_socket::Tunnel::new(web_socket::accept(io).await), place).await
            }
            Switch::WebSocket { .. } => port_forward::over_channels(web_socket::accept(io).await, place, &ports).await,
        };
        report(Ok(result));
    });
    response
}
