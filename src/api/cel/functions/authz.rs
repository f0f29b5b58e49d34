//! The authorizer: questions of what somebody may do (apiserver `pkg/cel/library/authz.go`).

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::opaque::Opaque;
use crate::api::names;

pub(super) const TABLE: &[Row] = &[
    Row("path", path, &["authorizer_path|kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.PathCheck"]),
    Row("group", group, &["authorizer_group|kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.GroupCheck"]),
    Row(
        "serviceAccount",
        service_account,
        &["authorizer_serviceaccount|kubernetes.authorization.Authorizer.(string, string) -> kubernetes.authorization.Authorizer"],
    ),
    Row(
        "resource",
        resource,
        &["groupcheck_resource|kubernetes.authorization.GroupCheck.(string) -> kubernetes.authorization.ResourceCheck"],
    ),
    Row("subresource", |_, args| narrow(args, |check, text| check.subresource = text), NARROW),
    Row("namespace", |_, args| narrow(args, |check, text| check.namespace = text), NARROW),
    Row("name", |_, args| narrow(args, |check, text| check.name = text), NARROW),
    Row("fieldSelector", |_, args| narrow(args, |check, text| check.field_selector = text), NARROW),
    Row("labelSelector", |_, args| narrow(args, |check, text| check.label_selector = text), NARROW),
    Row(
        "check",
        check,
        &[
            "pathcheck_check|kubernetes.authorization.PathCheck.(string) -> kubernetes.authorization.Decision",
            "resourcecheck_check|kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.Decision",
        ],
    ),
    Row(
        "allowed",
        |_, args| Ok(Value::Bool(decision(&args[0])?.allowed)),
        &["decision_allowed|kubernetes.authorization.Decision.() -> bool"],
    ),
    Row(
        "reason",
        |_, args| Ok(decision(&args[0])?.reason.clone().into()),
        &["decision_reason|kubernetes.authorization.Decision.() -> string"],
    ),
    Row(
        "errored",
        |_, args| Ok(Value::Bool(decision(&args[0])?.error.is_some())),
        &["decision_errored|kubernetes.authorization.Decision.() -> bool"],
    ),
    Row(
        "error",
        |_, args| Ok(decision(&args[0])?.error.clone().unwrap_or_default().into()),
        &["decision_error|kubernetes.authorization.Decision.() -> string"],
    ),
];

const NARROW: &[&str] = &["kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck"];

/// Answers questions of authorization for one request.
pub trait Authorize {
    /// Whether what `check` describes is allowed.
    fn authorize(&self, check: &AuthzCheck) -> AuthzDecision;
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthzCheck {
    /// Namespace and name of a service account to ask for instead of the request's user.
    pub service_account: Option<(String, String)>,
    /// A path that is no resource; then the fields of resources are empty.
    pub path: Option<String>,
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Part of it, such as `status`.
    pub subresource: String,
    /// Empty: in all of them, or none.
    pub namespace: String,
    /// Empty: any.
    pub name: String,
    /// Lower case.
    pub verb: String,
    /// As written.
    pub field_selector: String,
    /// As written.
    pub label_selector: String,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthzDecision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// Whether the question could not be answered well.
    pub error: Option<String>,
}

/// How far a question has been put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthzState {
    /// Nothing asked yet.
    Authorizer(AuthzCheck),
    /// The path is known.
    Path(AuthzCheck),
    /// The group is known.
    Group(AuthzCheck),
    /// The resource is known.
    Resource(AuthzCheck),
    /// Answered.
    Decision(AuthzDecision),
}

impl AuthzState {
    /// The type's name.
    pub fn type_name(&self) -> &'static str {
        match self {
            AuthzState::Authorizer(_) => "kubernetes.authorization.Authorizer",
            AuthzState::Path(_) => "kubernetes.authorization.PathCheck",
            AuthzState::Group(_) => "kubernetes.authorization.GroupCheck",
            AuthzState::Resource(_) => "kubernetes.authorization.ResourceCheck",
            AuthzState::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

fn state<'v>(value: &'v Value<'_>) -> Res<&'v AuthzState> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Authz(state) => Ok(state),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn made<'a>(state: AuthzState) -> Res<Value<'a>> {
    Ok(Opaque::Authz(state).into())
}

fn authorizer(value: &Value<'_>) -> Res<AuthzCheck> {
    match state(value)? {
        AuthzState::Authorizer(check) => Ok(check.clone()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn path<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (check, path) = (authorizer(&args[0])?, args[1].str()?);
    if path.trim().is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    made(AuthzState::Path(AuthzCheck { path: Some(path.into()), ..check }))
}

fn group<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    made(AuthzState::Group(AuthzCheck { group: args[1].str()?.into(), ..authorizer(&args[0])? }))
}

fn service_account<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (check, namespace, name) = (authorizer(&args[0])?, args[1].str()?, args[2].str()?);
    names::subdomain(name).map_err(|_| EvalError::new("Invalid service account name"))?;
    names::label(namespace).map_err(|_| EvalError::new("Invalid service account namespace"))?;
    made(AuthzState::Authorizer(AuthzCheck { service_account: Some((namespace.into(), name.into())), ..check }))
}

fn resource<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let AuthzState::Group(check) = state(&args[0])? else { return Err(EvalError::no_such_overload()) };
    let resource = args[1].str()?;
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    made(AuthzState::Resource(AuthzCheck { resource: resource.into(), ..check.clone() }))
}

fn narrow<'a>(args: &[Value<'a>], set: fn(&mut AuthzCheck, String)) -> Res<Value<'a>> {
    let AuthzState::Resource(check) = state(&args[0])? else { return Err(EvalError::no_such_overload()) };
    let mut check = check.clone();
    set(&mut check, args[1].str()?.into());
    made(AuthzState::Resource(check))
}

fn check<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (AuthzState::Path(check) | AuthzState::Resource(check)) = state(&args[0])? else { return Err(EvalError::no_such_overload()) };
    let check = AuthzCheck { verb: args[1].str()?.into(), ..check.clone() };
    let decision = match context.authorizer() {
        Some(authorizer) => authorizer.authorize(&check),
        None => AuthzDecision { error: Some("no authorizer".into()), ..AuthzDecision::default() },
    };
    made(AuthzState::Decision(decision))
}

fn decision<'v>(value: &'v Value<'_>) -> Res<&'v AuthzDecision> {
    match state(value)? {
        AuthzState::Decision(decision) => Ok(decision),
        _ => Err(EvalError::no_such_overload()),
    }
}
