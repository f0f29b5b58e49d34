//! What can be wrong with an expression: [`Issue`]s when it is compiled, [`EvalError`]s when it runs.
//!
//! Texts are those of cel-go (`common/error.go`, `checker/errors.go`, `common/types/err.go`), since users and tests look for them.

use std::borrow::Cow;
use std::fmt;

/// One complaint of the parser or the checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, in code points from the start of the source.
    pub at: usize,
    /// What.
    pub message: String,
}

/// All complaints about one expression; their display is cel-go's, with the line at fault and a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.shown())]
pub struct CompileErrors {
    text: String,
    /// In order of place.
    pub issues: Vec<Issue>,
}

/// More complaints than this about one expression help nobody.
const MAX_ISSUES: usize = 100;

impl CompileErrors {
    /// Sorts what was found in `source`.
    pub(super) fn new(source: &str, mut issues: Vec<Issue>) -> CompileErrors {
        issues.sort_by_key(|issue| issue.at);
        issues.dedup();
        issues.truncate(MAX_ISSUES);
        CompileErrors { text: source.into(), issues }
    }

    fn shown(&self) -> String {
        self.issues.iter().map(|issue| self.one(issue)).collect::<Vec<_>>().join("\n")
    }

    fn one(&self, issue: &Issue) -> String {
        let before: Vec<char> = self.text.chars().take(issue.at).collect();
        let line = before.iter().filter(|c| **c == '\n').count();
        let column = before.iter().rev().take_while(|c| **c != '\n').count();
        let snippet = self.text.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
        // A wide character gets a wide dot.
        let dots: String = snippet.chars().take(column).map(|c| if c.is_ascii() { '.' } else { '．' }).collect();
        let caret = if snippet.chars().nth(column).is_some_and(|c| !c.is_ascii()) { '＾' } else { '^' };
        format!("ERROR: <input>:{}:{}: {}\n | {snippet}\n | {dots}{caret}", line + 1, column + 1, issue.message)
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// The expression itself failed; `&&`, `||` and the quantifiers may still have a value.
    Failure(Cow<'static, str>),
    /// It ran for longer than its budget allows.
    CostExceeded,
    /// It and those before it ran for longer than their common budget allows.
    BudgetExceeded,
    /// It was told to stop.
    Interrupted,
}

impl EvalError {
    /// A failure with this text.
    pub fn new(text: impl Into<Cow<'static, str>>) -> EvalError {
        EvalError::Failure(text.into())
    }

    pub(super) fn no_such_overload() -> EvalError {
        EvalError::new("no such overload")
    }

    pub(super) fn no_such_key(key: impl fmt::Display) -> EvalError {
        EvalError::new(format!("no such key: {key}"))
    }

    /// Whether the evaluation as a whole must end: no operator may hide it.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, EvalError::Failure(_))
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvalError::Failure(text) => f.write_str(text),
            EvalError::CostExceeded => f.write_str("operation cancelled: actual cost limit exceeded"),
            EvalError::BudgetExceeded => {
                f.write_str("validation failed due to running out of cost budget, no further validation rules will be run")
            }
            EvalError::Interrupted => f.write_str("operation interrupted"),
        }
    }
}

impl std::error::Error for EvalError {}
