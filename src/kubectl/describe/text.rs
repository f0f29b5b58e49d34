//! Lines of a description: indented, aligned in columns, and the forms that many kinds share.

use jiff::Timestamp;
use serde_json::Value;

use crate::kubectl::{table, tabs, time};

/// A description being written.
#[derive(Default)]
pub struct Text {
    out: String,
}

impl Text {
    /// A line; tabs separate its columns.
    pub fn line(&mut self, level: usize, line: &str) {
        self.out.push_str(&"  ".repeat(level));
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// `Name:  value`, or nothing if there is no value.
    pub fn field(&mut self, level: usize, name: &str, value: &Value) {
        if !value.is_null() && value != "" {
            self.line(level, &format!("{name}:\t{}", show(value)));
        }
    }

    /// `Name:  value`, `<none>` if there is no value.
    pub fn field_or_none(&mut self, level: usize, name: &str, value: &Value) {
        let shown = if value.is_null() || value == "" { "<none>".into() } else { show(value) };
        self.line(level, &format!("{name}:\t{shown}"));
    }

    /// A map, one pair per line.
    pub fn map(&mut self, level: usize, name: &str, map: &Value, sign: &str) {
        let mut name = format!("{name}:");
        let pairs = map.as_object().into_iter().flatten().filter(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration");
        for (key, value) in pairs {
            self.line(level, &format!("{name}\t{key}{sign}{}", show(value)));
            name.clear();
        }
        if !name.is_empty() {
            self.line(level, &format!("{name}\t<none>"));
        }
    }

    /// Name, namespace, labels, annotations.
    pub fn head(&mut self, object: &Value) {
        let meta = &object["metadata"];
        self.field(0, "Name", &meta["name"]);
        self.field(0, "Namespace", &meta["namespace"]);
    }

    /// Labels and annotations.
    pub fn pairs(&mut self, object: &Value) {
        self.map(0, "Labels", &object["metadata"]["labels"], "=");
        self.map(0, "Annotations", &object["metadata"]["annotations"], ": ");
    }

    /// Type, status and, if told, reason of conditions.
    pub fn conditions(&mut self, object: &Value, columns: &[(&str, &str)]) {
        let conditions: Vec<&Value> = object["status"]["conditions"].as_array().into_iter().flatten().collect();
        if conditions.is_empty() {
            return;
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let rules: Vec<String> = names.iter().map(|name| "-".repeat(name.len())).collect();
        self.line(0, "Conditions:");
        self.line(1, &names.join("\t"));
        self.line(1, &rules.join("\t"));
        for condition in conditions {
            let cells: Vec<String> = columns
                .iter()
                .map(|(_, field)| match field.ends_with("Time") {
                    true => time::rfc1123(&condition[*field]),
                    false => show(&condition[*field]),
                })
                .collect();
            self.line(1, &cells.join("\t"));
        }
    }

    /// The events, oldest first.
    pub fn events(&mut self, events: &[Value], now: Timestamp) {
        if events.is_empty() {
            self.line(0, "Events:\t<none>");
            return;
        }
        let last = |event: &Value| {
            [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]]
                .into_iter()
                .find(|time| time.is_string())
                .cloned()
                .unwrap_or_default()
        };
        let mut sorted: Vec<&Value> = events.iter().collect();
        sorted.sort_by_key(|event| last(event).as_str().unwrap_or_default().to_string());
        self.line(0, "Events:");
        self.line(1, "Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for event in sorted {
            let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
            let first = if event["firstTimestamp"].is_string() { event["firstTimestamp"].clone() } else { event["eventTime"].clone() };
            let age = match count {
                ..=1 => time::since(&last(event), now),
                count => format!("{} (x{count} over {})", time::since(&last(event), now), time::since(&first, now)),
            };
            let from = event["source"]["component"]
                .as_str()
                .filter(|from| !from.is_empty())
                .or(event["reportingComponent"].as_str())
                .unwrap_or_default();
            let message = event["message"].as_str().unwrap_or_default().trim().replace('\n', " ");
            self.line(1, &format!("{}\t{}\t{age}\t{from}\t{message}", show(&event["type"]), show(&event["reason"])));
        }
    }

    /// The whole, aligned.
    pub fn finish(self) -> String {
        tabs::align(&self.out, 0, 2)
    }
}

/// A scalar as it is; nothing for null.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Elements of a list.
pub fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `a=b,c=d`.
pub fn labels(value: &Value) -> String {
    table::labels(value)
}

/// The owner that manages the object: `ReplicaSet/x`.
pub fn controller(object: &Value) -> Option<String> {
    let owner = each(&object["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == true)?;
    Some(format!("{}/{}", show(&owner["kind"]), show(&owner["name"])))
}
