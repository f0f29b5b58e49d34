//! Flags, environment and files, read once into typed values.
//!
//! For each setting the first of these wins: the flag, the variable `ORCH_NAME`, `config.yaml.d/*.yaml` (the last file, by
//! name), `config.yaml`. Files use the flags' names. Whatever is wrong is reported with its source before anything starts.
//!
//! Never: opens a socket, or changes anything on disk.

mod address;
mod auth;
mod health;
mod node;
mod token;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use ipnet::Ipv4Net;

use crate::api::cluster::Vxlan;
pub use address::{Address, Origin};
pub use auth::{AuthArgs, AuthConfig, FrontProxyConfig, OidcConfig};
pub use health::{HealthArgs, HealthConfig};
pub use node::{AgentArgs, AgentConfig, NodeArgs, NodeConfig};
pub use token::{TokenArgs, TokenCommand};

/// Where configuration is looked for when nobody says otherwise.
const CONFIG_FILE: &str = "/etc/orch/config.yaml";

/// A complete Kubernetes in one executable.
#[derive(Debug, Parser)]
#[command(name = "orch", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the API server, store, scheduler, controllers and, by default, an agent
    Server(Box<ServerArgs>),
    /// Make this machine a node of a cluster, and run its pods
    Agent(Box<AgentArgs>),
    /// Make, list and delete what lets machines join
    Token(TokenArgs),
    /// Talk to a cluster: get, describe, create, apply, delete, logs, exec, ...
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Passed to kubectl as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Manage the images of this node
    Image(ImageArgs),
    /// Show and change the keys that Secrets are encrypted with at rest
    SecretsEncrypt(SecretsEncryptArgs),
    /// Say what this machine lacks to run orch, and how to mend it
    CheckConfig(CheckConfigArgs),
    /// Remove all that orch made on this machine, and nothing else
    Reset(ResetArgs),
    /// Hold the containers of one sandbox (started by the agent)
    #[command(hide = true)]
    Shim {
        /// The sandbox's directory
        dir: PathBuf,
    },
    /// Answer HTTP requests with the pod's name (what `make run` deploys)
    Hello {
        /// Address to listen on
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: std::net::SocketAddr,
    },
}

/// Flags of `orch server`.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The node beside the server.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Address that the API listens on
    #[arg(long, env = "ORCH_BIND_ADDRESS", default_value = "0.0.0.0", value_name = "IP")]
    pub bind_address: IpAddr,
    /// Port that the API listens on
    #[arg(long, env = "ORCH_HTTPS_LISTEN_PORT", default_value_t = 6443, value_name = "PORT")]
    pub https_listen_port: u16,
    /// Addresses of pods
    #[arg(long, env = "ORCH_CLUSTER_CIDR", default_value = "10.42.0.0/16", value_name = "CIDR")]
    pub cluster_cidr: Ipv4Net,
    /// Addresses of Services; the first is the API's, the tenth the DNS server's
    #[arg(long, env = "ORCH_SERVICE_CIDR", default_value = "10.43.0.0/16", value_name = "CIDR")]
    pub service_cidr: Ipv4Net,
    /// When pods of two nodes talk in VXLAN: as-needed, where the nodes share no link, or always, for links that let only the nodes' own
    /// addresses pass; agents learn it when they start
    #[arg(long, env = "ORCH_VXLAN", default_value_t, value_name = "WHEN")]
    pub vxlan: Vxlan,
    /// DNS domain of the cluster
    #[arg(long, env = "ORCH_CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// Where the administrator's kubeconfig is written (mode 0600)
    #[arg(long, env = "ORCH_WRITE_KUBECONFIG", default_value = "/etc/orch/orch.yaml", value_name = "FILE")]
    pub write_kubeconfig: PathBuf,
    /// Further names and addresses that the server's certificate is for; may be repeated
    #[arg(long, env = "ORCH_TLS_SAN", value_delimiter = ',', value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// A bearer token that is the administrator's
    #[arg(long, env = "ORCH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// How long the certificates live that are signed for nodes and others; they may ask for less
    #[arg(long, env = "ORCH_CLUSTER_SIGNING_DURATION", default_value = "8760h", value_name = "DURATION")]
    pub cluster_signing_duration: String,
    /// When nodes count as unreachable, and what follows.
    #[command(flatten)]
    pub health: HealthArgs,
    /// How long pods that do not say so themselves stay on a node that is not ready
    #[arg(long, env = "ORCH_DEFAULT_NOT_READY_TOLERATION_SECONDS", default_value_t = 300, value_name = "SECONDS")]
    pub default_not_ready_toleration_seconds: u32,
    /// How long pods that do not say so themselves stay on a node that is unreachable
    #[arg(long, env = "ORCH_DEFAULT_UNREACHABLE_TOLERATION_SECONDS", default_value_t = 300, value_name = "SECONDS")]
    pub default_unreachable_toleration_seconds: u32,
    /// Which Secrets and other resources are encrypted at rest, and with which keys (upstream's EncryptionConfiguration)
    /// [default: Secrets, with a key of our own in DIR/cred]
    #[arg(long, env = "ORCH_ENCRYPTION_PROVIDER_CONFIG", value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Requests that only read and run at once; together with the next flag, the seats that priority levels share
    #[arg(long, env = "ORCH_MAX_REQUESTS_INFLIGHT", default_value_t = 400, value_name = "COUNT")]
    pub max_requests_inflight: u32,
    /// Requests that write and run at once
    #[arg(long, env = "ORCH_MAX_MUTATING_REQUESTS_INFLIGHT", default_value_t = 200, value_name = "COUNT")]
    pub max_mutating_requests_inflight: u32,
    /// What is no stream ends after this
    #[arg(long, env = "ORCH_REQUEST_TIMEOUT", default_value = "1m0s", value_name = "DURATION")]
    pub request_timeout: String,
    /// How long /readyz says no before connections are closed
    #[arg(long, env = "ORCH_SHUTDOWN_DELAY_DURATION", default_value = "0s", value_name = "DURATION")]
    pub shutdown_delay_duration: String,
    /// What is recorded of which requests (audit.k8s.io/v1 Policy)
    #[arg(long, env = "ORCH_AUDIT_POLICY_FILE", value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where requests are recorded; - is standard output
    #[arg(long, env = "ORCH_AUDIT_LOG_PATH", value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes at which the audit log is rotated; 0: never
    #[arg(long, env = "ORCH_AUDIT_LOG_MAXSIZE", default_value_t = 100, value_name = "MB")]
    pub audit_log_maxsize: u32,
    /// Days after which rotated audit logs are removed; 0: never
    #[arg(long, env = "ORCH_AUDIT_LOG_MAXAGE", default_value_t = 366, value_name = "DAYS")]
    pub audit_log_maxage: u32,
    /// Rotated audit logs that are kept; 0: all
    #[arg(long, env = "ORCH_AUDIT_LOG_MAXBACKUP", default_value_t = 100, value_name = "COUNT")]
    pub audit_log_maxbackup: u32,
    /// Compress rotated audit logs
    #[arg(long, env = "ORCH_AUDIT_LOG_COMPRESS")]
    pub audit_log_compress: bool,
    /// Admission plug-ins that must run; all that there are do
    #[arg(long, env = "ORCH_ENABLE_ADMISSION_PLUGINS", value_delimiter = ',', value_name = "NAMES")]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plug-ins that do not run
    #[arg(long, env = "ORCH_DISABLE_ADMISSION_PLUGINS", value_delimiter = ',', value_name = "NAMES")]
    pub disable_admission_plugins: Vec<String>,
    /// Who may ask
    #[command(flatten)]
    pub auth: AuthArgs,
    /// Run no agent: this machine runs no pods
    #[arg(long, env = "ORCH_DISABLE_AGENT")]
    pub disable_agent: bool,
}

/// Flags of `orch check-config`.
#[derive(Args, Debug)]
pub struct CheckConfigArgs {
    /// Where state is to be kept
    #[arg(long, env = "ORCH_DATA_DIR", default_value = "/var/lib/orch", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Port that the API is to listen on
    #[arg(long, env = "ORCH_HTTPS_LISTEN_PORT", default_value_t = 6443, value_name = "PORT")]
    pub https_listen_port: u16,
}

/// Flags of `orch reset`.
#[derive(Args, Debug)]
pub struct ResetArgs {
    /// Where state is kept
    #[arg(long, env = "ORCH_DATA_DIR", default_value = "/var/lib/orch", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The administrator's kubeconfig; removed if it is for the server that was here
    #[arg(long, env = "ORCH_WRITE_KUBECONFIG", default_value = "/etc/orch/orch.yaml", value_name = "FILE")]
    pub write_kubeconfig: PathBuf,
    /// End the server or agent that runs here first
    #[arg(long)]
    pub force: bool,
}

/// Flags of `orch secrets-encrypt`.
#[derive(Args, Debug)]
pub struct SecretsEncryptArgs {
    /// The administrator's kubeconfig
    #[arg(long, global = true, env = "ORCH_WRITE_KUBECONFIG", default_value = "/etc/orch/orch.yaml", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: SecretsEncryptCommand,
}

/// What `orch secrets-encrypt` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum SecretsEncryptCommand {
    /// Show what is encrypted with which keys
    Status,
    /// Encrypt with a new key from now on; the old keys still open what they sealed
    Rotate,
    /// Encrypt everything anew with the active key, backups too, and forget the others
    Reencrypt,
    /// Both: rotate, then reencrypt
    RotateKeys,
}

impl SecretsEncryptCommand {
    /// As the server knows it; `None` only looks.
    pub fn action(self) -> Option<&'static str> {
        match self {
            SecretsEncryptCommand::Status => None,
            SecretsEncryptCommand::Rotate => Some("rotate"),
            SecretsEncryptCommand::Reencrypt => Some("reencrypt"),
            SecretsEncryptCommand::RotateKeys => Some("rotate-keys"),
        }
    }
}

/// Flags of `orch image`.
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Where the node keeps its state
    #[arg(long, global = true, env = "ORCH_DATA_DIR", default_value = "/var/lib/orch", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Registries: mirrors, credentials, TLS (k3s's format)
    #[arg(long, global = true, env = "ORCH_REGISTRIES", default_value = "/etc/orch/registries.yaml", value_name = "FILE")]
    pub registries: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What `orch image` does.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Import an archive: OCI layout or docker save, plain or compressed
    Import {
        /// The archives; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Name for an image that the archive gives none
        #[arg(long)]
        name: Option<String>,
    },
    /// List images
    Ls,
    /// Remove images
    Rm {
        /// References or IDs
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Pull images
    Pull {
        /// References
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Make an image of this very executable and import it (no registry needed)
    SelfImage {
        /// Its name
        #[arg(default_value = "orch.local/orch:self")]
        name: String,
    },
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("reading {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML.
    #[error("{path} is not a map of settings: {source}")]
    Yaml {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_yaml::Error,
    },
    /// A file names a setting that does not exist.
    #[error("{path}: there is no setting {name:?}; the settings are the flags of `orch {subcommand} --help` without their dashes")]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        name: String,
        /// Whose.
        subcommand: &'static str,
    },
    /// A file gives a setting a value of the wrong type.
    #[error("{path}: {name} must be a string, number, boolean or a list of them")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        name: String,
    },
    /// A value can't be used.
    #[error("--{flag}: {why}")]
    Invalid {
        /// Which flag.
        flag: &'static str,
        /// Why, and what would be right.
        why: String,
    },
    /// The machine does not say.
    #[error("finding {what}: {source}")]
    Machine {
        /// Such as `the host's name`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Everything `orch server` needs to know, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This machine as a node, whether or not it runs an agent.
    pub node: NodeConfig,
    /// The API's address.
    pub bind: IpAddr,
    /// The API's port.
    pub port: u16,
    /// Pods.
    pub cluster_cidr: Ipv4Net,
    /// Services.
    pub service_cidr: Ipv4Net,
    /// Which nodes' pods are reached by VXLAN.
    pub vxlan: Vxlan,
    /// DNS domain.
    pub cluster_domain: String,
    /// Where the admin's kubeconfig goes.
    pub kubeconfig: PathBuf,
    /// Further certificate names.
    pub tls_san: Vec<String>,
    /// The admin's token.
    pub token: Option<String>,
    /// Who else may ask.
    pub auth: AuthConfig,
    /// Longest life of a certificate that is signed for others.
    pub signing_duration: Duration,
    /// When nodes count as unreachable, and what follows.
    pub health: HealthConfig,
    /// Seconds that pods stay on a node that is not ready, unless they say so themselves.
    pub not_ready_toleration: u32,
    /// The same on a node that is unreachable.
    pub unreachable_toleration: u32,
    /// Whether to run an agent.
    pub agent: bool,
    /// The user's encryption configuration.
    pub encryption: Option<PathBuf>,
    /// Seats that priority levels share.
    pub seats: u32,
    /// What is no stream ends after this.
    pub request_timeout: Duration,
    /// Between not being ready and closing connections.
    pub shutdown_delay: Duration,
    /// What is recorded, and where.
    pub audit: Option<AuditConfig>,
    /// Admission plug-ins that must be known.
    pub enable_admission_plugins: Vec<String>,
    /// Admission plug-ins that do not run.
    pub disable_admission_plugins: Vec<String>,
}

/// The record of requests.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The policy.
    pub policy: PathBuf,
    /// The log; `-` is standard output.
    pub path: PathBuf,
    /// Bytes at which it is rotated; 0: never.
    pub max_bytes: u64,
    /// Age at which rotated files go.
    pub max_age: Option<Duration>,
    /// Rotated files that are kept; 0: all.
    pub max_backups: usize,
    /// Whether they are compressed.
    pub compress: bool,
}

impl ServerConfig {
    /// Address of the `kubernetes` Service.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        nth(self.service_cidr, 1)
    }

    /// Address of the cluster's DNS.
    pub fn dns_ip(&self) -> Ipv4Addr {
        nth(self.service_cidr, 10)
    }

    /// Where local clients reach the API.
    pub fn local_url(&self) -> String {
        let host = match self.bind {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("https://{}", std::net::SocketAddr::new(host, self.port))
    }

    /// Checks flags and fills in what the machine knows.
    pub fn resolve(args: ServerArgs) -> Result<ServerConfig, ConfigError> {
        let invalid = |flag, why: String| ConfigError::Invalid { flag, why };
        let audit = audit(&args)?;
        let node = NodeConfig::resolve(args.node)?;
        crate::api::names::subdomain(&args.cluster_domain).map_err(|why| invalid("cluster-domain", why))?;
        if args.service_cidr.prefix_len() > 28 {
            return Err(invalid("service-cidr", format!("{} has too few addresses; use a prefix of at most /28", args.service_cidr)));
        }
        if args.cluster_cidr.prefix_len() > 24 {
            return Err(invalid("cluster-cidr", format!("{} has no room for one node's /24", args.cluster_cidr)));
        }
        if args.cluster_cidr.contains(&args.service_cidr) || args.service_cidr.contains(&args.cluster_cidr) {
            return Err(invalid("service-cidr", format!("{} overlaps --cluster-cidr {}", args.service_cidr, args.cluster_cidr)));
        }
        if args.token.as_deref().is_some_and(|token| token.len() < 16) {
            return Err(invalid("token", "it is shorter than 16 characters and could be guessed".into()));
        }
        let request_timeout = duration("request-timeout", &args.request_timeout)?;
        if request_timeout.is_zero() {
            return Err(invalid("request-timeout", "it must be more than nothing".into()));
        }
        let signing_duration = duration("cluster-signing-duration", &args.cluster_signing_duration)?;
        if signing_duration.is_zero() {
            return Err(invalid("cluster-signing-duration", "it must be more than nothing".into()));
        }
        let seats = args.max_requests_inflight.saturating_add(args.max_mutating_requests_inflight);
        if seats == 0 {
            return Err(invalid("max-requests-inflight", "with --max-mutating-requests-inflight it must be more than 0".into()));
        }
        Ok(ServerConfig {
            node,
            bind: args.bind_address,
            port: args.https_listen_port,
            cluster_cidr: args.cluster_cidr.trunc(),
            service_cidr: args.service_cidr.trunc(),
            vxlan: args.vxlan,
            cluster_domain: args.cluster_domain,
            kubeconfig: absolute(&args.write_kubeconfig)?,
            tls_san: args.tls_san,
            token: args.token,
            auth: AuthConfig::resolve(args.auth)?,
            signing_duration,
            health: HealthConfig::resolve(&args.health)?,
            not_ready_toleration: args.default_not_ready_toleration_seconds,
            unreachable_toleration: args.default_unreachable_toleration_seconds,
            agent: !args.disable_agent,
            encryption: args.encryption_provider_config.as_deref().map(absolute).transpose()?,
            seats,
            request_timeout,
            shutdown_delay: duration("shutdown-delay-duration", &args.shutdown_delay_duration)?,
            audit,
            enable_admission_plugins: args.enable_admission_plugins,
            disable_admission_plugins: args.disable_admission_plugins,
        })
    }
}

/// A duration as Go writes it.
fn duration(flag: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let invalid = |why: String| ConfigError::Invalid { flag, why: format!("{why}; use such as 30s or 1m30s") };
    crate::api::duration::go_duration(text).map_err(|why| invalid(why.to_string()))
}

/// What is recorded. A policy without a log records nothing, as upstream; a log without a policy is a mistake.
fn audit(args: &ServerArgs) -> Result<Option<AuditConfig>, ConfigError> {
    let Some(path) = &args.audit_log_path else { return Ok(None) };
    let Some(policy) = &args.audit_policy_file else {
        let why = "it says where, and nothing says what is recorded; add --audit-policy-file".into();
        return Err(ConfigError::Invalid { flag: "audit-log-path", why });
    };
    let days = u64::from(args.audit_log_maxage);
    Ok(Some(AuditConfig {
        policy: absolute(policy)?,
        path: if path.as_os_str() == "-" { path.clone() } else { absolute(path)? },
        max_bytes: u64::from(args.audit_log_maxsize) << 20,
        max_age: (days > 0).then(|| Duration::from_secs(days * 24 * 3600)),
        max_backups: args.audit_log_maxbackup as usize,
        compress: args.audit_log_compress,
    }))
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::Read { path: path.into(), source })
}

fn nth(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + n)
}

fn host_name() -> Result<String, ConfigError> {
    let name = nix::unistd::gethostname().map_err(|e| ConfigError::Machine { what: "the host's name", source: e.into() })?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// Adds the settings of the configuration files to the command line of `orch server` and `orch agent`, where neither flag nor variable
/// sets them.
pub fn with_files(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigError> {
    let Some(subcommand) = args.get(1).and_then(|command| ["server", "agent"].into_iter().find(|known| command == known)) else {
        return Ok(args);
    };
    let given = |name: &str| {
        let flag = format!("--{name}");
        let on_line = args.iter().filter_map(|arg| arg.to_str()).any(|arg| arg.split('=').next() == Some(&flag));
        on_line || std::env::var_os(variable(name)).is_some()
    };
    let (path, explicit) = config_path(&args);
    let mut settings = BTreeMap::new();
    for file in config_files(&path, explicit)? {
        settings.extend(read_settings(&file, subcommand)?);
    }
    let mut merged = args.clone();
    for (name, values) in settings.into_iter().filter(|(name, _)| !given(name)) {
        merged.extend(
            values
                .into_iter()
                .map(|value| OsString::from(if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") })),
        );
    }
    Ok(merged)
}

fn variable(flag: &str) -> String {
    format!("ORCH_{}", flag.to_uppercase().replace('-', "_"))
}

fn config_path(args: &[OsString]) -> (PathBuf, bool) {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = args.next() {
        if let Some(path) = arg.strip_prefix("--config=") {
            return (path.into(), true);
        }
        if arg == "--config"
            && let Some(path) = args.next()
        {
            return (path.into(), true);
        }
    }
    match std::env::var_os("ORCH_CONFIG") {
        Some(path) => (path.into(), true),
        None => (CONFIG_FILE.into(), false),
    }
}

/// `config.yaml` and `config.yaml.d/*.yaml`, lowest precedence first. A file that was asked for must be there.
fn config_files(path: &Path, explicit: bool) -> Result<Vec<PathBuf>, ConfigError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let mut files = Vec::new();
    if folder.is_dir() {
        let failed = |source| ConfigError::Read { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
                files.push(file);
            }
        }
    }
    files.sort();
    if explicit || path.exists() {
        files.insert(0, path.into());
    }
    Ok(files)
}

/// Settings of one file, as flag values; a flag without a value has an empty one.
fn read_settings(path: &Path, subcommand: &'static str) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let map: Option<BTreeMap<String, serde_yaml::Value>> =
        serde_yaml::from_str(&text).map_err(|source| ConfigError::Yaml { path: path.into(), source })?;
    let command = Cli::command();
    let flags = command.find_subcommand(subcommand).expect("there is such a command");
    let mut settings = BTreeMap::new();
    for (name, value) in map.unwrap_or_default() {
        let known = flags.get_arguments().any(|arg| arg.get_long() == Some(&name)) && name != "config";
        if !known {
            return Err(ConfigError::Unknown { path: path.into(), name, subcommand });
        }
        let values = flag_values(value).ok_or_else(|| ConfigError::Value { path: path.into(), name: name.clone() })?;
        settings.insert(name, values);
    }
    Ok(settings)
}

fn flag_values(value: serde_yaml::Value) -> Option<Vec<String>> {
    use serde_yaml::Value;
    Some(match value {
        Value::Bool(true) => vec![String::new()],
        Value::Bool(false) | Value::Null => vec![],
        Value::Number(number) => vec![number.to_string()],
        Value::String(text) => vec![text],
        Value::Sequence(items) => items.into_iter().map(flag_values).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect(),
        Value::Mapping(_) | Value::Tagged(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, flags: &[&str]) -> Result<ServerConfig, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, file).expect("writes");
        let base = ["orch", "server", "--node-ip=10.0.0.1", "--config", config.to_str().expect("is text")];
        let args = base.iter().chain(flags).map(OsString::from).collect();
        let args = with_files(args).map_err(|error| error.to_string())?;
        match Cli::try_parse_from(args).map_err(|error| error.to_string())?.command {
            Command::Server(args) => ServerConfig::resolve(*args).map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_over_files() {
        let file = "https-listen-port: 7000\ntls-san: [a.example, b.example]\nnode-name: filed\ndisable-agent: true\n";
        let config = resolve(file, &["--node-name=flagged"]).expect("is right");
        assert_eq!((config.port, config.node.name.as_str(), config.agent), (7000, "flagged", false));
        assert_eq!(config.tls_san, ["a.example", "b.example"]);
        assert_eq!(config.api_service_ip().to_string(), "10.43.0.1");
        assert_eq!(config.dns_ip().to_string(), "10.43.0.10");
        assert_eq!(config.local_url(), "https://127.0.0.1:7000");
        let processes = |file: &str| resolve(file, &[]).expect("is right").node.pod_pids;
        assert_eq!([processes(""), processes("pod-max-pids: -1"), processes("pod-max-pids: 64")], [None, None, Some(64)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("no-such: 1", &[], "no setting \"no-such\""),
            ("- a", &[], "not a map of settings"),
            ("node-name: {a: b}", &[], "node-name must be a string"),
            ("", &["--service-cidr=10.42.1.0/24"], "overlaps --cluster-cidr"),
            ("", &["--service-cidr=10.43.0.0/30"], "too few addresses"),
            ("", &["--node-name=Not_A_Name"], "--node-name"),
            ("", &["--pod-max-pids=0"], "--pod-max-pids: 0 would let no container run"),
            ("", &["--token=short"], "could be guessed"),
            ("", &["--cluster-cidr=x"], "invalid value"),
            ("vxlan: never", &[], "must be one of as-needed, always"),
            ("", &["--node-eviction-rate=-1"], "--node-eviction-rate: -1 is no rate"),
            ("", &["--secondary-node-eviction-rate=inf"], "--secondary-node-eviction-rate: inf is no rate"),
            ("", &["--unhealthy-zone-threshold=1.5"], "--unhealthy-zone-threshold: 1.5 is no share"),
            ("", &["--request-timeout=1"], "--request-timeout: time: missing unit in duration \"1\""),
            ("", &["--request-timeout=0s"], "more than nothing"),
            ("", &["--node-monitor-grace-period=3s"], "at least 4s"),
            ("", &["--audit-log-path=-"], "add --audit-policy-file"),
            ("", &["--max-requests-inflight=0", "--max-mutating-requests-inflight=0"], "must be more than 0"),
        ];
        for (file, flags, expected) in cases {
            let flags: Vec<&str> = [&["--node-name=n"], *flags].concat();
            let flags = if flags.len() > 1 && flags[1].starts_with("--node-name") { flags[1..].to_vec() } else { flags };
            let error = resolve(file, &flags).expect_err(expected);
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }
}
