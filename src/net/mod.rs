//! Links, addresses, packet rules and DNS answers of one node. Knows no Kubernetes.
//!
//! | module | what it is |
//! |---|---|
//! | [`dns`] | the cluster's DNS server over an immutable [zone](dns::Zone) |
//! | `node` | what [`Net`] does: bridge, pods, rules |
//! | `peers` | where other nodes' pods are, to what the kernel is told, pure |
//! | `overlay` | the VXLAN device, its entries, and the routes to other nodes |
//! | `events` | what others change meanwhile |
//! | `link`, `neighbour` | links, addresses, routes and neighbours, over rtnetlink |
//! | `ipam` | which pod has which address |
//! | `nft` | the packet rules, over nftables' netlink messages |
//! | `sysctl` | kernel parameters, and what they were before |
//! | [`undo`](undo()), [`probe`](probe()) | takes all of it away again; tries whether this kernel can do it |
//! | `netlink` | the socket and the bytes of both |
//!
//! Invariants: everything happens in the network namespace [`Net::open`] was called in, from whichever thread; everything done is idempotent;
//! links and tables that are not ours are left alone; no helper program is run. IPv4 only, so far.

pub mod dns;
mod events;
mod ipam;
mod link;
mod neighbour;
mod netlink;
mod nft;
mod node;
mod overlay;
mod peers;
mod probe;
mod sysctl;
mod undo;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;

pub use events::Changes;
pub use peers::Peers;
pub use probe::{Finding, probe};
pub use undo::undo;

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Whose packets get the node's address as their source when they are forwarded, so that the answer comes back this way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Masquerade {
    /// Nobody's: the endpoints are on this node and may see the client's address.
    Never,
    /// Those of clients that are no pods (a ClusterIP).
    #[default]
    FromOutside,
    /// Everybody's (node ports and external addresses whose endpoints may be on another node).
    Always,
}

/// One virtual address and port with the addresses behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// For comments, such as `default/web:http`.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Virtual addresses (ClusterIP, external IPs); empty: only `node_port`.
    pub addresses: Vec<IpAddr>,
    /// Port on these addresses.
    pub port: u16,
    /// Port on every address of the node, if any.
    pub node_port: Option<u16>,
    /// Where it goes. Empty: connections are refused (reject), as upstream.
    pub endpoints: Vec<SocketAddr>,
    /// Where it goes for pods and the node itself, if elsewhere (`externalTrafficPolicy: Local`). While only these exist, what comes from
    /// outside is dropped.
    pub inside: Option<Vec<SocketAddr>>,
    /// Whose source address is replaced.
    pub masquerade: Masquerade,
    /// ClientIP session affinity for this many seconds.
    pub affinity: Option<u32>,
}

/// A port of the node forwarded to one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Only on this node address; `None`: all.
    pub address: Option<IpAddr>,
    /// Port on the node.
    pub port: u16,
    /// Pod address and port.
    pub to: SocketAddr,
}

/// Everything the node forwards: the whole desired state, applied as one nftables transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// The forwards of each Service, such as `default/web`. What two of these maps share need not be looked at to tell them apart. If two
    /// Services claim one address and port, the first by name has it.
    pub services: OrdMap<String, Arc<[Forward]>>,
    /// Host ports.
    pub host_ports: Vec<HostPort>,
}

impl Forwards {
    /// Forwards, those of one name being a Service.
    pub fn of(services: impl IntoIterator<Item = Forward>, host_ports: Vec<HostPort>) -> Forwards {
        let mut named: BTreeMap<String, Vec<Forward>> = BTreeMap::new();
        services.into_iter().for_each(|forward| named.entry(forward.name.clone()).or_default().push(forward));
        Forwards { services: named.into_iter().map(|(name, forwards)| (name, Arc::from(forwards))).collect(), host_ports }
    }
}

/// How the node's network is laid out.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Where leases are kept.
    pub data_dir: std::path::PathBuf,
    /// Pod range of this node, such as 10.42.0.0/24; the first address is the bridge's.
    pub pod_cidr: ipnet::Ipv4Net,
    /// All pods of the cluster: not masqueraded.
    pub cluster_cidr: ipnet::Ipv4Net,
    /// Service range.
    pub service_cidr: ipnet::Ipv4Net,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// Packets to pods of other nodes go in VXLAN even where the nodes share a link.
    pub always_vxlan: bool,
}

/// A pod's place on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The bridge's.
    pub gateway: Ipv4Addr,
}

/// What failed, on what, why.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A netlink request failed.
    #[error("{doing} {what}: {source}")]
    Netlink {
        /// Such as `adding address`.
        doing: &'static str,
        /// Such as a link name.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// No address is left.
    #[error("no free address in {0}")]
    Exhausted(ipnet::Ipv4Net),
    /// State on disk can't be read or written.
    #[error("{doing} {path}: {source}")]
    Io {
        /// Such as `writing`.
        doing: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The node's network, in the network namespace [`Net::open`] was called in. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Net(Arc<node::Node>);

impl Net {
    /// Makes or adopts the bridge, the base rules (masquerade), sysctls; reads the leases.
    ///
    /// Works on the calling thread, whose namespace it is all about.
    pub async fn open(config: NetConfig) -> Result<Net, NetError> {
        aside(|| node::Node::open(config)).await.map(|node| Net(Arc::new(node)))
    }

    /// Gives the sandbox whose network namespace is `/proc/PID/ns/net` a veth and an address; the same `id` gets the same address again.
    pub async fn attach(&self, id: &str, pid: i32) -> Result<Attachment, NetError> {
        let id = id.to_owned();
        self.blocking(move |node| node.attach(&id, pid)).await
    }

    /// Frees link and address. Idempotent.
    pub async fn detach(&self, id: &str) -> Result<(), NetError> {
        let id = id.to_owned();
        self.blocking(move |node| node.detach(&id)).await
    }

    /// Frees what belongs to none of these ids (after a restart).
    pub async fn retain(&self, ids: &[String]) -> Result<(), NetError> {
        let ids = ids.to_vec();
        self.blocking(move |node| node.retain(&ids)).await
    }

    /// Makes these the forwards in force; nothing to do if unchanged.
    pub async fn forward(&self, forwards: Forwards) -> Result<(), NetError> {
        self.blocking(move |node| node.forward(forwards)).await
    }

    /// Makes a Service address one of this node's own: a process here answers it, and no forward touches it. The address is put on the
    /// bridge, so that a server can listen on it and every pod reaches it by its default route (cluster DNS).
    pub async fn own(&self, address: Ipv4Addr) -> Result<(), NetError> {
        self.blocking(move |node| node.own(address)).await
    }

    /// Makes these the other nodes, and the ways to their pods.
    pub async fn peers(&self, peers: Peers) -> Result<(), NetError> {
        self.blocking(move |node| node.peers(Some(peers))).await
    }

    /// Puts right what is missing, wrong or left over on the ways to other nodes.
    pub async fn refresh(&self) -> Result<(), NetError> {
        self.blocking(|node| node.peers(None)).await
    }

    /// What happens to the node's links, addresses and routes from now on; after each, [`Net::refresh`] is due.
    pub fn changes(&self) -> Result<Changes, NetError> {
        self.0.changes()
    }

    /// The bridge's address: the pods' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        self.0.gateway()
    }

    /// All pods of this node.
    pub fn pod_cidr(&self) -> ipnet::Ipv4Net {
        self.0.pod_cidr()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&node::Node) -> Result<T, NetError> + Send + 'static,
    ) -> Result<T, NetError> {
        let node = Arc::clone(&self.0);
        aside(move || work(&node)).await
    }
}

/// Netlink and fsync block, mostly for milliseconds, and for seconds while the kernel loads modules; the async threads must not.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, NetError> + Send + 'static) -> Result<T, NetError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| {
        Err(NetError::Netlink { doing: "changing", what: "the network".into(), source: std::io::Error::other(stopped) })
    })
}
