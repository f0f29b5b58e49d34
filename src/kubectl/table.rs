//! Tables as the server makes them (`meta.k8s.io/v1 Table`), laid out as kubectl lays them out.
//!
//! Follows cli-runtime `pkg/printers/tableprinter.go`.

use serde_json::Value;

use super::catalog::Resource;
use super::{tabs, time};

/// What of a table is shown.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Columns of low priority too.
    pub wide: bool,
    /// The row of column names.
    pub headers: bool,
    /// A column of namespaces first.
    pub namespace: bool,
    /// A column of all labels last.
    pub labels: bool,
    /// Columns of these labels.
    pub label_columns: Vec<String>,
    /// `pod/x` in place of `x`, where several resources are listed.
    pub kinds: bool,
    /// A column of watch events first.
    pub events: bool,
}

/// A table of the server, or one made of plain objects if it made none.
pub fn from_answer(answer: Value, now: jiff::Timestamp) -> Value {
    if answer["kind"] == "Table" {
        return answer;
    }
    let row = |item: &Value| {
        let age = time::since(&item["metadata"]["creationTimestamp"], now);
        serde_json::json!({"cells": [item["metadata"]["name"], age], "object": {"metadata": item["metadata"]}})
    };
    let rows: Vec<Value> = super::output::items(&answer).into_iter().map(row).collect();
    serde_json::json!({"kind": "Table", "metadata": answer["metadata"], "rows": rows,
        "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Age", "priority": 0}]})
}

/// Rows of one table as tab-separated lines.
pub fn lines(table: &Value, columns: &Value, layout: &Layout, resource: &Resource, event: Option<&str>) -> String {
    let columns: Vec<&Value> = columns.as_array().into_iter().flatten().collect();
    let shown: Vec<usize> = (0..columns.len()).filter(|at| layout.wide || columns[*at]["priority"].as_i64().unwrap_or(0) == 0).collect();
    let mut text = String::new();
    if layout.headers {
        let mut cells: Vec<String> = Vec::new();
        cells.extend(layout.events.then(|| "EVENT".into()));
        cells.extend(layout.namespace.then(|| "NAMESPACE".into()));
        cells.extend(shown.iter().map(|at| columns[*at]["name"].as_str().unwrap_or_default().to_uppercase()));
        cells.extend(layout.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or_default().to_uppercase()));
        cells.extend(layout.labels.then(|| "LABELS".into()));
        text = format!("{}\n", cells.join("\t"));
    }
    for row in table["rows"].as_array().into_iter().flatten() {
        let meta = &row["object"]["metadata"];
        let mut cells: Vec<String> = Vec::new();
        cells.extend(layout.events.then(|| event.unwrap_or("ADDED").to_string()));
        cells.extend(layout.namespace.then(|| meta["namespace"].as_str().unwrap_or_default().to_string()));
        for (place, at) in shown.iter().enumerate() {
            let cell = cell(&row["cells"][*at]);
            cells.push(if place == 0 && layout.kinds { resource.named(&cell) } else { cell });
        }
        let label = |name: &String| meta["labels"][name.as_str()].as_str().unwrap_or_default().to_string();
        cells.extend(layout.label_columns.iter().map(label));
        cells.extend(layout.labels.then(|| labels(&meta["labels"])));
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

/// Lines with their columns aligned.
pub fn align(lines: &str) -> String {
    tabs::align(lines, 6, 3)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".into(),
        // A line break would end the row: only the first line is shown.
        Value::String(text) => match text.split_once(['\n', '\r', '\x0c']) {
            Some((first, _)) => format!("{first}..."),
            None => text.replace('\t', " "),
        },
        other => other.to_string(),
    }
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let shown: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if shown.is_empty() { "<none>".into() } else { shown.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    const TABLE: &str = "
kind: Table
columnDefinitions: [{name: Name, priority: 0}, {name: Ready, priority: 0}, {name: Node, priority: 1}]
rows:
- {cells: [a, 1/1, n1], object: {metadata: {namespace: x, labels: {app: web, b.io/tier: t}}}}
- {cells: [long-name, 0/1, null], object: {metadata: {namespace: y}}}";

    fn check(layout: &Layout, expected: &str) {
        let table: Value = serde_yaml::from_str(TABLE).unwrap();
        let catalog = support::catalog();
        let text = lines(&table, &table["columnDefinitions"], layout, catalog.resolve("deploy").unwrap(), None);
        assert_eq!(align(&text), expected);
    }

    #[test]
    fn layouts() {
        let plain = Layout { headers: true, ..Layout::default() };
        check(&plain, "NAME        READY\na           1/1\nlong-name   0/1\n");
        check(&Layout { wide: true, ..plain.clone() }, "NAME        READY   NODE\na           1/1     n1\nlong-name   0/1     <none>\n");
        check(
            &Layout { namespace: true, ..plain.clone() },
            "NAMESPACE   NAME        READY\nx           a           1/1\ny           long-name   0/1\n",
        );
        check(
            &Layout { headers: false, kinds: true, ..plain.clone() },
            "deployment.apps/a           1/1\ndeployment.apps/long-name   0/1\n",
        );
        check(
            &Layout { labels: true, label_columns: vec!["b.io/tier".into()], ..plain.clone() },
            "NAME        READY   TIER   LABELS\na           1/1     t      app=web,b.io/tier=t\nlong-name   0/1            <none>\n",
        );
    }

    #[test]
    fn plain_lists_become_tables() {
        let list: Value =
            serde_yaml::from_str("{kind: PodList, items: [{metadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z'}}]}").unwrap();
        let table = from_answer(list, "2026-01-01T00:05:00Z".parse().unwrap());
        assert_eq!(table["rows"][0]["cells"], serde_json::json!(["a", "5m"]));
    }
}
