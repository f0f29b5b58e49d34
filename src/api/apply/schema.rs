//! What field ownership needs to know of a type, in one form whatever it was made from.
//!
//! A schema is a graph in an arena: types refer to types by number, so that recursive types need no pointers and a schema is shared
//! by reference. Follows structured-merge-diff's `schema/elements.go`.

use serde_json::Value;

/// A type of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef(u32);

/// What a value of a type may be. A typed place allows one of the three; an untyped one allows all.
#[derive(Clone, Debug, Default)]
pub struct Type {
    /// As a scalar.
    pub scalar: Option<Scalar>,
    /// As a list.
    pub list: Option<List>,
    /// As a map or struct.
    pub map: Option<Map>,
}

/// A kind of scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// An integer or float.
    Number,
    /// Text.
    Text,
    /// A boolean.
    Bool,
    /// Any of them.
    Any,
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    /// What it holds.
    pub item: TypeRef,
    /// Who owns what of it.
    pub kind: ListKind,
}

/// How a list is owned and merged.
#[derive(Clone, Debug)]
pub enum ListKind {
    /// As a whole.
    Atomic,
    /// Value by value.
    Set,
    /// Item by item, told apart by these fields, in alphabetical order.
    Keyed(Vec<Key>),
}

/// A field that tells the items of a list apart.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What an item without it means.
    pub default: Option<Value>,
}

/// A map or struct.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// The fields that the type names, by name.
    pub fields: Vec<(String, TypeRef)>,
    /// What other entries hold. `None`: there must be none.
    pub values: Option<TypeRef>,
    /// Whether it is owned as a whole.
    pub atomic: bool,
}

impl Map {
    /// The type of a field, and whether the type names it.
    pub fn field(&self, name: &str) -> (Option<TypeRef>, bool) {
        match self.fields.binary_search_by(|(field, _)| field.as_str().cmp(name)) {
            Ok(place) => (Some(self.fields[place].1), true),
            Err(_) => (self.values, false),
        }
    }
}

/// In which of its forms a value is looked at.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// As a map.
    Map(&'a Map),
    /// As a scalar.
    Scalar(Scalar),
    /// As a list.
    List(&'a List),
}

impl Form<'_> {
    /// Whether both are the same form.
    pub fn same(&self, other: &Form<'_>) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Type {
    /// The form that the value has, where the type allows it; else the first that the type allows (maps, scalars, lists).
    pub fn form(&self, value: &Value) -> Option<Form<'_>> {
        let fitting = match value {
            Value::Object(_) => self.map.as_ref().map(Form::Map),
            Value::Array(_) => self.list.as_ref().map(Form::List),
            Value::Null => None,
            _ => self.scalar.map(Form::Scalar),
        };
        fitting.or_else(|| self.any_form())
    }

    fn any_form(&self) -> Option<Form<'_>> {
        self.map.as_ref().map(Form::Map).or_else(|| self.scalar.map(Form::Scalar)).or_else(|| self.list.as_ref().map(Form::List))
    }
}

/// A type with all that it refers to.
#[derive(Clone, Debug)]
pub struct Schema {
    types: Vec<Type>,
    root: TypeRef,
    deduced: bool,
}

/// The number of the type of anything that is owned as a whole, in every schema.
const UNTYPED: TypeRef = TypeRef(0);
/// The number of the type whose maps are owned entry by entry, in every schema.
const DEDUCED: TypeRef = TypeRef(1);

impl Schema {
    /// The schema of what nobody described: maps are merged, all else is owned as a whole (structured-merge-diff's
    /// `DeducedParseableType`).
    pub fn deduced() -> Schema {
        Schema { deduced: true, ..Draft::default().finish(DEDUCED) }
    }

    /// The type of whole objects.
    pub fn root(&self) -> TypeRef {
        self.root
    }

    /// A type.
    pub fn get(&self, of: TypeRef) -> &Type {
        &self.types[of.0 as usize]
    }

    /// Whether nothing is known.
    pub fn is_deduced(&self) -> bool {
        self.deduced
    }
}

/// A schema being made.
#[derive(Debug)]
pub struct Draft {
    types: Vec<Type>,
}

impl Default for Draft {
    fn default() -> Draft {
        let any = |values| Type {
            scalar: Some(Scalar::Any),
            list: Some(List { item: UNTYPED, kind: ListKind::Atomic }),
            map: Some(Map { fields: Vec::new(), values: Some(values), atomic: values == UNTYPED }),
        };
        Draft { types: vec![any(UNTYPED), any(DEDUCED)] }
    }
}

impl Draft {
    /// Anything, with maps owned entry by entry.
    pub fn anything(&self) -> TypeRef {
        DEDUCED
    }

    /// A number for a type that is told later by [`Draft::set`].
    pub fn reserve(&mut self) -> TypeRef {
        self.add(Type::default())
    }

    /// Adds a type.
    pub fn add(&mut self, of: Type) -> TypeRef {
        let place = TypeRef(u32::try_from(self.types.len()).unwrap_or(u32::MAX));
        self.types.push(of);
        place
    }

    /// Tells what a reserved type is.
    pub fn set(&mut self, place: TypeRef, of: Type) {
        self.types[place.0 as usize] = of;
    }

    /// A type, as far as it is known.
    pub fn get(&self, of: TypeRef) -> &Type {
        &self.types[of.0 as usize]
    }

    /// The schema whose objects are of this type.
    pub fn finish(mut self, root: TypeRef) -> Schema {
        self.types.shrink_to_fit();
        Schema { types: self.types, root, deduced: false }
    }
}
