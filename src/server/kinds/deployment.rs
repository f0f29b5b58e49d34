//! Deployment: ReplicaSets that replace each other.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::support::path::{Errors, Path};
use super::support::{intstr, print, rules};
use super::{pod, workload};
use crate::api::FieldError;
use crate::server::registry::strategy::{Scale, Subresource};

kind!(Deployment: NAMESPACED {
        singular: "deployment", short: &["deploy"], categories: &["all"], subresources: &[Subresource::Status, Subresource::Scale],
    }
    separate_status!(but labels);
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        pod::defaults::template(&mut spec.template);
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        let kind = strategy.type_.get_or_insert_with(|| "RollingUpdate".into());
        if kind == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(|| IntOrString::String("25%".into()));
            rolling.max_surge.get_or_insert_with(|| IntOrString::String("25%".into()));
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        workload::counts(&mut errors, &path, &[
            ("replicas", spec.replicas), ("minReadySeconds", spec.min_ready_seconds), ("revisionHistoryLimit", spec.revision_history_limit),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds),
        ]);
        workload::selector_and_template(&mut errors, &path, &spec.selector, &spec.template, "deployment");
        workload::always_restarts(&mut errors, &path, &spec.template, "ReplicaSet");
        check_strategy(&mut errors, &path.at("strategy"), &rules::part(&spec.strategy));
        if let Some(deadline) = spec.progress_deadline_seconds.filter(|seconds| *seconds <= spec.min_ready_seconds.unwrap_or_default()) {
            errors.push(FieldError::invalid(path.at("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds"));
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path.at("selector"), &spec.selector, &old.spec.selector);
        }
        errors
    }
    fn validate_status(&self, _old: &Self) -> Errors {
        let mut errors = Errors::new();
        let (path, status) = (Path::new("status"), rules::part(&self.status));
        workload::counts(&mut errors, &path, &[
            ("replicas", status.replicas), ("updatedReplicas", status.updated_replicas), ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas), ("unavailableReplicas", status.unavailable_replicas),
        ]);
        let replicas = status.replicas.unwrap_or_default();
        let parts = [
            ("updatedReplicas", status.updated_replicas), ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        for (field, value) in parts {
            if let Some(value) = value.filter(|value| *value > replicas) {
                errors.push(FieldError::invalid(path.at(field), value, "cannot be greater than status.replicas"));
            }
        }
        errors
    }
    fn scale(&self) -> Option<Scale> {
        let spec = &self.spec;
        Some(Scale {
            replicas: spec.replicas.unwrap_or_default(),
            observed: rules::part(&self.status).replicas.unwrap_or_default(),
            selector: workload::selector_text(&spec.selector),
        })
    }
    fn set_scale(&mut self, replicas: i32) { self.spec.replicas = Some(replicas); }
    columns!(Deployment;
        "Ready" string: "Ready pods of the wanted." => |one, _| print::text(format!(
            "{}/{}", rules::part(&one.status).ready_replicas.unwrap_or_default(), one.spec.replicas.unwrap_or_default())),
        "Up-to-date" integer: "Pods of the present template." => |one, _| print::int(rules::part(&one.status).updated_replicas),
        "Available" integer: "Pods that have been ready for long enough." =>
            |one, _| print::int(rules::part(&one.status).available_replicas),
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." =>
            |one, _| print::container_names(print::containers_of(Some(&one.spec.template))),
        "Images" string wide: "Their images." => |one, _| print::container_images(print::containers_of(Some(&one.spec.template))),
        "Selector" string wide: "Which pods are its." => |one, _| print::text(print::selector(Some(&one.spec.selector))),
    );
);

fn check_strategy(errors: &mut Errors, path: &Path, strategy: &DeploymentStrategy) {
    match (rules::str_of(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.push(FieldError::forbidden(path.at("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(path.at("rollingUpdate"), "this should be defaulted and never be nil")),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.at("rollingUpdate");
            for (field, value) in [("maxUnavailable", &rolling.max_unavailable), ("maxSurge", &rolling.max_surge)] {
                if let Some(value) = value {
                    intstr::check(errors, &path.at(field), value);
                }
            }
            if intstr::is_zero(rolling.max_unavailable.as_ref()) && intstr::is_zero(rolling.max_surge.as_ref()) {
                let shown = &rolling.max_unavailable;
                errors.push(FieldError::invalid(path.at("maxUnavailable"), shown, "may not be 0 when `maxSurge` is 0"));
            }
            if let Some(value) = &rolling.max_unavailable {
                intstr::check_at_most_100(errors, &path.at("maxUnavailable"), value);
            }
        }
        (other, _) => rules::one_of(errors, &path.at("type"), other, &["Recreate", "RollingUpdate"]),
    }
}
