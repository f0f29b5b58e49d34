//! Discovery: which groups, versions, resources and verbs there are.
//!
//! Made from the table of kinds, from [`SPECIAL`], the subresources that are not generic, and from what is measured ([`usage`]), and again whenever a kind comes or goes; served in the legacy form (a document
//! per group version) and the aggregated form (one document for `/api`, one for `/apis`), with an ETag.
//!
//! Follows upstream's `endpoints/discovery`; the order of groups is that of kube-apiserver's priorities.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{ETAG, IF_NONE_MATCH, VARY};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::negotiate::{Encoding, clauses, negotiate_plain};
use super::{Call, aggregate, reply, usage};
use crate::api::usage::{GROUP, VERSION};
use crate::api::{Status, protobuf};
use crate::server::aggregation::{Aggregator, RemoteVersion, local};
use crate::server::registry::strategy::Subresource;
use crate::server::registry::{KindDef, KindRef, Registry, same_kinds};

const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Those of custom kinds, in upstream's order.
const CUSTOM: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const PART: &[&str] = &["get", "patch", "update"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// A subresource that is a route of its own: group, resource, subresource, the kind it speaks (group, version, kind), verbs.
type Special<'a> = (&'a str, &'a str, &'a str, (&'a str, &'a str, &'a str), &'static [&'static str]);

const SPECIAL: &[Special<'static>] = &[
    ("", "namespaces", "finalize", ("", "v1", "Namespace"), &["update"]),
    ("", "nodes", "proxy", ("", "v1", "NodeProxyOptions"), PROXY),
    ("", "pods", "attach", ("", "v1", "PodAttachOptions"), &["create", "get"]),
    ("", "pods", "binding", ("", "v1", "Binding"), &["create"]),
    ("", "pods", "ephemeralcontainers", ("", "v1", "Pod"), PART),
    ("", "pods", "eviction", ("policy", "v1", "Eviction"), &["create"]),
    ("", "pods", "exec", ("", "v1", "PodExecOptions"), &["create", "get"]),
    ("", "pods", "log", ("", "v1", "Pod"), &["get"]),
    ("", "pods", "portforward", ("", "v1", "PodPortForwardOptions"), &["create", "get"]),
    ("", "pods", "proxy", ("", "v1", "PodProxyOptions"), PROXY),
    ("", "pods", "resize", ("", "v1", "Pod"), PART),
    ("", "serviceaccounts", "token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"]),
    ("", "services", "proxy", ("", "v1", "ServiceProxyOptions"), PROXY),
    ("certificates.k8s.io", "certificatesigningrequests", "approval", ("certificates.k8s.io", "v1", "CertificateSigningRequest"), PART),
];

/// One resource of a group version.
struct Resource<'a> {
    name: &'a str,
    singular: &'a str,
    namespaced: bool,
    kind: &'a str,
    verbs: Vec<&'static str>,
    short: &'a [Cow<'static, str>],
    categories: &'a [Cow<'static, str>],
    subresources: Vec<Special<'a>>,
    /// Of the version that is stored, if any is.
    storage_hash: Option<String>,
}

/// A document with its ETag.
#[derive(Clone)]
struct Document {
    body: Bytes,
    etag: String,
}

impl Document {
    fn new(value: &Value) -> Document {
        let body = Bytes::from(value.to_string());
        let hash = ring::digest::digest(&ring::digest::SHA256, &body);
        let etag = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        Document { etag: format!("\"{etag}\""), body }
    }
}

/// All discovery documents.
pub struct Discovery {
    /// By path: `/apis`, `/apis/apps`, `/apis/apps/v1`, `/api/v1`. `/api` names the server's address and is made on demand.
    legacy: BTreeMap<String, Document>,
    /// By root (`/api`, `/apis`) and version of the aggregated API.
    aggregated: BTreeMap<(&'static str, &'static str), Document>,
}

/// The documents of the kinds that are served now.
#[derive(Default)]
pub struct Live {
    present: Mutex<Option<(Vec<KindRef>, Arc<Discovery>)>>,
}

impl Live {
    /// The documents, made anew if the kinds changed since the last time.
    pub fn now(&self, registry: &Registry) -> Arc<Discovery> {
        let kinds = registry.kinds();
        let mut present = self.present.lock();
        if let Some((_, discovery)) = present.as_ref().filter(|(before, _)| same_kinds(before, &kinds)) {
            return discovery.clone();
        }
        let discovery = Arc::new(Discovery::new(&kinds));
        *present = Some((kinds, discovery.clone()));
        discovery
    }
}

/// GA before beta before alpha, then the larger number: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`.
fn version_rank(version: &str) -> (u8, u32, u32) {
    let rest = version.trim_start_matches('v');
    let (stage, major, minor) = match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((major, minor)), _) => (1, major, minor),
        (_, Some((major, minor))) => (0, major, minor),
        _ => (2, rest, ""),
    };
    (stage, major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

impl Discovery {
    /// The documents of these kinds.
    pub fn new(kinds: &[KindRef]) -> Discovery {
        let mut versions: BTreeMap<&str, BTreeMap<&str, Vec<Resource<'_>>>> = BTreeMap::new();
        for kind in kinds {
            versions.entry(kind.group()).or_default().entry(kind.version()).or_default().push(describe(kind));
        }
        let measured = versions.entry(GROUP).or_default().entry(VERSION).or_default();
        measured.extend(usage::RESOURCES.iter().map(|(name, kind, namespaced)| Resource {
            name,
            singular: "",
            namespaced: *namespaced,
            kind,
            verbs: vec!["get", "list"],
            short: &[],
            categories: &[],
            subresources: Vec::new(),
            storage_hash: None,
        }));
        let mut groups: Vec<Group<'_>> = versions
            .into_iter()
            .map(|(group, versions)| {
                let mut versions: Vec<_> = versions.into_iter().collect();
                versions.sort_by_key(|(version, _)| std::cmp::Reverse(version_rank(version)));
                for (_, resources) in &mut versions {
                    resources.sort_by(|a, b| a.name.cmp(b.name));
                }
                (group, versions)
            })
            .collect();
        // Stable: groups of one priority stay in the order of their names.
        groups.sort_by_key(|(group, _)| std::cmp::Reverse(local::priority(group)));
        Discovery { legacy: legacy(&groups), aggregated: aggregated(&groups) }
    }
}

fn describe(kind: &KindDef) -> Resource<'_> {
    let special = SPECIAL.iter().filter(|s| s.0 == kind.group() && s.1 == kind.resource()).copied();
    let generic = kind.info.subresources.iter().map(|subresource| match subresource {
        Subresource::Status => (kind.group(), kind.resource(), "status", (kind.group(), kind.version(), kind.kind()), PART),
        Subresource::Scale => (kind.group(), kind.resource(), "scale", ("autoscaling", "v1", "Scale"), PART),
    });
    let mut subresources: Vec<Special<'_>> = special.chain(generic).collect();
    subresources.sort_by_key(|s| s.2);
    let verbs = match (kind.info.virtual_only, kind.group(), kind.resource()) {
        (true, ..) => vec!["create"],
        _ if kind.info.computed => vec!["get", "list"],
        _ if kind.definition().is_some() => {
            let open = |verb: &&str| kind.closed(verb).is_none() || !["patch", "create", "update"].contains(verb);
            CUSTOM.iter().copied().filter(open).collect()
        }
        (_, "", "namespaces") => ALL.iter().copied().filter(|verb| *verb != "deletecollection").collect(),
        _ => ALL.to_vec(),
    };
    Resource {
        name: kind.resource(),
        singular: &kind.info.singular,
        namespaced: kind.info.namespaced,
        kind: kind.kind(),
        verbs,
        short: &kind.info.short,
        categories: &kind.info.categories,
        subresources,
        storage_hash: (!kind.info.virtual_only && !kind.info.computed).then(|| storage_hash(kind)),
    }
}

/// Changes when objects are stored in another version (apiserver `pkg/endpoints/discovery/storageversionhash.go`).
fn storage_hash(kind: &KindDef) -> String {
    let (group, version) = kind.storage_version();
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{group}/{version}/{}", kind.kind()).as_bytes());
    STANDARD.encode(&digest.as_ref()[..8])
}

/// A group with its versions, preferred first.
type Group<'a> = (&'a str, Vec<(&'a str, Vec<Resource<'a>>)>);
type Groups<'a> = [Group<'a>];

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

fn legacy(groups: &Groups<'_>) -> BTreeMap<String, Document> {
    let mut out = BTreeMap::new();
    let mut list = Vec::new();
    for (group, versions) in groups {
        for (version, resources) in versions {
            let root = if group.is_empty() { "/api" } else { "/apis" };
            let group_version = group_version(group, version);
            let resources: Vec<Value> = resources.iter().flat_map(legacy_resource).collect();
            let document = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources});
            out.insert(format!("{root}/{group_version}"), Document::new(&document));
        }
        if group.is_empty() {
            continue;
        }
        let named = |version: &str| json!({"groupVersion": group_version(group, version), "version": version});
        let all: Vec<Value> = versions.iter().map(|(version, _)| named(version)).collect();
        let mut entry = json!({"name": group, "preferredVersion": all[0], "versions": all});
        list.push(entry.clone());
        entry["kind"] = "APIGroup".into();
        entry["apiVersion"] = "v1".into();
        out.insert(format!("/apis/{group}"), Document::new(&entry));
    }
    out.insert("/apis".into(), Document::new(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})));
    out
}

fn legacy_resource(resource: &Resource<'_>) -> Vec<Value> {
    let mut main = json!({
        "name": resource.name, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs,
    });
    if !resource.short.is_empty() {
        main["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        main["categories"] = json!(resource.categories);
    }
    if let Some(hash) = &resource.storage_hash {
        main["storageVersionHash"] = hash.as_str().into();
    }
    let parts = resource.subresources.iter().map(|(group, _, name, (kind_group, kind_version, kind), verbs)| {
        let mut part = json!({
            "name": format!("{}/{name}", resource.name), "singularName": "", "namespaced": resource.namespaced,
            "kind": kind, "verbs": verbs,
        });
        if kind_group != group {
            part["group"] = (*kind_group).into();
            part["version"] = (*kind_version).into();
        }
        part
    });
    std::iter::once(main).chain(parts).collect()
}

fn aggregated(groups: &Groups<'_>) -> BTreeMap<(&'static str, &'static str), Document> {
    let mut out = BTreeMap::new();
    for root in ["/api", "/apis"] {
        let items: Vec<Value> = groups
            .iter()
            .filter(|(group, _)| group.is_empty() == (root == "/api"))
            .map(|(group, versions)| {
                let versions: Vec<Value> = versions
                    .iter()
                    .map(|(version, resources)| {
                        let resources: Vec<Value> = resources.iter().map(|r| aggregated_resource(group, version, r)).collect();
                        json!({"version": version, "freshness": "Current", "resources": resources})
                    })
                    .collect();
                let meta = if group.is_empty() { json!({}) } else { json!({"name": group}) };
                json!({"metadata": meta, "versions": versions})
            })
            .collect();
        for version in ["v2", "v2beta1"] {
            let api_version = format!("apidiscovery.k8s.io/{version}");
            let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items});
            out.insert((root, version), Document::new(&list));
        }
    }
    out
}

fn aggregated_resource(group: &str, version: &str, resource: &Resource<'_>) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let mut out = json!({
        "resource": resource.name, "responseKind": {"group": group, "version": version, "kind": resource.kind}, "scope": scope,
        "singularResource": resource.singular, "verbs": resource.verbs,
    });
    if !resource.short.is_empty() {
        out["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        out["categories"] = json!(resource.categories);
    }
    let parts = resource.subresources.iter().map(|(.., name, (group, version, kind), verbs)| {
        json!({"subresource": name, "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs})
    });
    let parts: Vec<Value> = parts.collect();
    if !parts.is_empty() {
        out["subresources"] = parts.into();
    }
    out
}

/// Every path that discovery knows, for `/`.
pub fn paths(discovery: &Discovery) -> Vec<String> {
    let mut paths: Vec<String> = discovery.legacy.keys().cloned().collect();
    let plain = ["/api", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
    paths.extend(plain.map(String::from));
    paths.sort();
    paths
}

/// The version of the aggregated API that is accepted before any plain form, and its encoding.
fn wants_aggregated(accept: &str) -> Option<(&'static str, Encoding)> {
    for clause in clauses(accept) {
        let encoding = match clause.media.as_str() {
            "application/json" => Encoding::Json,
            protobuf::MEDIA_TYPE => Encoding::Protobuf,
            "application/yaml" | "application/*" | "*/*" if clause.param("as").is_none() => return None,
            _ => continue,
        };
        match (clause.param("as"), clause.param("g"), clause.param("v")) {
            (None, ..) => return None,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return Some(("v2", encoding)),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => return Some(("v2beta1", encoding)),
            _ => {}
        }
    }
    None
}

/// Answers `/api`, `/apis` and what is below them as far as it is no resource.
pub(super) fn serve(call: &Call, path: &str) -> Result<Response, Status> {
    let accept = call.accept();
    let discovery = call.app.discovery.now(&call.app.registry);
    let version = if path == "/api" || path == "/apis" { wants_aggregated(&accept) } else { None };
    let root = if path == "/api" { "/api" } else { "/apis" };
    let remotes = call.app.aggregator.get().map(Aggregator::remotes).unwrap_or_default();
    let (document, content_type) = match version {
        Some((version, encoding)) => {
            let document = discovery.aggregated.get(&(root, version)).cloned();
            let document = with_remotes(path, true, document, &remotes).ok_or_else(Status::no_such_path)?;
            let media = if encoding == Encoding::Protobuf { protobuf::MEDIA_TYPE } else { reply::JSON };
            (document, format!("{media};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"))
        }
        None if path == "/api" => (Document::new(&versions(&call.app.cluster.server_address)), reply::JSON.into()),
        None => {
            let document = with_remotes(path, false, discovery.legacy.get(path).cloned(), &remotes);
            (document.ok_or_else(Status::no_such_path)?, reply::JSON.into())
        }
    };
    let known = call.header(IF_NONE_MATCH);
    let mut response = match known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == document.etag) {
        true => reply::bytes(304, &content_type, Bytes::new()),
        false if content_type.starts_with(protobuf::MEDIA_TYPE) => {
            let document = protobuf::encode(&document.body).map_err(|e| Status::internal(format!("encoding protobuf: {e}")))?;
            reply::bytes(200, &content_type, document)
        }
        false if version.is_some() => reply::bytes(200, &content_type, document.body),
        false => match negotiate_plain(&accept)? {
            Encoding::Json => reply::bytes(200, &content_type, document.body),
            encoding => reply::encoded(200, encoding, document.body),
        },
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// A document with the groups that other servers serve.
fn with_remotes(path: &str, aggregated: bool, document: Option<Document>, remotes: &[RemoteVersion]) -> Option<Document> {
    if remotes.is_empty() {
        return document;
    }
    let own = document.and_then(|document| serde_json::from_slice(&document.body).ok());
    aggregate::merged(path, aggregated, own, remotes).map(|merged| Document::new(&merged))
}

fn versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered() {
        let mut versions = ["v1alpha1", "v1", "v2beta1", "v2", "v1beta2", "v1beta1"];
        versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta2", "v1beta1", "v1alpha1"]);
    }

    #[test]
    fn who_wants_the_aggregated_form() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
            application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        for (accept, want) in [
            (kubectl, Some(("v2", Encoding::Json))),
            ("application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", Some(("v2", Encoding::Protobuf))),
            ("application/vnd.kubernetes.protobuf,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", None),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                Some(("v2beta1", Encoding::Json)),
            ),
            ("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(wants_aggregated(accept), want, "{accept}");
        }
    }
}
