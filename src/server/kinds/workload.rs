//! What the kinds with a pod template and a selector share: rules and cells.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::pod;
use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::FieldError;

/// Labels of a template.
pub fn template_labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref().and_then(|meta| meta.labels.as_ref())
}

/// The selector is there and well formed, the template is legal and matches it.
pub fn selector_and_template(errors: &mut Errors, path: &Path, selector: &LabelSelector, template: &PodTemplateSpec, kind: &str) {
    let before = errors.len();
    rules::label_selector(errors, &path.at("selector"), Some(selector));
    if rules::is_empty_selector(Some(selector)) {
        // Upstream tells a missing selector from an empty one; both come as empty here.
        errors.push(FieldError::required(path.at("selector"), ""));
        errors.push(FieldError::invalid(path.at("selector"), selector, format!("empty selector is invalid for {kind}")));
    }
    let selector_is_good = errors.len() == before;
    let labels = template_labels(template);
    if selector_is_good && !rules::selects(selector, labels) {
        let shown = labels.cloned().unwrap_or_default();
        errors.push(FieldError::invalid(path.at("template.metadata.labels"), shown, "`selector` does not match template `labels`"));
    }
    pod::validate::template(errors, &path.at("template"), template);
}

/// Pods of a workload are restarted and have no deadline of their own.
pub fn always_restarts(errors: &mut Errors, path: &Path, template: &PodTemplateSpec, kind: &str) {
    let spec = rules::part(&template.spec);
    let policy = rules::str_of(&spec.restart_policy);
    if policy != "Always" {
        errors.push(FieldError::not_supported(path.at("template.spec.restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(path.at("template.spec.activeDeadlineSeconds"), why));
    }
}

/// Replicas and seconds are not negative.
pub fn counts(errors: &mut Errors, path: &Path, counts: &[(&str, Option<i32>)]) {
    for (field, value) in counts {
        rules::optional_non_negative(errors, &path.at(field), *value);
    }
}

/// The string form of a selector, for `/scale`: empty where it selects everything.
pub fn selector_text(selector: &LabelSelector) -> String {
    if rules::is_empty_selector(Some(selector)) { String::new() } else { print::selector(Some(selector)) }
}
