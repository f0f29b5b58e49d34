//! `x-kubernetes-validations` of a definition: their form, and whether they compile at a bearable cost.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use super::super::support::path::{Errors, Path};
use super::openapi;
use crate::api::FieldError;
use crate::api::cel::DeclType;
use crate::api::structural::{self, Rule, Schema, valid_field_path};
use crate::api::validations::{Compiled, Validations, compile_rule};

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// The form of a node's rules.
pub(super) fn form(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps) {
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let parsed = Schema::parse(schema).ok();
    for (index, rule) in schema.x_kubernetes_validations.iter().flatten().enumerate() {
        let path = path.at("x-kubernetes-validations").index(index);
        let (message, expression) = (rule.message.as_deref().unwrap_or_default(), rule.message_expression.as_deref().unwrap_or_default());
        if rule.rule.trim().is_empty() {
            errors.push(FieldError::required(path.at("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(path.at("message"), message, "message must be non-empty if specified"));
        } else if breaks(message.trim()) {
            errors.push(FieldError::invalid(path.at("message"), message, "message must not contain line breaks"));
        } else if breaks(rule.rule.trim()) && message.trim().is_empty() {
            errors.push(FieldError::required(path.at("message"), "message must be specified if rule contains line breaks"));
        }
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.push(FieldError::required(path.at("messageExpression"), "messageExpression must be non-empty if specified"));
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            errors.push(FieldError::not_supported(path.at("reason"), reason, &REASONS));
        }
        let Some(field) = rule.field_path.as_deref().filter(|field| !field.is_empty()) else { continue };
        if field.trim().is_empty() {
            errors.push(FieldError::invalid(path.at("fieldPath"), field, "fieldPath must be non-empty if specified"));
        }
        if breaks(field) {
            errors.push(FieldError::invalid(path.at("fieldPath"), field, "fieldPath must not contain line breaks"));
        }
        if parsed.as_ref().is_some_and(|schema| valid_field_path(field, schema, true).is_err()) {
            errors.push(FieldError::invalid(path.at("fieldPath"), field, "fieldPath must be a valid path"));
        }
    }
}

/// How often the rules of a node may run for one object: the product of the sizes of the lists and maps around it, if they are bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth(Option<u64>);

impl Depth {
    /// Once.
    pub fn root() -> Depth {
        Depth(Some(1))
    }
    /// For each element of the list that `schema` describes.
    pub fn items(self, schema: &JSONSchemaProps) -> Depth {
        self.times(schema.max_items)
    }
    /// For each value of the map that `schema` describes.
    pub fn values(self, schema: &JSONSchemaProps) -> Depth {
        self.times(schema.max_properties)
    }
    fn times(self, most: Option<i64>) -> Depth {
        let most = most.map(|most| u64::try_from(most).unwrap_or_default());
        Depth(self.0.zip(most).map(|(so_far, most)| so_far.saturating_mul(most)))
    }
}

/// Most that one expression may cost in the worst case.
const MOST: u64 = 10_000_000;
/// Most that all of a schema may cost together.
const MOST_TOGETHER: u64 = 100_000_000;
/// How many of the most expensive expressions are named.
const NAMED: usize = 4;

/// Compiles the rules of one schema, and adds up what they cost.
pub(super) struct Compiler {
    /// Whether single expressions may cost anything.
    cheap: bool,
    total: u64,
    /// By cost, the most expensive first.
    expensive: Vec<(u64, String)>,
}

/// The place of a node whose rules are compiled.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub path: &'a Path,
    /// Whether the schema is that of a whole resource.
    pub resource: bool,
    pub depth: Depth,
    /// The outermost node whose parts can't be told apart between two states of an object, if this is below one.
    pub uncorrelated: Option<&'a Path>,
}

impl Compiler {
    pub fn new(cheap: bool) -> Compiler {
        Compiler { cheap, total: 0, expensive: Vec::new() }
    }

    /// The rules of one node.
    pub fn node(&mut self, errors: &mut Errors, schema: &JSONSchemaProps, site: Site<'_>) {
        let Ok(parsed) = Schema::parse(schema) else { return };
        let tree = openapi::to_json(schema);
        let decl = DeclType::from_schema("selfType", &tree, site.resource);
        for (index, rule) in parsed.rules.iter().enumerate() {
            let path = site.path.at("x-kubernetes-validations").index(index);
            let compiled = compile_rule(rule, &parsed, decl.as_ref());
            self.cost(errors, &path.at("rule"), "estimated rule cost", compiled.cost, &compiled, site.depth);
            if let Err(why) = &compiled.rule {
                errors.push(FieldError::invalid(path.at("rule"), shown(rule), why));
            }
            match &compiled.message {
                None => {}
                Some(Err(why)) => errors.push(FieldError::invalid(path.at("messageExpression"), shown(rule), why)),
                Some(Ok(_)) => {
                    let what = "estimated messageExpression cost";
                    self.cost(errors, &path.at("messageExpression"), what, compiled.message_cost, &compiled, Depth::root());
                }
            }
            if let Some(within) = site.uncorrelated.filter(|_| compiled.transition) {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                errors.push(FieldError::invalid(path.at("rule"), &rule.rule, why));
            } else if let Some(optional) = rule.optional_old_self.filter(|_| !compiled.transition && compiled.rule.is_ok()) {
                errors.push(FieldError::invalid(path.at("optionalOldSelf"), optional, "may not be set if oldSelf is not used in rule"));
            }
        }
    }

    fn cost(&mut self, errors: &mut Errors, path: &Path, what: &str, once: u64, compiled: &Compiled, depth: Depth) {
        let cost = once.saturating_mul(depth.0.unwrap_or(compiled.most_values));
        if !self.cheap && cost > MOST {
            errors.push(FieldError::forbidden(path, over_budget(what, cost, MOST)));
        }
        self.total = self.total.saturating_add(cost);
        self.expensive.push((cost, path.to_string()));
        self.expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        self.expensive.truncate(NAMED);
    }

    /// What all rules cost together.
    pub fn total(&self, errors: &mut Errors, path: &Path) {
        if self.total <= MOST_TOGETHER {
            return;
        }
        for (_, path) in &self.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, over_budget(what, self.total, MOST_TOGETHER)));
    }
}

fn over_budget(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, \
         maps, and strings are declared)"
    )
}

/// A rule as upstream's internal form prints.
fn shown(rule: &Rule) -> Value {
    let reason = if rule.reason.is_empty() { Value::Null } else { rule.reason.clone().into() };
    json!({
        "Rule": rule.rule, "Message": rule.message, "MessageExpression": rule.message_expression, "Reason": reason,
        "FieldPath": rule.field_path, "OptionalOldSelf": rule.optional_old_self,
    })
}

/// The rules of a default's own schema, which the default must obey.
pub(super) fn check_default(errors: &mut Errors, path: &Path, schema: &JSONSchemaProps, default: &Value) {
    let Ok(parsed) = Schema::parse(schema) else { return };
    let Some(rules) = Validations::of_part(&parsed, &openapi::to_json(schema)) else { return };
    let text = path.at("default").to_string();
    errors.extend(rules.run_at(&parsed, default, None, structural::Path::root(&text)));
}
