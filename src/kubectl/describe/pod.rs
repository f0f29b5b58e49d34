//! Pods, and the templates of pods.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{Text, controller, each, show};
use crate::kubectl::time;

/// A pod.
pub(super) fn pod(text: &mut Text, pod: &Value, _: &[Value], now: Timestamp) {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    text.head(pod);
    text.field(0, "Priority", if spec["priority"].is_null() { &Value::Null } else { &spec["priority"] });
    text.field(0, "Priority Class Name", &spec["priorityClassName"]);
    text.field(0, "Service Account", &spec["serviceAccountName"]);
    match spec["nodeName"].as_str() {
        Some(node) => text.line(0, &format!("Node:\t{node}/{}", show(&status["hostIP"]))),
        None => text.line(0, "Node:\t<none>"),
    }
    if status["startTime"].is_string() {
        text.line(0, &format!("Start Time:\t{}", time::rfc1123(&status["startTime"])));
    }
    text.pairs(pod);
    if meta["deletionTimestamp"].is_string() {
        text.line(0, &format!("Status:\tTerminating (lasts {})", time::since(&meta["deletionTimestamp"], now)));
        text.line(0, &format!("Termination Grace Period:\t{}s", show(&meta["deletionGracePeriodSeconds"])));
    } else {
        text.field_or_none(0, "Status", &status["phase"]);
    }
    text.field(0, "Reason", &status["reason"]);
    text.field(0, "Message", &status["message"]);
    text.line(0, &format!("IP:\t{}", show(&status["podIP"])));
    let addresses: Vec<&Value> = each(&status["podIPs"]).collect();
    text.line(0, if addresses.is_empty() { "IPs:\t<none>" } else { "IPs:" });
    for address in addresses {
        text.line(1, &format!("IP:\t{}", show(&address["ip"])));
    }
    if let Some(owner) = controller(pod) {
        text.line(0, &format!("Controlled By:\t{owner}"));
    }
    for (title, list, states) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        containers(text, 0, title, &spec[list], Some(&status[states]));
    }
    text.conditions(pod, &[("Type", "type"), ("Status", "status")]);
    volumes(text, 0, &spec["volumes"]);
    text.field(0, "QoS Class", &status["qosClass"]);
    text.map(0, "Node-Selectors", &spec["nodeSelector"], "=");
    tolerations(text, 0, &spec["tolerations"]);
}

/// A template, without its status.
pub(super) fn template(text: &mut Text, template: &Value, level: usize) {
    let spec = &template["spec"];
    text.map(level, "Labels", &template["metadata"]["labels"], "=");
    if template["metadata"]["annotations"].as_object().is_some_and(|map| !map.is_empty()) {
        text.map(level, "Annotations", &template["metadata"]["annotations"], ": ");
    }
    text.field(level, "Service Account", &spec["serviceAccountName"]);
    containers(text, level, "Init Containers", &spec["initContainers"], None);
    containers(text, level, "Containers", &spec["containers"], None);
    volumes(text, level, &spec["volumes"]);
    text.map(level, "Node-Selectors", &spec["nodeSelector"], "=");
    tolerations(text, level, &spec["tolerations"]);
}

fn containers(text: &mut Text, level: usize, title: &str, list: &Value, states: Option<&Value>) {
    if list.as_array().is_none_or(Vec::is_empty) {
        return;
    }
    text.line(level, &format!("{title}:"));
    for container in each(list) {
        text.line(level + 1, &format!("{}:", show(&container["name"])));
        let state = states.and_then(|states| each(states).find(|state| state["name"] == container["name"]));
        one(text, level + 2, container, states.is_some(), state.unwrap_or(&Value::Null));
    }
}

fn one(text: &mut Text, level: usize, container: &Value, with_state: bool, state: &Value) {
    if with_state {
        text.line(level, &format!("Container ID:\t{}", show(&state["containerID"])));
    }
    text.line(level, &format!("Image:\t{}", show(&container["image"])));
    if with_state {
        text.line(level, &format!("Image ID:\t{}", show(&state["imageID"])));
    }
    let port = |field: &str| {
        let ports: Vec<String> = each(&container["ports"])
            .map(|port| format!("{}/{}", port[field].as_i64().unwrap_or(0), port["protocol"].as_str().unwrap_or("TCP")))
            .collect();
        if ports.is_empty() { "<none>".to_string() } else { ports.join(", ") }
    };
    let plural = if container["ports"].as_array().is_some_and(|ports| ports.len() > 1) { "s" } else { "" };
    text.line(level, &format!("Port{plural}:\t{}", port("containerPort")));
    text.line(level, &format!("Host Port{plural}:\t{}", port("hostPort")));
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        if container[field].is_array() {
            text.line(level, &format!("{title}:"));
            each(&container[field])
                .flat_map(|word| show(word).lines().map(str::to_string).collect::<Vec<_>>())
                .for_each(|word| text.line(level + 1, &word));
        }
    }
    if with_state {
        run_state(text, level, "State", &state["state"]);
        if state["lastState"].as_object().is_some_and(|map| !map.is_empty()) {
            run_state(text, level, "Last State", &state["lastState"]);
        }
        text.line(level, &format!("Ready:\t{}", if state["ready"] == true { "True" } else { "False" }));
        text.line(level, &format!("Restart Count:\t{}", state["restartCount"].as_i64().unwrap_or(0)));
    }
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let map = container["resources"][field].as_object().filter(|map| !map.is_empty());
        if let Some(map) = map {
            text.line(level, &format!("{title}:"));
            map.iter().for_each(|(name, value)| text.line(level + 1, &format!("{name}:\t{}", show(value))));
        }
    }
    for (title, field) in [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")] {
        if container[field].is_object() {
            text.line(level, &format!("{title}:\t{}", probe(&container[field])));
        }
    }
    environment(text, level, container);
    let mounts: Vec<&Value> = each(&container["volumeMounts"]).collect();
    text.line(level, if mounts.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    for mount in mounts {
        let mut flags = if mount["readOnly"] == true { "ro".to_string() } else { "rw".to_string() };
        if let Some(path) = mount["subPath"].as_str().filter(|path| !path.is_empty()) {
            flags.push_str(&format!(",path={path:?}"));
        }
        text.line(level + 1, &format!("{} from {} ({flags})", show(&mount["mountPath"]), show(&mount["name"])));
    }
}

fn run_state(text: &mut Text, level: usize, title: &str, state: &Value) {
    let Some((name, inner)) = state.as_object().and_then(|map| map.iter().next()) else {
        return text.line(level, &format!("{title}:\tWaiting"));
    };
    let mut chars = name.chars();
    let name: String = chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect();
    text.line(level, &format!("{title}:\t{name}"));
    text.field(level + 1, "Reason", &inner["reason"]);
    text.field(level + 1, "Message", &inner["message"]);
    if name == "Terminated" {
        text.field(level + 1, "Exit Code", &inner["exitCode"]);
        text.field(level + 1, "Signal", &inner["signal"]);
    }
    for (title, field) in [("Started", "startedAt"), ("Finished", "finishedAt")] {
        if inner[field].is_string() {
            text.line(level + 1, &format!("{title}:\t{}", time::rfc1123(&inner[field])));
        }
    }
}

fn probe(probe: &Value) -> String {
    let number = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let (http, tcp, grpc) = (&probe["httpGet"], &probe["tcpSocket"], &probe["grpc"]);
    let what = if probe["exec"].is_object() {
        format!("exec [{}]", each(&probe["exec"]["command"]).map(show).collect::<Vec<_>>().join(" "))
    } else if http.is_object() {
        let scheme = http["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        format!("http-get {scheme}://{}:{}{}", show(&http["host"]), show(&http["port"]), show(&http["path"]))
    } else if tcp.is_object() {
        format!("tcp-socket {}:{}", show(&tcp["host"]), show(&tcp["port"]))
    } else if grpc.is_object() {
        format!("grpc <pod>:{} {}", show(&grpc["port"]), show(&grpc["service"]))
    } else {
        "unknown".into()
    };
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    )
}

fn environment(text: &mut Text, level: usize, container: &Value) {
    let sources: Vec<&Value> = each(&container["envFrom"]).collect();
    if !sources.is_empty() {
        text.line(level, "Environment Variables from:");
    }
    for source in sources {
        let (kind, inner) =
            if source["secretRef"].is_object() { ("Secret", &source["secretRef"]) } else { ("ConfigMap", &source["configMapRef"]) };
        text.line(level + 1, &format!("{}\t{kind}\tOptional: {}", show(&inner["name"]), inner["optional"] == true));
    }
    let variables: Vec<&Value> = each(&container["env"]).collect();
    text.line(level, if variables.is_empty() { "Environment:\t<none>" } else { "Environment:" });
    for variable in variables {
        let from = &variable["valueFrom"];
        let keyed = |what: &str, inner: &Value| {
            format!(
                "<set to the key '{}' in {what} '{}'>\tOptional: {}",
                show(&inner["key"]),
                show(&inner["name"]),
                inner["optional"] == true
            )
        };
        let value = if from["secretKeyRef"].is_object() {
            keyed("secret", &from["secretKeyRef"])
        } else if from["configMapKeyRef"].is_object() {
            keyed("config map", &from["configMapKeyRef"]).replace("in config map", "of config map")
        } else if from["fieldRef"].is_object() {
            format!(" ({}:{})", from["fieldRef"]["apiVersion"].as_str().unwrap_or("v1"), show(&from["fieldRef"]["fieldPath"]))
        } else if from["resourceFieldRef"].is_object() {
            format!(" ({})", show(&from["resourceFieldRef"]["resource"]))
        } else {
            show(&variable["value"]).replace('\n', "\\n")
        };
        text.line(level + 1, &format!("{}:\t{value}", show(&variable["name"])));
    }
}

fn volumes(text: &mut Text, level: usize, volumes: &Value) {
    let list: Vec<&Value> = each(volumes).collect();
    text.line(level, if list.is_empty() { "Volumes:\t<none>" } else { "Volumes:" });
    for volume in list {
        text.line(level + 1, &format!("{}:", show(&volume["name"])));
        let Some((kind, inner)) = volume.as_object().into_iter().flatten().find(|(key, _)| *key != "name") else { continue };
        let mut chars = kind.chars();
        let kind: String = chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect();
        text.line(level + 2, &format!("Type:\t{kind}"));
        for (field, value) in inner.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object() && !value.is_array()) {
            let mut chars = field.chars();
            let title: String = chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect();
            text.line(level + 2, &format!("{title}:\t{}", show(value)));
        }
        for source in each(&inner["sources"]) {
            for (field, value) in source.as_object().into_iter().flatten() {
                let name = [&value["name"], &value["path"]].into_iter().find(|name| name.is_string()).map(show).unwrap_or_default();
                text.line(level + 2, &format!("Source:\t{field} {name}"));
            }
        }
    }
}

fn tolerations(text: &mut Text, level: usize, tolerations: &Value) {
    let mut title = "Tolerations:";
    for toleration in each(tolerations) {
        let mut line = show(&toleration["key"]);
        if toleration["value"].is_string() {
            line.push_str(&format!("={}", show(&toleration["value"])));
        }
        if toleration["effect"].is_string() {
            line.push_str(&format!(":{}", show(&toleration["effect"])));
        }
        if toleration["operator"] == "Exists" {
            line.push_str(if line.is_empty() { "op=Exists" } else { " op=Exists" });
        }
        if !toleration["tolerationSeconds"].is_null() {
            line.push_str(&format!(" for {}s", toleration["tolerationSeconds"]));
        }
        text.line(level, &format!("{title}\t{line}"));
        title = "";
    }
    if !title.is_empty() {
        text.line(level, "Tolerations:\t<none>");
    }
}
