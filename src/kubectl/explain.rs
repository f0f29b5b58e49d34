//! `explain`: the documentation of fields, from the server's OpenAPI v3 document.
//!
//! Follows `kubectl/pkg/explain/v2`.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::Value;

use super::catalog::{Catalog, Resource};
use super::error::{Error, Result};
use super::session::{JSON, Session};
use super::verb::Verb;

/// Flags of `explain`.
#[derive(Args, Clone, Debug)]
pub struct Explain {
    /// TYPE or TYPE.FIELD.FIELD
    pub path: String,
    /// Print all fields of fields, without their texts
    #[arg(long)]
    pub recursive: bool,
    /// Which version of the API
    #[arg(long)]
    pub api_version: Option<String>,
}

impl Verb for Explain {
    const NAME: &'static str = "explain";
    const ABOUT: &'static str = "Get documentation for a resource";

    async fn run(self, session: &Session) -> Result<i32> {
        let catalog = session.catalog().await?;
        let (found, fields) = split(&self.path, catalog)?;
        let resource = match &self.api_version {
            None => found,
            Some(version) => match catalog.of_kind(version, &found.kind) {
                Some(resource) => resource,
                None => return Error::usage(format!("couldn't find resource for {:?} in version {version:?}", found.kind)),
            },
        };
        let root = if resource.group.is_empty() { "api" } else { "apis" };
        let document = session.get(&format!("/openapi/v3/{root}/{}", resource.api_version()), JSON).await?;
        session.print(&page(&document, resource, &fields, self.recursive)?)?;
        Ok(0)
    }
}

/// The type, whose group may follow it, and the fields behind it: `pods.metrics.k8s.io.usage`.
fn split<'a>(path: &str, catalog: &'a Catalog) -> Result<(&'a Resource, Vec<String>)> {
    let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    // The longest that names a type; what is left are fields.
    let found = (2..=parts.len()).rev().find_map(|count| Some((catalog.resolve(&parts[..count].join(".")).ok()?, count)));
    let (resource, count) = match found {
        Some(found) => found,
        None => (catalog.resolve(parts.first().copied().unwrap_or_default())?, 1),
    };
    Ok((resource, parts.iter().skip(count).map(|part| (*part).to_owned()).collect()))
}

struct Document<'a> {
    schemas: &'a Value,
}

impl<'a> Document<'a> {
    /// Follows references and single-element `allOf`s.
    fn follow(&self, mut schema: &'a Value) -> &'a Value {
        // References of a well-formed document end soon.
        for _ in 0..16 {
            let next = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
            match next.and_then(|name| name.rsplit('/').next()).and_then(|name| self.schemas.get(name)) {
                Some(target) => schema = target,
                None => return schema,
            }
        }
        schema
    }

    /// What a list or map holds in the end.
    fn inner(&self, schema: &'a Value) -> &'a Value {
        let schema = self.follow(schema);
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                return self.inner(&schema[below]);
            }
        }
        schema
    }

    /// `string`, `[]Container`, `map[string]string`.
    fn type_name(&self, schema: &'a Value) -> String {
        let named = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str()).and_then(|name| name.rsplit(['/', '.']).next());
        let followed = self.follow(schema);
        if followed["items"].is_object() {
            return format!("[]{}", self.type_name(&followed["items"]));
        }
        if followed["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_name(&followed["additionalProperties"]));
        }
        match (named, followed["type"].as_str()) {
            (Some(name), Some("object") | None) => name.to_string(),
            (Some(name), Some(_)) if followed["properties"].is_object() => name.to_string(),
            (Some("Quantity"), _) => "Quantity".into(),
            (_, Some("object")) => "Object".into(),
            (_, Some(plain)) => plain.to_string(),
            (None, None) => "Object".into(),
        }
    }
}

fn page(document: &Value, resource: &Resource, fields: &[String], recursive: bool) -> Result<String> {
    let document = Document { schemas: &document["components"]["schemas"] };
    let is_ours = |schema: &Value| {
        let marks = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
        marks.into_iter().any(|mark| {
            mark["group"] == resource.group.as_str()
                && mark["version"] == resource.version.as_str()
                && mark["kind"] == resource.kind.as_str()
        })
    };
    let Some((_, mut schema)) = document.schemas.as_object().into_iter().flatten().find(|(_, schema)| is_ours(schema)) else {
        return Error::usage(format!("GVR ({}) not found in OpenAPI schema", resource.qualified()));
    };
    let (mut description, mut last) = (schema["description"].as_str(), None);
    for field in fields {
        let holder = document.inner(schema);
        let Some(next) = holder["properties"].get(field.as_str()) else {
            return Error::usage(format!("field {field:?} does not exist"));
        };
        description = next["description"].as_str().or(document.follow(next)["description"].as_str());
        last = Some((field, document.type_name(next)));
        schema = next;
    }
    let mut text = String::new();
    if !resource.group.is_empty() {
        text.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    text.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version));
    if let Some((field, type_name)) = &last {
        text.push_str(&format!("FIELD: {field} <{type_name}>\n\n"));
    }
    text.push_str(&format!("DESCRIPTION:\n{}\n", wrapped(description.unwrap_or("<empty>"), 4)));
    let holder = document.inner(schema);
    let own = holder["description"].as_str().filter(|own| last.is_some() && holder["properties"].is_object() && description != Some(own));
    if let Some(own) = own {
        text.push_str(&wrapped(own, 4));
        text.push('\n');
    }
    if let Some(values) = document.inner(schema)["enum"].as_array() {
        text.push_str(&format!(
            "ENUM:\n{}\n",
            values.iter().map(|value| format!("    {}\n", value.as_str().unwrap_or_default())).collect::<String>()
        ));
    }
    if holder["properties"].is_object() {
        text.push_str("FIELDS:\n");
        list(&document, holder, recursive, 1, &mut Vec::new(), &mut text);
    }
    text.push('\n');
    Ok(text)
}

/// The fields of an object; `above` are the types that led here, which are not entered again.
fn list<'a>(document: &Document<'a>, holder: &'a Value, recursive: bool, level: usize, above: &mut Vec<*const Value>, text: &mut String) {
    let required: BTreeSet<&str> = holder["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let indent = "  ".repeat(level);
    for (name, schema) in holder["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(name.as_str()) { " -required-" } else { "" };
        text.push_str(&format!("{indent}{name}\t<{}>{mark}\n", document.type_name(schema)));
        let inner = document.inner(schema);
        if recursive {
            let seen = std::ptr::from_ref(inner);
            if inner["properties"].is_object() && !above.contains(&seen) {
                above.push(seen);
                list(document, inner, true, level + 1, above, text);
                above.pop();
            }
            continue;
        }
        if let Some(values) = inner["enum"].as_array() {
            let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            text.push_str(&format!("{indent}enum: {}\n", values.join(", ")));
        }
        let description = schema["description"].as_str().or(document.follow(schema)["description"].as_str());
        text.push_str(&wrapped(description.unwrap_or("<no description>"), level * 2 + 2));
        text.push('\n');
    }
}

/// Lines of at most 80 characters, indented.
fn wrapped(text: &str, indent: usize) -> String {
    let space = " ".repeat(indent);
    let mut out = String::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > 80 {
                out.push_str(&format!("{space}{line}\n"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(if line.is_empty() { "" } else { &space });
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    const DOCUMENT: &str = "
components:
  schemas:
    D:
      description: A deployment.
      x-kubernetes-group-version-kind: [{group: apps, version: v1, kind: Deployment}]
      properties: {spec: {description: What is wanted., allOf: [{$ref: '#/components/schemas/a.b.Spec'}]}}
    a.b.Spec:
      description: The spec.
      type: object
      required: [n]
      properties: {n: {type: integer, description: How many.}, self: {$ref: '#/components/schemas/a.b.Spec'}, m: {type: object, additionalProperties: {type: string}}, l: {type: array, items: {type: string, enum: [x, y]}}}
";

    fn run(path: &str, recursive: bool) -> Result<String> {
        let catalog = support::catalog();
        let (resource, fields) = split(path, &catalog).unwrap();
        page(&serde_yaml::from_str(DOCUMENT).unwrap(), resource, &fields, recursive)
    }

    #[test]
    fn pages() {
        let text = run("deploy.spec", false).unwrap();
        let start = "GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\nFIELD: spec <Spec>\n\nDESCRIPTION:\n    What is wanted.\n\n    The spec.\n\nFIELDS:\n";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("  n\t<integer> -required-\n    How many.\n"), "{text}");
        assert!(text.contains("  m\t<map[string]string>\n") && text.contains("  l\t<[]string>\n  enum: x, y\n"), "{text}");
        let text = run("deployment.spec.self.n", false).unwrap();
        assert!(text.contains("FIELD: n <integer>\n\nDESCRIPTION:\n    How many.\n"), "{text}");
        assert_eq!(run("deployments.apps.spec", false).unwrap(), run("deploy.spec", false).unwrap());
        // A type that holds itself ends.
        assert!(run("deploy", true).unwrap().contains("  spec\t<Spec>\n    l\t<[]string>\n"));
        assert_eq!(run("deploy.nope", false).unwrap_err().to_string(), "error: field \"nope\" does not exist");
    }
}
