//! Validating policies: what they find, and what becomes of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::Request;
use super::super::webhooks::view::Views;
use super::configured::{Active, Binding, Compiled};
use super::input::{Desk, Input};
use super::params;
use crate::api::cel::{self, Activation, Budget};
use crate::api::policy::{Failure, Met, Validation, evaluate};
use crate::api::{Cause, Status};

/// Longest value of an audit annotation, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;
/// Longest message that a `messageExpression` may give, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// All that was found.
#[derive(Default)]
struct Findings {
    denials: Vec<Denial>,
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

/// Why the request is refused.
struct Denial {
    policy: String,
    binding: Option<String>,
    message: String,
    /// Empty: `Invalid`.
    reason: String,
}

/// What one expression says.
struct Verdict {
    allowed: bool,
    message: String,
    reason: String,
}

/// Asks all active policies; the first denial is the answer.
pub(super) async fn validate(request: &mut Request<'_>) -> Result<(), Status> {
    let active = request.policies.validating(&request.snapshot);
    let (mut views, mut found) = (Views::default(), Findings::default());
    for policy in active.iter() {
        judge(request, policy, &mut views, &mut found).await?;
    }
    request.findings.warnings.append(&mut found.warnings);
    request.findings.annotations.append(&mut found.annotations);
    found.denials.first().map_or(Ok(()), |denial| Err(status(request, denial)))
}

fn status(request: &Request<'_>, denial: &Denial) -> Status {
    let message = match &denial.binding {
        Some(binding) => {
            format!("ValidatingAdmissionPolicy '{}' with binding '{binding}' denied request: {}", denial.policy, denial.message)
        }
        None => format!("ValidatingAdmissionPolicy '{}' denied request: {}", denial.policy, denial.message),
    };
    let mut status = request.forbidden(&message);
    let reason = if denial.reason.is_empty() { "Invalid".into() } else { denial.reason.clone() };
    status.code = match reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason = reason.into();
    status.details.get_or_insert_default().causes.push(Cause { message, ..Cause::default() });
    status
}

/// A policy or binding that can't be applied: a denial, unless failures are ignored.
fn misconfigured(policy: &Compiled, binding: Option<&Binding>, why: &str, found: &mut Findings) {
    if !policy.ignores_failure {
        let what = if binding.is_some() { "binding" } else { "policy" };
        found.denials.push(Denial {
            policy: policy.name.clone(),
            binding: binding.map(|binding| binding.name.clone()),
            message: format!("failed to configure {what}: {why}"),
            reason: String::new(),
        });
    }
}

async fn judge(request: &Request<'_>, active: &Active, views: &mut Views, found: &mut Findings) -> Result<(), Status> {
    let policy = &*active.policy;
    let matched = match policy.matcher.matches(request) {
        Ok(Some(matched)) => matched,
        Ok(None) => return Ok(()),
        Err(status) => {
            misconfigured(policy, None, &status.message, found);
            return Ok(());
        }
    };
    let kind = match params::kind_of(request, policy.param_kind.as_ref()) {
        Ok(kind) => kind,
        Err(why) => {
            misconfigured(policy, None, &why, found);
            return Ok(());
        }
    };
    let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut input = None;
    for binding in &active.bindings {
        match binding.matcher.as_ref().map(|matcher| matcher.matches(request)).transpose() {
            Ok(Some(None)) => continue,
            Ok(_) => {}
            Err(status) => {
                misconfigured(policy, Some(binding), &status.message, found);
                continue;
            }
        }
        let params = match params::collect(request, kind.as_ref(), binding.param_ref.as_ref()).await {
            Ok(params) => params,
            Err(why) => {
                misconfigured(policy, Some(binding), &why, found);
                continue;
            }
        };
        if input.is_none() && !params.is_empty() {
            let view = views.show(request, &matched).await?;
            input = Some(Input::new(request, &view)?);
        }
        for param in &params {
            let Some(input) = &input else { continue };
            let notes = run(policy, input, param.as_ref(), &Desk::of(request), binding, found);
            for (key, value) in notes {
                let known = annotations.entry(key).or_default();
                if !known.contains(&value) {
                    known.push(value);
                }
            }
        }
    }
    found.annotations.extend(annotations.into_iter().map(|(key, values)| (format!("{}/{key}", policy.name), values.join(", "))));
    Ok(())
}

/// One judgement: adds what it finds, returns the audit annotations.
fn run(
    policy: &Compiled,
    input: &Input,
    params: Option<&Value>,
    desk: &Desk<'_>,
    binding: &Binding,
    found: &mut Findings,
) -> Vec<(String, String)> {
    let failed = |message: String| Verdict { allowed: policy.ignores_failure, message, reason: String::new() };
    let activation = match input.activation(params, desk) {
        Ok(activation) => policy.policy.bind(activation),
        Err(error) => {
            settle(policy, binding, &[failed(error.to_string())], found);
            return Vec::new();
        }
    };
    match policy.policy.conditions.met(&activation) {
        Met::Yes => {}
        Met::No(_) => return Vec::new(),
        Met::Failed(why) => {
            // Upstream does not apply the policy at all if failures are ignored.
            settle(policy, binding, &[failed(why)], found);
            return Vec::new();
        }
    }
    let verdicts = verdicts(policy, &activation).unwrap_or_else(|why| vec![failed(why)]);
    settle(policy, binding, &verdicts, found);
    match annotate(policy, &activation) {
        Ok(notes) => notes,
        Err(message) => {
            let (policy, binding) = (policy.name.clone(), Some(binding.name.clone()));
            found.denials.push(Denial { policy, binding, message, reason: String::new() });
            Vec::new()
        }
    }
}

/// Does what the binding wants done with failed validations.
fn settle(policy: &Compiled, binding: &Binding, verdicts: &[Verdict], found: &mut Findings) {
    for (index, verdict) in verdicts.iter().enumerate().filter(|(_, verdict)| !verdict.allowed) {
        let message = &verdict.message;
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => found.denials.push(Denial {
                    policy: policy.name.clone(),
                    binding: Some(binding.name.clone()),
                    message: message.clone(),
                    reason: verdict.reason.clone(),
                }),
                "Warn" => found.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                    policy.name, binding.name
                )),
                "Audit" => {
                    let key = "validation.policy.admission.k8s.io/validation_failure";
                    let value = json!([{
                        "message": message, "policy": policy.name, "binding": binding.name, "expressionIndex": index,
                        "validationActions": binding.actions,
                    }]);
                    // One annotation has one value: the first stands, as upstream's does.
                    if found.annotations.iter().all(|(known, _)| known != key) {
                        found.annotations.push((key.into(), value.to_string()));
                    }
                }
                _ => {}
            }
        }
    }
}

/// What each validation says. The error is that the budget is spent.
fn verdicts<'a>(policy: &'a Compiled, activation: &Activation<'a>) -> Result<Vec<Verdict>, String> {
    let mut budget = Budget::new(Budget::RUNTIME);
    let mut outcomes = Vec::new();
    for validation in &policy.policy.validations {
        outcomes.push(match &validation.expression {
            Err(fault) => Err(fault.clone()),
            Ok(program) => match evaluate(program, activation, &mut budget) {
                Ok(value) => Ok(matches!(value, cel::Value::Bool(true))),
                Err(Failure::Expression(why)) => Err(why),
                Err(Failure::Budget(why)) => return Err(why),
            },
        });
    }
    let mut verdicts = Vec::new();
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let refusal = &policy.refusals[index];
        verdicts.push(match outcome {
            Ok(true) => Verdict { allowed: true, message: String::new(), reason: String::new() },
            Ok(false) => match message(&policy.policy.validations[index], activation, &mut budget) {
                Ok(made) => {
                    let plain = || Some(refusal.message.clone()).filter(|message| !message.is_empty());
                    let message = made.or_else(plain).unwrap_or_else(|| format!("failed expression: {}", refusal.expression));
                    Verdict { allowed: false, message, reason: refusal.reason.clone() }
                }
                Err(why) => {
                    let message = format!("failed messageExpression: {why}");
                    Verdict { allowed: policy.ignores_failure, message, reason: String::new() }
                }
            },
            Err(why) => Verdict { allowed: policy.ignores_failure, message: why, reason: String::new() },
        });
    }
    Ok(verdicts)
}

/// What the `messageExpression` says; `None` if it says nothing of use. The error is that the budget is spent.
fn message<'a>(validation: &'a Validation, activation: &Activation<'a>, budget: &mut Budget) -> Result<Option<String>, String> {
    let Some(Ok(program)) = &validation.message else { return Ok(None) };
    match evaluate(program, activation, budget) {
        Ok(cel::Value::String(text)) => {
            let text = text.as_str().trim();
            Ok(Some(text.to_owned()).filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')))
        }
        Ok(_) => Ok(None),
        Err(Failure::Budget(why)) => Err(why),
        Err(Failure::Expression(why)) => {
            tracing::debug!(why, "a messageExpression failed");
            Ok(None)
        }
    }
}

/// The audit annotations. The error refuses the request.
fn annotate<'a>(policy: &'a Compiled, activation: &Activation<'a>) -> Result<Vec<(String, String)>, String> {
    let mut budget = Budget::new(Budget::RUNTIME);
    let mut notes = Vec::new();
    for (key, program) in &policy.policy.annotations {
        let value = match program {
            Err(fault) => Err(fault.clone()),
            Ok(program) => evaluate(program, activation, &mut budget).map_err(|failure| match failure {
                Failure::Budget(why) | Failure::Expression(why) => why,
            }),
        };
        match value {
            Ok(cel::Value::String(text)) => {
                let text = text.as_str().trim();
                let end = (0..=text.len().min(MAX_ANNOTATION)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                if !text.is_empty() {
                    notes.push((key.clone(), text[..end].into()));
                }
            }
            Ok(_) => {}
            Err(_) if policy.ignores_failure => {}
            Err(why) => return Err(why),
        }
    }
    Ok(notes)
}
