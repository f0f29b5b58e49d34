//! Hooks, the end of a run, and its last words.
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use tokio_util::sync::CancellationToken;

use super::{Job, text};
use crate::agent::observed::Instance;
use crate::agent::probes::check::{self, Action, Target};
use crate::runtime::Runtime;
impl<R: Runtime> Job<R> {
    /// The postStart hook; an error says why it failed.
    pub async fn post_start(&self, container: &Container, attempt: u32, ip: Option<IpAddr>) -> Result<(), String> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return Ok(()) };
        let target = Target { sandbox: self.uid().into(), id: Instance::id(&container.name, attempt), ip };
        let result = check::run(&*self.context.runtime, &target, container, &Action::of_hook(hook), Duration::from_secs(3600)).await;
        result.inspect_err(|_| self.event(Some(&container.name), true, "FailedPostStartHook", "PostStartHook failed".into()))
    }

    /// Ends a run: preStop, signal, wait, kill. `ended` is cancelled when the runtime reports its end, `hurry` when the grace is cut.
    pub async fn stop(
        &self,
        container: &Container,
        attempt: u32,
        grace: Duration,
        ip: Option<IpAddr>,
        ended: CancellationToken,
        hurry: CancellationToken,
    ) {
        let id = Instance::id(&container.name, attempt);
        let began = tokio::time::Instant::now();
        if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
            let target = Target { sandbox: self.uid().into(), id: id.clone(), ip };
            let action = Action::of_hook(hook);
            tokio::select! {
                result = check::run(&*self.context.runtime, &target, container, &action, grace) => if result.is_err() {
                    self.event(Some(&container.name), true, "FailedPreStopHook", "PreStopHook failed".into());
                },
                () = ended.cancelled() => return,
                () = hurry.cancelled() => {}
                () = tokio::time::sleep(grace) => {}
            }
        }
        // As upstream: whatever the hook took, the process gets two seconds after its signal.
        let left = grace.saturating_sub(began.elapsed()).max(Duration::from_secs(2).min(grace));
        let number = self.stop_signal(&id).await;
        self.signal(&id, number).await;
        tokio::select! {
            () = ended.cancelled() => return,
            () = hurry.cancelled() => {}
            () = tokio::time::sleep(left) => {}
        }
        self.signal(&id, 9).await;
        if tokio::time::timeout(Duration::from_secs(10), ended.cancelled()).await.is_err() {
            tracing::warn!(container = id, pod = self.uid(), "a container did not end within 10 s of SIGKILL");
        }
    }

    pub(super) async fn stop_signal(&self, id: &str) -> i32 {
        let all = self.context.runtime.containers(self.uid()).await;
        let found = all.ok().and_then(|all| all.into_iter().find(|c| c.id == id));
        found.and_then(|c| c.labels.get("stop-signal").and_then(|s| signal_number(s))).unwrap_or(15)
    }

    pub(super) async fn signal(&self, id: &str, number: i32) {
        if let Err(error) = self.context.runtime.signal_container(self.uid(), id, number).await {
            tracing::debug!(%error, container = id, signal = number, "a container was not signalled");
        }
    }

    /// What a container left to say: its termination file, or the end of its log.
    pub fn termination_message(&self, container: &Container, attempt: u32, code: i32) -> Option<String> {
        const LIMIT: usize = 4096;
        let bytes = tail(&self.termination_file(&container.name, attempt), LIMIT, false);
        let message = String::from_utf8_lossy(&bytes).into_owned();
        if !message.is_empty() {
            return Some(message);
        }
        if code == 0 || container.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") {
            return None;
        }
        let meta = &self.pod.metadata;
        let path = self.context.config.log_path(text(&meta.namespace), text(&meta.name), self.uid(), &container.name, attempt);
        let log = String::from_utf8_lossy(&tail(&path, 16 << 10, true)).into_owned();
        // A CRI line is time, stream, tag, text.
        let lines: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
        let mut end = lines[lines.len().saturating_sub(80)..].join("\n");
        if end.len() > 2048 {
            let cut = (end.len() - 2048..end.len()).find(|at| end.is_char_boundary(*at)).unwrap_or(end.len());
            end.drain(..cut);
        }
        (!end.is_empty()).then_some(end)
    }
}

/// The first or last bytes of a file; none if there is no such file.
fn tail(path: &Path, limit: usize, from_end: bool) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let Ok(mut file) = std::fs::File::open(path) else { return Vec::new() };
    let length = file.metadata().map_or(0, |m| m.len());
    let start = if from_end { length.saturating_sub(limit as u64) } else { 0 };
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.take(limit as u64).read_to_end(&mut bytes));
    if let Err(error) = read {
        tracing::warn!(%error, path = %path.display(), "a container's last words can't be read");
    }
    bytes
}

/// `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3` as a number.
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: &[&str] = &[
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
        "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_uppercase();
    let plain = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = plain.strip_prefix("RTMIN") {
        return rest.strip_prefix('+').map_or(Some(0), |n| n.parse().ok()).map(|n: i32| 34 + n).filter(|n| *n <= 64);
    }
    if let Some(rest) = plain.strip_prefix("RTMAX") {
        return rest.strip_prefix('-').map_or(Some(0), |n| n.parse().ok()).map(|n: i32| 64 - n).filter(|n| *n >= 34);
    }
    NAMES.iter().position(|n| *n == plain).and_then(|at| i32::try_from(at + 1).ok())
}
