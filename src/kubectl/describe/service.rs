//! Services and their endpoints.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{Text, each, labels, show};

/// A service.
pub(super) fn service(text: &mut Text, object: &Value, slices: &[Value], _: Timestamp) {
    let spec = &object["spec"];
    text.head(object);
    text.pairs(object);
    text.line(0, &format!("Selector:\t{}", labels(&spec["selector"])));
    text.field(0, "Type", &spec["type"]);
    text.field(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    let join = |list: &Value| each(list).map(show).collect::<Vec<_>>().join(",");
    if spec["ipFamilies"].is_array() {
        text.line(0, &format!("IP Families:\t{}", join(&spec["ipFamilies"])));
    }
    text.field_or_none(0, "IP", &spec["clusterIP"]);
    if spec["clusterIPs"].is_array() {
        text.line(0, &format!("IPs:\t{}", join(&spec["clusterIPs"])));
    }
    if spec["externalIPs"].is_array() {
        text.line(0, &format!("External IPs:\t{}", join(&spec["externalIPs"])));
    }
    text.field(0, "External Name", &spec["externalName"]);
    let ingress: Vec<String> = each(&object["status"]["loadBalancer"]["ingress"])
        .map(|one| show(if one["ip"].is_string() { &one["ip"] } else { &one["hostname"] }))
        .collect();
    if !ingress.is_empty() {
        text.line(0, &format!("LoadBalancer Ingress:\t{}", ingress.join(", ")));
    }
    for port in each(&spec["ports"]) {
        let name = port["name"].as_str().unwrap_or("<unset>");
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        text.line(0, &format!("Port:\t{name}\t{}/{protocol}", show(&port["port"])));
        let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
        text.line(0, &format!("TargetPort:\t{}/{protocol}", show(target)));
        if port["nodePort"].as_i64().unwrap_or(0) > 0 {
            text.line(0, &format!("NodePort:\t{name}\t{}/{protocol}", show(&port["nodePort"])));
        }
        text.line(0, &format!("Endpoints:\t{}", endpoints(slices, port)));
    }
    text.field(0, "Session Affinity", &spec["sessionAffinity"]);
    text.field(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    text.field(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
}

/// The first three ready endpoints of a port, and how many more there are.
fn endpoints(slices: &[Value], port: &Value) -> String {
    let mut found = Vec::new();
    for slice in slices {
        let name = port["name"].as_str().unwrap_or_default();
        let Some(port) = each(&slice["ports"]).find(|own| own["name"].as_str().unwrap_or_default() == name) else { continue };
        for endpoint in each(&slice["endpoints"]).filter(|endpoint| endpoint["conditions"]["ready"] != false) {
            found.extend(each(&endpoint["addresses"]).map(|address| {
                let address = show(address);
                let address = if address.contains(':') { format!("[{address}]") } else { address };
                format!("{address}:{}", show(&port["port"]))
            }));
        }
    }
    match found.len() {
        0 => String::new(),
        1..=3 => found.join(","),
        all => format!("{} + {} more...", found[..3].join(","), all - 3),
    }
}
