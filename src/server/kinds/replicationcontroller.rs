//! ReplicationController: the ancestor of ReplicaSet.

use k8s_openapi::api::core::v1::ReplicationController;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use super::{pod, workload};
use crate::api::FieldError;
use crate::server::registry::strategy::{Scale, Subresource};

kind!(ReplicationController: NAMESPACED {
        singular: "replicationcontroller", short: &["rc"], categories: &["all"], subresources: &[Subresource::Status, Subresource::Scale],
    }
    const FIELDS: &'static [&'static str] = &["status.replicas"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "status.replicas").then(|| rules::part(&self.status).replicas.to_string())
    }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(template) = &mut spec.template {
            pod::defaults::template(template);
            let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).filter(|labels| !labels.is_empty());
            if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
                spec.selector.clone_from(&labels);
            }
            if self.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
                self.metadata.labels = labels;
            }
        }
        spec.replicas.get_or_insert(1);
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        workload::counts(&mut errors, &path, &[("replicas", spec.replicas), ("minReadySeconds", spec.min_ready_seconds)]);
        let selector = spec.selector.clone().unwrap_or_default();
        rules::labels(&mut errors, &path.at("selector"), Some(&selector));
        if selector.is_empty() {
            errors.push(FieldError::required(path.at("selector"), ""));
        }
        let Some(template) = &spec.template else {
            errors.push(FieldError::required(path.at("template"), ""));
            return errors;
        };
        let labels = workload::template_labels(template);
        if !selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value)) {
            let why = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid(path.at("template.metadata.labels"), labels.cloned().unwrap_or_default(), why));
        }
        pod::validate::template(&mut errors, &path.at("template"), template);
        workload::always_restarts(&mut errors, &path, template, "ReplicationController");
        errors
    }
    fn validate_status(&self, _old: &Self) -> Errors {
        let mut errors = Errors::new();
        let (path, status) = (Path::new("status"), rules::part(&self.status));
        let parts = [
            ("fullyLabeledReplicas", status.fully_labeled_replicas), ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        workload::counts(&mut errors, &path, &[("replicas", Some(status.replicas))]);
        workload::counts(&mut errors, &path, &parts);
        rules::optional_non_negative(&mut errors, &path.at("observedGeneration"), status.observed_generation);
        for (field, value) in parts {
            if let Some(value) = value.filter(|value| *value > status.replicas) {
                errors.push(FieldError::invalid(path.at(field), value, "cannot be greater than status.replicas"));
            }
        }
        if let Some(available) = status.available_replicas.filter(|available| *available > status.ready_replicas.unwrap_or_default()) {
            errors.push(FieldError::invalid(path.at("availableReplicas"), available, "cannot be greater than readyReplicas"));
        }
        errors
    }
    fn scale(&self) -> Option<Scale> {
        let spec = rules::part(&self.spec);
        let selector = spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        Some(Scale { replicas: spec.replicas.unwrap_or_default(), observed: rules::part(&self.status).replicas, selector })
    }
    fn set_scale(&mut self, replicas: i32) { self.spec.get_or_insert_default().replicas = Some(replicas); }
    columns!(ReplicationController;
        "Desired" integer: "Pods wanted." => |one, _| print::int(rules::part(&one.spec).replicas),
        "Current" integer: "Pods there are." => |one, _| print::int(Some(rules::part(&one.status).replicas)),
        "Ready" integer: "Pods that are ready." => |one, _| print::int(rules::part(&one.status).ready_replicas),
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." =>
            |one, _| print::container_names(print::containers_of(rules::part(&one.spec).template.as_ref())),
        "Images" string wide: "Their images." =>
            |one, _| print::container_images(print::containers_of(rules::part(&one.spec).template.as_ref())),
        "Selector" string wide: "Which pods are its." => |one, _| print::text(print::labels(rules::part(&one.spec).selector.as_ref())),
    );
);
