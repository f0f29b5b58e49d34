//! What a worker makes of the answers to its steps, and of its probes' verdicts.
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio::task::AbortHandle;

use super::past::instance;
use super::{Done, Message, Worker};
use crate::agent::actions::{ImageFailure, StartFailure};
use crate::agent::observed::{self, Doing, Image, Instance, Restart, Sandbox, Volumes};
use crate::agent::plan::{backoff, later};
use crate::agent::probes::check::Target;
use crate::agent::probes::{self, Kind, Report};
use crate::agent::roles::{Role, find, role};
use crate::client::code;
use crate::runtime::image::Image as RunImage;
use crate::runtime::{ContainerState, Phase, Runtime};
impl<R: Runtime> Worker<R> {
    pub(super) fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Sandbox(Ok((pid, ip))) => {
                self.sandbox_failures = 0;
                self.have.sandbox = Sandbox::Ready { pid, ip };
            }
            Done::Sandbox(Err(error)) => {
                tracing::warn!(%error, pod = self.job.uid(), "a sandbox can't be made");
                self.sandbox_failures += 1;
                self.have.sandbox = Sandbox::Failed { retry: later(now, backoff(self.sandbox_failures).min(Duration::from_secs(60))) };
            }
            // Too late: the pod is being cleaned up.
            Done::Volumes(Ok(_)) if self.have.volumes == Volumes::Absent => {}
            Done::Volumes(Ok(mounted)) => {
                self.have.volumes = Volumes::Ready;
                self.volumes = mounted.paths.clone();
                self.keep_fresh(mounted);
            }
            Done::Volumes(Err(error)) => {
                tracing::warn!(%error, pod = self.job.uid(), "volumes can't be set up");
                if self.have.volumes == Volumes::Mounting {
                    self.have.volumes = Volumes::Failed { retry: later(now, Duration::from_secs(2)) };
                }
            }
            Done::Stale => {}
            Done::Image(name, result) => self.image_done(name, result),
            Done::Started(name, attempt, result) => self.started(name, attempt, result),
            Done::Hooked(name, result) => self.hooked(name, result),
            Done::Stopped(name) => {
                let seen = self.seen(&name);
                if matches!(seen.doing, Some(Doing::Stopping { .. })) {
                    seen.doing = None;
                }
            }
            Done::Resized(pod, running, result) => self.resized(&pod, &running, result),
            Done::Removed(Ok(())) => {
                self.have.sandbox = Sandbox::Absent;
                self.have.volumes = Volumes::Absent;
            }
            Done::Removed(Err(error)) => {
                tracing::warn!(%error, pod = self.job.uid(), "a sandbox can't be removed, trying again");
                // Not absent, so that the plan removes it again.
                self.have.sandbox = Sandbox::Ready { pid: 0, ip: None };
            }
            Done::Sent(status, result) => self.was_sent(*status, result),
            Done::Deleted(result) => match result.as_ref().map_err(code) {
                Ok(()) | Err(Some(404 | 409)) => {
                    self.have.finished = true;
                    self.clean();
                }
                Err(_) => self.have.finishing = false,
            },
        }
    }

    pub(super) fn image_done(&mut self, name: String, result: Result<Box<RunImage>, ImageFailure>) {
        let now = self.now();
        let seen = self.seen(&name);
        if seen.doing == Some(Doing::Image) {
            seen.doing = None;
        }
        match result {
            Ok(image) => {
                seen.image = Image::Present;
                seen.pull_failures = 0;
                self.images.insert(name, *image);
            }
            Err(failure) => {
                seen.pull_failures += 1;
                let (reason, message) = (failure.reason, failure.message);
                let retry = later(now, backoff(seen.pull_failures));
                seen.image = Image::Failed { reason, message, retry };
                seen.pull_told = false;
            }
        }
    }

    pub(super) fn started(&mut self, name: String, attempt: u32, result: Result<ContainerState, StartFailure>) {
        let now = self.now();
        let Some(container) = find(&self.job.pod, &name) else { return };
        match result {
            Ok(state) => {
                self.ends.insert(name.clone(), Default::default());
                let seen = self.seen(&name);
                seen.error = None;
                let old = seen.current.take();
                let before = std::mem::replace(&mut seen.last, old);
                seen.current = instance(&state);
                seen.started = container.startup_probe.is_none();
                seen.ready = container.startup_probe.is_none() && container.readiness_probe.is_none();
                seen.image = Image::Unknown;
                self.settle();
                // Only the last dead run is kept, for `logs --previous`.
                if let Some(before) = before {
                    self.forget(&name, before.attempt);
                }
                if let Some(Phase::Exited { .. }) = self.have.container(&name).and_then(|s| s.current.as_ref()).map(|i| &i.phase) {
                    self.ended(&name);
                }
            }
            Err(failure) if failure.is_final && role(&self.job.pod, &name) == Role::Ephemeral => self.never_ran(&container, failure),
            Err(failure) => {
                let seen = self.seen(&name);
                seen.doing = None;
                seen.crashes = seen.crashes.max(1);
                seen.pull_failures = 0;
                let wait = backoff(attempt.saturating_add(seen.crashes).min(3));
                seen.error = Some(observed::StartFailure { reason: failure.reason, message: failure.message, retry: later(now, wait) });
                seen.crashes += 1;
            }
        }
    }

    /// A container that gets one run could not use it: as upstream's runtimes say, that was its end.
    fn never_ran(&mut self, container: &Container, failure: StartFailure) {
        let now = self.now();
        let image_id = self.images.get(&container.name).map(|image| image.repo_digests.first().unwrap_or(&image.id).clone());
        let seen = self.seen(&container.name);
        (seen.doing, seen.error) = (None, None);
        seen.current = Some(Instance {
            attempt: 0,
            phase: Phase::Exited { code: 128, oom_killed: false, started: Timestamp::UNIX_EPOCH, finished: now },
            message: Some(failure.message),
            reason: Some("StartError".into()),
            image: container.image.clone().unwrap_or_default(),
            image_id: image_id.unwrap_or_default(),
            hash: String::new(),
        });
    }

    pub(super) fn hooked(&mut self, name: String, result: Result<(), String>) {
        let seen = self.seen(&name);
        if seen.doing == Some(Doing::Starting) {
            seen.doing = None;
        }
        match result {
            Ok(()) => self.probe(&name),
            Err(why) => {
                tracing::debug!(why, container = name, "postStart hook failed");
                seen.restart = Some(Restart { why: "FailedPostStartHook".into(), grace: None });
            }
        }
    }

    /// Removes a dead run from the runtime, with its log.
    pub(super) fn forget(&mut self, name: &str, attempt: u32) {
        let (job, name) = (self.job.clone(), name.to_owned());
        self.tasks.spawn(async move {
            if let Err(error) = job.context.runtime.remove_container(job.uid(), &Instance::id(&name, attempt)).await {
                tracing::warn!(%error, container = name, attempt, "a dead container can't be removed");
            }
            let meta = &job.pod.metadata;
            let (namespace, pod) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
            let log = job.context.config.log_path(namespace, pod, job.uid(), &name, attempt);
            if let Err(error) = tokio::fs::remove_file(&log).await {
                tracing::debug!(%error, log = %log.display(), "a log can't be removed");
            }
        });
    }

    /// Starts the probes of a running container.
    pub(super) fn probe(&mut self, name: &str) {
        let Some(container) = find(&self.job.pod, name) else { return };
        let Some(Instance { attempt, phase: Phase::Running { started, .. }, .. }) =
            self.have.container(name).and_then(|s| s.current.clone())
        else {
            return;
        };
        if container.startup_probe.is_none() && container.liveness_probe.is_none() && container.readiness_probe.is_none() {
            return;
        }
        let subject = probes::Subject {
            context: self.job.context.clone(),
            pod: self.job.pod.clone(),
            target: Target { sandbox: self.job.uid().into(), id: Instance::id(name, attempt), ip: self.have.ip() },
            container,
            attempt,
            started,
        };
        let inbox = self.inbox.clone();
        let task = self.tasks.spawn(probes::run(subject, move |report| {
            let _ = inbox.send(Message::Probe(report));
        }));
        self.probes.insert(name.to_owned(), task).inspect(AbortHandle::abort);
    }

    pub(super) fn probed(&mut self, report: Report) {
        let container = find(&self.job.pod, &report.container);
        let seen = self.seen(&report.container);
        if seen.current.as_ref().is_none_or(|i| i.attempt != report.attempt || !i.alive()) {
            return;
        }
        match (report.kind, report.passed) {
            (Kind::Readiness, passed) => seen.ready = passed,
            (Kind::Startup, true) => {
                seen.started = true;
                seen.ready = container.is_some_and(|c| c.readiness_probe.is_none());
            }
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                let word = if report.kind == Kind::Startup { "startup" } else { "liveness" };
                let why = format!("Container {} failed {word} probe, will be restarted", report.container);
                seen.restart = Some(Restart { why, grace: report.grace });
            }
        }
    }
}
