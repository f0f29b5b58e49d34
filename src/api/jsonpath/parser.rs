//! From text to steps.

use serde_json::Value;

use super::{Compare, JsonPathError, Node, Operand, Step};

type Result<T> = std::result::Result<T, JsonPathError>;

/// How deeply ranges and filters may nest.
const MAX_DEPTH: usize = 32;

/// Parses a whole template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>> {
    let mut parser = Parser { rest: source, depth: 0 };
    parser.nodes(false)
}

/// What one action in braces is.
enum Action {
    Nodes(Vec<Node>),
    Range(Vec<Step>),
    End,
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn nodes(&mut self, in_range: bool) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            let end = self.rest.find('{').unwrap_or(self.rest.len());
            if end > 0 {
                nodes.push(Node::Text(self.rest[..end].to_string()));
            }
            self.rest = &self.rest[end..];
            if self.rest.is_empty() {
                return if in_range { Err(JsonPathError::UnclosedRange) } else { Ok(nodes) };
            }
            self.rest = &self.rest[1..];
            match self.action()? {
                Action::Nodes(found) => nodes.extend(found),
                Action::End if in_range => return Ok(nodes),
                Action::End => return Err(JsonPathError::NothingToEnd),
                Action::Range(path) => {
                    self.deeper()?;
                    nodes.push(Node::Range(path, self.nodes(true)?));
                    self.depth -= 1;
                }
            }
        }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(JsonPathError::TooDeep) } else { Ok(()) }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// The inside of a pair of braces; the opening one is read.
    fn action(&mut self) -> Result<Action> {
        let mut nodes = Vec::new();
        loop {
            self.skip_space();
            let Some(first) = self.rest.chars().next() else { return Err(JsonPathError::UnclosedAction) };
            match first {
                '}' => {
                    self.rest = &self.rest[1..];
                    return Ok(Action::Nodes(nodes));
                }
                '"' | '\'' => nodes.push(Node::Text(self.quoted(first)?)),
                '.' | '[' | '$' | '@' => nodes.push(Node::Path(self.path()?)),
                c if c.is_alphanumeric() || c == '-' || c == '_' => {
                    let word = self.word();
                    match word.as_str() {
                        "range" => {
                            self.skip_space();
                            let path = self.path()?;
                            return self.close(Action::Range(path));
                        }
                        "end" => return self.close(Action::End),
                        word if serde_json::from_str::<Value>(word).is_ok() => nodes.push(Node::Text(word.to_string())),
                        _ => return Err(JsonPathError::Identifier(word)),
                    }
                }
                other => return Err(JsonPathError::Character(other)),
            }
        }
    }

    fn close(&mut self, action: Action) -> Result<Action> {
        self.skip_space();
        match self.rest.strip_prefix('}') {
            Some(rest) => {
                self.rest = rest;
                Ok(action)
            }
            None => Err(self.rest.chars().next().map_or(JsonPathError::UnclosedAction, JsonPathError::Character)),
        }
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_' && c != '.').unwrap_or(self.rest.len());
        let word = self.rest[..end].to_string();
        self.rest = &self.rest[end..];
        word
    }

    /// A quoted text with its escapes; `quote` is next.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, other)) => text.push(other),
                    None => return Err(JsonPathError::UnclosedQuote),
                },
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(JsonPathError::UnclosedQuote)
    }

    /// A chain of steps, up to what cannot continue it.
    fn path(&mut self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        // `$` and `@` both mean the value at hand.
        self.rest = self.rest.strip_prefix(['$', '@']).unwrap_or(self.rest);
        loop {
            if let Some(rest) = self.rest.strip_prefix("..") {
                self.rest = rest;
                steps.push(Step::Recursive);
                if !self.rest.starts_with(['[', '.']) {
                    steps.extend(self.field());
                }
            } else if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                steps.extend(self.field());
            } else if self.rest.starts_with('[') {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    /// A field's name, where a backslash makes the next character part of it. A lone dot names nothing.
    fn field(&mut self) -> Option<Step> {
        let mut name = String::new();
        let mut end = self.rest.len();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}' | '(' | ')' | '=' | '!' | '<' | '>' => {
                    end = at;
                    break;
                }
                c if c.is_whitespace() => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        match name.as_str() {
            "" => None,
            "*" => Some(Step::Wildcard),
            _ => Some(Step::Field(name)),
        }
    }

    /// What stands in brackets; the opening one is next.
    fn bracket(&mut self) -> Result<Step> {
        self.rest = &self.rest[1..];
        if let Some(rest) = self.rest.strip_prefix("?(") {
            self.rest = rest;
            self.deeper()?;
            let filter = self.filter()?;
            self.depth -= 1;
            return Ok(filter);
        }
        let inner = self.until_bracket()?;
        let parts = split_commas(&inner);
        let mut steps = parts.iter().map(|part| element(part, self.depth)).collect::<Result<Vec<_>>>()?;
        match (steps.len(), steps.pop()) {
            (1, Some(mut only)) if only.len() == 1 => Ok(only.remove(0)),
            (_, Some(last)) => {
                steps.push(last);
                Ok(Step::Union(steps))
            }
            (_, None) => Err(JsonPathError::Index(inner)),
        }
    }

    fn until_bracket(&mut self) -> Result<String> {
        let mut quote = None;
        for (at, c) in self.rest.char_indices() {
            match (quote, c) {
                (None, ']') => {
                    let inner = self.rest[..at].to_string();
                    self.rest = &self.rest[at + 1..];
                    return Ok(inner);
                }
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                _ => {}
            }
        }
        Err(JsonPathError::UnclosedArray)
    }

    /// A filter up to `)]`; `[?(` is read.
    fn filter(&mut self) -> Result<Step> {
        let left = self.operand()?;
        self.skip_space();
        let operators = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let found = operators.iter().find_map(|(sign, compare)| Some((*compare, self.rest.strip_prefix(sign)?)));
        let compare = match found {
            Some((compare, rest)) => {
                self.rest = rest;
                Some((compare, self.operand()?))
            }
            None => None,
        };
        self.skip_space();
        match self.rest.strip_prefix(")]") {
            Some(rest) => {
                self.rest = rest;
                Ok(Step::Filter { left, compare })
            }
            None => Err(JsonPathError::UnclosedFilter),
        }
    }

    fn operand(&mut self) -> Result<Operand> {
        self.skip_space();
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => Ok(Operand::Value(self.quoted(quote)?.into())),
            Some('.' | '[' | '$' | '@') => Ok(Operand::Path(self.path()?)),
            Some(c) if c.is_alphanumeric() || c == '-' => {
                let word = self.word();
                serde_json::from_str(&word).map(Operand::Value).map_err(|_| JsonPathError::Identifier(word))
            }
            _ => Err(JsonPathError::UnclosedFilter),
        }
    }
}

/// Splits at commas outside of quotes.
fn split_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ',') => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// One element between commas: `*`, `'a.b'`, `3`, `1:2:3`.
fn element(part: &str, depth: usize) -> Result<Vec<Step>> {
    let invalid = || JsonPathError::Index(part.to_string());
    if part == "*" {
        return Ok(vec![Step::Wildcard]);
    }
    if let Some(inner) = part.strip_prefix(['\'', '"']) {
        let inner = inner.strip_suffix(['\'', '"']).ok_or_else(invalid)?;
        // A quoted element is a path of its own: its dots separate, unless escaped.
        let dotted = format!(".{inner}");
        let mut parser = Parser { rest: &dotted, depth: depth + 1 };
        let path = parser.path()?;
        return if parser.rest.is_empty() { Ok(path) } else { Err(invalid()) };
    }
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| invalid()),
    };
    let parts: Vec<&str> = part.split(':').collect();
    match parts.as_slice() {
        [index] => Ok(vec![Step::Index(number(index)?.ok_or_else(invalid)?)]),
        [start, end] => Ok(vec![Step::Slice { start: number(start)?, end: number(end)?, step: 1 }]),
        [start, end, step] => Ok(vec![Step::Slice { start: number(start)?, end: number(end)?, step: number(step)?.unwrap_or(1) }]),
        _ => Err(invalid()),
    }
}
