//! POST of a TokenRequest to `serviceaccounts/NAME/token`: a token for the account, bound to a pod, a Secret or a node.
//!
//! Follows upstream's `pkg/registry/core/serviceaccount/storage/token.go`, and NodeRestriction for those that nodes ask for.

use axum::response::Response;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{Call, negotiate, only, reply, special, verbs};
use crate::api::{FieldError, Object, Status};
use crate::server::auth::token::{Claims, Private, Reference};
use crate::server::auth::{Lookup, node};

/// Bounds of `expirationSeconds`.
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What old clients' tokens are asked for with: those live on for a year, and their late use is recorded.
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

fn invalid(name: &str, field: &str, value: impl serde::Serialize, why: &str) -> Status {
    Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![FieldError::invalid(field, value, why)])
}

/// See the module.
pub(super) async fn create(mut call: Call) -> Result<Response, Status> {
    only(call.request.method(), &[http::Method::POST])?;
    let mut request: TokenRequest = verbs::typed_body(&mut call).await?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let other = |value: &Option<String>, wanted: &str| value.clone().filter(|value| !value.is_empty() && value != wanted);
    if let Some(value) = other(&request.metadata.name, &name) {
        return Err(invalid(&name, "metadata.name", value, "must match the service account name if specified"));
    }
    if let Some(value) = other(&request.metadata.namespace, &namespace) {
        return Err(invalid(&name, "metadata.namespace", value, "must match the service account namespace if specified"));
    }
    let account = call.app.get::<ServiceAccount>(&namespace, &name)?;
    let mut spec = request.spec.take().unwrap_or_default();
    let key = call.app.authenticator.token_key();
    let audiences = spec.audiences.get_or_insert_default();
    if audiences.is_empty() {
        audiences.push(key.issuer().to_owned());
    }
    let seconds = spec.expiration_seconds.unwrap_or(3600);
    match seconds {
        s if s < MIN_SECONDS => {
            return Err(invalid("", "spec.expirationSeconds", s, "may not specify a duration less than 10 minutes"));
        }
        s if s > MAX_SECONDS => {
            return Err(invalid("", "spec.expirationSeconds", s, "may not specify a duration larger than 2^32 seconds"));
        }
        _ => {}
    }
    request.spec = Some(spec);
    let options = verbs::write_options(&call)?;
    let kind = call.app.kind_of::<ServiceAccount>()?;
    let (mut request, said) = special::admitted(&call.app, &kind, (&namespace, &name), request, &options).await?;
    let warnings = said.to(&call);
    let mut spec = request.spec.take().unwrap_or_default();
    let audiences = spec.audiences.clone().unwrap_or_default();
    let mut private = Private {
        namespace: namespace.clone(),
        serviceaccount: Reference { name: name.clone(), uid: account.metadata.uid.clone().unwrap_or_default() },
        ..Private::default()
    };
    restrict_node(&call, spec.bound_object_ref.as_ref())?;
    bind(&call, spec.bound_object_ref.as_ref(), &mut private)?;
    let now = call.now().as_second();
    let ours = audiences.iter().all(|audience| audience == key.issuer());
    let extended = private.pod.is_some() && seconds == WARN_ONLY_SECONDS && ours;
    if extended {
        private.warnafter = Some(now + seconds);
    }
    let claims = Claims {
        aud: audiences,
        exp: now + if extended { EXTENDED_SECONDS } else { seconds },
        iat: now,
        nbf: now,
        sub: format!("system:serviceaccount:{namespace}:{name}"),
        private,
        ..Claims::default()
    };
    let (token, _) = key.sign(claims).map_err(Status::internal)?;
    spec.expiration_seconds = Some(seconds);
    request.spec = Some(spec);
    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).map(Time).map_err(Status::internal);
    request.status = Some(TokenRequestStatus { expiration_timestamp: Some(time(now + seconds)?), token: Some(token) });
    request.metadata.name = Some(name);
    request.metadata.namespace = Some(namespace);
    request.metadata.creation_timestamp = Some(time(now)?);
    let encoding = negotiate::negotiate_plain(&call.accept())?;
    let mut response = reply::encoded(201, encoding, request.to_json().into());
    reply::warn(&mut response, &warnings);
    Ok(response)
}

/// What a node asks for must be bound to a pod that runs on it.
fn restrict_node(call: &Call, bound: Option<&BoundObjectReference>) -> Result<(), Status> {
    let Some(node) = node::node_name(&call.user) else { return Ok(()) };
    let refused = |why: &str| Err(Status::forbidden("", "serviceaccounts", &call.info.name, why));
    let to_pod = |bound: &&BoundObjectReference| bound.api_version.as_deref() == Some("v1") && bound.kind.as_deref() == Some("Pod");
    let Some(bound) = bound.filter(to_pod).filter(|bound| bound.name.as_deref().is_some_and(|name| !name.is_empty())) else {
        return refused("node requested token not bound to a pod");
    };
    if bound.uid.as_deref().is_none_or(str::is_empty) {
        return refused("node requested token with a pod binding without a uid");
    }
    let pod = call.app.get::<Pod>(&call.info.namespace, bound.name.as_deref().unwrap_or_default())?;
    match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node) {
        true => Ok(()),
        false => refused("node requested token bound to a pod scheduled on a different node"),
    }
}

fn bind(call: &Call, bound: Option<&BoundObjectReference>, private: &mut Private) -> Result<(), Status> {
    let Some(bound) = bound else { return Ok(()) };
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let (version, kind, name) = (text(&bound.api_version), text(&bound.kind), text(&bound.name));
    let (group, version) = version.split_once('/').map_or((String::new(), version.clone()), |(g, v)| (g.into(), v.into()));
    let reference = |meta: &ObjectMeta| {
        let uid = meta.uid.clone().unwrap_or_default();
        match bound.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
            Some(wanted) => {
                let why = format!(
                    "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been \
                     deleted and then recreated"
                );
                Err(Status::conflict(&group, &kind, &name, why))
            }
            None => Ok(Reference { name: name.clone(), uid }),
        }
    };
    let namespace = private.namespace.as_str();
    match kind.as_str() {
        "Pod" if group.is_empty() => {
            let pod = call.app.get::<Pod>(namespace, &name)?;
            let spec = pod.spec.as_ref();
            if spec.and_then(|s| s.service_account_name.as_deref()).unwrap_or("default") != call.info.name {
                let why =
                    format!("cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.", call.info.name);
                return Err(Status::bad_request(why));
            }
            let runs_on = spec.and_then(|s| s.node_name.as_deref()).unwrap_or_default();
            if !runs_on.is_empty() {
                let node = Lookup::get::<Node>(&call.app.registry.store().snapshot(), "", runs_on);
                let uid = node.and_then(|node| node.metadata.uid.clone()).unwrap_or_default();
                private.node = Some(Reference { name: runs_on.into(), uid });
            }
            private.pod = Some(reference(&pod.metadata)?);
        }
        "Secret" if group.is_empty() => private.secret = Some(reference(&call.app.get::<Secret>(namespace, &name)?.metadata)?),
        "Node" if group.is_empty() => private.node = Some(reference(&call.app.get::<Node>("", &name)?.metadata)?),
        _ => {
            let shown = format!("{group}/{version}, Kind={kind}");
            return Err(Status::bad_request(format!("cannot bind token to object of type {shown}")));
        }
    }
    Ok(())
}
