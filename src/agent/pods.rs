//! All pods of this node: hands changes of the API and of the runtime to the workers, and shows the pods to other parts.
//!
//! A sandbox that belongs to no pod is removed, but only after a list of the API that succeeded said so.
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::observed::{Instance, Observed, Sandbox};
use super::plan::containers;
use super::qos::Capacity;
use super::resize::{Allotted, DEFERRED, Verdict, Waiting, serve};
use super::worker::{Inbox, Message, Worker};
use super::{AgentConfig, AgentError, Context};
use crate::client::{Change, changes};
use crate::net::{HostPort, Net, Protocol};
use crate::runtime::{Phase, Runtime, Sandbox as RunSandbox};

/// A container as streams need it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerView {
    /// Its ID in the sandbox.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// Since when, if it does.
    pub started: Option<Timestamp>,
    /// Log of this run.
    pub log_path: PathBuf,
    /// Log of the run before, if there was one.
    pub previous_log: Option<PathBuf>,
}

/// A pod as streams need it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// uid: the ID of its sandbox.
    pub uid: String,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its shim, if it has one: `/proc/PID/ns/net` is its network.
    pub pid: Option<i32>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Containers that have been started, by name.
    pub containers: BTreeMap<String, ContainerView>,
}

/// Read-only view of the pods of this node. Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    config: Arc<AgentConfig>,
    all: Arc<RwLock<HashMap<String, PodView>>>,
    host_ports: watch::Sender<Vec<HostPort>>,
    changed: watch::Sender<()>,
    room: watch::Sender<()>,
    /// Resizes that were refused for now, by the pod's uid. Locked after `all`.
    waiting: Arc<Mutex<BTreeMap<String, Waiting>>>,
}

impl Pods {
    /// No pods yet.
    pub fn new(config: Arc<AgentConfig>) -> Pods {
        let (changed, room) = (watch::Sender::new(()), watch::Sender::new(()));
        Pods { config, all: Arc::default(), host_ports: watch::Sender::new(Vec::new()), changed, room, waiting: Arc::default() }
    }

    /// The newest pod of this name that is on this node.
    pub fn get(&self, namespace: &str, name: &str) -> Option<PodView> {
        let all = self.all.read();
        let mine =
            all.values().filter(|v| v.pod.metadata.namespace.as_deref() == Some(namespace) && v.pod.metadata.name.as_deref() == Some(name));
        mine.max_by_key(|v| v.pod.metadata.creation_timestamp.as_ref().map(|t| t.0)).cloned()
    }

    /// All pods.
    pub fn list(&self) -> Vec<PodView> {
        self.all.read().values().cloned().collect()
    }

    /// All pods as the API has them.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.all.read().values().map(|view| view.pod.clone()).collect()
    }

    /// Ports of the node that belong to pods, now and whenever they change.
    pub fn host_ports(&self) -> watch::Receiver<Vec<HostPort>> {
        self.host_ports.subscribe()
    }

    /// Rings whenever a pod was set or removed.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Rings whenever there may be room for a resize that there was none for.
    pub fn room(&self) -> watch::Receiver<()> {
        self.room.subscribe()
    }

    /// Grants a pod that has `have` what it wants, or does not, beside all other pods as they are allotted and in turn with those that wait;
    /// nobody else is granted any meanwhile.
    pub fn allot(&self, uid: &str, wanted: &Arc<Pod>, have: &Arc<Pod>, capacity: &Capacity, now: Timestamp) -> Verdict {
        if Allotted::of(wanted).is_same(&Allotted::of(have)) {
            self.withdraw(uid);
            return Verdict::Same;
        }
        let mut all = self.all.write();
        let mut waiting = self.waiting.lock();
        let since = waiting.get(uid).map_or(now, |before| before.since);
        waiting.insert(uid.into(), Waiting { wanted: wanted.clone(), since });
        let mut allotted: BTreeMap<String, Arc<Pod>> = all.iter().map(|(uid, view)| (uid.clone(), view.pod.clone())).collect();
        allotted.insert(uid.into(), have.clone());
        let verdict = serve(uid, &waiting, allotted, capacity);
        if !matches!(&verdict, Verdict::Refuse(pending) if pending.reason == DEFERRED) {
            waiting.remove(uid);
        }
        if verdict == Verdict::Grant
            && let Some(view) = all.get_mut(uid)
        {
            view.pod = wanted.clone();
        }
        verdict
    }

    /// A pod waits for room no more. Others may have been refused in its favour.
    pub fn withdraw(&self, uid: &str) {
        if self.waiting.lock().remove(uid).is_some() {
            self.room.send_replace(());
        }
    }

    /// A worker's word on its pod.
    pub fn set(&self, uid: &str, pod: &Arc<Pod>, have: &Observed) {
        let meta = &pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let log = |container: &str, attempt| self.config.log_path(namespace, name, uid, container, attempt);
        let started = have.containers.iter().filter_map(|(name, seen)| {
            let shown = seen.current.as_ref().or(seen.last.as_ref())?;
            let previous = seen.current.as_ref().and(seen.last.as_ref());
            let view = ContainerView {
                id: Instance::id(name, shown.attempt),
                running: shown.alive(),
                started: if let Phase::Running { started, .. } = shown.phase { Some(started) } else { None },
                log_path: log(name, shown.attempt),
                previous_log: previous.map(|i| log(name, i.attempt)),
            };
            Some((name.clone(), view))
        });
        let (pid, ip) = match have.sandbox {
            Sandbox::Ready { pid, ip } => (Some(pid), ip),
            _ => (None, None),
        };
        let view = PodView { uid: uid.into(), pod: pod.clone(), pid, ip, containers: started.collect() };
        let before = self.all.write().insert(uid.into(), view);
        self.changed.send_replace(());
        // Only what is another pod now can have made room; whoever waits for some asks again, and that makes no other pod.
        if before.is_none_or(|before| !Arc::ptr_eq(&before.pod, pod)) {
            self.room.send_replace(());
        }
        self.update_host_ports();
    }

    /// A pod is gone.
    pub fn remove(&self, uid: &str) {
        self.all.write().remove(uid);
        self.waiting.lock().remove(uid);
        self.changed.send_replace(());
        self.room.send_replace(());
        self.update_host_ports();
    }

    fn update_host_ports(&self) {
        let mut ports: Vec<HostPort> = self.all.read().values().flat_map(host_ports).collect();
        ports.sort();
        self.host_ports.send_if_modified(|old| {
            let changed = *old != ports;
            *old = ports;
            changed
        });
    }
}

/// Forwards that a pod asks for; one in the host's network needs none.
fn host_ports(view: &PodView) -> Vec<HostPort> {
    let host_network = view.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let Some(ip) = view.ip.filter(|_| !host_network) else { return Vec::new() };
    let ports = containers(&view.pod).flat_map(|c| c.ports.iter().flatten());
    let forward = |p: &k8s_openapi::api::core::v1::ContainerPort| {
        let address = p.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()).filter(|ip| !ip.is_unspecified());
        let protocol = match p.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let port = u16::try_from(p.host_port?).ok().filter(|p| *p > 0)?;
        Some(HostPort { protocol, address, port, to: SocketAddr::new(ip, u16::try_from(p.container_port).ok()?) })
    };
    ports.filter_map(forward).collect()
}

/// Follows the API and the runtime for ever. `net` forgets addresses of pods that are gone, once, after the first list.
pub async fn run<R: Runtime>(context: Arc<Context<R>>, view: Pods, net: Option<Net>) -> Result<(), AgentError> {
    let mut exits = context.runtime.exits();
    let found = context.runtime.sandboxes().await?;
    let mut manager = Manager {
        adoptable: found.into_iter().map(|s| (s.config.id.clone(), s)).collect(),
        context: context.clone(),
        view,
        net,
        workers: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let api: Api<Pod> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
    let mut stream = std::pin::pin!(changes(api, config));
    loop {
        tokio::select! {
            Some(change) = stream.next() => manager.change(change).await,
            Some(exit) = exits.recv() => manager.tell(&exit.sandbox, Message::Exit(exit.container)),
            Some(ended) = manager.tasks.join_next() => match ended {
                Ok(uid) => drop(manager.workers.remove(&uid)),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
        }
    }
}

struct Manager<R: Runtime> {
    context: Arc<Context<R>>,
    view: Pods,
    net: Option<Net>,
    /// Sandboxes that an earlier agent left and no pod has claimed yet.
    adoptable: HashMap<String, RunSandbox>,
    workers: HashMap<String, Inbox>,
    tasks: JoinSet<String>,
}

impl<R: Runtime> Manager<R> {
    fn tell(&self, uid: &str, message: Message) {
        if let Some(inbox) = self.workers.get(uid) {
            // Fails only for a worker that has just ended.
            let _ = inbox.send(message);
        }
    }

    async fn change(&mut self, change: Change<Pod>) {
        match change {
            Change::Set(pod) => self.set(pod).await,
            Change::Gone(pod) => self.tell(pod.metadata.uid.as_deref().unwrap_or_default(), Message::Gone),
            Change::Reset(pods) => {
                let mut gone: Vec<String> = self.workers.keys().cloned().collect();
                gone.retain(|uid| !pods.iter().any(|p| p.metadata.uid.as_ref() == Some(uid)));
                for uid in gone {
                    self.tell(&uid, Message::Gone);
                }
                for pod in pods {
                    self.set(pod).await;
                }
                self.sweep().await;
            }
        }
    }

    async fn set(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if self.workers.contains_key(&uid) {
            return self.tell(&uid, Message::Pod(Arc::new(pod)));
        }
        let pod = Arc::new(pod);
        let mut found = None;
        if let Some(sandbox) = self.adoptable.remove(&uid) {
            let job = super::actions::Job { context: self.context.clone(), pod: pod.clone() };
            match job.attach(sandbox.pid).await {
                Ok(ip) => found = Some((sandbox, ip)),
                Err(error) => {
                    tracing::warn!(error, pod = uid, "the address of a running pod is unknown");
                    found = Some((sandbox, None));
                }
            }
        }
        let (worker, inbox) = Worker::new(self.context.clone(), pod, self.view.clone(), found);
        self.workers.insert(uid, inbox);
        self.tasks.spawn(worker.run());
    }

    /// Removes directories and logs of pods that went while no agent ran. Their names end with the pod's uid.
    fn sweep_files(&self) {
        let config = &self.context.config;
        for (base, is_pods) in [(config.data_dir.join("pods"), true), (config.data_dir.join("log/pods"), false)] {
            let entries = match std::fs::read_dir(&base) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(%error, dir = %base.display(), "leftovers of pods can't be looked for");
                    continue;
                }
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if self.workers.contains_key(name.rsplit('_').next().unwrap_or(&name)) {
                    continue;
                }
                let removed = match is_pods {
                    true => super::volumes::clean_up(&entry.path(), self.context.unmount).map_err(|e| e.to_string()),
                    false => std::fs::remove_dir_all(entry.path()).map_err(|e| e.to_string()),
                };
                if let Err(error) = removed {
                    tracing::warn!(error, dir = %entry.path().display(), "leftovers of a pod can't be removed");
                }
            }
        }
    }

    /// Removes what belongs to no pod.
    async fn sweep(&mut self) {
        for (uid, _) in std::mem::take(&mut self.adoptable) {
            tracing::info!(pod = uid, "removing the sandbox of a pod that no longer exists");
            let pod = Pod { metadata: kube::api::ObjectMeta { uid: Some(uid.clone()), ..Default::default() }, ..Pod::default() };
            let job = super::actions::Job { context: self.context.clone(), pod: Arc::new(pod) };
            if let Err(error) = job.remove_sandbox().await {
                tracing::warn!(error, pod = uid, "a sandbox can't be removed");
            }
        }
        self.sweep_files();
        if let Some(net) = self.net.take() {
            let ids: Vec<String> = self.workers.keys().cloned().collect();
            if let Err(error) = net.retain(&ids).await {
                tracing::warn!(%error, "addresses of pods that are gone can't be freed");
            }
        }
    }
}
