//! One invocation: its flags, its connection, its output.
//!
//! The connection and the catalog are made when first needed, so that `config` and `--dry-run=client` work without a server where they can.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use futures::{AsyncBufReadExt, Stream, TryStreamExt};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::catalog::Catalog;
use super::error::{Error, Result};
use super::flags::Global;
use super::kubeconfig;

/// The table form of lists, else the plain one.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// Plain JSON.
pub const JSON: &str = "application/json";

/// The connection and what the kubeconfig says about it.
pub struct Connection {
    /// Sends requests.
    pub client: Client,
    /// Where to, for messages.
    pub server: String,
    /// The context's namespace.
    pub namespace: String,
}

/// One invocation.
pub struct Session {
    /// Flags that all verbs share.
    pub global: Global,
    connection: OnceCell<Connection>,
    catalog: OnceCell<Catalog>,
    out: Mutex<Box<dyn Write + Send>>,
}

/// One event of a watch.
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`.
    pub kind: String,
    /// The object, or a table with one row.
    pub object: Value,
}

impl Session {
    /// A session that prints to standard output.
    pub fn new(global: Global) -> Session {
        let out: Box<dyn Write + Send> = Box::new(io::BufWriter::new(io::stdout()));
        Session { global, connection: OnceCell::new(), catalog: OnceCell::new(), out: Mutex::new(out) }
    }

    /// A session over a given connection that prints to `out`.
    #[cfg(test)]
    pub fn with(global: Global, connection: Connection, out: Box<dyn Write + Send>) -> Session {
        Session { global, connection: OnceCell::new_with(Some(connection)), catalog: OnceCell::new(), out: Mutex::new(out) }
    }

    /// Prints `text` as it is.
    pub fn print(&self, text: &str) -> Result<()> {
        self.write(text.as_bytes())
    }

    /// Prints a line, at once: others may read it through a pipe while we wait.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut out = self.out.lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Writes bytes, at once.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut out = self.out.lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Pushes out what is buffered. A reader that is gone is no error at the end.
    pub fn flush(&self) {
        let _ = self.out.lock().flush();
    }

    /// A line for the user beside the output.
    pub fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    /// The connection, made when first needed.
    pub async fn connection(&self) -> Result<&Connection> {
        self.connection.get_or_try_init(|| async { kubeconfig::connect(&self.global) }).await
    }

    /// What the server serves, asked when first needed.
    pub async fn catalog(&self) -> Result<&Catalog> {
        self.catalog.get_or_try_init(|| Catalog::discover(self)).await
    }

    /// The client itself, for exec, attach and port-forward.
    pub async fn client(&self) -> Result<Client> {
        Ok(self.connection().await?.client.clone())
    }

    /// The namespace of this command: the flag, else the context's.
    pub async fn namespace(&self) -> Result<String> {
        match &self.global.namespace {
            Some(namespace) => Ok(namespace.clone()),
            None if self.connection.get().is_some() => Ok(self.connection().await?.namespace.clone()),
            None => kubeconfig::namespace(&self.global),
        }
    }

    /// Sends one request; an answer of 400 and above is an error.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Body>> {
        let connection = self.connection().await?;
        let shown = format!("{} {}", request.method(), request.uri());
        let verbose = self.global.verbosity.unwrap_or(0) >= 6;
        let sent = connection.client.send(request.map(Body::from));
        let answer = match self.global.request_timeout.filter(|limit| !limit.is_zero() && *limit != Duration::MAX) {
            None => sent.await,
            Some(limit) => tokio::time::timeout(limit, sent).await.map_err(|_| Error::RequestTimeout(limit))?,
        };
        let answer = answer.map_err(|error| from_kube(error, &connection.server))?;
        if verbose {
            self.note(&format!("{shown} {}", answer.status()));
        }
        for warning in answer.headers().get_all(http::header::WARNING) {
            if let Some(text) = warning.to_str().ok().and_then(warning_text) {
                self.note(&format!("Warning: {text}"));
            }
        }
        let code = answer.status();
        if !code.is_client_error() && !code.is_server_error() {
            return Ok(answer);
        }
        let body = answer.into_body().collect().await.map_err(|error| from_kube(error, &connection.server))?.to_bytes();
        let status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| Status {
            // A proxy, or a path that nobody serves: the text is all there is.
            message: Some(match String::from_utf8_lossy(&body).trim() {
                "" => code.to_string(),
                text => text.chars().take(2048).collect(),
            }),
            reason: (code == http::StatusCode::NOT_FOUND).then(|| "NotFound".into()),
            code: Some(code.as_u16().into()),
            ..Status::default()
        });
        Err(Error::Api(Box::new(status)))
    }

    /// GETs `path` as text.
    pub async fn text(&self, path: &str, accept: &str) -> Result<String> {
        let request = Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new())?;
        let body = self.body(request).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn body(&self, request: Request<Vec<u8>>) -> Result<bytes::Bytes> {
        let server = &self.connection().await?.server;
        let answer = self.send(request).await?;
        let body = answer.into_body().collect().await.map_err(|error| from_kube(error, server))?;
        Ok(body.to_bytes())
    }

    /// GETs `path`.
    pub async fn get(&self, path: &str, accept: &str) -> Result<Value> {
        let request = Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new())?;
        decode(&self.body(request).await?)
    }

    /// Sends `body` as JSON.
    pub async fn change(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.change_as(method, path, JSON, body).await
    }

    /// Sends `body` with a content type of its own, as patches have.
    pub async fn change_as(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Result<Value> {
        let builder = Request::builder().method(method).uri(path).header(http::header::ACCEPT, JSON);
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        decode(&self.body(builder.header(http::header::CONTENT_TYPE, content_type).body(bytes)?).await?)
    }

    /// Lists `path` with all its pages, as plain objects.
    pub async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.list_by(path, query, 500).await
    }

    /// The same, with so many objects in a page; 0: all.
    pub async fn list_by(&self, path: &str, query: &[(&str, &str)], page: i64) -> Result<Value> {
        let limit = page.to_string();
        let mut whole: Option<Value> = None;
        let mut more = String::new();
        loop {
            let mut query = query.to_vec();
            query.push(("limit", &limit));
            if !more.is_empty() {
                query.push(("continue", &more));
            }
            let page = self.get(&with_query(path, &query), JSON).await?;
            let next = page["metadata"]["continue"].as_str().unwrap_or_default().to_string();
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => {
                    let items = page["items"].as_array().cloned().unwrap_or_default();
                    if let Some(all) = whole.get_mut("items").and_then(Value::as_array_mut) {
                        all.extend(items);
                    }
                }
            }
            if next.is_empty() {
                let mut whole = whole.expect("at least one page was read");
                if let Some(meta) = whole.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.remove("continue");
                    meta.remove("remainingItemCount");
                }
                return Ok(whole);
            }
            more = next;
        }
    }

    /// Watches `path`; ends when the server ends it.
    pub async fn watch(
        &self,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
    ) -> Result<impl Stream<Item = Result<Event>> + Unpin + use<>> {
        let mut query = query.to_vec();
        query.push(("watch", "true"));
        let request = Request::get(with_query(path, &query)).header(http::header::ACCEPT, accept).body(Vec::new())?;
        let body = self.send(request).await?.into_body().into_data_stream().map_err(io::Error::other);
        let lines = body.into_async_read().lines().map_err(Error::Stream);
        Ok(Box::pin(lines.try_filter(|line| futures::future::ready(!line.is_empty())).and_then(|line| async move {
            let mut event: Value = decode(line.as_bytes())?;
            let object = event["object"].take();
            if event["type"] == "ERROR" {
                let status = serde_json::from_value(object).map_err(|source| Error::Json { what: "a watch's error", source })?;
                return Err(Error::Api(Box::new(status)));
            }
            Ok(Event { kind: event["type"].as_str().unwrap_or_default().to_string(), object })
        })))
    }
}

fn decode(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|source| Error::Json { what: "the server's answer is no JSON", source })
}

/// The quoted text of `299 - "..."`.
fn warning_text(header: &str) -> Option<String> {
    let (_, quoted) = header.split_once('"')?;
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            '"' => return Some(text),
            c => text.push(c),
        }
    }
    None
}

/// Sorts out what the transport says.
pub fn from_kube(error: kube::Error, server: &str) -> Error {
    if let kube::Error::Api(status) = &error {
        let value = serde_json::to_value(status).and_then(serde_json::from_value);
        return match value {
            Ok(status) => Error::Api(status),
            Err(source) => Error::Json { what: "the server's status", source },
        };
    }
    let mut causes: VecDeque<&(dyn std::error::Error + 'static)> = VecDeque::from([&error as _]);
    while let Some(cause) = causes.pop_front() {
        let refused = cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            return Error::Refused(server.to_string());
        }
        causes.extend(cause.source());
    }
    Error::Connect(error)
}

/// `path` with query parameters.
pub fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut full = path.to_string();
    for (at, (name, value)) in query.iter().enumerate() {
        let start = if at == 0 && !path.contains('?') { '?' } else { '&' };
        full.push(start);
        full.push_str(name);
        full.push('=');
        full.push_str(&escape(value));
    }
    full
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_warnings() {
        assert_eq!(
            with_query("/api/v1/pods", &[("labelSelector", "a in (b,c)"), ("x", "")]),
            "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29&x="
        );
        assert_eq!(with_query("/a?b=c", &[("d", "e")]), "/a?b=c&d=e");
        assert_eq!(warning_text(r#"299 - "unknown field \"x\"""#).as_deref(), Some("unknown field \"x\""));
        assert_eq!(warning_text("299 - x"), None);
    }
}
