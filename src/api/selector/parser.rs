//! The grammar of label selectors.

use std::collections::BTreeSet;

use super::SelectorError;
use super::labels::{LabelRequirement, Operator, check_key};
use super::lexer::{Token, words};

const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

/// A recursive descent over the words, as upstream's `labels.Parser`.
pub(super) struct Parser<'a> {
    words: Vec<(Token, &'a str)>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next word, where `in` and `notin` are operators.
    fn peek_operator(&self) -> (Token, &'a str) {
        self.words.get(self.at).copied().unwrap_or((Token::End, ""))
    }

    /// The next word, where `in` and `notin` are ordinary identifiers.
    fn peek(&self) -> (Token, &'a str) {
        match self.peek_operator() {
            (Token::In | Token::NotIn, word) => (Token::Identifier, word),
            other => other,
        }
    }

    fn next(&mut self) -> (Token, &'a str) {
        let found = self.peek();
        self.at += 1;
        found
    }

    /// A parser of `text`.
    pub(super) fn new(text: &'a str) -> Parser<'a> {
        Parser { words: words(text), at: 0 }
    }

    /// The whole selector.
    pub(super) fn selector(&mut self) -> Result<Vec<LabelRequirement>, SelectorError> {
        let wrong = |found: &str, expected| Err(SelectorError::Selector { found: found.into(), expected });
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => requirements.push(self.requirement()?),
                (Token::End, _) => return Ok(requirements),
                (_, word) => return wrong(word, "!, identifier, or 'end of string'"),
            }
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek() {
                    (Token::Identifier | Token::Not, _) => {}
                    (_, word) => return wrong(word, "identifier after ','"),
                },
                (_, word) => return wrong(word, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, SelectorError> {
        let negated = self.peek().0 == Token::Not;
        if negated {
            self.next();
        }
        let (token, key) = self.next();
        if token != Token::Identifier {
            return Err(expected(key, "identifier"));
        }
        check_key("<nil>", key)?;
        if negated {
            return LabelRequirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return LabelRequirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let (token, word) = self.peek_operator();
        self.at += 1;
        let operator = match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::GreaterThan => Operator::GreaterThan,
            Token::LessThan => Operator::LessThan,
            _ => return Err(expected(word, BINARY)),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        LabelRequirement::new(key, operator, values)
    }

    /// The value after `=`: nothing at all is the empty value.
    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Identifier, word) => {
                self.next();
                Ok(word.into())
            }
            (_, word) => Err(expected(word, "identifier")),
        }
    }

    /// `(a,b)`. Nothing between two commas, or between a comma and a parenthesis, is the empty value.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let (token, word) = self.next();
        if token != Token::OpenParen {
            return Err(SelectorError::Requirement { found: word.into(), expected: "'('", comma: false });
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            (Token::ClosedParen, _) => {
                self.next();
                return Ok(values);
            }
            (Token::Identifier | Token::Comma, _) => {}
            (_, word) => return Err(expected(word, "',', ')' or identifier")),
        }
        loop {
            match self.next() {
                (Token::Identifier, word) => {
                    values.insert(word.to_owned());
                    match self.peek() {
                        (Token::Comma | Token::ClosedParen, _) => {}
                        (_, word) => return Err(expected(word, "',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    let empty = values.is_empty() || matches!(self.peek().0, Token::Comma | Token::ClosedParen);
                    if empty {
                        values.insert(String::new());
                    }
                }
                (Token::ClosedParen, _) => return Ok(values),
                (_, word) => return Err(expected(word, "',', or identifier")),
            }
        }
    }
}

fn expected(found: &str, expected: &'static str) -> SelectorError {
    SelectorError::Requirement { found: found.into(), expected, comma: true }
}
