//! Types before anything runs (cel-go `checker/checker.go`): every name is resolved, every call has overloads that fit.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Ast, Comprehension, Entry, Field, Id, Kind, Literal};
use super::env::Env;
use super::error::Issue;
use super::functions::{self, Function, Overload};
use super::types::{Mapping, Type, most_general};

/// What a name or a call was found to mean.
#[derive(Clone, Debug, Default)]
pub(super) enum Meaning {
    /// Nothing special.
    #[default]
    None,
    /// A name bound by a comprehension.
    Local,
    /// A declared variable.
    Variable,
    /// A type.
    Type(Type),
    /// A function without a target, or with what stands before the dot being part of its name.
    Function(&'static Function, Vec<&'static Overload>),
    /// A method of its target.
    Method(&'static Function, Vec<&'static Overload>),
}

/// The outcome: for each node its type and meaning.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub types: Vec<Type>,
    pub meanings: Vec<Meaning>,
}

/// Checks the whole tree.
pub(super) fn check(env: &Env, ast: &Ast) -> Result<Checked, Vec<Issue>> {
    let count = ast.nodes.len();
    let mut checker = Checker {
        env,
        ast,
        types: vec![None; count],
        meanings: vec![Meaning::None; count],
        mapping: Mapping::default(),
        scopes: HashMap::new(),
        issues: Vec::new(),
    };
    checker.check(ast.root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker.types.iter().map(|ty| checker.mapping.substitute(ty.as_ref().unwrap_or(&Type::Dyn), true)).collect();
    Ok(Checked { types, meanings: checker.meanings })
}

struct Checker<'c> {
    env: &'c Env,
    ast: &'c Ast,
    types: Vec<Option<Type>>,
    meanings: Vec<Meaning>,
    mapping: Mapping,
    /// The names that comprehensions bind, innermost last.
    scopes: HashMap<&'c str, Vec<Type>>,
    issues: Vec<Issue>,
}

impl<'c> Checker<'c> {
    fn issue(&mut self, at: usize, message: impl Into<String>) {
        self.issues.push(Issue { at, message: message.into() });
    }

    fn at(&self, id: Id) -> usize {
        self.ast.node(id).at
    }

    /// What is known of a node's type by now.
    fn type_of(&self, id: Id) -> Type {
        let known = self.types[id as usize].as_ref();
        known.map_or(Type::Error, |ty| self.mapping.substitute(ty, false))
    }

    fn set(&mut self, id: Id, ty: Type) {
        self.types[id as usize] = Some(ty);
    }

    fn mean(&mut self, id: Id, meaning: Meaning) {
        self.meanings[id as usize] = meaning;
    }

    fn undeclared(&mut self, id: Id, name: &str) -> Type {
        self.issue(self.at(id), format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    /// Finds the type of a node and of all below it. Macros share nodes, so a node may come by twice.
    fn check(&mut self, id: Id) -> Type {
        if let Some(known) = &self.types[id as usize] {
            return known.clone();
        }
        let ast = self.ast;
        let ty = match ast.kind(id) {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(id, name),
            Kind::Select { operand, field, test_only } => self.select(id, *operand, field, *test_only),
            Kind::Call { function, target, args } => self.call(id, function, *target, args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(id, name, fields),
            Kind::Comprehension(fold) => self.fold(fold),
        };
        self.set(id, ty.clone());
        ty
    }

    /// A variable or a type of this name, which may have dots.
    fn lookup(&self, name: &str) -> Option<(Type, Meaning)> {
        if let Some(local) = self.scopes.get(name).and_then(|bound| bound.last()) {
            return Some((local.clone(), Meaning::Local));
        }
        if let Some(ty) = self.env.variable(name) {
            return Some((ty.clone(), Meaning::Variable));
        }
        let named = functions::type_named(name).or_else(|| self.env.constructor(name).map(Type::Object))?;
        Some((Type::Type(Arc::new(named.clone())), Meaning::Type(named)))
    }

    fn ident(&mut self, id: Id, name: &str) -> Type {
        match self.lookup(name) {
            Some((ty, meaning)) => {
                self.mean(id, meaning);
                ty
            }
            None => self.undeclared(id, name),
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test_only: bool) -> Type {
        if let Some(name) = self.ast.qualified_name(id).filter(|_| !test_only)
            && let Some((ty, meaning)) = self.lookup(&name)
            && !matches!(meaning, Meaning::Local)
        {
            self.mean(id, meaning);
            return ty;
        }
        let of = self.check(operand);
        let found = self.field(id, &of, field, false);
        if test_only { Type::Bool } else { found }
    }

    /// The type of a field; of an optional, the field is optional too.
    fn field(&mut self, id: Id, of: &Type, field: &str, optional: bool) -> Type {
        let of = self.mapping.substitute(of, false);
        let (of, optional) = match &of {
            Type::Optional(inner) => (self.mapping.substitute(inner, false), true),
            _ => (of, optional),
        };
        let found = match &of {
            Type::Map(entry) => entry.1.clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(decl) => decl.ty.clone(),
                None if self.env.is_open(&object.name) => Type::Dyn,
                None => {
                    self.issue(self.at(id), format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, &of);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.issue(self.at(id), format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> Type {
        if let ("_?._", [operand, field]) = (function, args) {
            let of = self.check(*operand);
            self.check(*field);
            let Kind::Literal(Literal::String(name)) = self.ast.kind(*field) else { return Type::Error };
            self.mean_function(id, function);
            return self.field(id, &of, name, true);
        }
        for arg in args {
            self.check(*arg);
        }
        if let Some(target) = target {
            let qualified = self.ast.qualified_name(target).map(|prefix| format!("{prefix}.{function}"));
            if let Some(found) = qualified.as_deref().and_then(functions::find) {
                return self.resolve(id, found, None, args);
            }
            self.check(target);
        }
        match functions::find(function) {
            Some(found) => self.resolve(id, found, target, args),
            None => self.undeclared(id, function),
        }
    }

    fn mean_function(&mut self, id: Id, name: &str) {
        if let Some(function) = functions::find(name) {
            self.mean(id, Meaning::Function(function, function.overloads.iter().collect()));
        }
    }

    /// All overloads that the arguments may be meant for.
    fn resolve(&mut self, id: Id, function: &'static Function, target: Option<Id>, args: &[Id]) -> Type {
        let given: Vec<Type> = target.iter().chain(args).map(|arg| self.types[*arg as usize].clone().unwrap_or(Type::Error)).collect();
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for overload in
            function.overloads.iter().filter(|overload| overload.member == target.is_some() && overload.args.len() == given.len())
        {
            let (wanted, gives) = overload.instantiate(&mut self.mapping);
            let pairs: Vec<(&Type, &Type)> = given.iter().zip(&wanted).collect();
            if !self.mapping.all_assignable(&pairs) {
                continue;
            }
            fitting.push(overload);
            let gives = self.mapping.substitute(&gives, false);
            result = Some(match result {
                None => gives,
                Some(known) if known.is_dyn() || known == gives => known,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = given.iter().map(|ty| self.mapping.substitute(ty, true).to_string()).collect();
            let signature = match (target, shown.split_first()) {
                (Some(_), Some((first, rest))) => format!("{first}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            self.issue(self.at(id), format!("found no matching overload for '{}' applied to '{signature}'", function.name));
            return Type::Error;
        };
        self.literal_arguments(function, args);
        let meaning = if target.is_some() { Meaning::Method } else { Meaning::Function };
        self.mean(id, meaning(function, fitting));
        result
    }

    /// Constants that could never be converted are refused now (cel-go `cel/validator.go`).
    fn literal_arguments(&mut self, function: &Function, args: &[Id]) {
        let (Some(last), name) = (args.last(), function.name.as_str()) else { return };
        let Kind::Literal(Literal::String(text)) = self.ast.kind(*last) else { return };
        let valid = match name {
            "matches" => functions::regexes::compile(text).is_ok(),
            "timestamp" => super::time::parse_timestamp(text).is_some(),
            "duration" => super::time::parse_duration(text).is_some(),
            _ => true,
        };
        if !valid {
            self.issue(self.at(*last), format!("invalid {name} argument"));
        }
    }

    fn join(&mut self, at: usize, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.mapping.assignable(&previous, &current) {
            return most_general(&previous, &current);
        }
        let shown = [&previous, &current].map(|ty| self.mapping.substitute(ty, true).to_string());
        self.issue(at, format!("expected type '{}' but found '{}'", shown[0], shown[1]));
        Type::Error
    }

    /// What an element marked with `?` adds: the content of an optional.
    fn unwrapped(&mut self, at: usize, ty: Type, optional: bool) -> Type {
        if !optional {
            return ty;
        }
        let inner = self.mapping.fresh();
        if !self.mapping.assignable(&Type::optional(inner.clone()), &ty) {
            let shown = self.mapping.substitute(&ty, true);
            self.issue(at, format!("expected type 'optional_type(dyn)' but found '{shown}'"));
        }
        if ty.is_dyn() { Type::Dyn } else { self.mapping.substitute(&inner, false) }
    }

    fn list(&mut self, items: &[(Id, bool)]) -> Type {
        let mut element = None;
        for (item, optional) in items {
            let ty = self.check(*item);
            let ty = self.unwrapped(self.at(*item), ty, *optional);
            element = Some(self.join(self.at(*item), element, ty));
        }
        Type::list(element.unwrap_or_else(|| self.mapping.fresh()))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.check(entry.key);
            keys = Some(self.join(self.at(entry.key), keys, key));
            let value = self.check(entry.value);
            let value = self.unwrapped(self.at(entry.value), value, entry.optional);
            values = Some(self.join(self.at(entry.value), values, value));
        }
        Type::map(keys.unwrap_or_else(|| self.mapping.fresh()), values.unwrap_or_else(|| self.mapping.fresh()))
    }

    fn object(&mut self, id: Id, name: &str, fields: &[Field]) -> Type {
        let Some(object) = self.env.constructor(name) else {
            let known = self.lookup(name).is_some();
            for field in fields {
                self.check(field.value);
            }
            if known {
                self.issue(self.at(id), format!("'{name}' is not a message type"));
                return Type::Error;
            }
            return self.undeclared(id, name);
        };
        for field in fields {
            let value = self.check(field.value);
            let value = self.unwrapped(self.at(field.value), value, field.optional);
            let wanted = match object.fields.get(&field.name) {
                Some(decl) => decl.ty.clone(),
                None if self.env.is_open(name) => Type::Dyn,
                None => {
                    self.issue(field.at, format!("undefined field '{}'", field.name));
                    Type::Error
                }
            };
            if !self.mapping.assignable(&wanted, &value) {
                let shown = self.mapping.substitute(&value, true);
                self.issue(field.at, format!("expected type of field '{}' is '{wanted}' but provided type is '{shown}'", field.name));
            }
        }
        Type::Object(object)
    }

    fn bind(&mut self, name: &'c str, ty: Type) {
        self.scopes.entry(name).or_default().push(ty);
    }

    fn unbind(&mut self, name: &str) {
        if let Some(bound) = self.scopes.get_mut(name) {
            bound.pop();
        }
    }

    fn fold(&mut self, fold: &'c Comprehension) -> Type {
        self.check(fold.range);
        let accu = self.check(fold.init);
        let range = self.type_of(fold.range);
        // One variable walks elements or keys; two walk positions or keys, and elements or values.
        let (first, second) = match &range {
            Type::List(of) => (Type::Int, (**of).clone()),
            Type::Map(of) => of.as_ref().clone(),
            Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            Type::Dyn | Type::Error => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)");
                self.issue(self.at(fold.range), message);
                (Type::Error, Type::Error)
            }
        };
        self.bind(&fold.accu, accu.clone());
        match &fold.var2 {
            Some(var2) => {
                self.bind(&fold.var, first);
                self.bind(var2, second);
            }
            None => self.bind(&fold.var, if matches!(range, Type::List(_)) { second } else { first }),
        }
        self.check(fold.condition);
        self.expect(fold.condition, &Type::Bool);
        self.check(fold.step);
        self.expect(fold.step, &accu);
        self.unbind(&fold.var);
        if let Some(var2) = &fold.var2 {
            self.unbind(var2);
        }
        self.check(fold.result);
        self.unbind(&fold.accu);
        self.type_of(fold.result)
    }

    fn expect(&mut self, id: Id, wanted: &Type) {
        let found = self.types[id as usize].clone().unwrap_or(Type::Error);
        if !self.mapping.assignable(wanted, &found) {
            let shown = [wanted, &found].map(|ty| self.mapping.substitute(ty, true).to_string());
            self.issue(self.at(id), format!("expected type '{}' but found '{}'", shown[0], shown[1]));
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
