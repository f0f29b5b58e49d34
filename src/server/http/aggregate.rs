//! Requests for what another server serves: relayed, with the front proxy's word for who asks; and its groups in the discovery documents.
//!
//! Authentication and authorization happened here already. Errors of the way are plain text with 503, as upstream's `proxyHandler`
//! (`kube-aggregator/pkg/apiserver/handler_proxy.go`) has them.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, UPGRADE};
use http::{HeaderName, Version};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};

use super::{App, Call, reply, stream};
use crate::api::Status;
use crate::server::aggregation::{RemoteVersion, available, identify, local};

/// The remote server that answers this path, if it is not this one.
pub(super) fn remote_of(app: &App, path: &str) -> Option<Arc<APIService>> {
    let aggregator = app.aggregator.get()?;
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("openapi/v3/").unwrap_or(path);
    let mut parts = path.strip_prefix("apis/")?.split('/');
    let (group, version) = (parts.next()?, parts.next().filter(|version| !version.is_empty())?);
    aggregator.remote(group, version)
}

fn unavailable(why: &str) -> Response {
    reply::bytes(503, "text/plain; charset=utf-8", format!("{why}\n"))
}

/// Relays the request to the server behind `service`, and its answer back; both stream. Upgrades become a tunnel.
pub(super) async fn relay(mut call: Call, service: Arc<APIService>) -> Result<Response, Status> {
    let Some(aggregator) = call.app.aggregator.get().cloned() else { return Err(Status::no_such_path()) };
    if !available::is_true(&service) {
        return Ok(unavailable("service unavailable"));
    }
    let headers = call.request.headers_mut();
    let ours: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    let path = call.request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    if call.request.headers().contains_key(UPGRADE) {
        identify(call.request.headers_mut(), &call.user);
        let (stream, host) = match aggregator.connect(&service).await {
            Ok(connected) => connected,
            Err(error) => return Ok(unavailable(&format!("error dialing backend: {error}"))),
        };
        let uri = path.parse::<http::Uri>().map_err(|error| Status::bad_request(format!("{path:?} is no request path: {error}")))?;
        return stream::forward(stream, call.request, uri, &host, call.app.stopping.clone().cancelled_owned()).await;
    }
    let mut request = call.request;
    stream::strip(request.headers_mut(), false);
    request.headers_mut().remove(HOST);
    *request.version_mut() = Version::HTTP_11;
    match aggregator.send(&service, &call.user, request, &path).await {
        Ok(mut answer) => {
            stream::strip(answer.headers_mut(), false);
            // HTTP/2 forbids what HTTP/1.1 allows; the version is the connection's own.
            *answer.version_mut() = Version::HTTP_11;
            if answer.status() == 101 {
                answer.headers_mut().remove(CONTENT_LENGTH);
            }
            Ok(answer.map(Body::new))
        }
        Err(error) => Ok(unavailable(&format!("error trying to reach service: {error}"))),
    }
}

/// Puts remote groups into the documents of `/apis` and below: `path`, whether the aggregated form is wanted, and what this server has there.
pub(super) fn merged(path: &str, aggregated: bool, document: Option<Value>, remotes: &[RemoteVersion]) -> Option<Value> {
    if remotes.is_empty() || !path.starts_with("/apis") {
        return document;
    }
    if aggregated {
        return document.map(|list| into_list(list, "items", remotes, name_of_item, |group, own, remotes| Some(item(group, own, remotes))));
    }
    if path == "/apis" {
        return document.map(|list| into_list(list, "groups", remotes, name_of_group, group_entry));
    }
    let group = path.strip_prefix("/apis/").filter(|rest| !rest.contains('/'))?;
    let of_group: Vec<&RemoteVersion> = remotes.iter().filter(|remote| remote.group == group).collect();
    if of_group.is_empty() {
        return document;
    }
    let mut entry = group_entry(group, document, &of_group)?;
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

/// The index of OpenAPI v3 documents with those that remote servers have; they are fetched from there, by [`relay`].
pub(super) fn with_documents(index: Bytes, remotes: &[RemoteVersion]) -> Bytes {
    if remotes.is_empty() {
        return index;
    }
    let Ok(mut merged) = serde_json::from_slice::<Value>(&index) else { return index };
    if merged["paths"].is_null() {
        merged["paths"] = json!({});
    }
    let Some(paths) = merged["paths"].as_object_mut() else { return index };
    for remote in remotes {
        let path = format!("apis/{}/{}", remote.group, remote.version);
        match remote.served.as_ref().and_then(|served| served.openapi_v3.as_ref()) {
            Some(url) => paths.insert(path, json!({"serverRelativeURL": url})),
            // What this server has there is not what is served.
            None => paths.remove(&path),
        };
    }
    merged.to_string().into()
}

fn name_of_group(entry: &Value) -> &str {
    entry["name"].as_str().unwrap_or_default()
}

fn name_of_item(entry: &Value) -> &str {
    entry["metadata"]["name"].as_str().unwrap_or_default()
}

/// Each remote group goes into its own entry, or into a new one before the first of a lower priority.
fn into_list(
    mut list: Value,
    field: &str,
    remotes: &[RemoteVersion],
    name: fn(&Value) -> &str,
    merge: impl Fn(&str, Option<Value>, &[&RemoteVersion]) -> Option<Value>,
) -> Value {
    let mut groups: Vec<&str> = remotes.iter().map(|remote| remote.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    let Some(entries) = list[field].as_array_mut() else { return list };
    let mut priorities: Vec<i32> = entries.iter().map(|entry| local::priority(name(entry))).collect();
    for group in groups {
        let of_group: Vec<&RemoteVersion> = remotes.iter().filter(|remote| remote.group == group).collect();
        let place = entries.iter().position(|entry| name(entry) == group);
        let own = place.map(|place| entries[place].take());
        let Some(entry) = merge(group, own, &of_group) else { continue };
        match place {
            Some(place) => entries[place] = entry,
            None => {
                let priority = of_group.iter().map(|remote| remote.group_priority).max().unwrap_or_default();
                let place = priorities.iter().position(|other| *other < priority).unwrap_or(entries.len());
                entries.insert(place, entry);
                priorities.insert(place, priority);
            }
        }
    }
    list
}

/// A group of the legacy form with its remote versions, those of higher priority first.
fn group_entry(group: &str, own: Option<Value>, remotes: &[&RemoteVersion]) -> Option<Value> {
    let own = own.as_ref().and_then(|own| own["versions"].as_array().cloned()).unwrap_or_default();
    let own: Vec<(i32, Value)> = own
        .into_iter()
        .filter(|version| remotes.iter().all(|remote| version["version"] != remote.version.as_str()))
        .map(|version| (own_version_priority(group), version))
        .collect();
    let named = |version: &str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let others = remotes.iter().map(|remote| (remote.version_priority, named(&remote.version)));
    let versions = by_priority(own.into_iter().chain(others).collect());
    let preferred = versions.first()?.clone();
    Some(json!({"name": group, "versions": versions, "preferredVersion": preferred}))
}

/// A group of the aggregated form with its remote versions. One that does not answer shows what it last said, and that this is old.
fn item(group: &str, own: Option<Value>, remotes: &[&RemoteVersion]) -> Value {
    let mut item = own.unwrap_or_else(|| json!({"metadata": {"name": group}}));
    let own = item["versions"].as_array().cloned().unwrap_or_default();
    let own = own.into_iter().filter(|version| remotes.iter().all(|remote| version["version"] != remote.version.as_str()));
    let own = own.map(|version| (own_version_priority(group), version));
    let others = remotes.iter().map(|remote| {
        let resources = remote.served.as_ref().map_or_else(|| json!([]), |served| served.resources.clone());
        let freshness = if remote.available && remote.served.is_some() { "Current" } else { "Stale" };
        (remote.version_priority, json!({"version": remote.version, "resources": resources, "freshness": freshness}))
    });
    item["versions"] = by_priority(own.chain(others).collect()).into();
    item
}

fn own_version_priority(group: &str) -> i32 {
    if local::group_priority(group).is_some() { 15 } else { 100 }
}

fn by_priority(mut versions: Vec<(i32, Value)>) -> Vec<Value> {
    // Stable: versions of one priority keep the order that they have.
    versions.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    versions.into_iter().map(|(_, version)| version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::aggregation::remote::Served;

    fn remote(group: &str, version: &str, priority: i32, available: bool) -> RemoteVersion {
        let served = Served { resources: json!([{"resource": "things"}]), openapi_v3: None };
        RemoteVersion {
            group: group.into(),
            version: version.into(),
            group_priority: priority,
            version_priority: 10,
            available,
            served: Some(Arc::new(served)),
            document: None,
        }
    }

    #[test]
    fn remote_groups_stand_by_priority() {
        let own = json!({"groups": [{"name": "apps"}, {"name": "example.org"}]});
        let remotes = [remote("b.io", "v1", 2000, true), remote("a.io", "v1", 500, false)];
        let merged_list = merged("/apis", false, Some(own), &remotes).unwrap();
        let names: Vec<_> = merged_list["groups"].as_array().unwrap().iter().map(name_of_group).collect();
        assert_eq!(names, ["apps", "b.io", "example.org", "a.io"]);
        let group = merged("/apis/b.io", false, None, &remotes).unwrap();
        assert_eq!((&group["kind"], &group["preferredVersion"]["groupVersion"]), (&json!("APIGroup"), &json!("b.io/v1")));
        assert_eq!(merged("/apis/c.io", false, None, &remotes), None);
        assert_eq!(merged("/api", false, Some(json!({})), &remotes), Some(json!({})));
    }

    #[test]
    fn old_news_is_stale() {
        let own = json!({"items": [{"metadata": {"name": "a.io"}, "versions": [{"version": "v2", "freshness": "Current"}]}]});
        let remotes = [remote("a.io", "v1", 500, false), remote("b.io", "v1", 500, true)];
        let merged = merged("/apis", true, Some(own), &remotes).unwrap();
        let versions = &merged["items"][0]["versions"];
        assert_eq!(
            (&versions[0]["version"], &versions[1]["version"], &versions[1]["freshness"]),
            (&json!("v2"), &json!("v1"), &json!("Stale"))
        );
        assert_eq!(
            merged["items"][1]["versions"][0],
            json!({"version": "v1", "resources": [{"resource": "things"}], "freshness": "Current"})
        );
    }
}
