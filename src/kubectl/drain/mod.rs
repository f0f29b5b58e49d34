//! `drain`: keeps new pods away from nodes, and has the pods that are there go.
//!
//! Words: a pod's *verdict* ([`verdict`]) is whether it goes, and why not; pods go by *eviction* ([`leave`]), which respects disruption
//! budgets, or by deletion.
//!
//! Follows `kubectl/pkg/cmd/drain/drain.go` and `kubectl/pkg/drain`.

mod leave;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::cordon::{Nodes, mark};
use super::error::{Error, Result};
use super::flags::{DryRun, duration};
use super::objects::Found;
use super::session::{JSON, Session};
use super::verb::Verb;
use crate::api::selector::LabelSelector;
use verdict::{DaemonSets, Verdicts};

/// Flags of `drain`.
#[derive(Args, Clone, Debug)]
pub struct Drain {
    #[command(flatten)]
    pub nodes: Nodes,
    /// Go on even if there are pods that no controller would make anew
    #[arg(long)]
    pub force: bool,
    /// Leave pods of DaemonSets alone
    #[arg(long)]
    pub ignore_daemonsets: bool,
    /// Go on even if there are pods with emptyDir volumes, whose data is lost
    #[arg(long)]
    pub delete_emptydir_data: bool,
    /// Seconds for each pod to end; negative: what the pod says
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// How long to wait before giving up; 0 waits for ever
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub timeout: Duration,
    /// Label selector of pods on the nodes
    #[arg(long, default_value = "")]
    pub pod_selector: String,
    /// Delete pods, even if they could be evicted: disruption budgets are not respected
    #[arg(long)]
    pub disable_eviction: bool,
    /// Do not wait for pods that are being deleted for longer than so many seconds; 0 waits for all
    #[arg(long, default_value_t = 0)]
    pub skip_wait_for_delete_timeout: i64,
    /// Pods in one page of a list
    #[arg(long, default_value_t = 500)]
    pub chunk_size: i64,
}

impl Verb for Drain {
    const NAME: &'static str = "drain";
    const ABOUT: &'static str = "Drain node in preparation for maintenance";

    async fn run(self, session: &Session) -> Result<i32> {
        if LabelSelector::parse(&self.pod_selector).is_err() {
            return Error::usage("--pod-selector=<pod_selector> must be a valid label selector");
        }
        let nodes = self.nodes.fetch(session, Self::NAME).await?;
        mark(session, &nodes, true, self.nodes.dry_run).await?;
        let (mut failures, mut pending) = (Vec::new(), Vec::new());
        for node in &nodes {
            match self.empty(session, node).await {
                Ok(()) => session.line(&format!("{} drained{}", node.title(), self.nodes.dry_run.suffix()))?,
                Err(error) if error.is_broken_pipe() => return Err(error),
                Err(error) => {
                    session.note(&format!(
                        "error: unable to drain node {:?} due to error: {}, continuing command...",
                        node.name,
                        error.plain()
                    ));
                    failures.push(error);
                    pending.push(&node.name);
                }
            }
        }
        if pending.is_empty() {
            return Ok(0);
        }
        session.note("There are pending nodes to be drained:");
        for name in pending {
            session.note(&format!(" {name}"));
        }
        Err(Error::all(failures))
    }
}

impl Drain {
    /// Has all pods of one node go.
    async fn empty(&self, session: &Session, node: &Found) -> Result<()> {
        let verdicts = self.verdicts(session, &node.name).await?;
        verdicts.refusal()?;
        if let Some(warnings) = verdicts.warnings() {
            session.note(&format!("Warning: {warnings}"));
        }
        let going = verdicts.going();
        if self.nodes.dry_run == DryRun::Client {
            for pod in going {
                session.line(&format!("evicting pod {}/{} (dry run)", pod.namespace, pod.name))?;
            }
            return Ok(());
        }
        let Err(error) = self.leave(session, going).await else { return Ok(()) };
        if error.is_broken_pipe() {
            return Err(error);
        }
        let still = self.verdicts(session, &node.name).await;
        if let Ok(verdicts) = &still {
            let going = verdicts.going();
            if !going.is_empty() {
                session.note(&format!("There are pending pods in node {:?} when an error occurred: {}", node.name, error.plain()));
            }
            for pod in going {
                session.note(&format!("pod/{}", pod.name));
            }
        }
        if let Err(other) = still.and_then(|verdicts| verdicts.refusal()) {
            session.note(&format!("Following errors occurred while getting the list of pods to delete:\n{}", other.plain()));
        }
        Err(error)
    }

    async fn verdicts(&self, session: &Session, node: &str) -> Result<Verdicts> {
        let fields = format!("spec.nodeName={node}");
        let query = [("labelSelector", self.pod_selector.as_str()), ("fieldSelector", fields.as_str())];
        let pods = session.catalog().await?.resolve("pods")?.path(None, None);
        let mut list = session.list_by(&pods, &query, self.chunk_size).await?;
        let pods = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let mut sets: DaemonSets = BTreeMap::new();
        for (namespace, name) in pods.iter().filter_map(verdict::daemon_set) {
            let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}");
            if !sets.contains_key(&(namespace.clone(), name.clone())) {
                let found = session.get(&path, JSON).await.map(drop);
                sets.insert((namespace, name), found);
            }
        }
        let now = jiff::Timestamp::now();
        Ok(Verdicts(pods.into_iter().map(|pod| verdict::of(self, pod, &sets, now)).collect()))
    }
}
