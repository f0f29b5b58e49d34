//! YAML into trees of JSON, as upstream reads it (sigs.k8s.io/yaml over its fork of go-yaml v2): plain scalars by YAML 1.1, so that
//! `0400` is 256 and `yes` is true, merge keys, and errors in upstream's words.
//!
//! Two steps: the events of the parser become [`nodes`], and nodes a tree, aliases followed. Invariants: neither step goes deeper than
//! [`MAX_DEPTH`]; what aliases repeat is bounded in nodes by upstream's rule and in bytes by [`MAX_REPEATED`]; nothing panics.
//!
//! Never: looks at what a field means.

mod nodes;
mod push;
mod scalar;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Value};

use nodes::{Document, Kind, Node};
pub use write::write;

/// Deepest nesting, that of the JSON parser.
const MAX_DEPTH: usize = 128;
/// Most bytes of text that aliases may repeat: a long text behind many aliases is few nodes.
const MAX_REPEATED: usize = 16 << 20;
/// Reports of repeated keys stop here.
const MAX_REPORTED: usize = 100;

/// Why a text is no YAML, or can't be JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Counted from 1; none for the first.
    line: Option<u64>,
    problem: String,
    /// Whether YAML itself is at fault, not what JSON can't hold.
    yaml: bool,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.yaml {
            f.write_str("yaml: ")?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl Error {
    fn yaml(problem: impl Into<String>) -> Error {
        Error { line: None, problem: problem.into(), yaml: true }
    }

    fn json(problem: impl Into<String>) -> Error {
        Error { line: None, problem: problem.into(), yaml: false }
    }
}

/// The first document, null if there is none; `duplicates` hears of keys that are in a map twice (the last one wins), each as
/// `line 3: key "a" already set in map`.
pub fn read(text: &[u8], duplicates: &mut Vec<String>) -> Result<Value, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::yaml("invalid leading UTF-8 octet"))?;
    Ok(Documents::first(text, 1).read(duplicates)?.unwrap_or_default())
}

/// All documents of a text, in order. Ends at the first error.
pub struct Documents {
    read: std::vec::IntoIter<Document>,
    /// What is wrong after the last of them.
    error: Option<Error>,
}

impl Documents {
    /// Of this text.
    pub fn new(text: &str) -> Documents {
        Documents::first(text, usize::MAX)
    }

    fn first(text: &str, most: usize) -> Documents {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !text.chars().all(is_allowed) {
            return Documents { read: Vec::new().into_iter(), error: Some(Error::yaml("control characters are not allowed")) };
        }
        let (read, error) = nodes::documents(text, most);
        Documents { read: read.into_iter(), error }
    }

    fn read(&mut self, duplicates: &mut Vec<String>) -> Result<Option<Value>, Error> {
        let Some(nodes) = self.read.next() else { return self.error.take().map_or(Ok(None), Err) };
        let mut reader = Reader { nodes: &nodes, following: HashSet::new(), seen: 0, repeated: 0, bytes: 0, duplicates };
        let value = if nodes.is_empty() { Ok(Value::Null) } else { reader.value(0, 0) };
        if value.is_err() {
            *self = Documents { read: Vec::new().into_iter(), error: None };
        }
        value.map(Some)
    }
}

impl Iterator for Documents {
    type Item = Result<Value, Error>;
    fn next(&mut self) -> Option<Result<Value, Error>> {
        self.read(&mut Vec::new()).transpose()
    }
}

/// YAML's `c-printable`.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Makes a tree of nodes.
struct Reader<'a> {
    nodes: &'a [Node],
    /// What the aliases that are being followed stand for.
    following: HashSet<usize>,
    /// Nodes read, and how many of them through aliases.
    seen: usize,
    repeated: usize,
    /// Of text, through aliases.
    bytes: usize,
    duplicates: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// Counts a node. The rule is go-yaml's `allowedAliasRatio`: the more there is, the less of it may be repetition.
    fn count(&mut self, node: &Node) -> Result<(), Error> {
        self.seen += 1;
        if self.following.is_empty() {
            return Ok(());
        }
        self.repeated += 1;
        if let Kind::Scalar { text, .. } = &node.kind {
            self.bytes += text.len();
        }
        let allowed = match self.seen {
            ..=400_000 => 0.99,
            400_001..4_000_000 => 0.99 - 0.89 * (self.seen - 400_000) as f64 / 3_600_000.0,
            _ => 0.10,
        };
        let many = self.repeated > 100 && self.seen > 1000 && self.repeated as f64 / self.seen as f64 > allowed;
        if many || self.bytes > MAX_REPEATED { Err(Error::yaml("document contains excessive aliasing")) } else { Ok(()) }
    }

    fn value(&mut self, at: usize, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::yaml(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        let nodes = self.nodes;
        let node = &nodes[at];
        self.count(node)?;
        match &node.kind {
            Kind::Scalar { text, tag, plain } => scalar::resolve(text, tag.as_deref(), *plain),
            Kind::Sequence(items) => items.iter().map(|item| self.value(*item, depth + 1)).collect(),
            Kind::Mapping(_) => {
                let mut map = Map::new();
                self.fill(at, &mut map, depth)?;
                Ok(Value::Object(map))
            }
            Kind::Alias(of) => self.follow(*of, |reader| reader.value(*of, depth + 1)),
        }
    }

    fn follow<T>(&mut self, of: usize, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if !self.following.insert(of) {
            return Err(Error::yaml("anchor value contains itself"));
        }
        let result = read(self);
        self.following.remove(&of);
        result
    }

    /// Puts the entries of a mapping into `map`, in their order.
    fn fill(&mut self, at: usize, map: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
        let nodes = self.nodes;
        let Kind::Mapping(parts) = &nodes[at].kind else { return Err(Error::yaml(NO_MAP)) };
        for pair in parts.chunks_exact(2) {
            let [key, value] = [pair[0], pair[1]];
            if is_merge(&nodes[key].kind) {
                self.merge(value, map, depth + 1)?;
                continue;
            }
            let name = self.key(key, depth + 1)?;
            let read = self.value(value, depth + 1)?;
            if map.contains_key(&name) && self.duplicates.len() < MAX_REPORTED {
                self.duplicates.push(format!("line {}: key {name:?} already set in map", nodes[value].line));
            }
            map.insert(name, read);
        }
        Ok(())
    }

    /// Puts in what a merge key names: a mapping, or several, of which earlier ones win.
    fn merge(&mut self, at: usize, map: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::yaml(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        let nodes = self.nodes;
        self.count(&nodes[at])?;
        match &nodes[at].kind {
            Kind::Mapping(_) => self.fill(at, map, depth),
            Kind::Alias(of) => self.follow(*of, |reader| reader.fill(*of, map, depth)),
            Kind::Sequence(items) => items.iter().rev().try_for_each(|item| match &nodes[*item].kind {
                Kind::Mapping(_) | Kind::Alias(_) => self.merge(*item, map, depth + 1),
                Kind::Scalar { .. } | Kind::Sequence(_) => Err(Error::yaml(NO_MAP)),
            }),
            Kind::Scalar { .. } => Err(Error::yaml(NO_MAP)),
        }
    }

    /// A key as JSON has it.
    fn key(&mut self, at: usize, depth: usize) -> Result<String, Error> {
        match self.value(at, depth)? {
            Value::String(text) => Ok(text),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Null => Err(Error::json("unsupported map key of type: null")),
            other => Err(Error::yaml(format!("invalid map key: {other}"))),
        }
    }
}

const NO_MAP: &str = "map merge requires map or sequence of maps as the value";

fn is_merge(key: &Kind) -> bool {
    match key {
        Kind::Scalar { text, tag, plain } => text == "<<" && tag.as_deref().map_or(*plain, |tag| tag == "tag:yaml.org,2002:merge"),
        _ => false,
    }
}
