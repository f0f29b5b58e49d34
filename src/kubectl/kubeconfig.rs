//! Which cluster, as whom: the kubeconfig rules of kubectl.
//!
//! Order: `--kubeconfig`; else the files of `$KUBECONFIG`, merged, those that are missing left out; else `~/.kube/config`; else the admin's
//! file that `orch server` writes; else the credentials of the pod we run in. Flags override single values.
//! Follows client-go `tools/clientcmd/loader.go` and `overrides.go`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use kube::Client;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};

use super::error::{Error, Result};
use super::flags::Global;
use super::session::Connection;

/// What `orch server` writes for its administrator.
const ADMIN: &str = "/etc/orch/orch.yaml";

/// Files in the order of their precedence, and whether the first must exist.
#[derive(Debug, PartialEq, Eq)]
pub struct Sources {
    /// To be merged; the first to set a value wins.
    pub files: Vec<PathBuf>,
    /// Named on the command line: a missing file is an error.
    pub required: bool,
}

/// The rule, as a function of what it depends on.
pub fn sources(flag: Option<&Path>, variable: Option<OsString>, home: Option<&Path>) -> Sources {
    if let Some(flag) = flag {
        return Sources { files: vec![flag.to_path_buf()], required: true };
    }
    let named: Vec<PathBuf> = variable.iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty()).collect();
    if !named.is_empty() {
        return Sources { files: named, required: false };
    }
    Sources { files: home.map(|home| home.join(".kube/config")).into_iter().collect(), required: false }
}

fn current_sources(global: &Global) -> Sources {
    let home = std::env::home_dir();
    sources(global.kubeconfig.as_deref(), std::env::var_os("KUBECONFIG"), home.as_deref())
}

/// The merged kubeconfig, and the file that changes go to. `None`: there is no file at all.
pub fn load(global: &Global) -> Result<Option<Kubeconfig>> {
    let Sources { files, required } = current_sources(global);
    let named = required || std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty());
    let mut merged: Option<Kubeconfig> = None;
    for path in &files {
        let next = match readable(path) {
            Ok(()) => Kubeconfig::read_from(path).map_err(Error::Kubeconfig)?,
            Err(source) if source.kind() == io::ErrorKind::NotFound && !required => continue,
            Err(source) => return Err(Error::File { action: "open", path: path.clone(), source }),
        };
        merged = Some(match merged {
            Some(merged) => merged.merge(next).map_err(Error::Kubeconfig)?,
            None => next,
        });
    }
    if merged.is_some() || named {
        return Ok(merged);
    }
    match readable(Path::new(ADMIN)) {
        Ok(()) => Kubeconfig::read_from(ADMIN).map(Some).map_err(Error::Kubeconfig),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("hint: {ADMIN} exists but this user may not read it: run as root, or copy it to ~/.kube/config");
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

/// The file that `config` changes: the one of the flag, the first of `$KUBECONFIG` that exists, or the default.
pub fn writable(global: &Global) -> Result<PathBuf> {
    let files = current_sources(global).files;
    let existing = files.iter().find(|path| path.exists());
    match existing.or(files.last()) {
        Some(path) if path.exists() || readable(Path::new(ADMIN)).is_err() => Ok(path.clone()),
        Some(_) if global.kubeconfig.is_none() => Ok(PathBuf::from(ADMIN)),
        Some(path) => Ok(path.clone()),
        None => Error::usage("there is no home folder to hold a kubeconfig: use --kubeconfig"),
    }
}

fn readable(path: &Path) -> io::Result<()> {
    std::fs::File::open(path).map(drop)
}

/// The namespace of the context, without a connection.
pub fn namespace(global: &Global) -> Result<String> {
    let config = load(global)?.unwrap_or_default();
    let current = global.context.as_ref().or(config.current_context.as_ref());
    let context = config.contexts.iter().find(|context| Some(&context.name) == current).and_then(|named| named.context.as_ref());
    Ok(context.and_then(|context| context.namespace.clone()).filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into()))
}

/// Makes the connection.
pub fn connect(global: &Global) -> Result<Connection> {
    let config = settle(load(global)?, global)?;
    let server = config.cluster_url.authority().map_or_else(|| config.cluster_url.to_string(), ToString::to_string);
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(Error::Connect)?;
    Ok(Connection { client, server, namespace })
}

/// The file's settings with the flags laid over them.
fn settle(file: Option<Kubeconfig>, global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), cluster: global.cluster.clone(), user: global.user.clone() };
    let from_file = match file {
        Some(file) => from_file(file, &options, global)?,
        None => None,
    };
    let mut config = match (from_file, &global.server) {
        (Some(config), _) => config,
        (None, Some(server)) => Config::new(address(server)?),
        (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Config::incluster().map_err(Error::InCluster)?,
        (None, None) => Config::new(http::Uri::from_static("http://localhost:8080/")),
    };
    if let Some(server) = &global.server {
        config.cluster_url = address(server)?;
    }
    config.read_timeout = None;
    let flag = AuthOverride::from(global);
    flag.lay_over(&mut config.auth_info)?;
    if let Some(path) = &global.certificate_authority {
        config.root_cert = Some(certificates(path)?);
        config.root_cert_file = None;
    }
    if let Some(insecure) = global.insecure_skip_tls_verify {
        config.accept_invalid_certs = insecure;
    }
    Ok(config)
}

/// `None` when the file names no context and flags do not either.
fn from_file(file: Kubeconfig, options: &KubeConfigOptions, global: &Global) -> Result<Option<Config>> {
    let chosen = options.context.as_ref().or(file.current_context.as_ref()).filter(|name| !name.is_empty());
    let Some(name) = chosen else {
        return match global.server {
            None if !file.contexts.is_empty() => {
                Error::usage("current-context must exist in order to use the kubeconfig: see `kubectl config use-context`")
            }
            _ => Ok(None),
        };
    };
    if !file.contexts.iter().any(|context| context.name == *name) {
        return Error::usage(format!("context {name:?} does not exist"));
    }
    let options = KubeConfigOptions { context: Some(name.clone()), cluster: options.cluster.clone(), user: options.user.clone() };
    if let Some(cluster) = options.cluster.as_ref().filter(|name| !file.clusters.iter().any(|cluster| cluster.name == **name)) {
        return Error::usage(format!("cluster {cluster:?} does not exist"));
    }
    if let Some(user) = options.user.as_ref().filter(|name| !file.auth_infos.iter().any(|user| user.name == **name)) {
        return Error::usage(format!("auth info {user:?} does not exist"));
    }
    // Loading does no waiting of its own: the future is ready at once.
    let loaded = futures::executor::block_on(Config::from_custom_kubeconfig(file, &options));
    loaded.map(Some).map_err(Error::Kubeconfig)
}

fn address(server: &str) -> Result<http::Uri> {
    let full = if server.contains("://") { server.to_string() } else { format!("http://{server}") };
    full.parse().map_err(|error| Error::Usage(format!("--server {server:?} is no address: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>> {
    let file = |source| Error::File { action: "open", path: path.to_path_buf(), source };
    let pem = std::fs::read(path).map_err(file)?;
    let found: io::Result<Vec<_>> = rustls_pemfile::certs(&mut pem.as_slice()).map(|cert| cert.map(|cert| cert.to_vec())).collect();
    match found.map_err(file)? {
        none if none.is_empty() => Error::usage(format!("{} holds no PEM certificate", path.display())),
        found => Ok(found),
    }
}

/// What flags say about the user.
struct AuthOverride<'a> {
    global: &'a Global,
}

impl<'a> From<&'a Global> for AuthOverride<'a> {
    fn from(global: &'a Global) -> Self {
        AuthOverride { global }
    }
}

impl AuthOverride<'_> {
    fn lay_over(&self, auth: &mut AuthInfo) -> Result<()> {
        let text = |path: &PathBuf| path.display().to_string();
        if let Some(token) = &self.global.token {
            // The secret's type is kube's own; its decoder makes one.
            let decoded: AuthInfo =
                serde_json::from_value(serde_json::json!({ "token": token })).map_err(|source| Error::Json { what: "--token", source })?;
            auth.token = decoded.token;
            auth.token_file = None;
        }
        if let Some(path) = &self.global.client_certificate {
            auth.client_certificate = Some(text(path));
            auth.client_certificate_data = None;
        }
        if let Some(path) = &self.global.client_key {
            auth.client_key = Some(text(path));
            auth.client_key_data = None;
        }
        if let Some(user) = &self.global.impersonate {
            auth.impersonate = Some(user.clone());
        }
        if !self.global.impersonate_groups.is_empty() {
            auth.impersonate_groups = Some(self.global.impersonate_groups.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_sources() {
        let home = Path::new("/home/u");
        let check = |flag: Option<&str>, variable: Option<&str>, files: &[&str], required| {
            let got = sources(flag.map(Path::new), variable.map(OsString::from), Some(home));
            assert_eq!(got, Sources { files: files.iter().map(PathBuf::from).collect(), required }, "{flag:?} {variable:?}");
        };
        check(Some("/f"), Some("/a:/b"), &["/f"], true);
        check(None, Some("/a::/b"), &["/a", "/b"], false);
        check(None, Some(""), &["/home/u/.kube/config"], false);
        check(None, None, &["/home/u/.kube/config"], false);
    }

    const ONE: &str = "
current-context: a
contexts: [{name: a, context: {cluster: c, user: u, namespace: n}}, {name: b, context: {cluster: d, user: v}}]
clusters: [{name: c, cluster: {server: 'https://one:6443'}}, {name: d, cluster: {server: 'https://two:6443', insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t}}, {name: v, user: {username: x}}]";

    fn settled(flags: Global) -> Result<Config> {
        settle(Some(Kubeconfig::from_yaml(ONE).unwrap()), &flags)
    }

    #[test]
    fn flags_lie_over_the_file() {
        let none = settled(Global::default()).unwrap();
        assert_eq!((none.cluster_url.to_string().as_str(), none.default_namespace.as_str()), ("https://one:6443/", "n"));
        let context = settled(Global { context: Some("b".into()), ..Global::default() }).unwrap();
        assert_eq!((context.cluster_url.host(), context.accept_invalid_certs), (Some("two"), true));
        let user = settled(Global { user: Some("v".into()), cluster: Some("d".into()), ..Global::default() }).unwrap();
        assert_eq!((user.auth_info.username.as_deref(), user.cluster_url.host()), (Some("x"), Some("two")));
        let server = settled(Global { server: Some("localhost:8080".into()), token: Some("other".into()), ..Global::default() }).unwrap();
        assert_eq!(server.cluster_url.to_string(), "http://localhost:8080/");
        assert_ne!(format!("{:?}", server.auth_info.token), "None");
        for (flags, words) in [
            (Global { context: Some("z".into()), ..Global::default() }, "error: context \"z\" does not exist"),
            (Global { cluster: Some("z".into()), ..Global::default() }, "error: cluster \"z\" does not exist"),
            (Global { user: Some("z".into()), ..Global::default() }, "error: auth info \"z\" does not exist"),
        ] {
            assert_eq!(settled(flags).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn files_merge_first_wins() {
        let two = "current-context: other\ncontexts: [{name: a, context: {cluster: wrong}}, {name: c, context: {cluster: e}}]\nclusters: [{name: e, cluster: {server: 'https://three'}}]";
        let merged = Kubeconfig::from_yaml(ONE).unwrap().merge(Kubeconfig::from_yaml(two).unwrap()).unwrap();
        let config = settle(Some(merged.clone()), &Global::default()).unwrap();
        assert_eq!(config.cluster_url.host(), Some("one"));
        let config = settle(Some(merged), &Global { context: Some("c".into()), ..Global::default() }).unwrap();
        assert_eq!(config.cluster_url.host(), Some("three"));
    }
}
