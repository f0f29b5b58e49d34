//! Numbers (cel-go `ext/math.go`).

use std::cmp::Ordering;

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;

pub(super) const TABLE: &[Row] = &[
    Row("math.greatest", |_, args| extreme(args, Ordering::Greater), EXTREME),
    Row("math.least", |_, args| extreme(args, Ordering::Less), EXTREME),
    Row("math.ceil", |_, args| double(args, f64::ceil), &["(double) -> double"]),
    Row("math.floor", |_, args| double(args, f64::floor), &["(double) -> double"]),
    Row("math.round", |_, args| double(args, f64::round), &["(double) -> double"]),
    Row("math.trunc", |_, args| double(args, f64::trunc), &["(double) -> double"]),
    Row("math.isNaN", |_, args| test(args, f64::is_nan), &["(double) -> bool"]),
    Row("math.isInf", |_, args| test(args, f64::is_infinite), &["(double) -> bool"]),
    Row("math.isFinite", |_, args| test(args, f64::is_finite), &["(double) -> bool"]),
    Row("math.abs", abs, &["(double) -> double", "(int) -> int", "(uint) -> uint"]),
    Row("math.sign", sign, &["(double) -> double", "(int) -> int", "(uint) -> uint"]),
    Row("math.sqrt", sqrt, &["(double) -> double", "(int) -> double", "(uint) -> double"]),
    Row("math.bitAnd", |_, args| bits(args, |a, b| a & b), BITS),
    Row("math.bitOr", |_, args| bits(args, |a, b| a | b), BITS),
    Row("math.bitXor", |_, args| bits(args, |a, b| a ^ b), BITS),
    Row("math.bitNot", bit_not, &["(int) -> int", "(uint) -> uint"]),
    Row("math.bitShiftLeft", |_, args| shift(args, true), &["(int, int) -> int", "(uint, int) -> uint"]),
    Row("math.bitShiftRight", |_, args| shift(args, false), &["(int, int) -> int", "(uint, int) -> uint"]),
];

const BITS: &[&str] = &["(int, int) -> int", "(uint, uint) -> uint"];

const EXTREME: &[&str] = &[
    "(int) -> int",
    "(uint) -> uint",
    "(double) -> double",
    "(int, int) -> int",
    "(uint, uint) -> uint",
    "(double, double) -> double",
    "(int, uint) -> dyn",
    "(int, double) -> dyn",
    "(uint, int) -> dyn",
    "(uint, double) -> dyn",
    "(double, int) -> dyn",
    "(double, uint) -> dyn",
    "(dyn, dyn, dyn) -> dyn",
    "(dyn, dyn, dyn, dyn) -> dyn",
    "(dyn, dyn, dyn, dyn, dyn) -> dyn",
    "(list(int)) -> int",
    "(list(uint)) -> uint",
    "(list(double)) -> double",
];

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering) -> Res<Value<'a>> {
    let items = match args {
        [Value::List(list)] => list.iter().collect::<Res<Vec<_>>>()?,
        _ => args.to_vec(),
    };
    let numeric = |value: &Value<'_>| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
    if !items.iter().all(numeric) {
        return Err(EvalError::no_such_overload());
    }
    let mut items = items.into_iter();
    let mut best = items.next().ok_or_else(|| EvalError::new("math.@max(list) argument must not be empty"))?;
    for item in items {
        if item.compare(&best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best)
}

fn number(args: &[Value<'_>]) -> Res<f64> {
    match &args[0] {
        Value::Double(value) => Ok(*value),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn double<'a>(args: &[Value<'a>], of: fn(f64) -> f64) -> Res<Value<'a>> {
    Ok(Value::Double(of(number(args)?)))
}

fn test<'a>(args: &[Value<'a>], of: fn(f64) -> bool) -> Res<Value<'a>> {
    Ok(Value::Bool(of(number(args)?)))
}

fn abs<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match &args[0] {
        Value::Int(value) => Value::Int(value.checked_abs().ok_or_else(|| EvalError::new("integer overflow"))?),
        Value::Uint(value) => Value::Uint(*value),
        _ => Value::Double(number(args)?.abs()),
    })
}

fn sign<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(match &args[0] {
        Value::Int(value) => Value::Int(value.signum()),
        Value::Uint(value) => Value::Uint(u64::from(*value > 0)),
        _ => match number(args)? {
            value if value == 0.0 || value.is_nan() => Value::Double(value.abs()),
            value => Value::Double(value.signum()),
        },
    })
}

fn sqrt<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    Ok(Value::Double(match &args[0] {
        Value::Int(value) => (*value as f64).sqrt(),
        Value::Uint(value) => (*value as f64).sqrt(),
        _ => number(args)?.sqrt(),
    }))
}

fn bits<'a>(args: &[Value<'a>], of: fn(u64, u64) -> u64) -> Res<Value<'a>> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Ok(Value::Int(of(*a as u64, *b as u64) as i64)),
        (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(of(*a, *b))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn bit_not<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    match &args[0] {
        Value::Int(value) => Ok(Value::Int(!value)),
        Value::Uint(value) => Ok(Value::Uint(!value)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn shift<'a>(args: &[Value<'a>], left: bool) -> Res<Value<'a>> {
    let by = args[1].int()?;
    if by < 0 {
        let name = if left { "bitShiftLeft" } else { "bitShiftRight" };
        return Err(EvalError::new(format!("math.{name}() negative offset: {by}")));
    }
    let by = u32::try_from(by).unwrap_or(64);
    let moved = |value: u64| if left { value.checked_shl(by) } else { value.checked_shr(by) }.unwrap_or(0);
    match &args[0] {
        Value::Int(value) => Ok(Value::Int(moved(*value as u64) as i64)),
        Value::Uint(value) => Ok(Value::Uint(moved(*value))),
        _ => Err(EvalError::no_such_overload()),
    }
}
