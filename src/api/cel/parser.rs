//! Tokens to a tree: recursive descent over the grammar of CEL (cel-go `parser/parser.go`), macros expanded on the way.
//!
//! Bounds: [`MAX_SOURCE`] code points, [`MAX_DEPTH`] levels, [`MAX_NODES`] nodes. What is within them can be walked by recursion.

use super::ast::{Ast, Entry, Field, Id, Kind, Literal};
use super::error::{CompileErrors, Issue};
use super::lexer::{self, Lexeme, Token};
use super::macros;

/// Longest source, in code points (cel-go's default).
pub const MAX_SOURCE: usize = 100_000;
/// Deepest nesting (cel-go's default).
pub const MAX_DEPTH: usize = 250;
/// Most nodes, macros expanded.
pub const MAX_NODES: usize = 200_000;

/// What may begin an expression, as the generated parser of cel-go lists it.
const BEGINNINGS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Words that are no variables.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Operators of one level of precedence, with the functions they call.
type Level = &'static [(&'static str, &'static str)];
const RELATIONS: Level = &[("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("==", "_==_"), ("!=", "_!=_")];
const SUMS: Level = &[("+", "_+_"), ("-", "_-_")];
const PRODUCTS: Level = &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")];

/// Parses `source`, expanding macros.
pub fn parse(source: &str) -> Result<Ast, CompileErrors> {
    let fail = |issues| Err(CompileErrors::new(source, issues));
    let length = source.chars().count();
    if length > MAX_SOURCE {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {MAX_SOURCE}");
        return Err(CompileErrors::new("", vec![Issue { at: 0, message }]));
    }
    let (tokens, mut issues) = lexer::tokens(source);
    let mut parser = Parser { tokens, next: 0, ast: Ast::default(), depths: Vec::new(), depth: 0 };
    match parser.start() {
        Ok(root) if issues.is_empty() => {
            parser.ast.root = root;
            Ok(parser.ast)
        }
        Ok(_) => fail(issues),
        Err(issue) => {
            issues.push(issue);
            fail(issues)
        }
    }
}

/// The parser's state.
pub(super) struct Parser {
    tokens: Vec<Lexeme>,
    next: usize,
    ast: Ast,
    /// Height of each node, so that trees made by loops (`a + b + ...`, macros) are bounded too.
    depths: Vec<u32>,
    depth: usize,
}

type Parsed<T = Id> = Result<T, Issue>;

impl Parser {
    /// Adds a node; `at` is where complaints about it point.
    pub(super) fn add(&mut self, kind: Kind, at: usize) -> Parsed {
        let height = 1 + children(&kind).into_iter().map(|child| self.depths[child as usize]).max().unwrap_or(0);
        if height as usize > 2 * MAX_DEPTH {
            return Err(too_deep());
        }
        if self.depths.len() >= MAX_NODES {
            return Err(Issue { at, message: format!("expression has more than {MAX_NODES} nodes") });
        }
        self.depths.push(height);
        Ok(self.ast.add(kind, at))
    }

    pub(super) fn call(&mut self, function: &str, args: Vec<Id>, at: usize) -> Parsed {
        self.add(Kind::Call { function: function.into(), target: None, args }, at)
    }

    pub(super) fn literal(&mut self, literal: Literal, at: usize) -> Parsed {
        self.add(Kind::Literal(literal), at)
    }

    pub(super) fn ident(&mut self, name: &str, at: usize) -> Parsed {
        self.add(Kind::Ident(name.into()), at)
    }

    /// The tree so far.
    pub(super) fn ast(&self) -> &Ast {
        &self.ast
    }

    fn peek(&self) -> &Lexeme {
        &self.tokens[self.next]
    }

    fn take(&mut self) -> Lexeme {
        let token = self.tokens[self.next].clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes this operator or bracket, if it is next; says where it stood.
    fn accept(&mut self, punct: &str) -> Option<usize> {
        (matches!(&self.peek().token, Token::Punct(text) if *text == punct)).then(|| self.take().at)
    }

    fn expect(&mut self, punct: &str) -> Parsed<usize> {
        if let Some(at) = self.accept(punct) {
            return Ok(at);
        }
        let found = self.peek();
        let message = match found.token {
            Token::End => format!("Syntax error: missing '{punct}' at '<EOF>'"),
            _ => format!("Syntax error: mismatched input '{}' expecting '{punct}'", found.text),
        };
        Err(Issue { at: found.at, message })
    }

    fn unexpected(&self, expecting: &str) -> Issue {
        let found = self.peek();
        Issue { at: found.at, message: format!("Syntax error: mismatched input '{}' expecting {expecting}", found.text) }
    }

    fn start(&mut self) -> Parsed {
        let root = self.expr()?;
        if self.peek().token == Token::End {
            return Ok(root);
        }
        let extraneous = matches!(self.tokens.get(self.next + 1), Some(Lexeme { token: Token::End, .. }));
        let word = if extraneous { "extraneous" } else { "mismatched" };
        let found = self.peek();
        Err(Issue { at: found.at, message: format!("Syntax error: {word} input '{}' expecting <EOF>", found.text) })
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn expr(&mut self) -> Parsed {
        self.nested(|p| {
            let condition = p.logical("||", "_||_", |p| p.logical("&&", "_&&_", |p| p.binary(RELATIONS, Parser::sum)))?;
            let Some(at) = p.accept("?") else { return Ok(condition) };
            let yes = p.logical("||", "_||_", |p| p.logical("&&", "_&&_", |p| p.binary(RELATIONS, Parser::sum)))?;
            p.expect(":")?;
            let no = p.expr()?;
            p.call("_?_:_", vec![condition, yes, no], at)
        })
    }

    /// A chain of `&&` or `||`, as a balanced tree.
    fn logical(&mut self, operator: &str, function: &str, mut operand: impl FnMut(&mut Parser) -> Parsed) -> Parsed {
        let mut terms = vec![operand(self)?];
        let mut places = Vec::new();
        while let Some(at) = self.accept(operator) {
            places.push(at);
            terms.push(operand(self)?);
        }
        if places.is_empty() { Ok(terms[0]) } else { self.balance(function, &terms, &places) }
    }

    fn balance(&mut self, function: &str, terms: &[Id], places: &[usize]) -> Parsed {
        let middle = places.len() / 2;
        let left = if middle == 0 { terms[0] } else { self.balance(function, &terms[..=middle], &places[..middle])? };
        let right = match &places[middle + 1..] {
            [] => terms[middle + 1],
            rest => self.balance(function, &terms[middle + 1..], rest)?,
        };
        self.call(function, vec![left, right], places[middle])
    }

    fn binary(&mut self, level: Level, mut operand: impl FnMut(&mut Parser) -> Parsed) -> Parsed {
        let mut left = operand(self)?;
        loop {
            let next = &self.peek().token;
            let function = match next {
                Token::In if level.len() == RELATIONS.len() => "@in",
                Token::Punct(text) => match level.iter().find(|(operator, _)| operator == text) {
                    Some((_, function)) => function,
                    None => return Ok(left),
                },
                _ => return Ok(left),
            };
            let at = self.take().at;
            let right = operand(self)?;
            left = self.call(function, vec![left, right], at)?;
        }
    }

    fn sum(&mut self) -> Parsed {
        self.binary(SUMS, |p| p.binary(PRODUCTS, Parser::unary))
    }

    fn unary(&mut self) -> Parsed {
        for (operator, function) in [("!", "!_"), ("-", "-_")] {
            let Some(at) = self.accept(operator) else { continue };
            let mut count = 1;
            let mut last = at;
            while let Some(at) = self.accept(operator) {
                (count, last) = (count + 1, at);
            }
            // The innermost minus belongs to a number that follows it.
            let number = operator == "-" && matches!(self.peek().token, Token::Literal(Literal::Int(_) | Literal::Double(_)));
            let operand = if number { self.member_of_negative(last)? } else { self.member()? };
            count -= usize::from(number);
            return if count % 2 == 1 { self.call(function, vec![operand], at) } else { Ok(operand) };
        }
        self.member()
    }

    fn member_of_negative(&mut self, at: usize) -> Parsed {
        let negative = match self.take().token {
            Token::Literal(Literal::Int(value)) => Literal::Int(value.wrapping_neg()),
            Token::Literal(Literal::Double(value)) => Literal::Double(-value),
            _ => return Err(self.unexpected(BEGINNINGS)),
        };
        let number = self.literal(negative, at)?;
        self.suffixes(number)
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.suffixes(primary)
    }

    /// `.field`, `.?field`, `.method()`, `[index]`, `[?index]` and `{fields}`, as often as they come.
    fn suffixes(&mut self, mut operand: Id) -> Parsed {
        loop {
            if let Some(at) = self.accept(".") {
                operand = self.selection(operand, at)?;
            } else if let Some(at) = self.accept("[") {
                let function = if self.accept("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.call(function, vec![operand, index], at)?;
            } else if matches!(self.peek().token, Token::Punct("{")) {
                let Some(name) = self.ast.qualified_name(operand) else { return Ok(operand) };
                operand = self.object(name)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn selection(&mut self, operand: Id, at: usize) -> Parsed {
        let optional = self.accept("?").is_some();
        let (name, quoted) = match &self.peek().token {
            Token::Ident(name) if name == "null" || name == "true" || name == "false" => return Err(self.unexpected("IDENTIFIER")),
            Token::Ident(name) => (name.clone(), false),
            Token::Quoted(name) => (name.clone(), true),
            _ => return Err(self.unexpected("IDENTIFIER")),
        };
        let name_at = self.take().at;
        if optional {
            let field = self.literal(Literal::String(name), name_at)?;
            return self.call("_?._", vec![operand, field], at);
        }
        match self.accept("(") {
            Some(open) if !quoted => {
                let args = self.list_until(")", Parser::expr)?;
                self.invoke(name, Some(operand), args, open)
            }
            _ => self.add(Kind::Select { operand, field: name, test_only: false }, at),
        }
    }

    /// A call, or what the macro of that name makes of it.
    fn invoke(&mut self, function: String, target: Option<Id>, args: Vec<Id>, at: usize) -> Parsed {
        match macros::expand(self, &function, target, &args, at)? {
            Some(expanded) => Ok(expanded),
            None => self.add(Kind::Call { function, target, args }, at),
        }
    }

    /// Items with commas between them and perhaps one behind the last, up to `close`.
    fn list_until<T>(&mut self, close: &str, mut item: impl FnMut(&mut Parser) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        loop {
            if self.accept(close).is_some() {
                return Ok(items);
            }
            items.push(item(self)?);
            if self.accept(",").is_some() && close != ")" {
                continue;
            }
            if self.next > 0 && matches!(self.tokens[self.next - 1].token, Token::Punct(",")) {
                // In a call something must follow the comma.
                if matches!(&self.peek().token, Token::Punct(text) if *text == close) {
                    return Err(self.unexpected(BEGINNINGS));
                }
                continue;
            }
            self.expect(close)?;
            return Ok(items);
        }
    }

    fn primary(&mut self) -> Parsed {
        let leading_dot = self.accept(".");
        let token = self.peek().clone();
        match token.token {
            Token::Ident(name) => {
                self.take();
                let at = leading_dot.unwrap_or(token.at);
                self.named(name, at, leading_dot.is_some())
            }
            _ if leading_dot.is_some() => Err(self.unexpected("IDENTIFIER")),
            Token::Literal(Literal::Int(i64::MIN)) => Err(Issue { at: token.at, message: "invalid int literal".into() }),
            Token::Literal(literal) => {
                self.take();
                self.literal(literal, token.at)
            }
            Token::Punct("(") => {
                self.take();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Punct("[") => {
                self.take();
                let items = self.list_until("]", |p| {
                    let optional = p.accept("?").is_some();
                    Ok((p.expr()?, optional))
                })?;
                self.add(Kind::List(items), token.at)
            }
            Token::Punct("{") => {
                self.take();
                let entries = self.list_until("}", |p| {
                    let optional = p.accept("?").is_some();
                    let key = p.expr()?;
                    p.expect(":")?;
                    Ok(Entry { key, value: p.expr()?, optional })
                })?;
                self.add(Kind::Map(entries), token.at)
            }
            _ => Err(self.unexpected(BEGINNINGS)),
        }
    }

    fn named(&mut self, name: String, at: usize, absolute: bool) -> Parsed {
        match name.as_str() {
            "true" | "false" if !absolute => return self.literal(Literal::Bool(name == "true"), at),
            "null" if !absolute => return self.literal(Literal::Null, at),
            word if RESERVED.contains(&word) => return Err(Issue { at, message: format!("reserved identifier: {name}") }),
            _ => {}
        }
        match self.accept("(") {
            Some(open) => {
                let args = self.list_until(")", Parser::expr)?;
                self.invoke(name, None, args, open)
            }
            None => self.ident(&name, at),
        }
    }

    fn object(&mut self, name: String) -> Parsed {
        let at = self.take().at;
        let fields = self.list_until("}", |p| {
            let optional = p.accept("?").is_some();
            let name = match &p.peek().token {
                Token::Ident(name) | Token::Quoted(name) => name.clone(),
                _ => return Err(p.unexpected("{'}', ',', '?', IDENTIFIER}")),
            };
            p.take();
            let at = p.expect(":")?;
            Ok(Field { name, value: p.expr()?, optional, at })
        })?;
        self.add(Kind::Struct { name, fields }, at)
    }
}

fn too_deep() -> Issue {
    Issue { at: 0, message: format!("expression recursion limit exceeded: {MAX_DEPTH}") }
}

/// The nodes right below one.
fn children(kind: &Kind) -> Vec<Id> {
    match kind {
        Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
        Kind::Select { operand, .. } => vec![*operand],
        Kind::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
        Kind::List(items) => items.iter().map(|(item, _)| *item).collect(),
        Kind::Map(entries) => entries.iter().flat_map(|entry| [entry.key, entry.value]).collect(),
        Kind::Struct { fields, .. } => fields.iter().map(|field| field.value).collect(),
        Kind::Comprehension(c) => vec![c.range, c.init, c.condition, c.step, c.result],
    }
}
