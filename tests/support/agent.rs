//! A machine that is to become a node: `orch agent` on a host of a lan.

use std::fs;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::cluster::{ORCH, Process};
use super::eventually;
use super::host::Host;

/// See the module. Fields are dropped in this order.
pub struct Agent {
    process: Option<Process>,
    /// The machine.
    pub host: Host,
    args: Vec<String>,
    /// Length of its log when it was started last.
    start: usize,
}

impl Agent {
    /// A machine that does not run an agent yet; further arguments of the agent are `args`.
    pub fn new(host: Host, join: &str, args: &[&str]) -> Agent {
        let mut all = vec!["agent".to_owned(), format!("--join={join}"), format!("--data-dir={}", host.dir.join("data").display())];
        all.push(format!("--registries={}", host.dir.join("registries.yaml").display()));
        all.extend(args.iter().map(|arg| arg.to_string()));
        Agent { process: None, host, args: all, start: 0 }
    }

    /// Starts it.
    pub fn start(&mut self, more: &[&str]) {
        let args: Vec<String> = self.args.iter().cloned().chain(more.iter().map(|arg| arg.to_string())).collect();
        self.start = self.log().len();
        self.process = Some(Process::spawn(&self.host, &args, "agent.log"));
    }

    /// From its next start on it looks for the server here.
    pub fn join_at(&mut self, url: &str) {
        self.args[1] = format!("--join={url}");
    }

    /// Runs it to its failure within a while; what it printed.
    pub fn fails(&self, more: &[&str]) -> String {
        let output = self.host.limited(Duration::from_secs(30), ORCH).args(&self.args).args(more).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(1), "it should refuse to run: {text}");
        text
    }

    /// Ends it with this signal and waits until it is gone.
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.process.take().expect("it runs").stop(signal)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.host.dir.join("agent.log")).unwrap_or_default()
    }

    /// Waits for this in its log, since it was started last.
    pub fn says(&self, limit: Duration, text: &str) {
        eventually(limit, text, || match self.log().split_off(self.start) {
            said if said.contains(text) => Ok(()),
            said => Err(said),
        });
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("---- the end of {}'s log\n{}", self.host.name, lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}
