//! API aggregation: groups and versions that another server serves, and the APIService objects that say so.
//!
//! Words: an APIService is *local* when this server serves its group version, else *remote*; a remote one is *available* when its Service
//! has endpoints and one of them answers discovery.
//!
//! One task ([`run`]) keeps the local APIServices, the condition `Available` of all, and what remote servers say they serve. Whoever
//! serves requests asks [`Aggregator`] where they go.
//!
//! Follows upstream's `kube-aggregator` (`pkg/apiserver`, `pkg/controllers`). Never: decides who may do what; the remote server is told who
//! asks by the front proxy's headers, and decides for itself as well.

pub mod available;
pub mod documents;
pub mod local;
pub mod remote;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use parking_lot::RwLock;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::api::{Key, Scope, Status};
use crate::server::outbound::{CallError, Link, Outbound, Peer, Roots};
use crate::server::registry::{Part, Registry, User, WriteOptions};
use crate::server::store::{Entry, Snapshot, Watch};
use documents::Document;
use remote::Served;

/// How often an available server is asked again, as upstream's resync.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How often an OpenAPI 2.0 document is asked for, as upstream: making one costs the other server more than a check does.
const DOCUMENT_EVERY: Duration = Duration::from_secs(60);
/// How often one that is not.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Of what a check depends on, how many say which APIService it is.
const WHICH: usize = 2;

/// Knows the remote APIServices. Cheap to clone.
#[derive(Clone)]
pub struct Aggregator {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    outbound: Outbound,
    /// What was learnt of remote servers, by the name of their APIService.
    known: RwLock<BTreeMap<String, Known>>,
}

/// What is known of one remote APIService.
#[derive(Clone)]
struct Known {
    /// What the knowledge was gained from; another state is checked anew.
    seen: Vec<u64>,
    checked: Instant,
    available: bool,
    served: Option<Arc<Served>>,
    /// Its OpenAPI 2.0 document, and when it was asked for last.
    document: Option<Arc<Document>>,
    asked: Option<Instant>,
}

/// A remote APIService for those who merge discovery documents.
#[derive(Clone, Debug)]
pub struct RemoteVersion {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// `spec.groupPriorityMinimum`.
    pub group_priority: i32,
    /// `spec.versionPriority`.
    pub version_priority: i32,
    /// Whether it answers now.
    pub available: bool,
    /// What it said it serves, when it last answered.
    pub served: Option<Arc<Served>>,
    /// Its OpenAPI 2.0 document.
    pub document: Option<Arc<Document>>,
}

impl Aggregator {
    /// Over the APIServices in `registry`; calls go out by `outbound`, with its front proxy's certificate.
    pub fn new(registry: Registry, outbound: Outbound) -> Aggregator {
        Aggregator { inner: Arc::new(Inner { registry, outbound, known: RwLock::default() }) }
    }

    /// The remote APIService of a group version, if there is one.
    pub fn remote(&self, group: &str, version: &str) -> Option<Arc<APIService>> {
        let key = Key::of::<APIService>("", &format!("{version}.{group}"));
        let entry = self.inner.registry.store().snapshot().get(&key).cloned()?;
        let service = entry.typed::<APIService>().ok()?;
        service.spec.as_ref()?.service.as_ref()?;
        Some(service)
    }

    /// All remote APIServices.
    pub fn remotes(&self) -> Vec<RemoteVersion> {
        let snapshot = self.inner.registry.store().snapshot();
        let known = self.inner.known.read();
        remote_services(&snapshot)
            .map(|(name, _, service)| {
                let spec = service.spec.clone().unwrap_or_default();
                let known = known.get(&name);
                RemoteVersion {
                    group: spec.group.unwrap_or_default(),
                    version: spec.version.unwrap_or_default(),
                    group_priority: spec.group_priority_minimum,
                    version_priority: spec.version_priority,
                    available: available::is_true(&service),
                    served: known.and_then(|known| known.served.clone()),
                    document: known.and_then(|known| known.document.clone()),
                }
            })
            .collect()
    }

    /// Sends a request on: as `user`, to `path` (with its query) of the server behind `service`. Both bodies stream.
    pub async fn send(
        &self,
        service: &APIService,
        user: &User,
        mut request: Request<Body>,
        path: &str,
    ) -> Result<Response<Incoming>, CallError> {
        let peer = peer(service, path)?;
        identify(request.headers_mut(), user);
        *request.uri_mut() = peer.url("").parse::<http::Uri>().map_err(|error| CallError::Unusable(format!("{path}: {error}")))?;
        self.inner.outbound.send(&peer, request).await
    }

    /// A connection of its own to the server behind `service`, for a request that will be upgraded, and the `Host` to ask for.
    pub async fn connect(&self, service: &APIService) -> Result<(TlsStream<Link>, String), CallError> {
        let peer = peer(service, "/")?;
        let host = peer.host.authority();
        Ok((self.inner.outbound.connect(&peer).await?, host))
    }
}

/// Where a remote APIService is served.
fn peer(service: &APIService, path: &str) -> Result<Peer, CallError> {
    let spec = service.spec.clone().unwrap_or_default();
    let target = spec.service.clone().unwrap_or_default();
    let port = target.port.unwrap_or(443);
    let port = u16::try_from(port).map_err(|_| CallError::Unusable(format!("{port} is no port")))?;
    let (namespace, name) = (target.namespace.unwrap_or_default(), target.name.unwrap_or_default());
    let mut peer = Peer::service(&namespace, &name, path, port, roots(&spec));
    peer.as_front_proxy = true;
    Ok(peer)
}

fn roots(spec: &APIServiceSpec) -> Roots {
    match spec.insecure_skip_tls_verify {
        Some(true) => Roots::Anybody,
        _ => Roots::of(spec.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice())),
    }
}

/// Puts the front proxy's headers on, and takes off what the client sent in their place.
pub fn identify(headers: &mut HeaderMap, user: &User) {
    let forged: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    headers.remove(http::header::AUTHORIZATION);
    let mut say = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    say("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        say("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        say("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        for value in values {
            say(&format!("x-remote-extra-{}", escape(key)), value);
        }
    }
}

/// A key as part of a header's name: what may not be in one is percent-encoded (client-go `transport.headerKeyEscape`).
fn escape(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Name, entry and object of each remote APIService.
fn remote_services(state: &Snapshot) -> impl Iterator<Item = (String, &Arc<Entry>, Arc<APIService>)> {
    let scope = Scope::of::<APIService>();
    let entries: Vec<&Arc<Entry>> = state.range(&scope).collect();
    entries.into_iter().filter_map(|entry| {
        let service = entry.typed::<APIService>().ok()?;
        service.spec.as_ref()?.service.as_ref()?;
        Some((entry.key.name().to_owned(), entry, service))
    })
}

/// What this task's writes are made as.
fn options() -> WriteOptions {
    let user = User { name: "system:apiserver".into(), groups: vec!["system:masters".into()], ..User::default() };
    WriteOptions { user: Arc::new(user), ..WriteOptions::default() }
}

/// Keeps APIServices and what is known of remote servers until told to stop.
pub async fn run(aggregator: Aggregator, stopping: CancellationToken) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = keep(&aggregator) => {}
    }
}

async fn keep(aggregator: &Aggregator) {
    let mut first = true;
    loop {
        let state = aggregator.inner.registry.store().snapshot();
        let mut changes = Changes::after(aggregator, &state);
        local::keep(&aggregator.inner.registry, &state, first).await;
        first = false;
        let wait = aggregator.check(&state).await;
        changes.next(wait).await;
    }
}

/// The changes that are reasons to look again.
struct Changes(Vec<Watch>);

impl Changes {
    fn after(aggregator: &Aggregator, state: &Snapshot) -> Changes {
        let mut scopes = vec![Scope::of::<APIService>(), Scope::of::<CustomResourceDefinition>()];
        if remote_services(state).next().is_some() {
            scopes.extend([Scope::of::<Service>(), Scope::of::<EndpointSlice>()]);
        }
        // A start that is too old means that there is news already; `next` then has fewer to wait for, and the timer.
        let store = aggregator.inner.registry.store();
        Changes(scopes.into_iter().filter_map(|scope| store.watch(scope, state.rev()).ok()).collect())
    }

    /// Returns at the next change, or after `wait`.
    async fn next(&mut self, wait: Option<Duration>) {
        // Without watches only time can tell.
        let wait = if self.0.is_empty() { wait.or(Some(RETRY_EVERY)) } else { wait };
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let change = async {
            let watches: Vec<_> = self.0.iter_mut().map(|watch| Box::pin(watch.next())).collect();
            match watches.is_empty() {
                true => std::future::pending().await,
                false => drop(futures::future::select_all(watches).await),
            }
        };
        tokio::select! {
            () = change => {}
            () = timer => {}
        }
    }
}

impl Aggregator {
    /// Checks every remote APIService that is due, and says how long the others can wait (`None`: there is nothing to wait for).
    async fn check(&self, state: &Snapshot) -> Option<Duration> {
        let mut due = Vec::new();
        let mut wait: Option<Duration> = None;
        let mut names = Vec::new();
        for (name, entry, service) in remote_services(state) {
            let seen = available::inputs(state, &service, entry);
            let known = self.inner.known.read().get(&name).cloned();
            let rest = known.filter(|known| known.seen == seen).and_then(|known| {
                let every = if known.available { CHECK_EVERY } else { RETRY_EVERY };
                every.checked_sub(known.checked.elapsed())
            });
            match rest {
                Some(rest) => wait = Some(wait.map_or(rest, |wait| wait.min(rest))),
                None => due.push((name.clone(), seen, service)),
            }
            names.push(name);
        }
        self.inner.known.write().retain(|name, _| names.contains(name));
        let checks = due.into_iter().map(|(name, seen, service)| self.check_one(state, name, seen, service));
        for every in futures::future::join_all(checks).await {
            wait = Some(wait.map_or(every, |wait| wait.min(every)));
        }
        wait
    }

    async fn check_one(&self, state: &Snapshot, name: String, seen: Vec<u64>, service: Arc<APIService>) -> Duration {
        let mut verdict = available::of_service(state, &service);
        let mut served = None;
        if verdict.available {
            match remote::discover(&self.inner.outbound, &service).await {
                Ok(found) => served = Some(Arc::new(found)),
                Err(why) => verdict = available::Verdict::no("FailedDiscoveryCheck", why),
            }
        }
        let available = verdict.available;
        // What a server said stays known while it is away: it is shown as stale.
        // Nothing does that was said where the APIService was another.
        let same = |before: &Known| before.seen.get(..WHICH) == seen.get(..WHICH);
        let before = self.inner.known.read().get(&name).cloned().filter(same);
        let served = served.or_else(|| before.as_ref().and_then(|before| before.served.clone()));
        let checked = Instant::now();
        let mut asked = before.as_ref().and_then(|before| before.asked);
        let mut document = before.and_then(|before| before.document);
        if available && asked.is_none_or(|asked| asked.elapsed() >= DOCUMENT_EVERY) {
            asked = Some(checked);
            match documents::fetch(&self.inner.outbound, &service, document.as_deref()).await {
                documents::Answer::New(new) => document = Some(Arc::new(new)),
                documents::Answer::Missing => document = None,
                documents::Answer::Unchanged => {}
            }
        }
        self.inner.known.write().insert(name.clone(), Known { seen, checked, available, served, document, asked });
        if let Err(status) = write(&self.inner.registry, &name, &verdict).await {
            tracing::warn!(name, %status, "the condition of an APIService was not written");
        }
        if available { CHECK_EVERY } else { RETRY_EVERY }
    }
}

/// Writes the condition, where it is another now.
async fn write(registry: &Registry, name: &str, verdict: &available::Verdict) -> Result<(), Status> {
    let Some(kind) = registry.kind(APIService::GROUP, "v1", "apiservices") else { return Ok(()) };
    let set = |object: &mut dyn crate::api::Object| {
        if let Some(service) = object.as_any_mut().downcast_mut::<APIService>() {
            available::set(service, verdict, jiff::Timestamp::now());
        }
        Ok(())
    };
    match registry.edit(&kind, "", name, Part::Status, &set, &options()).await {
        Err(status) if status.code == 404 => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_replace_what_was_forged() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        headers.insert("authorization", HeaderValue::from_static("Bearer x"));
        let extra = std::collections::BTreeMap::from([("example.org/Key".into(), vec!["v".into(), "w".into()])]);
        let user = User { name: "ann".into(), uid: "u".into(), groups: vec!["g".into(), "h".into()], extra };
        identify(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["ann"]);
        assert_eq!(all("x-remote-uid"), ["u"]);
        assert_eq!(all("x-remote-group"), ["g", "h"]);
        assert_eq!(all("x-remote-extra-example.org%2fkey"), ["v", "w"]);
        assert!(all("authorization").is_empty() && all("x-remote-extra-a").is_empty());
    }
}
