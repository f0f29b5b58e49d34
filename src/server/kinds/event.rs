//! Event, in both of its versions: core/v1 is stored, events.k8s.io/v1 is the same with newer names.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::support::path::{Errors, Path};
use super::support::{convert, duration, print, rules};
use crate::api::{FieldError, names};

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
    fn validate(&self, _old: Option<&Self>) -> Errors { check(self) }
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

/// Upstream's `legacyValidateEvent`, which holds in both versions; [`check_new`] has what events.k8s.io/v1 asks besides.
fn check(event: &Event) -> Errors {
    let mut errors = Errors::new();
    let about = rules::str_of(&event.involved_object.namespace);
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let is_new = event.event_time.is_some();
    // Objects without a namespace have their events in the default one.
    let fits = match (about, is_new) {
        ("", false) => namespace == "default",
        ("", true) => ["default", "kube-system"].contains(&namespace),
        (about, false) => about == namespace,
        (_, true) => true,
    };
    if !fits {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if is_new {
        let controller = rules::str_of(&event.reporting_component);
        rules::required(&mut errors, &Path::new("reportingController"), controller);
        rules::syntax(&mut errors, &Path::new("reportingController"), controller, names::qualified);
        let texts = [
            ("reportingInstance", &event.reporting_instance, true, 128),
            ("action", &event.action, true, 128),
            ("reason", &event.reason, true, 128),
            ("message", &event.message, false, 1024),
        ];
        for (field, value, needed, most) in texts {
            let value = rules::str_of(value);
            if needed {
                rules::required(&mut errors, &Path::new(field), value);
            }
            if value.len() > most {
                errors.push(FieldError::invalid(field, "", format!("can have at most {most} characters")));
            }
        }
    }
    errors
}

/// Rules of events that come as events.k8s.io/v1.
pub fn check_new(event: &Event, old: Option<&Event>) -> Errors {
    let mut errors = Errors::new();
    if old.is_none_or(|old| old.series != event.series)
        && let Some(series) = &event.series
    {
        if series.count.unwrap_or_default() < 2 {
            errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
        }
        if series.last_observed_time.is_none() {
            errors.push(FieldError::required("series.lastObservedTime", ""));
        }
    }
    match old {
        None => check_new_fields(&mut errors, event),
        Some(old) => check_kept(&mut errors, event, old),
    }
    errors
}

fn check_new_fields(errors: &mut Errors, event: &Event) {
    if event.event_time.is_none() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = rules::str_of(&event.type_);
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    let said = |text: &Option<String>| !rules::str_of(text).is_empty();
    let replaced = [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.is_some_and(|count| count != 0)),
        ("source", event.source.as_ref().is_some_and(|source| said(&source.component) || said(&source.host))),
    ];
    errors.extend(replaced.iter().filter(|(_, set)| *set).map(|(field, _)| FieldError::invalid(*field, "", "needs to be unset")));
}

/// All but the series stays.
fn check_kept(errors: &mut Errors, event: &Event, old: &Event) {
    macro_rules! kept {
        ($($field:literal: $name:ident),* $(,)?) => {
            $(rules::immutable(errors, &Path::new($field), &event.$name, &old.$name);)*
        };
    }
    kept!(
        "involvedObject": involved_object, "reason": reason, "message": message, "source": source, "firstTimestamp": first_timestamp,
        "lastTimestamp": last_timestamp, "count": count, "type": type_, "eventTime": event_time, "action": action, "related": related,
        "reportingController": reporting_component, "reportingInstance": reporting_instance,
    );
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
