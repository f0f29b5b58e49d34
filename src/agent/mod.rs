//! The node agent: turns the pods bound to its node into processes, and reports what it observes.
//!
//! Words: a pod has one [`worker`], which asks [`plan`](plan::plan) what to do and [`status`](status::status) what to tell; both are
//! pure. [`actions`] carries steps out. [`Pods`] is the read-only view that log, exec and port-forward streams use.
//!
//! Invariants: an agent that stops leaves all containers running, and the next one adopts them by the labels of their sandboxes;
//! a sandbox is removed only if a successful list of the API shows that its pod is gone; nothing polls.
//!
//! Never talks to the server but over its API.
pub mod actions;
pub mod dns;
pub mod edge;
pub mod events;
pub mod http;
pub mod huge_pages;
pub mod join;
pub mod node;
pub mod observed;
mod peers;
pub mod plan;
pub mod pods;
pub mod probes;
pub mod proxy;
pub mod qos;
pub mod resize;
pub mod resources;
pub mod roles;
pub mod services;
pub mod sources;
pub mod spec;
pub mod status;
pub mod tunnel;
pub mod usage;
pub mod volumes;
pub mod worker;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use pods::{ContainerView, PodView, Pods};

use crate::api::cluster::Vxlan;
use crate::client::Client;
use crate::net::{HostPort, Net, NetConfig, NetError};
use crate::runtime::Runtime;
use crate::runtime::image::Images;
use edge::{ImageStore, PodNetwork};
use services::Services;

/// Pods that a node takes, as upstream's default.
const MAX_PODS: u32 = 110;
/// A container's log is rotated at this size, keeping so many files (upstream's defaults).
const LOG_MAX_BYTES: u64 = 10 << 20;
const LOG_FILES: u32 = 5;
/// The node's own.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name of its node.
    pub node_name: String,
    /// Address of its node.
    pub node_ip: IpAddr,
    /// Where pods' directories and logs are.
    pub data_dir: PathBuf,
    /// First nameserver of pods.
    pub cluster_dns: Ipv4Addr,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// Pod range of this node; `None`: wait for `spec.podCIDR` of the Node.
    pub pod_cidr: Option<Ipv4Net>,
    /// All pods.
    pub cluster_cidr: Ipv4Net,
    /// All services.
    pub service_cidr: Ipv4Net,
    /// Which nodes' pods are reached by VXLAN.
    pub vxlan: Vxlan,
    /// SHA-256 of the public key of its client certificate: the Node notes it, so that its owner may come back.
    pub key_hash: String,
    /// Labels for the Node, beyond the standard ones.
    pub labels: BTreeMap<String, String>,
    /// Taints for the Node when it registers.
    pub taints: Vec<Taint>,
    /// How long its Lease holds, in seconds; it is renewed four times as often.
    pub lease_seconds: u32,
    /// Port on which log, exec and port-forward are served.
    pub kubelet_port: u16,
    /// How many pods fit.
    pub max_pods: u32,
    /// How many processes a pod may have; `None`: as many as the node.
    pub pod_pids: Option<i64>,
    /// The node's resolv.conf.
    pub resolv_conf: PathBuf,
    /// Seccomp profiles for `Localhost`, below this directory.
    pub seccomp_dir: PathBuf,
    /// Rotate container logs at this size.
    pub log_max_bytes: u64,
    /// Files kept per container log.
    pub log_files: u32,
}

impl AgentConfig {
    /// That of a member of a cluster, with upstream's defaults for what a node may be told besides.
    pub fn of(member: &join::Member, node_name: &str, node_ip: IpAddr, data_dir: &Path) -> AgentConfig {
        let cluster = &member.cluster;
        AgentConfig {
            node_name: node_name.into(),
            node_ip,
            data_dir: data_dir.into(),
            cluster_dns: cluster.dns,
            cluster_domain: cluster.domain.clone(),
            pod_cidr: None,
            cluster_cidr: cluster.cluster_cidr,
            service_cidr: cluster.service_cidr,
            vxlan: cluster.vxlan,
            key_hash: member.key_hash(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            lease_seconds: cluster.lease_seconds,
            kubelet_port: http::PORT,
            max_pods: MAX_PODS,
            pod_pids: None,
            resolv_conf: PathBuf::from(RESOLV_CONF),
            seccomp_dir: data_dir.join("seccomp"),
            log_max_bytes: LOG_MAX_BYTES,
            log_files: LOG_FILES,
        }
    }
    /// Directory of a pod: volumes, files, termination logs.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }
    /// Directory of a pod's logs.
    pub fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data_dir.join("log/pods").join(format!("{namespace}_{name}_{uid}"))
    }
    /// Log of one run of a container.
    pub fn log_path(&self, namespace: &str, name: &str, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.log_dir(namespace, name, uid).join(container).join(format!("{attempt}.log"))
    }
}

/// Why an agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The API refused something that can't be done without.
    #[error("{doing}: {source}")]
    Api {
        /// Such as `registering node a`.
        doing: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The node's network can't be set up.
    #[error("setting up the pod network: {0}")]
    Net(#[from] NetError),
    /// The Node's podCIDR is not an IPv4 range.
    #[error("node {node} has the invalid podCIDR {cidr:?}")]
    PodCidr {
        /// The node.
        node: String,
        /// What it has.
        cidr: String,
    },
    /// The runtime does not answer.
    #[error("listing sandboxes: {0}")]
    Runtime(#[from] crate::runtime::Error),
    /// The node can't be measured.
    #[error("reading {path}: {source}")]
    Node {
        /// What was read.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Whose token: pod uid, account, audience, life in seconds.
type TokenKey = (String, String, Option<String>, i64);
/// A token and the time of its renewal.
type Token = (String, Timestamp);

/// What all parts of an agent share.
pub struct Context<R: Runtime> {
    /// The API.
    pub client: Client,
    /// What it was told.
    pub config: Arc<AgentConfig>,
    /// Containers.
    pub runtime: Arc<R>,
    /// Images.
    pub images: Arc<dyn ImageStore>,
    /// Pod network.
    pub net: Arc<dyn PodNetwork>,
    /// Event recorder.
    pub events: events::Events,
    /// ConfigMaps and Secrets in use.
    pub sources: sources::Sources,
    /// Tokens of pods (by uid, account, audience and life), with the time of their renewal.
    pub tokens: Mutex<HashMap<TokenKey, Token>>,
    /// Services, for the environment; `None` until first listed.
    pub services: watch::Receiver<Option<Services>>,
    /// The clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Mounts a tmpfs.
    pub mount_tmpfs: fn(&Path, Option<i64>) -> std::io::Result<()>,
    /// Unmounts one.
    pub unmount: fn(&Path) -> std::io::Result<()>,
    /// What the node has.
    pub capacity: qos::Capacity,
}

impl<R: Runtime> Context<R> {
    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// A running agent: what other parts of the node hook into.
pub struct Agent {
    /// The API, as this node.
    pub client: Client,
    /// Look-up of pods, for streams.
    pub pods: Pods,
    /// The node's network, for the service proxy.
    pub net: Net,
    /// Services and their endpoints, for the service proxy and DNS.
    pub services: watch::Receiver<Option<Services>>,
    /// Host ports of the node's pods, for the service proxy.
    pub host_ports: watch::Receiver<Vec<HostPort>>,
    /// Its own tasks; they end on shutdown.
    pub tasks: tokio::task::JoinSet<Result<(), AgentError>>,
}

/// Registers the node and starts its tasks. The caller adds what else runs on a node: the service proxy over `net` and
/// `host_ports`, DNS, both over `services`, the stream server over `pods`.
pub async fn start<R: Runtime>(
    config: AgentConfig,
    client: Client,
    runtime: Arc<R>,
    images: Images,
    shutdown: CancellationToken,
) -> Result<Agent, AgentError> {
    let machine = node::measure(&config.data_dir)?;
    let images: Arc<dyn ImageStore> = Arc::new(images);
    let registered = node::register(&client, &config, &machine, &*images).await?;
    let pod_cidr = node::pod_cidr(&client, &config, registered).await?;
    // Should the Node have to be made again, it is with the range that its pods have.
    let config = Arc::new(AgentConfig { pod_cidr: Some(pod_cidr), ..config });
    let net = Net::open(NetConfig {
        data_dir: config.data_dir.clone(),
        pod_cidr,
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_cidr,
        node_ip: config.node_ip,
        always_vxlan: config.vxlan == Vxlan::Always,
    })
    .await?;
    let services = services::watch_services(&client, shutdown.clone());
    let mut tasks = tokio::task::JoinSet::new();
    let context = Arc::new(Context {
        client: client.clone(),
        events: events::Events::new(client.clone(), &config.node_name),
        sources: sources::Sources::new(client.clone()),
        runtime,
        images: images.clone(),
        net: Arc::new(net.clone()),
        tokens: Mutex::default(),
        services: services.clone(),
        clock: Arc::new(Timestamp::now),
        mount_tmpfs: edge::mount_tmpfs,
        unmount: edge::unmount,
        capacity: machine.capacity(),
        config: config.clone(),
    });
    let pods = Pods::new(config.clone());
    let host_ports = pods.host_ports();
    context.events.node(&config.node_name, false, "Starting", "Starting kubelet.".into());
    let until = |task: futures::future::BoxFuture<'static, Result<(), AgentError>>, stop: CancellationToken| async move {
        tokio::select! {
            result = task => result,
            () = stop.cancelled() => Ok(()),
        }
    };
    tasks.spawn(until(Box::pin(node::heartbeat(client.clone(), config.clone())), shutdown.clone()));
    let (own, known) = watch::channel(node::Own::Unknown);
    tasks.spawn(until(Box::pin(node::keep_status(client.clone(), config.clone(), images, known)), shutdown.clone()));
    tasks.spawn(until(Box::pin(peers::run(client.clone(), net.clone(), config.node_name.clone(), own)), shutdown.clone()));
    let mut groups = qos::Keeper::new(context.clone());
    if groups.update(None).await {
        context.events.node(&config.node_name, false, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods".into());
    }
    tasks.spawn(until(Box::pin(groups.run(pods.clone())), shutdown.clone()));
    let (view, net_retain) = (pods.clone(), net.clone());
    tasks.spawn(until(Box::pin(pods::run(context, view, Some(net_retain))), shutdown));
    Ok(Agent { client, pods, net, services, host_ports, tasks })
}
