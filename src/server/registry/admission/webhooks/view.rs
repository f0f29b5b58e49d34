//! The objects of a request as a hook is shown them: in the version of the request, or in the equivalent one that its rule names.
//!
//! Conversion goes through the stored form, like every conversion; it may call out (conversion webhooks), hence async.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::super::matching::Matched;
use super::super::{Operation, Request};
use super::review::{Gvk, Gvr};
use crate::api::{Key, Object, Rev, Status};
use crate::server::registry::{KindDef, KindRef};

/// The JSON of new and old object, in one version.
pub(in crate::server::registry::admission) struct View {
    pub kind: Gvk,
    pub resource: Gvr,
    pub object: Option<Bytes>,
    pub old: Option<Bytes>,
}

/// Makes views, each version once.
#[derive(Default)]
pub(in crate::server::registry::admission) struct Views {
    made: Vec<(String, Arc<View>)>,
}

impl Views {
    /// What to show to a hook that matched so.
    pub(in crate::server::registry::admission) async fn show(
        &mut self,
        request: &Request<'_>,
        matched: &Matched,
    ) -> Result<Arc<View>, Status> {
        let version = match matched {
            Matched::AsRequested => String::new(),
            Matched::As(kind) => format!("{}/{}", kind.api_version(), kind.resource()),
        };
        if let Some((_, view)) = self.made.iter().find(|(made, _)| *made == version) {
            return Ok(view.clone());
        }
        let view = Arc::new(match matched {
            Matched::AsRequested => as_requested(request)?,
            Matched::As(kind) => converted(request, kind).await?,
        });
        self.made.push((version, view.clone()));
        Ok(view)
    }

    /// The object changed: what was made is no longer true.
    pub(in crate::server::registry::admission) fn forget(&mut self) {
        self.made.clear();
    }
}

/// Group, version and kind of what the request carries: of a subresource not that of the resource.
pub(in crate::server::registry::admission) fn kind_requested(request: &Request<'_>) -> Gvk {
    let kind = request.kind;
    let (mut group, mut version, mut name) = (Cow::Borrowed(kind.group()), Cow::Borrowed(kind.version()), Cow::Borrowed(kind.kind()));
    if !["", "status"].contains(&request.subresource()) {
        let value = request.object.to_value();
        let text = |field: &str| value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        if let (Some(api_version), Some(shown)) = (text("apiVersion"), text("kind")) {
            let (of, in_version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
            (group, version, name) = (of.to_owned().into(), in_version.to_owned().into(), shown.into());
        }
    }
    Gvk { group: group.into_owned(), version: version.into_owned(), kind: name.into_owned() }
}

/// The resource of the request.
pub(in crate::server::registry::admission) fn resource_requested(request: &Request<'_>) -> Gvr {
    resource_of(request.kind)
}

fn resource_of(kind: &KindDef) -> Gvr {
    Gvr { group: kind.group().into(), version: kind.version().into(), resource: kind.resource().into() }
}

/// A deletion has no new object.
fn object<'a>(request: &'a Request<'_>) -> Option<&'a dyn Object> {
    (request.operation != Operation::Delete).then_some(&**request.object)
}

fn as_requested(request: &Request<'_>) -> Result<View, Status> {
    let shown = |object: &dyn Object| match speaks_its_kind(request) {
        true => json(request.kind, object),
        false => Ok(object.to_json().into()),
    };
    Ok(View {
        kind: kind_requested(request),
        resource: resource_requested(request),
        object: object(request).map(shown).transpose()?,
        old: request.old.map(shown).transpose()?,
    })
}

/// Whether the request carries the kind of its resource, not one of its subresource's own.
fn speaks_its_kind(request: &Request<'_>) -> bool {
    request.operation != Operation::Connect && ["", "status"].contains(&request.subresource())
}

/// The object as clients of this version are sent it.
fn json(kind: &KindDef, object: &dyn Object) -> Result<Bytes, Status> {
    if kind.is_stored() {
        return Ok(object.to_json().into());
    }
    let meta = object.meta();
    let key = key_for(kind, object)?;
    let sent = kind.present(&Arc::new(kind.entry(object, key, Rev(0))))?;
    // The store would have given it a revision, which it may not have yet.
    let mut tree: Value = serde_json::from_slice(&sent.json).map_err(Status::internal)?;
    if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
        match &meta.resource_version {
            Some(version) => metadata.insert("resourceVersion".into(), version.as_str().into()),
            None => metadata.remove("resourceVersion"),
        };
    }
    Ok(tree.to_string().into())
}

/// Where the object would be kept. What has no name yet goes under one that no object can have been given.
fn key_for(kind: &KindDef, object: &dyn Object) -> Result<Key, Status> {
    let meta = object.meta();
    let name = meta.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("-");
    let key = kind.key(meta.namespace.as_deref().unwrap_or_default(), name);
    key.ok_or_else(|| Status::bad_request(format!("\"{name}\" is not the name of an object")))
}

async fn converted(request: &Request<'_>, to: &KindRef) -> Result<View, Status> {
    let kind = Gvk { group: to.group().into(), version: to.version().into(), kind: to.kind().into() };
    if request.subresource() == "scale" {
        // A Scale is the same whatever the version of what it scales.
        return Ok(View { resource: resource_of(to), ..as_requested(request)? });
    }
    let mut view = View { kind, resource: resource_of(to), object: None, old: None };
    if let Some(object) = object(request) {
        view.object = Some(json(to, &*convert(request.kind, to, object).await?)?);
    }
    if let Some(old) = request.old {
        view.old = Some(json(to, &*convert(request.kind, to, old).await?)?);
    }
    Ok(view)
}

/// The object in another version of its kind.
pub(in crate::server::registry::admission) async fn convert(
    from: &KindDef,
    to: &KindDef,
    object: &dyn Object,
) -> Result<Box<dyn Object>, Status> {
    let meta = object.meta();
    let key = key_for(from, object)?;
    let entry = Arc::new(from.draft(object.clone_object()).await?.at(key, Rev(0)));
    let served = to.serve_one(&entry).await?;
    let mut converted = to.object(&served)?.clone_object();
    // The store would have given it a revision, which it may not have yet.
    converted.meta_mut().resource_version.clone_from(&meta.resource_version);
    Ok(converted)
}
