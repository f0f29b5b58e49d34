//! Clients: each stock kubectl of this machine, and `orch kubectl`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cluster::{Cluster, ORCH};
use super::host::checked;

/// How long one command may take, unless said otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// A client on the host of a cluster.
pub struct Kubectl<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    first: Option<&'static str>,
}

/// The stock client of this version, such as 1.30.
pub fn stock(version: &str) -> Option<PathBuf> {
    let plain = std::fs::canonicalize(super::which("kubectl")?).ok()?;
    let file = plain.with_file_name(format!("kubectl.{version}"));
    file.is_file().then_some(file)
}

impl<'a> Kubectl<'a> {
    /// `orch kubectl`.
    pub fn own(cluster: &'a Cluster) -> Kubectl<'a> {
        Kubectl { cluster, program: ORCH.into(), first: Some("kubectl") }
    }

    /// A stock client.
    pub fn stock(cluster: &'a Cluster, program: PathBuf) -> Kubectl<'a> {
        Kubectl { cluster, program, first: None }
    }

    /// The newest stock client there is, or `orch kubectl`.
    pub fn newest(cluster: &'a Cluster) -> Kubectl<'a> {
        let found = ["1.33", "1.30", "1.27"].iter().find_map(|version| stock(version));
        found.or_else(|| super::which("kubectl")).map_or_else(|| Kubectl::own(cluster), |program| Kubectl::stock(cluster, program))
    }

    /// The command, to be run by the caller.
    pub fn command(&self, args: &[&str], limit: Duration) -> Command {
        let mut command = self.cluster.host.limited(limit, &self.program);
        command.args(self.first).args(args).env("KUBECONFIG", self.cluster.kubeconfig()).env("TMPDIR", &self.cluster.host.dir);
        command
    }

    /// Runs it to its success; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        checked(&format!("kubectl {args:?}"), self.command(args, LIMIT).output().unwrap())
    }

    /// Runs it to its failure; its standard error.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.command(args, LIMIT).output().unwrap();
        assert!(!output.status.success(), "kubectl {args:?} should fail: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Whether it succeeds, and all it prints, with a manifest as standard input.
    pub fn with_input(&self, args: &[&str], input: &str) -> (bool, String) {
        let mut command = self.command(args, LIMIT);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// `apply -f -`, which must succeed.
    pub fn apply(&self, yaml: &str) {
        let (done, text) = self.with_input(&["apply", "-f", "-"], yaml);
        assert!(done, "applying:\n{yaml}\n{text}");
    }

    /// Starts it with its output in a file that grows.
    pub fn background(&self, args: &[&str]) -> Background {
        let path = self.cluster.host.dir.join(format!("out.{}", args.join("_").replace('/', "_")));
        let file = std::fs::File::create(&path).unwrap();
        let mut command = self.command(args, Duration::from_secs(300));
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Background { child, path, what: args.join(" ") }
    }
}

/// A client that runs.
pub struct Background {
    child: Child,
    path: PathBuf,
    what: String,
}

impl Background {
    /// What it printed so far.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Waits for what is wanted of its output.
    pub fn until<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let what = format!("the output of kubectl {}", self.what);
        super::eventually(Duration::from_secs(30), &what, || {
            let text = self.text();
            wanted(&text).ok_or(text)
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Ends what it started too, by the parent-death signals.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
