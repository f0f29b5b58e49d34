//! Answers: bytes, slices of already encoded bytes, and errors.
//!
//! Invariant: an item of a list is sent as the very bytes the store holds; only the frame around it is made here.

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};

use super::negotiate::Encoding;
use crate::api::{Status, protobuf, yaml};

/// Answers of at least this many bytes are compressed for clients that accept it (upstream's threshold).
const GZIP_FROM: u64 = 128 * 1024;

/// Slices shorter than this are sent together, in frames of about [`FRAME`].
const SMALL: usize = 16 * 1024;
const FRAME: usize = 64 * 1024;

/// `application/json`.
pub const JSON: &str = "application/json";

/// A body of known length, made of slices that are sent one after the other.
struct Slices {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl Slices {
    /// `first` with the small slices that follow it. A frame per slice would cost far more than this copy.
    fn gather(&mut self, first: Bytes) -> Bytes {
        let mut frame = BytesMut::from(&first[..]);
        while let Some(next) = self.parts.front().filter(|next| next.len() < SMALL && frame.len() < FRAME) {
            frame.extend_from_slice(next);
            self.parts.pop_front();
        }
        frame.freeze()
    }
}

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(first) = self.parts.pop_front() else { return Poll::Ready(None) };
        let frame = if first.len() < SMALL { self.gather(first) } else { first };
        self.left -= frame.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn respond(code: u16, content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// An answer of one piece.
pub fn bytes(code: u16, content_type: &str, body: impl Into<Bytes>) -> Response {
    slices(code, content_type, vec![body.into()])
}

/// An answer of many pieces.
pub fn slices(code: u16, content_type: &str, parts: Vec<Bytes>) -> Response {
    let left: u64 = parts.iter().map(|part| part.len() as u64).sum();
    sized(code, content_type, left, Body::new(Slices { parts: parts.into(), left }))
}

/// An answer of a body whose size is known.
pub fn sized(code: u16, content_type: &str, size: u64, body: Body) -> Response {
    let mut response = respond(code, content_type, body);
    response.headers_mut().insert(CONTENT_LENGTH, size.into());
    response
}

/// A tree, as JSON.
pub fn json(code: u16, value: &serde_json::Value) -> Response {
    bytes(code, JSON, value.to_string())
}

/// JSON bytes in the encoding that was asked for.
pub fn encoded(code: u16, encoding: Encoding, json: Bytes) -> Response {
    match encoding {
        Encoding::Json => bytes(code, JSON, json),
        Encoding::Yaml => match to_yaml(&json) {
            Ok(yaml) => bytes(code, "application/yaml", yaml),
            Err(refusal) => status(&refusal, Encoding::Json),
        },
        Encoding::Protobuf => match protobuf::encode(&json) {
            Ok(document) => bytes(code, protobuf::MEDIA_TYPE, document),
            Err(error) => status(&Status::internal(format!("encoding protobuf: {error}")), Encoding::Json),
        },
    }
}

/// JSON pieces, joined only where the encoding requires it.
pub fn encoded_slices(code: u16, encoding: Encoding, parts: Vec<Bytes>) -> Response {
    match encoding {
        Encoding::Json => slices(code, JSON, parts),
        Encoding::Yaml | Encoding::Protobuf => encoded(code, encoding, parts.concat().into()),
    }
}

fn to_yaml(json: &[u8]) -> Result<String, Status> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| Status::internal(format!("an object is not JSON: {e}")))?;
    Ok(yaml::write(&value))
}

/// A stream without known end.
pub fn stream<S>(content_type: &str, chunks: S) -> Response
where
    S: futures::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    respond(200, content_type, Body::from_stream(chunks))
}

/// Says that an answer is a `Status`, and holds it: for the record of requests.
#[derive(Clone)]
pub struct StatusBody(pub Bytes);

/// A refusal, in an encoding that the client accepts.
pub fn status(refusal: &Status, encoding: Encoding) -> Response {
    let body = Bytes::from(refusal.to_json());
    let mut response = encoded(refusal.code, encoding, body.clone());
    response.extensions_mut().insert(StatusBody(body));
    if let Some(seconds) = refusal.details.as_ref().and_then(|d| d.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A `Status` that says yes, as a deletion answers.
pub fn success(code: u16, group: &str, resource: &str, name: &str, uid: &str) -> serde_json::Value {
    let mut details = serde_json::json!({"name": name, "kind": resource});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    if !uid.is_empty() {
        details["uid"] = uid.into();
    }
    serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details, "code": code})
}

/// Adds one `Warning` header (RFC 7234, 5.5) for each text.
pub fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect();
        let quoted = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// Compresses a large answer, if the client accepts that. Streams are left alone.
pub fn compress(request: &HeaderMap, mut response: Response) -> Response {
    let accepts = request.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let accepts = accepts.map(str::trim).any(|v| v == "gzip" || (v.starts_with("gzip;") && !v.replace(' ', "").ends_with("q=0")));
    let length = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if !accepts || length.is_none_or(|l| l < GZIP_FROM) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    response.map(|body| Body::from_stream(gzip(body)))
}

fn gzip(body: Body) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    async_stream::try_stream! {
        // Level 1 as upstream: the network is the bottleneck, not the disk.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            encoder.write_all(&chunk.map_err(std::io::Error::other)?)?;
            if encoder.get_ref().len() >= 32 * 1024 {
                yield Bytes::from(std::mem::take(encoder.get_mut()));
            }
        }
        yield Bytes::from(encoder.finish()?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    #[tokio::test]
    async fn large_answers_are_compressed_when_accepted() {
        let part = Bytes::from(vec![b'x'; 1000]);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let small = compress(&headers, slices(200, JSON, vec![part.clone(); 2]));
        assert!(!small.headers().contains_key(CONTENT_ENCODING));
        let plain = compress(&HeaderMap::new(), slices(200, JSON, vec![part.clone(); 200]));
        assert_eq!(plain.headers()[CONTENT_LENGTH], "200000");
        let large = compress(&headers, slices(200, JSON, vec![part; 200]));
        assert_eq!(large.headers()[CONTENT_ENCODING], "gzip");
        let packed = large.into_body().collect().await.unwrap().to_bytes();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, vec![b'x'; 200_000]);
    }

    #[test]
    fn warnings_are_quoted() {
        let mut response = json(200, &serde_json::json!({}));
        warn(&mut response, &["unknown field \"spec.x\"\n".into()]);
        assert_eq!(response.headers()["warning"], r#"299 - "unknown field \"spec.x\" ""#);
    }

    #[test]
    fn refusals_say_when_to_retry() {
        let response = status(&Status::too_many_requests("later", 7), Encoding::Protobuf);
        assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (429, &HeaderValue::from_static("7")));
    }
}
