//! The tree of one expression, in one vector: nodes name each other by index, children before parents.
//!
//! Macros are gone by the time it is whole: what is left are the seven forms of cel-go's `common/ast`.

/// Index of a node.
pub type Id = u32;

/// A constant.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A constant.
    Literal(Literal),
    /// A variable, a type, or the name that a comprehension binds. Names are written without a leading dot.
    Ident(String),
    /// `operand.field`, or `has(operand.field)`.
    Select {
        /// What the field is taken of.
        operand: Id,
        /// Its name.
        field: String,
        /// `has()`: is it there?
        test_only: bool,
    },
    /// A function, an operator, or a method of `target`.
    Call {
        /// Name; operators have names such as `_+_`.
        function: String,
        /// What stands before the dot.
        target: Option<Id>,
        /// In the parentheses.
        args: Vec<Id>,
    },
    /// `[a, ?b]`; the flag says `?`.
    List(Vec<(Id, bool)>),
    /// `{k: v, ?k: v}`
    Map(Vec<Entry>),
    /// `Name{field: value}`
    Struct {
        /// The type's name.
        name: String,
        /// Field, value, `?`, and where.
        fields: Vec<Field>,
    },
    /// A loop.
    Comprehension(Box<Comprehension>),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Entry {
    pub key: Id,
    pub value: Id,
    pub optional: bool,
}

/// One field of a constructed object.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Field {
    pub name: String,
    pub value: Id,
    pub optional: bool,
    pub at: usize,
}

/// A loop over a list or a map: the one form behind `all`, `exists`, `map` and their kin.
#[derive(Clone, Debug, PartialEq)]
pub struct Comprehension {
    /// What is walked.
    pub range: Id,
    /// The element; with `var2` the index or key.
    pub var: String,
    /// The element, if two variables are bound.
    pub var2: Option<String>,
    /// The name of what is gathered.
    pub accu: String,
    /// Its first value.
    pub init: Id,
    /// Go on while this holds.
    pub condition: Id,
    /// The next value of what is gathered.
    pub step: Id,
    /// The value of the whole.
    pub result: Id,
}

/// A node and where it stands in the source, in code points.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Node {
    pub kind: Kind,
    pub at: usize,
}

/// The whole tree.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Ast {
    pub nodes: Vec<Node>,
    pub root: Id,
}

impl Ast {
    /// Adds a node.
    pub fn add(&mut self, kind: Kind, at: usize) -> Id {
        self.nodes.push(Node { kind, at });
        (self.nodes.len() - 1) as Id
    }

    /// A node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// What a node is.
    pub fn kind(&self, id: Id) -> &Kind {
        &self.nodes[id as usize].kind
    }

    /// `a.b.c` as one name, if the node is nothing but names and dots.
    pub fn qualified_name(&self, id: Id) -> Option<String> {
        match self.kind(id) {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select { operand, field, test_only: false } => {
                let mut name = self.qualified_name(*operand)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}
