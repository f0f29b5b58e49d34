//! From steps to values.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Compare, JsonPathError, Node, Operand, Step, show};

type Result<T> = std::result::Result<T, JsonPathError>;

/// Writes what the nodes give for `object`.
pub(super) fn render(nodes: &[Node], object: &Value, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let shown: Vec<String> = walk(path, vec![object])?.into_iter().map(show).collect();
                out.push_str(&shown.join(" "));
            }
            Node::Range(path, body) => {
                for item in walk(path, vec![object])? {
                    render(body, item, out)?;
                }
            }
        }
    }
    Ok(())
}

/// The values at the end of a path.
pub(super) fn walk<'a>(path: &[Step], start: Vec<&'a Value>) -> Result<Vec<&'a Value>> {
    let mut values = start;
    for step in path {
        values = match step {
            // All of one path, then all of the next, as upstream prints unions.
            Step::Union(paths) => {
                let mut found = Vec::new();
                for path in paths {
                    found.extend(walk(path, values.clone())?);
                }
                found
            }
            step => {
                let mut found = Vec::new();
                for value in values {
                    take(step, value, &mut found)?;
                }
                found
            }
        };
    }
    Ok(values)
}

fn take<'a>(step: &Step, value: &'a Value, found: &mut Vec<&'a Value>) -> Result<()> {
    match step {
        Step::Field(name) => found.extend(value.get(name.as_str())),
        Step::Wildcard => found.extend(children(value)),
        Step::Recursive => descend(value, found),
        Step::Index(index) => found.push(element(value, *index)?),
        Step::Slice { start, end, step } => slice(value, *start, *end, *step, found)?,
        Step::Union(_) => unreachable!("walk takes unions apart"),
        Step::Filter { left, compare } => {
            for child in array(value)? {
                if passes(child, left, compare.as_ref())? {
                    found.push(child);
                }
            }
        }
    }
    Ok(())
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(value);
    for child in children(value) {
        descend(child, found);
    }
}

fn array(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().ok_or(JsonPathError::NoArray(match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "map",
    }))
}

/// Counts from the end if negative.
fn place(index: i64, length: usize) -> i64 {
    if index < 0 { index.saturating_add_unsigned(length as u64) } else { index }
}

fn element(value: &Value, index: i64) -> Result<&Value> {
    let items = array(value)?;
    let out_of_bounds = JsonPathError::OutOfBounds { index, length: items.len() };
    usize::try_from(place(index, items.len())).ok().and_then(|index| items.get(index)).ok_or(out_of_bounds)
}

fn slice<'a>(value: &'a Value, start: Option<i64>, end: Option<i64>, step: i64, found: &mut Vec<&'a Value>) -> Result<()> {
    let items = array(value)?;
    let step = usize::try_from(step).ok().filter(|step| *step > 0).ok_or(JsonPathError::Step)?;
    let bound = |index: i64| usize::try_from(place(index, items.len())).unwrap_or(0).min(items.len());
    let (start, end) = (bound(start.unwrap_or(0)), end.map_or(items.len(), bound));
    if start < end {
        found.extend(items[start..end].iter().step_by(step));
    }
    Ok(())
}

fn passes(item: &Value, left: &Operand, compare: Option<&(Compare, Operand)>) -> Result<bool> {
    let lefts = side(left, item)?;
    let Some((compare, right)) = compare else { return Ok(!lefts.is_empty()) };
    let rights = side(right, item)?;
    match (lefts.as_slice(), rights.as_slice()) {
        ([], _) | (_, []) => Ok(false),
        ([left], [right]) => holds(*compare, left, right),
        _ => Err(JsonPathError::Several),
    }
}

fn side<'a>(operand: &'a Operand, item: &'a Value) -> Result<Vec<&'a Value>> {
    match operand {
        Operand::Value(value) => Ok(vec![value]),
        Operand::Path(path) => walk(path, vec![item]),
    }
}

fn holds(compare: Compare, left: &Value, right: &Value) -> Result<bool> {
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(_), Value::Number(_)) => match left.as_f64().zip(right.as_f64()) {
            Some((left, right)) => left.total_cmp(&right),
            None => return Err(JsonPathError::Incomparable),
        },
        (left, right)
            if matches!(compare, Compare::Equal | Compare::NotEqual) && std::mem::discriminant(left) == std::mem::discriminant(right) =>
        {
            if left == right {
                Ordering::Equal
            } else {
                Ordering::Less
            }
        }
        _ => return Err(JsonPathError::Incomparable),
    };
    Ok(match compare {
        Compare::Equal => order.is_eq(),
        Compare::NotEqual => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::LessOrEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterOrEqual => order.is_ge(),
    })
}
