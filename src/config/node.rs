//! What a machine must know to be a node: flags that `orch server` and `orch agent` share, and those of `orch agent`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::Taint;

use super::address::{Address, Origin};
use super::{CONFIG_FILE, ConfigError, absolute, host_name};
use crate::api::join_token::JoinToken;
use crate::api::names;

/// The API's port where a URL names none.
const PORT: u16 = 6443;
/// Labels of these domains are the control plane's to set; a node may set those of the third list itself (upstream's
/// `cmd/kubelet/app/options` and NodeRestriction).
const RESERVED: &[&str] = &["kubernetes.io", "k8s.io"];
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Flags of a node.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Where state is kept
    #[arg(long, env = "ORCH_DATA_DIR", default_value = "/var/lib/orch", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Name of this node [default: the host's name]
    #[arg(long, env = "ORCH_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of this node [default: that of the link with the default route, else the first that is not a loopback one]
    #[arg(long, env = "ORCH_NODE_IP", value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Label of this node; may be repeated
    #[arg(long, env = "ORCH_NODE_LABEL", value_delimiter = ',', value_name = "KEY=VALUE")]
    pub node_label: Vec<String>,
    /// Taint that this node registers with; may be repeated
    #[arg(long, env = "ORCH_NODE_TAINT", value_delimiter = ',', value_name = "KEY[=VALUE]:EFFECT")]
    pub node_taint: Vec<String>,
    /// Processes that a pod may have; -1: as many as the node
    #[arg(long, env = "ORCH_POD_MAX_PIDS", default_value_t = -1, allow_negative_numbers = true, value_name = "COUNT")]
    pub pod_max_pids: i64,
    /// Registries: mirrors, credentials, TLS (k3s's format)
    #[arg(long, env = "ORCH_REGISTRIES", default_value = "/etc/orch/registries.yaml", value_name = "FILE")]
    pub registries: PathBuf,
    /// Settings, with the flags' names; FILE.d/*.yaml beside it are read too
    #[arg(long, env = "ORCH_CONFIG", default_value = CONFIG_FILE, value_name = "FILE")]
    pub config: PathBuf,
}

/// Flags of `orch agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// The server whose cluster this machine joins, such as https://192.0.2.1:6443
    #[arg(long, env = "ORCH_JOIN", value_name = "URL")]
    pub join: String,
    /// What lets this machine in, as `orch token create` prints it; not needed any more once it is a node
    #[arg(long, env = "ORCH_TOKEN", hide_env_values = true, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// The same, in a file
    #[arg(long, env = "ORCH_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// A node, checked.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// Its name: a DNS-1123 subdomain.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// Where it comes from.
    pub ip_origin: Origin,
    /// Labels that it gives itself.
    pub labels: BTreeMap<String, String>,
    /// Taints that it registers with.
    pub taints: Vec<Taint>,
    /// Processes that a pod may have.
    pub pod_pids: Option<i64>,
    /// registries.yaml.
    pub registries: PathBuf,
}

/// Everything `orch agent` needs to know, checked.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The API.
    pub url: http::Uri,
    /// What lets this machine in.
    pub token: Option<JoinToken>,
    /// The node.
    pub node: NodeConfig,
}

fn invalid(flag: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { flag, why: why.into() }
}

impl NodeConfig {
    /// Checks flags and fills in what the machine knows.
    pub fn resolve(args: NodeArgs) -> Result<NodeConfig, ConfigError> {
        let name = match args.node_name {
            Some(name) => name,
            None => host_name()?,
        };
        names::subdomain(&name).map_err(|why| invalid("node-name", format!("{name:?}: {why}")))?;
        let Address { ip, origin } = match args.node_ip {
            Some(ip) => Address { ip, origin: Origin::Chosen },
            None => Address::best()?,
        };
        Ok(NodeConfig {
            data_dir: absolute(&args.data_dir)?,
            name,
            ip,
            ip_origin: origin,
            labels: args.node_label.iter().map(|text| label(text)).collect::<Result<_, _>>()?,
            taints: args.node_taint.iter().map(|text| taint(text)).collect::<Result<_, _>>()?,
            pod_pids: pod_pids(args.pod_max_pids)?,
            registries: args.registries,
        })
    }
}

impl AgentConfig {
    /// Checks flags and fills in what the machine knows.
    pub fn resolve(args: AgentArgs) -> Result<AgentConfig, ConfigError> {
        let text = match (&args.token, &args.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?),
            (None, None) => None,
        };
        let token = text.filter(|text| !text.trim().is_empty());
        let token = token.map(|text| JoinToken::parse(&text).map_err(|error| invalid("token", error.to_string()))).transpose()?;
        Ok(AgentConfig { url: url(&args.join)?, token, node: NodeConfig::resolve(args.node)? })
    }
}

/// `https://HOST[:PORT]`, or `HOST[:PORT]`.
fn url(text: &str) -> Result<http::Uri, ConfigError> {
    let wrong = |why: &str| invalid("join", format!("{text:?} {why}; give the server's address, such as https://192.0.2.1:6443"));
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let parsed: http::Uri = whole.parse().map_err(|_| wrong("is no URL"))?;
    if parsed.scheme_str() != Some("https") {
        return Err(wrong("is not https"));
    }
    if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
        return Err(wrong("has a path"));
    }
    let authority = parsed.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| wrong("names no host"))?;
    let port = if authority.as_str().ends_with(':') { None } else { authority.port_u16() };
    let address = format!("https://{}:{}", authority.host(), port.unwrap_or(PORT));
    address.parse().map_err(|_| wrong("names no host"))
}

fn label(text: &str) -> Result<(String, String), ConfigError> {
    let wrong = |why: String| invalid("node-label", format!("{text:?}: {why}"));
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("give KEY=VALUE".into()))?;
    names::qualified(key).map_err(|why| wrong(format!("the key: {}", why)))?;
    names::label_value(value).map_err(|why| wrong(format!("the value: {}", why)))?;
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |domains: &[&str]| domains.iter().any(|d| domain == *d || domain.strip_suffix(d).is_some_and(|rest| rest.ends_with('.')));
    if within(RESERVED) && !within(OWN_DOMAINS) && !OWN_LABELS.contains(&key) {
        let domains = RESERVED.join(" and ");
        return Err(wrong(format!("labels of {domains} are not a node's to set; use `orch kubectl label node` once it has joined")));
    }
    Ok((key.into(), value.into()))
}

/// The shim of a pod is one of them.
fn pod_pids(count: i64) -> Result<Option<i64>, ConfigError> {
    match count {
        -1 => Ok(None),
        2.. => Ok(Some(count)),
        _ => Err(invalid("pod-max-pids", format!("{count} would let no container run; give at least 2, or -1 for no limit"))),
    }
}

fn taint(text: &str) -> Result<Taint, ConfigError> {
    let wrong = |why: String| invalid("node-taint", format!("{text:?}: {why}"));
    let (rest, effect) = text.rsplit_once(':').ok_or_else(|| wrong("give KEY=VALUE:EFFECT or KEY:EFFECT".into()))?;
    if !EFFECTS.contains(&effect) {
        return Err(wrong(format!("the effect must be one of {}", EFFECTS.join(", "))));
    }
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value)));
    names::qualified(key).map_err(|why| wrong(format!("the key: {}", why)))?;
    if let Some(value) = value {
        names::label_value(value).map_err(|why| wrong(format!("the value: {}", why)))?;
    }
    Ok(Taint { key: key.into(), value: value.map(str::to_owned), effect: effect.into(), time_added: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_join() {
        for (text, want) in [
            ("https://192.0.2.1:6443", Ok("https://192.0.2.1:6443/")),
            ("192.0.2.1", Ok("https://192.0.2.1:6443/")),
            ("api.example:7000/", Ok("https://api.example:7000/")),
            ("https://[2001:db8::1]", Ok("https://[2001:db8::1]:6443/")),
            ("http://192.0.2.1", Err("is not https")),
            ("https://h/x", Err("has a path")),
            ("https://u@h", Err("names no host")),
            ("", Err("is no URL")),
        ] {
            match (url(text), want) {
                (Ok(url), Ok(want)) => assert_eq!(url.to_string(), want, "{text}"),
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn labels_and_taints() {
        assert_eq!(label("disk=ssd").unwrap(), ("disk".into(), "ssd".into()));
        assert!(label("topology.kubernetes.io/zone=a").is_ok() && label("node.kubernetes.io/x=").is_ok());
        for (text, want) in [
            ("disk", "KEY=VALUE"),
            ("a b=c", "the key"),
            ("a=b c", "the value"),
            ("node-role.kubernetes.io/control-plane=", "kubectl label node"),
            ("x.k8s.io/y=", "kubectl label node"),
        ] {
            let error = label(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        let full = taint("gpu=yes:NoSchedule").unwrap();
        assert_eq!((full.key.as_str(), full.value.as_deref(), full.effect.as_str()), ("gpu", Some("yes"), "NoSchedule"));
        assert_eq!(taint("gpu:NoExecute").unwrap().value, None);
        for (text, want) in [("gpu", "KEY=VALUE:EFFECT"), ("gpu:Never", "one of NoSchedule"), (":NoExecute", "the key")] {
            let error = taint(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
