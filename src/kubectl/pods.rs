//! Which pod and which container a verb means: a pod by name, or one of those that a workload or a service selects.

use std::time::Duration;

use serde_json::Value;

use super::error::{Error, Result};
use super::session::{JSON, Session};
use super::table;
use super::target::{self, Target};

/// Annotation that names the container to use.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The pods that a target stands for: itself, or those that it selects, ready ones first.
pub async fn of(session: &Session, target: &Target) -> Result<Vec<Value>> {
    let object = session.get(&target.path(), JSON).await?;
    if target.resource.kind == "Pod" {
        return Ok(vec![object]);
    }
    let Some(selector) = selector(&object) else {
        return Error::usage(format!("cannot attach to {}: it selects no pods", target.resource.kind));
    };
    let pods = session.catalog().await?.resolve("pods")?.clone();
    let list = session.list(&pods.path(target.namespace.as_deref(), None), &[("labelSelector", &selector)]).await?;
    let mut found: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    found.sort_by_key(|pod| (!is_ready(pod), pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_string()));
    Ok(found)
}

/// The label selector of a workload or a service, as text.
pub fn selector(object: &Value) -> Option<String> {
    let selector = &object["spec"]["selector"];
    if selector["matchLabels"].is_null() && selector["matchExpressions"].is_null() {
        return selector.as_object().filter(|map| !map.is_empty() && map.values().all(Value::is_string)).map(|_| table::labels(selector));
    }
    let mut parts = Vec::new();
    if selector["matchLabels"].as_object().is_some_and(|map| !map.is_empty()) {
        parts.push(table::labels(&selector["matchLabels"]));
    }
    for term in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = term["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        parts.push(match term["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_string(),
            _ => format!("!{key}"),
        });
    }
    Some(parts.join(",")).filter(|text| !text.is_empty())
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The one pod of a target; with several, the first is taken and named.
pub async fn one(session: &Session, words: &[String], wait: Duration) -> Result<Value> {
    let target = target::single(session, words, "pods").await?;
    let mut found = of(session, &target).await?;
    if found.is_empty() && wait.is_zero() {
        return Error::usage(format!("no pods found for {}", target.resource.named(target.name.as_deref().unwrap_or_default())));
    }
    if found.is_empty() {
        return Error::usage("timed out waiting for the condition: no pods found");
    }
    Ok(found.remove(0))
}

/// The pod's name and namespace.
pub fn place(pod: &Value) -> (&str, &str) {
    (pod["metadata"]["namespace"].as_str().unwrap_or("default"), pod["metadata"]["name"].as_str().unwrap_or_default())
}

/// All names of one list of containers.
pub fn containers<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    pod["spec"][list].as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}

/// The container of this name, of whichever list.
pub fn find<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let lists = ["containers", "initContainers", "ephemeralContainers"].map(|list| pod["spec"][list].as_array());
    lists.into_iter().flatten().flatten().find(|container| container["name"] == name)
}

/// The status of the container of this name, of whichever list.
pub fn status<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"].map(|list| pod["status"][list].as_array());
    lists.into_iter().flatten().flatten().find(|status| status["name"] == name)
}

/// The container to use. A choice among several is told.
pub fn container(session: &Session, pod: &Value, flag: Option<&str>) -> Result<String> {
    let own = containers(pod, "containers");
    let all: Vec<&str> =
        own.iter().copied().chain(containers(pod, "initContainers")).chain(containers(pod, "ephemeralContainers")).collect();
    if let Some(name) = flag {
        let (_, pod) = place(pod);
        return if all.contains(&name) {
            Ok(name.into())
        } else {
            Error::usage(format!("container {name} not found in pod {pod}, available are: {}", all.join(", ")))
        };
    }
    if let Some(name) = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str() {
        if all.contains(&name) {
            return Ok(name.into());
        }
        session.note(&format!("Default container name {name:?} not found in pod {}", place(pod).1));
    }
    let Some(first) = own.first() else { return Error::usage("the pod has no containers") };
    if all.len() > 1 {
        let init = containers(pod, "initContainers");
        let shown: Vec<String> =
            all.iter().map(|name| if init.contains(name) { format!("{name} (init)") } else { (*name).to_string() }).collect();
        session.note(&format!("Defaulted container {first:?} out of: {}", shown.join(", ")));
    }
    Ok((*first).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[test]
    fn selectors() {
        for (yaml, expected) in [
            ("{spec: {selector: {a: b}}}", Some("a=b")),
            ("{spec: {selector: {matchLabels: {a: b, c: d}}}}", Some("a=b,c=d")),
            (
                "{spec: {selector: {matchLabels: {a: b}, matchExpressions: [{key: k, operator: NotIn, values: [x, y]}, {key: e, operator: DoesNotExist}]}}}",
                Some("a=b,k notin (x,y),!e"),
            ),
            ("{spec: {}}", None),
            ("{data: {}}", None),
        ] {
            let object: Value = serde_yaml::from_str(yaml).unwrap();
            assert_eq!(selector(&object).as_deref(), expected, "{yaml}");
            if let Some(text) = expected {
                crate::api::selector::LabelSelector::parse(text).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn choice_of_containers() {
        let (session, _) = support::session(&[]);
        let pod: Value =
            serde_yaml::from_str("{metadata: {name: p}, spec: {containers: [{name: a}, {name: b}], initContainers: [{name: i}]}}").unwrap();
        assert_eq!(container(&session, &pod, None).unwrap(), "a");
        assert_eq!(container(&session, &pod, Some("i")).unwrap(), "i");
        let error = container(&session, &pod, Some("z")).unwrap_err().to_string();
        assert_eq!(error, "error: container z not found in pod p, available are: a, b, i");
        let mut marked = pod.clone();
        marked["metadata"]["annotations"][DEFAULT_CONTAINER] = "b".into();
        assert_eq!(container(&session, &marked, None).unwrap(), "b");
    }
}
