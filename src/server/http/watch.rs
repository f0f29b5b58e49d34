//! Watches: one JSON document a line, or one protobuf frame an event, for as long as the client listens.
//!
//! Invariants: an event is the store's bytes in a frame; the stream ends cleanly at its timeout and when the server stops, so that
//! clients resume from the last revision they saw; an expired watch says so with an ERROR event.
//!
//! Follows upstream's `endpoints/handlers/watch.go`.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use rand::RngExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::negotiate::{Encoding, Form, Shape};
use super::reply;
use super::table::{self, Include};
use crate::api::{Rev, Status, protobuf};
use crate::server::registry::{KindDef, KindRef, ObjectWatch, WatchEvent};
use crate::server::store::Entry;

/// Upstream's `--min-request-timeout`: a watch without a timeout lasts between this and twice this.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// What a watch writes, event by event.
struct Writer {
    kind: KindRef,
    encoding: Encoding,
    shape: Shape,
    include: Include,
    /// Whether the columns were described already.
    described: bool,
}

impl Writer {
    fn table(&mut self, entry: Option<&Entry>, rev: Rev) -> Result<Vec<Bytes>, Status> {
        // Columns go with the first row; a bookmark before it has none.
        let headers = entry.is_some() && !self.described;
        self.described |= entry.is_some();
        table::table(&self.kind, &table::list_meta(rev, None), entry.into_iter(), self.include, headers)
    }

    fn object(&mut self, entry: &Entry) -> Result<Vec<Bytes>, Status> {
        Ok(match self.shape {
            Shape::Whole => vec![entry.json.clone()],
            Shape::Metadata => vec![table::metadata_only(entry)?.to_string().into()],
            Shape::Table => self.table(Some(entry), entry.rev)?,
        })
    }

    fn bookmark(&mut self, rev: Rev, initial_end: bool) -> Result<Vec<Bytes>, Status> {
        if self.shape == Shape::Table {
            return self.table(None, rev);
        }
        let mut meta = json!({"resourceVersion": rev.to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.shape {
            Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            _ => (self.kind.kind(), self.kind.api_version()),
        };
        Ok(vec![json!({"kind": kind, "apiVersion": version, "metadata": meta}).to_string().into()])
    }

    /// The line for one event, and whether it is the last.
    fn line(&mut self, event: &WatchEvent) -> (Option<Bytes>, bool) {
        let (name, object) = match event {
            WatchEvent::Added(entry) => ("ADDED", self.object(entry)),
            WatchEvent::Modified(entry) => ("MODIFIED", self.object(entry)),
            WatchEvent::Deleted(entry) => ("DELETED", self.object(entry)),
            WatchEvent::Bookmark { rev, initial_end } => ("BOOKMARK", self.bookmark(*rev, *initial_end)),
            WatchEvent::Expired(status) => ("ERROR", Err(status.clone())),
            WatchEvent::Closed => return (None, true),
        };
        match object {
            Ok(parts) => match self.frame(name, &parts) {
                Ok(frame) => (Some(frame), false),
                Err(status) => self.last(&status),
            },
            Err(status) => self.last(&status),
        }
    }

    /// An error ends the stream; one that can't be written just does.
    fn last(&self, status: &Status) -> (Option<Bytes>, bool) {
        (self.frame("ERROR", &[status.to_json().into()]).ok(), true)
    }

    fn frame(&self, name: &str, parts: &[Bytes]) -> Result<Bytes, Status> {
        if self.encoding != Encoding::Protobuf {
            return Ok(frame(name, parts));
        }
        let document = match parts {
            [one] => protobuf::encode(one),
            many => protobuf::encode(&many.concat()),
        };
        let document = document.map_err(|error| Status::internal(format!("encoding protobuf: {error}")))?;
        Ok(protobuf::watch_frame(name, &document))
    }
}

fn frame(name: &str, parts: &[Bytes]) -> Bytes {
    let mut line = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum::<usize>() + 48);
    line.extend_from_slice(format!("{{\"type\":\"{name}\",\"object\":").as_bytes());
    parts.iter().for_each(|part| line.extend_from_slice(part));
    line.extend_from_slice(b"}\n");
    line.freeze()
}

fn writer(kind: KindRef, form: Form, include: Include) -> Result<Writer, Status> {
    if form.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        ));
    }
    Ok(Writer { kind, encoding: form.encoding, shape: form.shape, include, described: false })
}

fn media_type(encoding: Encoding) -> &'static str {
    if encoding == Encoding::Protobuf { protobuf::WATCH_MEDIA_TYPE } else { reply::JSON }
}

/// A watch that can't begin: a stream of one ERROR event, `apiserver/pkg/storage/cacher`'s `errWatcher`.
pub fn refuse(kind: KindRef, form: Form, include: Include, why: &Status) -> Result<Response, Status> {
    let line = writer(kind, form, include)?.last(why).0;
    Ok(reply::stream(media_type(form.encoding), futures::stream::iter(line.map(Ok::<_, Infallible>))))
}

/// Serves a watch.
pub fn serve(
    kind: KindRef,
    form: Form,
    include: Include,
    mut events: ObjectWatch,
    timeout: Option<Duration>,
    stopping: CancellationToken,
) -> Result<Response, Status> {
    let mut writer = writer(kind, form, include)?;
    let timeout = timeout.unwrap_or_else(|| MIN_TIMEOUT.mul_f64(rand::rng().random_range(1.0..2.0)));
    let lines = async_stream::stream! {
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut deadline => break,
                () = stopping.cancelled() => break,
            };
            let (line, last) = writer.line(&event);
            if let Some(line) = line {
                yield Ok::<_, Infallible>(line);
            }
            if last {
                break;
            }
        }
    };
    Ok(reply::stream(media_type(form.encoding), lines))
}

/// What precedes the items of a list.
pub fn list_frame(kind: &KindDef, meta: &Value) -> Bytes {
    format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[", kind.list_kind(), kind.api_version()).into()
}
