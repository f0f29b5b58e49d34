//! How the agent and kubectl talk to the API: a kube client over rustls with the ring provider, and one watch helper.
//!
//! [`changes`] watches, at first for what is there, resumes after a cut, begins anew after 410 and backs off; whoever reads it sees either a whole
//! [`Change::Reset`] or single changes after it, so that its copy can never keep something that is gone. It never gives up and
//! never hides an error: each is logged once.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::api::Api;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};

use tower::ServiceBuilder;

use crate::transport::LiveCertificate;
pub use kube::Client;

/// How long a connection may be silent before it is asked whether it lives, and how long the answer may take.
const PING: Duration = Duration::from_secs(10);

/// The longest pause between attempts to watch: whoever comes back after having been cut off should not act on what was for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a client can't be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file can't be read.
    #[error("reading kubeconfig {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not text.
    #[error("the kubeconfig is not valid UTF-8")]
    NotText,
    /// It is no kubeconfig, or names what it does not have.
    #[error("invalid kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// TLS can't be set up.
    #[error("setting up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// Certificates or keys in it can't be used.
    #[error("building the API client: {0}")]
    Build(#[source] Box<kube::Error>),
}

/// A client from the bytes of a kubeconfig (its current context). `program` is what it calls itself, and so the field manager of what
/// it writes.
pub async fn from_kubeconfig(bytes: &[u8], program: &'static str) -> Result<Client, ClientError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ClientError::NotText)?;
    let mut config = kube::Config::from_custom_kubeconfig(Kubeconfig::from_yaml(text)?, &KubeConfigOptions::default()).await?;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(program)));
    from_config(config)
}

/// A client from a kubeconfig file; see [`from_kubeconfig`].
pub async fn from_file(path: &Path, program: &'static str) -> Result<Client, ClientError> {
    let bytes = tokio::fs::read(path).await.map_err(|source| ClientError::Read { path: path.into(), source })?;
    from_kubeconfig(&bytes, program).await
}

/// A client from a finished configuration. Makes sure that a TLS provider is installed.
pub fn from_config(config: kube::Config) -> Result<Client, ClientError> {
    // Fails only if one is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).map_err(|error| ClientError::Build(Box::new(error)))
}

/// A client that shows a certificate which may be replaced while it runs. Speaks HTTP/2: one connection carries all of an agent's watches.
pub fn with_certificate(
    url: http::Uri,
    roots: rustls::RootCertStore,
    certificate: Arc<LiveCertificate>,
    program: &'static str,
) -> Result<Client, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots)
        .with_client_cert_resolver(certificate);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Head and body of a request are two writes: the second is not to wait until the first is acknowledged, which may take 40 ms.
    tcp.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().wrap_connector(tcp);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        // A server that is cut off is noticed by its silence.
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .build(connector);
    let mut config = kube::Config::new(url);
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(program)));
    let failed = |error: kube::Error| ClientError::Build(Box::new(error));
    let service = ServiceBuilder::new().layer(config.base_uri_layer()).layer(config.extra_headers_layer().map_err(failed)?).service(http);
    Ok(Client::new(service, "default"))
}

/// The HTTP status code of a refusal by the API server.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// A step of a watched set.
#[derive(Debug)]
pub enum Change<K> {
    /// These are all; whatever else was known is gone.
    Reset(Vec<K>),
    /// Added or changed.
    Set(K),
    /// Deleted (its last state).
    Gone(K),
}

/// The usual pauses, up to [`LONGEST_PAUSE`]; the longest vary, so that not all clients of a server come back at once.
#[derive(Default)]
struct Pauses(watcher::DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST_PAUSE.mul_f64(rand::random_range(0.5..1.0))))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Whether a server does not tell what is there at the beginning of a watch, and must be asked for a list.
fn must_be_listed(event: &watcher::Result<watcher::Event<impl Sized>>) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(error)) if matches!(code(error), Some(400 | 422)))
}

/// What a watch of a set tells, for ever: what is there at first and whenever it was lost sight of, then change by change. The caller says how
/// long to wait after an error.
///
/// What is there comes as the beginning of the watch, as client-go's `WatchList` asks for it (KEP-3157): a list comes in pages, and of many
/// that are asked for at once, while things change, a server can't keep all states until the last page. Servers that refuse are asked for a
/// list.
pub fn events<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let begun = watcher(api.clone(), config.clone().streaming_lists());
    begun.take_while(|event| std::future::ready(!must_be_listed(event))).chain(watcher(api, config))
}

/// Watches a set for ever: whole at first and whenever it was lost sight of, then change by change; see [`events`].
pub fn changes<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Change<K>> + Send
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let stream = events(api, config).backoff(Pauses::default());
    let mut list = Vec::new();
    stream.filter_map(move |event| {
        let change = match event {
            Ok(watcher::Event::Init) => {
                list = Vec::new();
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                list.push(object);
                None
            }
            Ok(watcher::Event::InitDone) => Some(Change::Reset(std::mem::take(&mut list))),
            Ok(watcher::Event::Apply(object)) => Some(Change::Set(object)),
            Ok(watcher::Event::Delete(object)) => Some(Change::Gone(object)),
            Err(error) => {
                tracing::warn!(%error, kind = std::any::type_name::<K>(), "watch interrupted, retrying");
                None
            }
        };
        std::future::ready(change)
    })
}
