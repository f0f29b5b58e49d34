//! Subresources with a meaning of their own: binding, eviction, finalize, approval, scale.
//!
//! Each decodes what it is sent and changes the object through the registry's one write path.

use axum::response::Response;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Binding, Namespace, Pod, PodCondition};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::negotiate::{self, PatchType};
use super::{App, Call, only, reply, verbs};
use crate::api::{Cause, FieldError, Object, Status, yaml};
use crate::server::auth::{Lookup, rbac};
use crate::server::registry::strategy::Subresource;
use crate::server::registry::{Deleted, KindDef, Part, ScaleChange, WriteOptions};

/// The object as the type that its kind stores.
fn downcast<T: crate::api::Kind>(object: &mut dyn Object) -> Result<&mut T, Status> {
    object.as_any_mut().downcast_mut::<T>().ok_or_else(|| Status::internal(format!("the stored object is no {}", T::KIND)))
}

fn created(call: &Call, warnings: &[String]) -> Response {
    let yes = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = reply::encoded(201, negotiate::negotiate_error(&call.accept()), yes.to_string().into());
    reply::warn(&mut response, warnings);
    response
}

/// What admission had to say besides yes.
pub(super) struct Said {
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

impl Said {
    /// The warnings, once the rest is in the record of the request.
    pub fn to(self, call: &Call) -> Vec<String> {
        verbs::note(call, &self.annotations);
        self.warnings
    }
}

/// Admission of what is created below the object `name`, under whose name and namespace it goes.
pub(super) async fn admitted<T: crate::api::Kind>(
    app: &App,
    kind: &KindDef,
    (namespace, name): (&str, &str),
    mut object: T,
    options: &WriteOptions,
) -> Result<(T, Said), Status> {
    let meta = object.meta_mut();
    meta.name = meta.name.take().filter(|given| !given.is_empty()).or_else(|| Some(name.to_owned()));
    meta.namespace = Some(namespace.to_owned());
    let mut admitted = app.registry.admit_creation(kind, Box::new(object), options).await?;
    let object = std::mem::take(downcast::<T>(admitted.object.as_mut())?);
    Ok((object, Said { warnings: admitted.warnings, annotations: admitted.annotations }))
}

/// POST of a Binding: to `pods/NAME/binding`, or to `bindings`, where the body names the pod.
pub(super) async fn bind(mut call: Call) -> Result<Response, Status> {
    only(call.request.method(), &[http::Method::POST])?;
    let binding: Binding = verbs::typed_body(&mut call).await?;
    let mut options = verbs::write_options(&call)?;
    options.subresource = "binding".into();
    let kind = call.app.kind_of::<Pod>()?;
    let name = Some(call.info.name.clone()).filter(|n| !n.is_empty()).or_else(|| binding.metadata.name.clone()).unwrap_or_default();
    let node = binding.target.name.clone().unwrap_or_default();
    let mut wrong = Vec::new();
    if let Some(kind) = binding.target.kind.as_deref().filter(|k| !["", "Node"].contains(k)) {
        wrong.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        wrong.push(FieldError::required("target.name", ""));
    }
    if !wrong.is_empty() {
        return Err(Status::invalid("", "Binding", &name, wrong));
    }
    let namespace = call.info.namespace.clone();
    let (binding, said) = admitted(&call.app, &kind, (&namespace, &name), binding, &options).await?;
    let warnings = said.to(&call);
    let node = binding.target.name.clone().unwrap_or_default();
    let place = |object: &mut dyn Object| assign(downcast::<Pod>(object)?, &binding, &name, &node);
    call.app.registry.edit(&kind, &namespace, &name, Part::Main, &place, &options).await?;
    // Of a main write the status is kept, so that the condition is a write of its own; the scheduler repeats neither.
    let now = call.now();
    let note = |object: &mut dyn Object| {
        scheduled(downcast::<Pod>(object)?, now);
        Ok(())
    };
    if !options.dry_run {
        call.app.registry.edit(&kind, &namespace, &name, Part::Status, &note, &options).await?;
    }
    Ok(created(&call, &warnings))
}

fn assign(pod: &mut Pod, binding: &Binding, name: &str, node: &str) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, why));
    let asked = &binding.metadata;
    if let Some(uid) = asked.uid.as_deref().filter(|uid| !uid.is_empty() && pod.metadata.uid.as_deref() != Some(uid)) {
        return conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {:?}", pod.metadata.uid));
    }
    if asked.resource_version.as_ref().is_some_and(|rev| !rev.is_empty() && pod.metadata.resource_version.as_ref() != Some(rev)) {
        return Err(Status::modified("", "pods/binding", name));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(present) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node {present:?}"));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name = Some(node.into());
    pod.metadata.annotations.get_or_insert_default().extend(asked.annotations.clone().unwrap_or_default());
    Ok(())
}

fn scheduled(pod: &mut Pod, now: jiff::Timestamp) {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
}

/// POST of an Eviction: a deletion that respects disruption budgets. As upstream's `registry/core/pod/rest/eviction.go`.
pub(super) async fn evict(mut call: Call) -> Result<Response, Status> {
    only(call.request.method(), &[http::Method::POST])?;
    let eviction: Eviction = verbs::typed_body(&mut call).await?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    if eviction.metadata.name.as_deref().is_some_and(|n| n != name) {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = verbs::write_options(&call)?;
    options.dry_run |= call.query.delete(eviction.delete_options.clone())?.1;
    let kind = call.app.kind_of::<Pod>()?;
    let (eviction, said) = admitted(&call.app, &kind, (&namespace, &name), eviction, &options).await?;
    let warnings = said.to(&call);
    let (mut delete, _) = call.query.delete(eviction.delete_options)?;
    let pod = call.app.get::<Pod>(&namespace, &name)?;
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let disrupts = !["Succeeded", "Failed", "Pending"].contains(&phase) && pod.metadata.deletion_timestamp.is_none();
    if disrupts {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let mut budgets = call.app.registry.store().snapshot().list::<PodDisruptionBudget>(Some(&namespace));
        budgets.retain(|b| b.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| rbac::selects(s, &labels)));
        match budgets.as_slice() {
            [] => {}
            [budget] => spend(&call.app, &namespace, budget, &name, &options).await?,
            _ => {
                let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::new(500, "InternalError", why));
            }
        }
    }
    delete.uid = delete.uid.or_else(|| pod.metadata.uid.clone());
    match call.app.registry.delete(&kind, &namespace, &name, &delete, &options).await? {
        Deleted::Gone(_) | Deleted::Pending(_) => Ok(created(&call, &warnings)),
    }
}

/// Takes one disruption from the budget, or says when to try again.
async fn spend(
    app: &App,
    namespace: &str,
    budget: &PodDisruptionBudget,
    pod: &str,
    options: &crate::server::registry::WriteOptions,
) -> Result<(), Status> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let take = |object: &mut dyn Object| {
        let budget = downcast::<PodDisruptionBudget>(object)?;
        let generation = budget.metadata.generation.unwrap_or(0);
        let status = budget.status.get_or_insert_default();
        if status.observed_generation.unwrap_or(0) < generation || status.disruptions_allowed.unwrap_or(0) <= 0 {
            let mut refusal = Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10);
            let message = format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status.desired_healthy.unwrap_or(0),
                status.current_healthy.unwrap_or(0)
            );
            let cause = Cause { reason: "DisruptionBudget".into(), message, field: String::new() };
            refusal.details.get_or_insert_default().causes.push(cause);
            return Err(refusal);
        }
        status.disruptions_allowed = status.disruptions_allowed.map(|left| left - 1);
        status.disrupted_pods.get_or_insert_default().insert(pod.into(), Time(now));
        Ok(())
    };
    let kind = app.kind_of::<PodDisruptionBudget>()?;
    app.registry.edit(&kind, namespace, &name, Part::Status, &take, options).await.map(drop)
}

/// PUT of a Namespace to `/finalize`: replaces `spec.finalizers`.
pub(super) async fn finalize(mut call: Call) -> Result<Response, Status> {
    only(call.request.method(), &[http::Method::PUT])?;
    let wanted: Namespace = verbs::typed_body(&mut call).await?;
    let options = verbs::write_options(&call)?;
    let kind = call.app.kind_of::<Namespace>()?;
    let name = call.info.name.clone();
    let set = |object: &mut dyn Object| {
        let present = downcast::<Namespace>(object)?;
        if wanted.metadata.resource_version.is_some() && wanted.metadata.resource_version != present.metadata.resource_version {
            return Err(Status::modified("", "namespaces", &name));
        }
        present.spec.get_or_insert_default().finalizers = wanted.spec.as_ref().and_then(|s| s.finalizers.clone());
        Ok(())
    };
    let done = call.app.registry.edit(&kind, "", &name, Part::Main, &set, &options).await?;
    verbs::written(&call, &kind, &done)
}

/// `/approval` of a CertificateSigningRequest: its conditions. That nothing else changes is for admission, which knows the subresource.
pub(super) async fn approve(mut call: Call) -> Result<Response, Status> {
    let kind = call.app.kind_of::<CertificateSigningRequest>()?;
    match call.info.verb {
        "get" => {
            let entry = call.app.registry.get(&kind, "", &call.info.name).await?;
            Ok(reply::encoded(200, negotiate::negotiate_plain(&call.accept())?, entry.json.clone()))
        }
        "patch" => verbs::patch(call, &kind, Part::Status).await,
        "update" => {
            let options = verbs::write_options(&call)?;
            let body = verbs::body(&mut call, true).await?;
            let done = call.app.registry.update(&kind, "", &call.info.name, Part::Status, body, &options).await?;
            verbs::written(&call, &kind, &done)
        }
        verb => Err(Status::method_not_allowed(verb)),
    }
}

/// `/scale`: read, replaced or patched as an autoscaling/v1 Scale.
pub(super) async fn scale(mut call: Call) -> Result<Response, Status> {
    let kind = verbs::kind(&call)?;
    if !kind.info.subresources.contains(&Subresource::Scale) {
        return Err(Status::no_such_path());
    }
    let encoding = negotiate::negotiate_plain(&call.accept())?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let options = verbs::write_options(&call)?;
    let registry = call.app.registry.clone();
    let mut warnings = Vec::new();
    let value = match call.info.verb {
        "get" => registry.get_scale(&kind, &namespace, &name).await?,
        "update" => {
            let wanted: Value = verbs::body_as(&mut call, "autoscaling/v1", "Scale").await?;
            let (value, written) =
                registry.edit_scale(&kind, &namespace, &name, ScaleChange::Edit(&|_| Ok(wanted.clone())), &options).await?;
            verbs::note(&call, &written.annotations);
            warnings = written.warnings;
            value
        }
        "patch" => {
            let patch_type = negotiate::patch_type(&call.content_type())?;
            let body = call.body().await?;
            let force = verbs::check_apply(&call, patch_type)?;
            let (value, written) = if patch_type == PatchType::Apply {
                let config = yaml::read(&body, &mut Vec::new())
                    .map_err(|e| Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {e}")))?;
                registry.edit_scale(&kind, &namespace, &name, ScaleChange::Apply { config: &config, force }, &options).await?
            } else {
                let patch: Value = serde_json::from_slice(&body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
                let edit = |scale: Value| patch_scale(scale, &patch, patch_type);
                registry.edit_scale(&kind, &namespace, &name, ScaleChange::Edit(&edit), &options).await?
            };
            verbs::note(&call, &written.annotations);
            warnings = written.warnings;
            value
        }
        verb => return Err(Status::method_not_allowed(verb)),
    };
    let mut response = reply::encoded(200, encoding, value.to_string().into());
    reply::warn(&mut response, &warnings);
    Ok(response)
}

/// A Scale has no lists, so a strategic merge is a merge.
fn patch_scale(mut scale: Value, patch: &Value, patch_type: PatchType) -> Result<Value, Status> {
    match patch_type {
        PatchType::Merge | PatchType::Strategic => json_patch::merge(&mut scale, patch),
        PatchType::Json => {
            let operations: json_patch::Patch =
                serde_json::from_value(patch.clone()).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
            json_patch::patch(&mut scale, &operations)
                .map_err(|e| Status::new(422, "Invalid", format!("the patch does not apply: {e}")))?;
        }
        PatchType::Apply => return Err(Status::internal("a configuration is not applied as a patch")),
    }
    Ok(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings() {
        let table = [
            ("{metadata: {name: p, uid: u}}", "{metadata: {}, target: {name: n1}}", Ok(())),
            ("{metadata: {name: p, uid: u}}", "{metadata: {uid: other}, target: {name: n1}}", Err(409)),
            ("{metadata: {name: p}, spec: {nodeName: n2, containers: []}}", "{metadata: {}, target: {name: n1}}", Err(409)),
            ("{metadata: {name: p, resourceVersion: '5'}}", "{metadata: {resourceVersion: '4'}, target: {name: n1}}", Err(409)),
            ("{metadata: {name: p}, spec: {schedulingGates: [{name: g}], containers: []}}", "{metadata: {}, target: {name: n1}}", Err(409)),
        ];
        for (pod, binding, want) in table {
            let mut pod: Pod = serde_yaml::from_str(pod).unwrap();
            let binding: Binding = serde_yaml::from_str(binding).unwrap();
            assert_eq!(assign(&mut pod, &binding, "p", "n1").map_err(|s| s.code), want, "{binding:?}");
            assert_eq!(want.is_ok(), pod.spec.is_some_and(|s| s.node_name.as_deref() == Some("n1")));
        }
    }

    #[test]
    fn scales_are_patched() {
        let scale = || serde_json::json!({"spec": {"replicas": 1}});
        let json = serde_json::json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]);
        let merge = serde_json::json!({"spec": {"replicas": 3}});
        assert_eq!(patch_scale(scale(), &merge, PatchType::Merge).unwrap()["spec"]["replicas"], 3);
        assert_eq!(patch_scale(scale(), &json, PatchType::Json).unwrap()["spec"]["replicas"], 4);
        let missing = serde_json::json!([{"op": "remove", "path": "/nothing"}]);
        assert_eq!(patch_scale(scale(), &missing, PatchType::Json).map_err(|s| s.code), Err(422));
    }
}
