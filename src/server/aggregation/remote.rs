//! What a remote server says it serves.
//!
//! The aggregated form is asked for first; a server that does not know it answers the legacy one, which is made into it. The question is
//! also the check of its availability, as upstream's: `/apis/GROUP/VERSION` must be answered.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, header};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};

use super::{identify, peer};
use crate::server::outbound::{CallError, Outbound, Peer};
use crate::server::registry::User;

/// For one document.
const PATIENCE: Duration = Duration::from_secs(6);
/// Of one document.
const MOST_READ: usize = 32 << 20;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// What is served under one group version.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// The resources, as an entry of the aggregated form has them.
    pub resources: Value,
    /// Where its OpenAPI v3 document is, with its hash, if it has one.
    pub openapi_v3: Option<String>,
}

/// The aggregator itself, which may read everything.
fn myself() -> User {
    User { name: "system:kube-aggregator".into(), groups: vec!["system:masters".into()], ..User::default() }
}

/// Reads one document.
async fn fetch(outbound: &Outbound, peer: &Peer, accept: &str) -> Result<Response<Bytes>, CallError> {
    fetch_unless(outbound, peer, accept, None).await
}

/// Reads one document, unless it is the one with this ETag: then the answer is 304.
pub(super) async fn fetch_unless(outbound: &Outbound, peer: &Peer, accept: &str, etag: Option<&str>) -> Result<Response<Bytes>, CallError> {
    let request = Request::get(peer.url("")).header(header::ACCEPT, accept);
    let request = match etag {
        Some(etag) => request.header(header::IF_NONE_MATCH, etag),
        None => request,
    };
    let mut request = request.body(Body::empty()).map_err(|error| CallError::Unusable(error.to_string()))?;
    identify(request.headers_mut(), &myself());
    outbound.fetch(peer, request, PATIENCE, MOST_READ).await
}

/// Asks a server what it serves. The error is the message of the failed check.
pub(super) async fn discover(outbound: &Outbound, service: &APIService) -> Result<Served, String> {
    let spec = service.spec.clone().unwrap_or_default();
    let (group, version) = (spec.group.unwrap_or_default(), spec.version.unwrap_or_default());
    let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let at = peer(service, &path).map_err(|error| error.to_string())?;
    let url = at.url("");
    let answer = fetch(outbound, &at, "application/json").await;
    let answer = answer.map_err(|error| format!("failing or missing response from {url}: {error}"))?;
    if !(200..300).contains(&answer.status().as_u16()) {
        return Err(format!("failing or missing response from {url}: bad status from {url}: {}", answer.status().as_u16()));
    }
    let openapi_v3 = document(outbound, service, &group, &version).await;
    let resources = match aggregated(outbound, service, &group, &version).await {
        Some(resources) => resources,
        None => from_legacy(&group, &version, &serde_json::from_slice(answer.body()).unwrap_or_default()),
    };
    Ok(Served { resources, openapi_v3 })
}

/// Where the server's index of OpenAPI v3 documents has that of the group version.
async fn document(outbound: &Outbound, service: &APIService, group: &str, version: &str) -> Option<String> {
    let answer = fetch(outbound, &peer(service, "/openapi/v3").ok()?, "application/json").await.ok()?;
    let index: Value = serde_json::from_slice(answer.body()).ok().filter(|_| answer.status() == 200)?;
    let url = index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"].as_str()?;
    // It is asked for under this server's own path, so that no other may be named.
    url.starts_with(&format!("/openapi/v3/apis/{group}/{version}")).then(|| url.to_owned())
}

/// The group version out of the server's aggregated document, if it has one.
async fn aggregated(outbound: &Outbound, service: &APIService, group: &str, version: &str) -> Option<Value> {
    let answer = fetch(outbound, &peer(service, "/apis").ok()?, AGGREGATED).await.ok()?;
    let is_aggregated = answer.headers().get(header::CONTENT_TYPE)?.to_str().ok()?.contains("APIGroupDiscoveryList");
    if !is_aggregated || answer.status() != 200 {
        return None;
    }
    let list: Value = serde_json::from_slice(answer.body()).ok()?;
    let found = list["items"].as_array()?.iter().find(|item| item["metadata"]["name"] == group)?;
    let found = found["versions"].as_array()?.iter().find(|item| item["version"] == version)?;
    Some(found.get("resources").cloned().unwrap_or_else(|| json!([])))
}

/// The resources of an APIResourceList in the aggregated form; subresources go below what they are of.
fn from_legacy(group: &str, version: &str, list: &Value) -> Value {
    let kind_of = |resource: &Value| {
        let or = |field: &str, fallback: &str| resource[field].as_str().filter(|text| !text.is_empty()).unwrap_or(fallback).to_owned();
        json!({"group": or("group", group), "version": or("version", version), "kind": resource["kind"]})
    };
    let mut out: Vec<Value> = Vec::new();
    for resource in list["resources"].as_array().into_iter().flatten() {
        let name = resource["name"].as_str().unwrap_or_default();
        if let Some((main, part)) = name.split_once('/') {
            let part = json!({"subresource": part, "responseKind": kind_of(resource), "verbs": resource["verbs"]});
            if let Some(main) = out.iter_mut().find(|known| known["resource"] == main) {
                match main["subresources"].as_array_mut() {
                    Some(parts) => parts.push(part),
                    None => main["subresources"] = json!([part]),
                }
            }
            continue;
        }
        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut one = json!({
            "resource": name, "responseKind": kind_of(resource), "scope": scope,
            "singularResource": resource["singularName"].as_str().unwrap_or_default(), "verbs": resource["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if resource[field].is_array() {
                one[field] = resource[field].clone();
            }
        }
        out.push(one);
    }
    Value::Array(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_documents_are_made_into_the_aggregated_form() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
            {"name": "lost/status", "kind": "Lost", "verbs": []},
        ]});
        let want = json!([{
            "resource": "flunders", "responseKind": {"group": "g", "version": "v1", "kind": "Flunder"}, "scope": "Namespaced",
            "singularResource": "flunder", "verbs": ["get"], "shortNames": ["fl"],
            "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]}],
        }]);
        assert_eq!(from_legacy("g", "v1", &list), want);
        assert_eq!(from_legacy("g", "v1", &Value::Null), json!([]));
    }
}
