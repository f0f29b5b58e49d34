//! authentication.k8s.io and authorization.k8s.io: questions that are answered at once and never stored.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview};

use super::support::path::{Errors, Path};
use crate::api::FieldError;

kind!(TokenReview: CLUSTER { singular: "tokenreview", generation: false, virtual_only: true }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        if self.spec.token.is_empty() {
            return vec![FieldError::required("spec.token", "")];
        }
        Errors::new()
    }
);
kind!(SelfSubjectReview: CLUSTER { singular: "selfsubjectreview", generation: false, virtual_only: true });
kind!(SelfSubjectRulesReview: CLUSTER { singular: "selfsubjectrulesreview", generation: false, virtual_only: true });
kind!(SelfSubjectAccessReview: CLUSTER { singular: "selfsubjectaccessreview", generation: false, virtual_only: true }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        exactly_one(self.spec.resource_attributes.is_some(), self.spec.non_resource_attributes.is_some())
    }
);
kind!(SubjectAccessReview: CLUSTER { singular: "subjectaccessreview", generation: false, virtual_only: true }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let spec = &self.spec;
        let mut errors = exactly_one(spec.resource_attributes.is_some(), spec.non_resource_attributes.is_some());
        errors.extend(somebody(spec.user.as_deref(), spec.groups.as_deref()));
        errors
    }
);
kind!(LocalSubjectAccessReview: NAMESPACED { singular: "localsubjectaccessreview", generation: false, virtual_only: true }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let spec = &self.spec;
        let mut errors = exactly_one(spec.resource_attributes.is_some(), spec.non_resource_attributes.is_some());
        errors.extend(somebody(spec.user.as_deref(), spec.groups.as_deref()));
        let asked = spec.resource_attributes.as_ref().and_then(|asked| asked.namespace.as_deref()).unwrap_or_default();
        if asked != self.metadata.namespace.as_deref().unwrap_or_default() {
            errors.push(FieldError::invalid("spec.resourceAttributes.namespace", asked, "must match metadata.namespace"));
        }
        if spec.non_resource_attributes.is_some() {
            errors.push(FieldError::invalid(
                "spec.nonResourceAttributes", &spec.non_resource_attributes, "disallowed on this kind of request",
            ));
        }
        errors
    }
);

fn exactly_one(resource: bool, other: bool) -> Errors {
    let path = Path::new("spec").at("resourceAttributes");
    match (resource, other) {
        (true, true) => {
            vec![FieldError::invalid("spec.nonResourceAttributes", true, "cannot be specified in combination with resourceAttributes")]
        }
        (false, false) => {
            vec![FieldError::invalid(path, (), "exactly one of nonResourceAttributes or resourceAttributes must be specified")]
        }
        _ => Errors::new(),
    }
}

fn somebody(user: Option<&str>, groups: Option<&[String]>) -> Option<FieldError> {
    let nobody = user.unwrap_or_default().is_empty() && groups.unwrap_or_default().is_empty();
    nobody.then(|| FieldError::invalid("spec.user", "", "at least one of user or group must be specified"))
}
