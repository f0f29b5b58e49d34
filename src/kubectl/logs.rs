//! `logs`: what containers wrote.
//!
//! Follows `kubectl/pkg/cmd/logs/logs.go`.

use std::time::Duration;

use clap::Args;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use futures::{AsyncBufReadExt, FutureExt, TryStreamExt};
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;

use super::error::{Error, Result};
use super::flags::duration;
use super::pods;
use super::session::{Session, escape, with_query};
use super::target;
use super::verb::Verb;

/// Most containers that are followed at once.
const MAX_REQUESTS: usize = 5;

/// Flags of `logs`.
#[derive(Args, Clone, Debug, Default)]
pub struct Logs {
    /// POD, or TYPE/NAME; then the container
    pub words: Vec<String>,
    /// Container
    #[arg(short = 'c', long)]
    pub container: Option<String>,
    /// Keep reading
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Of the container before the last restart
    #[arg(short = 'p', long)]
    pub previous: bool,
    /// Lines from the end; -1: all
    #[arg(long, allow_hyphen_values = true)]
    pub tail: Option<i64>,
    /// Not older than this
    #[arg(long, value_parser = duration)]
    pub since: Option<Duration>,
    /// Not older than this moment (RFC 3339)
    #[arg(long)]
    pub since_time: Option<String>,
    /// With the time of each line
    #[arg(long)]
    pub timestamps: bool,
    /// At most this many bytes
    #[arg(long)]
    pub limit_bytes: Option<u64>,
    /// All containers of the pod
    #[arg(long)]
    pub all_containers: bool,
    /// All pods of the workload
    #[arg(long)]
    pub all_pods: bool,
    /// Pods with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Name pod and container in each line
    #[arg(long)]
    pub prefix: bool,
    /// Go on when one container's logs cannot be read
    #[arg(long)]
    pub ignore_errors: bool,
    /// Most containers that are followed at once
    #[arg(long, default_value_t = MAX_REQUESTS)]
    pub max_log_requests: usize,
}

/// One container whose logs are read.
struct Source {
    path: String,
    prefix: String,
}

impl Verb for Logs {
    const NAME: &'static str = "logs";
    const ABOUT: &'static str = "Print the logs of a container in a pod";
    const ALIASES: &'static [&'static str] = &["log"];

    async fn run(mut self, session: &Session) -> Result<i32> {
        if self.since.is_some() && self.since_time.is_some() {
            return Error::usage("at most one of sinceTime or sinceSeconds may be specified");
        }
        if self.tail.is_some_and(|tail| tail < -1) {
            return Error::usage("--tail must be greater than or equal to -1");
        }
        let pods = self.pods(session).await?;
        let sources = self.sources(session, &pods)?;
        if let [source] = sources.as_slice() {
            return self.copy(session, source).await.map(|()| 0);
        }
        if self.follow && sources.len() > self.max_log_requests {
            return Error::usage(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
                sources.len(),
                self.max_log_requests
            ));
        }
        let at_once = if self.follow { sources.len().max(1) } else { 1 };
        let flags = &self;
        let readers: Vec<BoxFuture<'_, Result<()>>> = sources.iter().map(|source| flags.lines(session, source).boxed()).collect();
        let mut results = stream::iter(readers).buffer_unordered(at_once);
        while let Some(result) = results.next().await {
            match result {
                Err(error) if self.ignore_errors && error.status().is_some() => session.note(&error.to_string()),
                other => other?,
            }
        }
        Ok(0)
    }
}

impl Logs {
    async fn pods(&mut self, session: &Session) -> Result<Vec<Value>> {
        if let Some(selector) = &self.selector {
            if !self.words.is_empty() {
                return Error::usage("only a selector (-l) or a POD name is allowed");
            }
            crate::api::selector::LabelSelector::parse(selector)?;
            self.tail = self.tail.or(Some(10));
            let resource = session.catalog().await?.resolve("pods")?.clone();
            let list = session.list(&resource.path(Some(&session.namespace().await?), None), &[("labelSelector", selector)]).await?;
            let found = list["items"].as_array().cloned().unwrap_or_default();
            if found.is_empty() {
                session.note(&format!("No resources found in {} namespace.", session.namespace().await?));
            }
            return Ok(found);
        }
        let (name, container) = match self.words.as_slice() {
            [name] => (name.clone(), None),
            [name, container] => (name.clone(), Some(container.clone())),
            _ => {
                return Error::usage(
                    "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
                );
            }
        };
        if container.is_some() && self.container.is_some() {
            return Error::usage("only one of -c or an inline [CONTAINER] arg is allowed");
        }
        self.container = self.container.take().or(container);
        let target = target::single(session, &[name], "pods").await?;
        let mut found = pods::of(session, &target).await?;
        if found.is_empty() {
            return Error::usage(format!("no pods found for {}", target.resource.named(target.name.as_deref().unwrap_or_default())));
        }
        if found.len() > 1 && !self.all_pods {
            session.note(&format!("Found {} pods, using pod/{}", found.len(), pods::place(&found[0]).1));
            found.truncate(1);
        }
        Ok(found)
    }

    fn sources(&self, session: &Session, found: &[Value]) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for pod in found {
            let (namespace, name) = pods::place(pod);
            let containers: Vec<String> = match self.all_containers {
                true => ["initContainers", "containers", "ephemeralContainers"]
                    .iter()
                    .flat_map(|list| pods::containers(pod, list))
                    .map(str::to_string)
                    .collect(),
                false => vec![pods::container(session, pod, self.container.as_deref())?],
            };
            for container in containers {
                let path = format!("/api/v1/namespaces/{}/pods/{}/log", escape(namespace), escape(name));
                let prefix = if self.prefix { format!("[pod/{name}/{container}] ") } else { String::new() };
                sources.push(Source { path: self.query(&path, &container), prefix });
            }
        }
        Ok(sources)
    }

    fn query(&self, path: &str, container: &str) -> String {
        let mut query = vec![("container", container.to_string())];
        for (name, flag) in [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)] {
            query.extend(flag.then(|| (name, "true".to_string())));
        }
        query.extend(self.tail.filter(|tail| *tail >= 0).map(|tail| ("tailLines", tail.to_string())));
        // Rounded up, as upstream: nothing that was asked for may be left out.
        query.extend(self.since.filter(|since| !since.is_zero()).map(|since| ("sinceSeconds", since.as_secs_f64().ceil().to_string())));
        query.extend(self.since_time.clone().map(|time| ("sinceTime", time)));
        query.extend(self.limit_bytes.map(|limit| ("limitBytes", limit.to_string())));
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        with_query(path, &query)
    }

    /// One container alone: bytes as they come.
    async fn copy(&self, session: &Session, source: &Source) -> Result<()> {
        if !source.prefix.is_empty() {
            return self.lines(session, source).await;
        }
        let mut body = session.send(Request::get(&source.path).body(Vec::new())?).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| super::session::from_kube(error, "server"))?;
            if let Ok(bytes) = frame.into_data() {
                session.write(&bytes)?;
            }
        }
        Ok(())
    }

    /// One of several: whole lines, so that they do not mix.
    async fn lines(&self, session: &Session, source: &Source) -> Result<()> {
        let body = session.send(Request::get(&source.path).body(Vec::new())?).await?.into_body();
        let mut reader = body.into_data_stream().map_err(std::io::Error::other).into_async_read();
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).await.map_err(Error::Stream)? == 0 {
                return Ok(());
            }
            session.write(&[source.prefix.as_bytes(), &line].concat())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    const POD: &str = "{kind: Pod, metadata: {name: a, namespace: default}, spec: {containers: [{name: x}, {name: y}]}}";

    #[tokio::test]
    async fn requests() {
        let answers = [("GET /api/v1/namespaces/default/pods/a", POD), ("GET /api/v1/namespaces/default/pods/a/log", "line")];
        for (line, expected, out) in [
            ("a", "container=x", "\"line\""),
            ("a y -p --tail=5 --timestamps", "container=y&previous=true&timestamps=true&tailLines=5", "\"line\""),
            ("pod/a -c y --since=90s --tail=-1", "container=y&sinceSeconds=90", "\"line\""),
            ("a --prefix", "container=x", "[pod/a/x] \"line\""),
            ("a --all-containers --limit-bytes=9", "container=x&limitBytes=9", "\"line\"\"line\""),
        ] {
            let (session, record) = support::session(&answers);
            let matches =
                <Logs as Args>::augment_args(clap::Command::new("logs")).get_matches_from(std::iter::once("logs").chain(line.split(' ')));
            let logs = <Logs as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
            assert_eq!(logs.run(&session).await.unwrap(), 0, "{line}");
            assert_eq!(record.requests()[1], format!("GET /api/v1/namespaces/default/pods/a/log?{expected}"), "{line}");
            assert_eq!(record.output(), out, "{line}");
        }
    }
}
