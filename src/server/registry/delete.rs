//! DELETE: upstream's `Store.Delete`, `rest.BeforeDelete` and the namespace storage's own steps.
//!
//! A deletion is decided purely by [`plan`]: remove now, mark (grace period or finalizers pending), or nothing more to do. An object
//! marked goes when its last finalizer does ([`is_complete`], asked by every update) or when a deletion without grace follows.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admission::{Asked, Findings, Operation, Phase};
use super::meta::{FOREGROUND, ORPHAN};
use super::update::{Current, Managed, Mode, Proposal, Propose, check_uid};
use super::{Body, DeleteOptions, Deleted, KindDef, ListOptions, Registry, WriteOptions, Written, decode, meta, now, store_failure};
use crate::api::{FieldError, Key, Object, Status};
use crate::server::store::{Change, Entry, Expect, StoreError};

/// How often a lost race is decided again.
const ATTEMPTS: usize = 16;
/// Deletions of a collection under way at once, so that they share flushes.
const AT_ONCE: usize = 32;

/// What a deletion does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Removes the object, whose last state this is.
    Remove,
    /// Writes its changed metadata.
    Mark,
    /// Nothing: it is being deleted already.
    Nothing,
}

/// How long the object may take.
#[derive(Clone, Copy, Debug)]
struct Grace {
    /// What the client asked for.
    requested: Option<i64>,
    /// What its kind makes of that.
    decided: Option<i64>,
}

impl Registry {
    /// DELETE.
    pub async fn delete(
        &self,
        kind: &KindDef,
        namespace: &str,
        name: &str,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Deleted, Status> {
        check_options(delete)?;
        let (key, mut current) = self.current(kind, namespace, name)?;
        for _ in 0..ATTEMPTS {
            let served = kind.serve_one(&current).await?;
            let old = kind.object(&served)?;
            check_uid(kind, name, delete.uid.as_deref(), old.as_ref())?;
            check_rev(kind, &current, delete)?;
            let mut object = old.clone_object();
            let asked = Asked { kind, operation: Operation::Delete, old: Some(old.as_ref()), options, deletion: Some(delete) };
            let mut findings = Findings::default();
            self.admit(Phase::Mutate, asked, &mut object, &mut findings).await?;
            self.admit(Phase::Validate, asked, &mut object, &mut findings).await?;
            // Upstream reads a negative period as one second.
            let requested = delete.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
            let grace = Grace { requested, decided: kind.grace(object.as_ref(), requested) };
            let now = now();
            if object.meta().deletion_timestamp.is_none() {
                kind.prepare_delete(object.as_mut(), &now);
            }
            let plan = plan(object.as_mut(), grace, delete.propagation.as_deref(), &now);
            object.meta_mut().managed_fields = served.managed_fields();
            match self.carry_out(kind, &key, &served, object, plan, options).await? {
                Ok(deleted) => return Ok(deleted),
                Err(found) => current = found.ok_or_else(|| Status::not_found(kind.group(), kind.resource(), name))?,
            }
        }
        Err(Status::modified(kind.group(), kind.resource(), name))
    }

    /// The inner error is a lost race, with what is there now.
    async fn carry_out(
        &self,
        kind: &KindDef,
        key: &Key,
        current: &Arc<Entry>,
        object: Box<dyn Object>,
        plan: Plan,
        options: &WriteOptions,
    ) -> Result<Result<Deleted, Option<Arc<Entry>>>, Status> {
        let removes = matches!(plan, Plan::Remove);
        if matches!(plan, Plan::Nothing) {
            return Ok(Ok(Deleted::Pending(kind.present(current)?)));
        }
        let done = |entry| if removes { Deleted::Gone(entry) } else { Deleted::Pending(entry) };
        if options.dry_run {
            return Ok(Ok(done(kind.present(&kind.entry(object.as_ref(), key.clone(), current.rev).into())?)));
        }
        let draft = kind.draft(object).await?;
        let change = if removes { Change::Delete(draft) } else { Change::Put(draft) };
        match self.store().commit(key.clone(), Expect::Rev(current.rev), change).await {
            Ok(entry) => Ok(Ok(done(kind.present(&kind.serve_one(&entry).await?)?))),
            Err(StoreError::Conflict(found)) => Ok(Err(found)),
            Err(other) => Err(store_failure(&other)),
        }
    }

    /// DELETE of a collection; returns what was deleted.
    pub async fn delete_collection(
        &self,
        kind: &KindDef,
        namespace: &str,
        list: &ListOptions,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        check_options(delete)?;
        let listed = self.list(kind, namespace, list).await?;
        let mut deleted = Vec::with_capacity(listed.items.len());
        for some in listed.items.chunks(AT_ONCE) {
            let runs = some.iter().map(|entry| self.delete(kind, entry.key.namespace(), entry.key.name(), delete, options));
            for outcome in futures::future::join_all(runs).await {
                match outcome {
                    Ok(Deleted::Gone(entry) | Deleted::Pending(entry)) => deleted.push(entry),
                    // Somebody else was faster: that is what was wanted.
                    Err(status) if status.code == 404 => {}
                    Err(status) => return Err(status),
                }
            }
        }
        Ok(deleted)
    }

    /// PUT of a namespace's `/finalize`: takes `spec.finalizers` from the body. Removing the last one of a terminating namespace
    /// completes its deletion.
    pub async fn finalize_namespace(&self, name: &str, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        let kind = self.kind("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
        let (object, warnings) = decode::object(&kind, &body, options.field_validation)?;
        meta::settle_name(object.meta(), name)?;
        let wrong = || Status::internal("the kind behind namespaces is not Namespace");
        let wanted = object.as_any().downcast_ref::<Namespace>().ok_or_else(wrong)?.clone();
        let propose = move |current: &Current<'_>| {
            let mut namespace = current.object.as_any().downcast_ref::<Namespace>().ok_or_else(wrong)?.clone();
            namespace.metadata.resource_version = wanted.metadata.resource_version.clone();
            namespace.metadata.uid = wanted.metadata.uid.clone();
            namespace.spec.get_or_insert_default().finalizers = wanted.spec.clone().and_then(|spec| spec.finalizers);
            Ok(Proposal { object: Box::new(namespace), warnings: warnings.clone(), managed: Managed::ByChange })
        };
        self.rewrite(&kind, ("", name), Mode::Trusted, options, ATTEMPTS, Propose::Change(&propose)).await
    }
}

fn check_options(delete: &DeleteOptions) -> Result<(), Status> {
    match delete.propagation.as_deref() {
        None | Some("Background" | "Foreground" | "Orphan") => Ok(()),
        Some(other) => {
            let error = FieldError::not_supported("propagationPolicy", other, &["Background", "Foreground", "Orphan"]);
            Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![error]))
        }
    }
}

fn check_rev(kind: &KindDef, current: &Entry, delete: &DeleteOptions) -> Result<(), Status> {
    match delete.rev {
        Some(expected) if expected != current.rev => {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {expected}, ResourceVersion in object meta: {}",
                current.rev
            );
            Err(Status::conflict(kind.group(), kind.resource(), current.key.name(), why))
        }
        _ => Ok(()),
    }
}

/// Whether an object that is marked for deletion has nothing left to wait for. Pods leave through a deletion without grace, which the
/// agent sends when the containers are gone.
pub(super) fn is_complete(object: &dyn Object) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds.unwrap_or(0) == 0 && !is_held(object)
}

/// Whether a finalizer, or a namespace's own, holds the object.
fn is_held(object: &dyn Object) -> bool {
    let metadata = object.meta().finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
    let namespace = object.as_any().downcast_ref::<Namespace>().and_then(|namespace| namespace.spec.as_ref());
    metadata || namespace.is_some_and(|spec| spec.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()))
}

/// Decides on one deletion, and changes the object to the state to write (or to show as its last).
fn plan(object: &mut dyn Object, grace: Grace, policy: Option<&str>, now: &Time) -> Plan {
    let Grace { requested, decided: grace } = grace;
    let marked = object.meta().deletion_timestamp.clone();
    match (marked, object.meta().deletion_grace_period_seconds) {
        (Some(deadline), Some(present)) if grace.is_some() || present > 0 => shorten(object, deadline, present, requested),
        (Some(_), _) => {
            let changed = set_propagation(object, policy);
            match (is_held(object), changed) {
                (false, _) => Plan::Remove,
                (true, true) => Plan::Mark,
                (true, false) => Plan::Nothing,
            }
        }
        (None, _) => {
            set_propagation(object, policy);
            mark(object, grace.unwrap_or(0), now);
            if grace.unwrap_or(0) > 0 || is_held(object) { Plan::Mark } else { Plan::Remove }
        }
    }
}

/// A second deletion of an object with a grace period can only shorten it.
fn shorten(object: &mut dyn Object, deadline: Time, present: i64, requested: Option<i64>) -> Plan {
    if present > 0 {
        let Some(wanted) = requested.filter(|wanted| *wanted < present) else { return Plan::Nothing };
        let meta = object.meta_mut();
        let earlier = SignedDuration::from_secs(present - wanted);
        meta.deletion_timestamp = Some(Time(deadline.0.checked_sub(earlier).unwrap_or(deadline.0)));
        meta.deletion_grace_period_seconds = Some(wanted);
        if wanted > 0 {
            return Plan::Mark;
        }
        return if is_held(object) { Plan::Mark } else { Plan::Remove };
    }
    if is_held(object) { Plan::Nothing } else { Plan::Remove }
}

fn mark(object: &mut dyn Object, grace: i64, now: &Time) {
    let meta = object.meta_mut();
    meta.deletion_timestamp = Some(Time(now.0.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now.0)));
    meta.deletion_grace_period_seconds = Some(grace);
    // Deletion is a change of what is wanted, as upstream counts it.
    meta.generation = meta.generation.map(|generation| generation + 1);
    if let Some(namespace) = object.as_any_mut().downcast_mut::<Namespace>() {
        namespace.metadata.deletion_grace_period_seconds = None;
        namespace.status.get_or_insert_with(NamespaceStatus::default).phase = Some("Terminating".into());
    }
}

/// Adds or removes the finalizers that stand for a propagation policy. Without one, what is there stays. Says whether it changed.
fn set_propagation(object: &mut dyn Object, policy: Option<&str>) -> bool {
    let Some(policy) = policy else { return false };
    let before = object.meta().finalizers.clone().unwrap_or_default();
    let mut after: Vec<_> = before.iter().filter(|finalizer| ![FOREGROUND, ORPHAN].contains(&finalizer.as_str())).cloned().collect();
    match policy {
        "Foreground" => after.push(FOREGROUND.into()),
        "Orphan" => after.push(ORPHAN.into()),
        _ => {}
    }
    let changed = before != after;
    object.meta_mut().finalizers = (!after.is_empty()).then_some(after);
    changed
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
