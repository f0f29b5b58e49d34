//! The functions that expressions may call, as tables: name, implementation, and the types each overload takes and gives.
//!
//! Words: an *overload* is written `id|(int, list(A)) -> A`, or `id|string.(int) -> string` for a method. Only overloads that differ in
//! cost need their upstream id. Implementations look at the values themselves, so one serves all overloads of a name.
//!
//! The libraries are those of apiserver `pkg/cel/environment/base.go`; beyond it there are the base64, math and second list library of
//! cel-go (`ext/encoders.go`, `ext/math.go`, `ext/lists.go`).

mod authz;
mod convert;
mod format;
mod lists;
mod math;
mod named;
mod net;
mod operators;
mod optional;
mod quantity;
pub(super) mod regexes;
mod semver;
mod sets;
mod strings;
mod times;
mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::env::Context;
use super::types::{Mapping, Type};
use super::value::{Res, Value};

pub use authz::{Authorize, AuthzCheck, AuthzDecision, AuthzState};
pub use named::NamedFormat;
pub use net::Cidr;
pub use semver::Semver;
pub use url::Url;

/// An implementation: the target, if any, comes first.
pub(super) type Eval = for<'c, 'a> fn(&'c Context<'c, 'a>, &[Value<'a>]) -> Res<Value<'a>>;

/// One line of a table.
pub(super) struct Row(pub &'static str, pub Eval, pub &'static [&'static str]);

/// How a function comes by its value.
pub(super) enum Op {
    /// From the values of all its arguments.
    Strict(Eval),
    /// `&&`
    And,
    /// `||`
    Or,
    /// `?:`
    Conditional,
    /// False only if its argument is false.
    NotStrictlyFalse,
    /// `.?field`
    OptionalSelect,
}

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub id: String,
    pub member: bool,
    /// With the target first.
    pub args: Vec<Type>,
    pub result: Type,
    /// How many type parameters it has.
    pub params: u32,
}

/// A function.
pub(super) struct Function {
    pub name: String,
    pub op: Op,
    pub overloads: Vec<Overload>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// All functions by name.
static FUNCTIONS: LazyLock<HashMap<String, Function>> = LazyLock::new(|| {
    let mut all: HashMap<String, Function> = HashMap::new();
    let mut add = |name: &str, op: Op, overloads: Vec<Overload>| {
        let function = all.entry(name.into()).or_insert_with(|| Function { name: name.into(), op, overloads: Vec::new() });
        function.overloads.extend(overloads);
    };
    for (name, op, overload) in [
        ("_&&_", Op::And, "logical_and|(bool, bool) -> bool"),
        ("_||_", Op::Or, "logical_or|(bool, bool) -> bool"),
        ("_?_:_", Op::Conditional, "conditional|(bool, A, A) -> A"),
        ("@not_strictly_false", Op::NotStrictlyFalse, "not_strictly_false|(bool) -> bool"),
        ("_?._", Op::OptionalSelect, "select_optional_field|(dyn, string) -> optional(dyn)"),
    ] {
        add(name, op, vec![overload_of(overload)]);
    }
    for (name, overloads) in operators::relations() {
        add(&name, Op::Strict(operators::RELATION[&*name]), overloads.iter().map(|text| overload_of(text)).collect());
    }
    let tables: [&[Row]; 16] = [
        operators::TABLE,
        convert::TABLE,
        strings::TABLE,
        format::TABLE,
        lists::TABLE,
        times::TABLE,
        regexes::TABLE,
        url::TABLE,
        net::TABLE,
        quantity::TABLE,
        semver::TABLE,
        named::TABLE,
        authz::TABLE,
        sets::TABLE,
        math::TABLE,
        optional::TABLE,
    ];
    for Row(name, eval, overloads) in tables.into_iter().flatten() {
        add(name, Op::Strict(*eval), overloads.iter().map(|text| overload_of(text)).collect());
    }
    all
});

/// A function by name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

/// The name of a type as expressions use it: `int`, `net.IP`.
pub(super) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::Type(std::sync::Arc::new(Type::Dyn)),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        other => Type::Opaque(OPAQUE.iter().find(|opaque| **opaque == other)?),
    })
}

/// Types of the libraries.
const OPAQUE: &[&str] = &[
    "net.IP",
    "net.CIDR",
    "kubernetes.Quantity",
    "kubernetes.Semver",
    "kubernetes.URL",
    "kubernetes.NamedFormat",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
];

/// Reads an overload. The tables are tested, so a malformed one is a fault of this crate.
fn overload_of(text: &str) -> Overload {
    let (id, signature) = text.split_once('|').unwrap_or(("", text));
    let mut reader = Reader { rest: signature, params: Vec::new() };
    let target = (!signature.starts_with('(')).then(|| reader.ty());
    reader.eat(".");
    let mut args: Vec<Type> = target.iter().cloned().collect();
    args.extend(reader.in_parentheses());
    reader.eat("->");
    let result = reader.ty();
    debug_assert!(reader.rest.is_empty(), "{text}");
    Overload { id: id.into(), member: target.is_some(), args, result, params: reader.params.len() as u32 }
}

struct Reader<'t> {
    rest: &'t str,
    params: Vec<&'t str>,
}

impl<'t> Reader<'t> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn in_parentheses(&mut self) -> Vec<Type> {
        let mut types = Vec::new();
        self.eat("(");
        while !self.eat(")") && !self.rest.is_empty() {
            types.push(self.ty());
            self.eat(",");
        }
        types
    }

    fn ty(&mut self) -> Type {
        // A dot ends the target of a method unless a name goes on behind it.
        let end = self.rest.char_indices().find(|(at, c)| {
            let inside = *c == '.' && self.rest[at + 1..].starts_with(char::is_alphabetic);
            !c.is_alphanumeric() && *c != '_' && !inside
        });
        let (name, rest) = self.rest.split_at(end.map_or(self.rest.len(), |(at, _)| at));
        self.rest = rest;
        let inner =
            if rest.starts_with('(') && matches!(name, "list" | "map" | "optional" | "type") { self.in_parentheses() } else { Vec::new() };
        let mut inner = inner.into_iter();
        let mut next = || inner.next().unwrap_or(Type::Dyn);
        match name {
            "dyn" => Type::Dyn,
            "null" => Type::Null,
            "timestamp" => Type::Timestamp,
            "duration" => Type::Duration,
            "list" => Type::list(next()),
            "map" => Type::map(next(), next()),
            "optional" => Type::optional(next()),
            "type" => Type::Type(std::sync::Arc::new(next())),
            _ if name.len() == 1 => Type::Param(self.param(name)),
            _ => type_named(name).unwrap_or(Type::Error),
        }
    }

    fn param(&mut self, name: &'t str) -> u32 {
        let found = self.params.iter().position(|known| *known == name);
        found.unwrap_or_else(|| {
            self.params.push(name);
            self.params.len() - 1
        }) as u32
    }
}

impl Overload {
    /// Arguments and result with parameters of their own.
    pub fn instantiate(&self, mapping: &mut Mapping) -> (Vec<Type>, Type) {
        if self.params == 0 {
            return (self.args.clone(), self.result.clone());
        }
        let fresh: Vec<Type> = (0..self.params).map(|_| mapping.fresh()).collect();
        (self.args.iter().map(|arg| replace(arg, &fresh)).collect(), replace(&self.result, &fresh))
    }
}

fn replace(of: &Type, fresh: &[Type]) -> Type {
    match of {
        Type::Param(index) => fresh[*index as usize].clone(),
        Type::List(inner) => Type::list(replace(inner, fresh)),
        Type::Optional(inner) => Type::optional(replace(inner, fresh)),
        Type::Type(inner) => Type::Type(std::sync::Arc::new(replace(inner, fresh))),
        Type::Map(inner) => Type::map(replace(&inner.0, fresh), replace(&inner.1, fresh)),
        _ => of.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_overload_is_well_formed() {
        assert!(FUNCTIONS.len() > 150);
        for function in FUNCTIONS.values() {
            for overload in &function.overloads {
                let types = overload.args.iter().chain([&overload.result]);
                assert!(types.clone().all(|ty| *ty != Type::Error), "{} {overload:?}", function.name);
                assert!(!overload.args.is_empty() || !overload.member, "{}", function.name);
            }
        }
        let at = overload_of("at|map(K, list(V)).(K, int) -> optional(V)");
        assert_eq!((at.member, at.params, at.args.len()), (true, 2, 3));
        assert_eq!(at.result, Type::optional(Type::Param(1)));
        assert_eq!(overload_of("x|net.IP.() -> int").args, [Type::Opaque("net.IP")]);
    }
}
