//! The API over HTTP.
//!
//! The way of a request: [`transport`](crate::transport) accepts the connection, [`peer`] identifies it, [`handle`] parses the path ([`path`]), asks who
//! ([`auth::authn`](crate::server::auth::authn)) and whether ([`auth::authz`](crate::server::auth::authz)), and hands it to [`verbs`]
//! (all kinds), [`special`] and [`reviews`] (subresources and questions that are not generic), [`stream`] and [`proxy`] (pods and nodes),
//! or [`plain`] (health, version, discovery, OpenAPI).
//!
//! Invariants: nothing but health and version answers without an identity; a handler that panics costs its request only; a request
//! that is no stream ends within `--request-timeout`; bodies are bounded.
//!
//! Never: touches the store but through the registry and its snapshots, or knows a kind that is not in the table (special subresources
//! excepted).

mod aggregate;
pub mod audit;
mod components;
mod connect;
mod credentials;
pub mod discovery;
mod drain;
pub mod fairness;
pub mod health;
mod legacy;
mod limits;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod path;
pub mod peer;
pub mod plain;
mod protobuf_list;
mod proxy;
pub mod query;
pub mod reply;
mod reviews;
pub mod secrets;
mod special;
mod stream;
pub mod table;
mod token_request;
mod trace;
mod tunnel;
mod usage;
mod verbs;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use k8s_openapi::Resource;
use tokio_util::sync::CancellationToken;

use crate::api::Status;
use crate::api::cluster::INFO_PATH;
use crate::server::aggregation::Aggregator;
use crate::server::auth::impersonate::Wanted;
use crate::server::auth::{Attributes, Authenticator, AuthnError, Authority, Decision, Identity, authz};
use crate::server::registry::{KindRef, Registry, User};
use crate::server::tunnel::Tunnels;
use audit::{Audit, Record};
use fairness::Fairness;
use metrics::Metrics;
use path::RequestInfo;
pub use peer::{Identify, Peer};
use plain::Readiness;
use query::Query;
use secrets::Secrets;
use trace::Trace;

/// Largest request body, as upstream.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// Facts of the cluster that answers need.
#[derive(Clone, Debug)]
pub struct ClusterInfo {
    /// `gitVersion` of `/version`, such as `v1.37.0+orch`.
    pub version: String,
    /// `HOST:PORT` where clients reach this server (for `/api`).
    pub server_address: String,
}

/// What an administrator may choose.
pub struct Settings {
    /// What is no stream ends after this.
    pub request_timeout: Duration,
    /// How much runs at once.
    pub fairness: fairness::Limits,
    /// What is recorded.
    pub audit: Option<Arc<Audit>>,
    /// The keys of Secrets at rest.
    pub secrets: Option<Arc<dyn Secrets>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { request_timeout: Duration::from_secs(60), fairness: fairness::Limits::default(), audit: None, secrets: None }
    }
}

/// All that handlers share.
pub struct App {
    /// The verbs.
    pub registry: Registry,
    /// Who.
    pub authenticator: Authenticator,
    /// Whether.
    pub authority: Arc<Authority>,
    /// OpenAPI documents.
    pub openapi: openapi::Live,
    /// TLS towards kubelets.
    pub kubelet_tls: Arc<rustls::ClientConfig>,
    /// The ways to nodes.
    pub tunnels: Tunnels,
    /// Facts.
    pub cluster: ClusterInfo,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// What `/metrics` says.
    pub metrics: Metrics,
    /// Who may run now.
    pub fairness: Arc<Fairness>,
    /// What was chosen.
    pub settings: Settings,
    /// Secrets that are being marked as used.
    marking: parking_lot::Mutex<std::collections::HashSet<String>>,
    /// What clients can discover.
    pub discovery: discovery::Live,
    /// Cancelled when the server stops: streams end.
    pub stopping: CancellationToken,
    /// Where requests for what other servers serve go; not set: nowhere.
    pub aggregator: OnceLock<Aggregator>,
}

/// Shared by all requests.
pub type AppState = Arc<App>;

impl App {
    /// The parts, put together, before anything is chosen: see [`App::with`].
    pub fn build(
        registry: Registry,
        authenticator: Authenticator,
        kubelet_tls: Arc<rustls::ClientConfig>,
        cluster: ClusterInfo,
        readiness: Arc<Readiness>,
        stopping: CancellationToken,
    ) -> App {
        let authority = Arc::new(Authority::default());
        registry.set_authorizer(authority.clone());
        App {
            openapi: openapi::Live::new(registry.clone()),
            registry,
            authenticator,
            authority,
            kubelet_tls,
            tunnels: Tunnels::default(),
            cluster,
            readiness,
            metrics: Metrics::default(),
            fairness: Arc::default(),
            settings: Settings::default(),
            discovery: discovery::Live::default(),
            marking: parking_lot::Mutex::default(),
            stopping,
            aggregator: OnceLock::new(),
        }
    }

    /// The finished server, as was chosen.
    pub fn with(mut self, settings: Settings) -> AppState {
        self.fairness = Arc::new(Fairness::new(settings.fairness));
        self.settings = settings;
        let (fairness, store, audit) = (self.fairness.clone(), self.registry.store().clone(), self.settings.audit.clone());
        let version = self.cluster.version.clone();
        self.metrics.add(Box::new(move |out| {
            fairness.write_metrics(out);
            store.write_metrics(out);
            audit.iter().for_each(|audit| audit.write_metrics(out));
            plain::build_info(&version, out);
        }));
        Arc::new(self)
    }

    /// The row of a kind that this file's neighbours know by type.
    fn kind_of<T: Resource>(&self) -> Result<KindRef, Status> {
        let found = self.registry.kind(T::GROUP, T::VERSION, T::URL_PATH_SEGMENT);
        found.ok_or_else(|| Status::internal(format!("{} is not in the table of kinds", T::KIND)))
    }

    /// An object of a known type.
    fn get<T: crate::api::Kind>(&self, namespace: &str, name: &str) -> Result<Arc<T>, Status> {
        self.registry.read::<T>(namespace, name)
    }
}

/// One request on its way through the handlers.
pub(crate) struct Call {
    pub app: AppState,
    pub info: RequestInfo,
    pub query: Query,
    pub user: Arc<User>,
    pub request: Request,
    /// What is recorded of it.
    pub record: Option<Arc<Record>>,
}

impl Call {
    fn header(&self, name: HeaderName) -> &str {
        header(self.request.headers(), name)
    }

    /// `Accept`, all of its lines.
    fn accept(&self) -> String {
        accept(self.request.headers())
    }

    fn content_type(&self) -> String {
        self.header(CONTENT_TYPE).to_owned()
    }

    fn user_agent(&self) -> String {
        self.header(USER_AGENT).to_owned()
    }

    /// The whole body, within the limit.
    async fn body(&mut self) -> Result<Bytes, Status> {
        let body = self.request.body_mut();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Status::bad_request(format!("reading the request body: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > BODY_LIMIT {
                return Err(Status::too_large(BODY_LIMIT));
            }
            bytes.extend_from_slice(&data);
        }
        let bytes = bytes.freeze();
        if let Some(record) = &self.record {
            record.sent(&bytes, negotiate::body_format(&self.content_type(), true).unwrap_or_default());
        }
        Ok(bytes)
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

fn accept(headers: &HeaderMap) -> String {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// The whole API as one service. Paths are data ([`path`]), so there is one route.
pub fn router(state: AppState) -> Router {
    Router::new().fallback(handle).with_state(state)
}

/// The shell around every request: id, panics, time, compression, metrics, record.
async fn handle(State(app): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let query = Query::parse(uri.query().unwrap_or_default());
    let request = request.map(drain::on_drop);
    let (info, refusal) = match RequestInfo::parse(method.as_str(), uri.path(), &query) {
        Ok(info) => (info, None),
        Err(refusal) => (RequestInfo::default(), Some(refusal)),
    };
    let trace = Trace::begin(&app, &info, &query, &headers);
    let (outcome, panicked) = match refusal {
        Some(refusal) => (Err(refusal), false),
        None => guarded(&app, &info, query, request, &trace).await,
    };
    let mut response = outcome.unwrap_or_else(|refusal| reply::status(&refusal, negotiate::negotiate_error(&accept(&headers))));
    response.headers_mut().entry(http::header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    tracing::debug!(%method, path = uri.path(), code = response.status().as_u16(), took = ?trace.took(), "request");
    let response = trace.finish(&app, &info, response, panicked);
    reply::compress(&headers, response)
}

/// Runs the handler so that neither a panic nor a hang of it reaches further than its request. Says whether it panicked.
async fn guarded(app: &AppState, info: &RequestInfo, query: Query, request: Request, trace: &Trace) -> (Result<Response, Status>, bool) {
    let deadline = match limits::deadline(&query, app.settings.request_timeout) {
        Ok(deadline) => deadline,
        Err(_) if info.is_long_running() => app.settings.request_timeout,
        Err(refusal) => return (Err(refusal), false),
    };
    let work = AssertUnwindSafe(respond(app.clone(), info.clone(), query, request, trace)).catch_unwind();
    let outcome = match info.is_long_running() {
        true => work.await,
        false => {
            let _counted = trace.in_flight(app);
            match tokio::time::timeout(deadline, work).await {
                Ok(outcome) => outcome,
                Err(_) => return (Err(limits::timed_out(fairness::is_mutating(info.verb))), false),
            }
        }
    };
    match outcome {
        Ok(outcome) => (outcome, false),
        Err(_) => {
            tracing::error!(path = info.path, "a handler panicked; only this request fails");
            (Err(Status::internal("the handler of this request failed; the server's log says where")), true)
        }
    }
}

/// Who, whether, and then the handler.
async fn respond(app: AppState, info: RequestInfo, query: Query, mut request: Request, trace: &Trace) -> Result<Response, Status> {
    let public = !info.is_resource && ["GET", "HEAD"].contains(&request.method().as_str()) && plain::is_public(&info.path);
    credentials::from_protocols(request.headers_mut());
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let identity = match authenticate(&app, peer.as_deref(), request.headers()).await {
        Ok(Some(identity)) => identity,
        // Health stays readable with whatever a probe sends along.
        _ if public => anonymous().into(),
        // What a machine reads before it has credentials; roles decide, as always.
        Ok(None) if request.method() == Method::GET && info.path == INFO_PATH => anonymous().into(),
        Ok(None) => {
            trace.unrecognised(&app, &info, &request);
            return Err(Status::unauthorized());
        }
        Err(AuthnError::Busy) => return Err(Status::too_many_requests("too many passwords are being checked; try again", 1)),
        Err(error) => {
            tracing::info!(path = info.path, %error, "refused credentials");
            trace.unrecognised(&app, &info, &request);
            return Err(Status::unauthorized());
        }
    };
    let Identity { user, warnings, annotations, legacy, .. } = identity;
    let user = Arc::new(user);
    if let Some(used) = legacy {
        legacy::used(&app, used);
    }
    trace.recognised(&app, &user, &info, &request);
    if let Some(record) = trace.record() {
        annotations.iter().for_each(|(key, value)| record.annotate(key, value));
    }
    let (user, requestor) = act_as(&app, &request, user)?;
    if requestor.is_some() {
        trace.acts_as(&user);
    }
    // Whatever is behind the API is nobody's to show them to.
    credentials::remove(request.headers_mut());
    let (verb, path) = (info.verb, info.path.clone());
    let outcome = permitted(app, info, query, request, (user.clone(), public), trace).await;
    if let Err(refusal) = &outcome
        && refusal.code == 403
        && let Some(node) = user.node()
    {
        // Agents ask for what they may have: whoever has this one's credential may be somebody else.
        tracing::info!(node, verb, path, why = refusal.message, "refused a node");
    }
    let mut response = outcome?;
    reply::warn(&mut response, &warnings);
    Ok(response)
}

/// What `user` asks for, if that is permitted.
async fn permitted(
    app: AppState,
    info: RequestInfo,
    query: Query,
    request: Request,
    (user, public): (Arc<User>, bool),
    trace: &Trace,
) -> Result<Response, Status> {
    let seat = trace.admit(&app, &user, &info, &query).await?;
    if !public {
        let asked = info.attributes();
        let decision = app.authority.authorize(&app.registry.store().snapshot(), &user, &asked);
        trace.decided(&decision);
        refuse(&user, &asked, &decision)?;
    }
    let elsewhere = aggregate::remote_of(&app, &info.path);
    let call = Call { app, info, query, user, request, record: trace.record() };
    let response = match elsewhere {
        Some(service) => aggregate::relay(call, service).await?,
        None if usage::is_ours(&call) => usage::serve(call).await?,
        None if call.info.is_resource => verbs::resource(call).await?,
        None => plain::serve(call).await?,
    };
    Ok(trace::seated(seat, response))
}

/// 403 unless `user` may.
fn may(app: &App, user: &User, asked: &Attributes) -> Result<(), Status> {
    refuse(user, asked, &app.authority.authorize(&app.registry.store().snapshot(), user, asked))
}

fn refuse(user: &User, asked: &Attributes, decision: &Decision) -> Result<(), Status> {
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) => Err(authz::refusal(user, asked, reason)),
    }
}

/// Whom the request acts as, and who sent it where that is somebody else.
fn act_as(app: &App, request: &Request<Body>, user: Arc<User>) -> Result<(Arc<User>, Option<Arc<User>>), Status> {
    let Some(wanted) = Wanted::read(request.headers())? else { return Ok((user, None)) };
    for asked in wanted.questions() {
        may(app, &user, &asked)?;
    }
    Ok((Arc::new(wanted.into_user()), Some(user)))
}

fn anonymous() -> User {
    User { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..User::default() }
}

async fn authenticate(app: &App, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Option<Identity>, AuthnError> {
    let state = app.registry.store().snapshot();
    let (user, proxy) = peer.map_or((None, None), |peer| (peer.user.as_ref(), peer.front_proxy.as_deref()));
    app.authenticator.request(headers, proxy, user, &state, jiff::Timestamp::now().as_second()).await
}

/// 405 for a method that a path does not have.
fn only(method: &Method, allowed: &[Method]) -> Result<(), Status> {
    if allowed.contains(method) { Ok(()) } else { Err(Status::method_not_allowed(method.as_str())) }
}
