//! Events of the parser into nodes, the form in which aliases and merge keys can be followed.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::push::pushed;
use super::{Error, MAX_DEPTH};

/// Most bytes that are read again because a line had to be pushed.
const MAX_READ_AGAIN: usize = 16 << 20;

/// A node, and the line where it begins, counted from 1.
pub(super) struct Node {
    pub line: usize,
    pub kind: Kind,
}

pub(super) enum Kind {
    /// `plain`: written without quotes, so that its text says its type.
    Scalar {
        text: String,
        tag: Option<String>,
        plain: bool,
    },
    Sequence(Vec<usize>),
    /// Keys and values by turns.
    Mapping(Vec<usize>),
    /// The node that it stands for, which may be one that holds it.
    Alias(usize),
}

/// The nodes of a document, its root first; none: an empty one.
pub(super) type Document = Vec<Node>;

/// The scanner's finding in go-yaml's words: without what it was at when it found it.
impl From<&ScanError> for Error {
    fn from(error: &ScanError) -> Error {
        let info = error.info();
        let problem = match info.split_once(", ") {
            Some((context, problem)) if context.starts_with("while ") => problem,
            _ => info,
        };
        let line = error.marker().line() as u64;
        // As upstream, which tells no line where there is only one.
        Error { line: (line > 1).then_some(line), ..Error::yaml(problem) }
    }
}

/// Why a document can't be read.
enum Fault {
    Scan(ScanError),
    Other(Error),
}

/// At most `most` documents of a text, and what is wrong after them.
pub(super) fn documents(text: &str, most: usize) -> (Vec<Document>, Option<Error>) {
    let mut text = Cow::Borrowed(text);
    let mut again = MAX_READ_AGAIN;
    loop {
        let mut parser = Parser::new_from_str(&text);
        let mut found = Vec::new();
        let fault = loop {
            match document(&mut parser) {
                Ok(Some(nodes)) => found.push(nodes),
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
            if found.len() == most {
                break None;
            }
        };
        let error = match fault {
            None => return (found, None),
            Some(Fault::Other(error)) => return (found, Some(error)),
            Some(Fault::Scan(error)) => error,
        };
        drop(parser);
        match (again.checked_sub(text.len()), pushed(&text, &error)) {
            (Some(left), Some(better)) => {
                again = left;
                text = Cow::Owned(better);
            }
            _ => return (found, Some(Error::from(&error))),
        }
    }
}

/// The nodes of the next document; `None` at the end of the text.
fn document(parser: &mut Parser<'_, StrInput<'_>>) -> Result<Option<Document>, Fault> {
    let mut nodes: Document = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut anchors: HashMap<usize, usize> = HashMap::new();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(Fault::Scan)?;
        let (kind, anchor) = match event {
            Event::StreamEnd => return Ok(None),
            Event::DocumentEnd => return Ok(Some(nodes)),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
            Event::Alias(anchor) => {
                let of = anchors.get(&anchor).ok_or_else(|| Fault::Other(Error::yaml("unknown anchor referenced")))?;
                (Kind::Alias(*of), 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (Kind::Scalar { text: text.into_owned(), tag: tag.as_deref().map(written), plain }, anchor)
            }
            Event::SequenceStart(anchor, _) => (Kind::Sequence(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => (Kind::Mapping(Vec::new()), anchor),
        };
        let at = nodes.len();
        // The parser counts anchors from 1.
        if anchor > 0 {
            anchors.insert(anchor, at);
        }
        if let Some(Kind::Sequence(parts) | Kind::Mapping(parts)) = open.last().map(|parent| &mut nodes[*parent].kind) {
            parts.push(at);
        }
        if matches!(kind, Kind::Sequence(_) | Kind::Mapping(_)) {
            open.push(at);
            if open.len() > MAX_DEPTH {
                return Err(Fault::Other(Error::yaml(format!("exceeded max depth of {MAX_DEPTH}"))));
            }
        }
        nodes.push(Node { line: span.start.line(), kind });
    }
    Ok(None)
}

/// A tag in full.
fn written(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}
