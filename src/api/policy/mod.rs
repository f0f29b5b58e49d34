//! Expressions about requests: what admission policies and the match conditions of webhooks may say, compiled.
//!
//! Words: the *variables* are `object`, `oldObject`, `request`, `namespaceObject`, `params`, `authorizer`, `authorizer.requestResource` and
//! `variables`; a *wanted* type is what an expression must give where it stands.
//!
//! Follows apiserver `pkg/admission/plugin/cel/{compile,condition,composition}.go` and `plugin/webhook/matchconditions`.
//!
//! Never: decides what a refusal looks like; that is admission's.

mod compiled;
mod conditions;
mod types;

pub use compiled::{Failure, Mutation, Patch, Policy, Sources, Validation, Wanted, type_check};
pub use conditions::{Conditions, Met};
pub use types::{ObjectTypes, Scope, namespace_type, request_type};

use super::cel::{Activation, Budget, EvalError, Program, Value};

/// The value of one expression, or upstream's text of what went wrong.
pub fn evaluate<'a>(program: &'a Program, activation: &Activation<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
    program.eval(activation, budget).map_err(|error| match error {
        EvalError::BudgetExceeded => Failure::Budget(error.to_string()),
        error => Failure::Expression(format!("expression '{}' resulted in error: {error}", program.source())),
    })
}
