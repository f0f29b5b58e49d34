//! Match conditions: expressions that must all hold before a webhook or a policy is asked.

use super::compiled::{Failure, Wanted, compile};
use super::types::{ObjectTypes, Scope, env};
use crate::api::cel::{Activation, Budget, Program, Value};

/// Compiled conditions, in order; one that does not compile fails whenever it is asked.
#[derive(Debug, Default)]
pub struct Conditions {
    conditions: Vec<(String, Result<Program, String>)>,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// All hold.
    Yes,
    /// The one of this name does not.
    No(String),
    /// None was found not to hold, but some could not be evaluated.
    Failed(String),
}

impl Conditions {
    /// Compiles `name: expression` pairs. `params` says whether they may use parameters (webhooks have none).
    pub fn new<'s>(sources: impl IntoIterator<Item = (&'s str, &'s str)>, params: bool) -> Conditions {
        let mut env_made = None;
        let mut one = |source: &str| {
            let env = env_made.get_or_insert_with(|| env(Scope { params, authorizer: true, patches: false }, &ObjectTypes::default()));
            compile(env, source, Wanted::Bool)
        };
        Conditions { conditions: sources.into_iter().map(|(name, source)| (name.to_string(), one(source))).collect() }
    }

    /// Whether there are none, so that nothing needs to be prepared for them.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// What is wrong with each, in order.
    pub fn faults(&self) -> impl Iterator<Item = Option<&String>> {
        self.conditions.iter().map(|(_, program)| program.as_ref().err())
    }

    /// Whether they hold. A condition that does not decides, whatever became of the others.
    pub fn met<'a>(&'a self, activation: &Activation<'a>) -> Met {
        let mut budget = Budget::new(Budget::MATCH_CONDITIONS);
        let mut failures: Vec<String> = Vec::new();
        for (name, program) in &self.conditions {
            let value = match program {
                Err(fault) => Err(Failure::Expression(fault.clone())),
                Ok(program) => super::evaluate(program, activation, &mut budget),
            };
            match value {
                Ok(Value::Bool(false)) => return Met::No(name.clone()),
                Ok(_) => {}
                Err(Failure::Budget(text)) => return Met::Failed(text),
                Err(Failure::Expression(text)) => failures.push(text),
            }
        }
        match failures.as_slice() {
            [] => Met::Yes,
            [one] => Met::Failed(one.clone()),
            many => Met::Failed(format!("[{}]", many.join(", "))),
        }
    }
}
