//! Running a checked expression: a walk over its tree that charges its budget as it goes (cel-go `interpreter/`).
//!
//! `&&`, `||` and the quantifiers made of them have a value if one side decides, whatever became of the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ast::{Comprehension, Entry, Field, Id, Kind, Literal};
use super::check::Meaning;
use super::cost;
use super::env::{Activation, Budget, Context, Program};
use super::error::EvalError;
use super::functions::{Function, Op};
use super::macros::ACCUMULATOR;
use super::value::{Constructed, Key, List, Map, Res, Text, Value};

/// Rounds of a loop between looks at the interrupt.
const INTERRUPT_EVERY: usize = 100;

/// The state of one run.
pub(super) struct Evaluator<'c, 'a> {
    program: &'a Program,
    activation: &'c Activation<'a>,
    budget: &'c mut Budget,
    /// What comprehensions bind, innermost last. A failure comes out only where the name is read.
    locals: Vec<(&'a str, Res<Value<'a>>)>,
}

impl<'c, 'a> Evaluator<'c, 'a> {
    pub fn new(program: &'a Program, activation: &'c Activation<'a>, budget: &'c mut Budget) -> Evaluator<'c, 'a> {
        Evaluator { program, activation, budget, locals: Vec::new() }
    }

    pub fn run(mut self) -> Res<Value<'a>> {
        self.eval(self.program.ast.root)
    }

    fn eval(&mut self, id: Id) -> Res<Value<'a>> {
        let program = self.program;
        if let Meaning::Type(ty) = &program.checked.meanings[id as usize] {
            return Ok(Value::Type(ty.clone()));
        }
        match program.ast.kind(id) {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.ident(id, name),
            Kind::Select { operand, field, test_only } => self.select(id, *operand, field, *test_only),
            Kind::Call { target, args, .. } => self.call(id, *target, args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(name, fields),
            Kind::Comprehension(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, id: Id, name: &'a str) -> Res<Value<'a>> {
        self.budget.charge(cost::SELECT)?;
        if matches!(self.program.checked.meanings[id as usize], Meaning::Local) {
            let takes = self.program.takes[id as usize];
            let found = self.locals.iter_mut().rev().find(|(known, _)| *known == name);
            return match found {
                Some((_, value)) if takes => std::mem::replace(value, Ok(Value::Null)),
                Some((_, value)) => value.clone(),
                None => Err(EvalError::new(format!("no such attribute(s): {name}"))),
            };
        }
        self.variable(name)
    }

    fn variable(&self, name: &str) -> Res<Value<'a>> {
        self.activation.get(name).cloned().ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, id: Id, operand: Id, field: &'a str, test_only: bool) -> Res<Value<'a>> {
        let program = self.program;
        if matches!(program.checked.meanings[id as usize], Meaning::Variable)
            && let Some(name) = program.ast.qualified_name(id)
        {
            self.budget.charge(cost::SELECT)?;
            return self.variable(&name);
        }
        let of = self.eval(operand)?;
        if test_only {
            return self.has(&of, field).map(Value::Bool);
        }
        let attribute = matches!(program.ast.kind(operand), Kind::Ident(_) | Kind::Select { .. });
        self.budget.charge(if attribute { cost::SELECT } else { 2 * cost::SELECT })?;
        self.field(&of, field)?.ok_or_else(|| EvalError::no_such_key(field))
    }

    /// The field, `None` if there is no such.
    fn field(&mut self, of: &Value<'a>, field: &str) -> Res<Option<Value<'a>>> {
        match of {
            Value::Map(map) => map.get_field(field).transpose(),
            Value::Object(object) => Ok(object.fields.get(field).cloned()),
            Value::Variables => self.activation.lazy(field, self.budget).transpose(),
            Value::Optional(None) => Ok(Some(Value::Optional(None))),
            Value::Optional(Some(inner)) => Ok(Some(Value::Optional(self.field(inner, field)?.map(Arc::new)))),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn has(&mut self, of: &Value<'a>, field: &str) -> Res<bool> {
        match of {
            Value::Variables => Ok(self.activation.has_lazy(field)),
            Value::Optional(Some(inner)) => self.has(inner, field),
            Value::Optional(None) => Ok(false),
            other => Ok(self.field(other, field)?.is_some()),
        }
    }

    fn call(&mut self, id: Id, target: Option<Id>, args: &'a [Id]) -> Res<Value<'a>> {
        let (function, target) = match &self.program.checked.meanings[id as usize] {
            Meaning::Function(function, _) => (*function, None),
            Meaning::Method(function, _) => (*function, target),
            _ => return Err(EvalError::no_such_overload()),
        };
        match (&function.op, args) {
            (Op::And, [left, right]) => self.decide(*left, *right, false),
            (Op::Or, [left, right]) => self.decide(*left, *right, true),
            (Op::Conditional, [condition, yes, no]) => {
                let branch = if self.eval(*condition)?.bool()? { yes } else { no };
                self.eval(*branch)
            }
            (Op::NotStrictlyFalse, [arg]) => {
                let value = self.eval(*arg);
                self.budget.charge(1)?;
                match value {
                    Err(fatal) if fatal.is_fatal() => Err(fatal),
                    Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                    _ => Ok(Value::Bool(true)),
                }
            }
            (Op::OptionalSelect, [operand, field]) => self.optional_select(*operand, *field),
            (Op::Strict(_), _) => self.strict(function, target, args),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `left && right` or `left || right`: the value `decisive` on one side is enough.
    fn decide(&mut self, left: Id, right: Id, decisive: bool) -> Res<Value<'a>> {
        let mut failure = None;
        for side in [left, right] {
            match self.eval(side) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failure = failure.or_else(|| Some(EvalError::no_such_overload())),
                Err(fatal) if fatal.is_fatal() => return Err(fatal),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn optional_select(&mut self, operand: Id, field: Id) -> Res<Value<'a>> {
        let Kind::Literal(Literal::String(name)) = self.program.ast.kind(field) else { return Err(EvalError::no_such_overload()) };
        let of = self.eval(operand)?;
        self.budget.charge(cost::SELECT)?;
        let of = match of {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (*inner).clone(),
            other => other,
        };
        if matches!(of, Value::Variables) && !self.activation.has_lazy(name) {
            return Ok(Value::Optional(None));
        }
        Ok(Value::Optional(self.field(&of, name)?.map(Arc::new)))
    }

    fn strict(&mut self, function: &'static Function, target: Option<Id>, args: &'a [Id]) -> Res<Value<'a>> {
        if let [accu, rest @ ..] = args
            && self.program.takes[*accu as usize]
        {
            return self.gather(function, *accu, rest);
        }
        // Most calls have one or two arguments, which need no vector.
        match (target.as_ref(), args) {
            (None, [a]) | (Some(a), []) => {
                let values = [self.eval(*a)?];
                self.apply(function, &values)
            }
            (None, [a, b]) | (Some(a), [b]) => {
                let values = [self.eval(*a)?, self.eval(*b)?];
                self.apply(function, &values)
            }
            _ => {
                let values = target.iter().chain(args).map(|arg| self.eval(*arg)).collect::<Res<Vec<_>>>()?;
                self.apply(function, &values)
            }
        }
    }

    fn apply(&mut self, function: &'static Function, values: &[Value<'a>]) -> Res<Value<'a>> {
        let Op::Strict(eval) = function.op else { return Err(EvalError::no_such_overload()) };
        self.budget.charge(cost::before(function.name.as_str(), values))?;
        let value = eval(&Context { program: self.program, activation: self.activation }, values)?;
        self.budget.charge(cost::after(function.name.as_str(), &value))?;
        Ok(value)
    }

    /// What is gathered grows in place where nobody else holds it.
    fn gather(&mut self, function: &'static Function, accu: Id, rest: &'a [Id]) -> Res<Value<'a>> {
        let mut gathered = self.eval(accu)?;
        let mut values = rest.iter().map(|arg| self.eval(*arg)).collect::<Res<Vec<_>>>()?;
        match (&mut gathered, values.as_mut_slice()) {
            (Value::List(List::Owned(items)), [Value::List(List::Owned(more))]) => {
                if let (Some(items), Some(more)) = (Arc::get_mut(items), Arc::get_mut(more)) {
                    self.budget.charge(1)?;
                    items.append(more);
                    return Ok(gathered);
                }
            }
            (Value::Map(Map::Owned(map)), [key, value]) => {
                if let Some(map) = Arc::get_mut(map) {
                    self.budget.charge(1)?;
                    let key = Key::new(key)?;
                    if map.contains_key(&key) {
                        return Err(EvalError::new(format!("insert failed: key {} already exists", key.to_text())));
                    }
                    map.insert(key, std::mem::replace(value, Value::Null));
                    return Ok(gathered);
                }
            }
            _ => {}
        }
        values.insert(0, gathered);
        self.apply(function, &values)
    }

    /// The content of an optional element; `None` where there is none to add.
    fn optional(&mut self, id: Id, optional: bool) -> Res<Option<Value<'a>>> {
        let value = self.eval(id)?;
        match (value, optional) {
            (Value::Optional(inner), true) => Ok(inner.map(|inner| (*inner).clone())),
            (_, true) => Err(EvalError::no_such_overload()),
            (value, false) => Ok(Some(value)),
        }
    }

    fn list(&mut self, items: &'a [(Id, bool)]) -> Res<Value<'a>> {
        let mut list = Vec::with_capacity(items.len());
        for (item, optional) in items {
            list.extend(self.optional(*item, *optional)?);
        }
        self.budget.charge(cost::LIST)?;
        Ok(list.into())
    }

    fn map(&mut self, entries: &'a [Entry]) -> Res<Value<'a>> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.eval(entry.key)?;
            if let Some(value) = self.optional(entry.value, entry.optional)? {
                let key = Key::new(&key)?;
                if map.contains_key(&key) {
                    return Err(EvalError::new(format!("Failed with repeated key {}", key.to_text())));
                }
                map.insert(key, value);
            }
        }
        self.budget.charge(cost::MAP)?;
        Ok(Value::Map(Map::Owned(Arc::new(map))))
    }

    fn object(&mut self, name: &'a str, fields: &'a [Field]) -> Res<Value<'a>> {
        let mut set = BTreeMap::new();
        for field in fields {
            if let Some(value) = self.optional(field.value, field.optional)? {
                set.insert(field.name.clone(), value);
            }
        }
        self.budget.charge(cost::STRUCT)?;
        Ok(Value::Object(Arc::new(Constructed { name: name.into(), fields: set })))
    }

    fn fold(&mut self, fold: &'a Comprehension) -> Res<Value<'a>> {
        let range = self.eval(fold.range)?;
        let init = self.eval(fold.init);
        // Only `cel.bind` may do without its value.
        let init = if fold.accu == ACCUMULATOR { Ok(init?) } else { init };
        if let Err(fatal) = &init
            && fatal.is_fatal()
        {
            return init;
        }
        let base = self.locals.len();
        self.locals.push((&fold.accu, init));
        let result = match self.rounds(fold, &range, base) {
            Ok(()) => self.eval(fold.result),
            Err(error) => Err(error),
        };
        self.locals.truncate(base);
        result
    }

    fn is_true(&self, id: Id) -> bool {
        matches!(self.program.ast.kind(id), Kind::Literal(Literal::Bool(true)))
    }

    fn rounds(&mut self, fold: &'a Comprehension, range: &Value<'a>, base: usize) -> Res<()> {
        let keys = match range {
            Value::Map(map) => map.keys(),
            _ => Vec::new(),
        };
        let count = match range {
            Value::List(list) => list.len(),
            Value::Map(_) => keys.len(),
            _ => return Err(EvalError::no_such_overload()),
        };
        for index in 0..count {
            if index % INTERRUPT_EVERY == 0 {
                self.budget.check_interrupt()?;
            }
            let (first, second) = match range {
                Value::List(list) => (Value::Int(index as i64), list.get(index).unwrap_or(Ok(Value::Null))),
                Value::Map(map) if fold.var2.is_some() => {
                    (keys[index].clone(), map.get(&keys[index]).map(|value| value.unwrap_or(Value::Null)))
                }
                _ => (keys[index].clone(), Ok(Value::Null)),
            };
            match &fold.var2 {
                Some(var2) => {
                    self.locals.push((&fold.var, Ok(first)));
                    self.locals.push((var2, second));
                }
                None => self.locals.push((&fold.var, if keys.is_empty() { second } else { Ok(first) })),
            }
            let goes_on = self.eval(fold.condition)?;
            if !matches!(goes_on, Value::Bool(true)) {
                self.locals.truncate(base + 1);
                break;
            }
            let step = self.eval(fold.step);
            self.locals.truncate(base + 1);
            match step {
                Err(fatal) if fatal.is_fatal() => return Err(fatal),
                Err(error) if self.is_true(fold.condition) => return Err(error),
                // A quantifier may still be decided by a later element.
                step => self.locals[base].1 = step,
            }
        }
        Ok(())
    }
}

fn constant(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}
