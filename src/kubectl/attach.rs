//! `attach`: connects to the process that a container runs.

use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;

use super::error::{Error, Result};
use super::exec::{allocate, interact, params, refuse_finished};
use super::flags::{Streams, duration};
use super::logs::Logs;
use super::pods;
use super::session::{JSON, Session, escape, from_kube};
use super::verb::Verb;

/// Flags of `attach`.
#[derive(Args, Clone, Debug)]
pub struct Attach {
    /// POD or TYPE/NAME
    pub words: Vec<String>,
    /// Container
    #[arg(short = 'c', long)]
    pub container: Option<String>,
    #[command(flatten)]
    pub streams: Streams,
    /// How long to wait for a pod
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub pod_running_timeout: Duration,
}

impl Verb for Attach {
    const NAME: &'static str = "attach";
    const ABOUT: &'static str = "Attach to a running container";

    async fn run(self, session: &Session) -> Result<i32> {
        let pod = pods::one(session, &self.words, self.pod_running_timeout).await?;
        refuse_finished(&pod)?;
        let container = pods::container(session, &pod, self.container.as_deref())?;
        attach(session, &pod, &container, self.streams).await
    }
}

/// Waits until a container has run, and attaches to it, or shows what it wrote if it ended meanwhile or can't be attached to.
pub async fn when_started(session: &Session, pod: &Value, container: &str, streams: Streams) -> Result<i32> {
    let mut told = String::new();
    let pod = until(session, pod, |pod| {
        let Some(status) = pods::status(pod, container) else { return false };
        let why = status["state"]["waiting"]["message"].as_str().unwrap_or_default();
        if !streams.quiet && !why.is_empty() && why != told {
            session.note(&format!("Warning: container {container}: {why}"));
            told = why.into();
        }
        ["running", "terminated"].iter().any(|state| !status["state"][state].is_null())
    })
    .await?;
    let (_, name) = pods::place(&pod);
    let ended = pods::status(&pod, container).is_some_and(|status| !status["state"]["terminated"].is_null());
    if !ended {
        match attach(session, &pod, container, streams).await {
            Err(error) if !error.is_broken_pipe() => {
                let why = error.plain();
                session.note(&format!("warning: couldn't attach to pod/{name}, falling back to streaming logs: {why}"));
            }
            other => return other,
        }
    }
    let logs = Logs { words: vec![name.into()], container: Some(container.into()), max_log_requests: 1, ..Logs::default() };
    logs.run(session).await
}

/// Watches a pod until this holds of it.
pub async fn until(session: &Session, pod: &Value, mut holds: impl FnMut(&Value) -> bool) -> Result<Value> {
    let (namespace, name) = pods::place(pod);
    let path = format!("/api/v1/namespaces/{}/pods", escape(namespace));
    let selector = format!("metadata.name={name}");
    // A watch may end at any time; then everything starts anew.
    loop {
        let query = [("fieldSelector", selector.as_str()), ("timeoutSeconds", "300")];
        let mut events = session.watch(&path, &query, JSON).await?;
        while let Some(event) = events.try_next().await? {
            if event.kind == "DELETED" {
                return Error::usage(format!("pod {name} was deleted"));
            }
            if holds(&event.object) {
                return Ok(event.object);
            }
        }
    }
}

/// Connects our streams with a container's, with input and with a terminal where they are wanted and the container has them. The result is
/// its exit code.
pub async fn attach(session: &Session, pod: &Value, container: &str, streams: Streams) -> Result<i32> {
    let Streams { stdin, tty, quiet } = streams;
    let own = pods::find(pod, container);
    let has = |field: &str| own.is_some_and(|own| own[field] == true);
    let (namespace, name) = pods::place(pod);
    if stdin && !has("stdin") {
        return Error::usage(format!("container {container} of pod {name} was not created with stdin: true"));
    }
    // A container with a terminal writes to it, whether we asked for one or not.
    if tty && !has("tty") {
        session.note(&format!("error: Unable to use a TTY - container {container} did not allocate one"));
    }
    let tty = has("tty") && (allocate(session, tty, stdin) || !stdin);
    if !quiet && stdin {
        session.note("If you don't see a command prompt, try pressing enter.");
    }
    let api: Api<Pod> = Api::namespaced(session.client().await?, namespace);
    let server = &session.connection().await?.server;
    let process = api.attach(name, &params(container, stdin, tty)).await.map_err(|error| from_kube(error, server))?;
    interact(session, process, stdin, tty).await
}
