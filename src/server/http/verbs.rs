//! The verbs, over HTTP, for all kinds alike.
//!
//! Everything here is framing: options in, the registry's answer out, in the form that was negotiated. What is not generic is one
//! table, [`resource`]'s match on subresources.

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::de::DeserializeOwned;

use super::negotiate::{self, Encoding, Form, PatchType, Shape};
use super::table::{self, Include};
use super::{Call, components, connect, only, protobuf_list, proxy, reply, reviews, special, stream, token_request, watch};
use crate::api::{FieldError, Status, yaml};
use crate::server::registry::strategy::Subresource;
use crate::server::registry::{self, Body, Deleted, Format, KindDef, KindRef, List, Part, Patch, WriteOptions, Written};
use crate::server::store::Entry;

/// Answers a request below an API group and version.
pub(super) async fn resource(call: Call) -> Result<Response, Status> {
    let info = &call.info;
    let kind = call.app.registry.kind(&info.group, &info.version, &info.resource);
    let warning = kind.and_then(|kind| kind.warning());
    let mut response = route(call).await?;
    reply::warn(&mut response, warning.as_slice());
    Ok(response)
}

async fn route(mut call: Call) -> Result<Response, Status> {
    let info = &call.info;
    if info.verb.is_empty() {
        return Err(Status::method_not_allowed(call.request.method().as_str()));
    }
    if info.subresource.is_empty() {
        return main_resource(call).await;
    }
    if info.name.is_empty() {
        return Err(Status::no_such_path());
    }
    let warnings = if info.group.is_empty() { connect::admit(&mut call).await? } else { Vec::new() };
    let mut response = subresource(call).await?;
    reply::warn(&mut response, &warnings);
    Ok(response)
}

async fn subresource(call: Call) -> Result<Response, Status> {
    let info = &call.info;
    match (info.group.as_str(), info.resource.as_str(), info.subresource.as_str()) {
        ("", "pods", "log" | "exec" | "attach" | "portforward") => stream::pod(call).await,
        ("", "pods" | "services", "proxy") => proxy::serve(call).await,
        ("", "nodes", "proxy") => stream::node_proxy(call).await,
        ("", "pods", "binding") => special::bind(call).await,
        ("", "pods", "eviction") => special::evict(call).await,
        ("", "pods", "ephemeralcontainers" | "resize") => part(call, Part::Subresource).await,
        ("", "serviceaccounts", "token") => token_request::create(call).await,
        ("", "namespaces", "finalize") => special::finalize(call).await,
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => special::approve(call).await,
        (_, _, "scale") => special::scale(call).await,
        (_, _, "status") => status(call).await,
        _ => Err(Status::no_such_path()),
    }
}

/// The kind that the path names, at a scope that it has.
pub(super) fn kind(call: &Call) -> Result<KindRef, Status> {
    let info = &call.info;
    let kind = call.app.registry.kind(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_path)?;
    let own_namespace = info.group.is_empty() && info.resource == "namespaces";
    if !kind.info.namespaced && !info.namespace.is_empty() && !own_namespace {
        return Err(Status::no_such_path());
    }
    // Of a namespaced kind, only reading works across namespaces.
    if kind.info.namespaced && info.namespace.is_empty() && !["list", "watch"].contains(&info.verb) {
        return Err(if info.verb == "get" { Status::no_such_path() } else { Status::method_not_allowed(info.verb) });
    }
    Ok(kind)
}

/// The namespace that the registry knows: none for cluster-scoped kinds, although the path of a Namespace has one.
pub(super) fn namespace<'a>(call: &'a Call, kind: &KindDef) -> &'a str {
    if kind.info.namespaced { &call.info.namespace } else { "" }
}

async fn main_resource(call: Call) -> Result<Response, Status> {
    if call.info.group.is_empty() && call.info.resource == "bindings" {
        return special::bind(call).await;
    }
    if let Some(review) = reviews::of(&call.info) {
        only(call.request.method(), &[Method::POST])?;
        return review(call).await;
    }
    let kind = kind(&call)?;
    if kind.info.computed {
        return components::serve(&call, &kind);
    }
    if kind.info.virtual_only && call.info.verb != "create" {
        return Err(Status::method_not_allowed(call.info.verb));
    }
    match call.info.verb {
        "get" => get(call, &kind).await,
        "list" => list(call, &kind).await,
        "watch" => start_watch(call, &kind).await,
        "create" => create(call, &kind).await,
        "update" => update(call, &kind, Part::Main).await,
        "patch" => patch(call, &kind, Part::Main).await,
        "delete" => delete(call, &kind).await,
        "deletecollection" => delete_collection(call, &kind).await,
        verb => Err(Status::method_not_allowed(verb)),
    }
}

async fn status(call: Call) -> Result<Response, Status> {
    if !kind(&call)?.info.subresources.contains(&Subresource::Status) {
        return Err(Status::no_such_path());
    }
    part(call, Part::Status).await
}

/// A subresource that shows the object and changes a part of it.
async fn part(call: Call, part: Part) -> Result<Response, Status> {
    let kind = kind(&call)?;
    match call.info.verb {
        "get" => get(call, &kind).await,
        "update" => update(call, &kind, part).await,
        "patch" => patch(call, &kind, part).await,
        verb => Err(Status::method_not_allowed(verb)),
    }
}

fn form(call: &Call, kind: &KindDef) -> Result<(Form, Include), Status> {
    Ok((negotiate::negotiate(&call.accept(), negotiate::has_protobuf(kind))?, Include::parse(call.query.first("includeObject"))?))
}

/// One object in the negotiated form.
pub(super) fn object(call: &Call, kind: &KindDef, code: u16, entry: &Entry) -> Result<Response, Status> {
    let (form, include) = form(call, kind)?;
    match form.shape {
        Shape::Whole if call.query.flag("pretty") => {
            let value: serde_json::Value =
                serde_json::from_slice(&entry.json).map_err(|e| Status::internal(format!("{}: {e}", entry.key)))?;
            let json = serde_json::to_vec_pretty(&value).map_err(Status::internal)?;
            Ok(reply::encoded(code, form.encoding, json.into()))
        }
        Shape::Whole => Ok(reply::encoded(code, form.encoding, entry.json.clone())),
        Shape::Metadata => Ok(reply::encoded(code, form.encoding, table::metadata_only(entry)?.to_string().into())),
        Shape::Table => {
            let meta = table::list_meta(entry.rev, None);
            let parts = table::table(kind, &meta, std::iter::once(entry), include, true)?;
            Ok(reply::encoded_slices(code, form.encoding, parts))
        }
    }
}

/// The object that a write left, with the registry's warnings.
pub(super) fn written(call: &Call, kind: &KindDef, written: &Written) -> Result<Response, Status> {
    let mut response = object(call, kind, if written.created { 201 } else { 200 }, &written.entry)?;
    reply::warn(&mut response, &written.warnings);
    note(call, &written.annotations);
    Ok(response)
}

/// Puts what admission had to say into the record of the request.
pub(super) fn note(call: &Call, annotations: &[(String, String)]) {
    if let Some(record) = &call.record {
        annotations.iter().for_each(|(key, value)| record.annotate(key, value));
    }
}

async fn get(call: Call, kind: &KindRef) -> Result<Response, Status> {
    form(&call, kind)?;
    let entry = call.app.registry.get(kind, namespace(&call, kind), &call.info.name).await?;
    object(&call, kind, 200, &entry)
}

async fn list(call: Call, kind: &KindRef) -> Result<Response, Status> {
    form(&call, kind)?;
    let list = call.app.registry.list(kind, namespace(&call, kind), &call.query.list()?).await?;
    send_list(&call, kind, &list)
}

pub(super) fn send_list(call: &Call, kind: &KindDef, list: &List) -> Result<Response, Status> {
    let (form, include) = form(call, kind)?;
    let meta = table::list_meta(list.rev, Some(list));
    let entries = || list.items.iter().map(|entry| &**entry);
    if form.encoding == Encoding::Protobuf {
        return protobuf_list::send(kind, form.shape, &meta, list);
    }
    let parts = match form.shape {
        Shape::Table => table::table(kind, &meta, entries(), include, true)?,
        Shape::Whole => {
            let mut parts = Vec::with_capacity(list.items.len() * 2 + 2);
            parts.push(watch::list_frame(kind, &meta));
            join(&mut parts, entries().map(|entry| entry.json.clone()));
            parts
        }
        Shape::Metadata => {
            let head =
                format!("{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{meta},\"items\":[");
            let items = entries().map(|entry| table::metadata_only(entry).map(|value| Bytes::from(value.to_string())));
            let mut parts = vec![Bytes::from(head)];
            join(&mut parts, items.collect::<Result<Vec<_>, _>>()?.into_iter());
            parts
        }
    };
    Ok(reply::encoded_slices(200, form.encoding, parts))
}

fn join(parts: &mut Vec<Bytes>, items: impl Iterator<Item = Bytes>) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            parts.push(Bytes::from_static(b","));
        }
        parts.push(item);
    }
    parts.push(Bytes::from_static(b"]}"));
}

async fn start_watch(call: Call, kind: &KindRef) -> Result<Response, Status> {
    let (form, include) = form(&call, kind)?;
    let events = match call.app.registry.watch(kind, namespace(&call, kind), call.query.watch(&call.info.name)?).await {
        // Whoever may watch hears in the stream that it must list again, as from upstream's watch cache.
        Err(status) if status.code == 410 => return watch::refuse(kind.clone(), form, include, &status),
        events => events?,
    };
    watch::serve(kind.clone(), form, include, events, call.query.timeout()?, call.app.stopping.clone())
}

/// Options of a write, with the client's name as the fallback for the field manager.
pub(super) fn write_options(call: &Call) -> Result<WriteOptions, Status> {
    let mut options = call.query.write(call.user.clone(), &call.user_agent())?;
    options.subresource = call.info.subresource.clone().into();
    Ok(options)
}

/// The body, as it came.
pub(super) async fn body(call: &mut Call, protobuf: bool) -> Result<Body, Status> {
    let format = negotiate::body_format(&call.content_type(), protobuf)?;
    Ok(Body { bytes: call.body().await?, format })
}

/// The body as a known type (for what is not stored).
pub(super) async fn typed_body<T: DeserializeOwned + Resource>(call: &mut Call) -> Result<T, Status> {
    body_as(call, T::API_VERSION, T::KIND).await
}

/// The body as an object of a kind, in a form that is no stored type.
pub(super) async fn body_as<T: DeserializeOwned>(call: &mut Call, api_version: &str, kind: &str) -> Result<T, Status> {
    let body = body(call, true).await?;
    decode_body(&body, api_version, kind)
        .map_err(|e| Status::bad_request(format!("the object provided is unrecognized or malformed: {e}")))?
}

/// A body as a type. What is wrong with JSON or YAML is the outer error, what is wrong with protobuf the inner one.
fn decode_body<T: DeserializeOwned>(body: &Body, api_version: &str, kind: &str) -> Result<Result<T, Status>, String> {
    match body.format {
        Format::Yaml => {
            let tree = yaml::read(&body.bytes, &mut Vec::new()).map_err(|e| format!("error converting YAML to JSON: {e}"))?;
            serde_json::from_value(tree).map(Ok).map_err(|e| e.to_string())
        }
        Format::Json => serde_json::from_slice(&body.bytes).map(Ok).map_err(|e| e.to_string()),
        Format::Protobuf => match registry::message(api_version, kind, &body.bytes) {
            Ok(tree) => serde_json::from_value(tree).map(Ok).map_err(|e| e.to_string()),
            Err(refusal) => Ok(Err(refusal)),
        },
    }
}

async fn create(mut call: Call, kind: &KindRef) -> Result<Response, Status> {
    if !call.info.name.is_empty() {
        return Err(Status::method_not_allowed("POST"));
    }
    form(&call, kind)?;
    let options = write_options(&call)?;
    let body = body(&mut call, negotiate::has_protobuf(kind)).await?;
    let done = call.app.registry.create(kind, namespace(&call, kind), body, &options).await?;
    written(&call, kind, &done)
}

async fn update(mut call: Call, kind: &KindRef, part: Part) -> Result<Response, Status> {
    form(&call, kind)?;
    let options = write_options(&call)?;
    let body = body(&mut call, negotiate::has_protobuf(kind)).await?;
    let done = call.app.registry.update(kind, namespace(&call, kind), &call.info.name, part, body, &options).await?;
    written(&call, kind, &done)
}

pub(super) async fn patch(mut call: Call, kind: &KindRef, part: Part) -> Result<Response, Status> {
    form(&call, kind)?;
    let options = write_options(&call)?;
    let patch_type = negotiate::patch_type(&call.content_type())?;
    let force = check_apply(&call, patch_type)?;
    let bytes = call.body().await?;
    let patch = match patch_type {
        PatchType::Apply => Patch::Apply { body: bytes, force },
        PatchType::Json => Patch::Json(bytes),
        PatchType::Merge => Patch::Merge(bytes),
        PatchType::Strategic => Patch::Strategic(bytes),
    };
    let done = call.app.registry.patch(kind, namespace(&call, kind), &call.info.name, part, patch, &options).await?;
    written(&call, kind, &done)
}

/// What only apply demands, and what only apply may say (apimachinery `ValidatePatchOptions`). Whether it is forced.
pub(super) fn check_apply(call: &Call, patch_type: PatchType) -> Result<bool, Status> {
    let wrong = |error: FieldError| Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![error]));
    match patch_type {
        PatchType::Apply if call.query.first("fieldManager").is_none_or(str::is_empty) => {
            wrong(FieldError::required("fieldManager", "is required for apply patch"))
        }
        PatchType::Apply => Ok(call.query.flag("force")),
        _ if call.query.first("force").is_some() => wrong(FieldError::forbidden("force", "may not be specified for non-apply patch")),
        _ => Ok(false),
    }
}

/// `DeleteOptions` of the body, when there is one.
async fn delete_body(call: &mut Call) -> Result<Option<meta::DeleteOptions>, Status> {
    let body = body(call, true).await?;
    if body.bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let decoded = decode_body(&body, "meta.k8s.io/v1", "DeleteOptions");
    decoded.map_err(|e| Status::bad_request(format!("the DeleteOptions in the body are malformed: {e}")))?.map(Some)
}

async fn delete(mut call: Call, kind: &KindRef) -> Result<Response, Status> {
    let encoding = match negotiate::negotiate_error(&call.accept()) {
        // A custom object that is still there has no messages; the Status of one that is gone has.
        Encoding::Protobuf if !negotiate::has_protobuf(kind) => Encoding::Json,
        encoding => encoding,
    };
    let body = delete_body(&mut call).await?;
    let (delete, dry_run) = call.query.delete(body)?;
    let mut options = write_options(&call)?;
    options.dry_run |= dry_run;
    let name = call.info.name.clone();
    match call.app.registry.delete(kind, namespace(&call, kind), &name, &delete, &options).await? {
        Deleted::Pending(entry) => Ok(reply::encoded(200, encoding, entry.json.clone())),
        Deleted::Gone(entry) if kind.info.returns_deleted => Ok(reply::encoded(200, encoding, entry.json.clone())),
        Deleted::Gone(entry) => {
            let uid = entry.meta().uid.as_deref().unwrap_or_default();
            let status = reply::success(200, kind.group(), kind.resource(), &name, uid);
            Ok(reply::encoded(200, encoding, status.to_string().into()))
        }
    }
}

async fn delete_collection(mut call: Call, kind: &KindRef) -> Result<Response, Status> {
    form(&call, kind)?;
    let body = delete_body(&mut call).await?;
    let (delete, dry_run) = call.query.delete(body)?;
    let mut options = write_options(&call)?;
    options.dry_run |= dry_run;
    let selection = call.query.list()?;
    let items = call.app.registry.delete_collection(kind, namespace(&call, kind), &selection, &delete, &options).await?;
    let rev = items.iter().map(|entry| entry.rev).max().unwrap_or_default();
    send_list(&call, kind, &List { rev, items, continue_token: None, remaining: None })
}
