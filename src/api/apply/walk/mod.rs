//! Walks over values along a schema.
//!
//! Each is a recursion over a value (or two) and the type of its place; depth is bounded by the JSON parser that read the values.
//! Words: two values at one place are the *left* (old) and the *right* (new) one; either may be absent. A place is a *leaf* when it is
//! owned as a whole: scalars, atomic lists and maps, and lists and maps that are empty on both sides.
//!
//! Follows structured-merge-diff's `typed` package.

mod compare;
mod merge;
mod owned;
mod prune;
mod validate;

use serde_json::Value;

pub use compare::{Changes, compare};
pub use merge::merge;
pub use owned::owned;
pub use prune::{name_structs, prune, reconcile};
pub use validate::{Duplicates, validate};

/// What is wrong at a place. Paths are written from the inside out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: String,
    why: String,
}

impl Fault {
    fn new(why: impl Into<String>) -> Fault {
        Fault { path: String::new(), why: why.into() }
    }

    fn below(mut self, element: &str) -> Fault {
        self.path.insert_str(0, element);
        self
    }

    /// All faults as upstream lists them.
    pub fn list(faults: &[Fault]) -> String {
        let one = |fault: &Fault| if fault.path.is_empty() { fault.why.clone() } else { format!("{}: {}", fault.path, fault.why) };
        match faults {
            [fault] => one(fault),
            many => {
                let lines: Vec<_> = many.iter().map(|fault| format!("  {}", one(fault))).collect();
                format!("errors:\n{}", lines.join("\n"))
            }
        }
    }
}

/// Whether two values mean the same: numbers by value.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().zip(b).all(|((ak, av), (bk, bv))| ak == bk && same(av, bv)),
        (a, b) => a == b,
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
