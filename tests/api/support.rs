//! A whole API in memory: the real table of kinds over a store in a temporary directory, asked through the router. No socket is opened.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use orch::api::{Key, Kind};
use orch::server::aggregation::{self, Aggregator};
use orch::server::auth::authn::Ways;
use orch::server::auth::token::TokenKey;
use orch::server::auth::{Authenticator, Authority};
use orch::server::callouts::Webhooks;
use orch::server::controllers::{self, ControllersConfig, ResourceInfo};
use orch::server::custom::CustomKinds;
use orch::server::http::plain::Readiness;
use orch::server::http::{App, AppState, ClusterInfo, Peer, Settings, fairness, router};
use orch::server::kinds::KINDS;
use orch::server::outbound::Outbound;
use orch::server::pki::{Pki, PkiConfig};
use orch::server::reconcile;
use orch::server::registry::{INDEXES, Parts, Registry, User, plugins_without};
use orch::server::store::{Change, Draft, Expect, Limits, Store};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// A server; its directory goes with it.
pub struct Server {
    router: axum::Router,
    _stopping: DropGuard,
    app: AppState,
    _dir: tempfile::TempDir,
}

/// An answer.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The message of a Status.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// A server with the namespace `default`, of built-in kinds and without controllers.
pub async fn server() -> Server {
    make(false, Settings::default(), Limits::default(), &[], |_| Ways::default()).await
}

/// The same as [`server`], with a store that remembers so much.
pub async fn server_remembering(limits: Limits) -> Server {
    make(false, Settings::default(), limits, &[], |_| Ways::default()).await
}

/// The same as [`server`], as somebody chose.
pub async fn server_with(settings: Settings) -> Server {
    make(false, settings, Limits::default(), &[], |_| Ways::default()).await
}

/// The same as [`server`], without these admission plug-ins.
pub async fn server_without(plugins: &[&str]) -> Server {
    make(false, Settings::default(), Limits::default(), plugins, |_| Ways::default()).await
}

/// The same with further ways in, made over its store.
pub async fn server_with_ways(ways: impl FnOnce(&Store) -> Ways) -> Server {
    make(false, Settings::default(), Limits::default(), &[], ways).await
}

/// A server with the namespace `default`, custom kinds, all controllers, and OpenAPI.
pub async fn whole_server() -> Server {
    make(true, Settings::default(), Limits::default(), &[], |_| Ways::default()).await
}

fn controllers_config(pki: &Arc<Pki>, authority: Arc<Authority>) -> ControllersConfig {
    let resource = |kind: &orch::server::registry::KindRef| {
        let names = kind.names().clone();
        ResourceInfo { group: names.group, kind: names.kind, resource: names.resource, namespaced: kind.info.namespaced }
    };
    ControllersConfig {
        pki: pki.clone(),
        signing: Duration::from_secs(3600),
        node_grace: Duration::from_secs(50),
        eviction: controllers::Eviction::default(),
        authority,
        tokens: Arc::new(TokenKey::new(&pki.service_account_key_der().unwrap(), "cluster.local").unwrap()),
        trust: controllers::Trust::default(),
        ca_pem: pki.ca_pem().into(),
        service_ip: [10, 43, 0, 1].into(),
        advertise_address: [192, 0, 2, 1].into(),
        advertise_port: 6443,
        cluster_cidr: "10.42.0.0/16".parse().unwrap(),
        resources: KINDS.iter().filter(|kind| !kind.info.virtual_only && !kind.info.computed).map(resource).collect(),
        own_node: String::new(),
        started: jiff::Timestamp::now(),
    }
}

async fn make(whole: bool, settings: Settings, limits: Limits, disabled: &[&str], ways: impl FnOnce(&Store) -> Ways) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config = PkiConfig {
        host_name: "h".into(),
        node_ips: vec![],
        service_ip: [10, 43, 0, 1].into(),
        cluster_domain: "cluster.local".into(),
        tls_sans: vec![],
        front_proxy_ca_pem: None,
    };
    let pki = Arc::new(Pki::open(dir.path(), &config).unwrap());
    let store = Store::open(&dir.path().join("db"), limits, INDEXES).unwrap();
    let key = TokenKey::new(&pki.service_account_key_der().unwrap(), "cluster.local").unwrap();
    let cluster = ClusterInfo { version: "v1.37.0+orch".into(), server_address: "192.0.2.1:6443".into() };
    let authenticator = Authenticator::with_ways(key, ways(&store));
    let outbound = Outbound::new(store.clone(), None);
    let mut parts = Parts { callout: Arc::new(Webhooks(outbound.clone())), ..Parts::default() };
    let disabled: Vec<String> = disabled.iter().map(|name| (*name).to_owned()).collect();
    parts.without = plugins_without(&[], &disabled).unwrap();
    if whole {
        parts.extensions = Arc::new(CustomKinds::new(outbound));
    }
    let registry = Registry::with_parts(store, &KINDS, parts);
    let stopping = CancellationToken::new();
    let app = App::build(
        registry.clone(),
        authenticator,
        Arc::new(pki.kubelet_client_tls().unwrap()),
        cluster,
        Arc::new(Readiness::new(&[])),
        stopping.clone(),
    )
    .with(settings);
    tokio::spawn(fairness::keep(app.fairness.clone(), app.registry.store().clone(), stopping.clone()));
    let (fresh, stop) = (app.clone(), stopping.clone());
    tokio::spawn(async move { fresh.authenticator.keep_fresh(stop).await });
    if whole {
        let controllers = controllers::controllers(&controllers_config(&pki, app.authority.clone()));
        tokio::spawn(reconcile::run(registry, controllers, Arc::default(), stopping.clone()));
    }
    let server = Server { router: router(app.clone()), app, _stopping: stopping.drop_guard(), _dir: dir };
    server.yes("POST", "/api/v1/namespaces", "metadata: {name: default}").await;
    server
}

impl Server {
    /// Keeps APIServices from now on, and relays what they say.
    pub fn aggregate(&self) {
        let registry = self.app.registry.clone();
        let aggregator = Aggregator::new(registry.clone(), Outbound::new(registry.store().clone(), None));
        self.app.aggregator.set(aggregator.clone()).ok();
        tokio::spawn(aggregation::run(aggregator, self.app.stopping.clone()));
    }

    /// Writes an object past all validation, for what tests need and clients may not have (endpoints on the loopback).
    pub async fn put_unchecked<T: Kind>(&self, yaml: &str) {
        let object: T = serde_yaml::from_str(yaml).unwrap();
        let key = Key::of::<T>(object.meta().namespace.as_deref().unwrap(), object.meta().name.as_deref().unwrap());
        self.app.registry.store().commit(key, Expect::Absent, Change::Put(Draft::of(Arc::new(object)))).await.unwrap();
    }

    /// Sends a request as `user` (empty: without a certificate; `proxy:NAME`: with the front proxy's) with `headers`; the body is YAML
    /// unless a header says otherwise.
    pub async fn send(&self, user: &str, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> axum::response::Response {
        self.send_bytes(user, method, uri, headers, body.as_bytes()).await
    }

    /// The same, with a body of any bytes.
    pub async fn send_bytes(&self, user: &str, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> axum::response::Response {
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/yaml");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        Server::through(self.router.clone(), user, request).await
    }

    async fn through(router: axum::Router, user: &str, mut request: Request<Body>) -> axum::response::Response {
        let groups = match user {
            "admin" => vec!["system:masters".into()],
            _ if user.starts_with("system:node:") => vec!["system:nodes".into(), "system:authenticated".into()],
            _ => vec!["system:authenticated".into()],
        };
        let front_proxy = user.strip_prefix("proxy:").map(String::from);
        let certified = !user.is_empty() && front_proxy.is_none();
        let known = certified.then(|| User { name: user.into(), groups, ..User::default() });
        let peer = Arc::new(Peer { address: ([192, 0, 2, 2], 1).into(), user: known, front_proxy });
        request.extensions_mut().insert(peer);
        let answer = tokio::time::timeout(Duration::from_secs(30), router.oneshot(request)).await;
        answer.expect("answered in time").unwrap()
    }

    /// A client of the `kube` crate, the administrator's. `answer` sees each request first and may answer it.
    pub fn client(&self, answer: impl Fn(&http::Uri) -> Option<axum::response::Response> + Clone + Send + Sync + 'static) -> kube::Client {
        let router = self.router.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (router, answered) = (router.clone(), answer(request.uri()));
            async move {
                Ok::<_, std::convert::Infallible>(match answered {
                    Some(answered) => answered,
                    None => Server::through(router, "admin", request.map(Body::new)).await,
                })
            }
        });
        kube::Client::new(service, "default")
    }

    /// A request whose JSON body comes piece by piece.
    pub fn streaming(
        &self,
        user: &'static str,
        method: &str,
        uri: &str,
        chunks: tokio::sync::mpsc::Receiver<Result<Bytes, std::io::Error>>,
    ) -> impl Future<Output = axum::response::Response> + Send + 'static {
        let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(chunks));
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json").body(body).unwrap();
        Server::through(self.router.clone(), user, request)
    }

    /// The JSON of an answer.
    pub async fn body(response: axum::response::Response) -> Value {
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    /// The administrator's answer as text.
    pub async fn text(&self, uri: &str) -> String {
        let response = self.send("admin", "GET", uri, &[], "").await;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// The same, with the whole answer as JSON (or as a string).
    pub async fn ask(&self, user: &str, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.send(user, method, uri, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Answer { code: parts.status.as_u16(), headers: parts.headers, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }
    }

    /// The administrator's request, which must succeed.
    pub async fn yes(&self, method: &str, uri: &str, body: &str) -> Value {
        let answer = self.ask("admin", method, uri, &[], body).await;
        assert!(answer.code < 300, "{method} {uri}: {} {}", answer.code, answer.body);
        answer.body
    }

    /// The administrator's request, which must fail with `code`; returns the message.
    pub async fn no(&self, code: u16, method: &str, uri: &str, body: &str) -> String {
        let answer = self.ask("admin", method, uri, &[], body).await;
        assert_eq!(answer.code, code, "{method} {uri}: {}", answer.body);
        assert_eq!(answer.body["kind"], "Status");
        answer.message().to_owned()
    }

    /// A watch.
    pub async fn watch(&self, uri: &str) -> Events {
        let response = self.send("admin", "GET", uri, &[], "").await;
        assert_eq!(response.status(), 200, "{uri}");
        Events { chunks: response.into_body().into_data_stream(), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub struct Events {
    chunks: BodyDataStream,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.chunks.next()).await.expect("an event in time")?;
            self.buffer.extend_from_slice(&chunk.unwrap());
        }
    }
}
