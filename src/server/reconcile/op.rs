//! How an op becomes a write through the registry.
//!
//! Invariants: an op whose object is already gone, or whose effect is already there, is done; one that was decided on an older
//! revision is a conflict and changes nothing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Op;
use crate::api::{Key, Object, Rev, Status};
use crate::server::registry::{DeleteOptions, KindRef, Part, Registry, User, WriteOptions};

/// Why an op, and with it a run, failed. Shown to the controller at its next run of the same key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{verb} {what}: {message}")]
pub struct OpFailure {
    /// `create`, `update`, `delete`, ...
    pub verb: &'static str,
    /// What was written.
    pub what: String,
    /// The registry's answer.
    pub message: String,
}

/// Why an op was not performed.
#[derive(Debug)]
pub(super) enum Refused {
    /// Decided on an older revision.
    Conflict,
    /// Anything else.
    Failed(OpFailure),
}

impl Op {
    /// What is done, for messages.
    fn verb(&self) -> &'static str {
        match self {
            Op::Create(_) => "create",
            Op::Update(_) => "update",
            Op::UpdateStatus(_) => "update status of",
            Op::Delete { .. } => "delete",
            Op::RemoveFinalizer { .. } => "remove finalizer of",
            Op::RemoveOwners { .. } => "remove owners of",
            Op::Bind { .. } => "bind",
            Op::Event { .. } => "record event about",
        }
    }

    /// What it is done to, for messages.
    fn what(&self) -> String {
        match self {
            Op::Create(object) | Op::Update(object) | Op::UpdateStatus(object) => {
                let meta = object.meta();
                let name = meta.name.as_deref().or(meta.generate_name.as_deref()).unwrap_or("");
                format!("{}/{name}", meta.namespace.as_deref().unwrap_or(""))
            }
            Op::Delete { key, .. } | Op::RemoveFinalizer { key, .. } | Op::RemoveOwners { key, .. } | Op::Bind { key, .. } => {
                key.to_string()
            }
            Op::Event { regarding, .. } => format!("{}/{}", regarding.namespace, regarding.name),
        }
    }
}

/// Write options of a controller.
pub(super) fn options(user: String) -> WriteOptions {
    let mut groups = vec!["system:authenticated".to_owned()];
    if let Some(account) = user.strip_prefix("system:serviceaccount:") {
        let namespace = account.split(':').next().unwrap_or("");
        groups.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    }
    let field_manager = if user == "system:kube-scheduler" { "kube-scheduler" } else { "kube-controller-manager" };
    WriteOptions {
        user: Arc::new(User { name: user, groups, ..User::default() }),
        field_manager: field_manager.into(),
        ..WriteOptions::default()
    }
}

/// Performs one op (events are the recorder's and do not come here).
pub(super) async fn perform(registry: &Registry, op: Op, options: &WriteOptions) -> Result<(), Refused> {
    let (verb, what) = (op.verb(), op.what());
    match write(registry, op, options).await {
        Ok(()) => Ok(()),
        Err(status) => match verdict(verb, &status) {
            Verdict::Done => Ok(()),
            Verdict::Conflict => Err(Refused::Conflict),
            Verdict::Failed => Err(Refused::Failed(OpFailure { verb, what, message: status.message })),
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Conflict,
    Failed,
}

/// What a refusal means. A creation in a namespace that is going away is dropped, as upstream's controllers do: it can never succeed.
fn verdict(verb: &str, status: &Status) -> Verdict {
    let terminating = || status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating");
    match (verb, &*status.reason) {
        (_, "Conflict") => Verdict::Conflict,
        ("delete" | "remove finalizer of" | "remove owners of" | "bind", "NotFound") => Verdict::Done,
        ("update" | "update status of", "NotFound") => Verdict::Conflict,
        ("create", "Forbidden") if terminating() => Verdict::Done,
        _ => Verdict::Failed,
    }
}

async fn write(registry: &Registry, op: Op, options: &WriteOptions) -> Result<(), Status> {
    match op {
        Op::Create(object) => registry.create_object(object, options).await.map(drop),
        Op::Update(object) => registry.update_object(object, Part::Main, options).await.map(drop),
        Op::UpdateStatus(object) => {
            let options = WriteOptions { subresource: "status".into(), ..options.clone() };
            registry.update_object(object, Part::Status, &options).await.map(drop)
        }
        Op::Delete { key, uid, rev, grace, propagation } => {
            let delete = DeleteOptions { grace, propagation: propagation.map(str::to_owned), uid: Some(uid), rev };
            registry.delete(&*kind(registry, &key)?, key.namespace(), key.name(), &delete, options).await.map(drop)
        }
        Op::RemoveFinalizer { key, rev, finalizer } => {
            edit(registry, &key, options, &|object| {
                expect(&key, object, rev)?;
                remove_finalizer(object, finalizer);
                Ok(())
            })
            .await
        }
        Op::RemoveOwners { key, rev, uids } => {
            edit(registry, &key, options, &|object| {
                expect(&key, object, rev)?;
                if let Some(owners) = &mut object.meta_mut().owner_references {
                    owners.retain(|owner| !uids.contains(&owner.uid));
                }
                Ok(())
            })
            .await
        }
        Op::Bind { key, uid, rev, node } => {
            let options = WriteOptions { subresource: "binding".into(), ..options.clone() };
            edit(registry, &key, &options, &|object| {
                if object.meta().uid.as_deref() != Some(&uid) {
                    return Err(Status::not_found(key.group(), key.resource(), key.name()));
                }
                expect(&key, object, rev)?;
                bind(&key, object, &node)
            })
            .await
        }
        Op::Event { .. } => Ok(()),
    }
}

async fn edit(
    registry: &Registry,
    key: &Key,
    options: &WriteOptions,
    change: &(dyn Fn(&mut dyn Object) -> Result<(), Status> + Sync),
) -> Result<(), Status> {
    registry.edit(&*kind(registry, key)?, key.namespace(), key.name(), Part::Main, change, options).await.map(drop)
}

fn kind(registry: &Registry, key: &Key) -> Result<KindRef, Status> {
    registry.kind_of_key(key).ok_or_else(Status::no_such_path)
}

fn expect(key: &Key, object: &dyn Object, rev: Rev) -> Result<(), Status> {
    let at = object.meta().resource_version.as_deref().and_then(Rev::parse);
    if at == Some(rev) { Ok(()) } else { Err(Status::modified(key.group(), key.resource(), key.name())) }
}

/// Removes `finalizer` from the metadata, and from a Namespace's spec, where upstream keeps its own.
pub(super) fn remove_finalizer(object: &mut dyn Object, finalizer: &str) {
    if let Some(finalizers) = &mut object.meta_mut().finalizers {
        finalizers.retain(|present| present != finalizer);
    }
    let spec = object.as_any_mut().downcast_mut::<Namespace>().and_then(|namespace| namespace.spec.as_mut());
    if let Some(finalizers) = spec.and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|present| present != finalizer);
    }
}

/// Assigns a pod to a node, as upstream's `BindingREST`: the name, and the condition that says so.
fn bind(key: &Key, object: &mut dyn Object, node: &str) -> Result<(), Status> {
    let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() else { return Err(Status::internal(format!("{key} is not a pod"))) };
    let spec = pod.spec.get_or_insert_default();
    if let Some(present) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Err(Status::conflict("", "pods", key.name(), format!("pod {} is already assigned to node \"{present}\"", key.name())));
    }
    spec.node_name = Some(node.into());
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: Some(Time(super::recorder::whole_seconds(jiff::Timestamp::now()))),
        ..PodCondition::default()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_mean() {
        let conflict = Status::modified("", "pods", "a");
        let gone = Status::not_found("", "pods", "a");
        let mut terminating = Status::forbidden("", "pods", "a", "namespace is being terminated");
        terminating
            .details
            .get_or_insert_default()
            .causes
            .push(crate::api::Cause { reason: "NamespaceTerminating".into(), ..Default::default() });
        let cases = [
            ("update", &conflict, Verdict::Conflict),
            ("delete", &conflict, Verdict::Conflict),
            ("delete", &gone, Verdict::Done),
            ("bind", &gone, Verdict::Done),
            ("update", &gone, Verdict::Conflict),
            ("create", &gone, Verdict::Failed),
            ("create", &terminating, Verdict::Done),
            ("create", &Status::forbidden("", "pods", "a", "exceeded quota"), Verdict::Failed),
            ("create", &Status::already_exists("", "pods", "a"), Verdict::Failed),
        ];
        for (verb, status, want) in cases {
            assert_eq!(verdict(verb, status), want, "{verb} {}", status.message);
        }
    }

    #[test]
    fn a_pod_is_bound_once() {
        let key = Key::of::<Pod>("default", "a");
        let mut pod = Pod::default();
        assert!(bind(&key, &mut pod, "n1").is_ok());
        assert_eq!(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()), Some("n1"));
        assert_eq!(bind(&key, &mut pod, "n2").map_err(|status| status.reason), Err("Conflict".into()));
    }
}
