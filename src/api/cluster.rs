//! What the nodes of a cluster must agree on, as the ConfigMap `kube-system/orch-cluster` says it. The server writes it, nodes read it.
//!
//! What a machine that knows nothing yet may read is `kube-public/cluster-info`, as kubeadm's clusters have it: [`INFO`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Where it is.
pub const NAMESPACE: &str = "kube-system";
/// What it is called.
pub const NAME: &str = "orch-cluster";
/// Namespace and name of the ConfigMap that anybody may read: a kubeconfig without credentials, and for each bootstrap token a signature of it.
pub const INFO: (&str, &str) = ("kube-public", "cluster-info");
/// Where it is read, without credentials too.
pub const INFO_PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
/// Its key with the kubeconfig, YAML.
pub const INFO_KUBECONFIG: &str = "kubeconfig";
/// Its keys with signatures begin so; the token's ID follows.
pub const INFO_SIGNATURE: &str = "jws-kubeconfig-";

/// Annotation of a Node: SHA-256 of the public key of its client certificate. Whoever has that key may join again under the Node's name.
pub const KEY_ANNOTATION: &str = "orch.local/client-key";

/// What agents ask to upgrade to for their tunnels.
pub const TUNNEL_PROTOCOL: &str = "orch-tunnel";
const TUNNELS: (&str, &str) = ("/orch/v1/nodes/", "/tunnel");

/// Where the agent of `node` opens its tunnel.
pub fn tunnel_path(node: &str) -> String {
    format!("{}{node}{}", TUNNELS.0, TUNNELS.1)
}

/// Whose tunnel a path is for, if it is for one.
pub fn node_of_tunnel(path: &str) -> Option<&str> {
    path.strip_prefix(TUNNELS.0)?.strip_suffix(TUNNELS.1).filter(|node| !node.is_empty() && !node.contains('/'))
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// All pods.
    pub cluster_cidr: Ipv4Net,
    /// All Services.
    pub service_cidr: Ipv4Net,
    /// Address of the DNS.
    pub dns: Ipv4Addr,
    /// Such as `cluster.local`.
    pub domain: String,
    /// Where machines that join find the API.
    pub server: String,
    /// How long, in seconds, a node's Lease holds; it is renewed four times as often.
    pub lease_seconds: u32,
    /// Which nodes' pods are reached by VXLAN.
    pub vxlan: Vxlan,
}

/// When packets between pods of two nodes are put in VXLAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vxlan {
    /// When the nodes have no link in common; by plain routes otherwise.
    #[default]
    AsNeeded,
    /// Always: for links that let only packets of the nodes' own addresses pass.
    Always,
}

impl Vxlan {
    /// All, as flags and the ConfigMap write them.
    pub const NAMES: [(&str, Vxlan); 2] = [("as-needed", Vxlan::AsNeeded), ("always", Vxlan::Always)];
}

impl std::fmt::Display for Vxlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Vxlan::NAMES.iter().find(|(_, vxlan)| vxlan == self).map_or("", |(name, _)| name))
    }
}

impl std::str::FromStr for Vxlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Vxlan, String> {
        let found = Vxlan::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, vxlan)| *vxlan).ok_or_else(|| format!("must be one of {}", Vxlan::NAMES.map(|(name, _)| name).join(", ")))
    }
}

/// Upstream's default of `nodeLeaseDurationSeconds`.
pub const LEASE_SECONDS: u32 = 40;

impl Cluster {
    /// As data of the ConfigMap.
    pub fn write(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("clusterCIDR", self.cluster_cidr.to_string()),
            ("serviceCIDR", self.service_cidr.to_string()),
            ("clusterDNS", self.dns.to_string()),
            ("clusterDomain", self.domain.clone()),
            ("server", self.server.clone()),
            ("leaseDurationSeconds", self.lease_seconds.to_string()),
            ("vxlan", self.vxlan.to_string()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// From data of the ConfigMap. The error names the key.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Cluster, String> {
        fn value<T: std::str::FromStr<Err: std::fmt::Display>>(data: &BTreeMap<String, String>, key: &str) -> Result<T, String> {
            let text = data.get(key).ok_or_else(|| format!("{NAMESPACE}/{NAME} has no {key}"))?;
            text.parse().map_err(|error| format!("{NAMESPACE}/{NAME}: {key}: {text:?}: {error}"))
        }
        Ok(Cluster {
            cluster_cidr: value(data, "clusterCIDR")?,
            service_cidr: value(data, "serviceCIDR")?,
            dns: value(data, "clusterDNS")?,
            domain: value(data, "clusterDomain")?,
            server: value(data, "server")?,
            // Servers of before do not say it.
            lease_seconds: match data.contains_key("leaseDurationSeconds") {
                true => value::<std::num::NonZero<u32>>(data, "leaseDurationSeconds")?.get(),
                false => LEASE_SECONDS,
            },
            vxlan: if data.contains_key("vxlan") { value(data, "vxlan")? } else { Vxlan::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_tunnel() {
        assert_eq!(node_of_tunnel(&tunnel_path("a.b-1")), Some("a.b-1"));
        for path in ["/orch/v1/nodes//tunnel", "/orch/v1/nodes/a/b/tunnel", "/orch/v1/nodes/a", "/orch/v1/secrets-encrypt"] {
            assert_eq!(node_of_tunnel(path), None, "{path}");
        }
    }

    #[test]
    fn written_and_read() {
        let cluster = Cluster {
            cluster_cidr: "10.42.0.0/16".parse().unwrap(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            dns: [10, 43, 0, 10].into(),
            domain: "cluster.local".into(),
            server: "https://192.0.2.1:6443".into(),
            lease_seconds: 8,
            vxlan: Vxlan::Always,
        };
        let mut data = cluster.write();
        assert_eq!(Cluster::read(&data), Ok(cluster.clone()));
        data.insert("leaseDurationSeconds".into(), "0".into());
        assert!(Cluster::read(&data).unwrap_err().contains("leaseDurationSeconds"));
        data.remove("leaseDurationSeconds");
        data.insert("vxlan".into(), "never".into());
        assert_eq!(Cluster::read(&data).unwrap_err(), "kube-system/orch-cluster: vxlan: \"never\": must be one of as-needed, always");
        data.remove("vxlan");
        assert_eq!(Cluster::read(&data), Ok(Cluster { lease_seconds: 40, vxlan: Vxlan::AsNeeded, ..cluster }));
        data.insert("clusterDNS".into(), "x".into());
        assert_eq!(Cluster::read(&data).unwrap_err(), "kube-system/orch-cluster: clusterDNS: \"x\": invalid IPv4 address syntax");
        data.remove("clusterDNS");
        assert_eq!(Cluster::read(&data).unwrap_err(), "kube-system/orch-cluster has no clusterDNS");
    }
}
