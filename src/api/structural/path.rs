//! Paths of fields, as links on the stack: nothing is allocated until a path is shown.

use std::fmt;

/// A field's path below a root.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root(&'a str),
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The path of the whole object.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root("") };

    /// A path that starts with this text.
    pub fn root(text: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Root(text) }
    }
    /// A field of the object here.
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }
    /// An entry of the map here.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
    /// An element of the list here.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }
    /// Whether this is the whole object.
    pub fn is_root(&self) -> bool {
        matches!(self.step, Step::Root(""))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let empty = match self.parent {
            None => true,
            Some(parent) => {
                parent.fmt(f)?;
                parent.is_root()
            }
        };
        match self.step {
            Step::Root(text) => f.write_str(text),
            Step::Field(name) if empty => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Key(key) => write!(f, "[{key}]"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> String {
        path.to_string()
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> String {
        path.to_string()
    }
}
