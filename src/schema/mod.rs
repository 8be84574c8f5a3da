//! JSON Schema over the tape: compiled once per shard, validated without another JSON tree.

mod bounds;
mod tape;
mod validator;

pub use tape::TapeJson;
pub use validator::{SchemaError, Validator, Verdict, Violation};
