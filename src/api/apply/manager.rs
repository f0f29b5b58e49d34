//! The field manager: what every write does to `managedFields`, and server-side apply as a whole.
//!
//! Follows the chain of apimachinery's `pkg/util/managedfields`: versioncheck, lastappliedupdater, lastappliedmanager,
//! skipnonapplied, capmanagers, buildmanagerinfo, managedfieldsupdater, stripmeta, structuredmerge. Here they are one function for
//! each of update and apply, with a step for each link.

use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use serde_json::Value;

use super::managed::{self, Claim, Claims, Operation, Source};
use super::updater::{self, Conflict, Refused, Versions};
use super::walk::{self, Duplicates, Fault};
use crate::api::fields::{FieldSet, show_path};
use crate::api::status::Details;
use crate::api::{Cause, Status};

/// The annotation in which kubectl keeps what it applied from the client's side.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations larger than this are not kept, as upstream.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The manager of what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose applies take over from client-side apply.
const KUBECTL: &str = "kubectl";

/// Who writes, and where.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// `apps/v1`: the version of the request.
    pub version: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// The time of the write, to the second.
    pub now: &'a Time,
}

impl Writer<'_> {
    fn claim(&self, manager: &str, operation: Operation) -> Claim {
        Claim {
            manager: if manager.is_empty() { "unknown" } else { manager }.into(),
            operation,
            version: self.version.into(),
            subresource: self.subresource.into(),
            time: Some(self.now.clone()),
            fields: FieldSet::default(),
        }
    }
}

/// What is always the server's, and so nobody's.
static STRIPPED: LazyLock<FieldSet> = LazyLock::new(|| {
    let mut set = FieldSet::default();
    for path in [&["apiVersion"][..], &["kind"], &["metadata"]] {
        set.add(&FieldSet::of_path(path));
    }
    let fields =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"];
    for field in fields {
        set.add(&FieldSet::of_path(&["metadata", field]));
    }
    set
});

/// An object before a write, without its managed fields.
pub struct Live<'a> {
    /// The stored object, or zero when the write creates it.
    pub value: &'a Value,
    /// Its entries, as stored.
    pub entries: Option<Vec<ManagedFieldsEntry>>,
    /// Whether it is zero.
    pub is_new: bool,
}

/// What a create, update or patch of any kind but apply leaves as `managedFields`. `given` is what the client sent as such; `new` is
/// the object without it, defaults filled in, before admission changes it.
///
/// # Errors
/// Why the write can't be followed. It then goes through all the same, without managed fields.
pub fn update(
    live: Live<'_>,
    new: &Value,
    given: Option<Vec<ManagedFieldsEntry>>,
    writer: Writer<'_>,
    versions: &dyn Versions,
) -> Result<Option<Vec<ManagedFieldsEntry>>, String> {
    let mut claims = live_or_given(live.entries, given, writer.subresource);
    // Whoever is not tracked yet starts to be by an apply, or by being created.
    if claims.is_empty() && !live.is_new {
        return Ok(None);
    }
    track(live.value, new, &mut claims, writer.manager, writer, versions)?;
    Ok(managed::write(claims))
}

/// The entries that a write starts from: those that the client sent, unless it sent none or nonsense, or writes a subresource.
fn live_or_given(live: Option<Vec<ManagedFieldsEntry>>, given: Option<Vec<ManagedFieldsEntry>>, subresource: &str) -> Claims {
    if let (Some(given), "") = (given, subresource) {
        if managed::is_reset(&given) {
            return Claims::new();
        }
        if let Ok(claims) = managed::read(given, Source::Client)
            && !claims.is_empty()
        {
            return claims;
        }
    }
    managed::read(live.unwrap_or_default(), Source::Stored).unwrap_or_default()
}

/// Follows an update by a manager of this name, from there down the chain.
fn track(live: &Value, new: &Value, claims: &mut Claims, manager: &str, writer: Writer<'_>, versions: &dyn Versions) -> Result<(), String> {
    let mut taken = updater::update(live, new, writer.version, claims, versions)?;
    taken.remove(&STRIPPED);
    if !taken.is_empty() {
        let mut own = writer.claim(manager, Operation::Update);
        own.fields = taken;
        match claims.iter_mut().find(|claim| claim.same_manager(&own)) {
            Some(known) => {
                known.fields.add(&own.fields);
                known.time = own.time;
            }
            None => claims.push(own),
        }
    }
    managed::cap(claims);
    Ok(())
}

/// Why an apply is refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The request is wrong.
    #[error("{0}")]
    Bad(String),
    /// Other managers own what it would change.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration is not of the schema, or can't be merged.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for ApplyError {
    fn from(why: String) -> ApplyError {
        ApplyError::Failed(why)
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Status {
        let message = error.to_string();
        match error {
            ApplyError::Bad(_) => Status::bad_request(message),
            // Upstream answers these with 500 and no reason, as if the fault were its own. It is the configuration's.
            ApplyError::Failed(_) => Status::bad_request(message),
            ApplyError::Conflicts(conflicts) => {
                let cause = |conflict: &Conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.owner),
                    field: show_path(&conflict.path),
                };
                let causes = conflicts.iter().map(cause).collect();
                let details = Some(Box::new(Details { causes, ..Details::default() }));
                Status { details, ..Status::new(409, "Conflict", message) }
            }
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.owner, show_path(&one.path));
    }
    let mut lines = Vec::new();
    let mut owner: Option<&Claim> = None;
    for conflict in conflicts {
        if owner.is_none_or(|owner| !owner.same_manager(&conflict.owner)) {
            lines.push(format!("conflicts with {}:", conflict.owner));
            owner = Some(&conflict.owner);
        }
        lines.push(format!("- {}", show_path(&conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// An apply's kind: what the configuration must say it is of.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// The configuration.
    pub config: &'a Value,
    /// The kind at the URL.
    pub kind: &'a str,
    /// Whether to take over what others own.
    pub force: bool,
    /// An object of the kind as it is before anything is set.
    pub zero: &'a Value,
}

/// Server-side apply: the merged object, which may contain nulls for what is to go, and its `managedFields`.
///
/// # Errors
/// Wrong requests, conflicts, and what does not fit the schema.
pub fn apply(
    live: Live<'_>,
    applied: Applied<'_>,
    writer: Writer<'_>,
    versions: &dyn Versions,
) -> Result<(Value, Option<Vec<ManagedFieldsEntry>>), ApplyError> {
    check(applied, writer, versions)?;
    let stored = live.entries.unwrap_or_default();
    let mut claims = managed::read(stored, Source::Stored).map_err(|why| failed(&format!("failed to decode managed fields: {why}")))?;
    if claims.is_empty() {
        track(applied.zero, live.value, &mut claims, BEFORE_FIRST_APPLY, writer, versions)
            .map_err(|why| failed(&format!("failed to create manager for existing fields: {why}")))?;
    }
    let (mut merged, claims) = match merge(live.value, applied, applied.force, &claims, writer, versions) {
        Err(Refused::Conflicts(conflicts)) if writer.manager == KUBECTL => {
            let Some(allowed) = from_client_side(live.value, writer.version, versions) else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let others: Vec<_> = conflicts.into_iter().filter(|conflict| !allowed.contains(&conflict.path)).collect();
            if !others.is_empty() {
                return Err(ApplyError::Conflicts(others));
            }
            merge(live.value, applied, true, &claims, writer, versions)
        }
        done => done,
    }
    .map_err(|refused| match refused {
        Refused::Conflicts(conflicts) => ApplyError::Conflicts(conflicts),
        Refused::Failed(why) => ApplyError::Failed(why),
    })?;
    if writer.manager == KUBECTL {
        sync_last_applied(&mut merged, applied.config);
    }
    Ok((merged, managed::write(claims)))
}

fn failed(why: &str) -> ApplyError {
    ApplyError::Failed(why.into())
}

/// What must hold of any configuration.
fn check(applied: Applied<'_>, writer: Writer<'_>, versions: &dyn Versions) -> Result<(), ApplyError> {
    let config = applied.config;
    let text = |path: &str| config.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    if version != writer.version || kind != applied.kind {
        return Err(ApplyError::Bad(format!("invalid object type: {}", shown_type(version, kind))));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|entries| !entries.is_null()) {
        return Err(ApplyError::Bad("metadata.managedFields must be nil".into()));
    }
    let schema = versions.schema(version).ok_or_else(|| failed(&format!("no corresponding type for {version}")))?;
    let faults = walk::validate(schema, config, Duplicates::Refused);
    if !faults.is_empty() {
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let of = shown_type(version, kind);
        return Err(ApplyError::Failed(format!(
            "failed to create typed patch object ({namespace}/{name}; {of}): {}",
            Fault::list(&faults)
        )));
    }
    Ok(())
}

/// `apps/v1, Kind=Deployment`, as Go shows it; the core group has no name.
fn shown_type(version: &str, kind: &str) -> String {
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={kind}")
}

/// From the link that builds the manager's identity down.
fn merge(
    live: &Value,
    applied: Applied<'_>,
    force: bool,
    claims: &Claims,
    writer: Writer<'_>,
    versions: &dyn Versions,
) -> Result<(Value, Claims), Refused> {
    let mut claims = claims.clone();
    let applier = writer.claim(writer.manager, Operation::Apply);
    let merged = updater::apply(live, applied.config, &mut claims, applier.clone(), force, versions)?;
    if let Some(own) = claims.iter_mut().find(|claim| claim.same_manager(&applier)) {
        own.fields.remove(&STRIPPED);
    }
    claims.retain(|claim| !claim.fields.is_empty());
    Ok((merged, claims))
}

/// Fields that kubectl applied from the client's side and that still have the value it gave them: these it may take over.
/// `None`: there is no such record, or none of this version.
fn from_client_side(live: &Value, version: &str, versions: &dyn Versions) -> Option<Vec<Vec<crate::api::fields::Element>>> {
    let record = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str().filter(|text| !text.is_empty())?;
    let last: Value = serde_json::from_str(record).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(version) {
        return None;
    }
    let schema = versions.schema(version)?;
    if !walk::validate(schema, &last, Duplicates::Refused).is_empty() {
        return None;
    }
    let changes = walk::compare(schema, &last, live).ok()?;
    let mut kept = walk::owned(schema, &last);
    for changed in [&changes.modified, &changes.added, &changes.removed] {
        kept.remove(changed);
    }
    Some(kept.paths())
}

/// Keeps the record of client-side apply true, where there is one.
fn sync_last_applied(merged: &mut Value, config: &Value) {
    let Some(annotations) = merged.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    if annotations.get(LAST_APPLIED).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut record = config.clone();
    if let Some(own) = record.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        own.remove(LAST_APPLIED);
    }
    let size = |value: &Value| value.as_str().map_or(0, str::len);
    annotations.insert(LAST_APPLIED.into(), format!("{record}\n").into());
    if annotations.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>() > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

/// Whether two lists of entries differ in nothing but times; then the write changed nothing of theirs.
pub fn same_but_times(old: &[ManagedFieldsEntry], new: &[ManagedFieldsEntry]) -> bool {
    let same = |(a, b): (&ManagedFieldsEntry, &ManagedFieldsEntry)| {
        a.manager == b.manager
            && a.operation == b.operation
            && a.api_version == b.api_version
            && a.subresource == b.subresource
            && a.fields_type == b.fields_type
            && a.fields_v1 == b.fields_v1
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
