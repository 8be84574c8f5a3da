//! JSON Schema over the tape: compiled once per schema text, validated without another JSON tree.

mod backtracking;
mod bounds;
mod cache;
mod explain;
mod tape;
mod validator;

pub use cache::CompiledSchema;
pub use tape::TapeJson;
pub use validator::{SchemaError, Validator, Verdict, Violation, compiled};
