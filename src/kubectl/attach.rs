//! `attach`: connects to the process that a container runs.

use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::error::{Error, Result};
use super::exec::{allocate, interact, params, refuse_finished};
use super::flags::{Streams, duration};
use super::pods;
use super::session::{Session, from_kube};
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

/// Connects our streams with a container's, with input and with a terminal where they are wanted and the container has them. The result is
/// its exit code.
pub async fn attach(session: &Session, pod: &serde_json::Value, container: &str, streams: Streams) -> Result<i32> {
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
