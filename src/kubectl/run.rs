//! `run`: one pod from flags.

use clap::Args;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::Change;
use super::session::Session;
use super::verb::Verb;

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Name of the pod
    pub name: String,
    /// Image to run
    #[arg(long)]
    pub image: String,
    /// NAME=VALUE
    #[arg(long)]
    pub env: Vec<String>,
    /// Labels, as a=b,c=d
    #[arg(short = 'l', long, value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Port that the container listens on
    #[arg(long)]
    pub port: Option<u16>,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always", value_parser = ["Always", "OnFailure", "Never"])]
    pub restart: String,
    /// Always, IfNotPresent or Never
    #[arg(long)]
    pub image_pull_policy: Option<String>,
    /// The words are a command in place of the image's own, not its arguments
    #[arg(long)]
    pub command: bool,
    #[command(flatten)]
    pub change: Change,
    /// Arguments of the container
    #[arg(trailing_var_arg = true)]
    pub args: Vec<String>,
}

impl Verb for Run {
    const NAME: &'static str = "run";
    const ABOUT: &'static str = "Run an image as a pod";

    async fn run(self, session: &Session) -> Result<i32> {
        super::create::post(session, &self.change, self.pod()?).await?;
        Ok(0)
    }
}

impl Run {
    fn pod(&self) -> Result<Value> {
        let mut container = json!({"name": self.name, "image": self.image});
        let mut env = Vec::new();
        for pair in &self.env {
            let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Error::usage(format!("invalid env: {pair}"));
            };
            env.push(json!({"name": name, "value": value}));
        }
        if !env.is_empty() {
            container["env"] = Value::Array(env);
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = policy.as_str().into();
        }
        if !self.args.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(self.args);
        }
        let mut labels = json!({});
        for pair in &self.labels {
            let Some((key, value)) = pair.split_once('=') else { return Error::usage(format!("unexpected label spec: {pair}")) };
            labels[key] = value.into();
        }
        if self.labels.is_empty() {
            labels["run"] = self.name.as_str().into();
        }
        Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name, "labels": labels},
            "spec": {"containers": [container], "restartPolicy": self.restart}}))
    }
}
