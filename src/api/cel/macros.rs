//! Macros: calls that are rewritten before anything is checked (cel-go `parser/macro.go`, `ext/comprehensions.go`, `ext/bindings.go`,
//! `cel/library.go` for optionals, `ext/lists.go` for `sortBy`).

use super::ast::{Comprehension, Id, Kind, Literal};
use super::error::Issue;
use super::parser::Parser;

/// The name that loops gather under. No source can spell it.
pub const ACCUMULATOR: &str = "@result";
/// The range variable of loops that walk nothing.
const UNUSED: &str = "#unused";

type Expanded = Result<Option<Id>, Issue>;

/// What `function(args)` or `target.function(args)` stands for; `None` if it is no macro but a call.
pub(super) fn expand(parser: &mut Parser, function: &str, target: Option<Id>, args: &[Id], at: usize) -> Expanded {
    let mut make = Maker { parser, at };
    match (function, target, args) {
        ("has", None, [arg]) => make.has(*arg),
        ("all" | "exists", Some(target), [var, body]) => make.quantify(function, target, (*var, None), *body),
        ("all" | "exists", Some(target), [var, var2, body]) => make.quantify(function, target, (*var, Some(*var2)), *body),
        ("exists_one" | "existsOne", Some(target), [var, body]) => make.exists_one(target, (*var, None), *body),
        ("exists_one" | "existsOne", Some(target), [var, var2, body]) => make.exists_one(target, (*var, Some(*var2)), *body),
        ("map", Some(target), [var, transform]) => make.gather_list(target, (*var, None), None, *transform),
        ("map", Some(target), [var, filter, transform]) => make.gather_list(target, (*var, None), Some(*filter), *transform),
        ("filter", Some(target), [var, filter]) => make.gather_list(target, (*var, None), Some(*filter), *var),
        ("transformList", Some(target), [var, var2, transform]) => make.gather_list(target, (*var, Some(*var2)), None, *transform),
        ("transformList", Some(target), [var, var2, filter, transform]) => {
            make.gather_list(target, (*var, Some(*var2)), Some(*filter), *transform)
        }
        ("transformMap" | "transformMapEntry", Some(target), [var, var2, transform]) => {
            make.gather_map(function, target, (*var, *var2), None, *transform)
        }
        ("transformMap" | "transformMapEntry", Some(target), [var, var2, filter, transform]) => {
            make.gather_map(function, target, (*var, *var2), Some(*filter), *transform)
        }
        ("bind", Some(target), [var, value, body]) if make.is_named(target, "cel") => make.bind(*var, *value, *body),
        ("optMap", Some(target), [var, body]) => make.opt_map(target, *var, *body, true),
        ("optFlatMap", Some(target), [var, body]) => make.opt_map(target, *var, *body, false),
        ("sortBy", Some(target), [var, key]) => make.sort_by(target, *var, *key),
        _ => Ok(None),
    }
}

/// Makes nodes that complaints place at the macro.
struct Maker<'a> {
    parser: &'a mut Parser,
    at: usize,
}

impl Maker<'_> {
    fn is_named(&self, id: Id, name: &str) -> bool {
        matches!(self.parser.ast().kind(id), Kind::Ident(found) if found == name)
    }

    fn place(&self, id: Id) -> usize {
        self.parser.ast().node(id).at
    }

    fn name(&self, id: Id) -> Result<String, Issue> {
        match self.parser.ast().kind(id) {
            Kind::Ident(name) if name == ACCUMULATOR => {
                Err(Issue { at: self.place(id), message: "iteration variable overwrites accumulator variable".into() })
            }
            Kind::Ident(name) => Ok(name.clone()),
            _ => Err(Issue { at: self.place(id), message: "argument must be a simple name".into() }),
        }
    }

    fn names(&self, vars: (Id, Option<Id>)) -> Result<(String, Option<String>), Issue> {
        let (first, second) = (self.name(vars.0)?, vars.1.map(|var| self.name(var)).transpose()?);
        if second.as_ref() == Some(&first) {
            return Err(Issue { at: self.place(vars.1.unwrap_or(vars.0)), message: "duplicate variable name".into() });
        }
        Ok((first, second))
    }

    fn accu(&mut self) -> Result<Id, Issue> {
        self.parser.ident(ACCUMULATOR, self.at)
    }

    fn literal(&mut self, literal: Literal) -> Result<Id, Issue> {
        self.parser.literal(literal, self.at)
    }

    fn call(&mut self, function: &str, args: Vec<Id>) -> Result<Id, Issue> {
        self.parser.call(function, args, self.at)
    }

    fn fold(&mut self, range: Id, vars: (String, Option<String>), parts: [Id; 4]) -> Expanded {
        let [init, condition, step, result] = parts;
        let fold = Comprehension { range, var: vars.0, var2: vars.1, accu: ACCUMULATOR.into(), init, condition, step, result };
        self.parser.add(Kind::Comprehension(Box::new(fold)), self.at).map(Some)
    }

    fn has(&mut self, arg: Id) -> Expanded {
        match self.parser.ast().kind(arg).clone() {
            Kind::Select { operand, field, test_only: false } => {
                self.parser.add(Kind::Select { operand, field, test_only: true }, self.at).map(Some)
            }
            _ => Err(Issue { at: self.place(arg), message: "invalid argument to has() macro".into() }),
        }
    }

    fn quantify(&mut self, function: &str, range: Id, vars: (Id, Option<Id>), body: Id) -> Expanded {
        let vars = self.names(vars)?;
        let all = function == "all";
        let init = self.literal(Literal::Bool(all))?;
        let mut goes_on = self.accu()?;
        if !all {
            goes_on = self.call("!_", vec![goes_on])?;
        }
        let condition = self.call("@not_strictly_false", vec![goes_on])?;
        let accu = self.accu()?;
        let step = self.call(if all { "_&&_" } else { "_||_" }, vec![accu, body])?;
        let result = self.accu()?;
        self.fold(range, vars, [init, condition, step, result])
    }

    fn exists_one(&mut self, range: Id, vars: (Id, Option<Id>), body: Id) -> Expanded {
        let vars = self.names(vars)?;
        let init = self.literal(Literal::Int(0))?;
        let condition = self.literal(Literal::Bool(true))?;
        let (accu, one) = (self.accu()?, self.literal(Literal::Int(1))?);
        let more = self.call("_+_", vec![accu, one])?;
        let same = self.accu()?;
        let step = self.call("_?_:_", vec![body, more, same])?;
        let (accu, one) = (self.accu()?, self.literal(Literal::Int(1))?);
        let result = self.call("_==_", vec![accu, one])?;
        self.fold(range, vars, [init, condition, step, result])
    }

    /// `if filter then gathered else what was`.
    fn gather(&mut self, filter: Option<Id>, gathered: Id) -> Result<[Id; 3], Issue> {
        let condition = self.literal(Literal::Bool(true))?;
        let step = match filter {
            None => gathered,
            Some(filter) => {
                let same = self.accu()?;
                self.call("_?_:_", vec![filter, gathered, same])?
            }
        };
        Ok([condition, step, self.accu()?])
    }

    fn gather_list(&mut self, range: Id, vars: (Id, Option<Id>), filter: Option<Id>, transform: Id) -> Expanded {
        let vars = self.names(vars)?;
        let init = self.parser.add(Kind::List(Vec::new()), self.at)?;
        let accu = self.accu()?;
        let item = self.parser.add(Kind::List(vec![(transform, false)]), self.at)?;
        let gathered = self.call("_+_", vec![accu, item])?;
        let [condition, step, result] = self.gather(filter, gathered)?;
        self.fold(range, vars, [init, condition, step, result])
    }

    fn gather_map(&mut self, function: &str, range: Id, vars: (Id, Id), filter: Option<Id>, transform: Id) -> Expanded {
        let names = self.names((vars.0, Some(vars.1)))?;
        let init = self.parser.add(Kind::Map(Vec::new()), self.at)?;
        let mut args = vec![self.accu()?];
        if function == "transformMap" {
            args.push(self.parser.ident(&names.0, self.at)?);
        }
        args.push(transform);
        let gathered = self.call("cel.@mapInsert", args)?;
        let [condition, step, result] = self.gather(filter, gathered)?;
        self.fold(range, names, [init, condition, step, result])
    }

    /// A loop over nothing, whose accumulator is the bound variable.
    fn bind_name(&mut self, name: String, value: Id, body: Id) -> Result<Id, Issue> {
        let range = self.parser.add(Kind::List(Vec::new()), self.at)?;
        let condition = self.literal(Literal::Bool(false))?;
        let step = self.parser.ident(&name, self.at)?;
        let bind = Comprehension { range, var: UNUSED.into(), var2: None, accu: name, init: value, condition, step, result: body };
        self.parser.add(Kind::Comprehension(Box::new(bind)), self.at)
    }

    fn bind(&mut self, var: Id, value: Id, body: Id) -> Expanded {
        let Kind::Ident(name) = self.parser.ast().kind(var).clone() else {
            return Err(Issue { at: self.place(var), message: "cel.bind() variable names must be simple identifiers".into() });
        };
        self.bind_name(name, value, body).map(Some)
    }

    fn opt_map(&mut self, target: Id, var: Id, body: Id, wrap: bool) -> Expanded {
        let Kind::Ident(name) = self.parser.ast().kind(var).clone() else {
            let macro_name = if wrap { "optMap" } else { "optFlatMap" };
            return Err(Issue { at: self.place(var), message: format!("{macro_name}() variable name must be a simple identifier") });
        };
        let method = |make: &mut Self, target, function: &str| {
            make.parser.add(Kind::Call { function: function.into(), target: Some(target), args: Vec::new() }, make.at)
        };
        let has = method(self, target, "hasValue")?;
        let value = method(self, target, "value")?;
        let mut bound = self.bind_name(name, value, body)?;
        if wrap {
            bound = self.call("optional.of", vec![bound])?;
        }
        let none = self.call("optional.none", Vec::new())?;
        self.call("_?_:_", vec![has, bound, none]).map(Some)
    }

    fn sort_by(&mut self, target: Id, var: Id, key: Id) -> Expanded {
        const INPUT: &str = "@__sortBy_input__";
        let input = self.parser.ident(INPUT, self.at)?;
        let keys = self.gather_list(input, (var, None), None, key)?.unwrap_or(input);
        let input = self.parser.ident(INPUT, self.at)?;
        let sorted =
            self.parser.add(Kind::Call { function: "@sortByAssociatedKeys".into(), target: Some(input), args: vec![keys] }, self.at)?;
        self.bind_name(INPUT.into(), target, sorted).map(Some)
    }
}
