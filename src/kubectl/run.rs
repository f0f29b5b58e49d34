//! `run`: one pod from flags, and perhaps at once on our streams.
//!
//! Follows `kubectl/pkg/cmd/run/run.go`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun, Streams};
use super::session::{Session, escape};
use super::verb::Verb;
use super::{attach, pods};

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
    pub streams: Streams,
    /// Wait for the container and attach to it; with -i unless false
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub attach: Option<bool>,
    /// Delete the pod when it was attached to
    #[arg(long)]
    pub rm: bool,
    /// Leave standard input open when the first who attached is gone
    #[arg(long)]
    pub leave_stdin_open: bool,
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
        self.check()?;
        if !self.is_attached() {
            super::create::post(session, &self.change, self.pod()?).await?;
            return Ok(0);
        }
        let (_, made) = super::create::make(session, &self.change, self.pod()?).await?;
        let ended = self.follow(session, &made).await;
        if self.rm {
            self.remove(session, &made).await?;
        }
        ended
    }
}

impl Run {
    fn is_attached(&self) -> bool {
        self.attach.unwrap_or(self.streams.stdin)
    }

    fn check(&self) -> Result<()> {
        let Streams { stdin, tty, .. } = self.streams;
        for (wrong, why) in [
            (tty && !stdin, "-i/--stdin is required for containers with -t/--tty=true"),
            (self.rm && !self.is_attached(), "--rm should only be used for attached containers"),
            (
                self.change.dry_run != DryRun::None && (self.is_attached() || stdin || tty),
                "--dry-run=server/client can't be used with attached containers options (--attach, --stdin, or --tty)",
            ),
        ] {
            if wrong {
                return Error::usage(why);
            }
        }
        Ok(())
    }

    /// Attaches to the pod. The result is its exit code, if it is one that ends.
    async fn follow(&self, session: &Session, made: &Value) -> Result<i32> {
        attach::when_started(session, made, &self.name, self.streams).await?;
        if self.restart == "Always" || self.leave_stdin_open {
            return Ok(0);
        }
        let ended =
            attach::until(session, made, |pod| ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)).await?;
        if ended["status"]["phase"] == "Succeeded" {
            return Ok(0);
        }
        let (namespace, name) = pods::place(&ended);
        let state = pods::status(&ended, &self.name).map(|status| &status["state"]["terminated"]);
        let code = state.and_then(|state| state["exitCode"].as_i64()).and_then(|code| i32::try_from(code).ok()).filter(|code| *code != 0);
        let (Some(code), Some(state)) = (code, state) else {
            return Error::usage(format!("pod {namespace}/{name} failed with unknown exit code"));
        };
        let text = |field: &str| state[field].as_str().unwrap_or_default();
        session.note(&format!("pod {namespace}/{name} terminated ({})\n{}", text("reason"), text("message")));
        Ok(code)
    }

    async fn remove(&self, session: &Session, made: &Value) -> Result<()> {
        let (namespace, name) = pods::place(made);
        let path = format!("/api/v1/namespaces/{}/pods/{}", escape(namespace), escape(name));
        match session.change(Method::DELETE, &path, &Value::Null).await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(_) => session.line(&format!("pod {name:?} deleted from {namespace} namespace")),
        }
    }

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
        let Streams { stdin, tty, .. } = self.streams;
        for (field, wanted) in [("stdin", stdin), ("stdinOnce", stdin && !self.leave_stdin_open), ("tty", tty)] {
            if wanted {
                container[field] = true.into();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn run(line: &str) -> Run {
        let words = std::iter::once("run").chain(line.split(' '));
        let matches = Run::augment_args(Command::new("run")).try_get_matches_from(words).unwrap();
        Run::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn pods_of_the_moment() {
        for (line, want) in [
            ("p --image=x", "{name: p, image: x}"),
            (
                "p --image=x -it --rm --restart=Never -- sh -c x",
                "{name: p, image: x, stdin: true, stdinOnce: true, tty: true, args: [sh, -c, x]}",
            ),
            ("p --image=x -i --leave-stdin-open --command -- sh", "{name: p, image: x, stdin: true, command: [sh]}"),
            ("p -i --attach=false --image=x", "{name: p, image: x, stdin: true, stdinOnce: true}"),
        ] {
            let run = run(line);
            run.check().unwrap();
            let pod = run.pod().unwrap();
            assert_eq!(pod["spec"]["containers"], serde_yaml::from_str::<Value>(&format!("[{want}]")).unwrap(), "{line}");
            assert_eq!(run.is_attached(), line.contains("-i") && !line.contains("=false") && line != "p --image=x", "{line}");
        }
        for (line, why) in [
            ("p --image=x -t", "-i/--stdin is required for containers with -t/--tty=true"),
            ("p --image=x --rm", "--rm should only be used for attached containers"),
            (
                "p --image=x -i --dry-run=client",
                "--dry-run=server/client can't be used with attached containers options (--attach, --stdin, or --tty)",
            ),
        ] {
            assert_eq!(run(line).check().unwrap_err().to_string(), format!("error: {why}"), "{line}");
        }
    }
}
