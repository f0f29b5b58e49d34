//! The worst case of an expression, from the sizes that a schema allows.
//!
//! Words: the *path* of a node leads through the declared types to what it reads (`self`, `spec`, `@items`); the *entry size* of a
//! list or map is what its keys and elements may measure.

use std::collections::HashMap;
use std::rc::Rc;

use super::range::CostRange;
use super::{AUTHZ_CHECK, FORMAT_REGEX, LIST, MAP, REGEX, SELECT, STRING, STRUCT};
use crate::api::cel::ast::{Comprehension, Id, Kind, Literal};
use crate::api::cel::check::Meaning;
use crate::api::cel::env::Program;
use crate::api::cel::macros::ACCUMULATOR;
use crate::api::cel::schema::{DeclType, Walked};
use crate::api::cel::types::Type;

/// Estimates a program over a variable of type `root`.
pub fn estimate(program: &Program, root: &DeclType) -> CostRange {
    let mut coster = Coster {
        program,
        root,
        costs: HashMap::new(),
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    coster.cost(program.ast.root)
}

type Path = Rc<[String]>;

#[derive(Clone, Copy)]
struct EntrySize {
    of_list: bool,
    key: CostRange,
    value: CostRange,
}

impl EntrySize {
    fn or(self, other: EntrySize) -> EntrySize {
        EntrySize { of_list: self.of_list, key: self.key.or(other.key), value: self.value.or(other.value) }
    }
}

struct Local<'p> {
    name: &'p str,
    path: Path,
    size: Option<CostRange>,
    entry: Option<EntrySize>,
}

struct Coster<'p> {
    program: &'p Program,
    root: &'p DeclType,
    /// Macros share nodes: each is estimated once.
    costs: HashMap<Id, CostRange>,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, CostRange>,
    entries: HashMap<Id, EntrySize>,
    locals: Vec<Local<'p>>,
}

/// What one call costs, and how large its result may be.
struct Call {
    cost: CostRange,
    size: Option<CostRange>,
}

fn costs(cost: CostRange) -> Call {
    Call { cost, size: None }
}

impl<'p> Coster<'p> {
    fn ty(&self, id: Id) -> &'p Type {
        &self.program.checked.types[id as usize]
    }

    fn kind(&self, id: Id) -> &'p Kind {
        self.program.ast.kind(id)
    }

    fn local(&self, name: &str) -> Option<&Local<'p>> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn cost(&mut self, id: Id) -> CostRange {
        if let Some(known) = self.costs.get(&id) {
            return *known;
        }
        let cost = match self.kind(id) {
            Kind::Literal(_) => CostRange::fixed(0),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| Rc::from([name.clone()]), |local| local.path.clone());
                self.paths.insert(id, path);
                CostRange::fixed(SELECT)
            }
            // A test for presence is free beyond what it looks at.
            Kind::Select { operand, test_only: true, .. } => self.cost(*operand),
            Kind::Select { operand, field, .. } => {
                let cost = self.cost(*operand);
                let path = self.path(*operand).iter().cloned().chain([field.clone()]).collect();
                self.paths.insert(id, path);
                match self.ty(*operand) {
                    Type::Map(_) | Type::Object(_) => cost.plus(CostRange::fixed(SELECT)),
                    _ => cost,
                }
            }
            Kind::Call { function, target, args } => self.call(id, function, *target, args),
            Kind::List(items) => {
                let (cost, value) = self.items(items.iter().map(|(item, _)| *item));
                self.entries.insert(id, EntrySize { of_list: true, key: CostRange::fixed(1), value });
                cost.plus(CostRange::fixed(LIST))
            }
            Kind::Map(entries) => {
                let (keys_cost, key) = self.items(entries.iter().map(|entry| entry.key));
                let (values_cost, value) = self.items(entries.iter().map(|entry| entry.value));
                self.entries.insert(id, EntrySize { of_list: false, key, value });
                keys_cost.plus(values_cost).plus(CostRange::fixed(MAP))
            }
            Kind::Struct { fields, .. } => {
                let cost = fields.iter().fold(CostRange::default(), |sum, field| sum.plus(self.cost(field.value)));
                cost.plus(CostRange::fixed(STRUCT))
            }
            Kind::Comprehension(fold) if fold.accu != ACCUMULATOR => self.bind(id, fold),
            Kind::Comprehension(fold) => self.fold(id, fold),
        };
        self.costs.insert(id, cost);
        cost
    }

    /// Cost of all, and the size that covers each.
    fn items(&mut self, ids: impl Iterator<Item = Id>) -> (CostRange, CostRange) {
        let mut cost = CostRange::default();
        let mut size: Option<CostRange> = None;
        for id in ids {
            cost = cost.plus(self.cost(id));
            let own = self.size_or_unknown(id);
            size = Some(size.map_or(own, |size| size.or(own)));
        }
        (cost, size.unwrap_or_default())
    }

    fn path(&self, id: Id) -> Path {
        if let Kind::Ident(name) = self.kind(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&id).cloned().unwrap_or_else(|| Rc::from([]))
    }

    /// The size of what a path leads to. All paths are taken to begin at the one declared variable.
    fn declared(&self, path: &[String]) -> Option<CostRange> {
        let (first, rest) = path.split_first()?;
        if first == ACCUMULATOR {
            return None;
        }
        match self.root.walk(rest.iter().map(String::as_str))? {
            Walked::Type(decl) => Some(CostRange { min: 0, max: decl.max_elements }),
            Walked::Key => Some(CostRange { min: 0, max: DeclType::simple(Type::String).max_elements }),
        }
    }

    fn size(&mut self, id: Id) -> Option<CostRange> {
        if let Some(known) = self.sizes.get(&id) {
            return Some(*known);
        }
        match self.kind(id) {
            Kind::Literal(Literal::String(text)) => return Some(CostRange::fixed(text.chars().count() as u64)),
            Kind::Literal(Literal::Bytes(bytes)) => return Some(CostRange::fixed(bytes.len() as u64)),
            Kind::Literal(_) => return Some(CostRange::fixed(1)),
            Kind::List(items) => return Some(CostRange::fixed(items.len() as u64)),
            Kind::Map(entries) => return Some(CostRange::fixed(entries.len() as u64)),
            _ => {}
        }
        let path = self.path(id);
        if let Some(declared) = self.declared(&path) {
            self.sizes.insert(id, declared);
            return Some(declared);
        }
        if self.ty(id).is_scalar() {
            return Some(CostRange::fixed(1));
        }
        match self.kind(id) {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, id: Id) -> CostRange {
        self.size(id).unwrap_or(CostRange::UNKNOWN)
    }

    fn entry(&self, id: Id) -> Option<EntrySize> {
        if let Some(known) = self.entries.get(&id) {
            return Some(*known);
        }
        match self.kind(id) {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entry),
            _ => None,
        }
    }

    fn push(&mut self, name: &'p str, of: Id) {
        let local = Local { name, path: self.path(of), size: self.size(of), entry: self.entry(of) };
        self.locals.push(local);
    }

    fn push_iteration(&mut self, name: &'p str, range: Id, keys: bool) {
        let entry = self.entry(range);
        let of_list = entry.map_or(matches!(self.ty(range), Type::List(_)), |entry| entry.of_list);
        let step = match (keys, of_list) {
            (true, true) => "@indices",
            (true, false) => "@keys",
            (false, true) => "@items",
            (false, false) => "@values",
        };
        let path = self.path(range).iter().cloned().chain([step.to_string()]).collect();
        let size = entry.map(|entry| if keys { entry.key } else { entry.value });
        self.locals.push(Local { name, path, size, entry: None });
    }

    fn bind(&mut self, id: Id, bind: &'p Comprehension) -> CostRange {
        let cost = self.cost(bind.range).plus(self.cost(bind.init));
        self.push(&bind.accu, bind.init);
        let result = self.cost(bind.result);
        let (size, entry) = (self.size(bind.result), self.entry(bind.result));
        self.locals.pop();
        self.sizes.extend(size.map(|size| (id, size)));
        self.entries.extend(entry.map(|entry| (id, entry)));
        cost.plus(result)
    }

    fn fold(&mut self, id: Id, fold: &'p Comprehension) -> CostRange {
        let cost = self.cost(fold.range).plus(self.cost(fold.init));
        self.push(&fold.accu, fold.init);
        let base = self.locals.len();
        match &fold.var2 {
            Some(var2) => {
                self.push_iteration(&fold.var, fold.range, true);
                self.push_iteration(var2, fold.range, false);
            }
            None => {
                let of_list = self.entry(fold.range).map_or(matches!(self.ty(fold.range), Type::List(_)), |entry| entry.of_list);
                self.push_iteration(&fold.var, fold.range, !of_list);
            }
        }
        let round = self.cost(fold.condition).plus(self.cost(fold.step));
        self.locals.truncate(base);
        let result = self.cost(fold.result);
        self.locals.pop();
        let count = self.size_or_unknown(fold.range);
        match self.kind(fold.init) {
            Kind::Literal(_) => {
                if let Some(size) = self.size(fold.init) {
                    self.sizes.insert(id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(id, count);
                if let Some(entry) = self.entry(fold.step) {
                    self.entries.insert(id, entry);
                }
            }
            _ => {}
        }
        cost.plus(result).plus(count.times(round))
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> CostRange {
        if let ("dyn", [arg]) = (name, args) {
            let cost = self.cost(*arg).plus(CostRange::fixed(1));
            let (size, entry) = (self.size(*arg), self.entry(*arg));
            self.sizes.extend(size.map(|size| (id, size)));
            self.entries.extend(entry.map(|entry| (id, entry)));
            return cost;
        }
        let arg_costs: Vec<CostRange> = args.iter().map(|arg| self.cost(*arg)).collect();
        let program = self.program;
        let (function, overloads, target) = match &program.checked.meanings[id as usize] {
            Meaning::Function(function, overloads) => (function.name.as_str(), overloads, None),
            Meaning::Method(function, overloads) => (function.name.as_str(), overloads, target),
            _ => return CostRange::default(),
        };
        let target_cost = target.map(|target| self.cost(target)).unwrap_or_default();
        let mut cost: Option<CostRange> = None;
        let mut size: Option<CostRange> = None;
        for overload in overloads {
            let one = self.overload(id, function, &overload.id, target, args, &arg_costs);
            cost = Some(cost.map_or(one.cost, |cost| cost.or(one.cost)));
            size = match (size, one.size) {
                (Some(known), Some(size)) => Some(known.or(size)),
                (known, size) => known.or(size),
            };
            let step = match overload.id.as_str() {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), [of, _]) = (step, args) {
                size = self.entry(*of).map(|entry| entry.value);
                let path = self.path(*of).iter().cloned().chain([step.to_string()]).collect();
                self.paths.insert(id, path);
            }
            if size.is_none() {
                size = self.size(id);
            }
        }
        self.sizes.extend(size.map(|size| (id, size)));
        target_cost.plus(cost.unwrap_or_default())
    }

    fn overload(&mut self, id: Id, function: &str, overload: &str, target: Option<Id>, args: &[Id], arg_costs: &[CostRange]) -> Call {
        let sum = arg_costs.iter().fold(CostRange::default(), |sum, cost| sum.plus(*cost));
        let own = self.library(function, overload, target, args).or_else(|| self.standard(id, overload, target, args, arg_costs));
        match own {
            // Operators that need not look at all of their arguments reckon with them on their own.
            Some(call) if matches!(overload, "logical_and" | "logical_or" | "conditional") => call,
            Some(call) => Call { cost: call.cost.plus(sum), ..call },
            None => costs(sum.plus(CostRange::fixed(1))),
        }
    }

    fn text(&mut self, id: Id, factor: f64) -> CostRange {
        self.size_or_unknown(id).scaled(factor)
    }

    fn pattern(&mut self, text: Id, pattern: Id) -> CostRange {
        let text = self.size_or_unknown(text).plus(CostRange::fixed(1)).scaled(STRING);
        text.times(self.text(pattern, REGEX))
    }

    /// Functions that Kubernetes estimates.
    fn library(&mut self, function: &str, overload: &str, target: Option<Id>, args: &[Id]) -> Option<Call> {
        let one = || costs(CostRange::fixed(1));
        let subject = target.or(args.first().copied());
        Some(match (function, subject) {
            ("check", _) => costs(CostRange::fixed(AUTHZ_CHECK)),
            (
                "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed" | "reason" | "error"
                | "errored",
                _,
            )
            | ("fieldSelector" | "labelSelector" | "format.named" | "prefixLength" | "masked" | "family", _)
            | ("isUnspecified" | "isLoopback" | "isLinkLocalMulticast" | "isLinkLocalUnicast" | "isGlobalUnicast", _)
            | (
                "sign" | "asInteger" | "isInteger" | "asApproximateFloat" | "isGreaterThan" | "isLessThan" | "compareTo" | "add" | "sub",
                _,
            )
            | ("major" | "minor" | "patch" | "getScheme" | "getHostname" | "getHost" | "getPort" | "getEscapedPath" | "getQuery", _) => {
                one()
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(of)) if target.is_some() => costs(self.each(of)),
            ("url" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver", Some(of)) => {
                costs(self.text(of, STRING))
            }
            ("ip", Some(of)) => {
                if overload == "cidr_ip" {
                    one()
                } else {
                    costs(self.text(of, STRING))
                }
            }
            ("ip.isCanonical", Some(of)) => costs(self.text(of, 2.0 * STRING)),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(of)) => {
                let size = self.size_or_unknown(of);
                Call { cost: size.scaled(STRING), size: Some(size) }
            }
            ("replace", Some(of)) if args.len() >= 2 => {
                let (size, from, to) = (self.size_or_unknown(of), self.size_or_unknown(args[0]), self.size_or_unknown(args[1]));
                Call { cost: size.scaled(2.0 * STRING), size: Some(replaced(size, from, to)) }
            }
            ("split", Some(of)) => {
                let size = self.size_or_unknown(of);
                let max = match args.get(1).map(|limit| self.kind(*limit)) {
                    Some(Kind::Literal(Literal::Int(limit))) => *limit as u64,
                    _ => size.max,
                };
                Call { cost: size.scaled(2.0 * STRING), size: Some(CostRange { min: 0, max }) }
            }
            ("join", Some(of)) => {
                let size = self.joined(of, args.first().copied());
                Call { cost: size.scaled(STRING), size: Some(size) }
            }
            ("find" | "findAll", Some(of)) if !args.is_empty() => {
                let max = self.size_or_unknown(of).max;
                Call { cost: self.pattern(of, args[0]), size: Some(CostRange { min: 0, max }) }
            }
            ("containsIP" | "containsCIDR", Some(_)) if !args.is_empty() => {
                let address = CostRange { min: 4, max: 16 };
                let mut cost = address.plus(address).scaled(STRING);
                if function == "containsCIDR" {
                    cost = cost.plus(address.scaled(STRING)).plus(CostRange::fixed(1));
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(self.text(args[0], STRING));
                }
                costs(cost)
            }
            ("validate", Some(_)) if !args.is_empty() => costs(self.text(args[0], STRING).scaled(FORMAT_REGEX * REGEX)),
            ("sets.contains" | "sets.intersects", _) if args.len() == 2 => costs(self.product(args).plus(CostRange::fixed(1))),
            ("sets.equivalent", _) if args.len() == 2 => costs(self.product(args).times(CostRange::fixed(2)).plus(CostRange::fixed(1))),
            ("distinct" | "sort", Some(of)) => {
                let size = self.size_or_unknown(of);
                Call { cost: size.times(size), size: Some(size) }
            }
            ("flatten" | "slice" | "reverse" | "@sortByAssociatedKeys", Some(of)) => {
                let size = self.size_or_unknown(of);
                Call { cost: size, size: Some(size) }
            }
            _ => return None,
        })
    }

    fn product(&mut self, args: &[Id]) -> CostRange {
        self.size_or_unknown(args[0]).times(self.size_or_unknown(args[1]))
    }

    /// Walking a list with all strings in it, or a string.
    fn each(&mut self, of: Id) -> CostRange {
        let size = self.size_or_unknown(of);
        let Type::List(element) = self.ty(of) else { return size.scaled(STRING) };
        let mut one = CostRange::fixed(1);
        if matches!(**element, Type::String | Type::Bytes) {
            one = one.plus(self.element(of).scaled(STRING));
        }
        size.times(one)
    }

    /// The size of a list's elements.
    fn element(&self, of: Id) -> CostRange {
        let path: Vec<String> = self.path(of).iter().cloned().chain(["@items".to_string()]).collect();
        if path.len() > 1 { self.declared(&path).unwrap_or(CostRange::UNKNOWN) } else { CostRange::UNKNOWN }
    }

    fn joined(&mut self, of: Id, separator: Option<Id>) -> CostRange {
        let count = self.size_or_unknown(of);
        let items = count.times(self.element(of));
        let Some(separator) = separator else { return items };
        let between = CostRange { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
        items.plus(self.size_or_unknown(separator).times(between))
    }

    /// Functions of the language itself.
    fn standard(&mut self, id: Id, overload: &str, target: Option<Id>, args: &[Id], arg_costs: &[CostRange]) -> Option<Call> {
        Some(match (overload, args) {
            ("string_format", [values]) => {
                let size = self.size_or_unknown(target?);
                Call { cost: size.scaled(STRING), size: Some(size.plus(self.size_or_unknown(*values))) }
            }
            ("string_to_bytes", [of]) => {
                let size = self.size_or_unknown(*of);
                Call { cost: size.scaled(STRING), size: Some(CostRange { min: size.min, max: size.max.saturating_mul(4) }) }
            }
            ("bytes_to_string", [of]) => {
                let size = self.size_or_unknown(*of);
                Call { cost: size.scaled(STRING), size: Some(CostRange { min: size.min / 4, max: size.max }) }
            }
            ("strings_quote", [of]) => {
                let size = self.size_or_unknown(*of);
                let quoted = CostRange { min: size.min.saturating_add(2), max: size.max.saturating_mul(2).saturating_add(2) };
                Call { cost: size.scaled(STRING), size: Some(quoted) }
            }
            ("starts_with_string" | "ends_with_string", [of]) => costs(self.text(*of, STRING)),
            ("in_list", [_, of]) => costs(self.size_or_unknown(*of)),
            ("matches_string", [pattern]) => costs(self.pattern(target?, *pattern)),
            ("contains_string", [part]) => costs(self.text(target?, STRING).times(self.text(*part, STRING))),
            ("logical_or" | "logical_and", [_, _]) => costs(CostRange { min: arg_costs[0].min, max: arg_costs[0].plus(arg_costs[1]).max }),
            ("conditional", [_, yes, no]) => {
                let size = self.size_or_unknown(*yes).or(self.size_or_unknown(*no));
                if let (Some(yes), Some(no)) = (self.entry(*yes), self.entry(*no)) {
                    self.entries.insert(id, yes.or(no));
                }
                Call { cost: arg_costs[0].plus(arg_costs[1].or(arg_costs[2])), size: Some(size) }
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                let size = self.size_or_unknown(*left).plus(self.size_or_unknown(*right));
                if let (Some(left), Some(right)) = (self.entry(*left), self.entry(*right)) {
                    self.entries.insert(id, left.or(right));
                }
                let cost = if overload == "add_list" { CostRange::fixed(1) } else { size.scaled(STRING) };
                Call { cost, size: Some(size) }
            }
            ("equals" | "not_equals", [left, right]) => {
                let opaque = |id: Id| matches!(self.ty(id), Type::Opaque(_));
                if opaque(*left) && opaque(*right) { costs(CostRange::fixed(1)) } else { costs(self.compared(*left, *right)) }
            }
            (relation, [left, right]) if is_text_relation(relation) => costs(self.compared(*left, *right)),
            _ => return None,
        })
    }

    fn compared(&mut self, left: Id, right: Id) -> CostRange {
        let max = self.size_or_unknown(left).max.min(self.size_or_unknown(right).max);
        CostRange { min: u64::from(max > 0), max }.scaled(STRING)
    }
}

fn is_text_relation(overload: &str) -> bool {
    ["less_", "less_equals_", "greater_", "greater_equals_"]
        .iter()
        .any(|prefix| matches!(overload.strip_prefix(prefix), Some("string" | "bytes")))
}

/// The size of a string in which something was replaced.
fn replaced(size: CostRange, from: CostRange, to: CostRange) -> CostRange {
    let often = |size: u64, by: u64| (size as f64 / by as f64).ceil() as u64;
    let (mut count, mut kept) = (CostRange::default(), CostRange::default());
    if from.min == 0 {
        (count.max, kept.max) = (size.max.saturating_add(1), size.max);
    } else if to.max <= from.min {
        kept.max = size.max;
    } else {
        count.max = often(size.max, from.min);
    }
    if from.max == 0 {
        (count.min, kept.min) = (size.min.saturating_add(1), size.min);
    } else if from.max <= to.min {
        kept.min = size.min;
    } else {
        count.min = often(size.min, from.max);
    }
    count.times(to).plus(kept)
}
