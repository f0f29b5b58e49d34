//! Kubernetes' dialect of JSONPath, for kubectl and printer columns: templates of text and `{...}` actions, with `{range}`, filters, slices and recursive descent.
//!
//! Words: an *action* is what stands in braces; a *path* is a chain of steps, each of which turns every value it is given into any number
//! of others. A missing field gives nothing; an array index that does not exist is an error. Follows client-go `util/jsonpath`.

mod eval;
mod parser;

use serde_json::Value;

type Result<T> = std::result::Result<T, TemplateError>;

/// A template that is malformed, or does not fit the object. The texts are kubectl's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Malformed.
    #[error("error: error parsing jsonpath {template}, {source}")]
    Malformed {
        /// As written.
        template: String,
        /// Why.
        source: JsonPathError,
    },
    /// It does not fit.
    #[error("error: error executing jsonpath {template:?}: Error executing template: {source}")]
    Unfit {
        /// As written.
        template: String,
        /// Why.
        source: JsonPathError,
    },
}

/// Why a template is refused, or does not fit the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    /// A brace that nothing closes.
    #[error("unclosed action")]
    UnclosedAction,
    /// A bracket that nothing closes.
    #[error("unterminated array")]
    UnclosedArray,
    /// A quote that nothing closes.
    #[error("unterminated quoted string")]
    UnclosedQuote,
    /// A filter that nothing closes.
    #[error("unterminated filter")]
    UnclosedFilter,
    /// What stands between brackets means nothing.
    #[error("invalid array index {0}")]
    Index(String),
    /// A character that starts nothing.
    #[error("unrecognized character in action: U+{code:04X} '{0}'", code = u32::from(*.0))]
    Character(char),
    /// A word that is no command.
    #[error("unrecognized identifier {0}")]
    Identifier(String),
    /// `{end}` without `{range}`.
    #[error("not in range, nothing to end")]
    NothingToEnd,
    /// `{range}` without `{end}`.
    #[error("unexpected EOF, range is not closed with {{end}}")]
    UnclosedRange,
    /// Nested more deeply than any sensible template is.
    #[error("nested too deeply")]
    TooDeep,
    /// An element that is not there.
    #[error("array index out of bounds: index {index}, length {length}")]
    OutOfBounds {
        /// Which was asked for.
        index: i64,
        /// How many there are.
        length: usize,
    },
    /// An index into something else.
    #[error("{0} is not array or slice")]
    NoArray(&'static str),
    /// A slice that goes by steps of zero or less.
    #[error("step must be > 0")]
    Step,
    /// A filter that compares a text with a number, say.
    #[error("incompatible types for comparison")]
    Incomparable,
    /// A filter whose side gives several values.
    #[error("can only compare one element at a time")]
    Several,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Index(i64),
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Union(Vec<Vec<Step>>),
    Filter { left: Operand, compare: Option<(Compare, Operand)> },
}

/// A side of a filter.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

impl Template {
    /// Parses a template as `-o jsonpath=` takes it: what is not in braces is text.
    pub fn parse(source: &str) -> Result<Template> {
        let nodes = parser::parse(source).map_err(|error| TemplateError::Malformed { template: source.into(), source: error })?;
        Ok(Template { source: source.into(), nodes })
    }

    /// Parses one path, with or without braces and leading dot: `.a.b`, `a.b`, `{.a.b}`.
    pub fn relaxed(source: &str) -> Result<Template> {
        let inner = source.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(source);
        let dotted = if inner.starts_with(['.', '[', '$', '@']) { inner.to_string() } else { format!(".{inner}") };
        Template::parse(&format!("{{{dotted}}}"))
    }

    /// The text for an object.
    pub fn render(&self, object: &Value) -> Result<String> {
        let mut out = String::new();
        eval::render(&self.nodes, object, &mut out).map_err(|source| self.failed(source))?;
        Ok(out)
    }

    /// The values that its paths lead to.
    pub fn values<'a>(&self, object: &'a Value) -> Result<Vec<&'a Value>> {
        let mut found = Vec::new();
        for node in &self.nodes {
            if let Node::Path(path) = node {
                found.extend(eval::walk(path, vec![object]).map_err(|source| self.failed(source))?);
            }
        }
        Ok(found)
    }

    fn failed(&self, source: JsonPathError) -> TemplateError {
        TemplateError::Unfit { template: self.source.clone(), source }
    }
}

/// A value as text: strings as they are, all else as JSON.
pub fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = r#"
kind: List
items:
- {kind: None, metadata: {name: 127.0.0.1, labels: {kubernetes.io/hostname: 127.0.0.1}}, status: {capacity: {cpu: "4"}, addresses: [{type: LegacyHostIP, address: 127.0.0.1}], n: 3, ready: true}}
- {kind: None, metadata: {name: 127.0.0.2}, status: {capacity: {cpu: "8"}, addresses: [{type: LegacyHostIP, address: 127.0.0.2}, {type: another, address: 127.0.0.3}], n: 5, ready: false}}
users: [{name: myself, user: {}}, {name: e2e, user: {username: admin, password: secret}}]
empty: null
"#;

    fn run(template: &str) -> Result<String> {
        Template::parse(template)?.render(&serde_yaml::from_str(STORE).unwrap())
    }

    #[test]
    fn templates() {
        for (template, expected) in [
            ("kind is {.kind}", "kind is List"),
            ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
            ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
            ("{.items[0].metadata.labels['kubernetes\\.io/hostname']}", "127.0.0.1"),
            ("{.items[-1:].metadata.name}", "127.0.0.2"),
            ("{.items[-1].metadata.name}", "127.0.0.2"),
            ("{.items[0:1].metadata.name}", "127.0.0.1"),
            ("{.items[::2].metadata.name}", "127.0.0.1"),
            ("{.items[0,1].metadata.name}", "127.0.0.1 127.0.0.2"),
            ("{.items[*]['metadata.name', 'status.capacity']}", "127.0.0.1 127.0.0.2 {\"cpu\":\"4\"} {\"cpu\":\"8\"}"),
            ("{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}", "[127.0.0.1, {\"cpu\":\"4\"}] [127.0.0.2, {\"cpu\":\"8\"}] "),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.status.capacity.cpu}{'\\n'}{end}", "127.0.0.1\t4\n127.0.0.2\t8\n"),
            ("{range .items[*]}{range .status.addresses[*]}{.address};{end}|{end}", "127.0.0.1;|127.0.0.2;127.0.0.3;|"),
            ("{.users[?(@.name==\"e2e\")].user.password}", "secret"),
            ("{.users[?(@.name != 'e2e')].name}", "myself"),
            ("{.users[?(@.user.username)].name}", "e2e"),
            ("{.items[?(@.status.n>3)].metadata.name}", "127.0.0.2"),
            ("{.items[?(@.status.n<=3)].metadata.name}", "127.0.0.1"),
            ("{.items[?(@.status.ready==true)].metadata.name}", "127.0.0.1"),
            ("{.items[*].status.addresses[?(@.type==\"another\")].address}", "127.0.0.3"),
            ("{..password}", "secret"),
            ("{.items..cpu}", "4 8"),
            ("{.users[*].user.*}", "secret admin"),
            ("{$.kind}{@.kind}", "ListList"),
            ("{.nope.x}-", "-"),
            ("{.empty}", "null"),
            ("{.users[0].user}", "{}"),
            ("{\"a\\\"b\"}", "a\"b"),
            ("plain .metadata.name", "plain .metadata.name"),
            ("", ""),
        ] {
            assert_eq!(run(template).unwrap_or_else(|error| panic!("{template}: {error}")), expected, "{template}");
        }
    }

    #[test]
    fn mistakes() {
        for (template, part) in [
            ("{.kind", "unclosed action"),
            ("{.items[0", "unterminated array"),
            ("{.items[abc d]}", "invalid array index abc d"),
            ("{.items[?(@.a=='x']}", "unterminated filter"),
            ("{\"abc}", "unterminated quoted string"),
            ("{.kind, .x}", "unrecognized character in action: U+002C ','"),
            ("{nonsense}", "unrecognized identifier nonsense"),
            ("{end}", "not in range"),
            ("{range .items[*]}x", "not closed"),
            ("{.items[7]}", "array index out of bounds: index 7, length 2"),
            ("{.kind[0]}", "string is not array or slice"),
            ("{.items[0:1:0]}", "step must be > 0"),
            ("{.items[?(@.kind>3)]}", "incompatible types"),
        ] {
            let error = run(template).expect_err(template).to_string();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn relaxed_paths() {
        let object: Value = serde_yaml::from_str(STORE).unwrap();
        for path in ["kind", ".kind", "{.kind}", "{kind}", "$.kind", "['kind']"] {
            assert_eq!(Template::relaxed(path).unwrap().values(&object).unwrap(), [&Value::from("List")], "{path}");
        }
    }

    #[test]
    fn foreign_text_is_bounded() {
        let deep = format!("{{.a{}", "[?(@.a".repeat(10_000));
        assert!(run(&deep).is_err());
        assert!(run(&"{range .items[*]}".repeat(10_000)).is_err());
    }
}
