//! One rule, compiled.

use crate::api::cel::{DeclType, Env, Program, Type};
use crate::api::structural::{Rule, Schema, valid_field_path};

/// Most bytes in which anything may be sent, by which the number of unbounded elements is estimated.
const MAX_REQUEST: u64 = 3 << 20;

/// A rule and its message, or what is wrong with them.
#[derive(Debug)]
pub struct Compiled {
    /// The rule, or why it is none.
    pub rule: Result<Program, String>,
    /// The expression for its message, or why it is none.
    pub message: Option<Result<Program, String>>,
    /// Whether it speaks of `oldSelf`.
    pub transition: bool,
    /// Whose fault a violation is, below the value: `a.b[c]`.
    pub field: Option<String>,
    /// Worst case of one evaluation.
    pub cost: u64,
    /// Worst case of one evaluation of the message.
    pub message_cost: u64,
    /// How many such values there can be in one request, if nothing around them is bounded.
    pub most_values: u64,
}

/// Compiles a rule of `schema`, whose values are declared as `decl` (`None`: no expression can see them).
pub fn compile_rule(rule: &Rule, schema: &Schema, decl: Option<&DeclType>) -> Compiled {
    let missing = || Err("failed to retrieve type information for x-kubernetes-validations".to_owned());
    let env = decl.map(|decl| {
        let old = if rule.optional_old_self == Some(true) { Type::optional(decl.ty.clone()) } else { decl.ty.clone() };
        Env::new().with("self", decl.ty.clone()).with("oldSelf", old)
    });
    let compile = |source: &str, wanted: Type, failed: &str, mistyped: &str| match &env {
        None => missing(),
        Some(env) => match env.compile(source) {
            Err(errors) => Err(format!("{failed}: {errors}")),
            Ok(program) if *program.result_type() != wanted && *program.result_type() != Type::Dyn => Err(mistyped.to_owned()),
            Ok(program) => Ok(program),
        },
    };
    let compiled = compile(&rule.rule, Type::Bool, "compilation failed", "cel expression must evaluate to a bool");
    let message = (!rule.message_expression.trim().is_empty()).then(|| {
        compile(
            &rule.message_expression,
            Type::String,
            "messageExpression compilation failed",
            "messageExpression must evaluate to a string",
        )
    });
    let cost = |program: &Result<Program, String>| match (program, decl) {
        (Ok(program), Some(decl)) => program.estimate(decl).max,
        _ => 0,
    };
    let field = (!rule.field_path.is_empty()).then(|| valid_field_path(&rule.field_path, schema, true).ok()).flatten();
    Compiled {
        transition: compiled.as_ref().is_ok_and(|program| program.references("oldSelf")),
        cost: cost(&compiled),
        message_cost: message.as_ref().map(cost).unwrap_or_default(),
        most_values: MAX_REQUEST / (decl.map(|decl| decl.min_size).unwrap_or_default() + 1),
        field: field.map(|path| path.shown),
        rule: compiled,
        message,
    }
}
