//! Who is at the other end of a connection to the API.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::server::auth::authn;
use crate::server::registry::User;
use crate::transport;

/// An extension (`Arc<Peer>`) of each request.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The user of its client certificate.
    pub user: Option<User>,
}

/// Reads the user off a verified certificate. For [`transport::serve`].
pub fn identify(peer: &transport::Peer) -> Result<Arc<Peer>, String> {
    let user = peer.certificate.as_ref().map(|der| authn::certificate(der)).transpose().map_err(|error| error.to_string())?;
    Ok(Arc::new(Peer { address: peer.address, user }))
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
        peer.user.as_ref().map_or("nobody".into(), |user| user.name.clone())
    }

    fn pki(dir: &std::path::Path) -> Pki {
        let config = PkiConfig {
            host_name: "h".into(),
            node_ips: vec![],
            service_ip: [10, 43, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            tls_sans: vec![],
        };
        Pki::open(dir, &config).unwrap()
    }

    async fn ask(server: &Pki, client: rustls::ClientConfig, shutdown: CancellationToken) -> (String, Sender, tokio::task::JoinHandle<()>) {
        let router = Router::new().fallback(who);
        let (near, far) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server.server_tls().unwrap()));
        let task = tokio::spawn(transport::connection(far, ([192, 0, 2, 1], 1).into(), acceptor, router, identify, shutdown));
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

        let mut roots = rustls::RootCertStore::empty();
        roots.add(pki.ca_der().unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(crate::server::pki::provider());
        let anonymous = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        assert_eq!(ask(&pki, anonymous, CancellationToken::new()).await.0, "nobody");
    }
}
