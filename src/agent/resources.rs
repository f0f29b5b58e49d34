//! CPU and memory of pods: quantities as numbers, QoS class, cgroup limits. Pure. Follows pkg/kubelet/cm/helpers_linux.go,
//! pkg/kubelet/qos/policy.go and pkg/apis/core/v1/helper/qos.
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

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

/// Thousandths of CPU, or bytes.
pub fn limit(container: &Container, name: &str) -> Option<i64> {
    amount(container.resources.as_ref()?.limits.as_ref(), name)
}

/// Thousandths of CPU, or bytes; a limit stands in for a missing request.
pub fn request(container: &Container, name: &str) -> Option<i64> {
    amount(container.resources.as_ref().and_then(|r| r.requests.as_ref()), name).or_else(|| limit(container, name))
}

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Limits equal requests for all.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

impl Qos {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// The pod's quality of service.
pub fn qos_class(pod: &Pod) -> Qos {
    let (mut any, mut all) = (false, true);
    for container in super::plan::containers(pod) {
        for name in ["cpu", "memory"] {
            let (request, limit) = (request(container, name).filter(|v| *v > 0), limit(container, name).filter(|v| *v > 0));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// The group that all pods are below.
pub const ROOT_CGROUP: &str = "orch";

/// cgroup of the pod, below the root of the hierarchies.
pub fn cgroup(pod: &Pod) -> String {
    let class = qos_class(pod).as_str().to_lowercase();
    format!("{ROOT_CGROUP}/{class}/pod{}", pod.metadata.uid.as_deref().unwrap_or_default())
}

/// Who dies first when memory runs out.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    match qos_class(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = request(container, "memory").unwrap_or(0);
            (1000 - (1000 * request) / node_memory.max(1)).clamp(3, 999)
        }
    }
}

fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu * 1024 / 1000).clamp(2, 262_144)
}

/// `linux.resources` with these amounts; none set no limit.
fn limits(request_cpu: i64, limit_cpu: Option<i64>, limit_memory: Option<i64>) -> serde_json::Value {
    let mut cpu = json!({"shares": shares(request_cpu)});
    if let Some(milli) = limit_cpu.filter(|v| *v > 0) {
        cpu["quota"] = json!((milli * 100).max(1000));
        cpu["period"] = json!(100_000);
    }
    let mut all = json!({"cpu": cpu});
    if let Some(bytes) = limit_memory.filter(|v| *v > 0) {
        all["memory"] = json!({"limit": bytes});
    }
    all
}

/// Limits of one container, as OCI writes them.
pub fn container_limits(container: &Container) -> serde_json::Value {
    limits(request(container, "cpu").unwrap_or(0), limit(container, "cpu"), limit(container, "memory"))
}

/// Limits of the pod as a whole: sums, and only where every container has one.
pub fn pod_limits(pod: &Pod) -> serde_json::Value {
    let (mut cpu, mut init_cpu, mut side_cpu) = (0, 0, 0);
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        cpu += request(container, "cpu").unwrap_or(0);
    }
    for container in pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()) {
        let own = request(container, "cpu").unwrap_or(0);
        if super::plan::is_sidecar(container) {
            side_cpu += own;
        }
        init_cpu = init_cpu.max(own);
    }
    limits(init_cpu.max(cpu + side_cpu), pod_limit(pod, "cpu"), pod_limit(pod, "memory"))
}

fn pod_limit(pod: &Pod, name: &str) -> Option<i64> {
    let (mut sum, mut most) = (0i64, 0i64);
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        sum += limit(container, name)?;
    }
    for container in pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()) {
        let own = limit(container, name)?;
        if super::plan::is_sidecar(container) {
            sum += own;
        }
        most = most.max(own);
    }
    Some(sum.max(most))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, milli_value) in
            [("1", 1000), ("100m", 100), ("0.5", 500), ("1Ki", 1_024_000), ("2e3", 2_000_000), ("1n", 1), ("1.5Gi", 1_610_612_736_000)]
        {
            assert_eq!(milli(text), Some(milli_value), "{text}");
        }
        assert_eq!(milli("x"), None);
        assert_eq!(milli("1Q"), None);
        assert_eq!(value("1500m"), Some(2));
    }

    #[test]
    fn classes_and_limits() {
        let pod = |resources: &str| -> Pod {
            serde_yaml::from_str(&format!("metadata: {{uid: u}}\nspec: {{containers: [{{name: a, resources: {resources}}}]}}")).unwrap()
        };
        for (resources, class) in [
            ("{}", "orch/besteffort/podu"),
            ("{requests: {cpu: 1}}", "orch/burstable/podu"),
            ("{limits: {cpu: 1, memory: 1Mi}}", "orch/guaranteed/podu"),
        ] {
            assert_eq!(cgroup(&pod(resources)), class);
        }
        let limited = pod("{limits: {cpu: 500m, memory: 1Mi}}");
        let want = json!({"cpu": {"shares": 512, "quota": 50000, "period": 100000}, "memory": {"limit": 1048576}});
        assert_eq!(container_limits(&limited.spec.as_ref().unwrap().containers[0]), want);
        assert_eq!(pod_limits(&limited), want);
        assert_eq!(pod_limits(&pod("{}")), json!({"cpu": {"shares": 2}}));
    }
}
