//! The server: store, API, controllers, scheduler, put together.
//!
//! This file is the composition root: it builds the parts, hands each what it needs, and takes them down in the right order.
//!
//! Invariants: one server per data directory (a lock says so); the API answers `/readyz` only once what every cluster has is
//! there; a clean shutdown ends requests, then controllers, then the store, and leaves nodes and their containers alone.
//!
//! Never: decides anything that belongs to a part, or talks to an agent but over HTTP.

pub mod aggregation;
pub mod auth;
mod bootstrap;
pub mod callouts;
pub mod controllers;
pub mod custom;
pub mod encryption;
pub mod http;
mod kind_types;
pub mod kinds;
pub mod outbound;
pub mod pki;
pub mod quota;
pub mod reconcile;
pub mod registry;
pub mod scheduler;
mod settings;
pub mod store;
pub mod tunnel;
mod ways_in;

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::cluster::{Cluster, LEASE_SECONDS};
use crate::api::join_token::AuthorityHash;
use crate::api::{Rev, Status};
use crate::config::ServerConfig;
use crate::files::{self, FileError};
use crate::transport;
use aggregation::Aggregator;
use auth::Authority;
use auth::token::TokenKey;
use controllers::ControllersConfig;
use custom::CustomKinds;
use encryption::{Encryption, EncryptionError, Keeper};
use http::audit::policy::PolicyError;
use http::health::SHUTDOWN;
use http::plain::Readiness;
use http::{App, ClusterInfo};
use kinds::KINDS;
use outbound::Outbound;
use pki::{Pki, PkiConfig, PkiError};
use registry::{INDEXES, Parts, Registry, RegistryConfig};
use store::{BackendError, Limits, Store, backup};
use tunnel::Tunnels;

/// The API version that is served, as `/version` and nodes say it.
pub const VERSION: &str = concat!("v1.37.0+orch", env!("CARGO_PKG_VERSION_MAJOR"));
/// How often a backup of the store is written, if anything changed.
const BACKUP_EVERY: Duration = Duration::from_secs(15 * 60);
/// What `/readyz` waits for.
const BOOTSTRAPPED: &str = "poststarthook/bootstrap";

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Names of admission plug-ins.
    #[error("{0}")]
    Admission(String),
    /// Somebody else has it.
    #[error("another orch server runs on {0}; stop it first, or choose another --data-dir")]
    AlreadyRunning(PathBuf),
    /// A file operation.
    #[error("{doing} {path}: {source}")]
    Io {
        /// Such as `making`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is taken or not ours.
    #[error("listening on {address}: {source}; choose another --bind-address or --https-listen-port")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A private file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error("opening the store: {0}")]
    Store(#[from] BackendError),
    /// The keys of Secrets at rest.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// What is to be recorded.
    #[error(transparent)]
    AuditPolicy(#[from] PolicyError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The key of service account tokens.
    #[error("the service account key: {0}")]
    TokenKey(#[from] auth::token::TokenError),
    /// A file of credentials.
    #[error("--{flag}: {path}: {source}")]
    AuthFile {
        /// Which flag names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of its contents.
        source: auth::authn::files::FileError,
    },
    /// What every cluster has could not be written.
    #[error("writing what every cluster has, {what}: {status}")]
    Bootstrap {
        /// Such as `Namespace default`.
        what: String,
        /// The registry's answer.
        status: Box<Status>,
    },
}

/// A server that answers.
pub struct Server {
    /// The authority, for the identities of the local node.
    pub pki: Arc<Pki>,
    data: PathBuf,
    /// Where other machines find the API.
    url: String,
    registry: Registry,
    readiness: Arc<Readiness>,
    shutdown_delay: Duration,
    stopping: CancellationToken,
    /// Tasks that run until told to stop.
    tasks: JoinSet<()>,
    dir: PathBuf,
    backed_up: Rev,
    _lock: File,
}

/// Starts a server; returns when it answers and is ready.
pub async fn start(config: &ServerConfig) -> Result<Server, ServerError> {
    let data = &config.node.data_dir;
    std::fs::create_dir_all(data).map_err(|source| ServerError::Io { doing: "making", path: data.clone(), source })?;
    let lock = lock(data)?;
    // Bound first: a port that is taken should be known before anything is written.
    let address = SocketAddr::new(config.bind, config.port);
    let listener = TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })?;
    let dir = data.join("store");
    let (opening, path) = (config.clone(), dir.clone());
    let opened = tokio::task::spawn_blocking(move || -> Result<_, ServerError> {
        let pki = std::thread::scope(|scope| {
            let pki = scope.spawn(|| Pki::open(&opening.node.data_dir, &pki_config(&opening)));
            let encryption = Arc::new(Encryption::open(&opening.node.data_dir, opening.encryption.as_deref())?);
            let (store, stale) = Store::open_sealed(&path, Limits::default(), INDEXES, encryption.clone())?;
            // A new key is on the disk before anything is sealed with it.
            encryption.save()?;
            let keeper = Keeper::new(encryption, store.clone(), path.clone());
            Ok::<_, ServerError>((pki.join().expect("making certificates does not panic")?, store, keeper, stale))
        })?;
        pki.0.write_admin_kubeconfig(&opening.kubeconfig, &opening.local_url())?;
        Ok(pki)
    });
    let (pki, store, keeper, stale) = opened.await.expect("opening does not panic")?;
    if let Err(error) = keeper.seal_plain(stale).await {
        tracing::error!(%error, "Secrets that an earlier version wrote are not encrypted yet");
    }
    let pki = Arc::new(pki);
    let ports = RegistryConfig::default().node_port_range;
    let tunnels = Tunnels::default();
    let outbound = Outbound::through(tunnels.clone(), store.clone(), Some(pki.front_proxy()));
    let parts = Parts {
        config: RegistryConfig {
            service_cidr: config.service_cidr.into(),
            node_port_range: ports,
            not_ready_toleration: config.not_ready_toleration,
            unreachable_toleration: config.unreachable_toleration,
        },
        extensions: Arc::new(CustomKinds::new(outbound.clone())),
        callout: Arc::new(callouts::Webhooks(outbound.clone())),
        without: registry::plugins_without(&config.enable_admission_plugins, &config.disable_admission_plugins)
            .map_err(ServerError::Admission)?,
    };
    let registry = Registry::with_parts(store, &KINDS, parts);
    let stopping = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let readiness = Arc::new(Readiness::new(&[BOOTSTRAPPED]));
    let mut app = App::build(
        registry.clone(),
        ways_in::authenticator(config, token_key(config, &pki)?, registry.store())?,
        Arc::new(pki.kubelet_client_tls()?),
        ClusterInfo { version: VERSION.into(), server_address: advertised(config).to_string() },
        readiness.clone(),
        stopping.clone(),
    );
    app.tunnels = tunnels;
    let app = app.with(settings::settings(config, keeper)?);
    let stats = Arc::new(reconcile::Stats::default());
    let counted = stats.clone();
    app.metrics.add(Box::new(move |out| counted.write(out)));
    tasks.spawn(http::fairness::keep(app.fairness.clone(), registry.store().clone(), stopping.clone()));
    let aggregator = Aggregator::new(registry.clone(), outbound);
    app.aggregator.set(aggregator.clone()).ok();
    tasks.spawn(aggregation::run(aggregator, stopping.clone()));
    let (fresh, stop) = (app.clone(), stopping.clone());
    tasks.spawn(async move { fresh.authenticator.keep_fresh(stop).await });
    let authority = app.authority.clone();
    let (tls, stop) = (Arc::new(pki.server_tls()?), stopping.clone());
    let (clients, front_proxies) = pki.identify()?;
    let identify = http::Identify { clients, front_proxies };
    let covering = pki.clone();
    let arrived = move |at| match covering.cover(at) {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            address = %at,
            "clients reach this server at an address that it did not know; its certificate is for it now"
        ),
        Err(error) => tracing::error!(%error, address = %at, "the certificate of the server can't be made to cover an address"),
    };
    tasks.spawn(async move {
        let identify = move |peer: &transport::Peer| identify.peer(peer);
        if let Err(error) = transport::serve("API", listener, tls, http::router(app), arrived, identify, stop).await {
            tracing::error!(%error, "the API stopped");
        }
    });
    let ca = AuthorityHash::of(&pki.ca_der()?)
        .ok_or_else(|| PkiError::Damaged { path: data.join("tls/ca.pem"), what: "its key can't be read".into() })?;
    bootstrap::apply(&registry, config, &cluster(config), (pki.ca_pem(), ca)).await?;
    readiness.set(BOOTSTRAPPED, true);
    let mut controllers = controllers::controllers(&controllers_config(config, &pki, authority)?);
    controllers.push(Box::new(scheduler::Scheduler));
    controllers.push(Box::new(controllers::PolicyTypes { kinds: Box::new(kind_types::ServedTypes(registry.clone())) }));
    tasks.spawn(reconcile::run(registry.clone(), controllers, stats, stopping.clone()));
    tasks.spawn(keep_backups(registry.clone(), dir.clone(), stopping.clone()));
    tasks.spawn(pki::keep_fresh(pki.clone(), config.kubeconfig.clone(), config.local_url(), stopping.clone()));
    let shutdown_delay = config.shutdown_delay;
    let (data, url) = (data.clone(), cluster(config).server);
    Ok(Server { pki, data, url, backed_up: Rev(0), registry, readiness, shutdown_delay, stopping, tasks, dir, _lock: lock })
}

impl Server {
    /// The command that makes another machine a node. Without its secret it names where that is.
    pub fn join_line(&self, whole: bool) -> String {
        let file = self.data.join(bootstrap::join::FILE);
        let token = files::read(&file).ok().flatten().filter(|_| whole);
        let token = token.map_or_else(|| format!("TOKEN   (it is in {})", file.display()), |token| token.trim().to_owned());
        format!("orch agent --join {} --token {token}", self.url)
    }

    /// Waits for a part that ends by itself, which none should.
    pub async fn failed(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the server failed");
            }
            if !self.stopping.is_cancelled() {
                return;
            }
        }
    }

    /// Says that it is not ready, ends requests, controllers, and the store, in this order; leaves a backup behind.
    pub async fn stop(mut self) {
        self.readiness.set(SHUTDOWN, false);
        // Time for load balancers to notice.
        tokio::time::sleep(self.shutdown_delay).await;
        self.stopping.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the server failed while stopping");
            }
        }
        let store = self.registry.store().clone();
        write_backup(&store, &self.dir, &mut self.backed_up).await;
        store.close().await;
    }
}

fn token_key(config: &ServerConfig, pki: &Pki) -> Result<TokenKey, ServerError> {
    Ok(TokenKey::new(&pki.service_account_key_der()?, &config.cluster_domain)?)
}

fn lock(data: &Path) -> Result<File, ServerError> {
    let path = data.join("lock");
    let failed = |doing| move |path: &Path, source| ServerError::Io { doing, path: path.into(), source };
    let file = File::create(&path).map_err(|source| failed("making")(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServerError::AlreadyRunning(data.into())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed("locking")(&path, source)),
    }
}

fn pki_config(config: &ServerConfig) -> PkiConfig {
    let mut node_ips = vec![config.node.ip];
    node_ips.extend((!config.bind.is_unspecified()).then_some(config.bind));
    PkiConfig {
        host_name: config.node.name.clone(),
        node_ips,
        service_ip: IpAddr::V4(config.api_service_ip()),
        cluster_domain: config.cluster_domain.clone(),
        tls_sans: config.tls_san.clone(),
        front_proxy_ca_pem: config.auth.front_proxy.ca_pem.clone(),
    }
}

/// Where pods and other machines reach this server.
fn advertised(config: &ServerConfig) -> SocketAddr {
    let ip = if config.bind.is_unspecified() || config.bind.is_loopback() { config.node.ip } else { config.bind };
    SocketAddr::new(ip, config.port)
}

fn cluster(config: &ServerConfig) -> Cluster {
    Cluster {
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_cidr,
        dns: config.dns_ip(),
        domain: config.cluster_domain.clone(),
        server: format!("https://{}", advertised(config)),
        lease_seconds: u32::try_from(config.health.grace.as_secs()).unwrap_or(u32::MAX).min(LEASE_SECONDS),
        vxlan: config.vxlan,
    }
}

fn controllers_config(config: &ServerConfig, pki: &Arc<Pki>, authority: Arc<Authority>) -> Result<ControllersConfig, ServerError> {
    let resource = |kind: &registry::KindRef| {
        let registry::Names { group, kind: name, resource, .. } = kind.names().clone();
        controllers::ResourceInfo { group, kind: name, resource, namespaced: kind.info.namespaced }
    };
    let advertised = advertised(config);
    let proxy = &config.auth.front_proxy;
    let list = |names: &[String]| names.to_vec();
    Ok(ControllersConfig {
        pki: pki.clone(),
        signing: config.signing_duration,
        node_grace: config.health.grace,
        eviction: controllers::Eviction {
            rate: config.health.rate,
            secondary_rate: config.health.secondary_rate,
            unhealthy: config.health.unhealthy,
            large: config.health.large as usize,
        },
        authority,
        tokens: Arc::new(token_key(config, pki)?),
        trust: controllers::Trust {
            client_ca: pki.ca_pem().into(),
            front_proxy_ca: pki.front_proxy_ca_pem().into(),
            allowed_names: list(&proxy.allowed_names),
            username_headers: list(&proxy.username_headers),
            uid_headers: list(&proxy.uid_headers),
            group_headers: list(&proxy.group_headers),
            extra_prefixes: list(&proxy.extra_prefixes),
        },
        ca_pem: pki.ca_pem().into(),
        service_ip: IpAddr::V4(config.api_service_ip()),
        advertise_address: advertised.ip(),
        advertise_port: advertised.port(),
        cluster_cidr: config.cluster_cidr,
        resources: KINDS.iter().filter(|kind| !kind.info.virtual_only && !kind.info.computed).map(resource).collect(),
        own_node: if config.agent { config.node.name.clone() } else { String::new() },
        started: jiff::Timestamp::now(),
    })
}

/// Backups now and then, so that a database that can't be read any more costs little.
async fn keep_backups(registry: Registry, dir: PathBuf, stopping: CancellationToken) {
    let mut last = Rev(0);
    let mut timer = tokio::time::interval(BACKUP_EVERY);
    timer.tick().await;
    loop {
        tokio::select! {
            _ = timer.tick() => write_backup(registry.store(), &dir, &mut last).await,
            () = stopping.cancelled() => return,
        }
    }
}

async fn write_backup(store: &Store, dir: &Path, last: &mut Rev) {
    let snapshot = store.snapshot();
    let rev = snapshot.rev();
    if rev == *last {
        return;
    }
    let (dir, store) = (dir.to_path_buf(), store.clone());
    match tokio::task::spawn_blocking(move || backup::write(&dir, &snapshot, store.codec(), backup::KEEP))
        .await
        .expect("writing a backup does not panic")
    {
        Ok(path) => {
            tracing::debug!(path = %path.display(), "wrote a backup");
            *last = rev;
        }
        Err(error) => tracing::warn!(%error, "writing a backup of the store"),
    }
}
