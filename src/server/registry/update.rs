//! PUT and every other read-modify-write: upstream's `Store.Update` and `rest.BeforeUpdate`.
//!
//! All changes of an existing object (PUT, PATCH, scale, controllers' edits) go through [`Registry::rewrite`]: propose a new state
//! for the current one, check it, commit it at the revision it was decided on, and decide again on what won if the race was lost.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::admission::{Asked, Findings, Operation, Phase};
use super::ownership::{Before, Entries};
use super::patch::Config;
use super::{Body, KindDef, Part, Registry, WriteOptions, Written, decode, delete, meta, store_failure};
use crate::api::apply::manager::same_but_times;
use crate::api::{FieldError, Key, Object, Rev, Status};
use crate::server::store::{Change, Entry, Expect, StoreError};

/// How often a lost race is decided again before the client is told. Each loss means that somebody else succeeded.
const ATTEMPTS: usize = 16;

/// What kind of change is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A client's change of the main resource.
    Main,
    /// A change of `/status`.
    Status,
    /// A change through the subresource that the options name.
    Subresource,
    /// A change by `/scale`: checked like one of the main resource, but what admission sees is the Scale.
    Scale,
    /// A change by code of ours that may touch spec and status at once (bindings, finalizers): nothing is put back to its old
    /// value, and what was wrong before does not stop it.
    Trusted,
}

impl From<Part> for Mode {
    fn from(part: Part) -> Mode {
        match part {
            Part::Main => Mode::Main,
            Part::Status => Mode::Status,
            Part::Subresource => Mode::Subresource,
        }
    }
}

/// A new state for an object.
pub(super) struct Proposal {
    pub object: Box<dyn Object>,
    pub warnings: Vec<String>,
    pub managed: Managed,
}

/// What becomes of `managedFields`.
pub(super) enum Managed {
    /// What the change means for them.
    ByChange,
    /// These.
    Decided(Entries),
}

/// What is there, in working form.
pub(super) struct Current<'a> {
    pub entry: &'a Arc<Entry>,
    pub object: &'a dyn Object,
    pub before: Before<'a>,
}

/// From what is there to the new state.
type Edit<'a> = dyn Fn(&Current<'_>) -> Result<Proposal, Status> + Sync + 'a;

/// How a new state is made of the current one. Runs again after a lost race.
#[derive(Clone, Copy)]
pub(super) enum Propose<'a> {
    /// What this function makes of them.
    Change(&'a Edit<'a>),
    /// What applying this makes of them.
    Apply(&'a Config),
}

/// What one attempt came to.
enum Attempt {
    Done(Written),
    /// Somebody else wrote first; this is there now.
    Lost(Option<Arc<Entry>>),
}

/// What is being changed.
struct Target<'a> {
    kind: &'a KindDef,
    key: Key,
    mode: Mode,
    options: &'a WriteOptions,
}

impl Registry {
    /// PUT.
    pub async fn update(
        &self,
        kind: &KindDef,
        namespace: &str,
        name: &str,
        part: Part,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let (object, warnings) = decode::object(kind, &body, options.field_validation)?;
        self.update_decoded(kind, (namespace, name), part, object, warnings, options).await
    }

    /// Replaces an object by one that trusted code made; its `resourceVersion` is the expectation.
    pub async fn update_object(&self, mut object: Box<dyn Object>, part: Part, options: &WriteOptions) -> Result<Written, Status> {
        let kind =
            self.kind_of(object.as_ref()).ok_or_else(|| Status::internal("an object of a type that no kind serves can't be updated"))?;
        let metadata = object.meta();
        let (namespace, name) = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        kind.apply_defaults(object.as_mut());
        self.update_decoded(&kind, (&namespace, &name), part, object, Vec::new(), options).await
    }

    /// A read-modify-write of one object by trusted code (bindings, finalizers, tokens): `edit` may run again after a conflict.
    /// Defaulting, admission and validation run as for any write, but with [`Part::Main`] spec and status may change together, and
    /// only errors that the edit brings in refuse it.
    pub async fn edit(
        &self,
        kind: &KindDef,
        namespace: &str,
        name: &str,
        part: Part,
        edit: &(dyn Fn(&mut dyn Object) -> Result<(), Status> + Sync),
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mode = if part == Part::Status { Mode::Status } else { Mode::Trusted };
        let propose = |current: &Current<'_>| {
            let mut object = current.object.clone_object();
            edit(object.as_mut())?;
            object.meta_mut().resource_version = None;
            Ok(Proposal { object, warnings: Vec::new(), managed: Managed::ByChange })
        };
        self.rewrite(kind, (namespace, name), mode, options, ATTEMPTS, Propose::Change(&propose)).await
    }

    async fn update_decoded(
        &self,
        kind: &KindDef,
        place: (&str, &str),
        part: Part,
        object: Box<dyn Object>,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        if part == Part::Main && kind.info.update_may_create && self.current(kind, place.0, place.1).is_err_and(|status| status.code == 404)
        {
            meta::settle_name(object.meta(), place.1)?;
            return self.create_decoded(kind, place.0, object, warnings, options).await;
        }
        let propose =
            |_: &Current<'_>| Ok(Proposal { object: object.clone_object(), warnings: warnings.clone(), managed: Managed::ByChange });
        self.rewrite(kind, place, part.into(), options, ATTEMPTS, Propose::Change(&propose)).await
    }

    /// Changes an existing object.
    pub(super) async fn rewrite(
        &self,
        kind: &KindDef,
        (namespace, name): (&str, &str),
        mode: Mode,
        options: &WriteOptions,
        attempts: usize,
        propose: Propose<'_>,
    ) -> Result<Written, Status> {
        let (key, mut current) = self.current(kind, namespace, name)?;
        let target = Target { kind, key, mode, options };
        for _ in 0..attempts {
            let served = kind.serve_one(&current).await?;
            let old = kind.object(&served)?;
            let present = Current { entry: &served, object: old.as_ref(), before: Before::of(&served) };
            let proposal = match propose {
                Propose::Change(change) => change(&present)?,
                Propose::Apply(config) => self.applied(kind, &present.before, config, options).await?,
            };
            match self.attempt(&target, &present, proposal).await? {
                Attempt::Done(written) => return Ok(written),
                Attempt::Lost(found) => current = found.ok_or_else(|| Status::not_found(kind.group(), kind.resource(), name))?,
            }
        }
        Err(Status::modified(kind.group(), kind.resource(), name))
    }

    async fn attempt(&self, target: &Target<'_>, present: &Current<'_>, proposal: Proposal) -> Result<Attempt, Status> {
        let Target { kind, key, mode, options } = target;
        let Current { entry: current, object: old, before } = present;
        let old = *old;
        let Proposal { mut object, warnings, managed } = proposal;
        let managed = match managed {
            Managed::Decided(entries) => entries,
            Managed::ByChange => self.track(kind, before, object.as_mut(), options).await,
        };
        settle(target, current.rev, object.as_mut(), old)?;
        object.meta_mut().managed_fields.clone_from(&managed);
        let asked = Asked { kind, operation: Operation::Update, old: Some(old), options, deletion: None };
        let mut findings = Findings { warnings, ..Findings::default() };
        self.admit_part(*mode, Phase::Mutate, asked, &mut object, &mut findings).await?;
        meta::check_managed(object.meta_mut(), managed, &mut findings.warnings);
        kind.apply_defaults(object.as_mut());
        match mode {
            Mode::Main | Mode::Scale => kind.prepare_update(object.as_mut(), old),
            Mode::Status => kind.prepare_status(object.as_mut(), old),
            Mode::Subresource => kind.prepare_subresource(object.as_mut(), old, &options.subresource),
            Mode::Trusted => {}
        }
        self.admit(Phase::Reserve, asked, &mut object, &mut findings).await?;
        kind.apply_defaults(object.as_mut());
        let errors = violations(target, object.as_ref(), old);
        if !errors.is_empty() {
            return Err(Status::invalid(kind.group(), kind.kind(), key.name(), errors));
        }
        if *mode != Mode::Status && kind.info.generation && kind.spec_changed(object.as_ref(), old) {
            object.meta_mut().generation = Some(old.meta().generation.unwrap_or_default() + 1);
        }
        object.meta_mut().resource_version = old.meta().resource_version.clone();
        self.admit_part(*mode, Phase::Validate, asked, &mut object, &mut findings).await?;
        let done = |entry: &Arc<Entry>, findings: Findings| -> Result<Attempt, Status> {
            let entry = kind.present(entry)?;
            Ok(Attempt::Done(Written { entry, created: false, warnings: findings.warnings, annotations: findings.annotations }))
        };
        if is_unchanged(object.as_mut(), old, before.managed(kind)?) {
            return done(current, findings);
        }
        if options.dry_run {
            return done(&kind.entry(object.as_ref(), key.clone(), current.rev).into(), findings);
        }
        let complete = delete::is_complete(object.as_ref());
        let draft = kind.draft(object).await?;
        let change = if complete { Change::Delete(draft) } else { Change::Put(draft) };
        match self.store().commit(key.clone(), Expect::Rev(current.rev), change).await {
            // What was set aside for it is given back with the findings, now that the snapshot shows it taken.
            Ok(entry) => done(&kind.serve_one(&entry).await?, findings),
            Err(StoreError::Conflict(found)) => Ok(Attempt::Lost(found)),
            Err(other) => Err(store_failure(&other)),
        }
    }
}

/// Whether the write comes to nothing. Times of `managedFields` alone are nothing (apiserver
/// `pkg/endpoints/handlers/fieldmanager/equality.go`).
fn is_unchanged(object: &mut dyn Object, old: &dyn Object, owners: Option<&Vec<ManagedFieldsEntry>>) -> bool {
    // The decoded form that `old` is has no managed fields.
    let managed = object.meta_mut().managed_fields.take();
    let same_owners = || same_but_times(owners.map_or(&[], Vec::as_slice), managed.as_deref().unwrap_or_default());
    let unchanged = object.is_same(old) && same_owners();
    object.meta_mut().managed_fields = managed;
    unchanged
}

impl Registry {
    /// Admission of what the client sees itself writing.
    async fn admit_part(
        &self,
        mode: Mode,
        phase: Phase,
        asked: Asked<'_>,
        object: &mut Box<dyn Object>,
        findings: &mut Findings,
    ) -> Result<(), Status> {
        match mode {
            Mode::Scale => self.admit_scale(phase, asked, object, findings).await,
            _ => Ok(self.admit(phase, asked, object, findings).await?),
        }
    }
}

/// Checks what the object says about which object and revision it is, and puts back what clients may not change.
fn settle(target: &Target<'_>, current: Rev, object: &mut dyn Object, old: &dyn Object) -> Result<(), Status> {
    let Target { kind, key, .. } = target;
    let metadata = object.meta_mut();
    meta::settle_name(metadata, key.name())?;
    meta::settle_namespace(kind, metadata, key.namespace())?;
    if let Some(expected) = metadata.resource_version.as_deref().filter(|version| !version.is_empty())
        && expected != current.to_string()
    {
        return Err(Status::modified(kind.group(), kind.resource(), key.name()));
    }
    check_uid(kind, key.name(), metadata.uid.as_deref(), old)?;
    meta::keep_old(metadata, old.meta());
    Ok(())
}

/// 409 unless `expected` (if any) is the uid of `object`, with upstream's text.
pub(super) fn check_uid(kind: &KindDef, name: &str, expected: Option<&str>, object: &dyn Object) -> Result<(), Status> {
    let found = object.meta().uid.as_deref().unwrap_or_default();
    match expected {
        None | Some("") => Ok(()),
        Some(expected) if expected == found => Ok(()),
        Some(expected) => {
            let why = format!("Precondition failed: UID in precondition: {expected}, UID in object meta: {found}");
            Err(Status::conflict(kind.group(), kind.resource(), name, why))
        }
    }
}

/// Every rule that the change breaks.
fn violations(target: &Target<'_>, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
    let Target { kind, mode, options, .. } = target;
    let mut errors = meta::validate(kind, object.meta());
    errors.extend(meta::validate_update(object.meta(), old.meta()));
    match mode {
        Mode::Main | Mode::Scale => errors.extend(kind.validate(object, Some(old))),
        Mode::Status => errors.extend(kind.validate_status(object, old)),
        Mode::Subresource => errors.extend(kind.validate_subresource(object, old, &options.subresource)),
        Mode::Trusted => {
            let before = kind.validate(old, None);
            errors.extend(kind.validate(object, None).into_iter().filter(|error| !before.contains(error)));
        }
    }
    errors
}
