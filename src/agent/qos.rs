//! The groups above the pods' own: one for all pods, with all that the node has, and below it one for each class but Guaranteed. What
//! they weigh follows the pods, so that a class as a whole gets what its pods ask for.
//!
//! Follows pkg/kubelet/cm/node_container_manager_linux.go and qos_container_manager_linux.go. [`groups`] is pure; [`Keeper`] carries
//! out the difference to what it did last. Never touches a pod's own group.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::huge_pages::{self, Pages};
use super::plan::is_terminal;
use super::pods::Pods;
use super::resources::{ROOT_CGROUP, class_cgroup, qos_class, shares};
use super::{AgentError, Context};
use crate::api::pod::{Column, whole};
use crate::runtime::Runtime;

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// What pods may have of a node.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Thousandths of CPU.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Processes.
    pub pids: i64,
    /// Huge pages.
    pub huge_pages: Vec<Pages>,
}

/// The groups and their limits, from the top. As long as the pods are not known, what follows them is left as it is: an agent that starts
/// beside pods that run must not starve them.
pub fn groups(node: &Capacity, pods: Option<&[Arc<Pod>]>) -> Vec<(String, Value)> {
    let weighs = |milli| json!({"cpu": {"shares": shares(milli)}});
    let huge: Vec<(String, i64)> =
        node.huge_pages.iter().map(|pages| (huge_pages::resource(pages.size), pages.size * pages.count)).collect();
    let all = json!({
        "cpu": {"shares": shares(node.cpu)},
        "memory": {"limit": node.memory},
        "pids": {"limit": node.pids},
        "hugepageLimits": huge_pages::limits(&node.huge_pages, huge.iter().map(|(name, bytes)| (name.as_str(), *bytes))),
    });
    let mut groups = vec![(ROOT_CGROUP.into(), all), (class_cgroup("BestEffort"), weighs(0))];
    groups.extend(pods.map(|pods| (class_cgroup("Burstable"), weighs(burstable_cpu(pods)))));
    groups
}

/// Thousandths of CPU that Burstable pods ask for, those that have ended aside.
fn burstable_cpu(pods: &[Arc<Pod>]) -> i64 {
    let burstable = pods.iter().filter(|pod| !is_terminal(pod) && qos_class(pod) == "Burstable");
    let requested = burstable.filter_map(|pod| whole(pod.spec.as_ref()?, Column::Requests).get("cpu"));
    requested.fold(0i64, |sum, cpu| sum.saturating_add(cpu.milli())).min(i64::from(i32::MAX))
}

/// See the module.
pub struct Keeper<R: Runtime> {
    context: Arc<Context<R>>,
    done: BTreeMap<String, Value>,
    failed: bool,
}

impl<R: Runtime> Keeper<R> {
    /// Nothing is done yet.
    pub fn new(context: Arc<Context<R>>) -> Keeper<R> {
        Keeper { context, done: BTreeMap::new(), failed: false }
    }

    /// Makes the groups what they should be with these pods. Says whether they are; a failure is an event of the node.
    pub async fn update(&mut self, pods: Option<&[Arc<Pod>]>) -> bool {
        self.failed = false;
        for (path, limits) in groups(&self.context.capacity, pods) {
            if self.done.get(&path) == Some(&limits) {
                continue;
            }
            let node = &self.context.config.node_name;
            match self.apply(&path, &limits).await {
                Ok(()) => drop(self.done.insert(path, limits)),
                Err(why) => {
                    tracing::warn!(why, group = path, "the limits of a group above pods can't be set, trying again");
                    let message = format!("Failed to update Node Allocatable Limits {path:?}: {why}");
                    self.context.events.node(node, true, "FailedNodeAllocatableEnforcement", message);
                    self.failed = true;
                }
            }
        }
        !self.failed
    }

    async fn apply(&self, path: &str, limits: &Value) -> Result<(), String> {
        let limits: LinuxResources = serde_json::from_value(limits.clone()).map_err(|e| e.to_string())?;
        self.context.runtime.limit_group(path, &limits).await.map_err(|e| e.to_string())
    }

    /// Follows all changes of the pods after this call, for ever.
    pub fn run(mut self, pods: Pods) -> impl Future<Output = Result<(), AgentError>> + Send {
        let mut changed = pods.changed();
        async move {
            loop {
                tokio::select! {
                    // Ends with the agent only.
                    ended = changed.changed() => if ended.is_err() {
                        return Ok(());
                    },
                    () = tokio::time::sleep(RETRY), if self.failed => {}
                }
                self.update(Some(&pods.pods())).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_weigh_what_their_pods_ask_for() {
        let pod = |status: &str, spec: &str| -> Pod {
            serde_yaml::from_str(&format!("metadata: {{uid: u}}\nspec: {spec}\nstatus: {{phase: {status}}}")).expect("a pod")
        };
        let pods = [
            pod("Running", "{containers: [{name: a, resources: {requests: {cpu: 300m}}}, {name: b}]}"),
            pod("Pending", "{overhead: {cpu: 100m}, containers: [{name: a, resources: {requests: {cpu: 600m}}}]}"),
            // Ended, of another class, without a request.
            pod("Succeeded", "{containers: [{name: a, resources: {requests: {cpu: 4}}}]}"),
            pod("Running", "{containers: [{name: a, resources: {requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 1, memory: 1Mi}}}]}"),
            pod("Running", "{containers: [{name: a}]}"),
        ];
        let node = Capacity { cpu: 2000, memory: 4096, pids: 32768, huge_pages: vec![Pages { size: 2 << 20, count: 3 }] };
        let huge = json!([{"pageSize": "2MB", "limit": 6 << 20}]);
        let all = json!({"cpu": {"shares": 2048}, "memory": {"limit": 4096}, "pids": {"limit": 32768}, "hugepageLimits": huge});
        let class = |name: &str, shares: i64| (format!("orch/{name}"), json!({"cpu": {"shares": shares}}));
        let fixed = [("orch".to_owned(), all), class("besteffort", 2)];
        let with = |shares: i64| [&fixed[..], &[class("burstable", shares)]].concat();
        assert_eq!(groups(&node, Some(&pods.map(Arc::new))), with(1024));
        assert_eq!(groups(&node, Some(&[])), with(2));
        assert_eq!(groups(&node, None), fixed);
    }
}
