//! What the two kinds of mutation make of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::atomics;
use super::configured::Compiled;
use super::input::{Desk, Input};
use crate::api::apply::walk::{self, Fault};
use crate::api::cel::{Budget, List, Value};
use crate::api::patch::{self, PatchError};
use crate::api::policy::{Failure, Patch, evaluate};
use crate::server::registry::KindDef;

/// The object after the mutation at `index`. The error is upstream's text of why there is none.
pub(super) fn patched(
    policy: &Compiled,
    index: usize,
    input: &Input,
    params: Option<&Json>,
    desk: &Desk<'_>,
    kind: &KindDef,
) -> Result<Json, String> {
    let mutation = &policy.policy.mutations[index];
    let program = mutation.expression.as_ref().map_err(Clone::clone)?;
    let activation = policy.policy.bind(input.activation(params, desk).map_err(|error| error.to_string())?);
    let value = evaluate(program, &activation, &mut Budget::new(Budget::RUNTIME)).map_err(|failure| match failure {
        Failure::Budget(why) | Failure::Expression(why) => why,
    })?;
    match mutation.patch {
        Patch::ApplyConfiguration => apply_configuration(input.object(), &value, kind),
        Patch::Json => json_patch(input.object(), &value),
    }
}

fn apply_configuration(live: &Json, value: &Value<'_>, kind: &KindDef) -> Result<Json, String> {
    names_match(value, "Object").map_err(|why| format!("type mismatch: {why}"))?;
    let mut config = value.to_json().ok_or("invalid return type")?;
    for field in ["apiVersion", "kind"] {
        config[field] = live[field].clone();
    }
    let whole = atomics::atomics(&kind.merge_schema(), &config);
    if !whole.is_empty() {
        let why = format!("may not mutate atomic arrays, maps or structs: {}", whole.join(", "));
        return Err(format!("error applying patch: invalid ApplyConfiguration: {why}"));
    }
    walk::merge(&kind.structure().schema, live, &config).map_err(|faults| format!("error applying patch: {}", Fault::list(&faults)))
}

/// Whether constructed objects have the types that their places in the whole ask for.
fn names_match(value: &Value<'_>, expected: &str) -> Result<(), String> {
    match value {
        Value::Object(object) if *object.name != *expected => Err(format!(
            "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
            &*object.name
        )),
        Value::Object(object) => object.fields.iter().try_for_each(|(name, field)| names_match(field, &format!("{expected}.{name}"))),
        Value::List(List::Owned(items)) => items.iter().try_for_each(|item| names_match(item, expected)),
        Value::Optional(Some(inner)) => names_match(inner, expected),
        _ => Ok(()),
    }
}

fn json_patch(live: &Json, value: &Value<'_>) -> Result<Json, String> {
    let Value::List(operations) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
    };
    let mut patch = Vec::new();
    for operation in operations.iter() {
        let operation = operation.map_err(|error| error.to_string())?;
        let Value::Object(object) = &operation else {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".into());
        };
        patch.push(Json::Object(operation_of(&object.fields)?));
    }
    let patch = Json::Array(patch).to_string();
    match patch::json(live, patch.as_bytes()) {
        Ok(after) => Ok(after),
        // A test that fails says that there is nothing to do.
        Err(PatchError::Apply(error)) if matches!(error.kind, json_patch::PatchErrorKind::TestFailed) => Ok(live.clone()),
        Err(error) => Err(format!("JSONPath: {error}")),
    }
}

fn operation_of(fields: &BTreeMap<String, Value<'_>>) -> Result<Map<String, Json>, String> {
    let mut operation = Map::new();
    for (name, value) in fields {
        if let (Value::Object(object), "value") = (value, name.as_str()) {
            names_match(value, &object.name).map_err(|why| format!("type mismatch: {why}"))?;
        }
        let json = value.to_json().ok_or("JSONPath valueExpression evaluated to a type that could not marshal to JSON")?;
        if name != "from" || json != json!("") {
            operation.insert(name.clone(), json);
        }
    }
    for required in ["op", "path"] {
        operation.entry(required).or_insert_with(|| json!(""));
    }
    Ok(operation)
}
