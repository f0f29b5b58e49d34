//! Who is at the other end of a connection to the API.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;

use crate::server::auth::authn;
use crate::server::registry::User;
use crate::transport;

/// An extension (`Arc<Peer>`) of each request.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The user of its client certificate, if the cluster's authority signed it.
    pub user: Option<User>,
    /// The common name of its client certificate, if the front proxy's authority signed it.
    pub front_proxy: Option<String>,
}

/// Tells whose a verified client certificate is. TLS accepts those of two authorities; what one of them signed must never pass for the
/// other's.
#[derive(Clone)]
pub struct Identify {
    /// Verifies against the cluster's authority.
    pub clients: Arc<dyn ClientCertVerifier>,
    /// Verifies against the front proxy's authority.
    pub front_proxies: Arc<dyn ClientCertVerifier>,
}

impl Identify {
    /// For [`transport::serve`].
    pub fn peer(&self, peer: &transport::Peer) -> Result<Arc<Peer>, String> {
        let (mut user, mut front_proxy) = (None, None);
        if let Some(certificate) = &peer.certificate {
            let signed =
                |by: &Arc<dyn ClientCertVerifier>| by.verify_client_cert(certificate, &peer.intermediates, UnixTime::now()).is_ok();
            if signed(&self.front_proxies) {
                front_proxy = Some(peer.common_name().unwrap_or_default());
            }
            if signed(&self.clients) {
                user = Some(authn::certificate(certificate).map_err(|error| error.to_string())?);
            }
        }
        Ok(Arc::new(Peer { address: peer.address, user, front_proxy }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use axum::Router;
    use hyper_util::rt::TokioIo;
    use tokio_rustls::TlsAcceptor;
    use tokio_util::sync::CancellationToken;

    use crate::server::pki::{Pki, PkiConfig};
    use axum::Extension;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use rustls::pki_types::ServerName;

    /// Kept by the caller: an idle connection must end by shutdown, not because its client left.
    type Sender = hyper::client::conn::http1::SendRequest<Body>;

    async fn who(Extension(peer): Extension<Arc<Peer>>) -> String {
        let proxy = peer.front_proxy.as_ref().map(|name| format!("proxy {name}"));
        peer.user.as_ref().map(|user| user.name.clone()).or(proxy).unwrap_or("nobody".into())
    }

    fn pki(dir: &std::path::Path) -> Pki {
        let config = PkiConfig {
            host_name: "h".into(),
            node_ips: vec![],
            service_ip: [10, 43, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            tls_sans: vec![],
            front_proxy_ca_pem: None,
        };
        Pki::open(dir, &config).unwrap()
    }

    async fn ask(server: &Pki, client: rustls::ClientConfig, shutdown: CancellationToken) -> (String, Sender, tokio::task::JoinHandle<()>) {
        let router = Router::new().fallback(who);
        let (near, far) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server.server_tls().unwrap()));
        let identify = server.identify().unwrap();
        let identify = Identify { clients: identify.0, front_proxies: identify.1 };
        let task = transport::connection(far, ([192, 0, 2, 1], 1).into(), acceptor, router, move |peer| identify.peer(peer), shutdown);
        let task = tokio::spawn(task);
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near).await.unwrap();
        let (mut sender, driver) = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        let request = http::Request::get("/x").header("host", "h").body(Body::empty()).unwrap();
        let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        (String::from_utf8(answer.to_vec()).unwrap(), sender, task)
    }

    #[tokio::test]
    async fn peers_are_identified_and_shutdown_ends_idle_connections() {
        let dir = tempfile::tempdir().unwrap();
        let pki = pki(dir.path());
        let shutdown = CancellationToken::new();
        let (user, _sender, task) = ask(&pki, pki.kubelet_client_tls().unwrap(), shutdown.clone()).await;
        assert_eq!(user, "kube-apiserver-kubelet-client");
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();

        // What the front proxy's authority signed is no user, whatever its name.
        assert_eq!(ask(&pki, pki.front_proxy_tls().unwrap(), CancellationToken::new()).await.0, "proxy front-proxy-client");

        let mut roots = rustls::RootCertStore::empty();
        roots.add(pki.ca_der().unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(crate::server::pki::provider());
        let anonymous = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        assert_eq!(ask(&pki, anonymous, CancellationToken::new()).await.0, "nobody");
    }
}
