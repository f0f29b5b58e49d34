//! PATCH: a change relative to the current state (apiserver `pkg/endpoints/handlers/patch.go`).
//!
//! The patch is applied to the served form of the current object; the result goes the way of a PUT. A lost race applies the patch
//! again to what won.
//!
//! Limit of [`Patch::Apply`] for now: there is no record of who owns which field, hence no conflicts, and a field that an applier
//! leaves out stays. The applied fields are merged in by the schema's list keys.

use std::sync::Arc;

use serde_json::Value;

use super::update::{Proposal, Propose};
use super::{Body, Format, KindDef, MergeSchema, Part, Patch, Registry, WriteOptions, Written, decode, meta};
use crate::api::{Object, Status, patch};
use crate::server::store::Entry;

/// How often a patch is applied again after a lost race, as upstream.
const ATTEMPTS: usize = 6;

/// A patch body made ready: an applied configuration is parsed once.
enum Ready {
    Json(bytes::Bytes),
    Merge(bytes::Bytes),
    Strategic(bytes::Bytes),
    /// The configuration's JSON, its tree, and the duplicate fields found in it.
    Apply(Vec<u8>, Value, Vec<String>),
}

impl Registry {
    /// PATCH. Retries on a conflict where the patch carries no resourceVersion.
    pub async fn patch(
        &self,
        kind: &KindDef,
        namespace: &str,
        name: &str,
        part: Part,
        patch: Patch,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let ready = ready(patch)?;
        if let Ready::Apply(_, tree, problems) = &ready {
            let missing = self.current(kind, namespace, name).is_err_and(|status| status.code == 404);
            if missing && part == Part::Main {
                let (object, warnings) = decode::typed(kind, tree.clone(), problems.clone(), options.field_validation)?;
                meta::settle_name(object.meta(), name)?;
                match self.create_decoded(kind, namespace, object, warnings, options).await {
                    // Somebody else created it meanwhile: merge into that.
                    Err(status) if status.reason == "AlreadyExists" => {}
                    done => return done,
                }
            }
        }
        let propose = |entry: &Arc<Entry>, _: &dyn Object| {
            let entry = kind.present(entry)?;
            let target = serde_json::from_slice(&entry.json)
                .map_err(|error| Status::internal(format_args!("reading {entry:?} to patch it: {error}")))?;
            let (patched, problems) = apply(kind, target, &ready)?;
            let (object, warnings) = decode::typed(kind, patched, problems, options.field_validation)?;
            Ok(Proposal { object, warnings })
        };
        let propose: Propose<'_> = &propose;
        self.rewrite(kind, (namespace, name), part.into(), options, ATTEMPTS, propose).await
    }
}

fn ready(patch: Patch) -> Result<Ready, Status> {
    Ok(match patch {
        Patch::Json(body) => Ready::Json(body),
        Patch::Merge(body) => Ready::Merge(body),
        Patch::Strategic(body) => Ready::Strategic(body),
        Patch::Apply { body, force: _ } => {
            let (tree, duplicates) = configuration(body)?;
            if tree.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
                return Err(Status::bad_request("metadata.managedFields must be nil"));
            }
            Ready::Apply(tree.to_string().into_bytes(), tree, duplicates)
        }
    })
}

/// The tree of an applied configuration, with the duplicate fields found. It is YAML; most clients send the part of it that is JSON,
/// which has the faster parser.
fn configuration(body: bytes::Bytes) -> Result<(Value, Vec<String>), Status> {
    let mut duplicates = Vec::new();
    let mut body = Body { bytes: body, format: Format::Json };
    if let Ok(tree) = decode::tree(&body, &mut duplicates) {
        return Ok((tree, duplicates));
    }
    duplicates.clear();
    body.format = Format::Yaml;
    let tree = decode::tree(&body, &mut duplicates).map_err(|why| Status::bad_request(format!("error decoding YAML: {why}")))?;
    Ok((tree, duplicates))
}

fn apply(kind: &KindDef, target: Value, ready: &Ready) -> Result<(Value, Vec<String>), Status> {
    let schema = || match kind.merge_schema() {
        MergeSchema::Type(name) => Ok(name),
        // Upstream's text (apiextensions-apiserver `customresource_handler.go` accepts the other three types only).
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/apply-patch+yaml",
        )),
    };
    let (patched, problems) = match ready {
        Ready::Json(body) => (patch::json(&target, body), Vec::new()),
        Ready::Merge(body) => (patch::merge(target, body), Vec::new()),
        Ready::Strategic(body) => (patch::strategic(target, body, schema()?), Vec::new()),
        Ready::Apply(body, _, problems) => (patch::strategic(target, body, schema()?), problems.clone()),
    };
    let patched = patched.map_err(|error| match error.code() {
        422 => Status::new(422, "Invalid", error.to_string()),
        _ => Status::bad_request(error.to_string()),
    })?;
    Ok((patched, problems))
}
