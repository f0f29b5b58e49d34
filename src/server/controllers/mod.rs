//! The controllers: one file each, one row each in [`controllers`].
//!
//! Every one is a pure function of a snapshot. Never: I/O, a clock, or a call of another controller.

mod bootstrap_signer;
mod bootstrap_tokens;
mod certificates;
mod cluster_authentication;
mod cluster_role_aggregation;
mod conditions;
mod daemonset;
mod definitions;
mod deployment;
mod endpoints;
mod event_ttl;
mod fairness;
mod garbage;
mod hash;
mod job;
mod kubernetes_service;
mod namespace_defaults;
mod namespace_lifecycle;
mod node_ipam;
mod node_lifecycle;
mod node_role;
mod pod_gc;
mod pods;
mod policy_types;
mod replicaset;
mod resource_quota;
mod service_account_tokens;
mod statefulset;
mod storage_protection;

use std::borrow::Cow;

use std::sync::Arc;

use jiff::SignedDuration;

use crate::server::auth::Authority;
use crate::server::auth::token::TokenKey;
use crate::server::pki::Pki;
use crate::server::reconcile::Controller;
pub use node_lifecycle::Eviction;
pub use policy_types::{KindTypes, PolicyTypes};

/// What the garbage collector must know of a served resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// `Pod`.
    pub kind: Cow<'static, str>,
    /// `pods`.
    pub resource: Cow<'static, str>,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
}

/// Whom extension servers may believe, for the ConfigMap that tells them.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Signs clients, PEM.
    pub client_ca: String,
    /// Signs front proxies, PEM.
    pub front_proxy_ca: String,
    /// Common names of front proxies.
    pub allowed_names: Vec<String>,
    /// Headers with names of users.
    pub username_headers: Vec<String>,
    /// Headers with uids.
    pub uid_headers: Vec<String>,
    /// Headers with groups.
    pub group_headers: Vec<String>,
    /// Beginnings of headers with more.
    pub extra_prefixes: Vec<String>,
}

/// What the controllers are told about the cluster.
#[derive(Clone, Debug)]
pub struct ControllersConfig {
    /// Signs certificates.
    pub pki: Arc<Pki>,
    /// The longest life of what it signs.
    pub signing: std::time::Duration,
    /// How long a node may be silent.
    pub node_grace: std::time::Duration,
    /// How fast pods are driven away from nodes that are not ready.
    pub eviction: Eviction,
    /// Who may have requests signed without a person's approval.
    pub authority: Arc<Authority>,
    /// Signs tokens that are kept in Secrets.
    pub tokens: Arc<TokenKey>,
    /// Whom extension servers may believe.
    pub trust: Trust,
    /// The cluster's CA certificate, published in every namespace.
    pub ca_pem: String,
    /// Address of the `kubernetes` Service.
    pub service_ip: std::net::IpAddr,
    /// Where the API server itself listens, as its Service's endpoint.
    pub advertise_address: std::net::IpAddr,
    /// And on which port.
    pub advertise_port: u16,
    /// All pods: each node gets a part of it.
    pub cluster_cidr: ipnet::Ipv4Net,
    /// All resources served.
    pub resources: Vec<ResourceInfo>,
    /// The node on this server's machine; empty where none runs.
    pub own_node: String,
    /// When this server started: silence of a node from before does not count against it.
    pub started: jiff::Timestamp,
}

/// All controllers.
pub fn controllers(config: &ControllersConfig) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(deployment::Deployments),
        Box::new(replicaset::ReplicaSets),
        Box::new(replicaset::ReplicationControllers),
        Box::new(endpoints::EndpointsController),
        Box::new(endpoints::EndpointSlices),
        Box::new(namespace_defaults::SystemNamespaces),
        Box::new(namespace_defaults::DefaultAccounts),
        Box::new(namespace_defaults::RootCa { ca_pem: config.ca_pem.clone() }),
        Box::new(namespace_lifecycle::Namespaces),
        Box::new(definitions::Definitions),
        Box::new(definitions::Instances),
        Box::new(garbage::Garbage::new(&config.resources)),
        Box::new(node_lifecycle::Nodes {
            started: config.started,
            grace: SignedDuration::try_from(config.node_grace).unwrap_or(SignedDuration::MAX),
            eviction: config.eviction,
        }),
        Box::new(node_ipam::NodeRanges { cluster: config.cluster_cidr }),
        Box::new(node_role::ControlPlaneRole { node: config.own_node.clone() }),
        Box::new(pod_gc::PodGarbage),
        Box::new(kubernetes_service::KubernetesService {
            service_ip: config.service_ip,
            address: config.advertise_address,
            port: config.advertise_port,
        }),
        Box::new(cluster_role_aggregation::Aggregation),
        Box::new(cluster_authentication::ClusterAuthentication { trust: config.trust.clone() }),
        Box::new(service_account_tokens::SecretTokens { key: config.tokens.clone(), ca_pem: config.ca_pem.clone() }),
        Box::new(bootstrap_tokens::TokenCleaner),
        Box::new(bootstrap_signer::BootstrapSigner),
        Box::new(certificates::approve::Approver { authority: config.authority.clone() }),
        Box::new(certificates::sign::Signer {
            pki: config.pki.clone(),
            longest: SignedDuration::try_from(config.signing).unwrap_or(SignedDuration::MAX),
        }),
        Box::new(certificates::clean::Cleaner),
        Box::new(certificates::trust_bundle::ServingTrustBundle { ca_pem: config.ca_pem.clone() }),
        Box::new(event_ttl::EventTtl),
        Box::new(fairness::Fairness),
        Box::new(job::Jobs),
        Box::new(daemonset::DaemonSets),
        Box::new(statefulset::StatefulSets),
        Box::new(resource_quota::ResourceQuotas),
        Box::new(storage_protection::ClaimProtection),
        Box::new(storage_protection::VolumeProtection),
        Box::new(storage_protection::ClassProtection),
    ]
}
