//! Printer columns (apiextensions-apiserver `pkg/registry/customresource/tableconvertor`).

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::Value;

use crate::api::jsonpath::{Template, show};
use crate::server::kinds::duration;
use crate::server::registry::ColumnDef;
use crate::server::registry::strategy::Cell;

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to \
     request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration \
     definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be \
     set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in \
     UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// A column: its heading and where its value is. A path that does not parse shows nothing.
pub(super) struct Column {
    def: ColumnDef,
    path: Option<Template>,
}

/// The columns of a version; without any, the age.
pub(super) fn columns(given: Option<&[CustomResourceColumnDefinition]>) -> Vec<Column> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return vec![column("Age", "date", "", 0, CREATED.into(), ".metadata.creationTimestamp")];
    }
    let each = given.iter().map(|one| {
        let description = one.description.clone().filter(|text| !text.is_empty());
        let description =
            description.unwrap_or_else(|| format!("Custom resource definition column (in JSONPath format): {}", one.json_path));
        let format = one.format.as_deref().unwrap_or_default();
        column(&one.name, &one.type_, format, one.priority.unwrap_or_default(), description, &one.json_path)
    });
    each.collect()
}

fn column(name: &str, kind: &str, format: &str, priority: i32, description: String, path: &str) -> Column {
    let (name, kind, format) = (name.to_owned().into(), kind.to_owned().into(), format.to_owned().into());
    let path = Template::parse(&format!("{{{path}}}")).ok();
    Column { def: ColumnDef { name, kind, format, priority, description: description.into() }, path }
}

/// The headings, Name first.
pub(super) fn headings(columns: &[Column]) -> Vec<ColumnDef> {
    let name = ColumnDef { name: "Name".into(), kind: "string".into(), format: "name".into(), priority: 0, description: NAME.into() };
    std::iter::once(name).chain(columns.iter().map(|column| column.def.clone())).collect()
}

/// The cells of an object, Name first.
pub(super) fn row(columns: &[Column], name: &str, object: &Value, now: Timestamp) -> Vec<Cell> {
    let cell = |column: &Column| {
        let values = column.path.as_ref().and_then(|path| path.values(object).ok()).unwrap_or_default();
        values.first().map_or(Cell::Null, |value| one(&column.def.kind, value, now))
    };
    std::iter::once(Cell::Text(name.into())).chain(columns.iter().map(cell)).collect()
}

fn one(kind: &str, value: &Value, now: Timestamp) -> Cell {
    match (kind, value) {
        ("string", value) => Cell::Text(show(value)),
        ("integer", Value::Number(number)) => number.as_i64().map_or(Cell::Null, Cell::Int),
        ("number", Value::Number(number)) => number.as_f64().map_or(Cell::Null, Cell::Number),
        ("boolean", Value::Bool(value)) => Cell::Bool(*value),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => Cell::Text(duration::since(Some(time), now)),
            Err(_) => Cell::Text("<invalid>".into()),
        },
        _ => Cell::Null,
    }
}
