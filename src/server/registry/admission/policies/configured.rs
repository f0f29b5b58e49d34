//! The active policies, compiled: once for each revision of a policy, kept between requests.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use parking_lot::Mutex;

use super::super::matching::Matcher;
use crate::api::policy::{ObjectTypes, Policy, Sources};
use crate::api::{Key, Kind, Rev, Scope};
use crate::server::store::{Entry, Snapshot};

/// One policy.
pub(super) struct Compiled {
    pub name: String,
    /// Whether what can't be evaluated counts for nothing.
    pub ignores_failure: bool,
    /// Whether a later change brings it up again.
    pub reinvocable: bool,
    pub matcher: Matcher,
    pub param_kind: Option<ParamKind>,
    pub policy: Policy,
    /// What validations say when they fail, in the order of those.
    pub refusals: Vec<Refusal>,
}

/// The words of one validation.
pub(super) struct Refusal {
    pub expression: String,
    pub message: String,
    /// `Invalid` unless it says so.
    pub reason: String,
}

/// What puts a policy into effect.
pub(super) struct Binding {
    pub name: String,
    /// None: wherever the policy applies.
    pub matcher: Option<Matcher>,
    pub param_ref: Option<ParamRef>,
    /// Of a validating policy.
    pub actions: Vec<String>,
}

/// A policy with its bindings.
pub(super) struct Active {
    pub policy: Arc<Compiled>,
    pub bindings: Vec<Binding>,
}

pub(super) type ActivePolicies = Arc<Vec<Active>>;

/// What was compiled last, and from which state.
#[derive(Default)]
struct Table {
    /// Revisions of the newest change of a policy and of a binding.
    at: (Rev, Rev),
    known: HashMap<Key, (Arc<Entry>, Arc<Compiled>)>,
    active: ActivePolicies,
}

/// How the two kinds of policy are read.
struct Reader<P, B> {
    compile: fn(&P) -> Compiled,
    /// The policy's name, and the rest.
    bind: fn(&B) -> (String, Binding),
}

impl Table {
    fn of<P: Kind, B: Kind>(cell: &Mutex<Table>, state: &Snapshot, reader: &Reader<P, B>) -> ActivePolicies {
        let (policies, bindings) = (Scope::of::<P>(), Scope::of::<B>());
        let at = (state.changed(&policies), state.changed(&bindings));
        if at.0 == Rev::default() || at.1 == Rev::default() {
            return ActivePolicies::default();
        }
        let mut table = cell.lock();
        if table.at != at {
            *table = table.renewed(state, at, reader);
        }
        table.active.clone()
    }

    fn renewed<P: Kind, B: Kind>(&self, state: &Snapshot, at: (Rev, Rev), reader: &Reader<P, B>) -> Table {
        let mut bound: HashMap<String, Vec<Binding>> = HashMap::new();
        for entry in state.range(&Scope::of::<B>()) {
            match entry.typed::<B>() {
                Ok(binding) => {
                    let (policy, binding) = (reader.bind)(&binding);
                    bound.entry(policy).or_default().push(binding);
                }
                Err(error) => tracing::error!(%error, "a policy binding can't be read and is without effect"),
            }
        }
        let (mut known, mut active) = (HashMap::new(), Vec::new());
        for entry in state.range(&Scope::of::<P>()) {
            let Some(bindings) = bound.remove(entry.key.name()) else { continue };
            let before = self.known.get(&entry.key).filter(|(from, _)| Arc::ptr_eq(from, entry)).map(|(_, compiled)| compiled.clone());
            let policy = match (before, entry.typed::<P>()) {
                (Some(compiled), _) => compiled,
                (None, Ok(policy)) => Arc::new((reader.compile)(&policy)),
                (None, Err(error)) => {
                    tracing::error!(%error, "an admission policy can't be read and is without effect");
                    continue;
                }
            };
            known.insert(entry.key.clone(), (entry.clone(), policy.clone()));
            active.push(Active { policy, bindings });
        }
        Table { at, known, active: Arc::new(active) }
    }
}

/// The policies of both kinds.
#[derive(Default)]
pub(in crate::server::registry) struct Policies {
    validating: Mutex<Table>,
    mutating: Mutex<Table>,
}

impl Policies {
    /// The validating ones that are active at this state, by name.
    pub(super) fn validating(&self, state: &Snapshot) -> ActivePolicies {
        Table::of(&self.validating, state, &Reader { compile: validating, bind: validating_binding })
    }

    /// The mutating ones that are active at this state, by name.
    pub(super) fn mutating(&self, state: &Snapshot) -> ActivePolicies {
        Table::of(&self.mutating, state, &Reader { compile: mutating, bind: mutating_binding })
    }
}

fn matcher(constraints: Option<&MatchResources>) -> Matcher {
    constraints.map_or_else(|| Matcher::policy(&MatchResources::default()), Matcher::policy)
}

fn validating(object: &ValidatingAdmissionPolicy) -> Compiled {
    let spec = object.spec.clone().unwrap_or_default();
    let refusal = |validation: &k8s_openapi::api::admissionregistration::v1::Validation| Refusal {
        expression: validation.expression.trim().into(),
        message: validation.message.as_deref().unwrap_or_default().trim().into(),
        reason: validation.reason.clone().filter(|reason| !reason.is_empty()).unwrap_or_else(|| "Invalid".into()),
    };
    Compiled {
        name: object.metadata.name.clone().unwrap_or_default(),
        ignores_failure: spec.failure_policy.as_deref() == Some("Ignore"),
        reinvocable: false,
        matcher: matcher(spec.match_constraints.as_ref()),
        param_kind: spec.param_kind.clone(),
        policy: Policy::new(&Sources::validating(&spec), &ObjectTypes::default()),
        refusals: spec.validations.iter().flatten().map(refusal).collect(),
    }
}

fn validating_binding(object: &ValidatingAdmissionPolicyBinding) -> (String, Binding) {
    let spec = &object.spec;
    let binding = Binding {
        name: object.metadata.name.clone().unwrap_or_default(),
        matcher: spec.match_resources.as_ref().map(Matcher::policy),
        param_ref: spec.param_ref.clone(),
        actions: spec.validation_actions.clone(),
    };
    (spec.policy_name.clone(), binding)
}

fn mutating(object: &MutatingAdmissionPolicy) -> Compiled {
    let spec = object.spec.clone().unwrap_or_default();
    Compiled {
        name: object.metadata.name.clone().unwrap_or_default(),
        ignores_failure: spec.failure_policy.as_deref() == Some("Ignore"),
        reinvocable: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
        matcher: matcher(spec.match_constraints.as_ref()),
        param_kind: spec.param_kind.clone(),
        policy: Policy::new(&Sources::mutating(&spec), &ObjectTypes::default()),
        refusals: Vec::new(),
    }
}

fn mutating_binding(object: &MutatingAdmissionPolicyBinding) -> (String, Binding) {
    let spec = object.spec.clone().unwrap_or_default();
    let binding = Binding {
        name: object.metadata.name.clone().unwrap_or_default(),
        matcher: spec.match_resources.as_ref().map(Matcher::policy),
        param_ref: spec.param_ref,
        actions: Vec::new(),
    };
    (spec.policy_name.unwrap_or_default(), binding)
}
