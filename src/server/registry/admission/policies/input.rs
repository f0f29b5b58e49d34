//! The variables of one request, as expressions see them.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value as Json;

use super::super::webhooks::call::options;
use super::super::webhooks::review::{Question, UserInfo};
use super::super::webhooks::view::{self, View};
use super::super::{Operation, Request};
use crate::api::cel::{Activation, Authorize, AuthzCheck, AuthzDecision, AuthzState, EvalError, Opaque, Value};
use crate::api::policy::namespace_type;
use crate::api::{Key, Status};
use crate::server::registry::User;
use crate::server::registry::access::{Attributes, Authorizer, Decision};
use crate::server::store::Snapshot;

/// What of a Namespace's metadata expressions do not see.
const HIDDEN: &[&str] = &["managedFields", "ownerReferences", "selfLink"];

/// The trees that the variables refer to.
pub(in crate::server::registry::admission) struct Input {
    object: Json,
    old: Json,
    request: Json,
    namespace: Json,
    /// What `authorizer.requestResource` asks about.
    resource: AuthzCheck,
}

impl Input {
    /// Of a request whose objects are shown so. The error is that its namespace is not there.
    pub(in crate::server::registry::admission) fn new(request: &Request<'_>, view: &View) -> Result<Input, Status> {
        let tree = |json: &Option<bytes::Bytes>| json.as_deref().map(serde_json::from_slice).transpose().map_err(Status::internal);
        let (name, namespace) = (request.name_asked(), request.namespace_asked());
        let question = Question {
            uid: "",
            kind: &view.kind,
            resource: &view.resource,
            sub_resource: request.subresource(),
            request_kind: &view::kind_requested(request),
            request_resource: &view::resource_requested(request),
            request_sub_resource: request.subresource(),
            name: &name,
            namespace: &namespace,
            operation: request.operation.as_str(),
            user_info: UserInfo::from(request.user()),
            dry_run: request.options.dry_run,
            options: &options(request),
        };
        let asked = serde_json::to_value(&question).map_err(Status::internal)?;
        let resource = AuthzCheck {
            group: request.kind.group().into(),
            resource: request.kind.resource().into(),
            subresource: request.subresource().into(),
            namespace: namespace.clone(),
            name,
            ..AuthzCheck::default()
        };
        Ok(Input {
            object: tree(&view.object)?.unwrap_or_default(),
            old: tree(&view.old)?.unwrap_or_default(),
            request: asked,
            namespace: namespace_object(request, &namespace)?,
            resource,
        })
    }

    /// The object as it is shown.
    pub(super) fn object(&self) -> &Json {
        &self.object
    }

    /// Takes note that the object is another now.
    pub(super) fn set_object(&mut self, object: Json) {
        self.object = object;
    }

    /// The variables, with these parameters.
    pub(in crate::server::registry::admission) fn activation<'a>(
        &'a self,
        params: Option<&'a Json>,
        desk: &'a Desk<'a>,
    ) -> Result<Activation<'a>, EvalError> {
        let authz = |state: AuthzState| Value::from(Opaque::Authz(state));
        let activation = Activation::new()
            .with("object", Value::from_json(&self.object, None)?)
            .with("oldObject", Value::from_json(&self.old, None)?)
            .with("request", Value::from_json(&self.request, None)?)
            .with("namespaceObject", Value::from_json(&self.namespace, Some(namespace_type()))?)
            .with("params", params.map_or(Ok(Value::Null), |params| Value::from_json(params, None))?)
            .with("authorizer", authz(AuthzState::Authorizer(AuthzCheck::default())))
            .with("authorizer.requestResource", authz(AuthzState::Resource(self.resource.clone())))
            .with_authorizer(desk);
        Ok(activation)
    }
}

/// The Namespace of what is namespaced, without what expressions do not see; null else.
fn namespace_object(request: &Request<'_>, name: &str) -> Result<Json, Status> {
    let is_namespace = request.kind.group().is_empty() && request.kind.resource() == "namespaces";
    if name.is_empty() || is_namespace {
        return Ok(Json::Null);
    }
    let entry = request.snapshot.get(&Key::of::<Namespace>("", name)).ok_or_else(|| Status::not_found("", "namespaces", name))?;
    let mut tree: Json = serde_json::from_slice(&entry.json).map_err(Status::internal)?;
    if let Some(metadata) = tree.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.retain(|field, _| !HIDDEN.contains(&field.as_str()));
    }
    Ok(tree)
}

/// Answers what expressions ask of the authorizer.
pub(in crate::server::registry::admission) struct Desk<'r> {
    pub authorizer: &'r dyn Authorizer,
    pub state: &'r Snapshot,
    pub user: &'r User,
}

impl<'r> Desk<'r> {
    /// For the user of a request.
    pub(in crate::server::registry::admission) fn of(request: &'r Request<'_>) -> Desk<'r> {
        Desk { authorizer: request.authorizer, state: &request.snapshot, user: request.user() }
    }
}

impl Authorize for Desk<'_> {
    fn authorize(&self, check: &AuthzCheck) -> AuthzDecision {
        let account = check.service_account.as_ref().map(|(namespace, name)| User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()],
            ..User::default()
        });
        let asked = Attributes {
            verb: check.verb.clone(),
            group: check.group.clone(),
            version: "*".into(),
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            namespace: check.namespace.clone(),
            name: check.name.clone(),
            fields: check.field_selector.clone(),
            path: check.path.clone().unwrap_or_default(),
        };
        match self.authorizer.authorize(self.state, account.as_ref().unwrap_or(self.user), &asked) {
            Decision::Allow(reason) => AuthzDecision { allowed: true, reason, error: None },
            Decision::Deny(reason) => AuthzDecision { allowed: false, reason, error: None },
        }
    }
}

/// Whether there is a new object that could be changed.
pub(super) fn is_mutable(request: &Request<'_>) -> bool {
    request.operation != Operation::Delete
}
