//! Values that may be absent (cel-go `cel/library.go`), and `jsonpatch.escapeKey` (apiserver `pkg/cel/library/jsonpatch.go`).

use std::sync::Arc;

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;

pub(super) const TABLE: &[Row] = &[
    Row("optional.of", |_, args| Ok(Value::Optional(Some(Arc::new(args[0].clone())))), &["optional_of|(V) -> optional(V)"]),
    Row("optional.ofNonZeroValue", of_non_zero, &["optional_ofNonZeroValue|(V) -> optional(V)"]),
    Row("optional.none", |_, _| Ok(Value::Optional(None)), &["optional_none|() -> optional(V)"]),
    Row("hasValue", |_, args| Ok(Value::Bool(inner(&args[0])?.is_some())), &["optional_hasValue|optional(V).() -> bool"]),
    Row(
        "value",
        |_, args| inner(&args[0])?.map(|value| (**value).clone()).ok_or_else(|| EvalError::new("optional.none() dereference")),
        &["optional_value|optional(V).() -> V"],
    ),
    Row(
        "or",
        |_, args| Ok(if inner(&args[0])?.is_some() { args[0].clone() } else { args[1].clone() }),
        &["optional_or_optional|optional(V).(optional(V)) -> optional(V)"],
    ),
    Row(
        "orValue",
        |_, args| Ok(inner(&args[0])?.map_or_else(|| args[1].clone(), |value| (**value).clone())),
        &["optional_orValue_value|optional(V).(V) -> V"],
    ),
    Row("optional.unwrap", unwrap, &["optional_unwrap|(list(optional(T))) -> list(T)"]),
    Row("unwrapOpt", unwrap, &["optional_unwrapOpt|list(optional(T)).() -> list(T)"]),
    Row(
        "jsonpatch.escapeKey",
        |_, args| Ok(args[0].str()?.replace('~', "~0").replace('/', "~1").into()),
        &["string_jsonpatch_escapeKey_string|(string) -> string"],
    ),
];

fn inner<'v, 'a>(value: &'v Value<'a>) -> Res<Option<&'v Arc<Value<'a>>>> {
    match value {
        Value::Optional(inner) => Ok(inner.as_ref()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn of_non_zero<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let zero = match &args[0] {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) | Value::Optional(None) => true,
        Value::Double(value) => *value == 0.0,
        other => other.size() == Some(0),
    };
    Ok(Value::Optional((!zero).then(|| Arc::new(args[0].clone()))))
}

fn unwrap<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let mut out = Vec::new();
    for item in args[0].as_list()?.iter() {
        if let Some(value) = inner(&item?)? {
            out.push((**value).clone());
        }
    }
    Ok(out.into())
}
