//! CEL as Kubernetes has it: rules of custom resources, match conditions of webhooks, admission policies.
//!
//! An expression is compiled against an [`Env`], which declares variables and their types, into a [`Program`]; that is run with the
//! values of an [`Activation`] under a [`Budget`]. Objects are read as borrowed JSON; nothing is copied but what the expression makes.
//!
//! ```ignore
//! let decl = DeclType::from_schema("selfType", &schema, true)?;           // None: rules can't see such values
//! let env = Env::new().with("self", decl.ty.clone()).with("oldSelf", decl.ty.clone());
//! let program = env.compile("self.replicas <= 5")?;                        // Err prints as cel-go's errors do
//! assert_eq!(*program.result_type(), Type::Bool);
//! let worst = program.estimate(&decl).max;                                 // static cost
//! let transition = program.references("oldSelf");
//! let activation = Activation::new().with("self", Value::from_json(&object, Some(&decl))?);
//! let value = program.eval(&activation, &mut Budget::new(Budget::RUNTIME));  // Ok(Value::Bool(..)) or EvalError
//! ```
//!
//! Words: *type* and *declared type* ([`Type`], [`DeclType`]: with sizes, from a schema), *dyn* (known only at run time).
//!
//! Invariants: the same texts as cel-go and upstream's libraries, since they reach users; bounded source, depth, nodes, cost and results,
//! so that no expression and no object makes it panic, recurse without end or take more memory than a request may.
//!
//! Differences from upstream's environment: cel-go's `cel.bind`, `math`, `base64` and list extensions are there too; messages of syntax
//! errors name the place as ANTLR does, but not always the same set of expected tokens.
//!
//! Never: I/O, clocks, knowledge of a kind.

pub mod ast;
mod check;
mod cost;
mod env;
mod error;
mod eval;
mod functions;
mod lexer;
mod macros;
mod opaque;
mod parser;
mod schema;
mod time;
mod types;
mod value;

#[cfg(test)]
mod tests;

pub use cost::CostRange;
pub use env::{Activation, Budget, Env, Program};
pub use error::{CompileErrors, EvalError, Issue};
pub use functions::{Authorize, AuthzCheck, AuthzDecision, AuthzState};
pub use opaque::Opaque;
pub use schema::{DeclType, ListKind, ObjectType, Shape, escape, unescape};
pub use time::Instant;
pub use types::Type;
pub use value::{Constructed, Key, List, Map, Text, Value};
