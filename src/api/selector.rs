//! Label and field selectors: parsing, matching and their canonical text.
//!
//! Words: a *requirement* is one condition on one key; a selector is the conjunction of its requirements. The empty selector selects
//! everything; the absent one (`nil` in upstream's API types) selects nothing.
//!
//! Follows apimachinery `pkg/labels/selector.go` and `pkg/fields/selector.go`, error texts included, since clients show them.
//! Never: knowledge of which fields a kind offers; that is the registry's.

mod fields;
mod labels;
mod lexer;
mod parser;

pub use fields::{FieldRequirement, FieldSelector};
pub use labels::{LabelRequirement, LabelSelector, Operator};

/// Why a selector is refused. The text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A word at the wrong place within a requirement.
    #[error("unable to parse requirement: found '{found}'{comma} expected: {expected}", comma = if *comma { "," } else { "" })]
    Requirement {
        /// The offending word.
        found: String,
        /// What could have stood there.
        expected: &'static str,
        /// Whether upstream writes a comma after the word.
        comma: bool,
    },
    /// A word at the wrong place between requirements.
    #[error("found '{found}', expected: {expected}")]
    Selector {
        /// The offending word.
        found: String,
        /// What could have stood there.
        expected: &'static str,
    },
    /// A key or a value that breaks the rules. The field is written as upstream does.
    #[error("unable to parse requirement: {field}: Invalid value: {value}: {detail}")]
    Invalid {
        /// `<nil>`, `key`, `values` or `values[0][KEY]`.
        field: String,
        /// The value, quoted.
        value: String,
        /// The rule.
        detail: String,
    },
    /// An operator of a `LabelSelector` object that does not exist.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// A field selector's term without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The term at fault.
        term: String,
    },
    /// A backslash before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A `,` or `=` in a value without a backslash.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}
