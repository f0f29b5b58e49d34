//! The forms in which usage is told: upstream's `/metrics/resource` (pkg/kubelet/metrics/collectors/resource_metrics.go) and the part of
//! `/stats/summary` (kubelet/pkg/apis/stats/v1alpha1) that is measured here. Pure.
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Pair, PodSample, Sample};
use crate::metrics::Text;
use crate::runtime::Stats;

/// `/metrics/resource`.
pub fn resource(sample: &Sample) -> String {
    let mut out = Text::default();
    let millis = sample.at.as_millisecond();
    let seconds = |nanos: u64| format!("{} {millis}", nanos as f64 / 1e9);
    let whole = |bytes: u64| format!("{bytes} {millis}");
    let names = |pod: &PodSample| {
        let meta = &pod.pod.metadata;
        (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    };
    let mut containers = |name: &str, kind: &str, help: &str, value: &dyn Fn(&super::ContainerSample) -> String| {
        out.metric(name, kind, help);
        for pod in &sample.pods {
            let (namespace, pod_name) = names(pod);
            for container in &pod.containers {
                out.sample(name, &[("container", &container.name), ("namespace", &namespace), ("pod", &pod_name)], value(container));
            }
        }
    };
    containers(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        &|container| seconds(container.stats.cpu_nanos),
    );
    containers("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes", &|container| {
        whole(container.stats.working_set_bytes)
    });
    containers("container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds", &|container| {
        format!("{}", container.started.as_millisecond() as f64 / 1e3)
    });
    let node = &sample.node;
    let help = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
    out.single("node_cpu_usage_seconds_total", "counter", help, seconds(node.cpu_nanos));
    let help = "[STABLE] Current working set of the node in bytes";
    out.single("node_memory_working_set_bytes", "gauge", help, whole(node.working_set()));
    let mut pods = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Stats) -> String| {
        out.metric(name, kind, help);
        for pod in &sample.pods {
            let (namespace, pod_name) = names(pod);
            out.sample(name, &[("namespace", &namespace), ("pod", &pod_name)], value(&pod.stats));
        }
    };
    let help = "[STABLE] Cumulative cpu time consumed by the pod in core-seconds";
    pods("pod_cpu_usage_seconds_total", "counter", help, &|stats| seconds(stats.cpu_nanos));
    let help = "[STABLE] Current working set of the pod in bytes";
    pods("pod_memory_working_set_bytes", "gauge", help, &|stats| whole(stats.working_set_bytes));
    out.single("resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", 0);
    out.into_string()
}

fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// `/stats/summary`: CPU and memory; what is not measured is not there.
pub fn summary(pair: &Pair, node_name: &str) -> Value {
    let (sample, time) = (&pair.1, seconds(pair.1.at));
    let cpu = |nano_cores: u64, nanos: u64| json!({"time": time, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": nanos});
    let memory = |stats: &Stats| {
        json!({
            "time": time, "usageBytes": stats.usage_bytes, "workingSetBytes": stats.working_set_bytes, "rssBytes": stats.rss_bytes,
            "pageFaults": stats.page_faults, "majorPageFaults": stats.major_page_faults,
        })
    };
    let pod = |pod: &PodSample| {
        let containers = pod.containers.iter().map(|container| {
            json!({
                "name": container.name, "startTime": seconds(container.started),
                "cpu": cpu(pair.container_rate(pod, container), container.stats.cpu_nanos), "memory": memory(&container.stats),
            })
        });
        let meta = &pod.pod.metadata;
        let started = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| seconds(time.0));
        json!({
            "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}, "startTime": started,
            "containers": containers.collect::<Vec<_>>(), "cpu": cpu(pair.pod_rate(pod), pod.stats.cpu_nanos), "memory": memory(&pod.stats),
            "process_stats": {"process_count": pod.stats.pids},
        })
    };
    let node = &sample.node;
    let booted = Timestamp::from_second(node.started).map(seconds).ok();
    json!({
        "node": {
            "nodeName": node_name, "startTime": booted, "cpu": cpu(pair.node_rate(), node.cpu_nanos),
            "memory": {
                "time": time, "availableBytes": node.available(), "usageBytes": node.used, "workingSetBytes": node.working_set(),
                "rssBytes": node.anonymous,
            },
        },
        "pods": sample.pods.iter().map(pod).collect::<Vec<_>>(),
    })
}
