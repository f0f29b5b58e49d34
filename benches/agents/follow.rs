//! A list and the watch after it, for ever, with the requests that kube's watcher makes for an agent.
//!
//! What comes is counted, not decoded: on a thousand machines that would be the work of a thousand processors, not of the two at hand.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use orch::client::Client;
use serde_json::Value;

use crate::support::Failure;

/// Events that came, of all watches.
pub static EVENTS: AtomicU64 = AtomicU64::new(0);
/// Their bytes, and those of lists.
pub static BYTES: AtomicU64 = AtomicU64::new(0);
/// Lists that had to begin anew, and watches that had to begin with another list.
pub static RELISTS: AtomicU64 = AtomicU64::new(0);
/// Requests that were put off, with too many under way.
pub static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Objects of a page, and seconds of a watch, as kube has them.
const PAGE: usize = 500;
const SPAN: u32 = 290;
const PAUSE: Duration = Duration::from_secs(1);
/// What was asked for is not in the history any more.
const GONE: u16 = 410;

/// One watched set.
#[derive(Clone)]
pub struct Set {
    /// Such as `/api/v1/nodes`.
    pub path: &'static str,
    /// A field selector, percent-encoded, or nothing.
    pub fields: String,
}

impl Set {
    fn query(&self, rest: &str) -> String {
        let selector = if self.fields.is_empty() { String::new() } else { format!("&fieldSelector={}", self.fields) };
        format!("{}?{rest}{selector}", self.path)
    }
}

/// Each event's line goes to `told`. Ends only when something is wrong.
pub async fn follow(client: Client, set: Set, mut told: impl FnMut(&[u8]) + Send) -> Result<Infallible, Failure> {
    loop {
        let mut revision = list(&client, &set).await?;
        while let Some(next) = watch(&client, &set, &revision, &mut told).await? {
            revision = next;
        }
        RELISTS.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request, again while the server has no room for it.
async fn get(client: &Client, uri: &str) -> Result<http::Response<kube::client::Body>, Failure> {
    loop {
        let response = client.send(Request::get(uri).header("accept", "application/json").body(kube::client::Body::empty())?).await?;
        match response.status().as_u16() {
            200 | GONE => return Ok(response),
            429 => {
                REFUSED.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            code => return Err(format!("{uri}: {code}").into()),
        }
    }
}

/// All pages; the revision of the list.
async fn list(client: &Client, set: &Set) -> Result<String, Failure> {
    let mut uri = set.query(&format!("limit={PAGE}"));
    loop {
        let response = get(client, &uri).await?;
        if response.status() == GONE {
            // So much was written since the first page that the next can't be had.
            RELISTS.fetch_add(1, Ordering::Relaxed);
            uri = set.query(&format!("limit={PAGE}"));
            continue;
        }
        let body = response.into_body().collect().await?.to_bytes();
        BYTES.fetch_add(body.len() as u64, Ordering::Relaxed);
        // What there is to know stands before the items.
        let end = body.windows(ITEMS.len()).position(|window| window == ITEMS).ok_or_else(|| format!("{uri}: no items"))?;
        let head: Value = serde_json::from_str(&format!("{}\"items\":[]}}", std::str::from_utf8(&body[..end])?))?;
        match head["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => uri = set.query(&format!("limit={PAGE}&continue={}", token.replace('=', "%3D").replace('+', "%2B"))),
            None => return Ok(head["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()),
        }
    }
}

const ITEMS: &[u8] = b"\"items\":";

/// One watch, to its end; the revision from which the next goes on. `None`: there is none, all must be listed.
async fn watch(client: &Client, set: &Set, from: &str, told: &mut (impl FnMut(&[u8]) + Send)) -> Result<Option<String>, Failure> {
    let uri = set.query(&format!("watch=true&timeoutSeconds={SPAN}&allowWatchBookmarks=true&resourceVersion={from}"));
    let response = get(client, &uri).await?;
    if response.status() == GONE {
        return Ok(None);
    }
    let mut body = response.into_body();
    let (mut line, mut last) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let Some(mut rest) = frame.data_ref().map(|data| data.as_ref()) else { continue };
        BYTES.fetch_add(rest.len() as u64, Ordering::Relaxed);
        // An event is a line, and no line break is within one.
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            EVENTS.fetch_add(1, Ordering::Relaxed);
            told(&line);
            std::mem::swap(&mut last, &mut line);
            line.clear();
        }
        line.extend_from_slice(rest);
    }
    if last.is_empty() {
        return Ok(Some(from.to_owned()));
    }
    let last: Value = serde_json::from_slice(&last)?;
    Ok(last["object"]["metadata"]["resourceVersion"].as_str().filter(|_| last["type"] != "ERROR").map(str::to_owned))
}
