//! What accompanies a request from its arrival to the last byte of its answer: its number, its counters, its record, its seat.
//!
//! Follows the order of upstream's handler chain (`apiserver/pkg/server/config.go`, `DefaultBuildHandlerChain`): who, record, fairness, whether.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};

use super::audit::Record;
use super::fairness::schema::Digest;
use super::fairness::{Cost, Flowing, Seat, Watching};
use super::metrics::{Counted, InFlight, Metrics, Series};
use super::path::RequestInfo;
use super::query::Query;
use super::{App, header};
use crate::api::{Scope, Status};
use crate::server::auth::Decision;
use crate::server::registry::User;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Answers up to this are handed to the connection at once: their seat is free when the handler is done.
const SMALL: u64 = 64 * 1024;

/// See the module.
pub(super) struct Trace {
    /// The number that answer and record carry.
    pub id: String,
    started: Instant,
    series: Arc<Series>,
    long: bool,
    record: OnceLock<Arc<Record>>,
    flow: OnceLock<Arc<Flowing>>,
}

impl Trace {
    /// A request arrives.
    pub(super) fn begin(app: &App, info: &RequestInfo, query: &Query, headers: &HeaderMap) -> Trace {
        let sent = header(headers, AUDIT_ID);
        let id = if sent.is_empty() || sent.len() > 64 { uuid::Uuid::new_v4().to_string() } else { sent.to_owned() };
        let apply = header(headers, CONTENT_TYPE).starts_with("application/apply-patch");
        Trace {
            id,
            started: Instant::now(),
            series: app.metrics.series(&app.registry, info, query, apply),
            long: info.is_long_running(),
            record: OnceLock::new(),
            flow: OnceLock::new(),
        }
    }

    /// Its record, if there is one.
    pub(super) fn record(&self) -> Option<Arc<Record>> {
        self.record.get().cloned()
    }

    /// How long ago it came.
    pub(super) fn took(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts it as in flight until the result is dropped.
    pub(super) fn in_flight<'a>(&self, app: &'a App) -> InFlight<'a> {
        app.metrics.in_flight(&self.series)
    }

    /// It is known who asks: the record begins.
    pub(super) fn recognised(&self, app: &App, user: &Arc<User>, info: &RequestInfo, request: &Request) {
        if let Some(record) = app.settings.audit.as_ref().and_then(|audit| audit.begin(&self.id, Some(user.clone()), info, request)) {
            // Set once, for there is one request.
            self.record.set(record).ok();
        }
    }

    /// Whoever asks acts as somebody else.
    pub(super) fn acts_as(&self, user: &Arc<User>) {
        if let Some(record) = self.record.get() {
            record.acts_as(user);
        }
    }

    /// It is not known who asks.
    pub(super) fn unrecognised(&self, app: &App, info: &RequestInfo, request: &Request) {
        if let Some(audit) = &app.settings.audit {
            audit.unauthenticated(&self.id, info, request);
        }
    }

    /// Whether it was allowed, and why.
    pub(super) fn decided(&self, decision: &Decision) {
        let Some(record) = self.record.get() else { return };
        let (word, reason) = match decision {
            Decision::Allow(reason) => ("allow", reason),
            Decision::Deny(reason) => ("forbid", reason),
        };
        record.annotate("authorization.k8s.io/decision", word);
        record.annotate("authorization.k8s.io/reason", reason);
    }

    /// Waits for its turn. `None`: streams that are no watches are not limited, as upstream.
    pub(super) async fn admit(&self, app: &App, user: &User, info: &RequestInfo, query: &Query) -> Result<Option<Seat>, Status> {
        let watch = info.verb == "watch";
        if self.long && !watch {
            return Ok(None);
        }
        let digest = Digest {
            user,
            verb: info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
        };
        let limit = query.first("limit").and_then(|limit| limit.parse().ok());
        let cost = Cost { limit, initial_events: watch && query.flag("sendInitialEvents") };
        let size = || app.registry.store().size(&Scope::resource(&info.group, &info.resource));
        match app.fairness.admit(&digest, cost, size).await {
            Ok(mut seat) => {
                if watch {
                    seat.for_watch();
                }
                self.flow.set(seat.flow()).ok();
                Ok(Some(seat))
            }
            Err(refused) => {
                app.metrics.dropped(&self.series);
                self.flow.set(refused.flow).ok();
                Err(refused.status)
            }
        }
    }

    /// The answer, on its way out: numbered, counted, recorded.
    pub(super) fn finish(self, app: &App, info: &RequestInfo, mut response: Response, panicked: bool) -> Response {
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        if let Some(flow) = self.flow.get() {
            flow.label(response.headers_mut());
        }
        let code = response.status().as_u16();
        app.metrics.count(&self.series, code, self.started.elapsed(), response.body().size_hint().exact());
        if self.long && code < 300 {
            let watching =
                (info.verb == "watch").then(|| app.fairness.watchers().begin(&info.group, &info.resource, &info.namespace, &info.name));
            let (series, open) = (self.series.clone(), Metrics::open(&self.series));
            response = response.map(|body| Body::new(Stream { body, series, watching, _open: open }));
        }
        match self.record.into_inner() {
            Some(record) => record.finish(response, panicked),
            None => response,
        }
    }
}

/// Keeps a seat until a large answer is sent.
pub(super) fn seated(seat: Option<Seat>, response: Response) -> Response {
    let large = response.body().size_hint().exact().is_some_and(|size| size > SMALL);
    match seat {
        Some(seat) if large => response.map(|body| Body::new(Seated { body, _seat: seat })),
        _ => response,
    }
}

struct Seated {
    body: Body,
    _seat: Seat,
}

impl http_body::Body for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a stream, counted while it is open. A frame of a watch is an event.
struct Stream {
    body: Body,
    series: Arc<Series>,
    watching: Option<Watching>,
    _open: Counted,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(_)) = (&polled, &self.watching)
            && let Some(data) = frame.data_ref()
        {
            self.series.event(data.len());
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
