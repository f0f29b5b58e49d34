//! Server-side Tables: what `kubectl get` prints.
//!
//! Columns and cells come from the kind; this file only frames them. Follows upstream's `meta/v1` Table and
//! `endpoints/handlers/response.go`.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::Status;
use crate::server::registry::strategy::Cell;
use crate::server::registry::{ColumnDef, KindDef, List};
use crate::server::store::Entry;

/// What each row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads `includeObject`.
    pub fn parse(text: Option<&str>) -> Result<Include, Status> {
        match text {
            None | Some("" | "Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => {
                Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}; it must be None, Metadata or Object")))
            }
        }
    }
}

/// The metadata of an object, as a `PartialObjectMetadata`.
pub fn metadata_only(entry: &Entry) -> Result<Value, Status> {
    let meta = serde_json::to_value(entry.meta()).map_err(|e| Status::internal(format!("encoding metadata of {}: {e}", entry.key)))?;
    Ok(json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}))
}

/// The `metadata` of a list.
pub fn list_meta(rev: impl ToString, list: Option<&List>) -> Value {
    let mut meta = json!({"resourceVersion": rev.to_string()});
    if let Some(list) = list {
        if let Some(token) = &list.continue_token {
            meta["continue"] = token.as_str().into();
        }
        if let Some(remaining) = list.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
    }
    meta
}

fn cell(cell: Cell) -> Value {
    match cell {
        Cell::Text(text) => text.into(),
        Cell::Int(number) => number.into(),
        Cell::Bool(yes) => yes.into(),
        Cell::Number(number) => number.into(),
        Cell::Null => Value::Null,
    }
}

fn columns(kind: &KindDef) -> Vec<Value> {
    let shown = |c: ColumnDef| {
        let (name, kind, format) = (c.name, c.kind, c.format);
        json!({"name": name, "type": kind, "format": format, "description": c.description, "priority": c.priority})
    };
    kind.columns().into_iter().map(shown).collect()
}

/// One row: its cells as a tree, its object as the bytes that the store holds.
fn row(kind: &KindDef, entry: &Entry, include: Include, now: jiff::Timestamp, out: &mut Vec<Bytes>) -> Result<(), Status> {
    let cells: Vec<Value> = kind.row(entry, now)?.into_iter().map(cell).collect();
    out.push(format!("{{\"cells\":{},\"object\":", Value::from(cells)).into());
    match include {
        Include::None => out.push(Bytes::from_static(b"null")),
        Include::Metadata => out.push(metadata_only(entry)?.to_string().into()),
        Include::Object => out.push(entry.json.clone()),
    }
    out.push(Bytes::from_static(b"}"));
    Ok(())
}

/// A Table of `entries`. `headers`: whether the columns are described (a watch does so once).
pub fn table<'a>(
    kind: &KindDef,
    meta: &Value,
    entries: impl Iterator<Item = &'a Entry>,
    include: Include,
    headers: bool,
) -> Result<Vec<Bytes>, Status> {
    let now = jiff::Timestamp::now();
    let columns = if headers { Value::from(columns(kind)) } else { Value::from(Vec::<Value>::new()) };
    let head =
        format!("{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{meta},\"columnDefinitions\":{columns},\"rows\":[");
    let mut out = vec![Bytes::from(head)];
    for (index, entry) in entries.enumerate() {
        if index > 0 {
            out.push(Bytes::from_static(b","));
        }
        row(kind, entry, include, now, &mut out)?;
    }
    out.push(Bytes::from_static(b"]}"));
    Ok(out)
}
