//! The cluster's certificate authority, the certificates it issues, and the key that signs service account tokens.
//!
//! Words: an *identity* is a certificate with its private key; both live in one file, so that a crash can never leave a pair that does
//! not match. A *leaf* is any identity but the CA.
//!
//! Leaves are reissued while the server runs, too: see [`keep_fresh`].
//!
//! Invariants: everything is under `DATA_DIR/tls` with mode 0600 and written by rename; a leaf is reissued when it is close to its end,
//! when its names changed, or when the CA is new; the CA keeps its key when it is renewed, so that what it signed stays valid.
//!
//! Never: logs a key, shows one through `Debug`, or overwrites a file that it can't read (it says so instead).
//!
//! Names and groups follow upstream's `cmd/kubeadm/app/phases/certs`.

mod issue;
mod sign;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

use issue::{Authority, Purpose, Request};
pub use sign::{SignRequest, Usage};

use crate::files::{self, FileError};
use crate::transport::LiveCertificate;

/// Least time between two looks at what is due.
const PAUSE: Duration = Duration::from_secs(3600);

/// Names and addresses in the API server's certificate at most, so that a machine of many addresses does not make it ever larger.
const MOST_NAMES: usize = 100;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or directory can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is there, but is not what we wrote.
    #[error("{path} is damaged ({what}); restore it from a backup, or remove it to have a new one issued")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A certificate can't be made.
    #[error("issuing the certificate of {subject}: {source}")]
    Issue {
        /// For whom.
        subject: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// TLS refuses the material.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The verifier of client certificates refuses the CA.
    #[error("setting up the verification of client certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A node name that can't be a file name.
    #[error("{0:?} can't be a node name")]
    NodeName(String),
    /// The kubeconfig can't be encoded.
    #[error("encoding a kubeconfig: {0}")]
    Encode(#[from] serde_yaml::Error),
}

/// What certificates depend on.
#[derive(Clone, Debug)]
pub struct PkiConfig {
    /// This host's name.
    pub host_name: String,
    /// Addresses under which this server is reached.
    pub node_ips: Vec<IpAddr>,
    /// First address of the service range: the `kubernetes` Service.
    pub service_ip: IpAddr,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// `--tls-san`: further names and addresses.
    pub tls_sans: Vec<String>,
    /// `--requestheader-client-ca-file`, PEM; `None`: an authority of this server's own.
    pub front_proxy_ca_pem: Option<String>,
}

impl PkiConfig {
    /// Names and addresses of the API server's certificate, sorted.
    fn server_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", "::1"].map(String::from).into();
        names.push(format!("kubernetes.default.svc.{}", self.cluster_domain));
        names.extend(self.node_ips.iter().map(IpAddr::to_string));
        names.push(self.service_ip.to_string());
        names.push(self.host_name.clone());
        // An address in its usual spelling, so that it compares equal to what a certificate says.
        names.extend(self.tls_sans.iter().map(|san| san.parse::<IpAddr>().map_or_else(|_| san.clone(), |ip| ip.to_string())));
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
        names
    }
}

/// A certificate and its private key, PEM. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Verifies client certificates against one authority.
pub type ClientVerifier = Arc<dyn ClientCertVerifier>;

/// The open certificate directory.
pub struct Pki {
    dir: PathBuf,
    authority: Authority,
    /// Signs front proxies only, so that nobody else can speak for others.
    front_authority: Authority,
    /// Names and addresses of the API server.
    server_names: Mutex<Vec<String>>,
    admin: Mutex<Identity>,
    server: Arc<LiveCertificate>,
    kubelet_client: Arc<LiveCertificate>,
    front_proxy: Arc<LiveCertificate>,
    /// Whose clients may be front proxies: the authority above, or another one.
    front_proxy_ca_pem: String,
    service_account_key: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki(..)")
    }
}

impl Pki {
    /// Opens `data_dir/tls`, making what is not there and renewing what is due.
    pub fn open(data_dir: &Path, config: &PkiConfig) -> Result<Pki, PkiError> {
        let dir = data_dir.join("tls");
        files::make_private_dir(&dir)?;
        let authority = Authority::open(&dir.join("ca.pem"), "orch-ca")?;
        let front_authority = Authority::open(&dir.join("front-proxy-ca.pem"), "front-proxy-ca")?;
        let pki = Pki {
            server_names: Mutex::new(config.server_names()),
            admin: Mutex::new(authority.leaf(&dir.join("admin.pem"), &client("kubernetes-admin", "system:masters"))?),
            server: Arc::default(),
            kubelet_client: Arc::default(),
            front_proxy: Arc::default(),
            front_proxy_ca_pem: config.front_proxy_ca_pem.clone().unwrap_or_else(|| front_authority.identity.cert_pem.clone()),
            service_account_key: issue::signing_key(&dir.join("service-account.pem"))?,
            authority,
            front_authority,
            dir,
        };
        pki.renew()?;
        Ok(pki)
    }

    /// Reissues the leaves that are due; connections made from now on show the new ones. Returns when the next is due (Unix time).
    fn renew(&self) -> Result<i64, PkiError> {
        let server = Request {
            common_name: "kube-apiserver".into(),
            organization: None,
            names: self.server_names.lock().clone(),
            purpose: Purpose::Server,
        };
        let admin = self.authority.leaf(&self.dir.join("admin.pem"), &client("kubernetes-admin", "system:masters"))?;
        let mut due = issue::due(&admin, &self.dir.join("admin.pem"))?;
        *self.admin.lock() = admin;
        let leaves = [
            (&self.authority, "server.pem", server, &self.server),
            (&self.authority, "kubelet-client.pem", client("kube-apiserver-kubelet-client", ""), &self.kubelet_client),
            (&self.front_authority, "front-proxy-client.pem", client("front-proxy-client", ""), &self.front_proxy),
        ];
        for (authority, file, request, live) in leaves {
            let path = self.dir.join(file);
            let identity = authority.leaf(&path, &request)?;
            due = due.min(issue::due(&identity, &path)?);
            // The authority too: who joins knows its hash only, and finds it here.
            let chain = format!("{}{}", identity.cert_pem, authority.identity.cert_pem);
            live.set(&chain, &identity.key_pem, &provider()).map_err(|error| PkiError::Damaged { path, what: error.to_string() })?;
        }
        Ok(due)
    }

    /// Makes the API server's certificate cover an address of this machine at which a client arrived, should it not. Whether it had to:
    /// the machine got that address after the server's start. Loopback addresses are not worth it.
    pub fn cover(&self, address: IpAddr) -> Result<bool, PkiError> {
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return Ok(false);
        }
        let name = address.to_string();
        {
            let mut names = self.server_names.lock();
            if names.contains(&name) || names.len() >= MOST_NAMES {
                return Ok(false);
            }
            names.push(name);
            names.sort();
        }
        self.renew().map(|_| true)
    }

    /// The CA's certificate, PEM: what clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.authority.identity.cert_pem
    }

    /// The certificate of the authority that front proxies' certificates are checked against, PEM.
    pub fn front_proxy_ca_pem(&self) -> &str {
        &self.front_proxy_ca_pem
    }

    /// What this server shows to extension servers and webhooks: signed by its own front proxy authority.
    pub fn front_proxy(&self) -> Arc<LiveCertificate> {
        self.front_proxy.clone()
    }

    /// TLS of a front proxy that calls this server.
    pub fn front_proxy_tls(&self) -> Result<ClientConfig, PkiError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(self.roots()?).with_client_cert_resolver(self.front_proxy()))
    }

    /// Verifiers of client certificates: the cluster's, and front proxies'.
    pub fn identify(&self) -> Result<(ClientVerifier, ClientVerifier), PkiError> {
        let verifier = |roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Ok((verifier(self.roots()?)?, verifier(self.front_proxy_roots()?)?))
    }

    /// Signs a certificate that clients of this cluster, or its nodes, asked for.
    pub fn sign_request(&self, request: &SignRequest<'_>) -> Result<String, String> {
        sign::sign(&self.authority, request)
    }

    /// The CA's certificate, DER.
    pub fn ca_der(&self) -> Result<CertificateDer<'static>, PkiError> {
        cert_der(self.ca_pem(), &self.dir.join("ca.pem"))
    }

    /// The key that signs service account tokens, PKCS#8 DER, on the curve P-256.
    pub fn service_account_key_der(&self) -> Result<Vec<u8>, PkiError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.service_account_key.as_bytes())
            .map_err(|e| PkiError::Damaged { path: self.dir.join("service-account.pem"), what: e.to_string() })?;
        Ok(key.secret_pkcs8_der().to_vec())
    }

    /// The identity under which node `name` talks to the API: `CN=system:node:NAME, O=system:nodes`. Given to this server's own node only;
    /// others ask for theirs.
    pub fn issue_node(&self, name: &str) -> Result<Identity, PkiError> {
        // Stricter than a file name must be: what a Node may be called (RFC 1123).
        let legal = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        if !legal || name.is_empty() || name.len() > 253 || name.starts_with(['.', '-']) {
            return Err(PkiError::NodeName(name.into()));
        }
        let dir = self.dir.join("nodes");
        files::make_private_dir(&dir)?;
        let request = Request {
            common_name: format!("system:node:{name}"),
            organization: Some("system:nodes".into()),
            names: Vec::new(),
            purpose: Purpose::Client,
        };
        self.authority.leaf(&dir.join(format!("{name}.client.pem")), &request)
    }

    /// TLS of the API's port: TLS 1.2 or newer, client certificates optional but verified, HTTP/2 and HTTP/1.1.
    pub fn server_tls(&self) -> Result<ServerConfig, PkiError> {
        // Of either authority: who signed what is told apart later.
        let mut roots = self.roots()?;
        roots.roots.extend(self.front_proxy_roots()?.roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated().build()?;
        let mut tls = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.server.clone());
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(tls)
    }

    /// TLS towards kubelets: trusts the CA only, shows the server's own client certificate. HTTP/1.1, since streams are upgrades.
    pub fn kubelet_client_tls(&self) -> Result<ClientConfig, PkiError> {
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_client_cert_resolver(self.kubelet_client.clone());
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(tls)
    }

    /// The administrator's kubeconfig for the server at `url`, YAML.
    pub fn admin_kubeconfig(&self, url: &str) -> Result<String, PkiError> {
        kubeconfig(url, self.ca_pem(), "admin", &self.admin.lock())
    }

    /// Writes the administrator's kubeconfig to `path`, mode 0600.
    pub fn write_admin_kubeconfig(&self, path: &Path, url: &str) -> Result<(), PkiError> {
        Ok(files::write_private(path, self.admin_kubeconfig(url)?.as_bytes())?)
    }

    fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der()?)?;
        Ok(roots)
    }

    fn front_proxy_roots(&self) -> Result<RootCertStore, PkiError> {
        let path = self.dir.join("front-proxy-ca.pem");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.front_proxy_ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|e| PkiError::Damaged { path: path.clone(), what: e.to_string() })?)?;
        }
        Ok(roots)
    }
}

/// A client's leaf; without an organization if that is empty.
fn client(name: &str, organization: &str) -> Request {
    Request {
        common_name: name.into(),
        organization: Some(organization.into()).filter(|o: &String| !o.is_empty()),
        names: Vec::new(),
        purpose: Purpose::Client,
    }
}

/// Reissues leaves as they become due, and the administrator's kubeconfig at `kubeconfig` with them, until `stop`.
pub async fn keep_fresh(pki: Arc<Pki>, kubeconfig: PathBuf, url: String, stop: CancellationToken) {
    loop {
        let (renewing, path, url) = (pki.clone(), kubeconfig.clone(), url.clone());
        let renewed = tokio::task::spawn_blocking(move || {
            let due = renewing.renew()?;
            renewing.write_admin_kubeconfig(&path, &url)?;
            Ok::<_, PkiError>(due)
        });
        let wait = match renewed.await {
            Ok(Ok(due)) => u64::try_from(due - jiff::Timestamp::now().as_second()).map_or(PAUSE, Duration::from_secs).max(PAUSE),
            Ok(Err(error)) => {
                tracing::error!(%error, "certificates of the server can't be renewed; trying again");
                PAUSE
            }
            Err(error) => {
                tracing::error!(%error, "renewing certificates failed; trying again");
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A kubeconfig with everything embedded, as kubectl reads it.
pub fn kubeconfig(url: &str, ca_pem: &str, user: &str, identity: &Identity) -> Result<String, PkiError> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "orch", "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&identity.cert_pem),
            "client-key-data": STANDARD.encode(&identity.key_pem),
        }}],
        "contexts": [{"name": "orch", "context": {"cluster": "orch", "user": user}}],
        "current-context": "orch",
    });
    Ok(serde_yaml::to_string(&config)?)
}

/// The one provider of cryptography, named explicitly so that no default has to be installed first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn cert_der(pem: &str, path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::Damaged { path: path.into(), what: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(sans: &[&str]) -> PkiConfig {
        PkiConfig {
            host_name: "host".into(),
            node_ips: vec![[192, 0, 2, 1].into()],
            service_ip: [10, 43, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            tls_sans: sans.iter().map(|s| s.to_string()).collect(),
            front_proxy_ca_pem: None,
        }
    }

    /// What the leaves are, by file.
    fn leaves(dir: &tempfile::TempDir) -> [String; 3] {
        ["server", "admin", "kubelet-client"].map(|name| std::fs::read_to_string(dir.path().join(format!("tls/{name}.pem"))).unwrap())
    }

    #[test]
    fn what_was_issued_is_kept_until_the_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &config(&[])).unwrap();
        let before = leaves(&dir);
        let second = Pki::open(dir.path(), &config(&[])).unwrap();
        assert!(leaves(&dir) == before && first.ca_pem() == second.ca_pem());
        assert_eq!(first.service_account_key, second.service_account_key);
        let third = Pki::open(dir.path(), &config(&["api.example.org"])).unwrap();
        let [server, admin, kubelet] = leaves(&dir);
        assert!(server != before[0], "new names need a new certificate");
        assert!(admin == before[1] && kubelet == before[2] && third.ca_pem() == first.ca_pem());
    }

    #[test]
    fn a_new_authority_reissues_everything() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &config(&[])).unwrap();
        let before = leaves(&dir);
        std::fs::remove_file(dir.path().join("tls/ca.pem")).unwrap();
        let second = Pki::open(dir.path(), &config(&[])).unwrap();
        assert!(first.ca_pem() != second.ca_pem() && leaves(&dir).iter().zip(&before).all(|(now, then)| now != then));
        handshake(second.kubelet_client_tls().unwrap(), second.server_tls().unwrap(), "localhost").unwrap();
    }

    #[test]
    fn what_is_due_is_replaced_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &config(&[])).unwrap();
        let (server, before) = (pki.server_tls().unwrap(), leaves(&dir));
        let shown = || {
            let chain = handshake_chain(pki.kubelet_client_tls().unwrap(), server.clone());
            assert_eq!(chain.len(), 2, "the authority is shown too");
            chain
        };
        let first = shown();
        let now = jiff::Timestamp::now().as_second();
        assert!((200 * 86_400..366 * 86_400).contains(&(pki.renew().unwrap() - now)));
        assert!(leaves(&dir) == before && shown() == first);
        // As if it had become due.
        std::fs::remove_file(dir.path().join("tls/server.pem")).unwrap();
        pki.renew().unwrap();
        let second = shown();
        assert!(second[0] != first[0] && second[1] == first[1]);
    }

    /// What the server shows.
    fn handshake_chain(client: ClientConfig, server: ServerConfig) -> Vec<CertificateDer<'static>> {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        exchange(&mut client, &mut server).unwrap();
        client.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect()
    }

    #[test]
    fn files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &config(&[])).unwrap();
        pki.write_admin_kubeconfig(&dir.path().join("etc/admin.yaml"), "https://127.0.0.1:6443").unwrap();
        for file in ["tls/ca.pem", "tls/server.pem", "tls/admin.pem", "tls/service-account.pem", "etc/admin.yaml"] {
            let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path(), &config(&[])).unwrap();
        let path = dir.path().join("tls/ca.pem");
        std::fs::write(&path, "garbage").unwrap();
        let Err(error) = Pki::open(dir.path(), &config(&[])) else { panic!("a damaged CA was accepted") };
        assert!(error.to_string().contains("ca.pem is damaged"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "garbage");
    }

    fn exchange(client: &mut rustls::ClientConnection, server: &mut rustls::ServerConnection) -> Result<(), rustls::Error> {
        for _ in 0..8 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    /// A whole handshake: server and client, over memory.
    fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name)?;
        let mut server = rustls::ServerConnection::new(Arc::new(server))?;
        exchange(&mut client, &mut server)?;
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(server.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect())
    }

    #[test]
    fn tls_works_both_ways_and_strangers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &config(&[])).unwrap();
        for name in ["10.43.0.1", "192.0.2.1", "kubernetes.default.svc.cluster.local", "localhost"] {
            let certs = handshake(pki.kubelet_client_tls().unwrap(), pki.server_tls().unwrap(), name).unwrap();
            assert_eq!(certs.len(), 2, "{name}");
        }
        handshake(pki.kubelet_client_tls().unwrap(), pki.server_tls().unwrap(), "other.example.org").unwrap_err();
        let other_dir = tempfile::tempdir().unwrap();
        let other = Pki::open(other_dir.path(), &config(&[])).unwrap();
        handshake(other.kubelet_client_tls().unwrap(), pki.server_tls().unwrap(), "localhost").unwrap_err();
    }

    #[test]
    fn nodes_get_an_identity() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &config(&[])).unwrap();
        let node = pki.issue_node("n1").unwrap();
        assert!(pki.issue_node("n1").unwrap() == node);
        let der = CertificateDer::from_pem_slice(node.cert_pem.as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=system:node:n1, O=system:nodes");
        for name in ["", "../x", "a/b", "A"] {
            assert!(matches!(pki.issue_node(name), Err(PkiError::NodeName(_))), "{name:?}");
        }
    }

    #[test]
    fn a_kubeconfig_holds_what_was_issued() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &config(&[])).unwrap();
        let yaml: serde_yaml::Value = serde_yaml::from_str(&pki.admin_kubeconfig("https://h:1").unwrap()).unwrap();
        assert_eq!(yaml["clusters"][0]["cluster"]["server"], "https://h:1");
        let cert = yaml["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
        assert_eq!(STANDARD.decode(cert).unwrap(), pki.admin.lock().cert_pem.as_bytes());
    }
}
