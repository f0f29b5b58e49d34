//! `create`: from files, or from flags for a few types.
//!
//! Follows `kubectl/pkg/cmd/create`.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::error::{Error, Result};
use super::flags::{Change, DryRun, Files};
use super::generators::{self, Sources};
use super::objects::{located, place};
use super::output;
use super::session::{Session, with_query};
use super::verb::Verb;

/// Flags of `create`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Create {
    #[command(flatten)]
    pub files: Files,
    #[command(flatten)]
    pub change: Change,
    /// How the server treats unknown fields: strict, warn, ignore
    #[arg(long, default_value = "strict", num_args = 0..=1, default_missing_value = "strict")]
    pub validate: String,
    /// Keep the manifest in an annotation, for a later apply
    #[arg(long)]
    pub save_config: bool,
    #[command(subcommand)]
    pub kind: Option<Kind>,
}

/// Types that flags can make.
#[derive(Subcommand, Clone, Debug)]
pub enum Kind {
    /// Create a namespace
    #[command(visible_alias = "ns")]
    Namespace(Plain),
    /// Create a service account
    #[command(name = "serviceaccount", visible_alias = "sa")]
    ServiceAccount(Plain),
    /// Create a config map from literals, files or folders
    #[command(name = "configmap", visible_alias = "cm")]
    ConfigMap {
        #[command(flatten)]
        plain: Plain,
        #[command(flatten)]
        sources: Sources,
    },
    /// Create a secret
    #[command(subcommand)]
    Secret(Secret),
    /// Create a deployment
    #[command(visible_alias = "deploy")]
    Deployment {
        #[command(flatten)]
        plain: Plain,
        /// Image to run
        #[arg(long, required = true)]
        image: Vec<String>,
        /// Number of pods
        #[arg(short = 'r', long, default_value_t = 1)]
        replicas: i32,
        /// Port that the container listens on
        #[arg(long)]
        port: Option<u16>,
        /// Command in place of the image's own
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Create a service
    #[command(subcommand, visible_alias = "svc")]
    Service(Service),
}

/// Name and output, which all types have.
#[derive(Args, Clone, Debug)]
pub struct Plain {
    /// Name of the object
    pub name: String,
    #[command(flatten)]
    pub change: Change,
}

/// Kinds of secrets.
#[derive(Subcommand, Clone, Debug)]
pub enum Secret {
    /// Create a secret from literals, files or folders
    Generic {
        #[command(flatten)]
        plain: Plain,
        #[command(flatten)]
        sources: Sources,
        /// Type of the secret
        #[arg(long = "type")]
        kind: Option<String>,
    },
}

/// Kinds of services.
#[derive(Subcommand, Clone, Debug)]
pub enum Service {
    /// Create a service with a cluster address
    #[command(name = "clusterip")]
    ClusterIp {
        #[command(flatten)]
        plain: Plain,
        /// PORT or PORT:TARGET
        #[arg(long, value_delimiter = ',')]
        tcp: Vec<String>,
        /// The address, or None for a headless service
        #[arg(long)]
        clusterip: Option<String>,
    },
    /// Create a service with a port on every node
    #[command(name = "nodeport")]
    NodePort {
        #[command(flatten)]
        plain: Plain,
        /// PORT or PORT:TARGET
        #[arg(long, value_delimiter = ',')]
        tcp: Vec<String>,
        /// The nodes' port
        #[arg(long)]
        node_port: Option<u16>,
    },
}

impl Verb for Create {
    const NAME: &'static str = "create";
    const ABOUT: &'static str = "Create a resource from a file, from standard input, or from flags";

    async fn run(self, session: &Session) -> Result<i32> {
        if let Some(kind) = self.kind {
            let (change, object) = kind.generate()?;
            post(session, change, object).await?;
            return Ok(0);
        }
        if self.files.filename.is_empty() && self.files.kustomize.is_none() {
            return Error::usage("must specify one of -f and -k");
        }
        let mut failed = false;
        for stated in located(session, &self.files).await? {
            let object = if self.save_config { super::apply::annotated(&stated.object)? } else { stated.object.clone() };
            let validation = match self.validate.as_str() {
                "ignore" | "false" => "Ignore",
                "warn" => "Warn",
                _ => "Strict",
            };
            let mut query = self.change.query();
            query.push(("fieldValidation", validation));
            let created = match self.change.dry_run {
                DryRun::Client => Ok(object),
                _ => {
                    session
                        .change(Method::POST, &with_query(&stated.resource.path(stated.namespace.as_deref(), None), &query), &object)
                        .await
                }
            };
            match created {
                // With generateName, only the answer knows the name.
                Ok(object) => {
                    let title = stated.resource.named(object["metadata"]["name"].as_str().unwrap_or_default());
                    output::report(session, &self.change, &title, &object, "created")?;
                }
                Err(error) if error.status().is_some() => {
                    session.note(&error.when("creating", &self.files.filename.join(",")).to_string());
                    failed = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(i32::from(failed))
    }
}

impl Kind {
    fn generate(&self) -> Result<(&Change, Value)> {
        Ok(match self {
            Kind::Namespace(plain) => (&plain.change, generators::namespace(&plain.name)),
            Kind::ServiceAccount(plain) => (&plain.change, generators::service_account(&plain.name)),
            Kind::ConfigMap { plain, sources } => (&plain.change, generators::config_map(&plain.name, sources)?),
            Kind::Secret(Secret::Generic { plain, sources, kind }) => {
                (&plain.change, generators::secret(&plain.name, kind.as_deref(), sources)?)
            }
            Kind::Deployment { plain, image, replicas, port, command } => {
                (&plain.change, generators::deployment(&plain.name, image, *replicas, *port, command)?)
            }
            Kind::Service(Service::ClusterIp { plain, tcp, clusterip }) => {
                (&plain.change, generators::service(&plain.name, "ClusterIP", tcp, clusterip.as_deref(), None)?)
            }
            Kind::Service(Service::NodePort { plain, tcp, node_port }) => {
                (&plain.change, generators::service(&plain.name, "NodePort", tcp, None, *node_port)?)
            }
        })
    }
}

/// Creates an object that flags made, and tells so.
pub async fn post(session: &Session, change: &Change, object: Value) -> Result<()> {
    if change.dry_run == DryRun::Client {
        let object = match &session.global.namespace {
            Some(namespace) if object["kind"] != "Namespace" => {
                let mut object = object;
                object["metadata"]["namespace"] = namespace.as_str().into();
                object
            }
            _ => object,
        };
        let group = object["apiVersion"].as_str().unwrap_or_default().split_once('/').map_or("", |(group, _)| group).to_string();
        let kind = object["kind"].as_str().unwrap_or_default().to_string();
        let title =
            super::catalog::Resource { group, kind, ..Default::default() }.named(object["metadata"]["name"].as_str().unwrap_or_default());
        return output::report(session, change, &title, &object, "created");
    }
    let (title, created) = make(session, change, object).await?;
    output::report(session, change, &title, &created, "created")
}

/// Makes an object without a word. Returns what result lines call it, and what was made.
pub async fn make(session: &Session, change: &Change, object: Value) -> Result<(String, Value)> {
    let resource = session.catalog().await?.of_object(&object, "flags")?;
    let stated = place(resource, object, &session.namespace().await?, None)?;
    let path = with_query(&resource.path(stated.namespace.as_deref(), None), &change.query());
    let created = session.change(Method::POST, &path, &stated.object).await.map_err(|error| match error {
        Error::Api(mut status) => {
            // What exists already is told by the server in full.
            let message = status.message.take().unwrap_or_default();
            let plain = status.reason.as_deref() == Some("AlreadyExists") || resource.kind == "Namespace";
            status.message = Some(if plain { message } else { format!("failed to create {}: {message}", resource.singular) });
            Error::Api(status)
        }
        other => other,
    })?;
    Ok((resource.named(created["metadata"]["name"].as_str().unwrap_or_default()), created))
}
