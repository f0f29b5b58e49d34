//! Questions about who and whether, answered and not stored: access reviews, rules reviews, token reviews, "who am I".

use std::future::Future;
use std::pin::Pin;

use axum::response::Response;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule, SelfSubjectAccessReview,
    SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use serde::Serialize;

use super::path::RequestInfo;
use super::{Call, negotiate, reply, verbs};
use crate::api::{FieldError, Status};
use crate::server::auth::{Attributes, Decision};
use crate::server::registry::User;

type Answer = Pin<Box<dyn Future<Output = Result<Response, Status>> + Send>>;
type Review = fn(Call) -> Answer;

/// Group, version, resource, and what answers.
const REVIEWS: &[(&str, &str, &str, Review)] = &[
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", |call| Box::pin(self_access(call))),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", |call| Box::pin(access(call))),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", |call| Box::pin(local_access(call))),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", |call| Box::pin(rules(call))),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", |call| Box::pin(who_am_i(call))),
    ("authentication.k8s.io", "v1", "tokenreviews", |call| Box::pin(token(call))),
];

/// What answers this request, if it is a review.
pub(super) fn of(info: &RequestInfo) -> Option<Review> {
    let found = REVIEWS.iter().find(|(g, v, r, _)| (*g, *v, *r) == (info.group.as_str(), info.version.as_str(), info.resource.as_str()));
    found.map(|(.., review)| *review)
}

fn answer(call: &Call, review: &impl Serialize) -> Result<Response, Status> {
    let json = serde_json::to_vec(review).map_err(Status::internal)?;
    Ok(reply::encoded(201, negotiate::negotiate_plain(&call.accept())?, json.into()))
}

fn attributes(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> Result<Attributes, FieldError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    match (resource, path) {
        (Some(r), None) => Ok(Attributes {
            verb: text(&r.verb),
            group: text(&r.group),
            version: text(&r.version),
            resource: text(&r.resource),
            subresource: text(&r.subresource),
            namespace: text(&r.namespace),
            name: text(&r.name),
            fields: r.field_selector.as_ref().and_then(|f| f.raw_selector.clone()).unwrap_or_default(),
            path: String::new(),
        }),
        (None, Some(p)) => Ok(Attributes { verb: text(&p.verb), path: text(&p.path), ..Attributes::default() }),
        (Some(_), Some(_)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            Err(FieldError::invalid("spec.nonResourceAttributes", serde_json::Value::Null, why))
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(FieldError::invalid("spec.resourceAttributes", serde_json::Value::Null, why))
        }
    }
}

fn invalid(kind: &str) -> impl Fn(FieldError) -> Status {
    move |error| Status::invalid("authorization.k8s.io", kind, "", vec![error])
}

fn decide(call: &Call, user: &User, asked: &Attributes) -> SubjectAccessReviewStatus {
    let (allowed, reason) = match call.app.authority.authorize(&call.app.registry.store().snapshot(), user, asked) {
        Decision::Allow(reason) => (true, reason),
        Decision::Deny(reason) => (false, reason),
    };
    SubjectAccessReviewStatus { allowed, reason: Some(reason).filter(|r| !r.is_empty()), ..SubjectAccessReviewStatus::default() }
}

async fn self_access(mut call: Call) -> Result<Response, Status> {
    let mut review: SelfSubjectAccessReview = verbs::typed_body(&mut call).await?;
    let spec = review.spec.clone();
    let asked = attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    review.status = Some(decide(&call, &call.user, &asked.map_err(invalid("SelfSubjectAccessReview"))?));
    answer(&call, &review)
}

fn subject(spec: &SubjectAccessReviewSpec) -> Result<User, FieldError> {
    let user = User {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    Ok(user)
}

fn access_of(call: &Call, spec: &SubjectAccessReviewSpec) -> Result<SubjectAccessReviewStatus, FieldError> {
    let user = subject(spec)?;
    let asked = attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref())?;
    Ok(decide(call, &user, &asked))
}

async fn access(mut call: Call) -> Result<Response, Status> {
    let mut review: SubjectAccessReview = verbs::typed_body(&mut call).await?;
    let spec = review.spec.clone();
    review.status = Some(access_of(&call, &spec).map_err(invalid("SubjectAccessReview"))?);
    answer(&call, &review)
}

async fn local_access(mut call: Call) -> Result<Response, Status> {
    let mut review: LocalSubjectAccessReview = verbs::typed_body(&mut call).await?;
    let spec = review.spec.clone();
    let namespace = spec.resource_attributes.as_ref().and_then(|r| r.namespace.clone()).unwrap_or_default();
    if namespace != call.info.namespace {
        let why = "must match metadata.namespace";
        return Err(invalid("LocalSubjectAccessReview")(FieldError::invalid("spec.resourceAttributes.namespace", namespace, why)));
    }
    review.status = Some(access_of(&call, &spec).map_err(invalid("LocalSubjectAccessReview"))?);
    answer(&call, &review)
}

async fn rules(mut call: Call) -> Result<Response, Status> {
    let mut review: SelfSubjectRulesReview = verbs::typed_body(&mut call).await?;
    let namespace = review.spec.namespace.clone().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut status = SubjectRulesReviewStatus::default();
    if call.user.groups.iter().any(|group| group == "system:masters") {
        let all = || Some(vec!["*".to_owned()]);
        status.resource_rules.push(ResourceRule { api_groups: all(), resources: all(), verbs: vec!["*".into()], resource_names: None });
        status.non_resource_rules.push(NonResourceRule { non_resource_urls: all(), verbs: vec!["*".into()] });
    }
    for rule in call.app.authority.rules(&call.app.registry.store().snapshot(), &call.user, &namespace) {
        if rule.resources.as_ref().is_some_and(|r| !r.is_empty()) {
            status.resource_rules.push(ResourceRule {
                api_groups: rule.api_groups,
                resources: rule.resources,
                verbs: rule.verbs.clone(),
                resource_names: rule.resource_names,
            });
        }
        if rule.non_resource_urls.as_ref().is_some_and(|u| !u.is_empty()) {
            status.non_resource_rules.push(NonResourceRule { non_resource_urls: rule.non_resource_urls, verbs: rule.verbs });
        }
    }
    // What a node may do depends on its pods and is no list of rules.
    status.incomplete = crate::server::auth::node::node_name(&call.user).is_some();
    review.status = Some(status);
    answer(&call, &review)
}

fn user_info(user: &User) -> UserInfo {
    UserInfo {
        username: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
    }
}

async fn who_am_i(mut call: Call) -> Result<Response, Status> {
    let mut review: SelfSubjectReview = verbs::typed_body(&mut call).await?;
    review.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(call.now()));
    review.status = Some(SelfSubjectReviewStatus { user_info: Some(user_info(&call.user)) });
    answer(&call, &review)
}

async fn token(mut call: Call) -> Result<Response, Status> {
    let mut review: TokenReview = verbs::typed_body(&mut call).await?;
    let spec = std::mem::take(&mut review.spec);
    let token = spec.token.clone();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = spec.audiences.clone().unwrap_or_default();
    let snapshot = call.app.registry.store().snapshot();
    let status = match call.app.authenticator.token(&token, &audiences, &snapshot, call.now().as_second()) {
        Ok((user, shared)) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(user_info(&user)),
            audiences: Some(shared),
            ..TokenReviewStatus::default()
        },
        Err(error) => TokenReviewStatus { authenticated: Some(false), error: Some(error.to_string()), ..TokenReviewStatus::default() },
    };
    // The token itself is not sent back.
    review.spec = k8s_openapi::api::authentication::v1::TokenReviewSpec { token: String::new(), ..spec };
    review.status = Some(status);
    answer(&call, &review)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_must_be_complete() {
        let resource = ResourceAttributes { verb: Some("get".into()), resource: Some("pods".into()), ..ResourceAttributes::default() };
        let path = NonResourceAttributes { verb: Some("get".into()), path: Some("/x".into()) };
        assert_eq!(attributes(Some(&resource), None).unwrap().resource, "pods");
        assert_eq!(attributes(None, Some(&path)).unwrap().path, "/x");
        assert!(attributes(None, None).is_err() && attributes(Some(&resource), Some(&path)).is_err());
        assert!(subject(&SubjectAccessReviewSpec::default()).is_err());
    }
}
