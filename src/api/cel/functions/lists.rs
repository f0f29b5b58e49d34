//! Lists: the Kubernetes library (apiserver `pkg/cel/library/lists.go`) and that of cel-go (`ext/lists.go`).

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Context, Res, Row, Value, operators};
use crate::api::cel::error::EvalError;
use crate::api::cel::value::List;

/// Most elements of `lists.range`.
const MAX_RANGE: i64 = 1_000_000;

pub(super) const TABLE: &[Row] = &[
    Row(
        "isSorted",
        is_sorted,
        &[
            "list_int_is_sorted_bool|list(int).() -> bool",
            "list_uint_is_sorted_bool|list(uint).() -> bool",
            "list_double_is_sorted_bool|list(double).() -> bool",
            "list_bool_is_sorted_bool|list(bool).() -> bool",
            "list_duration_is_sorted_bool|list(duration).() -> bool",
            "list_timestamp_is_sorted_bool|list(timestamp).() -> bool",
            "list_string_is_sorted_bool|list(string).() -> bool",
            "list_bytes_is_sorted_bool|list(bytes).() -> bool",
        ],
    ),
    Row(
        "sum",
        sum,
        &[
            "list_int_sum_int|list(int).() -> int",
            "list_uint_sum_uint|list(uint).() -> uint",
            "list_double_sum_double|list(double).() -> double",
            "list_duration_sum_duration|list(duration).() -> duration",
        ],
    ),
    Row("min", |_, args| extreme(args, "min", Ordering::Less), EXTREMES),
    Row("max", |_, args| extreme(args, "max", Ordering::Greater), EXTREMES),
    Row("distinct", distinct, &["list_distinct|list(T).() -> list(T)"]),
    Row("flatten", flatten, &["list_flatten|list(list(T)).() -> list(T)", "list_flatten_int|list(dyn).(int) -> list(dyn)"]),
    Row("lists.range", range, &["lists_range|(int) -> list(int)"]),
    Row("slice", slice, &["list_slice|list(T).(int, int) -> list(T)"]),
    Row("sort", |_, args| sorted(args[0].as_list()?, args[0].as_list()?), &["list_sort|list(T).() -> list(T)"]),
    Row("@sortByAssociatedKeys", |_, args| sorted(args[0].as_list()?, args[1].as_list()?), &["list_sort_by|list(T).(list(U)) -> list(T)"]),
    Row("first", |_, args| end(args, 0), &["list_first|list(T).() -> optional(T)"]),
    Row("last", |_, args| end(args, args[0].as_list()?.len().wrapping_sub(1)), &["list_last|list(T).() -> optional(T)"]),
];

const EXTREMES: &[&str] = &[
    "list(int).() -> int",
    "list(uint).() -> uint",
    "list(double).() -> double",
    "list(bool).() -> bool",
    "list(duration).() -> duration",
    "list(timestamp).() -> timestamp",
    "list(string).() -> string",
    "list(bytes).() -> bytes",
];

pub(super) fn index_of<'a>(_: &Context<'_, 'a>, list: &List<'a>, value: &Value<'a>, last: bool) -> Res<Value<'a>> {
    let mut found = -1;
    for (index, item) in list.iter().enumerate() {
        if item?.equals(value)? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn is_sorted<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let mut previous: Option<Value<'a>> = None;
    for item in args[0].as_list()?.iter() {
        let item = item?;
        if let Some(previous) = &previous
            && previous.compare(&item)? == Some(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(context: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let add = operators::TABLE
        .iter()
        .find(|Row(name, ..)| *name == "_+_")
        .map(|Row(_, eval, _)| *eval)
        .ok_or_else(EvalError::no_such_overload)?;
    let mut items = args[0].as_list()?.iter();
    let Some(mut total) = items.next().transpose()? else { return Ok(Value::Int(0)) };
    for item in items {
        total = add(context, &[total, item?])?;
    }
    Ok(total)
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Res<Value<'a>> {
    let mut items = args[0].as_list()?.iter();
    let Some(mut best) = items.next().transpose()? else { return Err(EvalError::new(format!("{name} called on empty list"))) };
    for item in items {
        let item = item?;
        if item.compare(&best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best)
}

fn distinct<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    'items: for item in args[0].as_list()?.iter() {
        let item = item?;
        for known in &kept {
            if known.equals(&item)? {
                continue 'items;
            }
        }
        kept.push(item);
    }
    Ok(kept.into())
}

fn flatten<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let depth = args.get(1).map(Value::int).transpose()?.unwrap_or(1);
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut out = Vec::new();
    flatten_into(args[0].as_list()?, depth, &mut out)?;
    Ok(out.into())
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) -> Res<()> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, out)?,
            other => out.push(other),
        }
    }
    Ok(())
}

fn range<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let count = args[0].int()?;
    if count > MAX_RANGE {
        return Err(EvalError::new(format!("range is longer than {MAX_RANGE}")));
    }
    Ok((0..count).map(Value::Int).collect::<Vec<_>>().into())
}

fn slice<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let (list, start, end) = (args[0].as_list()?, args[1].int()?, args[2].int()?);
    let fault = if start < 0 || end < 0 {
        Some(format!("cannot slice({start}, {end}), negative indexes not supported"))
    } else if start > end {
        Some(format!("cannot slice({start}, {end}), start index must be less than or equal to end index"))
    } else if list.len() < end as usize {
        Some(format!("cannot slice({start}, {end}), list is length {}", list.len()))
    } else {
        None
    };
    match fault {
        Some(fault) => Err(EvalError::new(fault)),
        None => Ok(list.iter().skip(start as usize).take((end - start) as usize).collect::<Res<Vec<_>>>()?.into()),
    }
}

fn sorted<'a>(list: &List<'a>, keys: &List<'a>) -> Res<Value<'a>> {
    if list.len() != keys.len() {
        return Err(EvalError::no_such_overload());
    }
    let mut pairs = keys.iter().zip(list.iter()).map(|(key, item)| Ok((key?, item?))).collect::<Res<Vec<_>>>()?;
    if let Some(((first, _), rest)) = pairs.split_first() {
        for (key, _) in rest {
            if key.type_of() != first.type_of() {
                return Err(EvalError::new("list elements must have the same type"));
            }
            first.compare(key).map_err(|_| EvalError::new("list elements must be comparable"))?;
        }
    }
    pairs.sort_by(|(a, _), (b, _)| a.compare(b).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into())
}

fn end<'a>(args: &[Value<'a>], index: usize) -> Res<Value<'a>> {
    Ok(Value::Optional(args[0].as_list()?.get(index).transpose()?.map(Arc::new)))
}
