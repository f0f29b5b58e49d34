//! The Node object and its Lease: what the machine is, how it fares, that it lives. Measured from /proc and statvfs(3), never
//! invented. Follows pkg/kubelet/kubelet_node_status.go and pkg/kubelet/nodestatus/setters.go.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::json;
use tokio::sync::watch;

use super::edge::ImageStore;
use super::huge_pages::{self, Pages};
use super::qos::Capacity;
use super::{AgentConfig, AgentError, join};
use crate::api::cluster::KEY_ANNOTATION;
use crate::api::quantity;
use crate::client::{Change, Client, changes, code};

/// Version that the node reports.
pub const VERSION: &str = "v1.37.0+orch";
/// How often pressure is measured (upstream's `nodeStatusUpdateFrequency`).
const MEASURE: Duration = Duration::from_secs(10);
/// The Lease is renewed this many times while it holds.
const RENEWALS: u32 = 4;
/// How often an unchanged status is reported.
const REPORT: Duration = Duration::from_secs(300);
/// Memory kept free, as upstream's default hard eviction threshold.
const MEMORY_RESERVE: i64 = 100 << 20;
/// Images that a Node lists, as upstream's nodeStatusMaxImages.
const MAX_IMAGES: usize = 50;

/// What the machine is and how it fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Number of CPUs.
    pub cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of memory to be had.
    pub memory_free: i64,
    /// Bytes of the file system of the data directory.
    pub disk: i64,
    /// Bytes free there.
    pub disk_free: i64,
    /// How many processes there can be.
    pub pids: i64,
    /// Huge pages.
    pub huge_pages: Vec<Pages>,
    /// Versions and identities.
    pub info: NodeSystemInfo,
}

impl Machine {
    /// What pods may have of it.
    pub fn capacity(&self) -> Capacity {
        Capacity { cpu: self.cpus * 1000, memory: self.memory, pids: self.pids, huge_pages: self.huge_pages.clone() }
    }
}

fn read(path: &str) -> Result<String, AgentError> {
    std::fs::read_to_string(path).map(|s| s.trim().to_owned()).map_err(|source| AgentError::Node { path: path.into(), source })
}

/// Text of a file that not every machine has.
fn read_optional(path: &str) -> String {
    std::fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// A line of /proc/meminfo in bytes.
fn meminfo(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kib| kib * 1024)
}

/// Measures the machine.
pub fn measure(data_dir: &Path) -> Result<Machine, AgentError> {
    let memory = read("/proc/meminfo")?;
    let amount = |name: &str| {
        meminfo(&memory, name).ok_or_else(|| AgentError::Node {
            path: PathBuf::from("/proc/meminfo"),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, format!("no {name}")),
        })
    };
    let cpus = read("/proc/stat")?.lines().filter(|l| l.starts_with("cpu") && l.as_bytes().get(3).is_some_and(u8::is_ascii_digit)).count();
    let disk = rustix::fs::statvfs(data_dir).map_err(|e| AgentError::Node { path: data_dir.into(), source: e.into() })?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
    let os = read_optional("/etc/os-release");
    let pretty = os.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_owned();
    let machine_id = read_optional("/etc/machine-id");
    let uuid = read_optional("/sys/class/dmi/id/product_uuid");
    Ok(Machine {
        cpus: i64::try_from(cpus.max(1)).unwrap_or(1),
        memory: amount("MemTotal")?,
        memory_free: amount("MemAvailable")?,
        disk: bytes(disk.f_blocks),
        disk_free: bytes(disk.f_bavail),
        pids: most_processes()?,
        huge_pages: huge_pages::measure(),
        info: NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: read_optional("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: format!("orch://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: read("/proc/sys/kernel/osrelease")?,
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.into(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            operating_system: "linux".into(),
            os_image: pretty,
            ..NodeSystemInfo::default()
        },
    })
}

/// What the kernel allows, as upstream's pidlimit counts it.
fn most_processes() -> Result<i64, AgentError> {
    let limit = |path: &str| {
        read(path)?
            .parse::<i64>()
            .map_err(|error| AgentError::Node { path: path.into(), source: std::io::Error::new(std::io::ErrorKind::InvalidData, error) })
    };
    Ok(limit("/proc/sys/kernel/pid_max")?.min(limit("/proc/sys/kernel/threads-max")?))
}

/// As Go and image indexes name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn labels(config: &AgentConfig) -> BTreeMap<String, String> {
    let standard = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let mut all: BTreeMap<String, String> = standard.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    all.extend(config.labels.clone());
    all
}

fn annotations(config: &AgentConfig) -> BTreeMap<String, String> {
    BTreeMap::from([(KEY_ANNOTATION.to_owned(), config.key_hash.clone())])
}

fn amounts(config: &AgentConfig, machine: &Machine, reserve: bool) -> BTreeMap<String, Quantity> {
    let total = |pages: &Pages| pages.size.saturating_mul(pages.count);
    let huge: i64 = machine.huge_pages.iter().map(total).sum();
    let (memory, disk) = match reserve {
        true => ((machine.memory - MEMORY_RESERVE - huge).max(0), machine.disk / 10 * 9),
        false => (machine.memory, machine.disk),
    };
    let table = [
        ("cpu", machine.cpus.to_string()),
        ("memory", format!("{}Ki", memory / 1024)),
        ("ephemeral-storage", if reserve { disk.to_string() } else { format!("{}Ki", disk / 1024) }),
        ("pods", config.max_pods.to_string()),
    ];
    let huge = machine.huge_pages.iter().map(|pages| {
        let amount = quantity::Quantity::from_value(total(pages), quantity::Format::BinarySi);
        (huge_pages::resource(pages.size), amount.to_api())
    });
    table.into_iter().map(|(name, value)| (name.to_owned(), Quantity(value))).chain(huge).collect()
}

/// The conditions, where `old` gives the times of the last changes.
fn conditions(machine: &Machine, network: bool, old: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let memory = machine.memory_free < MEMORY_RESERVE;
    let disk = machine.disk_free < machine.disk / 10;
    let ready = match network {
        true => ("True", "KubeletReady", "kubelet is posting ready status"),
        false => ("False", "KubeletNotReady", "container runtime network not ready: the pod network is not set up yet"),
    };
    let table = [
        (
            "MemoryPressure",
            match memory {
                true => ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                false => ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            },
        ),
        (
            "DiskPressure",
            match disk {
                true => ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
                false => ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            },
        ),
        ("PIDPressure", ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available")),
        ("Ready", ready),
    ];
    let condition = |(type_, (status, reason, message)): (&str, (&str, &str, &str))| {
        let before = old.iter().find(|c| c.type_ == type_ && c.status == status).and_then(|c| c.last_transition_time.clone());
        NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(before.unwrap_or(Time(now))),
        }
    };
    table.into_iter().map(condition).collect()
}

async fn images(store: &dyn ImageStore) -> Vec<ContainerImage> {
    let mut all = match store.list().await {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "images can't be listed");
            Vec::new()
        }
    };
    all.sort_by_key(|i| std::cmp::Reverse(i.size));
    let one = |image: crate::runtime::image::Image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    all.into_iter().take(MAX_IMAGES).map(one).collect()
}

fn status(config: &AgentConfig, machine: &Machine, network: bool, old: &[NodeCondition], images: Vec<ContainerImage>) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.into(), address };
    NodeStatus {
        addresses: Some(vec![address("InternalIP", config.node_ip.to_string()), address("Hostname", config.node_name.clone())]),
        capacity: Some(amounts(config, machine, false)),
        allocatable: Some(amounts(config, machine, true)),
        conditions: Some(conditions(machine, network, old, Timestamp::now())),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.kubelet_port) }) }),
        images: Some(images),
        node_info: Some(machine.info.clone()),
        ..NodeStatus::default()
    }
}

fn api_error(doing: String) -> impl FnOnce(kube::Error) -> AgentError {
    move |source| AgentError::Api { doing, source: Box::new(source) }
}

/// Whether trying again can help: the server is not up yet, is busy, or has not set up the rights of nodes yet.
fn is_passing(error: &kube::Error) -> bool {
    !matches!(code(error), Some(400 | 413 | 415 | 422))
}

/// Makes the Node, or brings the labels of the one that exists up to date. Waits for a server that is not there yet.
pub async fn register(client: &Client, config: &AgentConfig, machine: &Machine, store: &dyn ImageStore) -> Result<Node, AgentError> {
    let api: Api<Node> = Api::all(client.clone());
    let name = &config.node_name;
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels(config)),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            pod_cidr: config.pod_cidr.map(|c| c.to_string()),
            pod_cidrs: config.pod_cidr.map(|c| vec![c.to_string()]),
            ..NodeSpec::default()
        }),
        status: Some(status(config, machine, false, &[], images(store).await)),
    };
    let mut wait = Duration::from_millis(50);
    loop {
        let result = match api.create(&PostParams::default(), &node).await {
            Err(error) if code(&error) == Some(409) => {
                let patch = json!({"metadata": {"labels": labels(config), "annotations": annotations(config)}});
                match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                    // Its addresses may be others by now, and what it asks for next depends on them.
                    Ok(_) => {
                        let status = json!({"status": node.status});
                        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await
                    }
                    refused => refused,
                }
            }
            other => other,
        };
        match result {
            Ok(node) => return Ok(node),
            Err(error) if !is_passing(&error) => return Err(api_error(format!("registering node {name}"))(error)),
            Err(error) => {
                tracing::warn!(%error, node = name, "the node can't be registered yet, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(7));
            }
        }
    }
}

/// The pod range of this node: given, or waited for.
pub async fn pod_cidr(client: &Client, config: &AgentConfig, node: Node) -> Result<Ipv4Net, AgentError> {
    if let Some(cidr) = config.pod_cidr {
        return Ok(cidr);
    }
    let of = |node: &Node| node.spec.as_ref().and_then(|s| s.pod_cidr.clone()).filter(|c| !c.is_empty());
    let parse = |cidr: String| cidr.parse().map_err(|_| AgentError::PodCidr { node: config.node_name.clone(), cidr });
    if let Some(cidr) = of(&node) {
        return parse(cidr);
    }
    tracing::info!(node = config.node_name, "waiting for the node's podCIDR");
    let watch = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let mut stream = std::pin::pin!(changes(Api::<Node>::all(client.clone()), watch));
    loop {
        let nodes = match stream.next().await {
            Some(Change::Reset(nodes)) => nodes,
            Some(Change::Set(node)) => vec![node],
            Some(Change::Gone(_)) | None => continue,
        };
        if let Some(cidr) = nodes.iter().find_map(of) {
            return parse(cidr);
        }
    }
}

/// What the API has of this node's own Node, as far as it is known.
#[derive(Clone, Debug)]
pub enum Own {
    /// Not heard of yet.
    Unknown,
    /// As it was told last.
    There(Box<Node>),
    /// Somebody deleted it.
    Gone,
}

impl Own {
    /// Whether the Node must be told anew what was `sent` in its revision `rev`: it is gone, or somebody has said something else since, such
    /// as the server that this node is unreachable.
    fn contradicts(&self, sent: &NodeStatus, rev: u64) -> bool {
        match self {
            Own::Unknown => false,
            Own::Gone => true,
            Own::There(node) => {
                let has = |wanted: &NodeCondition| {
                    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                    conditions.into_iter().any(|held| held.type_ == wanted.type_ && held.status == wanted.status)
                };
                revision(node) > rev && !sent.conditions.iter().flatten().all(has)
            }
        }
    }
}

/// The revision of an object; 0 if it has none.
fn revision(node: &Node) -> u64 {
    node.metadata.resource_version.as_deref().and_then(|rev| rev.parse().ok()).unwrap_or(0)
}

/// Renews the Lease once, or makes it.
pub async fn renew(client: &Client, config: &AgentConfig) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let name = &config.node_name;
    let seconds = i32::try_from(config.lease_seconds).unwrap_or(i32::MAX);
    let now = MicroTime(Timestamp::now());
    let patch = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(error) if code(&error) == Some(404) => {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(name.clone()), namespace: Some("kube-node-lease".into()), ..ObjectMeta::default() },
                spec: Some(LeaseSpec {
                    holder_identity: Some(name.clone()),
                    lease_duration_seconds: Some(seconds),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
            };
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Renews the Lease for ever.
pub async fn heartbeat(client: Client, config: Arc<AgentConfig>) -> Result<(), AgentError> {
    let name = &config.node_name;
    let holds = Duration::from_secs(config.lease_seconds.into());
    let mut renewed_at = tokio::time::Instant::now();
    loop {
        let next = match renew(&client, &config).await {
            Ok(()) => {
                renewed_at = tokio::time::Instant::now();
                holds / RENEWALS
            }
            Err(error) => {
                let (why, advice) = join::explain(&error, renewed_at.elapsed() > holds);
                tracing::warn!(error = why, node = name, "the node's lease can't be renewed, trying again{advice}");
                Duration::from_secs(2).min(holds / RENEWALS)
            }
        };
        tokio::time::sleep(next).await;
    }
}

/// Reports the node's status for ever: on change, when the API has something else, and every five minutes.
pub async fn keep_status(
    client: Client,
    config: Arc<AgentConfig>,
    store: Arc<dyn ImageStore>,
    mut own: watch::Receiver<Own>,
) -> Result<(), AgentError> {
    let api: Api<Node> = Api::all(client.clone());
    let name = &config.node_name;
    let mut sent: Option<(NodeStatus, u64)> = None;
    let mut reported: Option<tokio::time::Instant> = None;
    loop {
        let machine = measure(&config.data_dir)?;
        let old = sent.as_ref().and_then(|(sent, _)| sent.conditions.clone()).unwrap_or_default();
        let status = status(&config, &machine, true, &old, images(&*store).await);
        let due = reported.is_none_or(|at| at.elapsed() >= REPORT);
        let news = own.borrow_and_update().clone();
        let contradicted = sent.as_ref().is_some_and(|(sent, rev)| news.contradicts(sent, *rev));
        if due || contradicted || sent.as_ref().is_none_or(|(sent, _)| timeless(sent) != timeless(&status)) {
            // Whoever was not heard is not believed: the Lease comes first.
            let heard = if contradicted { renew(&client, &config).await } else { Ok(()) };
            let body = json!({"status": status});
            let reported_now = match heard {
                Ok(()) => api.patch_status(name, &PatchParams::default(), &Patch::Strategic(body)).await,
                Err(error) => Err(error),
            };
            match reported_now {
                Ok(node) => (sent, reported) = (Some((status, revision(&node))), Some(tokio::time::Instant::now())),
                Err(error) if code(&error) == Some(404) => {
                    tracing::warn!(node = name, "the Node was deleted, registering it again");
                    register(&api.clone().into_client(), &config, &machine, &*store).await?;
                    sent = None;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, node = name, "the node's status can't be reported, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
        }
        // Only what is told from now on: the last news may be from before this report.
        let contradicted = async {
            while own.changed().await.is_ok() {
                if sent.as_ref().is_some_and(|(sent, rev)| own.borrow_and_update().contradicts(sent, *rev)) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = tokio::time::sleep(MEASURE) => {}
            () = contradicted => {}
        }
    }
}

/// Without the times of the report itself.
fn timeless(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    status
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn measures_this_machine() {
        let machine = measure(Path::new("/")).unwrap();
        assert!(machine.cpus >= 1 && machine.memory > 1 << 20 && machine.disk > 0, "{machine:?}");
        assert!(machine.memory_free <= machine.memory && machine.disk_free <= machine.disk);
    }

    #[test]
    fn who_contradicts() {
        let node = |rev: u64, ready: &str| -> Own {
            let yaml = format!("{{metadata: {{resourceVersion: '{rev}'}}, status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}");
            Own::There(Box::new(serde_yaml::from_str(&yaml).unwrap()))
        };
        let Own::There(sent) = node(5, "True") else { unreachable!() };
        let sent = sent.status.unwrap();
        for (own, want) in [
            (Own::Unknown, false),
            (Own::Gone, true),
            (node(6, "True"), false),
            (node(6, "Unknown"), true),
            // From before the report.
            (node(4, "Unknown"), false),
            (
                Own::There(Box::new(Node {
                    metadata: ObjectMeta { resource_version: Some("7".into()), ..ObjectMeta::default() },
                    ..Node::default()
                })),
                true,
            ),
        ] {
            assert_eq!(own.contradicts(&sent, 5), want, "{own:?}");
        }
    }

    #[test]
    fn pressure_moves_the_transition_time() {
        let mut machine = measure(Path::new("/")).unwrap();
        machine.memory_free = machine.memory;
        machine.disk_free = machine.disk;
        let at = |s| Timestamp::from_second(s).unwrap();
        let calm = conditions(&machine, true, &[], at(100));
        let later = conditions(&machine, true, &calm, at(200));
        assert!(later.iter().all(|c| c.last_transition_time == Some(Time(at(100)))));
        machine.memory_free = 1;
        let pressed = conditions(&machine, true, &later, at(300));
        let memory = pressed.iter().find(|c| c.type_ == "MemoryPressure").unwrap();
        assert_eq!((memory.status.as_str(), &memory.last_transition_time), ("True", &Some(Time(at(300)))));
        assert_eq!(meminfo("MemTotal:  10 kB\nMemAvailable: 4 kB", "MemAvailable"), Some(4096));
    }
}
