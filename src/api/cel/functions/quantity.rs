//! Quantities of resources (apiserver `pkg/cel/library/quantity.go`).

use std::cmp::Ordering;

use super::{Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::opaque::Opaque;
use crate::api::quantity::{Format, Quantity};

pub(super) const TABLE: &[Row] = &[
    Row(
        "quantity",
        |_, args| {
            let parsed = Quantity::parse(args[0].str()?).map_err(|error| EvalError::new(error.to_string()))?;
            Ok(Opaque::Quantity(parsed).into())
        },
        &["string_to_quantity|(string) -> kubernetes.Quantity"],
    ),
    Row("isQuantity", |_, args| Ok(Value::Bool(Quantity::parse(args[0].str()?).is_ok())), &["is_quantity_string|(string) -> bool"]),
    Row(
        "sign",
        |_, args| {
            let quantity = quantity(&args[0])?;
            Ok(Value::Int(if quantity.is_zero() {
                0
            } else if quantity.is_negative() {
                -1
            } else {
                1
            }))
        },
        &["quantity_sign|kubernetes.Quantity.() -> int"],
    ),
    Row(
        "isInteger",
        |_, args| Ok(Value::Bool(as_integer(&quantity(&args[0])?).is_some())),
        &["quantity_is_integer|kubernetes.Quantity.() -> bool"],
    ),
    Row(
        "asInteger",
        |_, args| as_integer(&quantity(&args[0])?).map(Value::Int).ok_or_else(|| EvalError::new("cannot convert value to integer")),
        &["quantity_get_int|kubernetes.Quantity.() -> int"],
    ),
    Row(
        "asApproximateFloat",
        |_, args| Ok(Value::Double(quantity(&args[0])?.approximate())),
        &["quantity_get_float|kubernetes.Quantity.() -> double"],
    ),
    Row("add", |_, args| Ok(Opaque::Quantity(quantity(&args[0])? + operand(&args[1])?).into()), ARITHMETIC),
    Row("sub", |_, args| Ok(Opaque::Quantity(quantity(&args[0])? - operand(&args[1])?).into()), ARITHMETIC),
    Row(
        "isLessThan",
        |_, args| compared(args).map(|order| Value::Bool(order == Ordering::Less)),
        &[
            "quantity_less_than|kubernetes.Quantity.(kubernetes.Quantity) -> bool",
            "semver_is_less_than|kubernetes.Semver.(kubernetes.Semver) -> bool",
        ],
    ),
    Row(
        "isGreaterThan",
        |_, args| compared(args).map(|order| Value::Bool(order == Ordering::Greater)),
        &[
            "quantity_greater_than|kubernetes.Quantity.(kubernetes.Quantity) -> bool",
            "semver_is_greater_than|kubernetes.Semver.(kubernetes.Semver) -> bool",
        ],
    ),
    Row(
        "compareTo",
        |_, args| compared(args).map(|order| Value::Int(order as i64)),
        &[
            "quantity_compare_to|kubernetes.Quantity.(kubernetes.Quantity) -> int",
            "semver_compare_to|kubernetes.Semver.(kubernetes.Semver) -> int",
        ],
    ),
];

const ARITHMETIC: &[&str] =
    &["kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity", "kubernetes.Quantity.(int) -> kubernetes.Quantity"];

fn quantity(value: &Value<'_>) -> Res<Quantity> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Quantity(quantity) => Ok(*quantity),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn operand(value: &Value<'_>) -> Res<Quantity> {
    match value {
        Value::Int(value) => Ok(Quantity::from_value(*value, Format::DecimalSi)),
        other => quantity(other),
    }
}

fn as_integer(quantity: &Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::from_value(value, Format::DecimalSi) == *quantity).then_some(value)
}

fn compared(args: &[Value<'_>]) -> Res<Ordering> {
    match (&args[0], &args[1]) {
        (Value::Opaque(a), Value::Opaque(b)) => match (&**a, &**b) {
            (Opaque::Quantity(a), Opaque::Quantity(b)) => Ok(a.cmp(b)),
            (Opaque::Semver(a), Opaque::Semver(b)) => Ok(a.cmp(b)),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
