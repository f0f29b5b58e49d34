//! Types of expressions, and when one fits another (cel-go `checker/types.go`).
//!
//! Words: a *parameter* is a type still to be found out; the [`Mapping`] says what is known of each.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::schema::ObjectType;

/// The type of an expression.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Type {
    /// Something was already complained about.
    Error,
    /// Known only when it runs.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A type of a library, such as `net.IP`.
    Opaque(&'static str),
    /// A type with fields, declared by a schema.
    Object(Arc<ObjectType>),
    /// To be found out.
    Param(u32),
}

impl Type {
    /// `list(of)`
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    /// `map(key, value)`
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    /// `optional_type(of)`
    pub fn optional(of: Type) -> Type {
        Type::Optional(Arc::new(of))
    }

    /// Whether anything fits.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// Whether its values have size one for purposes of cost.
    pub(super) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            Type::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) | (Type::Type(a), Type::Type(b)) => a == b,
            (Type::Map(a), Type::Map(b)) => a == b,
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (Type::Param(a), Type::Param(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other) && self.is_simple(),
        }
    }
}

impl Type {
    fn is_simple(&self) -> bool {
        !matches!(
            self,
            Type::List(_) | Type::Optional(_) | Type::Type(_) | Type::Map(_) | Type::Opaque(_) | Type::Object(_) | Type::Param(_)
        )
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Error => f.write_str("!error!"),
            Type::Dyn => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(of) => write!(f, "list({of})"),
            Type::Map(of) => write!(f, "map({}, {})", of.0, of.1),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Type(of) => write!(f, "type({of})"),
            Type::Opaque(name) => f.write_str(name),
            Type::Object(of) => f.write_str(&of.name),
            Type::Param(index) => write!(f, "_var{index}"),
        }
    }
}

/// What is known of parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping {
    known: HashMap<u32, Type>,
    next: u32,
    /// What was learnt last, with what was known before, to forget it again.
    trail: Vec<(u32, Option<Type>)>,
}

impl Mapping {
    /// A parameter of which nothing is known.
    pub fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Param(self.next - 1)
    }

    /// `of` with all that is known filled in; with `to_dyn`, what is not becomes `dyn`.
    pub fn substitute(&self, of: &Type, to_dyn: bool) -> Type {
        match of {
            Type::Param(index) => match self.known.get(index) {
                Some(known) => self.substitute(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => of.clone(),
            },
            Type::List(inner) => Type::list(self.substitute(inner, to_dyn)),
            Type::Optional(inner) => Type::optional(self.substitute(inner, to_dyn)),
            Type::Type(inner) => Type::Type(Arc::new(self.substitute(inner, to_dyn))),
            Type::Map(inner) => Type::map(self.substitute(&inner.0, to_dyn), self.substitute(&inner.1, to_dyn)),
            _ => of.clone(),
        }
    }

    /// Whether a value of type `b` may stand where `a` is wanted. What is learnt of parameters is kept only if so.
    pub fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        self.all_assignable(&[(a, b)])
    }

    /// The same for several pairs at once.
    pub fn all_assignable(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        self.trail.clear();
        let fits = pairs.iter().all(|(a, b)| self.fits(a, b));
        if !fits {
            while let Some((index, before)) = self.trail.pop() {
                match before {
                    Some(before) => self.known.insert(index, before),
                    None => self.known.remove(&index),
                };
            }
        }
        fits
    }

    fn learn(&mut self, index: u32, ty: Type) {
        let before = self.known.insert(index, ty);
        self.trail.push((index, before));
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(index) = b {
            let known = self.known.contains_key(index);
            if self.substitutes(a, *index) {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Param(index) = a {
            return self.substitutes(b, *index);
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => {
                matches!(other, Type::Null | Type::Opaque(_) | Type::Optional(_) | Type::Object(_) | Type::Duration | Type::Timestamp)
            }
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            _ => a == b,
        }
    }

    /// Whether `with` may be what parameter `index` is.
    fn substitutes(&mut self, with: &Type, index: u32) -> bool {
        if *with == Type::Param(index) {
            return true;
        }
        let Some(known) = self.known.get(&index).cloned() else {
            let free = !self.mentions(with, index);
            if free {
                self.learn(index, with.clone());
            }
            return free;
        };
        if *with == known {
            return true;
        }
        if !self.fits(with, &known) {
            return false;
        }
        let general = most_general(with, &known);
        if !self.mentions(&general, index) {
            self.learn(index, general);
        }
        true
    }

    /// Whether parameter `index` occurs in `of`.
    fn mentions(&self, of: &Type, index: u32) -> bool {
        match of {
            Type::Param(other) => *other == index || self.known.get(other).is_some_and(|known| self.mentions(known, index)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.mentions(inner, index),
            Type::Map(inner) => self.mentions(&inner.0, index) || self.mentions(&inner.1, index),
            _ => false,
        }
    }
}

/// The less specific of two types that fit each other.
pub(super) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}
