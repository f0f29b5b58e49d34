//! DaemonSet: one pod on each node.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetUpdateStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::support::path::{Errors, Path};
use super::support::{intstr, print, rules};
use super::{pod, workload};
use crate::api::FieldError;
use crate::server::registry::strategy::Subresource;

kind!(DaemonSet: NAMESPACED { singular: "daemonset", short: &["ds"], categories: &["all"], subresources: &[Subresource::Status] }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        pod::defaults::template(&mut spec.template);
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.get_or_insert_with(|| "RollingUpdate".into()) == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        workload::counts(
            &mut errors, &path, &[("minReadySeconds", spec.min_ready_seconds), ("revisionHistoryLimit", spec.revision_history_limit)],
        );
        workload::selector_and_template(&mut errors, &path, &spec.selector, &spec.template, "daemonset");
        workload::always_restarts(&mut errors, &path, &spec.template, "DaemonSet");
        check_strategy(&mut errors, &path.at("updateStrategy"), &rules::part(&spec.update_strategy));
        if let Some(old) = old {
            rules::immutable(&mut errors, &path.at("selector"), &spec.selector, &old.spec.selector);
        }
        errors
    }
    columns!(DaemonSet;
        "Desired" integer: "Nodes that should have a pod." => |one, _| print::int(Some(rules::part(&one.status).desired_number_scheduled)),
        "Current" integer: "Nodes that have one." => |one, _| print::int(Some(rules::part(&one.status).current_number_scheduled)),
        "Ready" integer: "Pods that are ready." => |one, _| print::int(Some(rules::part(&one.status).number_ready)),
        "Up-to-date" integer: "Pods of the present template." => |one, _| print::int(rules::part(&one.status).updated_number_scheduled),
        "Available" integer: "Pods that have been ready for long enough." => |one, _| print::int(rules::part(&one.status).number_available),
        "Node Selector" string: "Which nodes." => |one, _| print::text(print::labels(
            one.spec.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref()))),
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." =>
            |one, _| print::container_names(print::containers_of(Some(&one.spec.template))),
        "Images" string wide: "Their images." => |one, _| print::container_images(print::containers_of(Some(&one.spec.template))),
        "Selector" string wide: "Which pods are its." => |one, _| print::text(print::selector(Some(&one.spec.selector))),
    );
);

fn check_strategy(errors: &mut Errors, path: &Path, strategy: &DaemonSetUpdateStrategy) {
    match (rules::str_of(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(path.at("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.at("rollingUpdate");
            for (field, value) in [("maxUnavailable", &rolling.max_unavailable), ("maxSurge", &rolling.max_surge)] {
                if let Some(value) = value {
                    intstr::check(errors, &path.at(field), value);
                    intstr::check_at_most_100(errors, &path.at(field), value);
                }
            }
            match (intstr::is_zero(rolling.max_unavailable.as_ref()), intstr::is_zero(rolling.max_surge.as_ref())) {
                (true, true) => {
                    errors.push(FieldError::invalid(path.at("maxUnavailable"), &rolling.max_unavailable, "cannot be 0 when maxSurge is 0"))
                }
                (false, false) => errors.push(FieldError::invalid(
                    path.at("maxSurge"),
                    &rolling.max_surge,
                    "may not be set when maxUnavailable is non-zero",
                )),
                _ => {}
            }
        }
        (other, _) => rules::one_of(errors, &path.at("type"), other, &["OnDelete", "RollingUpdate"]),
    }
}
