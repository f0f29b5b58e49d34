//! The record of what was asked and answered: who, what, when, with which outcome.
//!
//! Words: a [`Record`] accompanies one request; a *stage* is when an event is written; the [`policy`] says how much; the [`log`] writes.
//!
//! Invariants: a request that the policy records has exactly one last event (`ResponseComplete` or `Panic`), however it ended; nothing a
//! request does waits for the log. Never: keeps a body that the level does not ask for. (The name of a created object is read off its body.)
//!
//! Follows upstream's `apiserver/pkg/audit` and `endpoints/filters/audit.go`.

mod event;
pub mod log;
pub mod policy;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Request};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::path::RequestInfo;
use super::peer::Peer;
use super::reply;
use crate::api::protobuf;
use crate::metrics::{Counter, Text};
use crate::server::registry::{Format, User};
use event::{Event, Object, ObjectRef};
use log::{Log, LogConfig};
use policy::{Level, Policy, Stage, Wanted};

/// Longest user agent that is kept, and what shows the cut (upstream's).
const AGENT: usize = 1024;
/// Longest value of an annotation that came from elsewhere.
const ANNOTATION: usize = 10 << 10;

/// The policy and the log of a server.
pub struct Audit {
    policy: Policy,
    log: Log,
    /// Requests by level.
    levels: [Counter; 4],
}

impl Audit {
    /// Opens the log.
    pub fn open(policy: Policy, log: LogConfig) -> std::io::Result<Audit> {
        Ok(Audit { policy, log: Log::open(log)?, levels: Default::default() })
    }

    /// Begins the record of a request; `None` when the policy wants none.
    pub fn begin(self: &Arc<Self>, id: &str, user: Option<Arc<User>>, info: &RequestInfo, request: &Request<Body>) -> Option<Arc<Record>> {
        let wanted = self.policy.wanted(user.as_deref(), info);
        self.levels[wanted.level as usize].inc();
        if wanted.level == Level::None {
            return None;
        }
        let object = info.is_resource.then(|| ObjectRef {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectRef::default()
        });
        let described = event::Request {
            level: wanted.level,
            omit_managed: wanted.omit_managed,
            id: id.to_owned(),
            uri: request.uri().path_and_query().map_or_else(|| info.path.clone(), ToString::to_string),
            verb: info.verb,
            user,
            addresses: addresses(request),
            agent: agent(request.headers()),
            object,
            received: jiff::Timestamp::now(),
        };
        let record = Record {
            audit: self.clone(),
            wanted,
            request: Arc::new(described),
            state: Mutex::default(),
            long: info.is_long_running(),
            names: info.verb == "create" && info.name.is_empty(),
            objects: info.is_resource && !info.is_long_running(),
        };
        record.emit(Stage::RequestReceived, None, None, None);
        Some(Arc::new(record))
    }

    /// A request whose sender is not recognised.
    pub fn unauthenticated(self: &Arc<Self>, id: &str, info: &RequestInfo, request: &Request<Body>) {
        let method = request.headers().get(http::header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        let method = method.map(|value| value.split(' ').next().unwrap_or_default().to_ascii_lowercase());
        let message = match method.as_deref() {
            None => "Authentication failed, no credentials provided".to_owned(),
            Some(method @ ("basic" | "bearer")) => format!("Authentication failed, attempted: {method}"),
            Some(_) => "Authentication failed, attempted: unknown".to_owned(),
        };
        if let Some(record) = self.begin(id, None, info, request) {
            record.emit(Stage::ResponseStarted, Some((401, None)), None, Some(message));
            record.state.lock().done = true;
        }
    }

    /// What is counted, in Prometheus' text form.
    pub fn write_metrics(&self, out: &mut Text) {
        let counts = self.log.counts();
        out.single(
            "apiserver_audit_event_total",
            "counter",
            "Counter of audit events generated and sent to the audit backend.",
            counts.events.get(),
        );
        out.metric("apiserver_audit_error_total", "counter", "Counter of audit events that failed to be audited properly.");
        out.sample("apiserver_audit_error_total", &[("plugin", "log")], counts.errors.get());
        out.metric("apiserver_audit_level_total", "counter", "Counter of policy levels for audit events (1 per request).");
        for (level, count) in [Level::None, Level::Metadata, Level::Request, Level::RequestResponse].iter().zip(&self.levels) {
            out.sample("apiserver_audit_level_total", &[("level", level.as_str())], count.get());
        }
    }
}

/// The record of one request.
pub struct Record {
    audit: Arc<Audit>,
    wanted: Wanted,
    request: Arc<event::Request>,
    state: Mutex<State>,
    /// A stream.
    long: bool,
    /// Whether the body names the object.
    names: bool,
    /// Whether bodies are objects.
    objects: bool,
}

#[derive(Default)]
struct State {
    impersonated: Option<Arc<User>>,
    annotations: BTreeMap<String, String>,
    sent: Option<Object>,
    /// The last event is written.
    done: bool,
}

impl Record {
    /// The request acts as somebody else.
    pub fn acts_as(&self, user: &Arc<User>) {
        self.state.lock().impersonated = Some(user.clone());
    }

    /// Notes a decision. The first note of a name stays, as upstream.
    pub fn annotate(&self, key: &str, value: &str) {
        let value: String = value.chars().take(ANNOTATION).collect();
        self.state.lock().annotations.entry(key.to_owned()).or_insert(value);
    }

    /// The body that was sent.
    pub fn sent(&self, bytes: &Bytes, format: Format) {
        if self.objects && !bytes.is_empty() && (self.wanted.level >= Level::Request || self.names) {
            // The record is JSON, so a message is told as such; one that can't be read is not told.
            let bytes = match format {
                Format::Protobuf => protobuf::decode(bytes, None).map(|tree| tree.to_string().into()).unwrap_or_default(),
                Format::Json | Format::Yaml => bytes.clone(),
            };
            self.state.lock().sent = Some(Object { parts: vec![bytes], yaml: format == Format::Yaml });
        }
    }

    /// The answer, on its way out. The last event is written when it is known: at once, or when the body is sent.
    pub fn finish(self: Arc<Self>, response: Response, panicked: bool) -> Response {
        let code = response.status().as_u16();
        let status = response.extensions().get::<reply::StatusBody>().map(|body| body.0.clone());
        if panicked {
            self.last(Stage::Panic, code, status, None);
            return response;
        }
        let media = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (json, yaml) = (media.starts_with(reply::JSON), media.starts_with("application/yaml"));
        let keep = self.wanted.level == Level::RequestResponse && self.objects && (json || yaml);
        if self.long {
            self.emit(Stage::ResponseStarted, Some((code, status.clone())), None, None);
        }
        if !self.long && !keep {
            self.last(Stage::ResponseComplete, code, status, None);
            return response;
        }
        response.map(|body| Body::new(Tail { body, record: self, code, status, yaml, kept: keep.then(Vec::new) }))
    }

    fn last(&self, stage: Stage, code: u16, status: Option<Bytes>, answered: Option<Object>) {
        if !std::mem::replace(&mut self.state.lock().done, true) {
            self.emit(stage, Some((code, status)), answered, None);
        }
    }

    fn emit(&self, stage: Stage, status: Option<(u16, Option<Bytes>)>, answered: Option<Object>, message: Option<String>) {
        if self.wanted.omit.has(stage) {
            return;
        }
        let state = self.state.lock();
        let event = Event {
            request: self.request.clone(),
            stage,
            at: jiff::Timestamp::now(),
            impersonated: state.impersonated.clone(),
            status,
            message,
            sent: state.sent.clone(),
            answered,
            annotations: state.annotations.clone(),
        };
        drop(state);
        self.audit.log.send(event);
    }
}

impl Drop for Record {
    /// The client went before there was an answer.
    fn drop(&mut self) {
        if !self.state.lock().done {
            self.emit(Stage::ResponseComplete, None, None, None);
        }
    }
}

/// The body of an answer; when it is over, so is the record.
struct Tail {
    body: Body,
    record: Arc<Record>,
    code: u16,
    status: Option<Bytes>,
    yaml: bool,
    kept: Option<Vec<Bytes>>,
}

impl http_body::Body for Tail {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(kept)) = (&polled, &mut self.kept)
            && let Some(data) = frame.data_ref()
        {
            kept.push(data.clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let answered = self.kept.take().filter(|parts| !parts.is_empty()).map(|parts| Object { parts, yaml: self.yaml });
        self.record.last(Stage::ResponseComplete, self.code, self.status.take(), answered);
    }
}

/// Where a request says it comes from, and where it does come from (upstream's `utilnet.SourceIPs`).
fn addresses(request: &Request<Body>) -> Vec<String> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let ip = |text: &str| text.trim().parse::<std::net::IpAddr>().ok();
    let mut found: Vec<_> = header("x-forwarded-for").split(',').take(32).filter_map(ip).collect();
    if let Some(real) = ip(&header("x-real-ip"))
        && found.last() != Some(&real)
    {
        found.push(real);
    }
    if let Some(peer) = request.extensions().get::<Arc<Peer>>() {
        let address = peer.address.ip().to_canonical();
        if found.last() != Some(&address) {
            found.push(address);
        }
    }
    found.iter().map(ToString::to_string).collect()
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match agent.get(..AGENT) {
        Some(cut) if agent.len() > AGENT => format!("{cut}...TRUNCATED"),
        _ => agent.to_owned(),
    }
}
