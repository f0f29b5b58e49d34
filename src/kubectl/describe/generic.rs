//! Namespaces, and any other kind.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{Text, show};

/// A namespace.
pub(super) fn namespace(text: &mut Text, object: &Value, _: &[Value], _: Timestamp) {
    text.field(0, "Name", &object["metadata"]["name"]);
    text.pairs(object);
    text.field_or_none(0, "Status", &object["status"]["phase"]);
    text.conditions(object, &[("Type", "type"), ("Status", "status"), ("Reason", "reason"), ("Message", "message")]);
}

/// Any kind: all its fields, with names made of the JSON's. The values of secrets are not shown.
pub(super) fn object(text: &mut Text, object: &Value, _: &[Value], _: Timestamp) {
    text.head(object);
    text.pairs(object);
    text.field(0, "API Version", &object["apiVersion"]);
    text.field(0, "Kind", &object["kind"]);
    let secret = object["kind"] == "Secret" && object["apiVersion"] == "v1";
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let skipped = ["name", "namespace", "labels", "annotations", "managedFields"];
                text.line(0, "Metadata:");
                for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| !skipped.contains(&key.as_str())) {
                    field(text, 1, key, value);
                }
            }
            "data" if secret => {
                text.line(0, "Data:");
                for (key, value) in value.as_object().into_iter().flatten() {
                    let encoded = value.as_str().unwrap_or_default();
                    let bytes =
                        encoded.len() / 4 * 3 - encoded.bytes().rev().take_while(|byte| *byte == b'=').count().min(encoded.len() / 4 * 3);
                    text.line(1, &format!("{key}:\t{bytes} bytes"));
                }
            }
            "data" => {
                text.line(0, "Data:");
                for (key, value) in value.as_object().into_iter().flatten() {
                    text.line(1, &format!("{key}:"));
                    show(value).lines().for_each(|line| text.line(2, line));
                }
            }
            _ => field(text, 0, key, value),
        }
    }
}

fn field(text: &mut Text, level: usize, key: &str, value: &Value) {
    let title = title(key);
    match value {
        Value::Object(map) if map.is_empty() => {}
        Value::Object(map) => {
            text.line(level, &format!("{title}:"));
            map.iter().for_each(|(key, value)| field(text, level + 1, key, value));
        }
        Value::Array(items) => {
            text.line(level, &format!("{title}:"));
            for item in items {
                match item {
                    Value::Object(map) => map.iter().for_each(|(key, value)| field(text, level + 1, key, value)),
                    other => text.line(level + 1, &show(other)),
                }
            }
        }
        other => text.line(level, &format!("{title}:\t{}", show(other))),
    }
}

/// `podCIDR` becomes `Pod CIDR`: a word starts where a small letter is followed by a capital.
fn title(key: &str) -> String {
    let mut title = String::new();
    let mut small = false;
    for (at, c) in key.chars().enumerate() {
        if at == 0 {
            title.extend(c.to_uppercase());
        } else {
            if c.is_uppercase() && small {
                title.push(' ');
            }
            title.push(c);
        }
        small = c.is_lowercase();
    }
    title
}
