//! JSON Schema validation on the tape. A schema is compiled once per text; validation builds no JSON tree.

mod backtracking;
mod bounds;
mod cache;
mod cost;
mod error;
mod explain;
mod tape;
mod validator;

pub use cache::CompiledSchema;
pub use error::{SchemaError, Violation};
pub use tape::TapeJson;
pub use validator::{Validation, Validator, compiled};
