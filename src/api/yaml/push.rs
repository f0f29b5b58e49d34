//! Lines inside of brackets and quotes that begin left of where the enclosing block does.
//!
//! YAML forbids them, and so does the scanner; go-yaml, as all that is made after libyaml, takes them, and people write them:
//!
//! ```yaml
//! spec:
//!   args: [
//! "a"
//! ]
//! ```
//!
//! There, blanks at the beginning of a line mean nothing. So such a line is pushed to the right, and read again.
//!
//! Never: touches a line of a block, where blanks say what belongs to what.

use saphyr_parser::ScanError;

/// As far as lines are pushed. Blocks that begin further right are not helped.
const COLUMNS: usize = 256;

/// Whether the text goes on inside of brackets or quotes there.
enum Found {
    Bracketed,
    Quoted,
}

/// The text, with what the scanner says is too far to the left pushed to the right; none if that is not what it says.
pub(super) fn pushed(text: &str, error: &ScanError) -> Option<String> {
    // The scanner has closed all blocks that begin further right, but for those around brackets: so the first two are about these.
    let found = match error.info() {
        "invalid indentation" | "invalid indentation in flow construct" => Found::Bracketed,
        "invalid indentation in quoted scalar" => Found::Quoted,
        _ => return None,
    };
    let line = lines(text).nth(error.marker().line().checked_sub(1)?)?;
    let column = text[line..].char_indices().map(|(at, _)| line + at).nth(error.marker().col())?;
    match found {
        Found::Bracketed => {
            let fits = text[line..column].chars().all(|c| matches!(c, ' ' | '\t')) && error.marker().col() < COLUMNS;
            fits.then(|| insert(text, &[column]))
        }
        Found::Quoted => {
            let end = column + quoted(&text[column..])?;
            let within = lines(text).filter(|start| (column..end).contains(start));
            // A line with a marker ends the document even here, and a line without text means a break.
            let pushable = |start: &usize| {
                let line = &text[*start..];
                !line.starts_with("---") && !line.starts_with("...") && !line.trim_start_matches([' ', '\t']).starts_with(['\n', '\r'])
            };
            let is_pushed = |start: &usize| text[*start..].bytes().take_while(|byte| *byte == b' ').count() >= COLUMNS;
            let places: Vec<usize> = within.filter(pushable).filter(|start| !is_pushed(start)).collect();
            (!places.is_empty()).then(|| insert(text, &places))
        }
    }
}

/// Where lines begin.
fn lines(text: &str) -> impl Iterator<Item = usize> + '_ {
    let bytes = text.as_bytes();
    let ends = move |at: &usize| bytes[*at] == b'\n' || bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n');
    std::iter::once(0).chain((0..bytes.len()).filter(ends).map(|at| at + 1))
}

/// The length of a quoted text with its quotes.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        let twice = c == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'');
        if quote == '\'' && twice || quote == '"' && c == '\\' {
            chars.next();
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// With blanks at these places.
fn insert(text: &str, places: &[usize]) -> String {
    let mut out = String::with_capacity(text.len() + places.len() * COLUMNS);
    let mut from = 0;
    for at in places {
        out.push_str(&text[from..*at]);
        out.extend(std::iter::repeat_n(' ', COLUMNS));
        from = *at;
    }
    out.push_str(&text[from..]);
    out
}
