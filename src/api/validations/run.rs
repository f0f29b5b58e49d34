//! Rules over values.

use std::sync::Arc;

use serde_json::Value;

use super::{Compiled, Node};
use crate::api::FieldError;
use crate::api::cel::{Activation, Budget, DeclType, EvalError, Program, Value as Cel};
use crate::api::structural::{Additional, Path, Rule, Schema};

/// Most bytes of a message that an expression makes.
const LONGEST_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// No rule may be run any more.
pub(super) struct Exhausted;

/// One object's rules, under way.
pub(super) struct Run {
    pub budget: Budget,
    pub errors: Vec<FieldError>,
}

/// What is known of a value's past, for ratcheting: itself then and now, or the nearest value around it of which that is known.
#[derive(Clone, Copy)]
pub(super) struct Ratchet<'a> {
    here: Option<(&'a Value, &'a Value)>,
    around: Option<(&'a Value, &'a Value)>,
}

impl<'a> Ratchet<'a> {
    pub fn root(value: &'a Value, old: Option<&'a Value>) -> Ratchet<'a> {
        Ratchet { here: old.map(|old| (value, old)), around: None }
    }

    /// Whether what is wrong here was so before, and nothing was changed.
    fn excuses(&self) -> bool {
        self.here.or(self.around).is_some_and(|(new, old)| new == old)
    }

    fn field(self, name: &str) -> Ratchet<'a> {
        let Some((new, old)) = self.here else { return self };
        // Of these the stored form is another.
        if self.around.is_none() && ["apiVersion", "kind"].contains(&name) {
            return Ratchet { here: None, around: None };
        }
        Ratchet { here: new.get(name).zip(old.get(name)), around: self.here }
    }

    fn element(self, value: &'a Value, old: Option<&'a Value>) -> Ratchet<'a> {
        if self.here.is_none() {
            return self;
        }
        Ratchet { here: old.map(|old| (value, old)), around: self.here }
    }
}

impl Run {
    pub fn node(
        &mut self,
        node: &Node,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
        path: Path<'_>,
    ) -> Result<(), Exhausted> {
        if value.is_null() {
            return Ok(());
        }
        self.rules(node, schema, value, old.filter(|old| !old.is_null()), ratchet, path)?;
        match value {
            Value::Object(map) => {
                let old = old.filter(|_| schema.map_type.as_deref() != Some("atomic"));
                for (name, value) in map {
                    let was = old.and_then(|old| old.get(name));
                    if let Some((node, schema)) = node.properties.get(name).zip(schema.properties.get(name)) {
                        self.node(node, schema, value, was, ratchet.field(name), path.field(name))?;
                    } else if let (Some(node), Additional::Schema(other)) = (&node.additional, &schema.additional)
                        && !schema.properties.contains_key(name)
                    {
                        self.node(node, other, value, was, ratchet.field(name), path.key(name))?;
                    }
                }
            }
            Value::Array(list) => {
                let Some((node, items)) = node.items.as_ref().zip(schema.items.as_ref()) else { return Ok(()) };
                for (index, value) in list.iter().enumerate() {
                    let was = same_element(value, old, schema);
                    self.node(node, items, value, was, ratchet.element(value, was), path.index(index))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(
        &mut self,
        node: &Node,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
        path: Path<'_>,
    ) -> Result<(), Exhausted> {
        let kind = if node.is_resource { "object" } else { schema.type_.as_str() };
        let decl = node.decl.as_ref();
        for (rule, compiled) in &node.rules {
            let program = match &compiled.rule {
                Ok(program) => program,
                Err(why) => {
                    self.errors.push(invalid(path, kind, format!("rule compile error: {why}")));
                    continue;
                }
            };
            let optional = rule.optional_old_self == Some(true);
            if compiled.transition && old.is_none() && !optional {
                continue;
            }
            let activation = match activation(value, old, decl, optional) {
                Ok(activation) => activation,
                Err(why) => {
                    self.errors.push(invalid(path, kind, format!("{why} evaluating rule: {}", said(rule))));
                    continue;
                }
            };
            let failed = match program.eval(&activation, &mut self.budget) {
                Ok(Cel::Bool(true)) => continue,
                Ok(_) => None,
                Err(error) => Some(error),
            };
            match failed {
                None => self.violated(rule, compiled, &activation, schema, value, ratchet, path)?,
                Some(error @ EvalError::Failure(_)) => {
                    let text = error.to_string();
                    let why = match text.starts_with("no such overload") {
                        true => format!(
                            "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                            said(rule)
                        ),
                        false => format!("{text} evaluating rule: {}", said(rule)),
                    };
                    self.errors.push(invalid(path, kind, why));
                }
                Some(EvalError::CostExceeded) => {
                    let error = EvalError::CostExceeded;
                    let why = format!(
                        "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        said(rule)
                    );
                    self.errors.push(invalid(path, kind, why));
                    return Err(Exhausted);
                }
                Some(EvalError::BudgetExceeded | EvalError::Interrupted) => {
                    self.errors.push(invalid(path, kind, OUT_OF_BUDGET));
                    return Err(Exhausted);
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "all of them say where and how one rule was violated")]
    fn violated<'a>(
        &mut self,
        rule: &Rule,
        compiled: &'a Compiled,
        activation: &Activation<'a>,
        schema: &Schema,
        value: &Value,
        ratchet: Ratchet<'_>,
        path: Path<'_>,
    ) -> Result<(), Exhausted> {
        if !compiled.transition && ratchet.excuses() {
            return Ok(());
        }
        let detail = match &compiled.message {
            Some(Ok(program)) => self.message(program, activation)?,
            _ => None,
        };
        let detail = detail.unwrap_or_else(|| match rule.message.trim() {
            "" => format!("failed rule: {}", rule.rule.trim()),
            text => text.to_owned(),
        });
        let field = match &compiled.field {
            None => shown(path),
            Some(below) => path.field(below).to_string(),
        };
        self.errors.push(match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(field, detail),
            "FieldValueRequired" => FieldError::required(field, detail),
            "FieldValueDuplicate" => FieldError::duplicate(field, value),
            _ if ["object", "array"].contains(&schema.type_.as_str()) => {
                FieldError { reason: "FieldValueInvalid", field, message: format!("Invalid value: {detail}") }
            }
            _ => FieldError::invalid(field, value, detail),
        });
        Ok(())
    }

    /// What an expression says of a violation; `None` when it says nothing of use.
    fn message<'a>(&mut self, program: &'a Program, activation: &Activation<'a>) -> Result<Option<String>, Exhausted> {
        match program.eval(activation, &mut self.budget) {
            Ok(Cel::String(text)) => {
                let text = text.as_str().trim();
                Ok((!text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n')).then(|| text.to_owned()))
            }
            Ok(_) | Err(EvalError::Failure(_)) => Ok(None),
            Err(_) => Err(Exhausted),
        }
    }
}

fn activation<'a>(
    value: &'a Value,
    old: Option<&'a Value>,
    decl: Option<&'a DeclType>,
    optional: bool,
) -> Result<Activation<'a>, EvalError> {
    let mut activation = Activation::new().with("self", Cel::from_json(value, decl)?);
    let old = old.map(|old| Cel::from_json(old, decl)).transpose()?;
    match (old, optional) {
        (old, true) => activation = activation.with("oldSelf", Cel::Optional(old.map(Arc::new))),
        (Some(old), false) => activation = activation.with("oldSelf", old),
        (None, false) => {}
    }
    Ok(activation)
}

/// The rule as errors name it.
fn said(rule: &Rule) -> &str {
    match rule.message.trim() {
        "" => rule.rule.trim(),
        message => message,
    }
}

/// As upstream shows a path that is not there.
fn shown(path: Path<'_>) -> String {
    if path.is_root() { "<nil>".into() } else { path.to_string() }
}

fn invalid(path: Path<'_>, kind: &str, why: impl std::fmt::Display) -> FieldError {
    FieldError::invalid(shown(path), kind, why)
}

/// The element of the old list that has the same keys.
fn same_element<'a>(value: &Value, old: Option<&'a Value>, schema: &Schema) -> Option<&'a Value> {
    let old = old?.as_array().filter(|_| schema.list_type.as_deref() == Some("map"))?;
    old.iter().find(|other| schema.list_map_keys.iter().all(|key| other.get(key) == value.get(key)))
}
