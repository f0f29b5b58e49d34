//! One pod's life on this node: a task that keeps what is observed, asks [`plan`] what to do, spawns it, and tells the API.
//!
//! It sleeps until something happens: the pod changes, a container ends, a probe's verdict changes, a step is done, or the time comes
//! that the plan asked for. Steps run beside it and answer through its queue, so that it never waits for one.
mod answers;
mod past;
mod report;
mod resize;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::actions::{ImageFailure, Job, StartFailure};
use super::observed::{Doing, Image, Instance, Observed, Sandbox, Seen, Volumes};
use super::plan::{Step, later, plan, restart_at};
use super::pods::Pods;
use super::probes::Report;
use super::resize::{Allotted, is_due};
use super::roles::{self, find};
use super::spec::SpecError;
use super::status::RESIZE;
use super::volumes::{Mounted, VolumeError};
use crate::client::code;
use crate::runtime::image::Image as RunImage;
use crate::runtime::{ContainerState, Runtime, Sandbox as RunSandbox};

/// What wakes a worker.
pub enum Message {
    /// The pod, as the API has it now.
    Pod(Arc<Pod>),
    /// The pod is no longer in the API.
    Gone,
    /// A container of it ended, or (`None`) the sandbox is gone.
    Exit(Option<String>),
    /// A probe's verdict changed.
    Probe(Report),
    /// A step is done.
    Done(Box<Done>),
}

/// Answers of steps.
pub enum Done {
    /// The sandbox stands (its shim, the pod's address).
    Sandbox(Result<(i32, Option<IpAddr>), String>),
    /// The volumes are there, or are up to date.
    Volumes(Result<Mounted, VolumeError>),
    /// A source of a volume changed, or a token is due.
    Stale,
    /// The image of a container.
    Image(String, Result<Box<RunImage>, ImageFailure>),
    /// A container runs (its state), or could not be started.
    Started(String, u32, Result<ContainerState, StartFailure>),
    /// postStart is over.
    Hooked(String, Result<(), String>),
    /// A stop is over.
    Stopped(String),
    /// Groups were given what this pod is allotted, with these containers, or could not be.
    Resized(Arc<Pod>, Vec<(String, String)>, Result<(), String>),
    /// Sandbox, network and volumes are gone.
    Removed(Result<(), String>),
    /// This status was sent, and made this revision of the pod.
    Sent(Box<PodStatus>, Result<u64, kube::Error>),
    /// The pod was deleted from the API.
    Deleted(Result<(), kube::Error>),
}

/// Where a worker's messages go in.
pub type Inbox = mpsc::UnboundedSender<Message>;

/// State of the worker of one pod.
pub struct Worker<R: Runtime> {
    /// The pod that it goes by: as the API has it, with the resources that it is allotted.
    job: Job<R>,
    /// The pod as the API has it.
    wanted: Arc<Pod>,
    /// The record of its resources, as last written.
    recorded: Vec<u8>,
    /// Rings when there may be room for a resize that waits for some.
    room: Option<watch::Receiver<()>>,
    pods: Pods,
    have: Observed,
    inbox: Inbox,
    messages: mpsc::UnboundedReceiver<Message>,
    tasks: JoinSet<()>,
    images: HashMap<String, RunImage>,
    volumes: BTreeMap<String, PathBuf>,
    refresher: Option<AbortHandle>,
    probes: HashMap<String, AbortHandle>,
    /// Of each running container: its end, and the end of its patience.
    ends: HashMap<String, (CancellationToken, CancellationToken)>,
    sent: PodStatus,
    /// The pod's revision that holds it.
    sent_in: u64,
    sending: bool,
    send_failures: u32,
    send_after: Option<Timestamp>,
    sandbox_failures: u32,
    /// Runs whose end was told before their start was.
    ended_early: HashSet<String>,
}

/// Conditions that the agent writes.
const CONDITIONS: &[&str] = &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", RESIZE[0], RESIZE[1]];

impl<R: Runtime> Worker<R> {
    /// A worker for a pod, with the sandbox that an earlier agent left, if any.
    pub fn new(context: Arc<Context<R>>, pod: Arc<Pod>, pods: Pods, found: Option<(RunSandbox, Option<IpAddr>)>) -> (Worker<R>, Inbox) {
        let (inbox, messages) = mpsc::unbounded_channel();
        let start_time = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or_else(|| context.now(), |t| t.0);
        let mut have = Observed { start_time: Some(start_time), ..Observed::default() };
        if let Some((sandbox, ip)) = &found {
            have.sandbox = Sandbox::Ready { pid: sandbox.pid, ip: *ip };
        }
        let (sent, sent_in) = (report::own(pod.status.clone().unwrap_or_default()), report::revision(&pod));
        let mut worker = Worker {
            job: Job { context, pod: pod.clone() },
            wanted: pod,
            recorded: Vec::new(),
            room: None,
            pods,
            have,
            inbox: inbox.clone(),
            messages,
            tasks: JoinSet::new(),
            images: HashMap::new(),
            volumes: BTreeMap::new(),
            refresher: None,
            probes: HashMap::new(),
            ends: HashMap::new(),
            sent,
            sent_in,
            sending: false,
            send_failures: 0,
            send_after: None,
            sandbox_failures: 0,
            ended_early: HashSet::new(),
        };
        if let Some((sandbox, _)) = found {
            worker.adopt(sandbox.containers);
        } else {
            worker.recall();
        }
        worker.recall_ephemeral();
        worker.recall_resources();
        worker.consider();
        (worker, inbox)
    }

    /// Runs until the pod is finished with and gone from the API. Returns its uid.
    pub async fn run(mut self) -> String {
        loop {
            let wake = self.act();
            self.publish();
            let wake = [wake, self.send_after].into_iter().flatten().min();
            if self.have.finished {
                break;
            }
            let now = self.job.context.now();
            let nap = wake.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            tokio::select! {
                Some(message) = self.messages.recv() => self.take(message).await,
                Some(()) = rings(&mut self.room) => self.consider(),
                () = tokio::time::sleep(nap.unwrap_or_default()), if nap.is_some() => {}
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                },
            }
            // What else has happened meanwhile is one change.
            while let Ok(message) = self.messages.try_recv() {
                self.take(message).await;
            }
        }
        self.pods.remove(self.job.uid());
        self.job.uid().to_owned()
    }

    fn now(&self) -> Timestamp {
        self.job.context.now()
    }

    fn seen(&mut self, name: &str) -> &mut Seen {
        self.have.containers.entry(name.to_owned()).or_default()
    }

    /// Carries out the plan; when to look again.
    fn act(&mut self) -> Option<Timestamp> {
        let mut wake: Option<Timestamp> = None;
        // A failure changes the plan at once.
        for _ in 0..2 {
            let steps = plan(&self.job.pod, &self.have, self.now());
            let mut again = false;
            for step in steps {
                match step {
                    Step::Wake(at) => wake = Some(wake.map_or(at, |w| w.min(at))),
                    Step::Fail(reason, message) => {
                        self.job.context.events.pod(&self.job.pod, None, false, "DeadlineExceeded", message.clone());
                        self.have.failed = Some((reason, message));
                        again = true;
                    }
                    step => self.begin(step),
                }
            }
            if !again {
                break;
            }
        }
        wake
    }

    fn spawn<F: Future<Output = Done> + Send + 'static>(&mut self, work: F) -> AbortHandle {
        let inbox = self.inbox.clone();
        self.tasks.spawn(async move {
            // Fails only if the worker is gone, and then nobody asks.
            let _ = inbox.send(Message::Done(Box::new(work.await)));
        })
    }

    fn begin(&mut self, step: Step) {
        let job = self.job.clone();
        let ip = self.have.ip();
        match step {
            Step::CreateSandbox => {
                self.have.sandbox = Sandbox::Creating;
                self.have.given.group = Some(Allotted::of(&job.pod));
                self.record_resources();
                self.spawn(async move { Done::Sandbox(job.create_sandbox().await) });
            }
            Step::MountVolumes => {
                self.have.volumes = Volumes::Mounting;
                self.spawn(async move { Done::Volumes(job.mount_volumes(ip).await) });
            }
            Step::EnsureImage(name) => {
                let Some(container) = find(&job.pod, &name) else { return };
                self.seen(&name).doing = Some(Doing::Image);
                self.spawn(async move { Done::Image(name, job.ensure_image(&container).await.map(Box::new)) });
            }
            Step::Start(name, attempt) => self.start(name, attempt),
            Step::Resize => {
                self.have.resize.doing = true;
                let (given, running) = (self.have.given.clone(), self.running());
                self.spawn(async move {
                    let result = job.resize(&given, &running).await;
                    Done::Resized(job.pod, running, result)
                });
            }
            Step::Stop { container, grace, why } => self.stop(container, grace, why),
            Step::Kill(name) => {
                if let Some((_, hurry)) = self.ends.get(&name) {
                    hurry.cancel();
                }
                let now = self.now();
                self.seen(&name).doing = Some(Doing::Stopping { deadline: now });
            }
            Step::RemoveSandbox => {
                self.refresher.take().inspect(AbortHandle::abort);
                self.have.sandbox = Sandbox::Removing;
                self.spawn(async move {
                    let result = job.remove_sandbox().await;
                    if result.is_err() {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                    Done::Removed(result)
                });
            }
            Step::Finish => self.finish(),
            Step::Fail(..) | Step::Wake(_) => {}
        }
    }

    fn start(&mut self, name: String, attempt: u32) {
        let Some(image) = self.images.get(&name).cloned() else {
            // Adopted, and its image was never looked at here.
            self.seen(&name).image = Image::Unknown;
            return;
        };
        let Some(container) = find(&self.job.pod, &name) else { return };
        let seen = self.seen(&name);
        seen.doing = Some(Doing::Starting);
        seen.again = false;
        if seen.current.is_some() {
            let ran_well = restart_at(seen).is_none();
            seen.crashes = if ran_well { 1 } else { seen.crashes + 1 };
        }
        let joins = self.joined(&name);
        self.have.given.containers.insert(name.clone(), container.resources.clone().unwrap_or_default());
        let (job, volumes, ip, inbox) = (self.job.clone(), self.volumes.clone(), self.have.ip(), self.inbox.clone());
        self.spawn(async move {
            let made = job.create(&container, attempt, &image, ip, &volumes, joins).await;
            let started = match made {
                Ok(()) => job.start(&container, attempt).await,
                Err(failure) => Err(failure),
            };
            let failed = started.is_err();
            // Told before the hook runs: the container is up.
            let _ = inbox.send(Message::Done(Box::new(Done::Started(name.clone(), attempt, started))));
            if failed {
                return Done::Stale;
            }
            Done::Hooked(name, job.post_start(&container, attempt, ip).await)
        });
    }

    /// The run whose processes this container shares, if it is to share any.
    fn joined(&self, name: &str) -> Result<Option<String>, SpecError> {
        let Some(target) = roles::target(&self.job.pod, name) else { return Ok(None) };
        match self.have.container(target).and_then(|seen| seen.current.as_ref()) {
            Some(run) => Ok(Some(Instance::id(target, run.attempt))),
            None => Err(SpecError::NoTarget(target.into())),
        }
    }

    fn stop(&mut self, name: String, grace: Duration, why: String) {
        let Some(container) = find(&self.job.pod, &name) else { return };
        let deadline = later(self.now(), grace);
        let seen = self.seen(&name);
        let Some(attempt) = seen.current.as_ref().map(|i| i.attempt) else { return };
        seen.doing = Some(Doing::Stopping { deadline });
        seen.restart = None;
        self.have.containers.entry(name.clone()).or_default().again = is_due(&container, &self.have.given);
        self.probes.remove(&name).inspect(AbortHandle::abort);
        let (ended, hurry) = self.ends.entry(name.clone()).or_default().clone();
        self.job.context.events.pod(&self.job.pod, Some(&name), false, "Killing", why);
        let (job, ip) = (self.job.clone(), self.have.ip());
        self.spawn(async move {
            job.stop(&container, attempt, grace, ip, ended, hurry).await;
            Done::Stopped(name)
        });
    }

    /// Deletes the pod from the API, once its last status is there.
    fn finish(&mut self) {
        if self.have.gone {
            self.have.finished = true;
            self.clean();
            return;
        }
        if self.sending || self.current_status() != self.sent {
            return;
        }
        self.have.finishing = true;
        let job = self.job.clone();
        self.spawn(async move {
            let meta = &job.pod.metadata;
            let api: Api<Pod> = Api::namespaced(job.context.client.clone(), meta.namespace.as_deref().unwrap_or_default());
            let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
            let params = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::default() };
            let result = api.delete(meta.name.as_deref().unwrap_or_default(), &params).await.map(drop);
            if let Err(error) = &result
                && !matches!(code(error), Some(404 | 409))
            {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Done::Deleted(result)
        });
    }

    /// Removes what stays of a pod on disk when it is gone.
    fn clean(&self) {
        let meta = &self.job.pod.metadata;
        let dir = self.job.context.config.log_dir(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
            self.job.uid(),
        );
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, dir = %dir.display(), "logs can't be removed")
            }
            _ => {}
        }
        self.job.context.tokens.lock().retain(|key, _| key.0 != self.job.uid());
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => self.updated(pod),
            Message::Gone => self.have.gone = true,
            Message::Exit(None) => self.lost(),
            Message::Exit(Some(id)) => {
                let known = |(name, seen): (&String, &Seen)| seen.current.as_ref().is_some_and(|run| Instance::id(name, run.attempt) == id);
                if self.have.containers.iter().any(known) {
                    self.refresh().await;
                } else {
                    self.ended_early.insert(id);
                }
            }
            Message::Probe(report) => self.probed(report),
            Message::Done(done) => {
                let begun = match &*done {
                    Done::Started(name, attempt, _) => Some(Instance::id(name, *attempt)),
                    _ => None,
                };
                self.done(*done);
                // The state that came with the start may be older than the end.
                if begun.is_some_and(|id| self.ended_early.remove(&id)) {
                    self.refresh().await;
                }
            }
        }
    }

    /// The pod changed. Its labels and annotations may be shown in a volume.
    fn updated(&mut self, pod: Arc<Pod>) {
        let shown = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let relabelled = shown(&pod) != shown(&self.job.pod);
        self.wanted = pod;
        self.consider();
        if relabelled && self.have.volumes == Volumes::Ready {
            let job = self.job.clone();
            self.spawn(async move { Done::Volumes(job.mount_volumes(None).await) });
        }
    }
}

/// The next ring; none ever where nobody waits for one.
async fn rings(room: &mut Option<watch::Receiver<()>>) -> Option<()> {
    match room {
        Some(room) => room.changed().await.ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "worker_tests.rs"]
mod tests;
