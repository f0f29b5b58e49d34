//! Lists as protobuf documents, made while they are sent.
//!
//! A document says its size first, so every item is measured before the first byte goes out. What an item measures is kept with its entry;
//! what it is made into is not, so that a list takes the memory of one frame, however long it is and however many ask for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::negotiate::Shape;
use super::{reply, table};
use crate::api::{Status, protobuf};
use crate::server::registry::{KindDef, List};
use crate::server::store::Entry;

/// Items are sent in frames of about this size.
const FRAME: usize = 64 * 1024;

/// A list in the negotiated shape.
pub(super) fn send(kind: &KindDef, shape: Shape, meta: &serde_json::Value, list: &List) -> Result<Response, Status> {
    let failed = |error: protobuf::Error| Status::internal(format!("encoding protobuf: {error}"));
    let meta = meta.to_string();
    let document = match shape {
        Shape::Metadata => protobuf::List::new("meta.k8s.io/v1", "PartialObjectMetadataList", meta.as_bytes()),
        Shape::Whole | Shape::Table => protobuf::List::new(&kind.api_version(), kind.list_kind(), meta.as_bytes()),
    };
    let document = document.map_err(failed)?;
    let mut scratch = Vec::new();
    let mut size = 0;
    for entry in &list.items {
        let mut measure = |json: &[u8]| document.measure(json, &mut scratch).map_err(failed);
        size += match shape {
            Shape::Metadata => measure(table::metadata_only(entry)?.to_string().as_bytes())?,
            Shape::Whole | Shape::Table => entry.measured(measure)?,
        };
    }
    let head = document.head(size);
    let left = head.len() as u64 + size + document.tail().len() as u64;
    Ok(reply::sized(
        200,
        protobuf::MEDIA_TYPE,
        left,
        Body::new(Items { document, shape, head, entries: list.items.clone().into_iter(), left }),
    ))
}

/// The body of an answer. What is left of it is known to the byte.
struct Items {
    document: protobuf::List,
    shape: Shape,
    /// Empty once it is sent.
    head: Vec<u8>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    left: u64,
}

impl Items {
    fn frame(&mut self) -> Result<Bytes, std::io::Error> {
        let mut frame = std::mem::take(&mut self.head);
        while frame.len() < FRAME {
            let Some(entry) = self.entries.next() else {
                frame.extend_from_slice(self.document.tail());
                break;
            };
            let json = match self.shape {
                Shape::Metadata => {
                    Bytes::from(table::metadata_only(&entry).map_err(|status| std::io::Error::other(status.message))?.to_string())
                }
                Shape::Whole | Shape::Table => entry.json.clone(),
            };
            self.document.item(&json, &mut frame).map_err(std::io::Error::other)?;
        }
        Ok(frame.into())
    }
}

impl http_body::Body for Items {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let frame = self.frame();
        self.left = frame.as_ref().map_or(0, |frame| self.left.saturating_sub(frame.len() as u64));
        Poll::Ready(Some(frame.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
