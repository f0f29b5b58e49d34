//! Words of a label selector, as upstream's `labels.Lexer`: identifiers and the symbols `! ( ) , = == != < >`.

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Error,
    End,
    ClosedParen,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    OpenParen,
}

/// Longest match first: `==` before `=`.
const SYMBOLS: &[(&str, Token)] = &[
    ("==", Token::DoubleEquals),
    ("!=", Token::NotEquals),
    ("=", Token::Equals),
    ("!", Token::Not),
    ("(", Token::OpenParen),
    (")", Token::ClosedParen),
    (",", Token::Comma),
    (">", Token::GreaterThan),
    ("<", Token::LessThan),
];

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// Splits a selector into words. The last one is always [`Token::End`].
pub(super) fn words(text: &str) -> Vec<(Token, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            found.push((Token::End, ""));
            return found;
        }
        let (token, length) = match SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
            Some((symbol, token)) => (*token, symbol.len()),
            None => {
                let length = rest.find(|c| is_space(c) || is_symbol(c)).unwrap_or(rest.len());
                let token = match &rest[..length] {
                    "in" => Token::In,
                    "notin" => Token::NotIn,
                    word if word.contains('\0') => Token::Error,
                    _ => Token::Identifier,
                };
                (token, length)
            }
        };
        found.push((token, &rest[..length]));
        rest = &rest[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let tokens = |text| words(text).into_iter().map(|(t, w)| format!("{t:?}:{w}")).collect::<Vec<_>>().join(" ");
        for (text, expect) in [
            ("", "End:"),
            (" a ", "Identifier:a End:"),
            ("a==b,c!=d", "Identifier:a DoubleEquals:== Identifier:b Comma:, Identifier:c NotEquals:!= Identifier:d End:"),
            ("!a", "Not:! Identifier:a End:"),
            ("a in (b)", "Identifier:a In:in OpenParen:( Identifier:b ClosedParen:) End:"),
            ("a notin(b)", "Identifier:a NotIn:notin OpenParen:( Identifier:b ClosedParen:) End:"),
            ("a>1,b<2", "Identifier:a GreaterThan:> Identifier:1 Comma:, Identifier:b LessThan:< Identifier:2 End:"),
            ("a===b", "Identifier:a DoubleEquals:== Equals:= Identifier:b End:"),
        ] {
            assert_eq!(tokens(text), expect, "{text:?}");
        }
    }
}
