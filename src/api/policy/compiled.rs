//! A whole policy, compiled once: its variables, conditions, validations, annotations and mutations.

use k8s_openapi::api::admissionregistration::v1::{self, MutatingAdmissionPolicySpec, ValidatingAdmissionPolicySpec};

use super::conditions::Conditions;
use super::types::{ObjectTypes, Scope, env};
use crate::api::cel::{Activation, DeclType, Env, Program, Type, Value};

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The common budget is spent; nothing more is evaluated.
    Budget(String),
    /// This expression failed.
    Expression(String),
}

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A validation or condition.
    Bool,
    /// A message.
    String,
    /// An audit annotation: a string, or null for none.
    StringOrNull,
    /// `Object{...}`
    ApplyConfiguration,
    /// `[JSONPatch{...}, ...]`
    JsonPatch,
    /// A variable.
    Anything,
}

impl Wanted {
    fn fits(self, ty: &Type) -> bool {
        match self {
            Wanted::Bool => *ty == Type::Bool,
            Wanted::String => *ty == Type::String,
            Wanted::StringOrNull => matches!(ty, Type::String | Type::Null),
            Wanted::ApplyConfiguration => matches!(ty, Type::Object(object) if object.name == "Object"),
            Wanted::JsonPatch => matches!(ty, Type::List(of) if matches!(&**of, Type::Object(object) if object.name == "JSONPatch")),
            Wanted::Anything => true,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Wanted::Bool => "bool",
            Wanted::String => "string",
            Wanted::StringOrNull => "one of [string null_type]",
            Wanted::ApplyConfiguration => "Object",
            Wanted::JsonPatch => "list(JSONPatch)",
            Wanted::Anything => "any",
        }
    }
}

/// Compiles one expression; the error is what upstream says of it.
pub(super) fn compile(env: &Env, source: &str, wanted: Wanted) -> Result<Program, String> {
    let program = env.compile(source).map_err(|errors| format!("compilation failed: {errors}"))?;
    match program.result_type() {
        ty if wanted.fits(ty) => Ok(program),
        ty => Err(format!("must evaluate to {} but got {}", wanted.text(), shown(ty))),
    }
}

fn shown(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".into(),
        other => other.to_string(),
    }
}

/// The expressions of a policy as they are written, whichever kind of policy it is.
#[derive(Clone, Debug, Default)]
pub struct Sources<'s> {
    /// Whether it has a `paramKind`.
    pub params: bool,
    /// Name and expression.
    pub conditions: Vec<(&'s str, &'s str)>,
    /// Name and expression.
    pub variables: Vec<(&'s str, &'s str)>,
    /// Expression and `messageExpression` (empty: none).
    pub validations: Vec<(&'s str, &'s str)>,
    /// Key and expression.
    pub annotations: Vec<(&'s str, &'s str)>,
    /// Kind of patch and expression.
    pub mutations: Vec<(Patch, &'s str)>,
}

fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

impl<'s> Sources<'s> {
    /// Those of a ValidatingAdmissionPolicy.
    pub fn validating(spec: &'s ValidatingAdmissionPolicySpec) -> Sources<'s> {
        Sources {
            params: spec.param_kind.is_some(),
            conditions: spec.match_conditions.iter().flatten().map(|one| (one.name.as_str(), one.expression.trim())).collect(),
            variables: spec.variables.iter().flatten().map(|one| (one.name.as_str(), one.expression.as_str())).collect(),
            validations: spec.validations.iter().flatten().map(|one| (one.expression.as_str(), text(&one.message_expression))).collect(),
            annotations: spec.audit_annotations.iter().flatten().map(|one| (one.key.as_str(), one.value_expression.trim())).collect(),
            mutations: Vec::new(),
        }
    }

    /// Those of a MutatingAdmissionPolicy.
    pub fn mutating(spec: &'s MutatingAdmissionPolicySpec) -> Sources<'s> {
        let mutation = |one: &'s v1::Mutation| match one.patch_type.as_str() {
            "JSONPatch" => (Patch::Json, one.json_patch.as_ref().map_or("", |patch| text(&patch.expression))),
            _ => (Patch::ApplyConfiguration, one.apply_configuration.as_ref().map_or("", |patch| text(&patch.expression))),
        };
        Sources {
            params: spec.param_kind.is_some(),
            conditions: spec.match_conditions.iter().flatten().map(|one| (one.name.as_str(), one.expression.trim())).collect(),
            variables: spec.variables.iter().flatten().map(|one| (one.name.as_str(), one.expression.as_str())).collect(),
            mutations: spec.mutations.iter().flatten().map(mutation).collect(),
            ..Sources::default()
        }
    }
}

/// The two ways to change an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// By what it should have, as by server-side apply.
    ApplyConfiguration,
    /// By operations of RFC 6902.
    Json,
}

type Compiled = Result<Program, String>;

/// One validation.
#[derive(Debug)]
pub struct Validation {
    /// What must hold.
    pub expression: Compiled,
    /// What to say if it does not.
    pub message: Option<Compiled>,
}

/// One mutation.
#[derive(Debug)]
pub struct Mutation {
    /// How it changes the object.
    pub patch: Patch,
    /// What gives the change.
    pub expression: Compiled,
}

/// A compiled policy. What does not compile is kept as its complaint.
#[derive(Debug, Default)]
pub struct Policy {
    /// When it applies at all.
    pub conditions: Conditions,
    /// Name and program, each of which may use those before it.
    pub variables: Vec<(String, Compiled)>,
    /// What must hold.
    pub validations: Vec<Validation>,
    /// Key and program.
    pub annotations: Vec<(String, Compiled)>,
    /// What is changed.
    pub mutations: Vec<Mutation>,
}

impl Policy {
    /// Compiles all of it; `types` is what is known of the objects.
    pub fn new(sources: &Sources<'_>, types: &ObjectTypes) -> Policy {
        let patches = !sources.mutations.is_empty();
        let scope = Scope { params: sources.params, authorizer: true, patches };
        let composed = !sources.variables.is_empty();
        let with_variables = |env: Env, fields: &[(String, DeclType)]| if composed { with_variables(env, fields) } else { env };
        let mut fields: Vec<(String, DeclType)> = Vec::new();
        let mut variables = Vec::new();
        for (name, source) in &sources.variables {
            let program = compile(&with_variables(env(scope, types), &fields), source, Wanted::Anything);
            let ty = program.as_ref().map_or(Type::Dyn, |program| program.result_type().clone());
            fields.push(((*name).into(), DeclType::simple(ty)));
            variables.push(((*name).into(), program));
        }
        let main = with_variables(env(scope, types), &fields);
        let spoken = with_variables(env(Scope { authorizer: false, ..scope }, types), &fields);
        let message = |source: &str| (!source.trim().is_empty()).then(|| compile(&spoken, source, Wanted::String));
        let validation =
            |(source, text): &(&str, &str)| Validation { expression: compile(&main, source, Wanted::Bool), message: message(text) };
        let mutation = |(patch, source): &(Patch, &str)| {
            let wanted = if *patch == Patch::Json { Wanted::JsonPatch } else { Wanted::ApplyConfiguration };
            Mutation { patch: *patch, expression: compile(&main, source, wanted) }
        };
        Policy {
            conditions: Conditions::new(sources.conditions.iter().copied(), sources.params),
            variables,
            validations: sources.validations.iter().map(validation).collect(),
            annotations: sources
                .annotations
                .iter()
                .map(|(key, source)| ((*key).into(), compile(&main, source, Wanted::StringOrNull)))
                .collect(),
            mutations: sources.mutations.iter().map(mutation).collect(),
        }
    }

    /// `activation` with the policy's variables. One that did not compile is not there.
    pub fn bind<'a>(&'a self, activation: Activation<'a>) -> Activation<'a> {
        let activation = activation.with("variables", Value::Variables);
        self.variables.iter().fold(activation, |activation, (name, program)| match program {
            Ok(program) => activation.with_lazy(name, program),
            Err(_) => activation,
        })
    }
}

/// What is wrong with the validations and messages of a policy if objects are of these types: the field below `spec`, and the complaint.
pub fn type_check(sources: &Sources<'_>, types: &ObjectTypes) -> Vec<(String, String)> {
    let scope = Scope { params: sources.params && types.params.is_some(), authorizer: true, patches: false };
    let mut fields: Vec<(String, DeclType)> = Vec::new();
    for (name, source) in &sources.variables {
        let program = with_variables(env(scope, types), &fields).compile(source);
        let ty = program.map_or(Type::Dyn, |program| program.result_type().clone());
        fields.push(((*name).into(), DeclType::simple(ty)));
    }
    let env = with_variables(env(scope, types), &fields);
    let mut found = Vec::new();
    for (index, (expression, message)) in sources.validations.iter().enumerate() {
        for (field, source) in [("expression", expression), ("messageExpression", message)] {
            if let (false, Err(errors)) = (source.is_empty(), env.compile(source)) {
                found.push((format!("validations[{index}].{field}"), errors.to_string()));
            }
        }
    }
    found
}

/// `env` with the variables so far, as fields of `variables`.
fn with_variables(env: Env, fields: &[(String, DeclType)]) -> Env {
    env.with("variables", DeclType::object("kubernetes.variables", fields.iter().cloned()).ty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cel::Budget;
    use serde_json::json;

    #[test]
    fn complaints_are_upstreams() {
        let none = ObjectTypes::default();
        let message = |sources: Sources<'_>| {
            let policy = Policy::new(&sources, &none);
            let first = policy.validations.first().map(|validation| validation.expression.as_ref().err().cloned());
            let second = policy.mutations.first().map(|mutation| mutation.expression.as_ref().err().cloned());
            first.or(second).flatten().unwrap_or_default()
        };
        for (expression, complaint) in [
            ("object.spec.replicas > 1", ""),
            ("object.spec.replicas", "must evaluate to bool but got dyn"),
            ("1 + 1", "must evaluate to bool but got int"),
            (
                "params.x == 1",
                "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
            ),
            ("request.nope == ''", "compilation failed: ERROR: <input>:1:8: undefined field 'nope'\n | request.nope == ''\n | .......^"),
            (
                "variables.nope == 1",
                "compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')\n | variables.nope == 1\n | ^",
            ),
            ("authorizer.requestResource.check('get').allowed()", ""),
            ("authorizer.group('').resource('pods').check('get').allowed()", ""),
            ("namespaceObject.metadata.labels.x == 'y'", ""),
        ] {
            assert_eq!(message(Sources { validations: vec![(expression, "")], ..Sources::default() }), complaint, "{expression}");
        }
        for (patch, expression, complaint) in [
            (Patch::ApplyConfiguration, "Object{spec: Object.spec{replicas: 1}}", ""),
            (Patch::ApplyConfiguration, "Object.spec{}", "must evaluate to Object but got Object.spec"),
            (Patch::Json, "[JSONPatch{op: 'add', path: '/a', value: 1}]", ""),
            (Patch::Json, "[]", "must evaluate to list(JSONPatch) but got list(dyn)"),
            (Patch::Json, "object.a ? [JSONPatch{op: 'remove', path: '/a'}] : []", ""),
            (Patch::Json, "JSONPatch{}", "must evaluate to list(JSONPatch) but got JSONPatch"),
        ] {
            assert_eq!(message(Sources { mutations: vec![(patch, expression)], ..Sources::default() }), complaint, "{expression}");
        }
    }

    #[test]
    fn variables_build_on_each_other() {
        let sources = Sources {
            variables: vec![("replicas", "object.spec.replicas"), ("twice", "variables.replicas * 2")],
            validations: vec![("variables.twice < 5", "'got ' + string(variables.twice)")],
            ..Sources::default()
        };
        let policy = Policy::new(&sources, &ObjectTypes::default());
        let object = json!({"spec": {"replicas": 3}});
        let activation = policy.bind(Activation::new().with("object", Value::from_json(&object, None).unwrap()));
        let mut budget = Budget::new(Budget::RUNTIME);
        let validation = &policy.validations[0];
        let holds = super::super::evaluate(validation.expression.as_ref().unwrap(), &activation, &mut budget).unwrap();
        assert_eq!(holds.bool(), Ok(false));
        let message = super::super::evaluate(validation.message.as_ref().unwrap().as_ref().unwrap(), &activation, &mut budget).unwrap();
        assert_eq!(message.str(), Ok("got 6"));
    }

    #[test]
    fn conditions_that_do_not_hold_decide() {
        use super::super::Met;
        let object = json!({"a": 1});
        for (expressions, met) in [
            (vec!["object.a == 1", "true"], Met::Yes),
            (vec!["object.a == 2"], Met::No("c0".into())),
            (vec!["object.b == 1", "false"], Met::No("c1".into())),
            (vec!["object.b == 1", "true"], Met::Failed("expression 'object.b == 1' resulted in error: no such key: b".into())),
            (vec![], Met::Yes),
        ] {
            let named: Vec<(String, &str)> = expressions.iter().enumerate().map(|(index, source)| (format!("c{index}"), *source)).collect();
            let conditions = Conditions::new(named.iter().map(|(name, source)| (name.as_str(), *source)), false);
            let activation = Activation::new().with("object", Value::from_json(&object, None).unwrap());
            assert_eq!(conditions.met(&activation), met, "{expressions:?}");
        }
    }
}
