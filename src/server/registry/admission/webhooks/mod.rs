//! Admission webhooks: the two plug-ins that ask servers outside.
//!
//! Words: a *hook* is one webhook of a configuration; it is *asked* with an AdmissionReview; a *round* is one pass over all mutating
//! admission, of which there are at most two (see [`Rounds`](super::rounds::Rounds)).
//!
//! Mutating hooks are asked one after the other, by name of their configurations, each on what the last one left; validating ones all at
//! once. A failure to call is decided by the hook's failure policy, a refusal stands.
//!
//! Invariants: without a configuration there is no work; no hook is asked about the configurations of hooks and policies.
//!
//! Follows upstream's `apiserver/pkg/admission/plugin/webhook/{generic,mutating,validating}`.

pub(super) mod call;
mod hooks;
pub(super) mod review;
pub(super) mod view;

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::policy::v1::Eviction;
use serde_json::Value;

use super::matching::{self, Matched};
use super::policies::input::{Desk, Input};
use super::{AsyncCheck, Operation, Request};
use crate::api::policy::Met;
use crate::api::{Status, patch};
use call::{Caller, Failed};
pub(in crate::server::registry) use hooks::Configured;
use hooks::Hook;
use review::Verdict;
use view::{View, Views};

/// `MutatingAdmissionWebhook`.
pub(super) struct Mutating;
/// `ValidatingAdmissionWebhook`.
pub(super) struct Validating;

/// Whether hooks may be asked about this at all. Subresources that speak a kind of their own are admitted as that kind; the write of the
/// object itself that follows is the server's own.
pub(super) fn concerns(request: &Request<'_>) -> bool {
    let spoken = || {
        let object = request.object.as_any();
        object.is::<Binding>() || object.is::<Eviction>() || object.is::<Scale>() || object.is::<TokenRequest>()
    };
    let speaks = ["binding", "eviction", "scale", "token"].contains(&request.subresource());
    !matching::is_exempt(request.kind.group(), request.kind.resource()) && (!speaks || spoken())
}

impl AsyncCheck for Mutating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !request.hooks.mutating(&request.snapshot).is_empty() && concerns(request)
    }

    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(mutate(request))
    }

    fn validate<'a>(&'a self, _: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl AsyncCheck for Validating {
    fn handles(&self, request: &Request<'_>) -> bool {
        !request.hooks.validating(&request.snapshot).is_empty() && concerns(request)
    }

    fn mutate<'a>(&'a self, _: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(validate(request))
    }
}

/// Whether the hook's match conditions hold. What can't be evaluated is decided by its failure policy: the request is refused, or the hook
/// is not asked.
fn conditions_hold(request: &Request<'_>, hook: &Hook, view: &View) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let (input, desk) = (Input::new(request, view)?, Desk::of(request));
    let activation = input.activation(None, &desk).map_err(Status::internal)?;
    match hook.conditions.met(&activation) {
        Met::Yes => Ok(true),
        Met::No(_) => Ok(false),
        Met::Failed(_) if hook.ignores_failure => Ok(false),
        Met::Failed(why) => Err(request.forbidden(why)),
    }
}

/// What the failure policy makes of a call: `Ok(None)` is a failure that counts for nothing.
fn settle(hook: &Hook, outcome: Result<Verdict, Failed>) -> Result<Option<Verdict>, Status> {
    match outcome {
        Ok(verdict) => Ok(Some(verdict)),
        Err(Failed::Refused(status)) => Err(status),
        Err(Failed::Calling(why)) if hook.ignores_failure => {
            tracing::warn!(hook = hook.name, why, "a webhook failed, and is ignored as its failure policy says");
            Ok(None)
        }
        Err(Failed::Calling(why)) => {
            tracing::warn!(hook = hook.name, why, "a webhook failed, and the request with it as its failure policy says");
            Err(Status::internal(why))
        }
    }
}

/// Keeps what the hook says besides yes or no; the error is its no.
fn note(request: &mut Request<'_>, hook: &Hook, verdict: &mut Verdict) -> Result<(), Status> {
    let annotations = std::mem::take(&mut verdict.annotations);
    request.findings.annotations.extend(annotations.into_iter().map(|(key, value)| (format!("{}/{key}", hook.name), value)));
    request.findings.warnings.append(&mut verdict.warnings);
    if verdict.allowed { Ok(()) } else { Err(call::denial(&hook.name, &verdict.status)) }
}

async fn mutate(request: &mut Request<'_>) -> Result<(), Status> {
    let hooks = request.hooks.mutating(&request.snapshot);
    request.rounds.enter(&**request.object);
    let mut views = Views::default();
    for (index, hook) in hooks.iter().enumerate() {
        let Some(matched) = hook.matcher.matches(request)? else { continue };
        if !request.rounds.is_due(&hook.uid) {
            continue;
        }
        let view = views.show(request, &matched).await?;
        if !conditions_hold(request, hook, &view)? {
            continue;
        }
        let outcome = Caller::new(request).ask(request, hook, &view, true).await;
        let place = format!("round_{}_index_{index}", request.rounds.number());
        let settled = settle(hook, outcome);
        let mut changed = false;
        let refused = match settled {
            Ok(Some(mut verdict)) => match note(request, hook, &mut verdict) {
                Ok(()) => {
                    changed = apply(request, hook, &matched, &view, &verdict).await?;
                    None
                }
                Err(status) => Some(status),
            },
            Ok(None) => {
                let key = format!("failed-open.mutating.webhook.admission.k8s.io/{place}");
                request.findings.annotations.push((key, hook.name.clone()));
                None
            }
            Err(status) => Some(status),
        };
        let told = serde_json::json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        request.findings.annotations.push((format!("mutation.webhook.admission.k8s.io/{place}"), told.to_string()));
        if let Some(status) = refused {
            return Err(status);
        }
        if changed {
            views.forget();
            request.rounds.changed();
        }
        if hook.reinvocable {
            request.rounds.invoked(&hook.uid);
        }
    }
    request.rounds.leave(&**request.object);
    Ok(())
}

/// Carries out the patch of an answer; says whether the object is another now.
async fn apply(request: &mut Request<'_>, hook: &Hook, matched: &Matched, view: &View, verdict: &Verdict) -> Result<bool, Status> {
    if verdict.patch.is_empty() {
        return Ok(false);
    }
    if verdict.patch_type != "JSONPatch" {
        let why = format!("failed calling webhook {:?}: unsupported patch type {:?}", hook.name, verdict.patch_type);
        return settle(hook, Err(Failed::Calling(why))).map(|_| false);
    }
    let operations: Vec<Value> = serde_json::from_slice(&verdict.patch).map_err(Status::internal)?;
    if operations.is_empty() {
        return Ok(false);
    }
    let Some(json) = &view.object else {
        let why = format!("admission webhook {:?} attempted to modify the object, which is not supported for this operation", hook.name);
        return Err(Status::internal(why));
    };
    let before: Value = serde_json::from_slice(json).map_err(Status::internal)?;
    let after = patch::json(&before, &verdict.patch).map_err(Status::internal)?;
    if after == before {
        return Ok(false);
    }
    let object = match matched {
        Matched::As(shown) if request.subresource() != "scale" => {
            let object = decode(shown, after)?;
            view::convert(shown, request.kind, &*object).await?
        }
        _ => request.decode_like(after)?,
    };
    *request.object = object;
    Ok(true)
}

/// A patched tree as an object of the kind, defaulted.
pub(super) fn decode(kind: &crate::server::registry::KindDef, tree: Value) -> Result<Box<dyn crate::api::Object>, Status> {
    let mut object = kind.decode(tree, &mut |_| ()).map_err(|fault| Status::internal(format_args!("{}: {}", fault.path, fault.error)))?;
    kind.apply_defaults(object.as_mut());
    Ok(object)
}

async fn validate(request: &mut Request<'_>) -> Result<(), Status> {
    let hooks = request.hooks.validating(&request.snapshot);
    let mut views = Views::default();
    let mut relevant: Vec<(usize, &Arc<Hook>, Arc<View>)> = Vec::new();
    for (index, hook) in hooks.iter().enumerate() {
        if let Some(matched) = hook.matcher.matches(request)? {
            let view = views.show(request, &matched).await?;
            if conditions_hold(request, hook, &view)? {
                relevant.push((index, hook, view));
            }
        }
    }
    if relevant.is_empty() {
        return Ok(());
    }
    let caller = Caller::new(request);
    let shared: &Request<'_> = request;
    let outcomes = join_all(relevant.iter().map(|(_, hook, view)| caller.ask(shared, hook, view, false))).await;
    let mut refused = None;
    for ((index, hook, _), outcome) in relevant.iter().zip(outcomes) {
        let status = match settle(hook, outcome) {
            Ok(Some(mut verdict)) => note(request, hook, &mut verdict).err(),
            Ok(None) => {
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                request.findings.annotations.push((key, hook.name.clone()));
                None
            }
            Err(status) => Some(status),
        };
        refused = refused.or(status);
    }
    refused.map_or(Ok(()), Err)
}

impl Request<'_> {
    /// A patched tree as an object of the type that the request carries.
    pub(super) fn decode_like(&self, tree: Value) -> Result<Box<dyn crate::api::Object>, Status> {
        fn typed<T: crate::api::Kind>(tree: Value) -> Result<Box<dyn crate::api::Object>, Status> {
            serde_json::from_value::<T>(tree).map(|object| Box::new(object) as _).map_err(Status::internal)
        }
        let object = self.object.as_any();
        if self.operation == Operation::Connect {
            return Ok(Box::new(super::connect::ConnectOptions::from_tree(tree, self.object.meta())));
        }
        match () {
            () if object.is::<Binding>() => typed::<Binding>(tree),
            () if object.is::<Eviction>() => typed::<Eviction>(tree),
            () if object.is::<Scale>() => typed::<Scale>(tree),
            () if object.is::<TokenRequest>() => typed::<TokenRequest>(tree),
            () => decode(self.kind, tree),
        }
    }
}
