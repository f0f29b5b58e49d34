//! `registries.yaml`: where images are pulled from, in k3s's format.
//!
//! `mirrors` maps a registry (or `*`) to endpoints, tried in order before the registry itself; `configs` maps a host to its
//! credentials and TLS settings. An endpoint is `http://HOST[:PORT]` or `https://...`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// `registries.yaml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    #[serde(default)]
    mirrors: BTreeMap<String, Mirror>,
    #[serde(default)]
    configs: BTreeMap<String, HostConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirror {
    #[serde(default)]
    endpoint: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostConfig {
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    tls: Option<Tls>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// base64 of `USER:PASSWORD`.
    #[serde(default)]
    auth: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({})", self.username)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_verify: bool,
}

/// Why `registries.yaml` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It, or a file it names, can't be read.
    #[error("reading {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML of the right form.
    #[error("{path}: {source}")]
    Yaml {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_yaml::Error,
    },
    /// An entry can't be used.
    #[error("{path}: {entry}: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Such as `mirrors."docker.io".endpoint`.
        entry: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// One place to pull from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `HOST[:PORT]`.
    pub host: String,
    /// Plain HTTP.
    pub http: bool,
    /// PEM of further trusted authorities.
    pub ca_file: Option<PathBuf>,
    /// Any certificate will do.
    pub insecure: bool,
    /// User and password, from the file.
    pub credentials: Option<(String, String)>,
}

impl Registries {
    /// Reads the file; one that is not there is empty.
    pub fn read(path: &Path) -> Result<Registries, RegistriesError> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Registries::default()),
            text => text.map_err(|source| RegistriesError::Read { path: path.into(), source })?,
        };
        let registries: Option<Registries> =
            serde_yaml::from_str(&text).map_err(|source| RegistriesError::Yaml { path: path.into(), source })?;
        let registries = registries.unwrap_or_default();
        registries.check().map_err(|(entry, why)| RegistriesError::Invalid { path: path.into(), entry, why })?;
        Ok(registries)
    }

    fn check(&self) -> Result<(), (String, String)> {
        for (registry, mirror) in &self.mirrors {
            for endpoint in &mirror.endpoint {
                split(endpoint).map_err(|why| (format!("mirrors.{registry:?}.endpoint"), why))?;
            }
        }
        for (host, config) in &self.configs {
            if let Some(auth) = &config.auth {
                credentials(auth).map_err(|why| (format!("configs.{host:?}.auth"), why))?;
            }
        }
        Ok(())
    }

    /// Where to pull images of `registry` from, best first; the registry itself is always the last.
    pub(super) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let mirrors = mirror.into_iter().flat_map(|mirror| &mirror.endpoint).filter_map(|endpoint| split(endpoint).ok());
        let itself = (registry.to_string(), is_loopback(registry));
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (host, http) in mirrors.chain([itself]) {
            if !endpoints.iter().any(|other| other.host == host) {
                endpoints.push(self.endpoint(host, http));
            }
        }
        endpoints
    }

    fn endpoint(&self, host: String, http: bool) -> Endpoint {
        let config = self.configs.get(&host).cloned().unwrap_or_default();
        let tls = config.tls.unwrap_or_default();
        let credentials = config.auth.and_then(|auth| credentials(&auth).ok());
        Endpoint { host, http, ca_file: tls.ca_file, insecure: tls.insecure_skip_verify, credentials }
    }
}

/// Registries on this very machine speak HTTP by default, as containerd has it.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Host and whether it is plain HTTP.
fn split(endpoint: &str) -> Result<(String, bool), String> {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let http = match scheme {
        "http" => true,
        "https" => false,
        other => return Err(format!("{endpoint:?}: the scheme {other:?} is not supported; use http:// or https://")),
    };
    let host = rest.trim_end_matches('/').trim_end_matches("/v2");
    if host.is_empty() || host.contains('/') {
        return Err(format!("{endpoint:?}: an endpoint is SCHEME://HOST[:PORT], without a path"));
    }
    Ok((host.into(), http))
}

fn credentials(auth: &Auth) -> Result<(String, String), String> {
    if auth.auth.is_empty() {
        return Ok((auth.username.clone(), auth.password.clone()));
    }
    let decoded = STANDARD.decode(&auth.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    pair.map(|(user, password)| (user.into(), password.into())).ok_or_else(|| "auth must be base64 of USER:PASSWORD".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Registries, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), yaml).expect("writes");
        Registries::read(file.path()).map_err(|error| error.to_string())
    }

    fn hosts(registries: &Registries, registry: &str) -> Vec<(String, bool)> {
        registries.endpoints(registry).into_iter().map(|endpoint| (endpoint.host, endpoint.http)).collect()
    }

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let registries = read(
            "mirrors:\n  docker.io:\n    endpoint: ['http://mirror:5000', 'https://other/v2']\n  '*':\n    endpoint: ['http://all:5000']\n\
             configs:\n  'mirror:5000':\n    auth: {auth: 'dTpwOng='}\n",
        );
        let registries = registries.expect("is right");
        let expected = [("mirror:5000".into(), true), ("other".into(), false), ("docker.io".into(), false)];
        assert_eq!(hosts(&registries, "docker.io"), expected);
        assert_eq!(hosts(&registries, "quay.io"), [("all:5000".into(), true), ("quay.io".into(), false)]);
        assert_eq!(hosts(&Registries::default(), "localhost:5000"), [("localhost:5000".into(), true)]);
        assert_eq!(registries.endpoints("docker.io")[0].credentials, Some(("u".into(), "p:x".into())));
        assert!(!format!("{:?}", registries).contains("p:x"), "secrets are not shown");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("mirrors: {a: {endpoint: ['ftp://x']}}", "scheme \"ftp\" is not supported"),
            ("mirrors: {a: {endpoint: ['https://x/y']}}", "without a path"),
            ("configs: {a: {auth: {auth: '!'}}}", "base64"),
            ("nonsense: 1", "unknown field `nonsense`"),
        ];
        for (yaml, expected) in cases {
            let error = read(yaml).expect_err(expected);
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }
}
