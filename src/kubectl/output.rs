//! The forms of `-o`.

use serde::Serialize;
use serde_json::Value;

use super::catalog::Resource;
use super::custom_columns::Columns;
use super::error::{Error, Result};
use super::flags::Change;
use super::session::Session;
use crate::api::jsonpath::Template;

/// How objects are shown.
#[derive(Debug)]
pub enum Output {
    /// The server's table; with all its columns if wide.
    Table {
        /// Columns of low priority too.
        wide: bool,
    },
    /// YAML.
    Yaml,
    /// Indented JSON.
    Json,
    /// `kind/name`.
    Name,
    /// A template.
    JsonPath(Template),
    /// Columns of JSONPaths.
    Columns(Columns),
}

impl Output {
    /// Reads the flag's value.
    pub fn parse(flag: Option<&str>) -> Result<Output> {
        let flag = flag.unwrap_or_default();
        let (name, argument) = flag.split_once('=').map_or((flag, None), |(name, argument)| (name, Some(argument)));
        let template = |argument: Option<&str>| match argument.filter(|argument| !argument.is_empty()) {
            Some(argument) => Ok(argument.to_string()),
            None => Error::usage(format!("template format specified but no template given: -o {name}=...")),
        };
        match name {
            "" => Ok(Output::Table { wide: false }),
            "wide" => Ok(Output::Table { wide: true }),
            "yaml" => Ok(Output::Yaml),
            "json" => Ok(Output::Json),
            "name" => Ok(Output::Name),
            "jsonpath" | "jsonpath-as-json" => Ok(Output::JsonPath(Template::parse(&template(argument)?)?)),
            "jsonpath-file" => Ok(Output::JsonPath(Template::parse(&file(&template(argument)?)?)?)),
            "custom-columns" => Ok(Output::Columns(Columns::parse(&template(argument)?)?)),
            "custom-columns-file" => Ok(Output::Columns(Columns::parse_file(&file(&template(argument)?)?)?)),
            other => Error::usage(format!(
                "unable to match a printer suitable for the output format {other:?}, allowed formats are: custom-columns,\
                 custom-columns-file,json,jsonpath,jsonpath-file,name,wide,yaml"
            )),
        }
    }

    /// One object, or a list of them, in this form. `None` for tables, which only the server makes.
    pub fn render(&self, object: &Value, resource: Option<&Resource>) -> Result<Option<String>> {
        Ok(Some(match self {
            Output::Table { .. } => return Ok(None),
            Output::Yaml => yaml(object),
            Output::Json => json(object)?,
            Output::Name => items(object).iter().map(|item| format!("{}\n", name(item, resource))).collect(),
            Output::JsonPath(template) => template.render(object)?,
            Output::Columns(columns) => columns.render(&items(object), true)?,
        }))
    }
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::File { action: "open", path: path.into(), source })
}

/// The items of a list, or the object itself.
pub fn items(object: &Value) -> Vec<&Value> {
    match object["items"].as_array() {
        Some(items) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.iter().collect(),
        _ => vec![object],
    }
}

fn name(object: &Value, resource: Option<&Resource>) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let own = object["kind"].as_str().map(|kind| {
        let group = object["apiVersion"].as_str().unwrap_or_default().split_once('/').map_or("", |(group, _)| group);
        Resource { kind: kind.into(), group: group.into(), ..Resource::default() }
    });
    own.as_ref().or(resource).map_or_else(|| name.to_string(), |resource| resource.named(name))
}

/// YAML with a final line break.
pub fn yaml(value: &Value) -> String {
    crate::api::yaml::write(value)
}

/// JSON, indented by four spaces as kubectl does.
pub fn json(value: &Value) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|source| Error::Json { what: "writing JSON", source })?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes `metadata.managedFields` out, which is noise to people.
pub fn without_managed_fields(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        without_managed_fields(item);
    }
}

/// Tells what happened to an object: one line, or the object in the form of `-o`.
pub fn report(session: &Session, change: &Change, title: &str, object: &Value, done: &str) -> Result<()> {
    match Output::parse(change.output.as_deref())? {
        Output::Table { .. } => session.line(&format!("{title} {done}{}", change.dry_run.suffix())),
        output => {
            let mut object = object.clone();
            without_managed_fields(&mut object);
            let text = output.render(&object, None)?.unwrap_or_default();
            session.print(&text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let list: Value = serde_yaml::from_str(
            "{kind: List, apiVersion: v1, items: [{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}, {apiVersion: v1, kind: Pod, metadata: {name: b}}]}",
        )
        .unwrap();
        for (flag, expected) in [
            ("name", "deployment.apps/a\npod/b\n"),
            ("jsonpath={.items[*].metadata.name}", "a b"),
            ("custom-columns=NAME:.metadata.name,KIND:.kind", "NAME   KIND\na      Deployment\nb      Pod\n"),
        ] {
            let output = Output::parse(Some(flag)).unwrap();
            assert_eq!(output.render(&list, None).unwrap().as_deref(), Some(expected), "{flag}");
        }
        assert_eq!(json(&serde_json::json!({"a": [1]})).unwrap(), "{\n    \"a\": [\n        1\n    ]\n}\n");
        assert!(Output::parse(Some("nonsense")).is_err());
        assert!(Output::parse(Some("jsonpath=")).is_err());
    }
}
