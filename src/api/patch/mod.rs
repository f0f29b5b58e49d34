//! The four ways to change an object by a part of it: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch, and the
//! structured merge of server-side apply.
//!
//! All are pure functions from a tree and a patch to a new tree. A patch is foreign: it is bounded in operations here, in bytes by whoever
//! reads the body, in depth by the JSON parser.
//!
//! Never: decoding into a typed object, defaulting or validation of the result; that is the registry's.

mod strategic;

use json_patch::PatchOperation;
use serde_json::Value;

/// Most operations that a JSON patch may have, as upstream's `maxJSONPatchOperations`.
const MAX_OPERATIONS: usize = 10_000;

/// Most bytes by which JSON patch operations may grow an object: `copy` could double it each time.
const MAX_RESULT: usize = 8 << 20;

/// Deepest nesting of a result: what the JSON parser accepts, so that what is written can be read again.
const MAX_DEPTH: usize = 128;

/// How often one patch may come close enough to [`MAX_DEPTH`] that the result must be measured.
const MAX_MEASUREMENTS: usize = 100;

/// Why a patch is refused.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch is no JSON, or not of the form that its type demands.
    #[error("error decoding patch: {0}")]
    Decode(#[source] serde_json::Error),
    /// A merge or strategic patch that is not an object.
    #[error("Invalid JSON Patch: a patch of this type must be a JSON object")]
    NotAnObject,
    /// More operations than allowed.
    #[error("Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// A directive of a strategic merge patch is malformed.
    #[error("{0}")]
    Directive(String),
    /// An operation of a JSON patch does not apply to the object.
    #[error("{0}")]
    Apply(#[source] json_patch::PatchError),
    /// The result would be too large.
    #[error("the patch makes the object larger than {MAX_RESULT} bytes")]
    TooLarge,
    /// The result would be nested too deeply to be read again.
    #[error("the patch nests the object more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// A strategic merge patch contradicts the object or itself.
    #[error("{0}")]
    Mismatch(String),
}

impl PatchError {
    /// The HTTP status: 400 for a malformed patch, 413 for an excessive one, 422 for one that does not apply.
    pub fn code(&self) -> u16 {
        match self {
            PatchError::Decode(_) | PatchError::NotAnObject | PatchError::Directive(_) => 400,
            PatchError::TooManyOperations(_) | PatchError::TooLarge | PatchError::TooDeep => 413,
            PatchError::Apply(_) | PatchError::Mismatch(_) => 422,
        }
    }
}

/// Applies a JSON patch (RFC 6902).
pub fn json(target: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: json_patch::Patch = serde_json::from_slice(patch).map_err(PatchError::Decode)?;
    if patch.0.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(patch.0.len()));
    }
    let mut result = target.clone();
    let mut budget = MAX_RESULT;
    let mut nesting = Nesting { bound: depth(target), measurements: 0 };
    for operation in &patch.0 {
        if let PatchOperation::Copy(copy) = operation {
            let copied = result.pointer(copy.from.as_str()).map_or(0, weight);
            budget = budget.checked_sub(copied).ok_or(PatchError::TooLarge)?;
        }
        nesting.check(&result, operation)?;
        json_patch::patch(&mut result, std::slice::from_ref(operation)).map_err(PatchError::Apply)?;
    }
    Ok(result)
}

/// An upper bound of the object's depth while operations are applied. Without it, moves could nest an object so deeply that walking it
/// exhausts the stack.
struct Nesting {
    bound: usize,
    measurements: usize,
}

impl Nesting {
    /// Refuses `operation` if it might nest `object` too deeply. Exact measuring is left to the rare case that the bound is reached.
    fn check(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), PatchError> {
        let after = |bound: usize| match operation {
            PatchOperation::Add(add) => bound.max(add.path.count() + depth(&add.value)),
            PatchOperation::Replace(replace) => bound.max(replace.path.count() + depth(&replace.value)),
            PatchOperation::Move(step) => bound.max(step.path.count() + bound.saturating_sub(step.from.count())),
            PatchOperation::Copy(step) => bound.max(step.path.count() + bound.saturating_sub(step.from.count())),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => bound,
        };
        let mut next = after(self.bound);
        if next > MAX_DEPTH {
            self.measurements += 1;
            if self.measurements > MAX_MEASUREMENTS {
                return Err(PatchError::TooDeep);
            }
            next = after(depth(object));
        }
        if next > MAX_DEPTH {
            return Err(PatchError::TooDeep);
        }
        self.bound = next;
        Ok(())
    }
}

/// How many containers contain the deepest value, itself included.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A cheap lower bound of a tree's size.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, value)| key.len() + 4 + weight(value)).sum::<usize>(),
        _ => 4,
    }
}

fn object(patch: &[u8]) -> Result<serde_json::Map<String, Value>, PatchError> {
    match serde_json::from_slice(patch).map_err(PatchError::Decode)? {
        Value::Object(map) => Ok(map),
        _ => Err(PatchError::NotAnObject),
    }
}

/// Applies a merge patch (RFC 7386).
pub fn merge(mut target: Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = Value::Object(object(patch)?);
    json_patch::merge(&mut target, &patch);
    Ok(target)
}

/// Applies a strategic merge patch to an object of the type with this schema name.
pub fn strategic(target: Value, patch: &[u8], kind: &'static str) -> Result<Value, PatchError> {
    let patch = object(patch)?;
    let Value::Object(target) = target else {
        return Err(PatchError::Mismatch(format!("a {kind} must be an object to be patched")));
    };
    strategic::merge_object(target, patch, crate::api::schema::lookup(kind)).map(Value::Object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(yaml: &str) -> Value {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn json_patches() {
        for (target, patch, expect) in [
            ("{a: 1}", r#"[{"op":"add","path":"/b","value":2}]"#, Ok("{a: 1, b: 2}")),
            ("{a: [1, 3]}", r#"[{"op":"add","path":"/a/1","value":2},{"op":"remove","path":"/a/0"}]"#, Ok("{a: [2, 3]}")),
            ("{a: 1}", r#"[{"op":"test","path":"/a","value":1},{"op":"replace","path":"/a","value":2}]"#, Ok("{a: 2}")),
            (
                "{a: {b: 1}}",
                r#"[{"op":"move","from":"/a/b","path":"/c"},{"op":"copy","from":"/c","path":"/d"}]"#,
                Ok("{a: {}, c: 1, d: 1}"),
            ),
            ("{'x/y': 1}", r#"[{"op":"remove","path":"/x~1y"}]"#, Ok("{}")),
            ("{a: 1}", r#"[{"op":"test","path":"/a","value":2}]"#, Err(422)),
            ("{a: 1}", r#"[{"op":"remove","path":"/b"}]"#, Err(422)),
            ("{a: 1}", r#"[{"op":"what","path":"/b"}]"#, Err(400)),
            ("{a: 1}", r#"{"op":"remove","path":"/a"}"#, Err(400)),
            ("{a: 1}", "[", Err(400)),
        ] {
            let got = json(&value(target), patch.as_bytes());
            match expect {
                Ok(expect) => assert_eq!(got.unwrap(), value(expect), "{patch}"),
                Err(code) => assert_eq!(got.unwrap_err().code(), code, "{patch}"),
            }
        }
    }

    #[test]
    fn json_patches_are_bounded() {
        let many = |count| format!("[{}]", vec![r#"{"op":"test","path":"/a","value":1}"#; count].join(","));
        let target = serde_json::json!({"a": 1});
        assert!(json(&target, many(10_000).as_bytes()).is_ok());
        assert_eq!(json(&target, many(10_001).as_bytes()).unwrap_err().code(), 413);
        let bomb: Vec<_> = (0..40).map(|i| serde_json::json!({"op": "copy", "from": "/l", "path": format!("/l/x{i}")})).collect();
        let target = serde_json::json!({"l": {"text": "x".repeat(1000)}});
        let error = json(&target, serde_json::to_string(&bomb).unwrap().as_bytes()).unwrap_err();
        assert_eq!(error.code(), 413, "{error}");
    }

    /// Each pair of operations nests what is there into something new, with short paths all the way.
    #[test]
    fn json_patches_cannot_nest_without_end() {
        let pairs = |count: usize| {
            let pair = |i: usize| {
                format!(r#"{{"op":"add","path":"/k{}","value":{{}}}},{{"op":"move","from":"/k{i}","path":"/k{}/x"}}"#, i + 1, i + 1)
            };
            format!("[{}]", (0..count).map(pair).collect::<Vec<_>>().join(","))
        };
        let target = serde_json::json!({"k0": {}});
        assert_eq!(depth(&json(&target, pairs(100).as_bytes()).unwrap()), 102);
        assert_eq!(json(&target, pairs(200).as_bytes()).unwrap_err().code(), 413);
        // Moving to and fro is no nesting, but the bound does not see that until it measures.
        let fro = r#"{"op":"move","from":"/k0","path":"/a"},{"op":"move","from":"/a","path":"/k0"}"#;
        let fro = format!("[{}]", vec![fro; 1000].join(","));
        assert_eq!(json(&target, fro.as_bytes()).unwrap(), target);
    }

    #[test]
    fn merge_patches() {
        for (target, patch, expect) in [
            ("{a: {b: 1, c: 2}, d: [1]}", r#"{"a":{"b":null,"e":3},"d":[2,3]}"#, Ok("{a: {c: 2, e: 3}, d: [2, 3]}")),
            ("{a: 1}", r#"{"a":{"b":{"c":null,"d":1}}}"#, Ok("{a: {b: {d: 1}}}")),
            ("{a: 1}", "[]", Err(400)),
            ("{a: 1}", "{", Err(400)),
        ] {
            let got = merge(value(target), patch.as_bytes());
            match expect {
                Ok(expect) => assert_eq!(got.unwrap(), value(expect), "{patch}"),
                Err(code) => assert_eq!(got.unwrap_err().code(), code, "{patch}"),
            }
        }
    }
}
