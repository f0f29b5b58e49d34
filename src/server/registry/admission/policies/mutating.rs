//! Mutating policies: each is asked in turn, on what the last one left.
//!
//! Follows upstream's `plugin/policy/mutating/dispatcher.go`.

use serde_json::Value;

use super::super::Request;
use super::super::matching::Matched;
use super::super::webhooks::decode;
use super::super::webhooks::view::{self, Views};
use super::configured::{Active, Binding, Compiled};
use super::input::{Desk, Input, is_mutable};
use super::{params, patches};
use crate::api::policy::Met;
use crate::api::{Cause, Status};
use crate::server::registry::KindDef;

/// A policy that can't be carried out.
struct Failed {
    binding: Option<String>,
    policy: String,
    why: String,
    /// Empty: `Forbidden`.
    reason: &'static str,
}

impl Failed {
    fn text(&self) -> String {
        match &self.binding {
            Some(binding) => format!("policy '{}' with binding '{binding}' denied request: {}", self.policy, self.why),
            None => format!("policy \"{}\" denied request: {}", self.policy, self.why),
        }
    }
}

/// What went wrong, as far as it counts.
#[derive(Default)]
struct Failures(Vec<Failed>);

impl Failures {
    fn add(&mut self, policy: &Compiled, binding: Option<&Binding>, why: String, reason: &'static str) {
        if !policy.ignores_failure {
            let (policy, binding) = (policy.name.clone(), binding.map(|binding| binding.name.clone()));
            self.0.push(Failed { binding, policy, why, reason });
        }
    }
}

/// Asks all active policies in turn.
pub(super) async fn mutate(request: &mut Request<'_>) -> Result<(), Status> {
    let active = request.policies.mutating(&request.snapshot);
    request.rounds.enter(&**request.object);
    let (mut views, mut failures) = (Views::default(), Failures::default());
    for policy in active.iter() {
        apply(request, policy, &mut views, &mut failures).await?;
    }
    request.rounds.leave(&**request.object);
    let Some(first) = failures.0.first() else { return Ok(()) };
    let mut status = request.forbidden("admission request denied by policy");
    status.message = first.text();
    if !first.reason.is_empty() {
        status.reason = first.reason.into();
    }
    let causes = failures.0.iter().map(|failed| Cause { message: failed.text(), ..Cause::default() });
    status.details.get_or_insert_default().causes.extend(causes);
    Err(status)
}

async fn apply(request: &mut Request<'_>, active: &Active, views: &mut Views, failures: &mut Failures) -> Result<(), Status> {
    let policy = &*active.policy;
    let matched = match policy.matcher.matches(request) {
        Ok(Some(matched)) => matched,
        Ok(None) => return Ok(()),
        Err(status) => {
            failures.add(policy, None, format!("failed to configure policy: {}", status.message), "");
            return Ok(());
        }
    };
    let kind = match params::kind_of(request, policy.param_kind.as_ref()) {
        Ok(kind) => kind,
        Err(why) => {
            failures.add(policy, None, format!("failed to configure policy: {why}"), "");
            return Ok(());
        }
    };
    for binding in &active.bindings {
        let misconfigured = |why: String| format!("failed to configure binding: {why}");
        match binding.matcher.as_ref().map(|matcher| matcher.matches(request)).transpose() {
            Ok(Some(None)) => continue,
            Ok(_) => {}
            Err(status) => {
                failures.add(policy, Some(binding), misconfigured(status.message), "");
                continue;
            }
        }
        match params::collect(request, kind.as_ref(), binding.param_ref.as_ref()).await {
            Err(why) => failures.add(policy, Some(binding), misconfigured(why), ""),
            Ok(params) => {
                for param in &params {
                    invoke(request, policy, binding, param.as_ref(), (&matched, views), failures).await?;
                }
            }
        }
    }
    Ok(())
}

/// One policy with one binding and one parameter.
async fn invoke(
    request: &mut Request<'_>,
    policy: &Compiled,
    binding: &Binding,
    params: Option<&Value>,
    (matched, views): (&Matched, &mut Views),
    failures: &mut Failures,
) -> Result<(), Status> {
    let param = params.map_or(String::new(), |params| format!("{}/{}", params["metadata"]["namespace"], params["metadata"]["name"]));
    let uid = format!("policy/{}/{}/{param}", policy.name, binding.name);
    let view = views.show(request, matched).await?;
    let mut input = Input::new(request, &view)?;
    match conditions(policy, &input, params, &Desk::of(request)) {
        Met::Yes => {}
        Met::No(_) => return Ok(()),
        Met::Failed(why) => {
            failures.add(policy, Some(binding), why, "Invalid");
            return Ok(());
        }
    }
    if !request.rounds.is_due(&uid) {
        return Ok(());
    }
    let mut changed = false;
    let mutations = if is_mutable(request) { policy.policy.mutations.len() } else { 0 };
    for index in 0..mutations {
        let kind: &KindDef = match matched {
            Matched::As(shown) => shown,
            Matched::AsRequested => request.kind,
        };
        match patches::patched(policy, index, &input, params, &Desk::of(request), kind) {
            Err(why) => failures.add(policy, Some(binding), why, "Invalid"),
            Ok(after) if after == *input.object() => {}
            Ok(after) => {
                let defaulted = replace(request, matched, after).await?;
                input.set_object(defaulted);
                changed = true;
            }
        }
    }
    if changed {
        views.forget();
        request.rounds.changed();
    }
    if policy.reinvocable {
        request.rounds.invoked(&uid);
    }
    Ok(())
}

fn conditions(policy: &Compiled, input: &Input, params: Option<&Value>, desk: &Desk<'_>) -> Met {
    match input.activation(params, desk) {
        Ok(activation) => policy.policy.conditions.met(&policy.policy.bind(activation)),
        Err(error) => Met::Failed(error.to_string()),
    }
}

/// Puts the changed object into the request; returns it as it is then shown, with defaults.
async fn replace(request: &mut Request<'_>, matched: &Matched, after: Value) -> Result<Value, Status> {
    match matched {
        Matched::As(shown) if request.subresource() != "scale" => {
            let object = decode(shown, after)?;
            let tree = object.to_value();
            *request.object = view::convert(shown, request.kind, &*object).await?;
            Ok(tree)
        }
        _ => {
            *request.object = request.decode_like(after)?;
            Ok(request.object.to_value())
        }
    }
}
