//! Nodes and what runs on them.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{Text, each, show};
use crate::api::quantity::Quantity;
use crate::kubectl::time;

/// A node.
pub(super) fn node(text: &mut Text, node: &Value, pods: &[Value], now: Timestamp) {
    let (meta, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    text.field(0, "Name", &meta["name"]);
    let prefix = "node-role.kubernetes.io/";
    let roles: Vec<&str> = meta["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix(prefix))
        .filter(|role| !role.is_empty())
        .collect();
    text.line(0, &format!("Roles:\t{}", if roles.is_empty() { "<none>".into() } else { roles.join(",") }));
    text.pairs(node);
    text.line(0, &format!("CreationTimestamp:\t{}", time::rfc1123(&meta["creationTimestamp"])));
    let mut title = "Taints:";
    for taint in each(&spec["taints"]) {
        let value = taint["value"].as_str().map(|value| format!("={value}")).unwrap_or_default();
        text.line(0, &format!("{title}\t{}{value}:{}", show(&taint["key"]), show(&taint["effect"])));
        title = "";
    }
    if !title.is_empty() {
        text.line(0, "Taints:\t<none>");
    }
    text.line(0, &format!("Unschedulable:\t{}", spec["unschedulable"] == true));
    text.conditions(
        node,
        &[
            ("Type", "type"),
            ("Status", "status"),
            ("LastHeartbeatTime", "lastHeartbeatTime"),
            ("LastTransitionTime", "lastTransitionTime"),
            ("Reason", "reason"),
            ("Message", "message"),
        ],
    );
    text.line(0, "Addresses:");
    each(&status["addresses"]).for_each(|address| text.line(1, &format!("{}:\t{}", show(&address["type"]), show(&address["address"]))));
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        text.line(0, &format!("{title}:"));
        status[field].as_object().into_iter().flatten().for_each(|(name, value)| text.line(1, &format!("{name}:\t{}", show(value))));
    }
    text.line(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        text.line(1, &format!("{title}:\t{}", show(&status["nodeInfo"][field])));
    }
    text.field(0, "PodCIDR", &spec["podCIDR"]);
    text.field(0, "ProviderID", &spec["providerID"]);
    allocated(text, status, pods, now);
}

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// Milli-units that a pod asks for: its containers together, or its largest init container.
fn asked(pod: &Value, kind: &str, resource: &str) -> i64 {
    let own = |container: &Value| {
        container["resources"][kind][resource].as_str().and_then(|text| Quantity::parse(text).ok()).map_or(0, |quantity| quantity.milli())
    };
    let together: i64 = each(&pod["spec"]["containers"]).map(own).fold(0, i64::saturating_add);
    each(&pod["spec"]["initContainers"]).map(own).fold(together, i64::max)
}

fn amount(milli: i64, resource: &str) -> String {
    match resource {
        "cpu" if milli % 1000 != 0 => format!("{milli}m"),
        "memory" if milli != 0 && milli % (1000 << 20) == 0 => format!("{}Mi", milli / (1000 << 20)),
        "memory" if milli != 0 && milli % (1000 << 10) == 0 => format!("{}Ki", milli / (1000 << 10)),
        _ => (milli / 1000).to_string(),
    }
}

fn allocated(text: &mut Text, status: &Value, pods: &[Value], now: Timestamp) {
    let running: Vec<&Value> =
        pods.iter().filter(|pod| !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())).collect();
    let share = |milli: i64, resource: &str| {
        let all =
            status["allocatable"][resource].as_str().and_then(|text| Quantity::parse(text).ok()).map_or(0, |quantity| quantity.milli());
        format!("{} ({}%)", amount(milli, resource), if all == 0 { 0 } else { (milli as f64 / all as f64 * 100.0) as i64 })
    };
    text.line(0, &format!("Non-terminated Pods:\t({} in total)", running.len()));
    text.line(1, "Namespace\tName\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    text.line(1, "---------\t----\t------------\t----------\t---------------\t-------------\t---");
    for pod in &running {
        let cells: Vec<String> =
            RESOURCES.iter().flat_map(|resource| ["requests", "limits"].map(|kind| share(asked(pod, kind, resource), resource))).collect();
        let meta = &pod["metadata"];
        text.line(
            1,
            &format!(
                "{}\t{}\t{}\t{}",
                show(&meta["namespace"]),
                show(&meta["name"]),
                cells.join("\t"),
                time::since(&meta["creationTimestamp"], now)
            ),
        );
    }
    text.line(0, "Allocated resources:");
    text.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    text.line(1, "Resource\tRequests\tLimits");
    text.line(1, "--------\t--------\t------");
    for resource in RESOURCES {
        let total = |kind: &str| share(running.iter().map(|pod| asked(pod, kind, resource)).fold(0, i64::saturating_add), resource);
        text.line(1, &format!("{resource}\t{}\t{}", total("requests"), total("limits")));
    }
}
