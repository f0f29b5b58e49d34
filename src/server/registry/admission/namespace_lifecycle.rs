//! Nothing is created in a namespace that is missing or terminating, and the three namespaces that the system lives in stay
//! (apiserver `pkg/admission/plugin/namespace/lifecycle`).

use k8s_openapi::api::core::v1::Namespace;

use super::{Check, Operation, Request, unreadable};
use crate::api::{Cause, Key, Status};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

impl Check for NamespaceLifecycle {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.subresource().is_empty() && request.operation != Operation::Update
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let is_namespace = request.object.as_any().is::<Namespace>();
        match request.operation {
            Operation::Delete if is_namespace && IMMORTAL.contains(&request.name().as_str()) => {
                Err(request.forbidden("this namespace may not be deleted"))
            }
            // A review in a namespace is a question, not content.
            Operation::Create if request.kind.info.namespaced && !request.kind.info.virtual_only => content(request),
            _ => Ok(()),
        }
    }
}

fn content(request: &Request<'_>) -> Result<(), Status> {
    let name = request.namespace();
    let missing = || Status::not_found("", "namespaces", &name);
    let key = (!name.contains('/')).then(|| Key::of::<Namespace>("", &name)).ok_or_else(missing)?;
    let entry = request.snapshot.get(&key).ok_or_else(missing)?;
    let namespace = entry.typed::<Namespace>().map_err(unreadable)?;
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating") {
        return Ok(());
    }
    let mut status = request.forbidden(format_args!("unable to create new content in namespace {name} because it is being terminated"));
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    });
    Err(status)
}
