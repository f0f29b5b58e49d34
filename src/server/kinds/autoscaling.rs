//! HorizontalPodAutoscaler: v2 is stored, v1 is converted.

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, MetricSpec, MetricTarget, MetricValueStatus, ResourceMetricSource,
};
use serde_json::{Value, json};

use super::autoscaling_rules::{check, check_status};
use super::support::path::Errors;
use super::support::{print, rules};
use crate::server::registry::strategy::Subresource;

kind!(HorizontalPodAutoscaler: NAMESPACED {
        singular: "horizontalpodautoscaler", short: &["hpa"], categories: &["all"], generation: false, subresources: &[Subresource::Status],
    }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            let target = MetricTarget { type_: "Utilization".into(), average_utilization: Some(80), ..Default::default() };
            let resource = Some(ResourceMetricSource { name: "cpu".into(), target });
            spec.metrics = Some(vec![MetricSpec { type_: "Resource".into(), resource, ..Default::default() }]);
        }
        if let Some(behavior) = &mut spec.behavior {
            default_scaling(behavior.scale_up.get_or_insert_default(), Some(0), &[("Pods", 4), ("Percent", 100)]);
            default_scaling(behavior.scale_down.get_or_insert_default(), None, &[("Percent", 100)]);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors { check(self) }
    fn validate_status(&self, _old: &Self) -> Errors { check_status(self) }
    columns!(HorizontalPodAutoscaler;
        "Reference" string: "What it scales." => |one, _| {
            let spec = &one.spec;
            print::text(format!("{}/{}", spec.scale_target_ref.kind, spec.scale_target_ref.name))
        },
        "Targets" string: "Current and wanted metrics." => |one, _| print::text(targets(one)),
        "MinPods" string: "At least." =>
            |one, _| print::text(one.spec.min_replicas.map_or_else(|| print::UNSET.into(), |min| min.to_string())),
        "MaxPods" integer: "At most." => |one, _| print::int(Some(one.spec.max_replicas)),
        "Replicas" integer: "Now." => |one, _| print::int(rules::part(&one.status).current_replicas),
        "Age" string: "Time since creation." => print::age,
    );
);

fn default_scaling(rules: &mut HPAScalingRules, window: Option<i32>, policies: &[(&str, i32)]) {
    if rules.stabilization_window_seconds.is_none() {
        rules.stabilization_window_seconds = window;
    }
    rules.select_policy.get_or_insert_with(|| "Max".into());
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy { type_: (*kind).into(), value: *value, period_seconds: 15 };
        rules.policies = Some(policies.iter().map(policy).collect());
    }
}

/// `current/wanted` of the first two metrics.
fn targets(hpa: &HorizontalPodAutoscaler) -> String {
    let (spec, status) = (&hpa.spec, rules::part(&hpa.status));
    let specs = spec.metrics.as_deref().unwrap_or_default();
    if specs.is_empty() {
        return print::NONE.into();
    }
    let currents = status.current_metrics.as_deref().unwrap_or_default();
    let shown = specs.iter().take(2).enumerate().map(|(index, spec)| {
        let current = currents.get(index);
        match spec.type_.as_str() {
            "Resource" => one_target(
                "",
                spec.resource.as_ref().map(|m| (m.name.as_str(), &m.target)),
                current.and_then(|m| m.resource.as_ref()).map(|m| &m.current),
            ),
            "ContainerResource" => one_target(
                "",
                spec.container_resource.as_ref().map(|m| (m.name.as_str(), &m.target)),
                current.and_then(|m| m.container_resource.as_ref()).map(|m| &m.current),
            ),
            "Pods" => {
                one_target("", spec.pods.as_ref().map(|m| ("", &m.target)), current.and_then(|m| m.pods.as_ref()).map(|m| &m.current))
            }
            "Object" => {
                one_target("", spec.object.as_ref().map(|m| ("", &m.target)), current.and_then(|m| m.object.as_ref()).map(|m| &m.current))
            }
            "External" => one_target(
                " (avg)",
                spec.external.as_ref().map(|m| ("", &m.target)),
                current.and_then(|m| m.external.as_ref()).map(|m| &m.current),
            ),
            _ => "<unknown type>".into(),
        }
    });
    let joined = shown.collect::<Vec<_>>().join(", ");
    if specs.len() > 2 { format!("{joined} + {} more...", specs.len() - 2) } else { joined }
}

fn one_target(average: &str, spec: Option<(&str, &MetricTarget)>, current: Option<&MetricValueStatus>) -> String {
    let Some((name, target)) = spec else { return "<unknown>/<auto>".into() };
    let prefix = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let unknown = || "<unknown>".to_owned();
    if let Some(value) = &target.average_value {
        let current = current.and_then(|current| current.average_value.as_ref()).map_or_else(unknown, |value| value.0.clone());
        return format!("{prefix}{current}/{}{average}", value.0);
    }
    if let Some(value) = &target.value {
        let current = current.and_then(|current| current.value.as_ref()).map_or_else(unknown, |value| value.0.clone());
        return format!("{prefix}{current}/{}", value.0);
    }
    let current = current.and_then(|current| current.average_utilization).map_or_else(unknown, |value| format!("{value}%"));
    format!("{prefix}{current}/{}", target.average_utilization.map_or_else(|| "<auto>".into(), |value| format!("{value}%")))
}

/// v1 knows one metric, the CPU's utilisation, as a field of its own.
pub fn to_v2(mut value: Value) -> Value {
    let cpu = |percent: Value, field: &str| json!([{"type": "Resource", "resource": {"name": "cpu", field: percent}}]);
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(percent) = spec.remove("targetCPUUtilizationPercentage")
    {
        spec.insert("metrics".into(), cpu(json!({"type": "Utilization", "averageUtilization": percent}), "target"));
    }
    if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status.remove("currentCPUUtilizationPercentage")
    {
        status.insert("currentMetrics".into(), cpu(json!({"averageUtilization": percent}), "current"));
    }
    // What v1 has no field for travels in an annotation, both ways.
    restore_extras(&mut value);
    value
}

const EXTRAS: &[(&str, &str, &str)] = &[
    ("autoscaling.alpha.kubernetes.io/metrics", "spec", "metrics"),
    ("autoscaling.alpha.kubernetes.io/behavior", "spec", "behavior"),
    ("autoscaling.alpha.kubernetes.io/current-metrics", "status", "currentMetrics"),
    ("autoscaling.alpha.kubernetes.io/conditions", "status", "conditions"),
];

fn restore_extras(value: &mut Value) {
    for (annotation, part, field) in EXTRAS {
        let annotations = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        let Some(Value::String(text)) = annotations.and_then(|annotations| annotations.remove(*annotation)) else { continue };
        // An annotation that is not ours to read is dropped, as upstream does.
        let Ok(extra) = serde_json::from_str::<Value>(&text) else { continue };
        let Some(target) = value.get_mut(*part).and_then(Value::as_object_mut) else { continue };
        match (target.get_mut(*field), extra) {
            (Some(Value::Array(have)), Value::Array(more)) => have.extend(more),
            (_, extra) => drop(target.insert((*field).into(), extra)),
        }
    }
}

/// The reverse of [`to_v2`].
pub fn from_v2(mut value: Value) -> Value {
    take_cpu(&mut value, "spec", "metrics", "/resource/target/averageUtilization", "targetCPUUtilizationPercentage");
    take_cpu(&mut value, "status", "currentMetrics", "/resource/current/averageUtilization", "currentCPUUtilizationPercentage");
    let mut kept = Vec::new();
    for (annotation, part, field) in EXTRAS {
        if let Some(extra) = value.get_mut(*part).and_then(Value::as_object_mut).and_then(|map| map.remove(*field)) {
            kept.push((*annotation, extra.to_string()));
        }
    }
    if let (false, Some(metadata)) = (kept.is_empty(), value.get_mut("metadata").and_then(Value::as_object_mut)) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.extend(kept.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))));
        }
    }
    value
}

fn take_cpu(value: &mut Value, part: &str, list: &str, pointer: &str, field: &str) {
    let Some(map) = value.get_mut(part).and_then(Value::as_object_mut) else { return };
    let Some(metrics) = map.get_mut(list).and_then(Value::as_array_mut) else { return };
    let is_cpu = |metric: &Value| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && metric.pointer(pointer).is_some();
    let Some(index) = metrics.iter().position(is_cpu) else { return };
    let percent = metrics.remove(index).pointer(pointer).cloned();
    if metrics.is_empty() {
        map.remove(list);
    }
    map.extend(percent.map(|percent| (field.to_owned(), percent)));
}
