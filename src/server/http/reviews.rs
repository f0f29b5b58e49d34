//! Questions about who and whether, answered and not stored: access reviews, rules reviews, token reviews, "who am I".

use std::future::Future;
use std::pin::Pin;

use axum::response::Response;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule, SelfSubjectAccessReview,
    SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::path::RequestInfo;
use super::{Call, negotiate, reply, verbs};
use crate::api::{FieldError, Status};
use crate::server::auth::{Attributes, AuthnError, Decision};
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

/// The error of a value that Go shows as a struct.
fn wrong(field: &str, value: &impl std::fmt::Display, why: &str) -> FieldError {
    FieldError { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {why}") }
}

/// The rules that hold for all access reviews: upstream's `pkg/apis/authorization/validation`.
fn check(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (resource, path) {
        (Some(_), Some(path)) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let shown = format!("authorization.NonResourceAttributes{{Path:{:?}, Verb:{:?}}}", text(&path.path), text(&path.verb));
            errors.push(wrong("spec.nonResourceAttributes", &shown, "cannot be specified in combination with resourceAttributes"));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid("spec.resourceAttributes", "null", why));
        }
        _ => {}
    }
    if let Some(selector) = resource.and_then(|r| r.field_selector.as_ref()) {
        let terms = selector.requirements.iter().flatten().map(|term| (&term.key, &term.operator, term.values.as_deref()));
        check_selector(&mut errors, "spec.resourceAttributes.fieldSelector", selector.raw_selector.as_deref(), terms);
    }
    if let Some(selector) = resource.and_then(|r| r.label_selector.as_ref()) {
        let terms = selector.requirements.iter().flatten().map(|term| (&term.key, &term.operator, term.values.as_deref()));
        check_selector(&mut errors, "spec.resourceAttributes.labelSelector", selector.raw_selector.as_deref(), terms);
    }
    errors
}

fn check_selector<'a>(
    errors: &mut Vec<FieldError>,
    path: &str,
    raw: Option<&str>,
    terms: impl Iterator<Item = (&'a String, &'a String, Option<&'a [String]>)>,
) {
    let raw = raw.unwrap_or_default();
    let mut count = 0;
    for (key, operator, values) in terms {
        let at = |field: &str| format!("{path}.requirements[{count}].{field}");
        let none = values.unwrap_or_default().is_empty();
        if key.is_empty() {
            errors.push(FieldError::required(at("key"), "must be specified"));
        }
        match operator.as_str() {
            "In" | "NotIn" if none => {
                errors.push(FieldError::required(at("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !none => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(at("values"), why));
            }
            // A newer client may know an operator that this server does not.
            _ => {}
        }
        count += 1;
    }
    match (raw.is_empty(), count) {
        (false, 1..) => {
            errors.push(FieldError::invalid(format!("{path}.rawSelector"), raw, "may not specified at the same time as requirements"))
        }
        (true, 0) => {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(format!("{path}.requirements"), why));
        }
        _ => {}
    }
}

/// A selector of fields as text. A term that fields can't express narrows nothing, so that leaving it out is safe.
fn fields(resource: &ResourceAttributes) -> String {
    let Some(selector) = &resource.field_selector else { return String::new() };
    if let Some(raw) = selector.raw_selector.as_ref().filter(|raw| !raw.is_empty()) {
        return raw.clone();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    let term = |operator: &str, key: &str, values: &[String]| match (operator, values) {
        ("In", [value]) => Some(format!("{key}={}", escape(value))),
        ("NotIn", [value]) => Some(format!("{key}!={}", escape(value))),
        _ => None,
    };
    let terms = selector.requirements.iter().flatten();
    terms.filter_map(|t| term(&t.operator, &t.key, t.values.as_deref().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

fn attributes(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> Attributes {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some(r) = resource {
        return Attributes {
            verb: text(&r.verb),
            group: text(&r.group),
            version: text(&r.version),
            resource: text(&r.resource),
            subresource: text(&r.subresource),
            namespace: text(&r.namespace),
            name: text(&r.name),
            fields: fields(r),
            path: String::new(),
        };
    }
    let path = path.cloned().unwrap_or_default();
    Attributes { verb: text(&path.verb), path: text(&path.path), ..Attributes::default() }
}

/// What of the metadata may not be there: all but managed fields, and `allowed`.
fn check_meta(errors: &mut Vec<FieldError>, meta: &ObjectMeta, why: &str, namespace_allowed: bool) {
    let mut meta = ObjectMeta { managed_fields: None, ..meta.clone() };
    if namespace_allowed {
        meta.namespace = None;
    }
    if meta != ObjectMeta::default() {
        errors.push(FieldError::invalid("metadata", &meta, why));
    }
}

fn refuse(kind: &str, errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("authorization.k8s.io", kind, "", errors)) }
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
    let (resource, path) = (review.spec.resource_attributes.as_ref(), review.spec.non_resource_attributes.as_ref());
    let mut errors = check(resource, path);
    check_meta(&mut errors, &review.metadata, "must be empty", false);
    refuse("SelfSubjectAccessReview", errors)?;
    review.status = Some(decide(&call, &call.user, &attributes(resource, path)));
    answer(&call, &review)
}

fn check_spec(spec: &SubjectAccessReviewSpec) -> Vec<FieldError> {
    let mut errors = check(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    let nobody = spec.user.as_deref().unwrap_or_default().is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty);
    if nobody {
        errors.push(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    errors
}

fn access_of(call: &Call, spec: &SubjectAccessReviewSpec) -> SubjectAccessReviewStatus {
    let user = User {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    };
    decide(call, &user, &attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref()))
}

async fn access(mut call: Call) -> Result<Response, Status> {
    let mut review: SubjectAccessReview = verbs::typed_body(&mut call).await?;
    let mut errors = check_spec(&review.spec);
    check_meta(&mut errors, &review.metadata, "must be empty", false);
    refuse("SubjectAccessReview", errors)?;
    review.status = Some(access_of(&call, &review.spec));
    answer(&call, &review)
}

async fn local_access(mut call: Call) -> Result<Response, Status> {
    let mut review: LocalSubjectAccessReview = verbs::typed_body(&mut call).await?;
    let namespace = review.metadata.namespace.get_or_insert_with(|| call.info.namespace.clone()).clone();
    if namespace != call.info.namespace {
        return Err(Status::bad_request(format!("spec.resourceAttributes.namespace must match namespace: {}", call.info.namespace)));
    }
    let mut errors = check_spec(&review.spec);
    check_meta(&mut errors, &review.metadata, "must be empty except for namespace", true);
    let asked = review.spec.resource_attributes.as_ref().map(|r| r.namespace.clone().unwrap_or_default());
    if let Some(asked) = asked.filter(|asked| *asked != namespace) {
        errors.push(FieldError::invalid("spec.resourceAttributes.namespace", asked, "must match metadata.namespace"));
    }
    if let Some(path) = &review.spec.non_resource_attributes {
        errors.push(FieldError::invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request"));
    }
    refuse("LocalSubjectAccessReview", errors)?;
    review.status = Some(access_of(&call, &review.spec));
    answer(&call, &review)
}

async fn rules(mut call: Call) -> Result<Response, Status> {
    let mut review: SelfSubjectRulesReview = verbs::typed_body(&mut call).await?;
    let namespace = review.spec.namespace.clone().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut status = SubjectRulesReviewStatus::default();
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
    if crate::server::auth::node::node_name(&call.user).is_some() {
        status.incomplete = true;
        status.evaluation_error = Some("node authorizer does not support user rule resolution".into());
    }
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
    if review.spec.token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = review.spec.audiences.clone().unwrap_or_default();
    let (snapshot, now) = (call.app.registry.store().snapshot(), call.now().as_second());
    let status = match call.app.authenticator.token(&review.spec.token, &audiences, &snapshot, now).await {
        Ok(identity) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(user_info(&identity.user)),
            audiences: Some(identity.audiences),
            ..TokenReviewStatus::default()
        },
        // What nobody knows is no error: it is just nobody.
        Err(AuthnError::Unknown) => TokenReviewStatus { user: Some(UserInfo::default()), ..TokenReviewStatus::default() },
        Err(error) => TokenReviewStatus { user: Some(UserInfo::default()), error: Some(error.to_string()), ..TokenReviewStatus::default() },
    };
    review.status = Some(status);
    answer(&call, &review)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_must_be_complete() {
        let errors = |spec: &str| {
            let spec: SubjectAccessReviewSpec = serde_yaml::from_str(spec).unwrap();
            check_spec(&spec).iter().map(FieldError::to_string).collect::<Vec<_>>().join("; ")
        };
        for (spec, want) in [
            ("{user: u, resourceAttributes: {verb: get, resource: pods}}", ""),
            ("{user: u, nonResourceAttributes: {verb: get, path: /x}}", ""),
            (
                "{}",
                "spec.resourceAttributes: Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified; \
                 spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ),
            (
                "{user: u, resourceAttributes: {}, nonResourceAttributes: {verb: get, path: /x}}",
                "spec.nonResourceAttributes: Invalid value: authorization.NonResourceAttributes{Path:\"/x\", Verb:\"get\"}: cannot be \
                 specified in combination with resourceAttributes",
            ),
            (
                "{user: u, resourceAttributes: {fieldSelector: {}, labelSelector: {rawSelector: a, requirements: [{key: '', operator: In}, {key: k, operator: Exists, values: [v]}]}}}",
                "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, \
                 requirements or rawSelector is required; spec.resourceAttributes.labelSelector.requirements[0].key: Required value: must be \
                 specified; spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is \
                 'In' or 'NotIn'; spec.resourceAttributes.labelSelector.requirements[1].values: Forbidden: may not be specified when `operator` \
                 is 'Exists' or 'DoesNotExist'; spec.resourceAttributes.labelSelector.rawSelector: Invalid value: \"a\": may not specified at \
                 the same time as requirements",
            ),
        ] {
            assert_eq!(errors(spec), want, "{spec}");
        }
    }

    #[test]
    fn selectors_become_text() {
        let text = |yaml: &str| fields(&serde_yaml::from_str(yaml).unwrap());
        assert_eq!(text("{fieldSelector: {rawSelector: 'a=b'}}"), "a=b");
        let terms = "{fieldSelector: {requirements: [{key: spec.nodeName, operator: In, values: ['n,1']}, {key: x, operator: NotIn, values: [y]}, {key: z, operator: In, values: [a, b]}]}}";
        assert_eq!(text(terms), "spec.nodeName=n\\,1,x!=y");
    }
}
