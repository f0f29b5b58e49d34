//! `metrics.k8s.io/v1beta1`: how much nodes and pods use, asked of the nodes at the moment somebody wants to know, and never stored.
//!
//! A node that does not answer is missing from lists. Where somebody installed an APIService for this group, requests go there instead (see
//! [`aggregate`](super::aggregate)). A node is believed only of pods that are bound to it. What the documents say of it is [`schema`].
//!
//! Follows kubernetes-sigs/metrics-server `pkg/api` (objects, columns, words).

pub(super) mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::negotiate::{Shape, negotiate};
use super::table::Include;
use super::{App, Call, reply, stream};
use crate::api::quantity::Quantity;
use crate::api::selector::FieldSelector;
use crate::api::usage::{Amount, GROUP, NodeUsage, PATH, VERSION};
use crate::api::{Key, Status};
use crate::server::auth::Lookup;
use crate::server::registry::ListOptions;

/// Resources: name, kind, whether in namespaces.
pub(super) const RESOURCES: &[(&str, &str, bool)] = &[("nodes", "NodeMetrics", false), ("pods", "PodMetrics", true)];

/// How long a node may take; the first to ask for long makes it measure for a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most of an answer that is read.
const LIMIT: usize = 16 << 20;

/// Whether the request is for this group.
pub(super) fn is_ours(call: &Call) -> bool {
    call.info.is_resource && call.info.group == GROUP && call.info.version == VERSION
}

/// GET of one or of all; there is no other verb.
pub(super) async fn serve(call: Call) -> Result<Response, Status> {
    let info = &call.info;
    let Some((_, kind, namespaced)) = RESOURCES.iter().find(|(name, ..)| *name == info.resource) else {
        return Err(Status::no_such_path());
    };
    if !info.subresource.is_empty() || (!namespaced && !info.namespace.is_empty()) {
        return Err(Status::no_such_path());
    }
    let one = match info.verb {
        "get" if *namespaced && info.namespace.is_empty() => return Err(Status::no_such_path()),
        "get" => true,
        "list" => false,
        verb => return Err(Status::method_not_allowed(verb)),
    };
    let options = match one {
        true => ListOptions { fields: FieldSelector::name(&info.name), ..ListOptions::default() },
        false => call.query.list()?,
    };
    let form = negotiate(&call.accept(), true)?;
    let include = Include::parse(call.query.first("includeObject"))?;
    if one {
        present(&call.app, *namespaced, &info.namespace, &info.name)?;
    }
    let items = match *namespaced {
        true => pods(&call.app, &info.namespace, &options).await?,
        false => nodes(&call.app, &options).await?,
    };
    if one && items.is_empty() {
        let name = if *namespaced { format!("{}/{}", info.namespace, info.name) } else { info.name.clone() };
        return Err(Status::not_found(GROUP, &kind.to_lowercase(), &name));
    }
    let api_version = format!("{GROUP}/{VERSION}");
    let (items, list_kind, api_version) = match form.shape {
        Shape::Table => return Ok(reply::encoded(200, form.encoding, table(&items, include).to_string().into())),
        Shape::Metadata => (items.iter().map(metadata_only).collect(), "PartialObjectMetadataList".into(), "meta.k8s.io/v1".into()),
        Shape::Whole => (items, format!("{kind}List"), api_version),
    };
    let answer = match one {
        true => items.into_iter().next().unwrap_or_default(),
        false => json!({"kind": list_kind, "apiVersion": api_version, "metadata": {}, "items": items}),
    };
    Ok(reply::encoded(200, form.encoding, answer.to_string().into()))
}

/// 404 for what is not there at all; upstream finds the measured object before what was measured of it.
fn present(app: &App, namespaced: bool, namespace: &str, name: &str) -> Result<(), Status> {
    let (key, resource) = match namespaced {
        true => (Key::of::<Pod>(namespace, name), "pods"),
        false => (Key::of::<Node>("", name), "nodes"),
    };
    app.registry.store().snapshot().get(&key).map(drop).ok_or_else(|| Status::not_found("", resource, name))
}

fn metadata_only(item: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]})
}

/// Whether an object of this name is selected.
fn is_selected(options: &ListOptions, namespace: &str, name: &str, labels: Option<&BTreeMap<String, String>>) -> Result<bool, Status> {
    let mut all = options.labels.matches(labels);
    for requirement in options.fields.requirements() {
        let value = match requirement.field.as_str() {
            "metadata.name" => name,
            "metadata.namespace" => namespace,
            field => return Err(Status::bad_request(format!("field label not supported: {field}"))),
        };
        all &= (value == requirement.value) != requirement.negated;
    }
    Ok(all)
}

/// What these nodes tell, of those that do.
async fn ask(app: &Arc<App>, nodes: BTreeSet<String>) -> BTreeMap<String, NodeUsage> {
    let one = |node: String| async move {
        let asked = async {
            let bytes = stream::fetch(app, &node, PATH, LIMIT).await.map_err(|status| status.message)?;
            serde_json::from_slice::<NodeUsage>(&bytes).map_err(|error| error.to_string())
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        match answer {
            Ok(usage) => Some((node, usage)),
            Err(why) => {
                tracing::debug!(node, why, "a node does not tell what it uses");
                None
            }
        }
    };
    futures::future::join_all(nodes.into_iter().map(one)).await.into_iter().flatten().collect()
}

async fn nodes(app: &Arc<App>, options: &ListOptions) -> Result<Vec<Value>, Status> {
    let mut wanted = Vec::new();
    for node in app.registry.store().snapshot().list::<Node>(None) {
        let name = node.metadata.name.clone().unwrap_or_default();
        if is_selected(options, "", &name, node.metadata.labels.as_ref())? {
            wanted.push((name, node));
        }
    }
    let told = ask(app, wanted.iter().map(|(name, _)| name.clone()).collect()).await;
    let object = |(name, node): &(String, Arc<Node>)| {
        let usage = told.get(name)?;
        let mut object = frame("NodeMetrics", usage, node.metadata.labels.as_ref(), None, name);
        object["usage"] = amounts(usage.node);
        Some(object)
    };
    Ok(wanted.iter().filter_map(object).collect())
}

async fn pods(app: &Arc<App>, namespace: &str, options: &ListOptions) -> Result<Vec<Value>, Status> {
    let mut wanted = Vec::new();
    for pod in app.registry.store().snapshot().list::<Pod>(Some(namespace).filter(|namespace| !namespace.is_empty())) {
        let meta = &pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) && is_selected(options, namespace, name, meta.labels.as_ref())? {
            wanted.push(pod);
        }
    }
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let told = ask(app, wanted.iter().map(|pod| node_of(pod)).collect()).await;
    // By node and uid: what a node says of pods that are not its own is not found.
    let known: BTreeMap<(&str, &str), (&NodeUsage, usize)> = told
        .iter()
        .flat_map(|(node, usage)| usage.pods.iter().enumerate().map(move |(at, pod)| ((node.as_str(), pod.uid.as_str()), (usage, at))))
        .collect();
    let object = |pod: &Arc<Pod>| {
        let meta = &pod.metadata;
        let node = node_of(pod);
        let (usage, at) = known.get(&(node.as_str(), meta.uid.as_deref().unwrap_or_default()))?;
        let containers = usage.pods[*at].containers.iter().map(|one| json!({"name": one.name, "usage": amounts(one.usage)}));
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref().unwrap_or_default());
        let mut object = frame("PodMetrics", usage, meta.labels.as_ref(), namespace, name);
        object["containers"] = containers.collect();
        Some(object)
    };
    Ok(wanted.iter().filter_map(object).collect())
}

/// What both kinds have.
fn frame(kind: &str, usage: &NodeUsage, labels: Option<&BTreeMap<String, String>>, namespace: Option<&str>, name: &str) -> Value {
    let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    let mut meta = json!({"name": name, "creationTimestamp": second(Timestamp::now())});
    if let Some(namespace) = namespace {
        meta["namespace"] = namespace.into();
    }
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
        meta["labels"] = json!(labels);
    }
    json!({
        "kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": meta, "timestamp": second(usage.timestamp),
        "window": duration(usage.window),
    })
}

fn amounts(amount: Amount) -> Value {
    json!({"cpu": nano(amount.nano_cores), "memory": binary(amount.working_set)})
}

/// Billionths as the shortest quantity.
fn nano(amount: u64) -> String {
    [(1_000_000_000, ""), (1_000_000, "m"), (1000, "u"), (1, "n")]
        .into_iter()
        .find(|(unit, _)| amount.is_multiple_of(*unit))
        .map_or_else(String::new, |(unit, suffix)| format!("{}{suffix}", amount / unit))
}

/// Bytes in the largest binary unit that has no rest.
fn binary(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti"];
    let fits = units.iter().enumerate().rev().find(|(power, _)| bytes != 0 && bytes.is_multiple_of(1 << (10 * power)));
    fits.map_or_else(|| bytes.to_string(), |(power, unit)| format!("{}{unit}", bytes >> (10 * power)))
}

/// Milliseconds as Go writes a duration.
fn duration(millis: u64) -> String {
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = match rest % 1000 {
        0 => (rest / 1000).to_string(),
        fraction => format!("{}.{}", rest / 1000, format!("{fraction:03}").trim_end_matches('0')),
    };
    match (minutes / 60, minutes % 60) {
        _ if millis > 0 && millis < 1000 => format!("{millis}ms"),
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The Table: name, CPU and memory of all containers together, window.
fn table(items: &[Value], include: Include) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let columns = [
        column("Name", "name", "Name of the resource"),
        column("cpu", "quantity", ""),
        column("memory", "quantity", ""),
        column("Window", "duration", ""),
    ];
    let rows = items.iter().map(|item| {
        let containers = item["containers"].as_array().into_iter().flatten().map(|container| &container["usage"]);
        let usages: Vec<&Value> = item.get("usage").into_iter().chain(containers).collect();
        let sum = |name: &str| {
            let mut sum = Quantity::ZERO;
            for amount in usages.iter().filter_map(|usage| Quantity::parse(usage[name].as_str()?).ok()) {
                sum += amount;
            }
            sum.to_string()
        };
        let mut row = json!({"cells": [item["metadata"]["name"], sum("cpu"), sum("memory"), item["window"]]});
        match include {
            Include::None => {}
            Include::Metadata => row["object"] = metadata_only(item),
            Include::Object => row["object"] = item.clone(),
        }
        row
    });
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_upstream_writes_them() {
        assert_eq!([0, 123, 120_000, 5_000_000, 2_000_000_000].map(nano), ["0", "123n", "120u", "5m", "2"]);
        assert_eq!([0, 1000, 1024, 3 << 20, (5 << 30) + 1024].map(binary), ["0", "1000", "1Ki", "3Mi", "5242881Ki"]);
        assert_eq!([0, 20, 1002, 15_000, 61_500, 3_600_000].map(duration), ["0s", "20ms", "1.002s", "15s", "1m1.5s", "1h0m0s"]);
    }

    #[test]
    fn tables() {
        let pod = json!({"metadata": {"name": "p"}, "window": "1s", "containers": [
            {"name": "a", "usage": {"cpu": "1500u", "memory": "1Ki"}}, {"name": "b", "usage": {"cpu": "500u", "memory": "1Ki"}}]});
        let node = json!({"metadata": {"name": "n"}, "window": "2s", "usage": {"cpu": "3n", "memory": "5"}});
        let table = table(&[pod, node], Include::Metadata);
        assert_eq!(
            (&table["rows"][0]["cells"], &table["rows"][1]["cells"]),
            (&json!(["p", "2m", "2Ki", "1s"]), &json!(["n", "3n", "5", "2s"]))
        );
        assert_eq!(
            table["rows"][0]["object"],
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "p"}})
        );
    }

    /// What clients of the generated types ask for first.
    #[test]
    fn messages() {
        let usage = NodeUsage { timestamp: Timestamp::UNIX_EPOCH, window: 1500, node: Amount::default(), pods: Vec::new() };
        let mut pod = frame("PodMetrics", &usage, None, Some("n"), "p");
        pod["containers"] = json!([{"name": "c", "usage": amounts(Amount { nano_cores: 5_000_000, working_set: 2048 })}]);
        let mut node = frame("NodeMetrics", &usage, None, None, "m");
        node["usage"] = amounts(Amount { nano_cores: 7, working_set: 9 });
        for (kind, item) in [("PodMetrics", pod), ("NodeMetrics", node)] {
            let list =
                json!({"kind": format!("{kind}List"), "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [item.clone()]});
            for whole in [&item, &list] {
                let message = crate::api::protobuf::encode(whole.to_string().as_bytes()).expect("a message");
                let mut read = crate::api::protobuf::decode(&message, None).expect("what was written is read");
                // An item of a list names no kind in its message.
                if let Some(item) = read.pointer_mut("/items/0").and_then(Value::as_object_mut) {
                    item.insert("kind".into(), kind.into());
                    item.insert("apiVersion".into(), "metrics.k8s.io/v1beta1".into());
                }
                assert_eq!(&read, whole);
            }
        }
    }

    #[test]
    fn selections() {
        let options = |fields: &str| ListOptions { fields: FieldSelector::parse(fields).expect("fields"), ..ListOptions::default() };
        for (fields, want) in
            [("metadata.name=a", Some(true)), ("metadata.name!=a", Some(false)), ("metadata.namespace=n", Some(true)), ("spec.x=1", None)]
        {
            assert_eq!(is_selected(&options(fields), "n", "a", None).ok(), want, "{fields}");
        }
    }
}
