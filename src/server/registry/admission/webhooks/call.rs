//! Asking one webhook, and what becomes of its answer.
//!
//! Words: a *failure* is that no valid answer came, which the failure policy decides on; a *refusal* is an answer.

use serde_json::{Value, json};

use super::super::{Operation, Request};
use super::hooks::Hook;
use super::review::{self, Gvk, Gvr, Question, Unusable, UserInfo, Verdict};
use super::view::{self, View};
use crate::api::Status;
use crate::api::status::Details;
use crate::server::registry::{CalloutError, DeleteOptions};

/// What came of a call.
#[derive(Debug)]
pub(super) enum Failed {
    /// No valid answer. The text is upstream's `ErrCallingWebhook`.
    Calling(String),
    /// The webhook says no, or its answer can't be carried out: refused whatever the failure policy.
    Refused(Status),
}

impl Failed {
    fn calling(hook: &Hook, why: impl std::fmt::Display) -> Failed {
        Failed::Calling(format!("failed calling webhook {:?}: {why}", hook.name))
    }
}

/// All of a request that is the same for each hook.
pub(super) struct Caller {
    request_kind: Gvk,
    request_resource: Gvr,
    options: Value,
    name: String,
    namespace: String,
}

impl Caller {
    pub(super) fn new(request: &Request<'_>) -> Caller {
        Caller {
            request_kind: view::kind_requested(request),
            request_resource: view::resource_requested(request),
            options: options(request),
            name: request.name_asked(),
            namespace: request.namespace_asked(),
        }
    }

    /// Asks. Does not change the request, so that several may be asked at once.
    pub(super) async fn ask(&self, request: &Request<'_>, hook: &Hook, view: &View, mutating: bool) -> Result<Verdict, Failed> {
        if request.options.dry_run && !hook.dry_runs {
            let why = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Failed::Refused(Status::bad_request(why)));
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Failed::calling(hook, why));
        };
        let uid = uuid::Uuid::new_v4().to_string();
        let question = Question {
            uid: &uid,
            kind: &view.kind,
            resource: &view.resource,
            sub_resource: request.subresource(),
            request_kind: &self.request_kind,
            request_resource: &self.request_resource,
            request_sub_resource: request.subresource(),
            name: &self.name,
            namespace: &self.namespace,
            operation: request.operation.as_str(),
            user_info: UserInfo::from(&*request.options.user),
            dry_run: request.options.dry_run,
            options: &self.options,
        };
        let body = review::encode(version, &question, view.object.as_deref(), view.old.as_deref());
        let query = format!("timeout={}s", hook.timeout.as_secs());
        let callout = &request.parts.callout;
        let answer = callout.post(&hook.client, &query, body, hook.timeout).await.map_err(|error| match error {
            CalloutError::Unusable(why) => Failed::calling(hook, format_args!("could not get REST client: {why}")),
            CalloutError::Failed(why) => Failed::calling(hook, format_args!("failed to call webhook: {why}")),
        })?;
        let verdict = review::decode(version, &uid, mutating, &answer).map_err(|unusable| match unusable {
            Unusable::Undecodable(why) => Failed::calling(hook, format_args!("failed to call webhook: {why}")),
            Unusable::Invalid(why) => Failed::calling(hook, format_args!("received invalid webhook response: {why}")),
        })?;
        Ok(verdict)
    }
}

/// The options of the request, as the operation has them.
pub(in crate::server::registry::admission) fn options(request: &Request<'_>) -> Value {
    let write = request.options;
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = match (request.operation, request.deletion) {
        (Operation::Delete, Some(deletion)) => deletion_options(deletion),
        _ => json!({}),
    };
    options["kind"] = kind.into();
    options["apiVersion"] = "meta.k8s.io/v1".into();
    if write.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if request.operation != Operation::Delete {
        if !write.field_manager.is_empty() {
            options["fieldManager"] = write.field_manager.as_str().into();
        }
        options["fieldValidation"] = write.field_validation.as_str().into();
    }
    options
}

fn deletion_options(deletion: &DeleteOptions) -> Value {
    let mut options = json!({});
    if let Some(grace) = deletion.grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    if let Some(policy) = &deletion.propagation {
        options["propagationPolicy"] = policy.as_str().into();
    }
    if let Some(uid) = &deletion.uid {
        options["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(rev) = deletion.rev {
        options["preconditions"]["resourceVersion"] = rev.to_string().into();
    }
    options
}

/// The refusal of a webhook as the client sees it (upstream's `webhook/errors.ToStatusErr`).
pub(super) fn denial(hook: &str, status: &Value) -> Status {
    let text = |field: &str| status.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let by = format!("admission webhook {hook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        (Some(message), _) => format!("{by}: {message}"),
        (None, Some(reason)) => format!("{by}: {reason}"),
        (None, None) => format!("{by} without explanation"),
    };
    let code = status.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    let mut denial = Status::new(code, text("reason").unwrap_or_default().to_owned(), message);
    denial.details = status.get("details").and_then(|details| serde_json::from_value::<Details>(details.clone()).ok()).map(Box::new);
    denial
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials() {
        for (status, code, reason, message) in [
            (serde_json::json!(null), 400, "", "admission webhook \"h\" denied the request without explanation"),
            (serde_json::json!({"message": "no", "code": 403}), 403, "", "admission webhook \"h\" denied the request: no"),
            (serde_json::json!({"reason": "Because", "code": 200}), 400, "Because", "admission webhook \"h\" denied the request: Because"),
            (serde_json::json!({"code": 99999}), 400, "", "admission webhook \"h\" denied the request without explanation"),
        ] {
            let denial = denial("h", &status);
            assert_eq!((denial.code, &*denial.reason, denial.message.as_str()), (code, reason, message), "{status}");
        }
        let with_causes = serde_json::json!({"message": "no", "details": {"causes": [{"reason": "R", "message": "m", "field": "f"}]}});
        assert_eq!(denial("h", &with_causes).details.unwrap().causes[0].field, "f");
    }
}
