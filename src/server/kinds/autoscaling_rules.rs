//! Rules of HorizontalPodAutoscalers: upstream's `pkg/apis/autoscaling/validation`.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler, MetricIdentifier, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::support::path::{Errors, Path};
use super::support::rules;
use crate::api::quantity::Quantity;
use crate::api::{FieldError, names};

/// The longest that one may wait before scaling.
const MAX_WINDOW: i32 = 3600;
/// The longest time that a policy may look back.
const MAX_PERIOD: i32 = 1800;

/// Every rule that an autoscaler breaks.
pub fn check(hpa: &HorizontalPodAutoscaler) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &hpa.spec);
    if let Some(min) = spec.min_replicas.filter(|min| *min < 1) {
        errors.push(FieldError::invalid(path.at("minReplicas"), min, "must be greater than or equal to 1"));
    }
    if spec.max_replicas < 1 {
        errors.push(FieldError::invalid(path.at("maxReplicas"), spec.max_replicas, "must be greater than 0"));
    }
    if spec.min_replicas.is_some_and(|min| spec.max_replicas < min) {
        errors.push(FieldError::invalid(path.at("maxReplicas"), spec.max_replicas, "must be greater than or equal to `minReplicas`"));
    }
    reference(&mut errors, &path.at("scaleTargetRef"), &spec.scale_target_ref);
    for (index, one) in spec.metrics.iter().flatten().enumerate() {
        metric(&mut errors, &path.at("metrics").index(index), one);
    }
    if let Some(behavior) = &spec.behavior {
        for (field, part) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(part) = part {
                scaling(&mut errors, &path.at("behavior").at(field), part);
            }
        }
    }
    errors
}

/// What was counted is not negative.
pub fn check_status(hpa: &HorizontalPodAutoscaler) -> Errors {
    let mut errors = Errors::new();
    let (path, status) = (Path::new("status"), rules::part(&hpa.status));
    rules::optional_non_negative(&mut errors, &path.at("currentReplicas"), status.current_replicas);
    rules::non_negative(&mut errors, &path.at("desiredReplicas"), status.desired_replicas);
    errors
}

fn reference(errors: &mut Errors, path: &Path, to: &CrossVersionObjectReference) {
    rules::required_syntax(errors, &path.at("kind"), &to.kind, names::path_segment);
    rules::required_syntax(errors, &path.at("name"), &to.name, names::path_segment);
}

fn metric(errors: &mut Errors, path: &Path, metric: &MetricSpec) {
    const TYPES: &[(&str, &str)] = &[
        ("Object", "object"),
        ("External", "external"),
        ("Pods", "pods"),
        ("Resource", "resource"),
        ("ContainerResource", "containerResource"),
    ];
    if metric.type_.is_empty() {
        errors.push(FieldError::required(path.at("type"), "must specify a metric source type"));
    }
    let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    rules::one_of(errors, &path.at("type"), &metric.type_, &names);
    let there: Vec<&str> = TYPES.iter().map(|(_, field)| *field).filter(|field| has(metric, field)).collect();
    // Only the first is looked into.
    if let Some(first) = there.first() {
        source(errors, &path.at(first), metric, first);
    }
    let expected = TYPES.iter().find(|(name, _)| *name == metric.type_).map(|(_, field)| *field);
    if let Some(field) = expected.filter(|field| !there.contains(field)) {
        errors.push(FieldError::required(path.at(field), "must populate information for the given metric source"));
    }
    if there.len() != 1 {
        let others = there.iter().filter(|field| Some(**field) != expected);
        errors.extend(others.map(|field| FieldError::forbidden(path.at(field), "must populate the given metric source only")));
    }
}

fn has(metric: &MetricSpec, field: &str) -> bool {
    match field {
        "object" => metric.object.is_some(),
        "external" => metric.external.is_some(),
        "pods" => metric.pods.is_some(),
        "resource" => metric.resource.is_some(),
        _ => metric.container_resource.is_some(),
    }
}

fn source(errors: &mut Errors, path: &Path, metric: &MetricSpec, field: &str) {
    let at = path.at("target");
    let both = |target: &MetricTarget| (target.value.is_some(), target.average_value.is_some());
    match field {
        "object" => {
            let Some(source) = &metric.object else { return };
            reference(errors, &path.at("describedObject"), &source.described_object);
            identifier(errors, &path.at("metric"), &source.metric);
            target(errors, &at, &source.target);
            if both(&source.target) == (false, false) {
                errors.push(FieldError::required(at.at("averageValue"), "must set either a target value or averageValue"));
            }
        }
        "external" => {
            let Some(source) = &metric.external else { return };
            identifier(errors, &path.at("metric"), &source.metric);
            target(errors, &at, &source.target);
            match both(&source.target) {
                (false, false) => {
                    let why = "must set either a target value for metric or a per-pod target";
                    errors.push(FieldError::required(at.at("averageValue"), why));
                }
                (true, true) => {
                    let why = "may not set both a target value for metric and a per-pod target";
                    errors.push(FieldError::forbidden(at.at("value"), why));
                }
                _ => {}
            }
        }
        "pods" => {
            let Some(source) = &metric.pods else { return };
            identifier(errors, &path.at("metric"), &source.metric);
            target(errors, &at, &source.target);
            if !source.target.average_value.as_ref().is_some_and(is_positive) {
                errors.push(FieldError::required(at.at("averageValue"), "must specify a positive target averageValue"));
            }
        }
        "resource" => {
            let Some(source) = &metric.resource else { return };
            resource(errors, path, &source.name, &source.target);
        }
        _ => {
            let Some(source) = &metric.container_resource else { return };
            if source.container.is_empty() {
                errors.push(FieldError::required(path.at("container"), "must specify a container"));
            }
            resource(errors, path, &source.name, &source.target);
        }
    }
}

fn resource(errors: &mut Errors, path: &Path, name: &str, wanted: &MetricTarget) {
    if name.is_empty() {
        errors.push(FieldError::required(path.at("name"), "must specify a resource name"));
    }
    let path = path.at("target");
    target(errors, &path, wanted);
    match (wanted.average_utilization.is_some(), wanted.average_value.is_some()) {
        (false, false) => {
            let why = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(path.at("averageUtilization"), why));
        }
        (true, true) => {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(path.at("averageValue"), why));
        }
        _ => {}
    }
}

fn identifier(errors: &mut Errors, path: &Path, metric: &MetricIdentifier) {
    if metric.name.is_empty() {
        errors.push(FieldError::required(path.at("name"), "must specify a metric name"));
    } else {
        rules::syntax(errors, &path.at("name"), &metric.name, names::path_segment);
    }
    rules::label_selector(errors, &path.at("selector"), metric.selector.as_ref());
}

fn is_positive(amount: &Amount) -> bool {
    Quantity::parse(&amount.0).is_ok_and(|amount| amount > Quantity::ZERO)
}

fn target(errors: &mut Errors, path: &Path, target: &MetricTarget) {
    match target.type_.as_str() {
        "" => errors.push(FieldError::required(path.at("type"), "must specify a metric target type")),
        "Utilization" | "Value" | "AverageValue" => {}
        other => errors.push(FieldError::invalid(path.at("type"), other, "must be either Utilization, Value, or AverageValue")),
    }
    for (field, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(amount) = amount.as_ref().filter(|amount| !is_positive(amount)) {
            errors.push(FieldError::invalid(path.at(field), &amount.0, "must be positive"));
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errors.push(FieldError::invalid(path.at("averageUtilization"), percent, "must be greater than 0"));
    }
}

fn scaling(errors: &mut Errors, path: &Path, part: &HPAScalingRules) {
    if let Some(seconds) = part.stabilization_window_seconds {
        let path = path.at("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(FieldError::invalid(path, seconds, "must be greater than or equal to zero"));
        } else if seconds > MAX_WINDOW {
            errors.push(FieldError::invalid(path, seconds, format!("must be less than or equal to {MAX_WINDOW}")));
        }
    }
    if let Some(policy) = &part.select_policy {
        rules::one_of(errors, &path.at("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let policies = part.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.push(FieldError::required(path.at("policies"), "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = path.at("policies").index(index);
        rules::one_of(errors, &path.at("type"), &policy.type_, &["Percent", "Pods"]);
        for (field, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
            if value <= 0 {
                errors.push(FieldError::invalid(path.at(field), value, "must be greater than zero"));
            }
        }
        if policy.period_seconds > MAX_PERIOD {
            let why = format!("must be less than or equal to {MAX_PERIOD}");
            errors.push(FieldError::invalid(path.at("periodSeconds"), policy.period_seconds, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::support::testing::errors;

    #[test]
    fn autoscalers() {
        let hpa = |rest: &str| format!("{{spec: {{scaleTargetRef: {{kind: D, name: d}}, maxReplicas: 3, {rest}}}}}");
        let metric = |metric: &str| hpa(&format!("metrics: [{{{metric}}}]"));
        for (yaml, want) in [
            (metric("type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}"), ""),
            (
                metric("type: Resource, resource: {name: cpu, target: {type: Utilization}}"),
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ),
            (
                metric("type: Pods, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}"),
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ),
            (
                metric(
                    "type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 1}}, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}",
                ),
                "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
            ),
            (
                metric("type: Pods, pods: {metric: {name: a/b}, target: {type: Often, averageValue: 1}}"),
                "spec.metrics[0].pods.metric.name: Invalid value: \"a/b\": may not contain '/' | spec.metrics[0].pods.target.type: Invalid value: \"Often\": must be either Utilization, Value, or AverageValue",
            ),
            (
                metric("type: External, external: {metric: {name: m}, target: {type: Value, value: 0}}"),
                "spec.metrics[0].external.target.value: Invalid value: \"0\": must be positive",
            ),
            (
                metric(
                    "type: ContainerResource, containerResource: {name: cpu, container: '', target: {type: Utilization, averageUtilization: 0}}",
                ),
                "spec.metrics[0].containerResource.container: Required value: must specify a container | spec.metrics[0].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            ),
            (
                hpa("behavior: {scaleUp: {stabilizationWindowSeconds: 4000, selectPolicy: Most}}"),
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600 | spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \"Max\", \"Min\"",
            ),
            (
                hpa("behavior: {scaleDown: {policies: [{type: Pods, value: 0, periodSeconds: 1801}]}}"),
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero | spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ),
        ] {
            assert_eq!(errors::<HorizontalPodAutoscaler>(&yaml).join(" | "), want, "{yaml}");
        }
    }
}
