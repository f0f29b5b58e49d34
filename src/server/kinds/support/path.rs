//! Field paths of validation messages, and the list they are collected in.

use std::fmt;

use crate::api::FieldError;

/// The violated rules so far.
pub type Errors = Vec<FieldError>;

/// A field's path, such as `spec.containers[0].name`.
#[derive(Clone, Debug)]
pub struct Path(String);

impl Path {
    /// A path of one field.
    pub fn new(field: &str) -> Path {
        Path(field.into())
    }
    /// A field of this object; several at once may be joined by dots.
    pub fn at(&self, field: &str) -> Path {
        if self.0.is_empty() { Path(field.into()) } else { Path(format!("{}.{field}", self.0)) }
    }
    /// An element of this list.
    pub fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }
    /// An entry of this map.
    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.0
    }
}

impl From<&Path> for String {
    fn from(path: &Path) -> String {
        path.0.clone()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
