//! Text to tokens, as the CEL grammar has it (cel-go `parser/gen/CEL.g4`, and its `unescape.go`).

use super::ast::Literal;
use super::error::Issue;

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name, reserved or not.
    Ident(String),
    /// A name in backquotes, for fields.
    Quoted(String),
    /// A number, string or bytes.
    Literal(Literal),
    /// An operator or a bracket.
    Punct(&'static str),
    /// `in`
    In,
    /// The end of the text.
    End,
}

/// A token, where it begins (in code points), and its text as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Lexeme {
    /// What it is.
    pub token: Token,
    /// Where.
    pub at: usize,
    /// As written, for messages.
    pub text: String,
}

/// Longest first.
const PUNCTUATION: &[&str] =
    &["==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%"];

struct Lexer {
    chars: Vec<char>,
    at: usize,
    issues: Vec<Issue>,
}

/// The tokens of `source`, and what could not be read; the list always ends with [`Token::End`].
pub fn tokens(source: &str) -> (Vec<Lexeme>, Vec<Issue>) {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0, issues: Vec::new() };
    let mut found = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        if lexer.peek(0).is_none() {
            found.push(Lexeme { token: Token::End, at, text: "<EOF>".into() });
            return (found, lexer.issues);
        }
        if let Some(token) = lexer.token() {
            let text = lexer.chars[at..lexer.at].iter().collect();
            found.push(Lexeme { token, at, text });
        }
    }
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip_space(&mut self) {
        loop {
            match self.peek(0) {
                Some(' ' | '\t' | '\n' | '\r' | '\u{c}') => self.at += 1,
                Some('/') if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// The next token, or `None` after a complaint.
    fn token(&mut self) -> Option<Token> {
        let first = self.peek(0)?;
        if let Some(token) = self.string() {
            return token;
        }
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                self.at += 1;
            }
            let name: String = self.chars[start..self.at].iter().collect();
            return Some(if name == "in" { Token::In } else { Token::Ident(name) });
        }
        if first == '`' {
            let inner: String =
                self.chars[self.at + 1..].iter().take_while(|c| c.is_ascii_alphanumeric() || "_.-/ ".contains(**c)).collect();
            let end = self.at + 1 + inner.chars().count();
            if !inner.is_empty() && self.chars.get(end) == Some(&'`') {
                self.at = end + 1;
                return Some(Token::Quoted(inner));
            }
        }
        for text in PUNCTUATION {
            if text.chars().enumerate().all(|(index, c)| self.peek(index) == Some(c)) {
                self.at += text.len();
                return Some(Token::Punct(text));
            }
        }
        // `=`, `&` and `|` alone take the character after them along.
        let taken = if "=&|".contains(first) { 2 } else { 1 };
        self.unrecognized(taken)
    }

    fn unrecognized(&mut self, taken: usize) -> Option<Token> {
        let end = (self.at + taken).min(self.chars.len());
        let text: String = self.chars[self.at..end].iter().collect();
        let text = text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
        self.issues.push(Issue { at: self.at, message: format!("Syntax error: token recognition error at: '{text}'") });
        self.at = end;
        None
    }

    fn fail(&mut self, at: usize, message: impl Into<String>) -> Option<Token> {
        self.issues.push(Issue { at, message: message.into() });
        // Something of the kind, so that the parser finds no second fault.
        Some(Token::Literal(Literal::Null))
    }

    fn digits(&mut self, radix: u32) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_digit(radix)) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Option<Token> {
        let start = self.at;
        if self.peek(0) == Some('0') && self.peek(1) == Some('x') && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit()) {
            self.at += 2;
            let digits = self.digits(16);
            return self.integer(start, &digits, 16);
        }
        let mut text = self.digits(10);
        let mut float = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            text.push('.');
            text.push_str(&self.digits(10));
            float = true;
        }
        let signed = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if matches!(self.peek(0), Some('e' | 'E')) && self.peek(1 + signed).is_some_and(|c| c.is_ascii_digit()) {
            text.extend(&self.chars[self.at..=self.at + signed]);
            self.at += 1 + signed;
            text.push_str(&self.digits(10));
            float = true;
        }
        if !float {
            return self.integer(start, &text, 10);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Some(Token::Literal(Literal::Double(value))),
            _ => self.fail(start, "invalid double literal"),
        }
    }

    /// `-` is an operator of its own, so the smallest integer is read by the parser (see [`super::parser`]).
    fn integer(&mut self, start: usize, digits: &str, radix: u32) -> Option<Token> {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return match u64::from_str_radix(digits, radix) {
                Ok(value) => Some(Token::Literal(Literal::Uint(value))),
                Err(_) => self.fail(start, "invalid uint literal"),
            };
        }
        match i64::from_str_radix(digits, radix) {
            Ok(value) => Some(Token::Literal(Literal::Int(value))),
            // Only legal behind a minus, which the parser joins to it.
            Err(_) if u64::from_str_radix(digits, radix) == Ok(1 << 63) => Some(Token::Literal(Literal::Int(i64::MIN))),
            Err(_) => self.fail(start, "invalid int literal"),
        }
    }

    /// A string or bytes literal; the outer `None` says that none begins here.
    fn string(&mut self) -> Option<Option<Token>> {
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        while let Some(c) = self.peek(ahead) {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes && !raw => bytes = true,
                '"' | '\'' => break,
                _ => return None,
            }
            ahead += 1;
        }
        let quote = self.peek(ahead)?;
        let triple = self.peek(ahead + 1) == Some(quote) && self.peek(ahead + 2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        let start = self.at + ahead + width;
        let mut end = start;
        loop {
            match self.chars.get(end) {
                // An end of the line or the text inside of a string.
                None => return Some(self.unrecognized(end - self.at)),
                Some('\n' | '\r') if !triple => return Some(self.unrecognized(end + 1 - self.at)),
                Some('\\') if !raw => end += 2,
                Some(c)
                    if *c == quote && (!triple || (self.chars.get(end + 1) == Some(&quote) && self.chars.get(end + 2) == Some(&quote))) =>
                {
                    break;
                }
                Some(_) => end += 1,
            }
        }
        let begin = self.at;
        let inner: Vec<char> = self.chars[start..end].to_vec();
        self.at = end + width;
        let literal = match (raw, bytes) {
            (true, false) => Some(Literal::String(inner.iter().collect())),
            (true, true) => Some(Literal::Bytes(inner.iter().collect::<String>().into_bytes())),
            (false, false) => unescape(&inner, false).and_then(|bytes| String::from_utf8(bytes).ok()).map(Literal::String),
            (false, true) => unescape(&inner, true).map(Literal::Bytes),
        };
        match literal {
            Some(literal) => Some(Some(Token::Literal(literal))),
            None => Some(self.unrecognized_literal(begin)),
        }
    }

    fn unrecognized_literal(&mut self, begin: usize) -> Option<Token> {
        let text: String = self.chars[begin..self.at].iter().collect();
        self.fail(begin, format!("Syntax error: token recognition error at: '{text}'"))
    }
}

/// Escapes resolved; in bytes `\x` and octal escapes are bytes, in strings code points.
fn unescape(text: &[char], bytes: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let push = |c: char, out: &mut Vec<u8>| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        at += 1;
        if c != '\\' {
            push(c, &mut out);
            continue;
        }
        let escape = *text.get(at)?;
        at += 1;
        let (digits, radix) = match escape {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                at -= 1;
                (3, 8)
            }
            _ => {
                let plain = match escape {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '\'' | '"' | '`' | '?' => escape,
                    _ => return None,
                };
                push(plain, &mut out);
                continue;
            }
        };
        let number: String = text.get(at..at + digits)?.iter().collect();
        if !number.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        let number = u32::from_str_radix(&number, radix).ok()?;
        at += digits;
        if bytes { out.push(u8::try_from(number).ok()?) } else { push(char::from_u32(number)?, &mut out) }
    }
    Some(out)
}
