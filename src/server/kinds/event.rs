//! Event, in both of its versions: core/v1 is stored, events.k8s.io/v1 is the same with newer names.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::support::path::{Errors, Path};
use super::support::{convert, duration, print, rules};
use crate::api::FieldError;

const FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

kind!(Event: NAMESPACED { singular: "event", short: &["ev"], generation: false, update_may_create: true }
    const FIELDS: &'static [&'static str] = FIELDS;
    fn field(&self, path: &str) -> Option<String> {
        let about = &self.involved_object;
        let value = match path {
            "involvedObject.kind" => &about.kind,
            "involvedObject.namespace" => &about.namespace,
            "involvedObject.name" => &about.name,
            "involvedObject.uid" => &about.uid,
            "involvedObject.apiVersion" => &about.api_version,
            "involvedObject.resourceVersion" => &about.resource_version,
            "involvedObject.fieldPath" => &about.field_path,
            "reason" => &self.reason,
            "reportingComponent" => &self.reporting_component,
            "type" => &self.type_,
            "source" => return Some(component(self)),
            _ => return None,
        };
        Some(value.clone().unwrap_or_default())
    }
    fn validate(&self, old: Option<&Self>) -> Errors { check(self, old) }
    columns!(Event;
        "Last Seen" string: "When it last happened." => |event, now| print::text(last_seen(event, now)),
        "Type" string: "Normal or Warning." => |event, _| print::opt(&event.type_),
        "Reason" string: "Why, in a word." => |event, _| print::opt(&event.reason),
        "Object" string: "What it is about." => |event, _| {
            let about = &event.involved_object;
            let kind = rules::str_of(&about.kind).to_lowercase();
            print::text(match rules::str_of(&about.name) { "" => kind, name => format!("{kind}/{name}") })
        },
        "Subobject" string wide: "Which part of it." => |event, _| print::opt(&event.involved_object.field_path),
        "Source" string wide: "Who says so." => |event, _| {
            let host = event.source.as_ref().and_then(|source| source.host.clone()).or_else(|| event.reporting_instance.clone());
            let parts = [component(event), host.unwrap_or_default()];
            print::text(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
        },
        "Message" string: "For people." => |event, _| print::text(rules::str_of(&event.message).trim()),
        "First Seen" string wide: "When it first happened." => |event, now| print::text(first_seen(event, now)),
        "Count" integer wide: "How often." => |event, _| print::int(Some(match &event.series {
            Some(series) => series.count.unwrap_or_default(),
            None => event.count.filter(|count| *count > 0).unwrap_or(1),
        })),
        "Name" string wide: "Its name." => |event, _| print::opt(&event.metadata.name),
    );
);

fn component(event: &Event) -> String {
    let legacy = event.source.as_ref().and_then(|source| source.component.clone()).filter(|name| !name.is_empty());
    legacy.or_else(|| event.reporting_component.clone()).unwrap_or_default()
}

fn first(event: &Event) -> Option<Timestamp> {
    event.first_timestamp.as_ref().map(|time| time.0).or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn first_seen(event: &Event, now: Timestamp) -> String {
    duration::since(first(event), now)
}

fn last_seen(event: &Event, now: Timestamp) -> String {
    if let Some(series) = &event.series {
        return duration::since(series.last_observed_time.as_ref().map(|time| time.0), now);
    }
    duration::since(event.last_timestamp.as_ref().map(|time| time.0).or_else(|| first(event)), now)
}

fn check(event: &Event, old: Option<&Event>) -> Errors {
    let mut errors = Errors::new();
    let about = rules::str_of(&event.involved_object.namespace);
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    // Cluster-scoped objects have their events in the default namespace.
    let wanted = if about.is_empty() { ["default", "kube-system"].contains(&namespace) } else { about == namespace };
    if !wanted {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    // Events with an eventTime are of the new API, whose rules are stricter.
    if event.event_time.is_some() && old.is_none() {
        let fields = [
            ("reportingController", &event.reporting_component),
            ("reportingInstance", &event.reporting_instance),
            ("action", &event.action),
            ("reason", &event.reason),
        ];
        for (field, value) in fields {
            rules::required(&mut errors, &Path::new(field), rules::str_of(value));
        }
        rules::one_of(&mut errors, &Path::new("type"), rules::str_of(&event.type_), &["Normal", "Warning"]);
        if rules::str_of(&event.message).len() > 1024 {
            errors.push(FieldError::invalid("message", "", "can have at most 1024 characters"));
        }
    }
    errors
}

/// Selectable fields as events.k8s.io/v1 and core/v1 call them.
pub const FIELD_NAMES: &[(&str, &str)] = &[
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
];

const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// events.k8s.io/v1 to core/v1.
pub fn to_core(mut value: Value) -> Value {
    convert::rename_fields(&mut value, NAMES);
    value
}

/// The reverse of [`to_core`].
pub fn from_core(mut value: Value) -> Value {
    let reverse: Vec<(&str, &str)> = NAMES.iter().map(|(new, core)| (*core, *new)).collect();
    convert::rename_fields(&mut value, &reverse);
    value
}
