//! PATCH: a change relative to the current state (apiserver `pkg/endpoints/handlers/patch.go`).
//!
//! The patch is applied to the served form of the current object; the result goes the way of a PUT. A lost race applies the patch
//! again to what won.

use serde_json::Value;

use super::ownership::{Before, Entries};
use super::update::{Current, Managed, Proposal, Propose};
use super::{Body, FieldValidation, Format, KindDef, MergeSchema, Part, Patch, Registry, WriteOptions, Written, decode, meta, undecodable};
use crate::api::{Object, Status, patch};

/// How often a patch is applied again after a lost race, as upstream.
const ATTEMPTS: usize = 6;

/// A patch body made ready: an applied configuration is parsed once.
enum Ready {
    Json(bytes::Bytes),
    Merge(bytes::Bytes),
    Strategic(bytes::Bytes),
    Apply(Config),
}

impl Ready {
    /// Whether the patch may read or write `managedFields`; most do not, and are spared them.
    fn may_name_owners(&self) -> bool {
        let named = |body: &[u8]| {
            let name = b"managedFields";
            // An escape could spell the name, too.
            body.contains(&b'\\') || body.windows(name.len()).any(|part| part == name)
        };
        match self {
            Ready::Merge(body) | Ready::Strategic(body) => named(body),
            Ready::Json(_) | Ready::Apply(_) => true,
        }
    }
}

/// An applied configuration.
pub(super) struct Config {
    tree: Value,
    /// The duplicate fields found in it.
    duplicates: decode::Duplicates,
    force: bool,
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
        if let Ready::Apply(config) = &ready {
            return self.apply(kind, (namespace, name), part, config, options).await;
        }
        let propose = |current: &Current<'_>| {
            let target = target(kind, current, ready.may_name_owners())?;
            let patched = apply(kind, target, &ready)?;
            let (object, warnings) = decode::typed(kind, patched, decode::Duplicates::default(), options.field_validation)?;
            Ok(Proposal { object, warnings, managed: Managed::ByChange })
        };
        self.rewrite(kind, (namespace, name), part.into(), options, ATTEMPTS, Propose::Change(&propose)).await
    }

    /// Server-side apply. What is not there is created, but through a subresource.
    async fn apply(
        &self,
        kind: &KindDef,
        (namespace, name): (&str, &str),
        part: Part,
        config: &Config,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        if part == Part::Main && self.current(kind, namespace, name).is_err_and(|status| status.code == 404) {
            let Proposal { object, warnings, managed } = self.applied(kind, &Before::nothing(), config, options).await?;
            check_new(kind, name, object.as_ref())?;
            let managed = if let Managed::Decided(entries) = managed { entries } else { None };
            match self.create_owned(kind, namespace, object, managed, warnings, options).await {
                // Somebody else created it meanwhile: merge into that.
                Err(status) if status.reason == "AlreadyExists" => {}
                done => return done,
            }
        }
        self.rewrite(kind, (namespace, name), part.into(), options, ATTEMPTS, Propose::Apply(config)).await
    }

    /// What applying `config` makes of what is there.
    pub(super) async fn applied(
        &self,
        kind: &KindDef,
        before: &Before<'_>,
        config: &Config,
        options: &WriteOptions,
    ) -> Result<Proposal, Status> {
        let (merged, managed): (Value, Entries) = self.merge_applied(kind, before, (&config.tree, config.force), options).await?;
        let mut warnings = Vec::new();
        match options.field_validation {
            FieldValidation::Strict => {
                if let Some(errors) = config.duplicates.errors() {
                    return Err(Status::bad_request(format!("error strict decoding YAML: {errors}")));
                }
            }
            FieldValidation::Warn => warnings.extend_from_slice(config.duplicates.warnings()),
            FieldValidation::Ignore => {}
        }
        // Unknown fields of the configuration were refused; those of the stored object are none of this client's.
        let (object, _) = decode::typed(kind, merged, decode::Duplicates::default(), FieldValidation::Ignore)?;
        Ok(Proposal { object, warnings, managed: Managed::Decided(managed) })
    }
}

/// What a patch is applied to.
fn target(kind: &KindDef, current: &Current<'_>, with_owners: bool) -> Result<Value, Status> {
    match current.before.tree(kind)? {
        Some(tree) if !with_owners => Ok(tree.clone()),
        _ => {
            let entry = kind.present(current.entry)?;
            serde_json::from_slice(&entry.json).map_err(|error| undecodable(&entry, &error))
        }
    }
}

/// What an apply must say of an object that is not there: its name, and no uid of another one.
fn check_new(kind: &KindDef, name: &str, object: &dyn Object) -> Result<(), Status> {
    if let Some(uid) = object.meta().uid.as_deref().filter(|uid| !uid.is_empty()) {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(kind.group(), kind.resource(), name, why));
    }
    meta::settle_name(object.meta(), name)
}

fn ready(patch: Patch) -> Result<Ready, Status> {
    Ok(match patch {
        Patch::Json(body) => Ready::Json(body),
        Patch::Merge(body) => Ready::Merge(body),
        Patch::Strategic(body) => Ready::Strategic(body),
        Patch::Apply { body, force } => {
            let (tree, duplicates) = configuration(body)?;
            Ready::Apply(Config { tree, duplicates, force })
        }
    })
}

/// The tree of an applied configuration, with the duplicate fields found. It is YAML; most clients send the part of it that is JSON,
/// which has the faster parser.
fn configuration(body: bytes::Bytes) -> Result<(Value, decode::Duplicates), Status> {
    let mut duplicates = decode::Duplicates::default();
    let mut body = Body { bytes: body, format: Format::Json };
    if let Ok(tree) = decode::tree(&body, &mut duplicates) {
        return Ok((tree, duplicates));
    }
    duplicates = decode::Duplicates::default();
    body.format = Format::Yaml;
    let tree = decode::tree(&body, &mut duplicates).map_err(|why| Status::bad_request(format!("error decoding YAML: {why}")))?;
    Ok((tree, duplicates))
}

fn apply(kind: &KindDef, target: Value, ready: &Ready) -> Result<Value, Status> {
    let schema = || match kind.merge_schema() {
        MergeSchema::Type(name) => Ok(name),
        // Upstream's text (apiextensions-apiserver `customresource_handler.go` accepts the other three types only).
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/apply-patch+yaml",
        )),
    };
    let patched = match ready {
        Ready::Json(body) => patch::json(&target, body),
        Ready::Merge(body) => patch::merge(target, body),
        Ready::Strategic(body) => patch::strategic(target, body, schema()?),
        Ready::Apply(_) => return Err(Status::internal("a configuration is not applied as a patch")),
    };
    patched.map_err(|error| match (error.code(), ready) {
        // Upstream's text (`NewGenericServerResponse`), which keeps to itself what did not apply.
        (422, Ready::Json(_)) => Status::new(422, "Invalid", "the server rejected our request due to an error in our request"),
        (422, _) => Status::new(422, "Invalid", error.to_string()),
        _ => Status::bad_request(error.to_string()),
    })
}
