//! What expressions may speak of ([`Env`]), what they become ([`Program`]), and what they run with ([`Activation`], [`Budget`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::Regex;

use super::ast::{Ast, Id, Kind, Literal};
use super::check::{self, Checked, Meaning};
use super::cost::{self, CostRange};
use super::error::{CompileErrors, EvalError};
use super::eval::Evaluator;
use super::functions::{self, Authorize};
use super::macros::ACCUMULATOR;
use super::parser;
use super::schema::{DeclType, ObjectType};
use super::types::Type;
use super::value::{Res, Value};

/// Declared variables and the types that expressions may construct.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<String, Type>,
    constructs: bool,
}

impl Env {
    /// Nothing but the libraries.
    pub fn new() -> Env {
        Env::default()
    }

    /// Also a variable of this type.
    pub fn with(mut self, name: &str, ty: Type) -> Env {
        self.variables.insert(name.into(), ty);
        self
    }

    /// Also `Object{}`, `Object.any.path{}` and `JSONPatch{}` (MutatingAdmissionPolicy).
    pub fn with_constructors(mut self) -> Env {
        self.constructs = true;
        self
    }

    /// Checks and prepares an expression.
    pub fn compile(&self, source: &str) -> Result<Program, CompileErrors> {
        let ast = parser::parse(source)?;
        let checked = check::check(self, &ast).map_err(|issues| CompileErrors::new(source, issues))?;
        Ok(Program::new(source, ast, checked))
    }

    pub(super) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// The type that `name{...}` constructs.
    pub(super) fn constructor(&self, name: &str) -> Option<Arc<ObjectType>> {
        if !self.constructs {
            return None;
        }
        let fields = match name {
            "JSONPatch" => {
                let text = || DeclType::simple(Type::String);
                [("op", text()), ("path", text()), ("from", text()), ("value", DeclType::dynamic())]
                    .map(|(name, decl)| (name.into(), decl))
                    .into()
            }
            name if self.is_open(name) => BTreeMap::new(),
            _ => return None,
        };
        Some(Arc::new(ObjectType { name: name.into(), fields }))
    }

    /// Whether objects of this type may have any fields.
    pub(super) fn is_open(&self, name: &str) -> bool {
        self.constructs && (name == "Object" || name.starts_with("Object."))
    }
}

/// A compiled expression. Made once, run as often as wanted, from any thread.
#[derive(Debug)]
pub struct Program {
    source: String,
    pub(super) ast: Ast,
    pub(super) checked: Checked,
    /// Idents of accumulators that nobody reads again: their value may be changed in place.
    pub(super) takes: Vec<bool>,
    regexes: HashMap<String, Regex>,
}

impl Program {
    fn new(source: &str, ast: Ast, checked: Checked) -> Program {
        let mut program = Program { source: source.into(), takes: vec![false; ast.nodes.len()], ast, checked, regexes: HashMap::new() };
        for id in 0..program.ast.nodes.len() {
            if let Kind::Comprehension(fold) = &program.ast.nodes[id].kind
                && matches!(program.ast.kind(fold.init), Kind::List(_) | Kind::Map(_))
                && fold.accu == ACCUMULATOR
            {
                let (step, result) = (fold.step, fold.result);
                program.mark_last_use(step);
                program.mark_last_use(result);
            }
            let (Meaning::Function(function, _) | Meaning::Method(function, _)) = &program.checked.meanings[id] else { continue };
            let Kind::Call { args, .. } = &program.ast.nodes[id].kind else { continue };
            if matches!(function.name.as_str(), "matches" | "find" | "findAll") {
                for arg in args {
                    if let Kind::Literal(Literal::String(pattern)) = program.ast.kind(*arg)
                        && let Ok(regex) = functions::regexes::compile(pattern)
                    {
                        program.regexes.insert(pattern.clone(), regex);
                    }
                }
            }
        }
        program
    }

    /// The accumulator of a step is read last where the step begins with it.
    fn mark_last_use(&mut self, id: Id) {
        match self.ast.kind(id) {
            Kind::Ident(name) if name == ACCUMULATOR => self.takes[id as usize] = true,
            Kind::Call { function, args, .. } => match (function.as_str(), args.as_slice()) {
                ("_?_:_", [_, yes, no]) => {
                    let (yes, no) = (*yes, *no);
                    self.mark_last_use(yes);
                    self.mark_last_use(no);
                }
                ("_+_" | "cel.@mapInsert", [accu, ..]) if matches!(self.ast.kind(*accu), Kind::Ident(_)) => {
                    let accu = *accu;
                    self.mark_last_use(accu);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its value.
    pub fn result_type(&self) -> &Type {
        &self.checked.types[self.ast.root as usize]
    }

    /// Whether it speaks of this variable.
    pub fn references(&self, variable: &str) -> bool {
        let meant = |(node, meaning): (&super::ast::Node, &Meaning)| {
            matches!(meaning, Meaning::Variable) && matches!(&node.kind, Kind::Ident(name) if name == variable)
        };
        self.ast.nodes.iter().zip(&self.checked.meanings).any(meant)
    }

    /// The worst and best case of its cost, for a variable whose sizes `root` bounds.
    pub fn estimate(&self, root: &DeclType) -> CostRange {
        cost::estimate(self, root)
    }

    /// Its value.
    pub fn eval<'a>(&'a self, activation: &Activation<'a>, budget: &mut Budget) -> Res<Value<'a>> {
        budget.spent = 0;
        let value = Evaluator::new(self, activation, budget).run();
        let left = budget.left.checked_sub(budget.spent);
        budget.left = left.unwrap_or(0);
        match (value, left) {
            (Err(fatal), _) if fatal.is_fatal() => Err(fatal),
            (_, None) => Err(EvalError::BudgetExceeded),
            (value, Some(_)) => value,
        }
    }

    pub(super) fn regex(&self, pattern: &str) -> Option<&Regex> {
        self.regexes.get(pattern)
    }
}

/// The values of variables for one or more runs.
#[derive(Default)]
pub struct Activation<'a> {
    values: Vec<(&'a str, Value<'a>)>,
    lazy: Vec<Lazy<'a>>,
    authorizer: Option<&'a dyn Authorize>,
}

struct Lazy<'a> {
    name: &'a str,
    program: &'a Program,
    /// `None` before it is wanted; an error while it is being found out, for it may not want itself.
    value: RefCell<Option<Res<Value<'a>>>>,
}

impl<'a> Activation<'a> {
    /// No variable at all.
    pub fn new() -> Activation<'a> {
        Activation::default()
    }

    /// Also `name` with this value.
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Activation<'a> {
        self.values.push((name, value));
        self
    }

    /// Also somebody who answers what the authorizer is asked.
    pub fn with_authorizer(mut self, authorizer: &'a dyn Authorize) -> Activation<'a> {
        self.authorizer = Some(authorizer);
        self
    }

    /// Also a field of the variable `variables`, found out when it is first wanted, and at most once.
    pub fn with_lazy(mut self, name: &'a str, program: &'a Program) -> Activation<'a> {
        self.lazy.push(Lazy { name, program, value: RefCell::new(None) });
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(super) fn has_lazy(&self, name: &str) -> bool {
        self.lazy.iter().any(|lazy| lazy.name == name)
    }

    /// The value of a field of `variables`. It has a call limit of its own; the common budget pays for both.
    pub(super) fn lazy(&self, name: &str, budget: &mut Budget) -> Option<Res<Value<'a>>> {
        let lazy = self.lazy.iter().find(|lazy| lazy.name == name)?;
        if let Some(known) = &*lazy.value.borrow() {
            return Some(known.clone());
        }
        lazy.value.replace(Some(Err(EvalError::new(format!("variable {name} refers to itself")))));
        let outer = std::mem::take(&mut budget.spent);
        let value = Evaluator::new(lazy.program, self, budget).run().map_err(|error| match error {
            EvalError::Failure(text) => EvalError::new(format!("composited variable \"{name}\" fails to evaluate: {text}")),
            fatal => fatal,
        });
        budget.left = budget.left.saturating_sub(budget.spent);
        budget.spent = outer;
        lazy.value.replace(Some(value.clone()));
        Some(value)
    }
}

/// How much may be spent, in CEL's units of cost.
#[derive(Debug)]
pub struct Budget {
    per_call: u64,
    left: u64,
    spent: u64,
    interrupt: Option<Arc<AtomicBool>>,
}

impl Budget {
    /// Most that one expression may cost.
    pub const PER_CALL: u64 = 1_000_000;
    /// Most that all expressions for one object, or of one policy, may cost together.
    pub const RUNTIME: u64 = 10_000_000;
    /// Most that all match conditions of one webhook or policy may cost together.
    pub const MATCH_CONDITIONS: u64 = 2_500_000;

    /// A budget for several runs, none of which may cost more than [`Budget::PER_CALL`].
    pub fn new(total: u64) -> Budget {
        Budget { per_call: Budget::PER_CALL, left: total, spent: 0, interrupt: None }
    }

    /// With another limit for one run.
    pub fn per_call(mut self, limit: u64) -> Budget {
        self.per_call = limit;
        self
    }

    /// Ends runs early once the flag is set.
    pub fn interrupted_by(mut self, flag: Arc<AtomicBool>) -> Budget {
        self.interrupt = Some(flag);
        self
    }

    /// What is left for further runs.
    pub fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn charge(&mut self, cost: u64) -> Res<()> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.per_call { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    pub(super) fn check_interrupt(&self) -> Res<()> {
        match &self.interrupt {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(EvalError::Interrupted),
            _ => Ok(()),
        }
    }
}

/// What functions may look at besides their arguments.
pub(super) struct Context<'c, 'a> {
    pub program: &'c Program,
    pub activation: &'c Activation<'a>,
}

impl<'c, 'a> Context<'c, 'a> {
    pub fn regex(&self, pattern: &str) -> Option<&'c Regex> {
        self.program.regex(pattern)
    }

    pub fn authorizer(&self) -> Option<&'a dyn Authorize> {
        self.activation.authorizer
    }
}
