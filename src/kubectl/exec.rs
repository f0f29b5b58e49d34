//! `exec`: runs a command in a container; and the streams that `attach` and `cp` share with it.
//!
//! Follows `kubectl/pkg/cmd/exec/exec.go`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::error::{Error, Result};
use super::flags::{Streams, duration};
use super::pods;
use super::session::{Session, from_kube};
use super::terminal;
use super::verb::Verb;

/// Bytes that wait between the network and us.
pub const BUFFER: usize = 64 * 1024;

/// Flags of `exec`.
#[derive(Args, Clone, Debug)]
pub struct Exec {
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
    /// The command, after --
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl Verb for Exec {
    const NAME: &'static str = "exec";
    const ABOUT: &'static str = "Execute a command in a container";

    async fn run(self, session: &Session) -> Result<i32> {
        if self.words.is_empty() {
            return Error::usage("pod, type/name or --filename must be specified");
        }
        if self.command.is_empty() {
            return Error::usage(match self.words.len() {
                1 => "you must specify at least one command for the container",
                _ => "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead",
            });
        }
        let pod = pods::one(session, &self.words, self.pod_running_timeout).await?;
        refuse_finished(&pod)?;
        let container = pods::container(session, &pod, self.container.as_deref())?;
        let Streams { stdin, tty, .. } = self.streams;
        let tty = allocate(session, tty, stdin);
        let params = params(&container, stdin, tty);
        let (namespace, name) = pods::place(&pod);
        let process = start(session, namespace, name, &self.command, &params).await?;
        interact(session, process, stdin, tty).await
    }
}

/// A pod that is over runs nothing any more.
pub fn refuse_finished(pod: &serde_json::Value) -> Result<()> {
    match pod["status"]["phase"].as_str() {
        Some(phase @ ("Succeeded" | "Failed")) => {
            Error::usage(format!("cannot exec into a container in a completed pod; current phase is {phase}"))
        }
        _ => Ok(()),
    }
}

/// A terminal is only asked for where there is one.
pub fn allocate(session: &Session, wanted: bool, stdin: bool) -> bool {
    if wanted && stdin && !std::io::stdin().is_terminal() {
        session.note("Unable to use a TTY - input is not a terminal or the right kind of file");
        return false;
    }
    wanted
}

/// What is attached. With a terminal, standard error comes with standard output.
pub fn params(container: &str, stdin: bool, tty: bool) -> AttachParams {
    AttachParams::default()
        .container(container)
        .stdin(stdin)
        .stdout(true)
        .stderr(!tty)
        .tty(tty)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER)
}

/// Starts a command.
pub async fn start(session: &Session, namespace: &str, pod: &str, command: &[String], params: &AttachParams) -> Result<AttachedProcess> {
    let api: Api<Pod> = Api::namespaced(session.client().await?, namespace);
    let server = &session.connection().await?.server;
    api.exec(pod, command, params).await.map_err(|error| from_kube(error, server))
}

/// Connects our streams with the process's until it ends. The result is its exit code.
pub async fn interact(session: &Session, mut process: AttachedProcess, stdin: bool, tty: bool) -> Result<i32> {
    let raw = if tty && stdin { terminal::Raw::enter()? } else { None };
    let status = process.take_status();
    let sizes = process.terminal_size().filter(|_| tty);
    let writer = process.stdin().filter(|_| stdin);
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let helpers = async {
        tokio::join!(resize(sizes), async {
            if let Some(mut writer) = writer {
                let mut input = terminal::input();
                while let Some(bytes) = input.recv().await {
                    // The process may have closed its end; its status tells the rest.
                    if writer.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                let _ = writer.shutdown().await;
            }
        });
        // Input may end long before the process does.
        std::future::pending::<()>().await;
    };
    let output = async {
        let out = copy(stdout, |bytes| session.write(bytes));
        let err = copy(stderr, |bytes| std::io::Write::write_all(&mut std::io::stderr(), bytes).map_err(Error::Output));
        tokio::try_join!(out, err).map(drop)
    };
    tokio::select! {
        result = output => result?,
        () = helpers => {}
    }
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    process.join().await.map_err(|error| Error::Remote(Box::new(error)))?;
    drop(raw);
    finish(session, status)
}

/// Turns the status that ends a stream into an exit code.
pub fn finish(session: &Session, status: Option<Status>) -> Result<i32> {
    let Some(status) = status else {
        return Error::usage("the connection ended before the command's exit code was known");
    };
    match exit_code(&status) {
        Some(0) => Ok(0),
        Some(code) => {
            session.note(&format!("command terminated with exit code {code}"));
            Ok(code)
        }
        None => Err(Error::Api(Box::new(status))),
    }
}

/// The exit code that a status tells; `None` if the command never ran.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    if status.reason.as_deref() != Some("NonZeroExitCode") {
        return None;
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    causes.into_iter().find(|cause| cause.reason.as_deref() == Some("ExitCode")).and_then(|cause| cause.message.as_deref()?.parse().ok())
}

/// Copies what a stream gives.
pub async fn copy(stream: Option<impl AsyncRead + Unpin>, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await.map_err(Error::Stream)? {
            0 => return Ok(()),
            length => to(&buffer[..length])?,
        }
    }
}

/// Tells the size of our terminal, now and whenever it changes.
async fn resize(sizes: Option<impl SinkExt<TerminalSize> + Unpin>) {
    let Some(mut sizes) = sizes else { return };
    // Without the signal, the size at the start is still right most of the time.
    let mut changes = signal(SignalKind::window_change()).ok();
    loop {
        if let Some((width, height)) = terminal::size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        let changed = match &mut changes {
            Some(changes) => changes.recv().await,
            None => None,
        };
        if changed.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        for (yaml, expected) in [
            ("{status: Success}", Some(0)),
            ("{status: Failure, reason: NonZeroExitCode, details: {causes: [{reason: ExitCode, message: '3'}]}}", Some(3)),
            ("{status: Failure, reason: InternalError, message: no}", None),
            ("{status: Failure, reason: NonZeroExitCode}", None),
        ] {
            assert_eq!(exit_code(&serde_yaml::from_str(yaml).unwrap()), expected, "{yaml}");
        }
    }
}
