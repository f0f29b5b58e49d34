//! How a machine becomes a node, and stays one: the first contact, its certificates, their renewal.
//!
//! Words: a *token* names the cluster's authority by a hash, and lets its bearer ask for a client certificate, once; the *folder*
//! `DATA_DIR/agent` holds the authority and the node's two identities, one for calling and one for being called.
//!
//! Invariants: nothing is sent to a server that is not certified by the authority that the token names; keys are made here and never leave;
//! from the first certificate on, the token is not used again while that certificate is good; certificates are replaced while they are
//! in use, well before their end.
//!
//! Never: logs a token or a key, or gives up what a node is because the server can't be reached.
//!
//! Follows `cmd/kubeadm/app/discovery`, `pkg/kubelet/certificate/bootstrap` and KEP-266.

pub mod identity;
mod pin;
pub mod request;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use tokio_util::sync::CancellationToken;

use super::tunnel::{Reach, TunnelConfig};
use crate::api::cluster::{self, Cluster};
use crate::api::join_token::{AuthorityHash, JoinToken};
use crate::client::{self, Client, ClientError, code};
use crate::files::{self, FileError};
use crate::transport::{LiveCertificate, LiveError};
use identity::{Folder, Identity};
use request::Sort;

/// What the agent calls itself.
pub(super) const PROGRAM: &str = concat!("kubelet/", env!("CARGO_PKG_VERSION"));
/// Pauses between attempts to reach a server that is not there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After a renewal that failed.
const RETRY: Duration = Duration::from_secs(30);

/// What joining needs to know.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// The API, `https://HOST:PORT`.
    pub url: http::Uri,
    /// The node's name.
    pub node_name: String,
    /// Where its folder goes.
    pub data_dir: PathBuf,
    /// How to be let in.
    pub entry: Entry,
}

/// How a machine that has no certificate gets one.
#[derive(Clone, Debug)]
pub enum Entry {
    /// By a token; `None`: it must have a certificate already.
    Token(Option<JoinToken>),
    /// It is handed authority and identity (the server's own node).
    Given {
        /// The authority, PEM.
        ca_pem: String,
        /// A client certificate followed by its key, PEM.
        client_pem: String,
    },
}

/// Why a machine can't be a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Where to join is no address of a server.
    #[error("--join: {0}; give the server's address, such as https://192.0.2.1:6443")]
    Url(String),
    /// A file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is there, and is not what was written.
    #[error("{path} is damaged ({what}); remove it and join again with --token")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is nothing to come in with.
    #[error("{why}; give --token, which `orch token create --print-join-command` prints on the server")]
    NoToken {
        /// Why the node has no certificate.
        why: String,
    },
    /// The server is not certified by the token's authority.
    #[error(
        "the server at {at} is not of the cluster that the token is for: the token names the authority {wanted}, the server shows {shown}. \
         Check the address, and whether token and server belong together; if they do, somebody is in between"
    )]
    OtherCluster {
        /// The server.
        at: String,
        /// The token's.
        wanted: String,
        /// The server's.
        shown: String,
    },
    /// The node was of another cluster.
    #[error(
        "{folder} makes this machine a node of another cluster (authority {held}; the token names {wanted}); to leave that cluster, run \
         `orch reset`, then join again"
    )]
    StillMember {
        /// Where that is noted.
        folder: PathBuf,
        /// The old authority.
        held: String,
        /// The new one.
        wanted: String,
    },
    /// The server is certified by another authority than the node's.
    #[error(
        "the server at {at} is not certified by the authority of the cluster that this machine is a node of ({held}); if the cluster was \
         made anew, run `orch reset` here and join again with a token of the new one"
    )]
    OtherAuthority {
        /// The server.
        at: String,
        /// The node's.
        held: String,
    },
    /// The server's certificate does not hold.
    #[error(
        "the certificate of the server at {at} can't be accepted: {why}; if it is called by a name or address that the server does not \
             know, start the server with --tls-san for it; if it is a matter of time, check both clocks"
    )]
    Certificate {
        /// The server.
        at: String,
        /// Why not.
        why: String,
    },
    /// Nobody answers.
    #[error(
        "the server at {at} can't be reached: {why}; if it has another address now, restart this agent with --join for it: a node stays the \
         same node"
    )]
    Unreachable {
        /// The server.
        at: String,
        /// Why not.
        why: String,
    },
    /// The token is no good.
    #[error(
        "the server refused the token {id}: it is wrong, has expired or was deleted; on the server, `orch token list` shows the good ones, \
         and `orch token create --print-join-command` makes another"
    )]
    BadToken {
        /// Its public half.
        id: String,
    },
    /// The cluster said no.
    #[error("the cluster refused the {what} of node {node}: {why}")]
    Refused {
        /// Such as `client certificate`.
        what: &'static str,
        /// Whose.
        node: String,
        /// Its words.
        why: String,
    },
    /// The cluster said nothing.
    #[error("nobody answered the signing request {name} within {waited:?}; `kubectl certificate approve {name}` does")]
    Unanswered {
        /// The request.
        name: String,
        /// How long.
        waited: Duration,
    },
    /// The API refused something else.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// The cluster's settings can't be used.
    #[error("the cluster's settings: {0}")]
    Settings(String),
    /// A key can't be made.
    #[error("making a key: {0}")]
    Key(#[from] rcgen::Error),
    /// TLS.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A certificate can't be shown.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A member of a cluster: how it calls the API, and what it shows when called.
pub struct Member {
    /// The API, as this node.
    pub client: Client,
    /// What the cluster is like.
    pub cluster: Cluster,
    node: String,
    /// Host and port of the server.
    server: (String, u16),
    folder: Folder,
    roots: RootCertStore,
    shown_to_api: Arc<LiveCertificate>,
    shown_to_callers: Arc<LiveCertificate>,
    client_identity: Mutex<Identity>,
    serving_identity: Mutex<Option<Identity>>,
}

/// Why a certificate was refused, if that is what `error` is about.
fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(why);
    }
    // The source of an I/O error is that of what it wraps, not what it wraps.
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
        return refusal(inner);
    }
    error.source().and_then(refusal)
}

/// What went wrong with the server that a node talks to, and what may be done about it, which is nothing where waiting is all. `long`: it
/// has been so for a while.
pub fn explain(error: &kube::Error, long: bool) -> (String, &'static str) {
    let advice = match (refusal(error), code(error)) {
        (Some(CertificateError::UnknownIssuer | CertificateError::BadSignature), _) => {
            "; the server is not certified by the authority of the cluster that this machine is a node of: if the cluster was made anew, run \
             `orch reset` here and join again with a token of the new one"
        }
        (Some(_), _) => {
            "; the server's certificate can't be accepted: check both clocks, and whether the server knows the address of --join \
             (its --tls-san)"
        }
        (None, Some(401)) => "; the cluster does not accept this node's certificate: restart this agent with --token to get another",
        (None, None) if long => {
            "; if the server has another address now, restart this agent with --join for it: it stays the same node, and containers keep \
             running"
        }
        (None, _) => "",
    };
    (chain(error), advice)
}

/// Host and port of `url`.
fn place(url: &http::Uri) -> Result<(String, u16), JoinError> {
    let host = url.host().ok_or_else(|| JoinError::Url(format!("{url} names no host")))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), url.port_u16().unwrap_or(443)))
}

/// Joins, or returns. Waits for a server that can't be reached; gives up on anything that waiting does not mend.
pub async fn join(config: &JoinConfig) -> Result<Member, JoinError> {
    let folder = Folder::open(&config.data_dir)?;
    let (host, port) = place(&config.url)?;
    let at = format!("{host}:{port}");
    let (ca, identity) = match &config.entry {
        Entry::Given { ca_pem, client_pem } => given(config, &folder, ca_pem, client_pem)?,
        Entry::Token(token) => enter(config, &folder, token.as_ref(), (&host, port)).await?,
    };
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let shown_to_api = Arc::new(LiveCertificate::default());
    shown_to_api.set(&identity.cert_pem, &identity.key_pem, &rustls::crypto::ring::default_provider())?;
    let client = client::with_certificate(config.url.clone(), roots.clone(), shown_to_api.clone(), PROGRAM)?;
    let cluster = settings(&client, &at, &ca).await?;
    let serving_identity = Identity::load(&folder.serving()).unwrap_or_else(|error| {
        tracing::warn!(%error, "asking for another serving certificate");
        None
    });
    Ok(Member {
        client,
        cluster,
        node: config.node_name.clone(),
        server: (host, port),
        folder,
        roots,
        shown_to_api,
        shown_to_callers: Arc::default(),
        client_identity: Mutex::new(identity),
        serving_identity: Mutex::new(serving_identity),
    })
}

/// What the server's own node is handed; what it has stays while it is good.
fn given(config: &JoinConfig, folder: &Folder, ca_pem: &str, client_pem: &str) -> Result<(CertificateDer<'static>, Identity), JoinError> {
    let ca = authority_in(ca_pem).map_err(JoinError::Settings)?;
    let held = files::read(&folder.authority())?.and_then(|pem| authority_in(&pem).ok());
    let same = held.is_some_and(|held| AuthorityHash::of(&held) == AuthorityHash::of(&ca));
    if !same {
        files::write_private(&folder.authority(), ca_pem.as_bytes())?;
    } else if let Ok(Ok(identity)) = Identity::load(&folder.client()).map(|held| usable(held, &config.node_name)) {
        return Ok((ca, identity));
    }
    let identity = Identity::parse(client_pem).map_err(JoinError::Settings)?;
    identity.store(&folder.client())?;
    Ok((ca, identity))
}

fn authority_in(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())
}

/// A node's name in its certificates.
fn common_name(node: &str) -> String {
    format!("system:node:{node}")
}

/// A certificate that node `node` can show now, or why it has none.
fn usable(held: Option<Identity>, node: &str) -> Result<Identity, String> {
    let identity = held.ok_or("this machine is no node yet")?;
    if identity.common_name != common_name(node) {
        return Err(format!("this machine has the certificate of {}, and is now called {node}", identity.common_name));
    }
    if identity.not_after <= Timestamp::now() {
        return Err(format!("the certificate of this node expired at {}", identity.not_after));
    }
    Ok(identity)
}

/// The authority and a client certificate: what the folder holds, or what the token gets.
async fn enter(
    config: &JoinConfig,
    folder: &Folder,
    token: Option<&JoinToken>,
    (host, port): (&str, u16),
) -> Result<(CertificateDer<'static>, Identity), JoinError> {
    let held = match files::read(&folder.authority())? {
        None => None,
        Some(pem) => Some(authority_in(&pem).map_err(|what| JoinError::Damaged { path: folder.authority(), what })?),
    };
    if let (Some(held), Some(token)) = (held.as_ref().and_then(|der| AuthorityHash::of(der)), token)
        && held != token.authority
    {
        let (held, wanted) = (held.to_string(), token.authority.to_string());
        return Err(JoinError::StillMember { folder: folder.path().into(), held, wanted });
    }
    let identity = Identity::load(&folder.client())?;
    // Whoever was this node, and has its key still, may be it again.
    let key = identity.as_ref().filter(|held| held.common_name == common_name(&config.node_name)).map(|held| held.key_pem.clone());
    let why = match (held, usable(identity, &config.node_name)) {
        (Some(ca), Ok(identity)) => return Ok((ca, identity)),
        (None, Ok(_)) => format!("{} is missing", folder.authority().display()),
        (_, Err(why)) => why,
    };
    let token = token.ok_or(JoinError::NoToken { why })?;
    let ca = patiently(|| pin::authority(host, port, token.authority)).await?;
    tracing::info!(server = %config.url, authority = %token.authority, token = token.id, "the server is the one that the token names; joining");
    let identity = patiently(|| ask(config, &ca, token, key.as_deref(), (host, port))).await?;
    // Only now: whoever is refused can try another token, or another cluster.
    files::write_private(&folder.authority(), pem_of(&ca).as_bytes())?;
    identity.store(&folder.client())?;
    tracing::info!(node = config.node_name, until = %identity.not_after, "this machine is a node");
    Ok((ca, identity))
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Asks, as the token's bearer, for the node's client certificate.
async fn ask(
    config: &JoinConfig,
    ca: &CertificateDer<'static>,
    token: &JoinToken,
    key: Option<&str>,
    (host, port): (&str, u16),
) -> Result<Identity, JoinError> {
    let mut bearer = kube::Config::new(config.url.clone());
    bearer.root_cert = Some(vec![ca.to_vec()]);
    bearer.auth_info.token = Some(token.bootstrap().into());
    bearer.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(PROGRAM)));
    let client = client::from_config(bearer)?;
    match request::certify(&client, &config.node_name, Sort::Client, &[], key).await {
        Err(JoinError::Api { source, .. }) if code(&source) == Some(401) => Err(JoinError::BadToken { id: token.id.clone() }),
        Err(JoinError::Api { source, .. }) if passes(&source) => {
            Err(JoinError::Unreachable { at: format!("{host}:{port}"), why: chain(&*source) })
        }
        other => other,
    }
}

/// Tries again while the server can't be reached.
async fn patiently<T, F: Future<Output = Result<T, JoinError>>>(mut attempt: impl FnMut() -> F) -> Result<T, JoinError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Err(error @ JoinError::Unreachable { .. }) => tracing::warn!(%error, again_in = ?pause, "waiting for the server"),
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether waiting may help: nobody answers, or a server that is starting or busy does.
fn passes(error: &kube::Error) -> bool {
    match code(error) {
        Some(code) => code == 429 || code >= 500,
        None => refusal(error).is_none(),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What the cluster is like. Waits for a server that is not there, or has not said it yet.
async fn settings(client: &Client, at: &str, ca: &CertificateDer<'static>) -> Result<Cluster, JoinError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), cluster::NAMESPACE);
    let map = patiently(|| async {
        api.get(cluster::NAME).await.map_err(|error| match refusal(&error) {
            Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                let held = AuthorityHash::of(ca).map(|hash| hash.to_string()).unwrap_or_default();
                JoinError::OtherAuthority { at: at.into(), held }
            }
            Some(why) => JoinError::Certificate { at: at.into(), why: why.to_string() },
            // 403 and 404: the server is about to write the rights of nodes, and the settings.
            None if passes(&error) || matches!(code(&error), Some(403 | 404)) => {
                JoinError::Unreachable { at: at.into(), why: chain(&error) }
            }
            None => JoinError::Api { doing: "reading the cluster's settings".into(), source: Box::new(error) },
        })
    })
    .await?;
    Cluster::read(&map.data.unwrap_or_default()).map_err(JoinError::Settings)
}

impl Member {
    /// Makes sure that there is a certificate for being called at `addresses`. The Node must say them by now.
    pub async fn serve_at(&self, addresses: &[IpAddr]) -> Result<(), JoinError> {
        let names = self.names(addresses);
        let held = self.serving_identity.lock().clone();
        let good = held.and_then(|held| usable(Some(held), &self.node).ok()).filter(|held| held.names == names);
        let identity = match good {
            Some(identity) => identity,
            None => self.renew(Sort::Serving, &names).await?,
        };
        self.show(Sort::Serving, identity)
    }

    fn names(&self, addresses: &[IpAddr]) -> Vec<String> {
        let mut names: Vec<String> = addresses.iter().map(IpAddr::to_string).chain([self.node.clone()]).collect();
        names.sort();
        names.dedup();
        names
    }

    /// How to keep a tunnel to the server, for what is in `reach`.
    pub fn tunnel(&self, reach: Reach) -> Result<TunnelConfig, JoinError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(self.shown_to_api.clone());
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TunnelConfig { server: self.server.clone(), tls: Arc::new(tls), node: self.node.clone(), reach })
    }

    /// TLS of the node's HTTPS port: callers' certificates are verified against the authority where they show one. HTTP/1.1, since streams
    /// are upgrades.
    pub fn server_tls(&self) -> Result<rustls::ServerConfig, JoinError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots.clone()), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| JoinError::Settings(error.to_string()))?;
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.shown_to_callers.clone());
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(tls)
    }

    /// What the Node says of its client certificate's key: whoever has the key may come back under the node's name.
    pub fn key_hash(&self) -> String {
        self.client_identity.lock().key_hash.clone()
    }

    async fn renew(&self, sort: Sort, names: &[String]) -> Result<Identity, JoinError> {
        let identity = request::certify(&self.client, &self.node, sort, names, None).await?;
        let path = match sort {
            Sort::Client => self.folder.client(),
            Sort::Serving => self.folder.serving(),
        };
        identity.store(&path)?;
        Ok(identity)
    }

    fn show(&self, sort: Sort, identity: Identity) -> Result<(), JoinError> {
        let live = match sort {
            Sort::Client => &self.shown_to_api,
            Sort::Serving => &self.shown_to_callers,
        };
        live.set(&identity.cert_pem, &identity.key_pem, &rustls::crypto::ring::default_provider())?;
        match sort {
            Sort::Client => *self.client_identity.lock() = identity,
            Sort::Serving => *self.serving_identity.lock() = Some(identity),
        }
        Ok(())
    }

    /// Renews what is due, until `stop`.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        tokio::join!(self.keep(Sort::Client, &stop), self.keep(Sort::Serving, &stop));
    }

    async fn keep(&self, sort: Sort, stop: &CancellationToken) {
        let held = || match sort {
            Sort::Client => Some(self.client_identity.lock().clone()),
            Sort::Serving => self.serving_identity.lock().clone(),
        };
        loop {
            let Some(identity) = held() else { return stop.cancelled().await };
            let due = identity.renewal(rand::random_range(0.0..1.0));
            let from_now = |time: Timestamp| Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
            // Certificates begin before they are signed, so that the shortest are due at once: not all the time.
            let wait = from_now(due).max(from_now(identity.not_after) / 10);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            let names = if sort == Sort::Client { Vec::new() } else { identity.names.clone() };
            let renewed = async {
                let fresh = self.renew(sort, &names).await?;
                self.show(sort, fresh)?;
                if sort == Sort::Client { self.note_key().await } else { Ok(()) }
            };
            match renewed.await {
                Ok(()) => tracing::info!(?sort, until = ?held().map(|identity| identity.not_after), "renewed a certificate of this node"),
                Err(error) => {
                    let pause = RETRY.min(wait.max(Duration::from_secs(1)));
                    tracing::warn!(?sort, %error, until = %identity.not_after, again_in = ?pause, "a certificate of this node can't be renewed");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Writes the key's hash into the Node.
    async fn note_key(&self) -> Result<(), JoinError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = serde_json::json!({"metadata": {"annotations": {cluster::KEY_ANNOTATION: self.key_hash()}}});
        let done = api.patch(&self.node, &PatchParams::default(), &Patch::Merge(patch)).await;
        done.map(drop).map_err(|source| JoinError::Api { doing: "noting the new key".into(), source: Box::new(source) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
