//! CPU, memory and processes of pods as limits of cgroups, in the form of the OCI runtime specification. Pure.
//!
//! Follows pkg/kubelet/cm/helpers_linux.go (pods), pkg/kubelet/kuberuntime/kuberuntime_container_linux.go (containers) and
//! pkg/kubelet/qos/policy.go. What is not limited is left out; the groups above the pods' own are those of [`qos`](super::qos).
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::huge_pages::{self, Pages};
use crate::api::pod::{self, Column};
use crate::api::quantity;

/// Value in thousandths, rounded up; `None` if it is no quantity.
pub fn milli(quantity: &str) -> Option<i64> {
    quantity::Quantity::parse(quantity).ok().map(|quantity| quantity.milli())
}

/// Value in whole units, rounded up; `None` if it is no quantity.
pub fn value(quantity: &str) -> Option<i64> {
    quantity::Quantity::parse(quantity).ok().map(|quantity| quantity.value())
}

fn amount(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let quantity = map?.get(name)?;
    match name {
        "cpu" => milli(&quantity.0),
        _ => value(&quantity.0),
    }
}

fn limit_of(resources: Option<&ResourceRequirements>, name: &str) -> Option<i64> {
    amount(resources?.limits.as_ref(), name)
}

fn request_of(resources: Option<&ResourceRequirements>, name: &str) -> Option<i64> {
    amount(resources?.requests.as_ref(), name)
}

/// Thousandths of CPU, or bytes.
pub fn limit(container: &Container, name: &str) -> Option<i64> {
    limit_of(container.resources.as_ref(), name)
}

/// Thousandths of CPU, or bytes; a limit stands in for a missing request.
pub fn request(container: &Container, name: &str) -> Option<i64> {
    request_of(container.resources.as_ref(), name).or_else(|| limit(container, name))
}

/// The pod's class: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Pod) -> &'static str {
    pod.spec.as_ref().map_or("BestEffort", pod::qos_class)
}

/// The group that all pods are below: upstream's kubepods.
pub const ROOT_CGROUP: &str = "orch";

/// The group of a class, below the root of the hierarchies. Guaranteed pods have none of their own: they are beside the other classes,
/// so that each weighs what it asks for.
pub fn class_cgroup(class: &str) -> String {
    match class {
        "Guaranteed" => ROOT_CGROUP.into(),
        class => format!("{ROOT_CGROUP}/{}", class.to_lowercase()),
    }
}

/// cgroup of the pod, below the root of the hierarchies.
pub fn cgroup(pod: &Pod) -> String {
    format!("{}/pod{}", class_cgroup(qos_class(pod)), pod.metadata.uid.as_deref().unwrap_or_default())
}

/// Who dies first when the memory of the node runs out: from -997 (last) to 1000.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    const LAST: i64 = -997;
    let Some(spec) = &pod.spec else { return LAST };
    match pod::qos_class(spec) {
        _ if is_node_critical(spec) => LAST,
        "Guaranteed" => LAST,
        "BestEffort" => 1000,
        _ => {
            let own = |container: &Container| request_of(container.resources.as_ref(), "memory").unwrap_or(0);
            let mut asked = own(container);
            if pod::is_sidecar(container) {
                // No sooner than any container that it serves.
                asked = asked.max(spec.containers.iter().map(own).min().unwrap_or(0));
            }
            let asked = asked + unclaimed_memory(spec);
            (1000 - asked.saturating_mul(1000) / node_memory.max(1)).clamp(1000 + LAST, 999)
        }
    }
}

/// What each container may count as its own of the memory that the pod as a whole asks for and no container does.
fn unclaimed_memory(spec: &PodSpec) -> i64 {
    let Some(whole) = request_of(spec.resources.as_ref(), "memory").filter(|bytes| *bytes > 0) else { return 0 };
    let containers = PodSpec { resources: None, ..spec.clone() };
    let claimed = pod::total(&containers, Column::Requests).get("memory").map_or(0, |bytes| bytes.value());
    let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
    (whole - claimed) / i64::try_from(count.max(1)).unwrap_or(i64::MAX)
}

/// Pods that the node can't do without, which only their priority class says.
fn is_node_critical(spec: &PodSpec) -> bool {
    const CRITICAL: i32 = 2_000_000_000;
    spec.priority_class_name.as_deref() == Some("system-node-critical") && spec.priority.is_some_and(|priority| priority >= CRITICAL)
}

/// The kernel's share of this much CPU.
pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu * 1024 / 1000).clamp(2, 262_144)
}

/// `cpu` of the specification. A limit of nothing is none.
fn cpu(shares: i64, limit: Option<i64>) -> Value {
    const PERIOD: i64 = 100_000;
    const LEAST: i64 = 1000;
    match limit.filter(|milli| *milli > 0) {
        Some(milli) => json!({"shares": shares, "quota": (milli * PERIOD / 1000).max(LEAST), "period": PERIOD}),
        None => json!({"shares": shares}),
    }
}

/// Limits of one container. What the pod as a whole may have stands in for a limit of its own. Without swap, and killed as a whole.
pub fn container_limits(pod: &Pod, container: &Container, pages: &[Pages]) -> Value {
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let limit = |name| limit(container, name).filter(|amount| *amount > 0).or_else(|| limit_of(whole, name)).filter(|amount| *amount > 0);
    let own = container.resources.iter().flat_map(|resources| resources.limits.iter().flatten());
    let huge = own.filter_map(|(name, amount)| Some((name.as_str(), value(&amount.0)?)));
    let request = request_of(container.resources.as_ref(), "cpu").or_else(|| limit("cpu")).unwrap_or(0);
    let mut all = json!({
        "cpu": cpu(shares(request), limit("cpu")),
        "unified": {"memory.oom.group": "1", "memory.swap.max": "0"},
        "hugepageLimits": huge_pages::limits(pages, huge),
    });
    if let Some(bytes) = limit("memory") {
        // v1 counts memory and swap together.
        all["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    all
}

/// Limits of the pod as a whole, with at most so many processes, if given. There is a limit of CPU or memory where the pod has one, or
/// all of its containers have.
pub fn pod_limits(pod: &Pod, processes: Option<i64>, pages: &[Pages]) -> Value {
    let spec = pod.spec.clone().unwrap_or_default();
    let (class, limits) = (pod::qos_class(&spec), pod::whole(&spec, Column::Limits));
    let requests = pod::whole(&spec, Column::Requests);
    let requested = requests.get("cpu").map_or(0, |cpu| cpu.milli());
    let huge: Vec<(&str, i64)> = requests.iter().map(|(name, amount)| (name, amount.value())).collect();
    let limit = |name: &str| {
        let whole = limit_of(spec.resources.as_ref(), name).is_some_and(|amount| amount > 0);
        let declared = whole || super::plan::containers(pod).all(|container| limit(container, name).is_some_and(|amount| amount > 0));
        limits.get(name).filter(|_| declared && class != "BestEffort")
    };
    let shares = if class == "BestEffort" { shares(0) } else { shares(requested) };
    let mut all = json!({
        "cpu": cpu(shares, limit("cpu").map(|cpu| cpu.milli())),
        "hugepageLimits": huge_pages::limits(pages, huge.into_iter()),
    });
    if let Some(bytes) = limit("memory").map(|memory| memory.value()) {
        all["memory"] = json!({"limit": bytes});
    }
    if let Some(processes) = processes {
        all["pids"] = json!({"limit": processes});
    }
    all
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
