//! ReplicaSet: so many pods of one template.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use super::{pod, workload};
use crate::server::registry::strategy::{Scale, Subresource};

kind!(ReplicaSet: NAMESPACED {
        singular: "replicaset", short: &["rs"], categories: &["all"], subresources: &[Subresource::Status, Subresource::Scale],
    }
    const FIELDS: &'static [&'static str] = &["status.replicas"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "status.replicas").then(|| rules::part(&self.status).replicas.to_string())
    }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        pod::defaults::template(spec.template.get_or_insert_default());
        spec.replicas.get_or_insert(1);
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        workload::counts(&mut errors, &path, &[("replicas", spec.replicas), ("minReadySeconds", spec.min_ready_seconds)]);
        let template = rules::part(&spec.template);
        workload::selector_and_template(&mut errors, &path, &spec.selector, &template, "replicaset");
        workload::always_restarts(&mut errors, &path, &template, "ReplicaSet");
        if let Some(old) = old {
            rules::immutable(&mut errors, &path.at("selector"), &spec.selector, &old.spec.selector);
        }
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
        for (field, value) in parts {
            if let Some(value) = value.filter(|value| *value > status.replicas) {
                errors.push(crate::api::FieldError::invalid(path.at(field), value, "cannot be greater than status.replicas"));
            }
        }
        if let Some(available) = status.available_replicas.filter(|available| *available > status.ready_replicas.unwrap_or_default()) {
            errors.push(crate::api::FieldError::invalid(path.at("availableReplicas"), available, "cannot be greater than readyReplicas"));
        }
        errors
    }
    fn scale(&self) -> Option<Scale> {
        let spec = &self.spec;
        Some(Scale {
            replicas: spec.replicas.unwrap_or_default(),
            observed: rules::part(&self.status).replicas,
            selector: workload::selector_text(&spec.selector),
        })
    }
    fn set_scale(&mut self, replicas: i32) { self.spec.replicas = Some(replicas); }
    columns!(ReplicaSet;
        "Desired" integer: "Pods wanted." => |one, _| print::int(one.spec.replicas),
        "Current" integer: "Pods there are." => |one, _| print::int(Some(rules::part(&one.status).replicas)),
        "Ready" integer: "Pods that are ready." => |one, _| print::int(rules::part(&one.status).ready_replicas),
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." =>
            |one, _| print::container_names(print::containers_of(one.spec.template.as_ref())),
        "Images" string wide: "Their images." => |one, _| print::container_images(print::containers_of(one.spec.template.as_ref())),
        "Selector" string wide: "Which pods are its." => |one, _| print::text(print::selector(Some(&one.spec.selector))),
    );
);
